// The retry path in bare librdkafka, as the machine's limit: each record of TOPIC is consumed, produced to TOPIC.retry with the
// headers of a retry record, acknowledged, and consumed again from there, by one consumer and one idempotent producer.
//
//     BROKERS=HOST:PORT retry TOPIC GROUP COUNT [X=VALUE of the producer …]
//
// prints CPU, wall time and peak memory from the first record on. Nothing is decoded and no header is read.
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double cpu(double *user, double *sys) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    *user = r.ru_utime.tv_sec + r.ru_utime.tv_usec * 1e-6;
    *sys = r.ru_stime.tv_sec + r.ru_stime.tv_usec * 1e-6;
    return *user + *sys;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char error[256];
    if (rd_kafka_conf_set(conf, name, value, error, sizeof error)) {
        fprintf(stderr, "%s\n", error);
        exit(2);
    }
}

static long acknowledged, refused;
static void reported(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) { m->err ? refused++ : acknowledged++; }

// What a first retry record carries, with values of their usual lengths.
static const char *const headers[][2] = {
    {"retryCount", "1"},
    {"error", "Unavailable"},
    {"failedAt", "2026-11-22T10:00:00.123Z"},
    {"triage-origin", "fhir.Patient.created/3/123456"},
    {"triage-error-class", "system"},
    {"triage-error-fingerprint", "0123456789abcdef"},
    {"triage-attempts", "1790000000123,system,0123456789abcdef,0af7651916cd43dd8448eb211c80319c,b7ad6b7169203331"},
    {"triage-group", "triage"},
    {"triage-origin-timestamp", "1790000000000"},
    {"triage-origin-traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    {"triage-due-at", "1790003600123"},
    {"triage-writer", "0123456789abcdef"},
};

int main(int argc, char **argv) {
    if (argc < 4) return fprintf(stderr, "usage: retry TOPIC GROUP COUNT [X=VALUE ...]\n"), 64;
    const char *brokers = getenv("BROKERS") ? getenv("BROKERS") : "127.0.0.1:9092";
    char error[512], again[256];
    snprintf(again, sizeof again, "%s.retry", argv[1]);
    long count = atol(argv[3]), first = 0, second = 0;

    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    set(conf, "group.id", argv[2]);
    set(conf, "auto.offset.reset", "earliest");
    set(conf, "enable.auto.offset.store", "false");
    set(conf, "queued.max.messages.kbytes", "16384");
    rd_kafka_t *consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error);
    conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    set(conf, "enable.idempotence", "true");
    set(conf, "acks", "all");
    for (int i = 4; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (value) *value++ = 0, set(conf, argv[i], value);
    }
    rd_kafka_conf_set_dr_msg_cb(conf, reported);
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    if (!consumer || !producer) return fprintf(stderr, "%s\n", error), 1;

    rd_kafka_poll_set_consumer(consumer);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(2);
    rd_kafka_topic_partition_list_add(topics, argv[1], RD_KAFKA_PARTITION_UA);
    rd_kafka_topic_partition_list_add(topics, again, RD_KAFKA_PARTITION_UA);
    rd_kafka_subscribe(consumer, topics);
    rd_kafka_topic_t *target = rd_kafka_topic_new(producer, again, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer);
    rd_kafka_message_t *batch[500];
    double begin = now(), start = 0, user0 = 0, sys0 = 0, user, sys;

    while (second < count || acknowledged + refused < count) {
        ssize_t n = rd_kafka_consume_batch_queue(queue, 20, batch, 500);
        if (now() - begin > 120) return fprintf(stderr, "timeout: %ld consumed, %ld again\n", first, second), 1;
        for (ssize_t i = 0; i < n; i++) {
            rd_kafka_message_t *m = batch[i];
            if (!m->err) {
                if (!start) start = now(), cpu(&user0, &sys0);
                const char *topic = rd_kafka_topic_name(m->rkt);
                if (strcmp(topic, again) == 0) {
                    second++;
                } else if (first++ < count) {
                    rd_kafka_headers_t *all = NULL;
                    if (rd_kafka_message_headers(m, &all) == RD_KAFKA_RESP_ERR_NO_ERROR) all = rd_kafka_headers_copy(all);
                    if (!all) all = rd_kafka_headers_new(16);
                    for (size_t h = 0; h < sizeof headers / sizeof *headers; h++)
                        rd_kafka_header_add(all, headers[h][0], -1, headers[h][1], -1);
                    while (rd_kafka_producev(
                               producer, RD_KAFKA_V_RKT(target), RD_KAFKA_V_PARTITION(m->partition),
                               RD_KAFKA_V_KEY(m->key, m->key_len), RD_KAFKA_V_VALUE(m->payload, m->len),
                               RD_KAFKA_V_HEADERS(all), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END)
                           == RD_KAFKA_RESP_ERR__QUEUE_FULL)
                        rd_kafka_poll(producer, 10);
                }
            }
            rd_kafka_message_destroy(m);
        }
        rd_kafka_poll(producer, 0);
    }
    double wall = now() - start;
    cpu(&user, &sys);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"n\":%ld,\"produced\":%ld,\"refused\":%ld,\"wall\":%.4f,\"user\":%.4f,\"sys\":%.4f,\"rss_kb\":%ld}\n", count,
           acknowledged, refused, wall, user - user0, sys - sys0, usage.ru_maxrss);
    fflush(stdout);
    _exit(refused > 0);
}
