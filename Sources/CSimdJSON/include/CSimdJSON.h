#ifndef TRIAGE_CSIMDJSON_H
#define TRIAGE_CSIMDJSON_H

/*
 * One pass over the bytes of an event: which form it has, whether its elements have the JSON types that FHIR R4 gives
 * them, and copies of its few short texts. What the texts mean is judged in Swift.
 *
 * Of members with the same name in one object the first counts, everywhere.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A parser with its memory. Not thread-safe: one for each thread. */
typedef struct triage_decoder triage_decoder;

/* How the JSON text itself turned out. */
enum triage_status {
    triage_status_ok,
    triage_status_empty,         /* nothing, or nothing but white space */
    triage_status_utf8,          /* not UTF-8; judged before anything else */
    triage_status_json,          /* not one JSON text (RFC 8259), or with a number that fits neither 64 bits nor a double */
    triage_status_depth,         /* nested deeper than TRIAGE_MAXIMUM_DEPTH */
    triage_status_size,          /* longer than TRIAGE_MAXIMUM_BYTES, or memory for it was refused */
    triage_status_not_an_object, /* a JSON text, but no object */
    triage_status_unknown_form,  /* an object of no form that is known */
    triage_status_repeated_name  /* an object in it has two members of one name */
};

/* The forms of an event, told apart by the names of the top-level members. */
enum triage_form {
    triage_form_envelope, /* `type`, `data` or `metadata`, and no `resourceType` */
    triage_form_flat,     /* `resourceType`, and `action` or `resource` */
    triage_form_resource  /* `resourceType`, and neither `action` nor `resource` */
};

/* An element whose JSON type is checked; triage_element_path tells its name. */
enum triage_element {
    triage_element_none,
    triage_element_metadata,
    triage_element_data,
    triage_element_resource,
    triage_element_id,
    triage_element_meta,
    triage_element_meta_version_id,
    triage_element_meta_last_updated,
    triage_element_implicit_rules,
    triage_element_language,
    triage_element_text,
    triage_element_contained,
    triage_element_extension,
    triage_element_modifier_extension,
    triage_element_identifier,
    triage_element_active,
    triage_element_name,
    triage_element_telecom,
    triage_element_gender,
    triage_element_birth_date,
    triage_element_deceased_boolean,
    triage_element_deceased_date_time,
    triage_element_address,
    triage_element_marital_status,
    triage_element_multiple_birth_boolean,
    triage_element_multiple_birth_integer,
    triage_element_photo,
    triage_element_contact,
    triage_element_communication,
    triage_element_general_practitioner,
    triage_element_managing_organization,
    triage_element_link,
    triage_element_resource_type
};

/* The texts that outlive the decoding, in the order of the table at the start of the scratch buffer. */
enum triage_field_index {
    triage_field_resource_id,
    triage_field_version_id,
    triage_field_last_updated,
    triage_field_event_id,
    triage_field_timestamp,
    triage_field_source,
    triage_field_correlation_id,
    triage_field_gender,
    triage_field_birth_date
};

enum {
    /* Rows of the table: the values of triage_field_index. */
    TRIAGE_FIELD_COUNT = 9,
    /* Longer texts are not copied: no id, code or date is that long. */
    TRIAGE_MAXIMUM_TEXT = 256,
    /* The table, and 14 texts of the greatest length behind it. */
    TRIAGE_SCRATCH_BYTES = 4096,
    /* Containers that may be nested, simdjson's own default. */
    TRIAGE_MAXIMUM_DEPTH = 1024,
    TRIAGE_MAXIMUM_BYTES = 64 << 20
};

/* In the place of a text's start. */
enum {
    triage_text_absent = -1,      /* there is none; for a field of `metadata` also: null, no string, or too long */
    triage_text_too_long = -2,    /* longer than TRIAGE_MAXIMUM_TEXT */
    triage_text_not_a_string = -3 /* of another JSON type */
};

/* Where a text stands in the scratch buffer, unescaped: always valid UTF-8, possibly with NUL bytes. */
typedef struct triage_text {
    int16_t start;
    int16_t count;
} triage_text;

/* What was found. The texts here are needed while the event is judged, and not kept. */
typedef struct triage_event {
    uint8_t form;                    /* triage_form */
    uint8_t has_resource;            /* 1 if the resource is there and an object */
    uint8_t violation;               /* the first triage_element of another JSON type than it must have */
    uint8_t reserved;
    int32_t kept;                    /* bytes of the scratch buffer that hold the table and the texts to be kept */
    triage_text type;                /* of an envelope */
    triage_text action;              /* of the flat form */
    triage_text outer_resource_type; /* of the flat form, beside `action` */
    triage_text resource_type;       /* of the resource itself */
    triage_text deceased_date_time;
} triage_event;

/* Makes a decoder; NULL if memory is refused. */
triage_decoder *triage_decoder_create(void);

/* Ends a decoder; NULL is allowed. */
void triage_decoder_destroy(triage_decoder *decoder);

/*
 * Decodes `count` bytes. At least 64 bytes behind them must be readable (SIMDJSON_PADDING): they are loaded, not used.
 *
 * `scratch` (TRIAGE_SCRATCH_BYTES, aligned to 2) receives TRIAGE_FIELD_COUNT rows of triage_text, then the texts; starts
 * count from the beginning of `scratch`. `scratch` and `event` are written only if triage_status_ok is returned.
 */
enum triage_status triage_decoder_decode(
    triage_decoder *decoder, const uint8_t *bytes, size_t count, uint8_t *scratch, triage_event *event);

/*
 * Whether `count` bytes are one JSON object in which no object, however deep, has two members of one name; escapes count as what
 * they mean. triage_status_ok, or what is wrong. The same must be readable behind the bytes.
 */
enum triage_status triage_decoder_check_names(triage_decoder *decoder, const uint8_t *bytes, size_t count);

/* The memory that the parser holds is for texts up to this many bytes (about 14 bytes for each). */
size_t triage_decoder_capacity(const triage_decoder *decoder);

/* The name of an element, such as `Patient.birthDate`: static ASCII text. */
const char *triage_element_path(uint8_t element);

#ifdef __cplusplus
}
#endif

#endif
