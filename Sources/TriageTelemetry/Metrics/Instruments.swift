internal import Synchronization
public import TriageEvents

/// One metric's value for one set of attributes, as the meter collects it.
protocol Series: AnyObject, Sendable {
    /// The point for a reader; nil if there is none yet or, for a delta, nothing has come since.
    func point(for view: CollectionView) -> SeriesPoint?
}

extension Series {
    /// The value now; nil if there is none yet.
    var value: MetricData.Value? { point(for: .pull)?.value }
}

/// A series' part of a point.
struct SeriesPoint {
    let value: MetricData.Value
    var exemplars: [Exemplar] = []
}

/// For whom a series is collected.
struct CollectionView: Sendable {
    /// The reader's place among the meter's; nil for the pull side.
    let reader: Int?
    /// What this metric's points count from.
    let temporality: Temporality
    /// How histograms come.
    let histograms: HistogramAggregation
    /// How many readers there are.
    let readers: Int

    static let pull = CollectionView(reader: nil, temporality: .cumulative, histograms: .explicitBucketHistogram, readers: 0)
}

/// Counts what only grows. Adding takes neither a lock nor memory, on any thread; about 2 ns, 11 when two threads add.
public final class Counter: Series {
    private let total = Atomic<Int64>(0)
    private let exemplars: ExemplarReservoir?
    private let keepsAll: Bool
    /// For each reader of deltas, what it has collected so far; empty until one does.
    private let reported = Mutex<[Int64]>([])

    /// Made by ``Meter/counter(_:_:)``.
    init(exemplars: ExemplarReservoir? = nil) {
        self.exemplars = exemplars
        keepsAll = exemplars?.keepsAll ?? false
    }

    /// Adds `amount`, which must not be negative; a negative one is ignored.
    public func add(_ amount: Int64 = 1) {
        assert(amount >= 0, "a counter only grows")
        guard amount > 0 else { return }
        total.wrappingAdd(amount, ordering: .relaxed)
        if keepsAll { exemplars?.offer(Double(amount), bucket: 0, .none, .none, at: nil) }
    }

    /// Adds `amount`, which must not be negative, and maybe keeps it as an exemplar of a span.
    ///
    /// - Parameters:
    ///   - context: the span's; by default only a sampled one counts (``ExemplarFilter``).
    ///   - time: now, if it is known; nil asks the clock when it is needed.
    public func add(_ amount: Int64 = 1, in context: borrowing TraceContext?, at time: Timestamp? = nil) {
        assert(amount >= 0, "a counter only grows")
        guard amount > 0 else { return }
        total.wrappingAdd(amount, ordering: .relaxed)
        exemplars?.offer(Double(amount), bucket: 0, in: context, at: time)
    }

    /// What was added so far.
    public var current: Int64 { total.load(ordering: .relaxed) }

    func point(for view: CollectionView) -> SeriesPoint? {
        var value = current
        if view.temporality == .delta, let reader = view.reader {
            let before = reported.withLock { reported in
                if reported.isEmpty { reported = [Int64](repeating: 0, count: view.readers) }
                defer { reported[reader] = value }
                return reported[reader]
            }
            value &-= before
            guard value != 0 else { return nil }
        }
        return SeriesPoint(value: .sum(value), exemplars: exemplars?.collect(view.reader) ?? [])
    }
}

/// Counts what grows and shrinks, such as records in flight. Adding takes neither a lock nor memory, on any thread.
public final class UpDownCounter: Series {
    private let total = Atomic<Int64>(0)

    /// Made by ``Meter/upDownCounter(_:_:)``.
    init() {}

    /// Adds `amount`, which may be negative. What is taken away must have been added to the same handle.
    public func add(_ amount: Int64) { total.wrappingAdd(amount, ordering: .relaxed) }

    /// The sum so far.
    public var current: Int64 { total.load(ordering: .relaxed) }

    func point(for view: CollectionView) -> SeriesPoint? { SeriesPoint(value: .sum(current)) }
}

/// Holds the last value set. It has no point until then. Setting takes neither a lock nor memory, on any thread.
public final class Gauge: Series {
    private let last = Atomic<Double>(.nan)

    /// Made by ``Meter/gauge(_:_:)``.
    init() {}

    /// Sets the value; NaN takes the point away.
    public func set(_ value: Double) { last.store(value, ordering: .relaxed) }

    /// The last value set; nil if there is none.
    public var current: Double? {
        let value = last.load(ordering: .relaxed)
        return value.isNaN ? nil : value
    }

    func point(for view: CollectionView) -> SeriesPoint? { current.map { SeriesPoint(value: .gauge($0)) } }
}
