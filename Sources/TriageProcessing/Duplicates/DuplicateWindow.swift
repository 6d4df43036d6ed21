public import TriageEvents

/// What makes two events the same: a seeded 128-bit hash of event id, version id, resource id and action.
///
/// That two different events collide among a million remembered ones has a chance of about 10⁻²⁷ for each; the seed keeps
/// outsiders from making it happen.
public struct EventIdentity: Sendable, Hashable {
    let high: UInt64
    let low: UInt64

    /// An identity of these hashes.
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// The identity of `event`; nil if it has no event id, which nothing can be told by.
    ///
    /// The resource and the action count as well: a producer whose event ids are unique for one patient only loses nothing.
    public init?(_ event: PatientEvent, seed: UInt64) {
        guard let id = event.eventIDBytes, !id.isEmpty else { return nil }
        let version = event.versionIDBytes
        let resource = event.resourceIDBytes
        // Seeds that are far apart: a hash takes in the bytes by adding them up with the seed without carry, so seeds next to each
        // other and texts that differ in one bit would give one sum.
        let action: UInt64 =
            switch event.action {
            case .created: 0x8CB9_2BA7_2F3D_8DD7
            case .updated: 0x4C95_7F2D_5851_F42D
            case .deleted: 0xDA94_2042_E4DD_58B5
            }
        func hash(_ seed: UInt64) -> UInt64 {
            var value = id.hash64(seed: seed &+ action)
            value = version.map { $0.hash64(seed: value ^ 0x2545_F491_4F6C_DD1D) } ?? value
            return resource.map { $0.hash64(seed: value ^ 0xA24B_AED4_963E_E407) } ?? value
        }
        self.init(high: hash(seed), low: hash(~seed &* 0x9E37_79B9_7F4A_7C15))
    }
}

/// The events that were completed last, each with what a duplicate's span tells of it: a pure machine of bounded size.
///
/// It forgets the one that was noted first when a new one needs its place. It needs at most ``bytesPerEvent`` bytes for each
/// event it may hold, in two blocks that are reserved when it is made.
public struct DuplicateWindow {
    /// The first completion of an event.
    public struct Completion: Sendable, Hashable {
        /// Where the event was delivered first.
        public let origin: Origin
        /// The process span that completed it, without its `tracestate`.
        public let span: TraceContext

        /// The completion of the event from `origin` in `span`.
        public init(origin: Origin, span: TraceContext) {
            self.origin = origin
            self.span = span
        }
    }

    /// A position whose topic is a number, so that it takes no more than two words.
    public struct Origin: Sendable, Hashable {
        /// Which topic.
        public let topic: Int16
        /// The partition's number.
        public let partition: Int32
        /// The record's offset.
        public let offset: Int64

        /// The position of these.
        public init(topic: Int16, partition: Int32, offset: Int64) {
            self.topic = topic
            self.partition = partition
            self.offset = offset
        }
    }

    /// As small as it can be: without padding between its words, and without a `tracestate`, whose size nobody bounds.
    private struct Entry {
        let identity: EventIdentity
        let topic: Int16
        let flags: TraceFlags
        let partition: Int32
        let offset: Int64
        let traceID: TraceID
        let spanID: SpanID

        init(_ identity: EventIdentity, _ completion: Completion) {
            self.identity = identity
            topic = completion.origin.topic
            flags = completion.span.flags
            partition = completion.origin.partition
            offset = completion.origin.offset
            traceID = completion.span.traceID
            spanID = completion.span.spanID
        }

        var completion: Completion {
            Completion(
                origin: Origin(topic: topic, partition: partition, offset: offset),
                span: TraceContext(traceID: traceID, spanID: spanID, flags: flags)
            )
        }
    }

    /// Events that it may hold at most: 10,000,000.
    public static let maximumCapacity = 10_000_000
    /// Bytes for each event that it may hold: its entry, and at most four places of four bytes in the table that finds it.
    public static var bytesPerEvent: Int { MemoryLayout<Entry>.stride + 16 }

    /// How many events it holds at most.
    public let capacity: Int
    private var entries: ContiguousArray<Entry> = []
    /// Where the next event goes once all places are taken.
    private var oldest = 0
    /// Open addressing with linear probing: the place of an entry plus 1, or 0.
    private var table: ContiguousArray<UInt32>
    private let mask: Int

    /// A window of `capacity` events, 1 to ``maximumCapacity``.
    public init(capacity: Int) {
        self.capacity = min(max(1, capacity), DuplicateWindow.maximumCapacity)
        // At most half full, so that few places are looked at.
        var places = 4
        while places < 2 * self.capacity { places *= 2 }
        mask = places - 1
        table = ContiguousArray(repeating: 0, count: places)
        entries.reserveCapacity(self.capacity)
    }

    /// How many events it holds.
    public var count: Int { entries.count }
    /// Bytes that it has reserved.
    public var bytes: Int { entries.capacity * MemoryLayout<Entry>.stride + table.capacity * MemoryLayout<UInt32>.stride }

    /// The first completion of the event, if it is still remembered.
    public func completion(of identity: EventIdentity) -> Completion? {
        place(of: identity).map { entries[Int(table[$0]) - 1].completion }
    }

    /// Remembers that an event was completed. If it is remembered already, the first completion stays.
    public mutating func completed(_ identity: EventIdentity, _ completion: Completion) {
        guard place(of: identity) == nil else { return }
        let entry = Entry(identity, completion)
        let slot: Int
        if entries.count < capacity {
            slot = entries.count
            entries.append(entry)
        } else {
            slot = oldest
            oldest = oldest + 1 == capacity ? 0 : oldest + 1
            forget(entries[slot].identity)
            entries[slot] = entry
        }
        var place = home(identity)
        while table[place] != 0 { place = (place + 1) & mask }
        table[place] = UInt32(truncatingIfNeeded: slot + 1)
    }

    @inline(__always)
    private func home(_ identity: EventIdentity) -> Int { Int(truncatingIfNeeded: identity.low) & mask }

    private func place(of identity: EventIdentity) -> Int? {
        var place = home(identity)
        while table[place] != 0 {
            if entries[Int(table[place]) - 1].identity == identity { return place }
            place = (place + 1) & mask
        }
        return nil
    }

    /// Takes an entry out of the table; those behind it in its run move up, so that no gap hides them (Knuth, The Art of
    /// Computer Programming, volume 3, section 6.4, algorithm R).
    private mutating func forget(_ identity: EventIdentity) {
        guard var gap = place(of: identity) else { return }
        var next = gap
        while true {
            next = (next + 1) & mask
            guard table[next] != 0 else { break }
            let wanted = home(entries[Int(table[next]) - 1].identity)
            // Whether the entry's home lies cyclically behind the gap and up to its place: then it stays.
            let stays = gap <= next ? gap < wanted && wanted <= next : gap < wanted || wanted <= next
            if !stays {
                table[gap] = table[next]
                gap = next
            }
        }
        table[gap] = 0
    }
}
