// Errors are returned, never thrown: simdjson's throwing interface is compiled out, memory is asked for with nothrow,
// and everything that the C functions call is noexcept.
#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

#include "CSimdJSON.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string_view>

namespace dom = simdjson::dom;
using simdjson::error_code;

namespace {

// A parser for a text of n bytes holds 8n for the tape, 5n/3 for strings and 4n for structural indexes. What is kept
// between events stays under 4 MiB that way; a larger text's memory is given back at once.
constexpr size_t kept_capacity = 256 << 10;
constexpr size_t first_capacity = 8 << 10;

constexpr const char *paths[] = {
    "", "metadata", "data", "resource", "Patient.id", "Patient.meta", "Patient.meta.versionId", "Patient.meta.lastUpdated",
    "Patient.implicitRules", "Patient.language", "Patient.text", "Patient.contained", "Patient.extension",
    "Patient.modifierExtension", "Patient.identifier", "Patient.active", "Patient.name", "Patient.telecom", "Patient.gender",
    "Patient.birthDate", "Patient.deceasedBoolean", "Patient.deceasedDateTime", "Patient.address", "Patient.maritalStatus",
    "Patient.multipleBirthBoolean", "Patient.multipleBirthInteger", "Patient.photo", "Patient.contact",
    "Patient.communication", "Patient.generalPractitioner", "Patient.managingOrganization", "Patient.link",
    "Patient.resourceType",
};
static_assert(sizeof(paths) / sizeof(paths[0]) == triage_element_resource_type + 1, "one path for each element");

// A string of the document, or why there is none.
struct found_text {
    const char *start = nullptr;
    uint32_t count = 0;
    int16_t state = triage_text_absent;

    void take(dom::element element) noexcept {
        std::string_view text;
        if (element.get(text)) {
            state = triage_text_not_a_string;
        } else if (text.size() > TRIAGE_MAXIMUM_TEXT) {
            state = triage_text_too_long;
        } else {
            start = text.data();
            count = uint32_t(text.size());
            state = 0;
        }
    }
};

// Texts of `metadata` are the sender's own: an unusable one is as good as none.
void take_foreign(found_text &text, dom::element element) noexcept {
    text.take(element);
    if (text.state < 0) { text.state = triage_text_absent; }
}

struct found_resource {
    uint64_t seen = 0;
    uint8_t violation = triage_element_none;
    found_text type, id, version_id, last_updated, gender, birth_date, deceased;

    // Whether this is the first member for the element.
    bool first(uint8_t element) noexcept {
        const uint64_t bit = uint64_t(1) << element;
        const bool is_first = !(seen & bit);
        seen |= bit;
        return is_first;
    }

    void check(bool is_right, uint8_t element) noexcept {
        if (simdjson_unlikely(!is_right) && violation == triage_element_none) { violation = element; }
    }

    void objects(dom::element element, uint8_t which) noexcept {
        if (!first(which)) { return; }
        dom::array array;
        if (element.get(array)) { return check(false, which); }
        for (dom::element item : array) { check(item.is_object(), which); }
    }

    void object(dom::element element, uint8_t which) noexcept {
        if (first(which)) { check(element.is_object(), which); }
    }

    void boolean(dom::element element, uint8_t which) noexcept {
        if (first(which)) { check(element.is_bool(), which); }
    }

    void string(dom::element element, uint8_t which) noexcept {
        if (first(which)) { check(element.is_string(), which); }
    }

    void string(dom::element element, uint8_t which, found_text &text) noexcept {
        if (!first(which)) { return; }
        text.take(element);
        check(text.state != triage_text_not_a_string, which);
    }

    void meta(dom::element element) noexcept;
    void member(std::string_view name, dom::element value) noexcept;
};

template <size_t size>
bool is(std::string_view name, const char (&text)[size]) noexcept {
    return name.size() == size - 1 && std::memcmp(name.data(), text, size - 1) == 0;
}

void found_resource::meta(dom::element element) noexcept {
    if (!first(triage_element_meta)) { return; }
    dom::object members;
    if (element.get(members)) { return check(false, triage_element_meta); }
    for (auto member : members) {
        if (is(member.key, "versionId")) {
            string(member.value, triage_element_meta_version_id, version_id);
        } else if (is(member.key, "lastUpdated")) {
            string(member.value, triage_element_meta_last_updated, last_updated);
        }
    }
}

// The elements of Patient (FHIR R4, Patient, DomainResource and Resource) by the length of their names. Others, and the
// extensions of primitives (`_gender`), are left alone.
void found_resource::member(std::string_view name, dom::element value) noexcept {
    switch (name.size()) {
    case 2:
        if (is(name, "id")) { string(value, triage_element_id, id); }
        return;
    case 4:
        if (is(name, "meta")) { return meta(value); }
        if (is(name, "name")) { return objects(value, triage_element_name); }
        if (is(name, "text")) { return object(value, triage_element_text); }
        if (is(name, "link")) { return objects(value, triage_element_link); }
        return;
    case 5:
        if (is(name, "photo")) { objects(value, triage_element_photo); }
        return;
    case 6:
        if (is(name, "active")) { return boolean(value, triage_element_active); }
        if (is(name, "gender")) { return string(value, triage_element_gender, gender); }
        return;
    case 7:
        if (is(name, "telecom")) { return objects(value, triage_element_telecom); }
        if (is(name, "address")) { return objects(value, triage_element_address); }
        if (is(name, "contact")) { return objects(value, triage_element_contact); }
        return;
    case 8:
        if (is(name, "language")) { string(value, triage_element_language); }
        return;
    case 9:
        if (is(name, "birthDate")) { return string(value, triage_element_birth_date, birth_date); }
        if (is(name, "contained")) { return objects(value, triage_element_contained); }
        if (is(name, "extension")) { return objects(value, triage_element_extension); }
        return;
    case 10:
        if (is(name, "identifier")) { objects(value, triage_element_identifier); }
        return;
    case 12:
        if (is(name, "resourceType") && first(triage_element_resource_type)) { type.take(value); }
        return;
    case 13:
        if (is(name, "maritalStatus")) { return object(value, triage_element_marital_status); }
        if (is(name, "communication")) { return objects(value, triage_element_communication); }
        if (is(name, "implicitRules")) { return string(value, triage_element_implicit_rules); }
        return;
    case 15:
        if (is(name, "deceasedBoolean")) { boolean(value, triage_element_deceased_boolean); }
        return;
    case 16:
        if (is(name, "deceasedDateTime")) { string(value, triage_element_deceased_date_time, deceased); }
        return;
    case 17:
        if (is(name, "modifierExtension")) { objects(value, triage_element_modifier_extension); }
        return;
    case 19:
        if (is(name, "generalPractitioner")) { objects(value, triage_element_general_practitioner); }
        return;
    case 20:
        if (is(name, "managingOrganization")) { return object(value, triage_element_managing_organization); }
        if (is(name, "multipleBirthBoolean")) { return boolean(value, triage_element_multiple_birth_boolean); }
        if (is(name, "multipleBirthInteger") && first(triage_element_multiple_birth_integer)) {
            check(value.is_int64(), triage_element_multiple_birth_integer);
        }
        return;
    default:
        return;
    }
}

// What the top level says beside the elements of a bare resource.
struct found_event {
    enum : uint8_t { has_type = 1, has_data = 2, has_metadata = 4, has_action = 8, has_resource = 16, has_timestamp = 32 };
    uint8_t seen = 0;
    dom::element data, inner, metadata_value;
    found_text type, action, timestamp;
    found_text event_id, source, correlation_id;

    bool first(uint8_t bit) noexcept {
        const bool is_first = !(seen & bit);
        seen |= bit;
        return is_first;
    }

    void member(std::string_view name, dom::element value) noexcept {
        switch (name.size()) {
        case 4:
            if (is(name, "type") && first(has_type)) { type.take(value); }
            if (is(name, "data") && first(has_data)) { data = value; }
            return;
        case 6:
            if (is(name, "action") && first(has_action)) { action.take(value); }
            return;
        case 8:
            if (is(name, "metadata") && first(has_metadata)) { metadata_value = value; }
            if (is(name, "resource") && first(has_resource)) { inner = value; }
            return;
        case 9:
            if (is(name, "timestamp") && first(has_timestamp)) { take_timestamp(value); }
            return;
        default:
            return;
        }
    }

    void take_timestamp(dom::element value) noexcept {
        if (!value.is_null()) { timestamp.take(value); }
    }

    // Whether `metadata` has the right type.
    bool metadata(bool with_timestamp) noexcept {
        if (metadata_value.is_null()) { return true; }
        dom::object members;
        if (metadata_value.get(members)) { return false; }
        uint8_t known = with_timestamp ? 0 : 2;
        auto take = [&known](uint8_t bit) {
            const bool is_first = !(known & bit);
            known |= bit;
            return is_first;
        };
        for (auto member : members) {
            const std::string_view name = member.key;
            if (is(name, "eventId")) {
                if (take(1)) { take_foreign(event_id, member.value); }
            } else if (is(name, "timestamp")) {
                if (take(2)) { take_timestamp(member.value); }
            } else if (is(name, "source")) {
                if (take(4)) { take_foreign(source, member.value); }
            } else if (is(name, "correlationId")) {
                if (take(8)) { take_foreign(correlation_id, member.value); }
            }
        }
        return true;
    }
};

// Puts texts behind one another into the scratch buffer.
struct text_writer {
    uint8_t *scratch;
    size_t at;

    triage_text put(const found_text &text) noexcept {
        if (text.state < 0) { return {text.state, 0}; }
        std::memcpy(scratch + at, text.start, text.count);
        const triage_text written = {int16_t(at), int16_t(text.count)};
        at += text.count;
        return written;
    }
};

static_assert(
    TRIAGE_FIELD_COUNT * sizeof(triage_text) + (TRIAGE_FIELD_COUNT + 5) * TRIAGE_MAXIMUM_TEXT <= TRIAGE_SCRATCH_BYTES,
    "every text fits");

triage_status status_of(error_code error, const uint8_t *bytes, size_t count) noexcept {
    switch (error) {
    case simdjson::CAPACITY:
    case simdjson::MEMALLOC:
        return triage_status_size;
    case simdjson::EMPTY:
        return triage_status_empty;
    case simdjson::UTF8_ERROR:
        return triage_status_utf8;
    default:
        break;
    }
    // simdjson reports the first error it meets; whether the bytes are text at all comes first here.
    if (!simdjson::validate_utf8(reinterpret_cast<const char *>(bytes), count)) { return triage_status_utf8; }
    return error == simdjson::DEPTH_ERROR ? triage_status_depth : triage_status_json;
}

// Whether an object has two members of one name. Most have few: comparing all pairs is quicker than sorting them.
[[gnu::noinline]] triage_status check_names(dom::object object) noexcept {
    constexpr size_t few = 16;
    const size_t count = object.size();
    std::string_view some[few];
    std::string_view *names = some;
    if (count > few) {
        names = new (std::nothrow) std::string_view[count];
        if (!names) { return triage_status_size; }
    }
    size_t end = 0;
    for (auto member : object) {
        if (end < count) { names[end++] = member.key; }
    }
    bool repeats = false;
    if (count > few) {
        std::sort(names, names + end);
        repeats = std::adjacent_find(names, names + end) != names + end;
        delete[] names;
    } else {
        for (size_t one = 1; one < end && !repeats; one++) {
            for (size_t other = 0; other < one && !repeats; other++) { repeats = names[one] == names[other]; }
        }
    }
    return repeats ? triage_status_repeated_name : triage_status_ok;
}

// The same of all objects in a value. As deep as the parser lets a text be; the names are not on this stack.
triage_status check_all_names(dom::element element) noexcept {
    dom::object object;
    dom::array array;
    if (!element.get(object)) {
        if (const triage_status status = check_names(object)) { return status; }
        for (auto member : object) {
            if (const triage_status status = check_all_names(member.value)) { return status; }
        }
    } else if (!element.get(array)) {
        for (dom::element item : array) {
            if (const triage_status status = check_all_names(item)) { return status; }
        }
    }
    return triage_status_ok;
}

} // namespace

struct triage_decoder {
    dom::parser parser{TRIAGE_MAXIMUM_BYTES};
    dom::document document;

    // simdjson would grow to the exact size of each longer text in turn; powers of two end that early.
    error_code reserve(size_t count) noexcept {
        if (simdjson_likely(count <= document.capacity() && count <= parser.capacity())) { return simdjson::SUCCESS; }
        if (count > TRIAGE_MAXIMUM_BYTES) { return simdjson::CAPACITY; }
        size_t capacity = first_capacity;
        while (capacity < count) { capacity *= 2; }
        error_code error = document.allocate(capacity);
        // One level more: simdjson refuses a text that reaches its limit.
        if (!error) { error = parser.allocate(capacity, TRIAGE_MAXIMUM_DEPTH + 1); }
        if (error) { release(); }
        return error;
    }

    void release() noexcept {
        document = dom::document();
        parser = dom::parser(TRIAGE_MAXIMUM_BYTES);
    }

    triage_status check(const uint8_t *bytes, size_t count) noexcept {
        if (count == 0) { return triage_status_empty; }
        if (const error_code error = reserve(count)) { return status_of(error, bytes, count); }
        dom::element root;
        if (const error_code error = parser.parse_into_document(document, bytes, count, false).get(root)) {
            return status_of(error, bytes, count);
        }
        return root.is_object() ? check_all_names(root) : triage_status_not_an_object;
    }

    triage_status read(const uint8_t *bytes, size_t count, uint8_t *scratch, triage_event *event) noexcept;
};

triage_status triage_decoder::read(const uint8_t *bytes, size_t count, uint8_t *scratch, triage_event *event) noexcept {
    if (count == 0) { return triage_status_empty; }
    if (const error_code error = reserve(count)) { return status_of(error, bytes, count); }
    dom::element root;
    if (const error_code error = parser.parse_into_document(document, bytes, count, false).get(root)) {
        return status_of(error, bytes, count);
    }
    dom::object top;
    if (root.get(top)) { return triage_status_not_an_object; }

    // Which form it is shows only at the end of the members, so both readings are taken on the way.
    found_event envelope;
    found_resource outer;
    for (auto member : top) {
        envelope.member(member.key, member.value);
        outer.member(member.key, member.value);
    }

    *event = triage_event{};
    found_text none;
    found_resource inner;
    found_resource *resource = &inner;
    uint8_t violation = triage_element_none;
    const bool has_resource_type = outer.type.state != triage_text_absent;
    if (has_resource_type && !(envelope.seen & (found_event::has_action | found_event::has_resource))) {
        event->form = triage_form_resource;
        event->has_resource = 1;
        resource = &outer;
        envelope.type = envelope.action = envelope.timestamp = none;
    } else {
        const bool is_flat = has_resource_type;
        if (!is_flat && !(envelope.seen & (found_event::has_type | found_event::has_data | found_event::has_metadata))) {
            return triage_status_unknown_form;
        }
        event->form = is_flat ? triage_form_flat : triage_form_envelope;
        if (is_flat) {
            envelope.type = none;
        } else {
            envelope.action = envelope.timestamp = none;
        }
        if ((envelope.seen & found_event::has_metadata) && !envelope.metadata(envelope.timestamp.state == triage_text_absent)) {
            violation = triage_element_metadata;
        }
        const bool has_inner = envelope.seen & (is_flat ? found_event::has_resource : found_event::has_data);
        const dom::element value = is_flat ? envelope.inner : envelope.data;
        if (has_inner && !value.is_null()) {
            dom::object members;
            if (value.get(members)) {
                violation = is_flat ? triage_element_resource : triage_element_data;
            } else {
                event->has_resource = 1;
                for (auto member : members) { inner.member(member.key, member.value); }
            }
        }
    }

    event->violation = violation != triage_element_none ? violation : resource->violation;
    text_writer writer = {scratch, TRIAGE_FIELD_COUNT * sizeof(triage_text)};
    const triage_text table[TRIAGE_FIELD_COUNT] = {
        writer.put(resource->id),        writer.put(resource->version_id), writer.put(resource->last_updated),
        writer.put(envelope.event_id),   writer.put(envelope.timestamp),   writer.put(envelope.source),
        writer.put(envelope.correlation_id), writer.put(resource->gender), writer.put(resource->birth_date),
    };
    std::memcpy(scratch, table, sizeof(table));
    event->kept = int32_t(writer.at);
    event->type = writer.put(envelope.type);
    event->action = writer.put(envelope.action);
    event->outer_resource_type = writer.put(resource == &inner ? outer.type : none);
    event->resource_type = writer.put(resource->type);
    event->deceased_date_time = writer.put(resource->deceased);
    return triage_status_ok;
}

extern "C" {

triage_decoder *triage_decoder_create(void) { return new (std::nothrow) triage_decoder(); }

void triage_decoder_destroy(triage_decoder *decoder) { delete decoder; }

enum triage_status triage_decoder_decode(
    triage_decoder *decoder, const uint8_t *bytes, size_t count, uint8_t *scratch, triage_event *event) {
    const triage_status status = decoder->read(bytes, count, scratch, event);
    if (simdjson_unlikely(decoder->document.capacity() > kept_capacity)) { decoder->release(); }
    return status;
}

enum triage_status triage_decoder_check_names(triage_decoder *decoder, const uint8_t *bytes, size_t count) {
    const triage_status status = decoder->check(bytes, count);
    if (simdjson_unlikely(decoder->document.capacity() > kept_capacity)) { decoder->release(); }
    return status;
}

size_t triage_decoder_capacity(const triage_decoder *decoder) { return decoder->document.capacity(); }

const char *triage_element_path(uint8_t element) {
    return element <= triage_element_resource_type ? paths[element] : "";
}

} // extern "C"
