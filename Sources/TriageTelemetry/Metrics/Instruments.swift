internal import Synchronization
public import TriageEvents

/// One metric's value for one set of attributes, as the meter collects it.
protocol Series: AnyObject, Sendable {
    /// The value now; nil if there is none yet.
    var value: MetricData.Value? { get }
}

/// Counts what only grows. Adding takes neither a lock nor memory, on any thread; about 2 ns, 11 when two threads add.
public final class Counter: Series {
    private let total = Atomic<Int64>(0)

    /// Made by ``Meter/counter(_:_:)``.
    init() {}

    /// Adds `amount`, which must not be negative; a negative one is ignored.
    public func add(_ amount: Int64 = 1) {
        assert(amount >= 0, "a counter only grows")
        guard amount > 0 else { return }
        total.wrappingAdd(amount, ordering: .relaxed)
    }

    /// What was added so far.
    public var current: Int64 { total.load(ordering: .relaxed) }

    var value: MetricData.Value? { .sum(current) }
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

    var value: MetricData.Value? { .sum(current) }
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

    var value: MetricData.Value? { current.map { .gauge($0) } }
}

/// Counts values in buckets. Recording takes neither a lock nor memory, on any thread; about 5 ns, 40 when two threads record.
///
/// Bucket *i* holds the values in (boundary *i* − 1, boundary *i*]; the last one those above all boundaries (specification,
/// metrics/sdk, explicit bucket histogram).
///
/// `@unchecked Sendable`: the counts lie behind a pointer because an array can't hold atomics. The pointer and the number of
/// counts never change, the memory lives as long as the object, which alone frees it, and each count is only touched by
/// atomic operations; any thread may call any method.
public final class Histogram: Series, @unchecked Sendable {
    private let boundaries: [Double]
    private let counts: UnsafeMutablePointer<Atomic<UInt64>>
    private let sum = Atomic<Double>(0)
    private let minimum = Atomic<Double>(.infinity)
    private let maximum = Atomic<Double>(-.infinity)

    /// Made by ``Meter/histogram(_:_:)``. The boundaries must ascend.
    init(boundaries: [Double]) {
        self.boundaries = boundaries
        counts = .allocate(capacity: boundaries.count + 1)
        for bucket in 0...boundaries.count { (counts + bucket).initialize(to: Atomic(0)) }
    }

    deinit {
        counts.deinitialize(count: boundaries.count + 1)
        counts.deallocate()
    }

    /// Records `value` in the metric's unit. Infinite ones and NaN are ignored; negative ones, which only a corrected wall
    /// clock can bring about, count as 0.
    public func record(_ value: Double) {
        guard value.isFinite else { return }
        let value = value > 0 ? value : 0
        Histogram.update(sum) { $0 + value }
        if value < minimum.load(ordering: .relaxed) { Histogram.update(minimum) { min($0, value) } }
        if value > maximum.load(ordering: .relaxed) { Histogram.update(maximum) { max($0, value) } }
        // Last, and releasing: who sees the count sees the value in the sum and the extremes, too.
        counts[bucket(of: value)].wrappingAdd(1, ordering: .releasing)
    }

    /// Records the time between two points in seconds.
    public func record(from start: Timestamp, to end: Timestamp) {
        record(Double(end.nanoseconds &- start.nanoseconds) / 1e9)
    }

    /// The index of the first boundary that is not less than `value`, by halving.
    @inline(__always)
    private func bucket(of value: Double) -> Int {
        boundaries.withUnsafeBufferPointer { boundaries in
            var low = 0
            var count = boundaries.count
            while count > 0 {
                let half = count / 2
                if boundaries[low + half] < value {
                    low += half + 1
                    count -= half + 1
                } else {
                    count = half
                }
            }
            return low
        }
    }

    @inline(__always)
    private static func update(_ atomic: borrowing Atomic<Double>, _ change: (Double) -> Double) {
        var current = atomic.load(ordering: .relaxed)
        while true {
            let (exchanged, original) = atomic.weakCompareExchange(
                expected: current, desired: change(current), ordering: .relaxed)
            if exchanged { return }
            current = original
        }
    }

    /// The counts, their sum and the extremes. The extremes are 0 while nothing is recorded.
    var value: MetricData.Value? {
        var buckets: [UInt64] = []
        buckets.reserveCapacity(boundaries.count + 1)
        var count: UInt64 = 0
        for bucket in 0...boundaries.count {
            let found = counts[bucket].load(ordering: .acquiring)
            buckets.append(found)
            count &+= found
        }
        guard count > 0 else { return .histogram(counts: buckets, sum: 0, count: 0, minimum: 0, maximum: 0) }
        return .histogram(
            counts: buckets, sum: sum.load(ordering: .relaxed), count: count,
            minimum: minimum.load(ordering: .relaxed), maximum: maximum.load(ordering: .relaxed))
    }
}
