import COTLP
import CProtobufC
import TriageEvents
import TriageTelemetry

@testable import TriageOTLP

// The golden vectors, built field by field from the generated structs.

private let traceID: [UInt8] = bytes("0af7651916cd43dd8448eb211c80319c")
private let spanID: [UInt8] = bytes("b7ad6b7169203331")
private let parentID: [UInt8] = bytes("00f067aa0ba902b7")
private let t0Nanoseconds: UInt64 = 1_700_000_000_000_000_000

extension Arena {
    fileprivate func text(_ text: String) -> UnsafeMutablePointer<CChar> {
        var builder = MessageBuilder(self)
        return builder.cString(text)
    }

    fileprivate func data(_ bytes: [UInt8]) -> ProtobufCBinaryData {
        let target = allocate(UInt8.self, bytes.count)
        for (index, byte) in bytes.enumerated() { target[index] = byte }
        return ProtobufCBinaryData(len: bytes.count, data: target)
    }

    fileprivate func one<Message>(_ make: (UnsafeMutablePointer<Message>?) -> Void) -> UnsafeMutablePointer<Message> {
        let message = allocate(Message.self, 1)
        make(message)
        return message
    }

    fileprivate func list<Message>(_ messages: [UnsafeMutablePointer<Message>]) -> MessagePointers<Message> {
        let pointers = allocate(UnsafeMutablePointer<Message>?.self, messages.count)
        for (index, message) in messages.enumerated() { pointers[index] = message }
        return pointers
    }

    fileprivate func list<Number>(_ numbers: [Number]) -> UnsafeMutablePointer<Number> {
        let target = allocate(Number.self, numbers.count)
        for (index, number) in numbers.enumerated() { target[index] = number }
        return target
    }

    fileprivate func pair(_ key: String, _ value: String) -> UnsafeMutablePointer<KeyValueMessage> {
        let content = one(opentelemetry__proto__common__v1__any_value__init)
        MessageBuilder(self).set(text: text(value), in: content)
        return pair(key, content)
    }

    fileprivate func pair(_ key: String, _ value: UnsafeMutablePointer<AnyValueMessage>) -> UnsafeMutablePointer<KeyValueMessage>
    {
        let pair = one(opentelemetry__proto__common__v1__key_value__init)
        pair.pointee.key = text(key)
        pair.pointee.value = value
        return pair
    }
}

func traceRequest(_ arena: Arena) -> [UInt8] {
    let offset = arena.one(opentelemetry__proto__common__v1__any_value__init)
    MessageBuilder(arena).set(int: 12, in: offset)
    let event = arena.one(opentelemetry__proto__trace__v1__span__event__init)
    event.pointee.time_unix_nano = t0Nanoseconds + 1000
    event.pointee.name = arena.text("exception")
    event.pointee.attributes = arena.list([arena.pair("exception.type", "E")])
    event.pointee.n_attributes = 1
    let link = arena.one(opentelemetry__proto__trace__v1__span__link__init)
    link.pointee.trace_id = arena.data(traceID)
    link.pointee.span_id = arena.data(parentID)
    link.pointee.flags = 0x301
    let status = arena.one(opentelemetry__proto__trace__v1__status__init)
    status.pointee.message = arena.text("boom")
    status.pointee.code = OPENTELEMETRY__PROTO__TRACE__V1__STATUS__STATUS_CODE__STATUS_CODE_ERROR
    let span = arena.one(opentelemetry__proto__trace__v1__span__init)
    span.pointee.trace_id = arena.data(traceID)
    span.pointee.span_id = arena.data(spanID)
    span.pointee.parent_span_id = arena.data(parentID)
    span.pointee.name = arena.text("process T")
    span.pointee.kind = OPENTELEMETRY__PROTO__TRACE__V1__SPAN__SPAN_KIND__SPAN_KIND_CONSUMER
    span.pointee.start_time_unix_nano = t0Nanoseconds
    span.pointee.end_time_unix_nano = t0Nanoseconds + 1_500_000
    span.pointee.attributes = arena.list([arena.pair("messaging.system", "kafka"), arena.pair("messaging.kafka.offset", offset)])
    span.pointee.n_attributes = 2
    span.pointee.events = arena.list([event])
    span.pointee.n_events = 1
    span.pointee.links = arena.list([link])
    span.pointee.n_links = 1
    span.pointee.status = status
    span.pointee.flags = 0x301
    let scope = arena.one(opentelemetry__proto__common__v1__instrumentation_scope__init)
    scope.pointee.name = arena.text("ep.kafka")
    scope.pointee.version = arena.text("1.0")
    let scopeSpans = arena.one(opentelemetry__proto__trace__v1__scope_spans__init)
    scopeSpans.pointee.scope = scope
    scopeSpans.pointee.spans = arena.list([span])
    scopeSpans.pointee.n_spans = 1
    let resource = arena.one(opentelemetry__proto__resource__v1__resource__init)
    resource.pointee.attributes = arena.list([arena.pair("service.name", "ep")])
    resource.pointee.n_attributes = 1
    let resourceSpans = arena.one(opentelemetry__proto__trace__v1__resource_spans__init)
    resourceSpans.pointee.resource = resource
    resourceSpans.pointee.scope_spans = arena.list([scopeSpans])
    resourceSpans.pointee.n_scope_spans = 1
    resourceSpans.pointee.schema_url = arena.text("https://opentelemetry.io/schemas/1.44.0")
    let request = arena.one(opentelemetry__proto__collector__trace__v1__export_trace_service_request__init)
    request.pointee.resource_spans = arena.list([resourceSpans])
    request.pointee.n_resource_spans = 1
    return packed(request)
}

func metricsRequest(_ arena: Arena, _ metric: UnsafeMutablePointer<Opentelemetry__Proto__Metrics__V1__Metric>) -> [UInt8] {
    let scope = arena.one(opentelemetry__proto__metrics__v1__scope_metrics__init)
    scope.pointee.metrics = arena.list([metric])
    scope.pointee.n_metrics = 1
    let resource = arena.one(opentelemetry__proto__metrics__v1__resource_metrics__init)
    resource.pointee.scope_metrics = arena.list([scope])
    resource.pointee.n_scope_metrics = 1
    let request = arena.one(opentelemetry__proto__collector__metrics__v1__export_metrics_service_request__init)
    request.pointee.resource_metrics = arena.list([resource])
    request.pointee.n_resource_metrics = 1
    return packed(request)
}

func histogram(_ arena: Arena) -> UnsafeMutablePointer<Opentelemetry__Proto__Metrics__V1__Metric> {
    let exemplar = arena.one(opentelemetry__proto__metrics__v1__exemplar__init)
    exemplar.pointee.time_unix_nano = t0Nanoseconds + 5
    exemplar.pointee.value_case = OPENTELEMETRY__PROTO__METRICS__V1__EXEMPLAR__VALUE_AS_DOUBLE
    exemplar.pointee.as_double = 0.2
    exemplar.pointee.span_id = arena.data(spanID)
    exemplar.pointee.trace_id = arena.data(traceID)
    let point = arena.one(opentelemetry__proto__metrics__v1__histogram_data_point__init)
    point.pointee.start_time_unix_nano = t0Nanoseconds
    point.pointee.time_unix_nano = t0Nanoseconds + 1_000_000_000
    point.pointee.count = 3
    point.pointee.optional_sum_case = OPENTELEMETRY__PROTO__METRICS__V1__HISTOGRAM_DATA_POINT__OPTIONAL_SUM_SUM
    point.pointee.sum = 0.5
    point.pointee.bucket_counts = arena.list([1, 2, 0] as [UInt64])
    point.pointee.n_bucket_counts = 3
    point.pointee.explicit_bounds = arena.list([0.1, 0.25])
    point.pointee.n_explicit_bounds = 2
    point.pointee.exemplars = arena.list([exemplar])
    point.pointee.n_exemplars = 1
    point.pointee.optional_min_case = OPENTELEMETRY__PROTO__METRICS__V1__HISTOGRAM_DATA_POINT__OPTIONAL_MIN_MIN
    point.pointee.min = 0.05
    point.pointee.optional_max_case = OPENTELEMETRY__PROTO__METRICS__V1__HISTOGRAM_DATA_POINT__OPTIONAL_MAX_MAX
    point.pointee.max = 0.2
    let data = arena.one(opentelemetry__proto__metrics__v1__histogram__init)
    data.pointee.data_points = arena.list([point])
    data.pointee.n_data_points = 1
    data.pointee.aggregation_temporality =
        OPENTELEMETRY__PROTO__METRICS__V1__AGGREGATION_TEMPORALITY__AGGREGATION_TEMPORALITY_CUMULATIVE
    let metric = arena.one(opentelemetry__proto__metrics__v1__metric__init)
    metric.pointee.name = arena.text("messaging.process.duration")
    metric.pointee.unit = arena.text("s")
    metric.pointee.data_case = OPENTELEMETRY__PROTO__METRICS__V1__METRIC__DATA_HISTOGRAM
    metric.pointee.histogram = data
    return metric
}

func exponential(_ arena: Arena) -> UnsafeMutablePointer<Opentelemetry__Proto__Metrics__V1__Metric> {
    let positive = arena.one(opentelemetry__proto__metrics__v1__exponential_histogram_data_point__buckets__init)
    positive.pointee.offset = -2
    positive.pointee.bucket_counts = arena.list([1, 0, 300] as [UInt64])
    positive.pointee.n_bucket_counts = 3
    let point = arena.one(opentelemetry__proto__metrics__v1__exponential_histogram_data_point__init)
    point.pointee.count = 4
    point.pointee.optional_sum_case = OPENTELEMETRY__PROTO__METRICS__V1__EXPONENTIAL_HISTOGRAM_DATA_POINT__OPTIONAL_SUM_SUM
    point.pointee.sum = 7
    point.pointee.scale = -1
    point.pointee.zero_count = 1
    point.pointee.positive = positive
    let data = arena.one(opentelemetry__proto__metrics__v1__exponential_histogram__init)
    data.pointee.data_points = arena.list([point])
    data.pointee.n_data_points = 1
    data.pointee.aggregation_temporality =
        OPENTELEMETRY__PROTO__METRICS__V1__AGGREGATION_TEMPORALITY__AGGREGATION_TEMPORALITY_DELTA
    let metric = arena.one(opentelemetry__proto__metrics__v1__metric__init)
    metric.pointee.name = arena.text("x")
    metric.pointee.data_case = OPENTELEMETRY__PROTO__METRICS__V1__METRIC__DATA_EXPONENTIAL_HISTOGRAM
    metric.pointee.exponential_histogram = data
    return metric
}

func sum(_ arena: Arena) -> UnsafeMutablePointer<Opentelemetry__Proto__Metrics__V1__Metric> {
    let point = arena.one(opentelemetry__proto__metrics__v1__number_data_point__init)
    point.pointee.time_unix_nano = 1
    point.pointee.value_case = OPENTELEMETRY__PROTO__METRICS__V1__NUMBER_DATA_POINT__VALUE_AS_INT
    point.pointee.as_int = -1
    let data = arena.one(opentelemetry__proto__metrics__v1__sum__init)
    data.pointee.data_points = arena.list([point])
    data.pointee.n_data_points = 1
    data.pointee.aggregation_temporality =
        OPENTELEMETRY__PROTO__METRICS__V1__AGGREGATION_TEMPORALITY__AGGREGATION_TEMPORALITY_CUMULATIVE
    data.pointee.is_monotonic = 1
    let metric = arena.one(opentelemetry__proto__metrics__v1__metric__init)
    metric.pointee.name = arena.text("c")
    metric.pointee.data_case = OPENTELEMETRY__PROTO__METRICS__V1__METRIC__DATA_SUM
    metric.pointee.sum = data
    return metric
}

func logsRequest(_ arena: Arena) -> [UInt8] {
    let body = arena.one(opentelemetry__proto__common__v1__any_value__init)
    MessageBuilder(arena).set(text: arena.text("boom"), in: body)
    let record = arena.one(opentelemetry__proto__logs__v1__log_record__init)
    record.pointee.time_unix_nano = t0Nanoseconds
    record.pointee.observed_time_unix_nano = t0Nanoseconds
    record.pointee.severity_number = OPENTELEMETRY__PROTO__LOGS__V1__SEVERITY_NUMBER__SEVERITY_NUMBER_ERROR
    record.pointee.severity_text = arena.text("ERROR")
    record.pointee.body = body
    record.pointee.flags = 1
    record.pointee.trace_id = arena.data(traceID)
    record.pointee.span_id = arena.data(spanID)
    record.pointee.event_name = arena.text("messaging.process.exception")
    let scope = arena.one(opentelemetry__proto__logs__v1__scope_logs__init)
    scope.pointee.log_records = arena.list([record])
    scope.pointee.n_log_records = 1
    let resource = arena.one(opentelemetry__proto__logs__v1__resource_logs__init)
    resource.pointee.scope_logs = arena.list([scope])
    resource.pointee.n_scope_logs = 1
    let request = arena.one(opentelemetry__proto__collector__logs__v1__export_logs_service_request__init)
    request.pointee.resource_logs = arena.list([resource])
    request.pointee.n_resource_logs = 1
    return packed(request)
}
