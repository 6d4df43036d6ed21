internal import Glibc
internal import Synchronization
public import TriageEvents

/// Counts values in buckets. Recording takes neither a lock nor memory, on any thread; about 9 ns, 12 with an exemplar.
///
/// Bucket *i* holds the values in (boundary *i* − 1, boundary *i*]; the last one those above all boundaries (specification,
/// metrics/sdk, explicit bucket histogram).
///
/// There are two halves: one is recorded into while the other is empty. Who collects makes them change places by flipping the
/// top bit of `begun`, waits the few nanoseconds until those who had begun in the first half are through, and adds it to what
/// each reader is owed. So every value is in exactly one collection, whole: count, buckets, sum and extremes always agree.
///
/// `@unchecked Sendable`: the counts lie behind pointers because an array can't hold atomics. The pointers and the numbers of
/// counts never change, the memory lives as long as the object, which alone frees it, and each number behind them is only
/// touched by atomic operations; any thread may call any method.
public final class Histogram: Series, @unchecked Sendable {
    private static let flip: UInt64 = 1 << 63

    private let boundaries: [Double]
    private let exemplars: ExemplarReservoir?
    private let keepsAll: Bool
    private let exponential: ExponentialSeries?
    /// How many records have begun; the top bit says in which half they do.
    private let begun = Atomic<UInt64>(0)
    private let halves: UnsafeMutablePointer<Half>
    private let settled: Mutex<Settled>

    /// Made by ``Meter/histogram(_:_:)``. The boundaries must ascend.
    ///
    /// - Parameter readers: how each reader wants its points.
    init(boundaries: [Double], exemplars: ExemplarReservoir? = nil, readers: [MetricReaderOptions] = []) {
        self.boundaries = boundaries
        self.exemplars = exemplars
        keepsAll = exemplars?.keepsAll ?? false
        exponential =
            readers.contains { $0.histograms == .base2ExponentialBucketHistogram } ? ExponentialSeries(readers: readers) : nil
        halves = .allocate(capacity: 2)
        for half in 0..<2 { (halves + half).initialize(to: Half(buckets: boundaries.count + 1)) }
        let empty = Totals(buckets: boundaries.count + 1)
        settled = Mutex(
            Settled(
                cumulative: empty,
                windows: readers.map { options in
                    let isDelta = options.temporality.temporality(of: .histogram, isObserved: false) == .delta
                    return isDelta && options.histograms == .explicitBucketHistogram ? empty : nil
                }))
    }

    deinit {
        halves.deinitialize(count: 2)
        halves.deallocate()
    }

    /// Records `value` in the metric's unit. Infinite ones and NaN are ignored; negative ones, which only a corrected wall
    /// clock can bring about, count as 0.
    public func record(_ value: Double) {
        guard value.isFinite else { return }
        let value = value > 0 ? value : 0
        let bucket = add(value)
        if keepsAll { exemplars?.offer(value, bucket: bucket, .none, .none, at: nil) }
    }

    /// Records `value`, and maybe keeps it as an exemplar of a span.
    ///
    /// - Parameters:
    ///   - context: the span's; by default only a sampled one counts (``ExemplarFilter``).
    ///   - time: now, if it is known; nil asks the clock when it is needed.
    public func record(_ value: Double, in context: borrowing TraceContext?, at time: Timestamp? = nil) {
        guard value.isFinite else { return }
        let value = value > 0 ? value : 0
        let bucket = add(value)
        exemplars?.offer(value, bucket: bucket, in: context, at: time)
    }

    /// Records the time between two points in seconds.
    public func record(from start: Timestamp, to end: Timestamp) {
        record(Double(end.nanoseconds &- start.nanoseconds) / 1e9)
    }

    /// Counts a value and returns its bucket.
    @inline(__always)
    private func add(_ value: Double) -> Int {
        let bucket = bucket(of: value)
        // Acquiring: who is sent into a half sees that its last collector has emptied it.
        let half = halves + Int(begun.wrappingAdd(1, ordering: .acquiring).oldValue >> 63)
        Histogram.update(half.pointee.sum) { $0 + value }
        if value < half.pointee.minimum.load(ordering: .relaxed) { Histogram.update(half.pointee.minimum) { min($0, value) } }
        if value > half.pointee.maximum.load(ordering: .relaxed) { Histogram.update(half.pointee.maximum) { max($0, value) } }
        half.pointee.counts[bucket].wrappingAdd(1, ordering: .relaxed)
        half.pointee.finished.wrappingAdd(1, ordering: .releasing)
        exponential?.record(value)
        return bucket
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

    // MARK: Collection

    func point(for view: CollectionView) -> SeriesPoint? {
        if let exponential, let reader = view.reader, view.histograms == .base2ExponentialBucketHistogram {
            guard let data = exponential.collect(reader, isDelta: view.temporality == .delta) else { return nil }
            return SeriesPoint(value: .exponentialHistogram(data), exemplars: exemplars?.collect(reader) ?? [])
        }
        let totals: Totals? = settled.withLock { settled in
            drain(into: &settled)
            guard view.temporality == .delta, let reader = view.reader else { return settled.cumulative }
            guard let window = settled.windows[reader], window.count > 0 else { return nil }
            settled.windows[reader] = Totals(buckets: boundaries.count + 1)
            return window
        }
        guard let totals else { return nil }
        // The extremes are 0 while nothing is recorded.
        return SeriesPoint(
            value: .histogram(
                counts: totals.counts, sum: totals.sum, count: totals.count, minimum: totals.count > 0 ? totals.minimum : 0,
                maximum: totals.count > 0 ? totals.maximum : 0),
            exemplars: exemplars?.collect(view.reader) ?? [])
    }

    /// Moves everything that was recorded into what readers are owed. One thread at a time.
    private func drain(into settled: inout Settled) {
        let before = begun.wrappingAdd(Histogram.flip, ordering: .acquiringAndReleasing).oldValue
        let half = halves + Int(before >> 63)
        let ended = before & ~Histogram.flip
        let expected = ended &- settled.begun
        settled.begun = ended
        guard expected > 0 else { return }
        while half.pointee.finished.load(ordering: .acquiring) != expected { sched_yield() }
        let part = half.pointee.take(buckets: boundaries.count + 1)
        settled.cumulative.add(part)
        for reader in settled.windows.indices { settled.windows[reader]?.add(part) }
    }

    /// What is recorded into.
    private struct Half: ~Copyable {
        let counts: UnsafeMutablePointer<Atomic<UInt64>>
        let buckets: Int
        let sum = Atomic<Double>(0)
        let minimum = Atomic<Double>(.infinity)
        let maximum = Atomic<Double>(-.infinity)
        /// Records that are through.
        let finished = Atomic<UInt64>(0)

        init(buckets: Int) {
            self.buckets = buckets
            counts = .allocate(capacity: buckets)
            for bucket in 0..<buckets { (counts + bucket).initialize(to: Atomic(0)) }
        }

        deinit {
            counts.deinitialize(count: buckets)
            counts.deallocate()
        }

        /// Everything in it, which leaves it empty. Nobody may record into it meanwhile.
        func take(buckets: Int) -> Totals {
            var totals = Totals(buckets: buckets)
            for bucket in 0..<buckets { totals.counts[bucket] = counts[bucket].exchange(0, ordering: .relaxed) }
            totals.count = finished.exchange(0, ordering: .relaxed)
            totals.sum = sum.exchange(0, ordering: .relaxed)
            totals.minimum = minimum.exchange(.infinity, ordering: .relaxed)
            totals.maximum = maximum.exchange(-.infinity, ordering: .relaxed)
            return totals
        }
    }

    private struct Totals {
        var counts: [UInt64]
        var count: UInt64 = 0
        var sum = 0.0
        var minimum = Double.infinity
        var maximum = -Double.infinity

        init(buckets: Int) { counts = [UInt64](repeating: 0, count: buckets) }

        mutating func add(_ other: Totals) {
            for bucket in counts.indices { counts[bucket] &+= other.counts[bucket] }
            count &+= other.count
            sum += other.sum
            minimum = min(minimum, other.minimum)
            maximum = max(maximum, other.maximum)
        }
    }

    private struct Settled {
        /// Records begun before the last flip.
        var begun: UInt64 = 0
        var cumulative: Totals
        /// What came since its last collection, for each reader of deltas in explicit buckets.
        var windows: [Totals?]
    }
}

/// The exponential histograms of one series, one for each reader that asked for it. Unlike explicit buckets they change
/// shape while they are recorded, so they take a lock, uncontended about 10 ns.
private final class ExponentialSeries: Sendable {
    private let histograms: Mutex<[Base2Histogram?]>

    init(readers: [MetricReaderOptions]) {
        histograms = Mutex(readers.map { $0.histograms == .base2ExponentialBucketHistogram ? Base2Histogram() : nil })
    }

    func record(_ value: Double) {
        histograms.withLock { histograms in
            for reader in histograms.indices { histograms[reader]?.record(value) }
        }
    }

    /// The reader's histogram; a delta begins anew, and is nil if nothing came.
    func collect(_ reader: Int, isDelta: Bool) -> ExponentialHistogramData? {
        histograms.withLock { histograms in
            guard isDelta else { return histograms[reader]?.data }
            guard let count = histograms[reader]?.count, count > 0 else { return nil }
            defer { histograms[reader]?.reset() }
            return histograms[reader]?.data
        }
    }
}
