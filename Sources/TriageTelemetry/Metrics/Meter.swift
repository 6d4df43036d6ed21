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
///
/// Two kinds of reader look at the same data. The pull side, ``collect(at:)``, may be read by anyone at any time: cumulative,
/// explicit buckets, the latest exemplar of each bucket, nothing taken away. A reader that exports at an interval is named
/// when the meter is made and has a state of its own: what it has collected, its exemplars, its temporality.
///
/// Definitions of one name that differ in instrument, unit or help are told to `warn` and exported side by side; names differ
/// in more than case, the first spelling counts (specification, metrics/sdk, duplicate instrument registration).
public final class Meter: Sendable {
    /// Reports the present values of an observed metric, one for each set of attributes; called once at each collection by
    /// each reader, outside any span.
    public typealias Observer = @Sendable () -> [(MetricAttributes, ObservedValue)]

    /// Sets of attributes that a metric may have besides the overflow: 2,000 (the specification's default).
    public let cardinalityLimit: Int
    /// Which measurements may become exemplars.
    public let exemplarFilter: ExemplarFilter
    /// The readers with a state of their own, in the order in which ``collect(at:reader:)`` counts them.
    public let readers: [MetricReaderOptions]
    private let clock: any EventClock
    private let warn: @Sendable (String) -> Void
    private let registry = Mutex(MetricRegistry())
    private let pull = ReaderState()
    private let states: [ReaderState]

    /// A meter without any series.
    ///
    /// - Parameters:
    ///   - clock: gives the time at which each series began.
    ///   - cardinalityLimit: sets of attributes of one metric, at least 1.
    ///   - exemplarFilter: which measurements may become exemplars (`OTEL_METRICS_EXEMPLAR_FILTER`).
    ///   - readers: how each reader besides the pull side wants its metrics.
    ///   - warn: told, once each, of names that are no metric's and of definitions that contradict each other.
    public init(
        clock: any EventClock = SystemClock(), cardinalityLimit: Int = 2000, exemplarFilter: ExemplarFilter = .traceBased,
        readers: [MetricReaderOptions] = [], warn: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.clock = clock
        self.cardinalityLimit = max(1, cardinalityLimit)
        self.exemplarFilter = exemplarFilter
        self.readers = readers
        self.warn = warn
        states = readers.map { _ in ReaderState() }
    }

    /// The counter of `metric` with these attributes. It is exported as 0 from now on, so that its first increase shows.
    public func counter(_ metric: Metric, _ attributes: MetricAttributes = [:]) -> Counter {
        series(metric, .counter, attributes) { _ in
            Counter(exemplars: reservoir(buckets: 1) { _ in .fixed(1) })
        }
    }

    /// The up-down counter of `metric` with these attributes, exported as 0 from now on.
    public func upDownCounter(_ metric: Metric, _ attributes: MetricAttributes = [:]) -> UpDownCounter {
        series(metric, .upDownCounter, attributes) { _ in UpDownCounter() }
    }

    /// The gauge of `metric` with these attributes; exported once it is set.
    public func gauge(_ metric: Metric, _ attributes: MetricAttributes = [:]) -> Gauge {
        series(metric, .gauge, attributes) { _ in Gauge() }
    }

    /// The histogram of `metric` with these attributes, exported from now on.
    public func histogram(_ metric: Metric, _ attributes: MetricAttributes = [:]) -> Histogram {
        series(metric, .histogram, attributes) { metric in
            let buckets = metric.boundaries.count + 1
            // The specification's sizes: one for each bucket, or 20 for exponential ones.
            let exemplars = reservoir(buckets: buckets) { options in
                options.histograms == .explicitBucketHistogram ? .aligned(buckets) : .fixed(20)
            }
            return Histogram(boundaries: metric.boundaries, exemplars: exemplars, readers: readers)
        }
    }

    /// Has `observer` report the values of `metric` at each collection, on the collecting thread.
    ///
    /// Counters report the absolute total. If several observers report one set of attributes, sums are added up and of
    /// gauges the last counts. What isn't reported isn't exported. Histograms can't be observed.
    public func observe(_ metric: Metric, _ observer: @escaping Observer) {
        assert(metric.instrument != .histogram, "histograms can't be observed")
        guard metric.instrument != .histogram else { return }
        let start = clock.now()
        withEntry(metric) { $0.observers.append((start, observer)) }
    }

    /// Forgets the series of `metric` that `condition` holds for. Their handles go on counting, unseen. A reader of deltas
    /// gets what it hasn't collected of them.
    func remove(_ metric: Metric, where condition: (MetricAttributes) -> Bool) {
        let pending = Set(
            readers.indices.filter {
                readers[$0].temporality.temporality(of: metric.instrument, isObserved: false) == .delta
            })
        withEntry(metric) { entry in
            if !pending.isEmpty { entry.retired += entry.series.filter { condition($0.attributes) }.map { ($0, pending) } }
            entry.series.removeAll { condition($0.attributes) }
            entry.handles = entry.handles.filter { !condition($0.key) }
        }
    }

    /// Everything as of now, stamped `time`, for the pull side: metrics in the catalogue's order, then others by name, points
    /// by attributes.
    public func collect(at time: Timestamp) -> MetricSnapshot { collect(at: time, nil) }

    /// What the reader at this place of ``readers`` gets at `time`; its exemplars and deltas begin anew.
    ///
    /// One call at a time for each reader. A place that there isn't is the pull side's.
    public func collect(at time: Timestamp, reader: Int) -> MetricSnapshot {
        collect(at: time, readers.indices.contains(reader) ? reader : nil)
    }

    // MARK: Within

    private func collect(at time: Timestamp, _ reader: Int?) -> MetricSnapshot {
        let options = reader.map { readers[$0] } ?? MetricReaderOptions()
        let state = reader.map { states[$0] } ?? pull
        let entries = registry.withLock { $0.entries(for: reader) }.sorted { left, right in
            let (first, second) = (Metric.order[left.metric.name] ?? .max, Metric.order[right.metric.name] ?? .max)
            return (first, left.metric.name, left.id) < (second, right.metric.name, right.id)
        }
        let previous = state.previous(at: time)
        var metrics: [MetricData] = []
        metrics.reserveCapacity(entries.count)
        for entry in entries {
            let temporality = options.temporality.temporality(
                of: entry.metric.instrument, isObserved: !entry.observers.isEmpty)
            let view = CollectionView(
                reader: reader, temporality: temporality, histograms: options.histograms, readers: readers.count)
            /// The beginning of a point of a series that began at `start`.
            func begin(_ start: Timestamp) -> Timestamp {
                if entry.metric.instrument == .gauge { return Timestamp(nanoseconds: 0) }
                return temporality == .delta ? min(time, max(start, previous ?? start)) : start
            }
            var points = entry.series.compactMap { series in
                series.handle.point(for: view).map {
                    MetricData.Point(
                        attributes: series.attributes, start: begin(series.start), value: $0.value, exemplars: $0.exemplars)
                }
            }
            if !entry.observers.isEmpty {
                points = state.observed(entry, beside: points, temporality, limit: cardinalityLimit, begin)
            }
            if !points.isEmpty { metrics.append(MetricData(metric: entry.metric, temporality: temporality, points: points)) }
        }
        return MetricSnapshot(timestamp: time, metrics: metrics)
    }

    /// A series' reservoir, with slots of this shape for each reader; nil if there are no exemplars at all.
    private func reservoir(
        buckets: Int, shape: (MetricReaderOptions) -> ExemplarReservoir.Shape
    ) -> ExemplarReservoir? {
        guard exemplarFilter != .alwaysOff else { return nil }
        return ExemplarReservoir(filter: exemplarFilter, clock: clock, buckets: buckets, readers: readers.map(shape))
    }

    /// Calls `body` with the entry of `metric`; nil if its name is none.
    @discardableResult
    private func withEntry<Result: Sendable>(_ metric: Metric, _ body: (inout MetricEntry) -> Result) -> Result? {
        let (result, warning) = registry.withLock { $0.withEntry(metric, body) }
        if let warning { warn(warning) }
        return result
    }

    private func series<Handle: Series>(
        _ metric: Metric, _ instrument: Instrument, _ attributes: MetricAttributes, make: (Metric) -> Handle
    ) -> Handle {
        assert(metric.instrument == instrument, "\(metric.name) is a \(metric.instrument)")
        assert(metric.allows(attributes), "\(metric.name) has an attribute that the catalogue doesn't name")
        guard metric.instrument == instrument else { return make(metric) }
        let start = clock.now()
        let handle = withEntry(metric) { entry in
            if let handle = entry.handles[attributes] as? Handle { return handle }
            var attributes = attributes
            if entry.handles.count >= cardinalityLimit {
                attributes = .overflow
                if let handle = entry.handles[attributes] as? Handle { return handle }
            }
            var series = (attributes: attributes, start: start, handle: make(entry.metric))
            // Removed, and still owed to a reader of deltas: it goes on.
            if let index = entry.retired.firstIndex(where: { $0.series.attributes == attributes }),
                let handle = entry.retired[index].series.handle as? Handle
            {
                series = (attributes, entry.retired[index].series.start, handle)
                entry.retired.remove(at: index)
            }
            entry.handles[attributes] = series.handle
            let index = entry.series.firstIndex { attributes.precedes($0.attributes) } ?? entry.series.endIndex
            entry.series.insert(series, at: index)
            return series.handle
        }
        return handle ?? make(metric)
    }
}

extension Metric {
    /// Whether the definition names the keys of all these attributes; the overflow's is always allowed.
    func allows(_ attributes: MetricAttributes) -> Bool {
        attributes.isOverflow || attributes.pairs.allSatisfy { self.attributes.contains($0.key) }
    }
}

extension MetricAttributes {
    /// The attributes of the point that all sets beyond the limit share.
    static let overflow: MetricAttributes = ["otel.metric.overflow": "true"]

    /// Whether this is the point that all sets beyond a metric's limit share. Its one value is the truth value true, which
    /// Prometheus writes as text.
    public var isOverflow: Bool { self == MetricAttributes.overflow }

    /// Whether these come before `other`: by key, then value, pair by pair.
    func precedes(_ other: MetricAttributes) -> Bool {
        pairs.lexicographicallyPrecedes(other.pairs) { ($0.key, $0.value) < ($1.key, $1.value) }
    }
}
