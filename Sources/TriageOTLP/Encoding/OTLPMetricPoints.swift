internal import COTLP
internal import CProtobufC
internal import TriageEvents
internal import TriageTelemetry

private typealias HistogramPoint = Opentelemetry__Proto__Metrics__V1__HistogramDataPoint
private typealias ExponentialPoint = Opentelemetry__Proto__Metrics__V1__ExponentialHistogramDataPoint
private typealias BucketsMessage = Opentelemetry__Proto__Metrics__V1__ExponentialHistogramDataPoint__Buckets

/// Points that were built; the pointers may have room for more.
struct BuiltPoints<Message> {
    let pointers: MessagePointers<Message>
    var count = 0
}

extension MessageBuilder {
    /// A number point's tags, numbers and lengths: two times, a value, and what stands around them.
    private static let numberOverhead = 48
    /// A histogram point's: two times, count, sum, extremes, scale, zero count, two offsets, and what stands around them.
    private static let histogramOverhead = 160
    /// An exemplar: a time, a value, 24 bytes of ids, and what stands around them.
    private static let exemplarOverhead = 64

    /// The points of sums and gauges.
    mutating func numbers(
        _ data: MetricData, at time: Timestamp
    ) -> BuiltPoints<Opentelemetry__Proto__Metrics__V1__NumberDataPoint> {
        var built = BuiltPoints(
            pointers: messages(Opentelemetry__Proto__Metrics__V1__NumberDataPoint.self, data.points.count))
        for point in data.points {
            guard let target = built.pointers[built.count] else { continue }
            opentelemetry__proto__metrics__v1__number_data_point__init(target)
            var areWhole = true
            switch point.value {
            case .sum(let value), .intGauge(let value):
                target.pointee.value_case = OPENTELEMETRY__PROTO__METRICS__V1__NUMBER_DATA_POINT__VALUE_AS_INT
                target.pointee.as_int = value
            case .doubleSum(let value), .gauge(let value):
                target.pointee.value_case = OPENTELEMETRY__PROTO__METRICS__V1__NUMBER_DATA_POINT__VALUE_AS_DOUBLE
                target.pointee.as_double = value
                areWhole = false
            case .histogram, .exponentialHistogram:
                continue
            }
            target.pointee.start_time_unix_nano = MessageBuilder.nanoseconds(point.start)
            target.pointee.time_unix_nano = MessageBuilder.nanoseconds(time)
            let attributes = keyValues(point.attributes)
            target.pointee.attributes = attributes.pointers
            target.pointee.n_attributes = attributes.count
            let exemplars = exemplars(point.exemplars, areWhole: areWhole)
            target.pointee.exemplars = exemplars.pointers
            target.pointee.n_exemplars = exemplars.count
            reserve(MessageBuilder.numberOverhead)
            built.count += 1
        }
        return built
    }

    /// The points of histograms with explicit bounds.
    mutating func histograms(
        _ data: MetricData, at time: Timestamp
    ) -> BuiltPoints<Opentelemetry__Proto__Metrics__V1__HistogramDataPoint> {
        let bounds = arena.allocate(Double.self, max(1, data.metric.boundaries.count))
        for (index, bound) in data.metric.boundaries.enumerated() { bounds[index] = bound }
        var built = BuiltPoints(pointers: messages(HistogramPoint.self, data.points.count))
        for point in data.points {
            guard let target = built.pointers[built.count],
                case .histogram(let buckets, let sum, let total, let minimum, let maximum) = point.value,
                buckets.count == data.metric.boundaries.count + 1
            else { continue }
            opentelemetry__proto__metrics__v1__histogram_data_point__init(target)
            target.pointee.start_time_unix_nano = MessageBuilder.nanoseconds(point.start)
            target.pointee.time_unix_nano = MessageBuilder.nanoseconds(time)
            target.pointee.count = total
            target.pointee.optional_sum_case = OPENTELEMETRY__PROTO__METRICS__V1__HISTOGRAM_DATA_POINT__OPTIONAL_SUM_SUM
            target.pointee.sum = sum
            if total > 0 {
                target.pointee.optional_min_case = OPENTELEMETRY__PROTO__METRICS__V1__HISTOGRAM_DATA_POINT__OPTIONAL_MIN_MIN
                target.pointee.min = minimum
                target.pointee.optional_max_case = OPENTELEMETRY__PROTO__METRICS__V1__HISTOGRAM_DATA_POINT__OPTIONAL_MAX_MAX
                target.pointee.max = maximum
            }
            target.pointee.bucket_counts = numbers(buckets)
            target.pointee.n_bucket_counts = buckets.count
            target.pointee.explicit_bounds = bounds
            target.pointee.n_explicit_bounds = data.metric.boundaries.count
            let attributes = keyValues(point.attributes)
            target.pointee.attributes = attributes.pointers
            target.pointee.n_attributes = attributes.count
            let exemplars = exemplars(point.exemplars, areWhole: false)
            target.pointee.exemplars = exemplars.pointers
            target.pointee.n_exemplars = exemplars.count
            reserve(MessageBuilder.histogramOverhead + 16 * buckets.count)
            built.count += 1
        }
        return built
    }

    /// The points of exponential histograms.
    mutating func exponentialHistograms(
        _ data: MetricData, at time: Timestamp
    ) -> BuiltPoints<Opentelemetry__Proto__Metrics__V1__ExponentialHistogramDataPoint> {
        var built = BuiltPoints(pointers: messages(ExponentialPoint.self, data.points.count))
        for point in data.points {
            guard let target = built.pointers[built.count], case .exponentialHistogram(let histogram) = point.value else {
                continue
            }
            opentelemetry__proto__metrics__v1__exponential_histogram_data_point__init(target)
            target.pointee.start_time_unix_nano = MessageBuilder.nanoseconds(point.start)
            target.pointee.time_unix_nano = MessageBuilder.nanoseconds(time)
            target.pointee.count = histogram.count
            target.pointee.optional_sum_case =
                OPENTELEMETRY__PROTO__METRICS__V1__EXPONENTIAL_HISTOGRAM_DATA_POINT__OPTIONAL_SUM_SUM
            target.pointee.sum = histogram.sum
            target.pointee.scale = histogram.scale
            target.pointee.zero_count = histogram.zeroCount
            target.pointee.positive = buckets(histogram.positive)
            target.pointee.negative = buckets(histogram.negative)
            if histogram.count > 0 {
                target.pointee.optional_min_case =
                    OPENTELEMETRY__PROTO__METRICS__V1__EXPONENTIAL_HISTOGRAM_DATA_POINT__OPTIONAL_MIN_MIN
                target.pointee.min = histogram.minimum
                target.pointee.optional_max_case =
                    OPENTELEMETRY__PROTO__METRICS__V1__EXPONENTIAL_HISTOGRAM_DATA_POINT__OPTIONAL_MAX_MAX
                target.pointee.max = histogram.maximum
            }
            let attributes = keyValues(point.attributes)
            target.pointee.attributes = attributes.pointers
            target.pointee.n_attributes = attributes.count
            let exemplars = exemplars(point.exemplars, areWhole: false)
            target.pointee.exemplars = exemplars.pointers
            target.pointee.n_exemplars = exemplars.count
            reserve(MessageBuilder.histogramOverhead)
            built.count += 1
        }
        return built
    }

    /// Buckets of one sign; none if nothing is in them.
    private mutating func buckets(_ buckets: ExponentialHistogramData.Buckets) -> UnsafeMutablePointer<BucketsMessage>? {
        guard !buckets.counts.isEmpty else { return nil }
        let message = arena.allocate(BucketsMessage.self, 1)
        opentelemetry__proto__metrics__v1__exponential_histogram_data_point__buckets__init(message)
        message.pointee.offset = buckets.offset
        message.pointee.bucket_counts = numbers(buckets.counts)
        message.pointee.n_bucket_counts = buckets.counts.count
        // A varint takes at most ten bytes.
        reserve(10 * buckets.counts.count)
        return message
    }

    /// Exemplars; one that was measured outside any span has no ids.
    ///
    /// - Parameter areWhole: whether the point counts in whole numbers; then so do its exemplars that are.
    private mutating func exemplars(
        _ exemplars: [Exemplar], areWhole: Bool
    ) -> (pointers: MessagePointers<Opentelemetry__Proto__Metrics__V1__Exemplar>?, count: Int) {
        guard !exemplars.isEmpty else { return (nil, 0) }
        let pointers = messages(Opentelemetry__Proto__Metrics__V1__Exemplar.self, exemplars.count)
        for (index, exemplar) in exemplars.enumerated() {
            guard let target = pointers[index] else { continue }
            opentelemetry__proto__metrics__v1__exemplar__init(target)
            target.pointee.time_unix_nano = MessageBuilder.nanoseconds(exemplar.timestamp)
            if areWhole, let whole = Int64(exactly: exemplar.value) {
                target.pointee.value_case = OPENTELEMETRY__PROTO__METRICS__V1__EXEMPLAR__VALUE_AS_INT
                target.pointee.as_int = whole
            } else {
                target.pointee.value_case = OPENTELEMETRY__PROTO__METRICS__V1__EXEMPLAR__VALUE_AS_DOUBLE
                target.pointee.as_double = exemplar.value
            }
            if exemplar.traceID.isValid, exemplar.spanID.isValid {
                target.pointee.trace_id = bytes(exemplar.traceID)
                target.pointee.span_id = bytes(exemplar.spanID)
            }
            reserve(MessageBuilder.exemplarOverhead)
        }
        return (pointers, exemplars.count)
    }

    private func numbers(_ numbers: [UInt64]) -> UnsafeMutablePointer<UInt64> {
        let target = arena.allocate(UInt64.self, max(1, numbers.count))
        for (index, number) in numbers.enumerated() { target[index] = number }
        return target
    }

    private static func nanoseconds(_ time: Timestamp) -> UInt64 { UInt64(max(0, time.nanoseconds)) }
}
