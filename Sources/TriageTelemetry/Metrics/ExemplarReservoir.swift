internal import Glibc
internal import Synchronization
internal import TriageEvents

/// Keeps some measurements of one series as examples, for each reader on its own (specification, metrics/sdk, exemplar
/// reservoir).
///
/// A reader that collects at an interval gets a uniform sample of what came since its previous collection: one slot for each
/// bucket of a histogram, or a few for the whole series. The pull side, which anyone may read at any time without taking
/// anything from the next who does, keeps the latest of each bucket.
///
/// A measurement that finds another thread at work is passed over: nobody ever waits to record. The slots are allocated with
/// the first exemplar, so that series without any cost a pointer.
///
/// `@unchecked Sendable`: everything that changes is touched only by the thread that has set `gate`; setting it acquires and
/// clearing it releases.
final class ExemplarReservoir: @unchecked Sendable {
    /// How a reader's slots are used.
    enum Shape: Sendable, Hashable {
        /// One slot for each of so many buckets (AlignedHistogramBucketExemplarReservoir).
        case aligned(Int)
        /// So many slots for all (SimpleFixedSizeExemplarReservoir).
        case fixed(Int)

        var slots: Int {
            switch self {
            case .aligned(let count), .fixed(let count): max(1, count)
            }
        }
    }

    private struct Slot {
        var value = 0.0
        var time: Int64 = 0
        var traceHigh: UInt64 = 0
        var traceLow: UInt64 = 0
        var span: UInt64 = 0
        /// Measurements that could have stood here since the last reset; 0 if it is empty.
        var seen: UInt64 = 0
    }

    /// Whether measurements outside a sampled span count, too.
    let keepsAll: Bool
    private let clock: any EventClock
    private let buckets: Int
    private let readers: [Shape]
    private let gate = Atomic<Bool>(false)
    /// The latest of each bucket, then each reader's slots.
    private var slots: UnsafeMutablePointer<Slot>?
    private var random: UInt64

    /// A reservoir without examples.
    ///
    /// - Parameters:
    ///   - buckets: of the histogram; 1 for a counter.
    ///   - readers: the slots of each reader.
    ///   - seed: of the choice which measurements are kept.
    init(
        filter: ExemplarFilter, clock: any EventClock, buckets: Int, readers: [Shape],
        seed: UInt64 = .random(in: .min ... .max)
    ) {
        keepsAll = filter == .alwaysOn
        self.clock = clock
        self.buckets = max(1, buckets)
        self.readers = readers
        random = seed | 1
    }

    deinit { slots?.deallocate() }

    /// Keeps the measurement, maybe, if it was made in a span that counts.
    @inline(__always)
    func offer(_ value: Double, bucket: Int, in context: borrowing TraceContext?, at time: Timestamp?) {
        switch context {
        case .some(let context):
            guard keepsAll || context.isSampled && context.isValid else { return }
            offer(value, bucket: bucket, context.traceID, context.spanID, at: time)
        case .none:
            if keepsAll { offer(value, bucket: bucket, .none, .none, at: time) }
        }
    }

    /// Keeps the measurement, maybe.
    ///
    /// - Parameters:
    ///   - bucket: the histogram's bucket that it fell into.
    ///   - time: when it was made; nil asks the clock.
    func offer(_ value: Double, bucket: Int, _ traceID: TraceID, _ spanID: SpanID, at time: Timestamp?) {
        let time = time ?? clock.now()
        guard !gate.exchange(true, ordering: .acquiring) else { return }
        let slots = self.slots ?? allocate()
        var slot = Slot(
            value: value, time: time.nanoseconds, traceHigh: traceID.high, traceLow: traceID.low, span: spanID.value, seen: 1)
        slots[bucket] = slot
        var first = buckets
        for shape in readers {
            switch shape {
            case .aligned:
                slot.seen = slots[first + bucket].seen + 1
                if slot.seen == 1 || uniform(below: slot.seen) == 0 {
                    slots[first + bucket] = slot
                } else {
                    slots[first + bucket].seen = slot.seen
                }
            case .fixed(let count):
                // The window's first slot counts for all of them.
                let seen = slots[first].seen + 1
                let index = seen <= UInt64(count) ? seen - 1 : uniform(below: seen)
                if index < UInt64(count) {
                    slot.seen = 1
                    slots[first + Int(index)] = slot
                }
                slots[first].seen = seen
            }
            first += shape.slots
        }
        gate.store(false, ordering: .releasing)
    }

    /// The examples of a reader, which begin anew, or, for the pull side (nil), the latest, which stay.
    func collect(_ reader: Int?) -> [Exemplar] {
        while gate.exchange(true, ordering: .acquiring) { sched_yield() }
        defer { gate.store(false, ordering: .releasing) }
        guard let slots else { return [] }
        var first = 0
        var count = buckets
        if let reader {
            first = readers[..<reader].reduce(buckets) { $0 + $1.slots }
            count = readers[reader].slots
        }
        var exemplars: [Exemplar] = []
        for index in first..<first + count where slots[index].seen > 0 {
            let slot = slots[index]
            exemplars.append(
                Exemplar(
                    value: slot.value, timestamp: Timestamp(nanoseconds: slot.time),
                    traceID: TraceID(high: slot.traceHigh, low: slot.traceLow), spanID: SpanID(slot.span)))
            if reader != nil { slots[index].seen = 0 }
        }
        return exemplars
    }

    private func allocate() -> UnsafeMutablePointer<Slot> {
        let count = readers.reduce(buckets) { $0 + $1.slots }
        let slots = UnsafeMutablePointer<Slot>.allocate(capacity: count)
        slots.initialize(repeating: Slot(), count: count)
        self.slots = slots
        return slots
    }

    /// A number from 0 up to `bound`: the upper half of the product with 64 random bits (xorshift, Marsaglia 2003).
    @inline(__always)
    private func uniform(below bound: UInt64) -> UInt64 {
        random ^= random << 13
        random ^= random >> 7
        random ^= random << 17
        return bound.multipliedFullWidth(by: random).high
    }
}

extension TraceID {
    /// No trace.
    static var none: TraceID { TraceID(high: 0, low: 0) }
}

extension SpanID {
    /// No span.
    static var none: SpanID { SpanID(0) }
}
