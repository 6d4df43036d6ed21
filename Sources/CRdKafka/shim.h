#pragma once
// rdkafka_mock.h uses the types of rdkafka.h without including it, so the order matters.
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
// No shims: each variadic of librdkafka has a sibling that takes an array (rd_kafka_produceva,
// rd_kafka_mock_push_request_errors_array), and the gate calls those.
