internal import Synchronization
public import TriageEvents

/// A value that an observer reports.
public enum ObservedValue: Sendable, Hashable, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral {
    /// A whole number.
    case int(Int64)
    /// A floating-point number.
    case double(Double)

    /// A whole number.
    public init(integerLiteral value: Int64) { self = .int(value) }
    /// A floating-point number.
    public init(floatLiteral value: Double) { self = .double(value) }

    /// The value as a floating-point number.
    var asDouble: Double {
        switch self {
        case .int(let value): Double(value)
        case .double(let value): value
        }
    }
}

/// Makes the instruments and collects what they hold.
///
/// A handle belongs to one metric with one set of attributes. Asking for it takes a lock and hashes the attributes, so keep
/// it; using it takes neither. Asking again gives the same handle. The number of sets of each metric is bounded: what goes
/// beyond shares one handle whose only attribute is `otel.metric.overflow` (specification, metrics/sdk, cardinality limits).
public final class Meter: Sendable {
    /// Reports the present values of an observed metric, one for each set of attributes; called at each collection.
    public typealias Observer = @Sendable () -> [(MetricAttributes, ObservedValue)]

    /// Sets of attributes that a metric may have besides the overflow: 2,000 (the specification's default).
    public let cardinalityLimit: Int
    private let clock: any EventClock
    private let registry = Mutex(Registry())

    /// The attributes of the handle that all sets beyond the limit share.
    static let overflow: MetricAttributes = ["otel.metric.overflow": "true"]

    /// A meter without any series.
    ///
    /// - Parameters:
    ///   - clock: gives the time at which each series began.
    ///   - cardinalityLimit: sets of attributes of one metric, at least 1.
    public init(clock: any EventClock = SystemClock(), cardinalityLimit: Int = 2000) {
        self.clock = clock
        self.cardinalityLimit = max(1, cardinalityLimit)
    }

    /// The counter of `metric` with these attributes. It is exported as 0 from now on, so that its first increase shows.
    public func counter(_ metric: Metric, _ attributes: MetricAttributes = [:]) -> Counter {
        series(metric, .counter, attributes) { Counter() }
    }

    /// The up-down counter of `metric` with these attributes, exported as 0 from now on.
    public func upDownCounter(_ metric: Metric, _ attributes: MetricAttributes = [:]) -> UpDownCounter {
        series(metric, .upDownCounter, attributes) { UpDownCounter() }
    }

    /// The gauge of `metric` with these attributes; exported once it is set.
    public func gauge(_ metric: Metric, _ attributes: MetricAttributes = [:]) -> Gauge {
        series(metric, .gauge, attributes) { Gauge() }
    }

    /// The histogram of `metric` with these attributes, exported from now on.
    public func histogram(_ metric: Metric, _ attributes: MetricAttributes = [:]) -> Histogram {
        series(metric, .histogram, attributes) { Histogram(boundaries: metric.boundaries) }
    }

    /// Has `observer` report the values of `metric` at each collection, on the collecting thread.
    ///
    /// Counters report the absolute total. If several observers report one set of attributes, sums are added up and of
    /// gauges the last counts. What isn't reported isn't exported. Histograms can't be observed.
    public func observe(_ metric: Metric, _ observer: @escaping Observer) {
        assert(metric.instrument != .histogram, "histograms can't be observed")
        guard metric.instrument != .histogram else { return }
        let start = clock.now()
        registry.withLock { $0.entry(metric) { $0.observers.append((start, observer)) } }
    }

    /// Forgets the series of `metric` that `condition` holds for. Their handles go on counting, unseen.
    func remove(_ metric: Metric, where condition: (MetricAttributes) -> Bool) {
        registry.withLock { registry in
            registry.entry(metric) { entry in
                entry.series.removeAll { condition($0.attributes) }
                entry.handles = entry.handles.filter { !condition($0.key) }
            }
        }
    }

    /// Everything as of now, stamped `time`: metrics in the catalogue's order, then others by name, points by attributes.
    public func collect(at time: Timestamp) -> MetricSnapshot {
        let entries = registry.withLock { Array($0.entries.values) }.sorted { left, right in
            let (first, second) = (Metric.order[left.metric.name] ?? .max, Metric.order[right.metric.name] ?? .max)
            return (first, left.metric.name) < (second, right.metric.name)
        }
        var metrics: [MetricData] = []
        metrics.reserveCapacity(entries.count)
        for entry in entries {
            var points = entry.series.compactMap { series in
                series.handle.value.map { MetricData.Point(attributes: series.attributes, start: series.start, value: $0) }
            }
            if !entry.observers.isEmpty { points = observed(entry, points) }
            if !points.isEmpty { metrics.append(MetricData(metric: entry.metric, points: points)) }
        }
        return MetricSnapshot(timestamp: time, metrics: metrics)
    }

    // MARK: Within

    private struct Registry {
        var entries: [String: Entry] = [:]

        mutating func entry<Result>(_ metric: Metric, _ body: (inout Entry) -> Result) -> Result {
            body(&entries[metric.name, default: Entry(metric: metric)])
        }
    }

    private struct Entry {
        let metric: Metric
        /// In the order of their attributes.
        var series: [(attributes: MetricAttributes, start: Timestamp, handle: any Series)] = []
        var handles: [MetricAttributes: any Series] = [:]
        var observers: [(start: Timestamp, body: Observer)] = []
    }

    private func series<Handle: Series>(
        _ metric: Metric, _ instrument: Instrument, _ attributes: MetricAttributes, make: () -> Handle
    ) -> Handle {
        assert(metric.instrument == instrument, "\(metric.name) is a \(metric.instrument)")
        assert(metric.allows(attributes), "\(metric.name) has an attribute that the catalogue doesn't name")
        guard metric.instrument == instrument else { return make() }
        let start = clock.now()
        return registry.withLock { registry in
            registry.entry(metric) { entry in
                if let handle = entry.handles[attributes] as? Handle { return handle }
                var attributes = attributes
                if entry.handles.count >= cardinalityLimit {
                    attributes = Meter.overflow
                    if let handle = entry.handles[attributes] as? Handle { return handle }
                }
                let handle = make()
                entry.handles[attributes] = handle
                let index = entry.series.firstIndex { attributes.precedes($0.attributes) } ?? entry.series.endIndex
                entry.series.insert((attributes, start, handle), at: index)
                return handle
            }
        }
    }

    /// The points of `entry` with what its observers report, within the limit.
    private func observed(_ entry: Entry, _ points: [MetricData.Point]) -> [MetricData.Point] {
        var merged = Dictionary(uniqueKeysWithValues: points.map { ($0.attributes, $0) })
        for (start, body) in entry.observers {
            for (attributes, reported) in body() {
                assert(entry.metric.allows(attributes), "\(entry.metric.name) has an attribute that the catalogue doesn't name")
                let isKnown = merged[attributes] != nil
                let attributes = isKnown || merged.count < cardinalityLimit ? attributes : Meter.overflow
                let before = merged[attributes]
                merged[attributes] = MetricData.Point(
                    attributes: attributes, start: before?.start ?? start,
                    value: Meter.value(reported, of: entry.metric.instrument, after: before?.value))
            }
        }
        return merged.values.sorted { $0.attributes.precedes($1.attributes) }
    }

    private static func value(
        _ reported: ObservedValue, of instrument: Instrument, after before: MetricData.Value?
    ) -> MetricData.Value {
        if instrument == .gauge { return .gauge(reported.asDouble) }
        switch (before, reported) {
        case (.sum(let sum)?, .int(let value)): return .sum(sum &+ value)
        case (.sum(let sum)?, .double(let value)): return .doubleSum(Double(sum) + value)
        case (.doubleSum(let sum)?, _): return .doubleSum(sum + reported.asDouble)
        case (_, .int(let value)): return .sum(value)
        case (_, .double(let value)): return .doubleSum(value)
        }
    }
}

extension Metric {
    /// Whether the definition names the keys of all these attributes; the overflow's is always allowed.
    func allows(_ attributes: MetricAttributes) -> Bool {
        attributes == Meter.overflow || attributes.pairs.allSatisfy { self.attributes.contains($0.key) }
    }
}

extension MetricAttributes {
    /// Whether these come before `other`: by key, then value, pair by pair.
    func precedes(_ other: MetricAttributes) -> Bool {
        pairs.lexicographicallyPrecedes(other.pairs) { ($0.key, $0.value) < ($1.key, $1.value) }
    }
}
