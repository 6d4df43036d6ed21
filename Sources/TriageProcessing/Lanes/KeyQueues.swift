internal import DequeModule

/// Where a record stands in the order of its key's events.
public struct QueuePlace: Sendable, Hashable {
    /// The origin's topic partition, numbered by the caller.
    public let source: Int
    /// The origin's offset: decides within a topic partition.
    public let offset: Int64
    /// The origin's time in nanoseconds: decides between topics. What has none came first.
    public let time: Int64

    /// A place.
    public init(source: Int, offset: Int64, time: Int64) {
        self.source = source
        self.offset = offset
        self.time = time
    }

    /// Whether this record's turn is before that of `other`, the offsets deciding within a topic partition.
    func precedes(_ other: QueuePlace) -> Bool {
        source == other.source ? offset < other.offset : (time, source) < (other.time, other.source)
    }
}

/// Names an open retry of ``KeyQueues``; never used again once that is closed.
public struct OpenID: Hashable, Sendable {
    let slot: Int32
    let generation: Int32
}

/// The open retries of every blocked key, in the order of their origins (design §3, Order).
///
/// A key is blocked from the moment that a retry record of it is being produced until the last one is completed or
/// dead-lettered. Within a topic partition the origin's offset decides who is next, between topics the time of the origin, never
/// the place in the retry topic. Only the head of a key's queue may run, and only when it is at hand: its record was read, and
/// main has redelivered everything before its origin.
public struct KeyQueues<Item> {
    private enum State { case away, barred, atHand }
    private struct Entry {
        var generation: Int32 = 0
        var key = LaneKey(0)
        var place = QueuePlace(source: 0, offset: 0, time: 0)
        var state = State.away
        /// It never comes to hand: it holds up what is behind it until it is closed.
        var isHold = false
        var item: Item?
    }
    /// The open retries of one key from one topic partition, by offset.
    private struct Queue {
        let source: Int
        var slots: Deque<Int32>
    }
    private var entries: [Entry] = []
    private var freeSlots: [Int32] = []
    private var keys: [LaneKey: [Queue]] = [:]
    /// Barred entries by source; rare, and only after an assignment.
    private var barred: [Int: [Int32]] = [:]
    /// Retries that are open.
    public private(set) var count = 0
    /// How many of them are holds.
    private var holds = 0

    /// Nothing is blocked.
    public init() {}

    /// Whether no key is blocked.
    public var isEmpty: Bool { count == 0 }
    /// Keys that are blocked.
    public var blockedKeys: Int { keys.count }
    /// Whether retries wait for main to redeliver what lies before them.
    public var hasBarred: Bool { !barred.isEmpty }

    /// A retry of `key` is open from now on; it isn't at hand yet.
    ///
    /// - Parameter isHold: it isn't a retry, but stands for one that was given up, and holds up what is behind it; a retry at the same
    ///   place comes before it.
    public mutating func open(_ item: Item, key: LaneKey, place: QueuePlace, isHold: Bool = false) -> OpenID {
        let slot: Int32
        if let reused = freeSlots.popLast() {
            slot = reused
        } else {
            slot = Int32(truncatingIfNeeded: entries.count)
            entries.append(Entry())
        }
        let index = Int(slot)
        entries[index].key = key
        entries[index].place = place
        entries[index].state = .away
        entries[index].isHold = isHold
        if isHold { holds += 1 }
        entries[index].item = item
        insert(slot, key, place, isHold)
        count += 1
        return OpenID(slot: slot, generation: entries[index].generation)
    }

    /// The item of an open retry; nil if it is closed.
    public subscript(id: OpenID) -> Item? { isOpen(id) ? entries[Int(id.slot)].item : nil }

    /// Its record was read.
    ///
    /// - Parameter isBarred: main hasn't redelivered everything before its origin yet.
    /// - Returns: what may run now: itself, or another one that waited for a hold which it has come before.
    public mutating func arrived(_ id: OpenID, isBarred: Bool = false) -> OpenID? {
        guard isOpen(id) else { return nil }
        entries[Int(id.slot)].state = isBarred ? .barred : .atHand
        if isBarred { barred[entries[Int(id.slot)].place.source, default: []].append(id.slot) }
        if mayRun(id) { return id }
        return holds > 0 ? runnable(entries[Int(id.slot)].key) : nil
    }

    /// It failed again or is written anew: not at hand until the next record of it is read.
    public mutating func left(_ id: OpenID) {
        guard isOpen(id) else { return }
        unbar(id.slot)
        entries[Int(id.slot)].state = .away
    }

    /// It is done, or given up: its key's next may be freed.
    ///
    /// - Returns: the one that may run now.
    public mutating func close(_ id: OpenID) -> OpenID? {
        guard isOpen(id) else { return nil }
        let key = entries[Int(id.slot)].key
        remove(id.slot)
        return runnable(key)
    }

    /// Main has delivered everything of `source` before `position`.
    ///
    /// - Returns: those that may run now.
    public mutating func advance(_ source: Int, to position: Int64) -> [OpenID] {
        guard let waiting = barred[source] else { return [] }
        var still: [Int32] = []
        var freed: [Int32] = []
        for slot in waiting {
            guard entries[Int(slot)].state == .barred else { continue }
            if entries[Int(slot)].place.offset < position { freed.append(slot) } else { still.append(slot) }
        }
        barred[source] = still.isEmpty ? nil : still
        for slot in freed { entries[Int(slot)].state = .atHand }
        return freed.map { OpenID(slot: $0, generation: entries[Int($0)].generation) }.filter { mayRun($0) }
    }

    /// Whether it is the head of its key's queue and at hand.
    public func mayRun(_ id: OpenID) -> Bool {
        isOpen(id) && entries[Int(id.slot)].state == .atHand && head(entries[Int(id.slot)].key) == id.slot
    }

    /// Whether the first of its key's queue is a hold, behind which it waits.
    public func isHeld(_ id: OpenID) -> Bool {
        guard isOpen(id), !entries[Int(id.slot)].isHold, let first = head(entries[Int(id.slot)].key) else { return false }
        return entries[Int(first)].isHold
    }

    /// The item that a record of `key`, one that isn't open itself, has to wait for; nil if it may be handled now.
    public func blocker(of key: LaneKey, at place: QueuePlace) -> Item? {
        guard let queues = keys[key], let head = head(queues) else { return nil }
        if entries[Int(head)].place.precedes(place) { return entries[Int(head)].item }
        for queue in queues {
            guard let first = queue.slots.first, entries[Int(first)].place.precedes(place) else { continue }
            return entries[Int(first)].item
        }
        return nil
    }

    /// Gives those that `shouldMove` names another place in their queues: it was learnt late where they belong. Goes through all.
    ///
    /// - Returns: what may run now.
    public mutating func move(to source: Int, _ offset: Int64, where shouldMove: (Item) -> Bool) -> [OpenID] {
        var moved: [LaneKey] = []
        for slot in entries.indices {
            let entry = entries[slot]
            guard let item = entry.item, !entry.isHold, entry.place.source != source || entry.place.offset != offset,
                shouldMove(item)
            else { continue }
            let number = Int32(truncatingIfNeeded: slot)
            detach(number)
            unbar(number)
            entries[slot].place = QueuePlace(source: source, offset: offset, time: entry.place.time)
            if entry.state == .barred { barred[source, default: []].append(number) }
            insert(number, entry.key, entries[slot].place, false)
            moved.append(entry.key)
        }
        return moved.compactMap { runnable($0) }
    }

    /// Closes those that `shouldRemove` names.
    ///
    /// - Returns: the items, and what may run now.
    public mutating func remove(where shouldRemove: (Item) -> Bool) -> (items: [Item], runnable: [OpenID]) {
        var items: [Item] = []
        var touched: [LaneKey] = []
        var gone: Set<Int32> = []
        for slot in entries.indices {
            guard let item = entries[slot].item, shouldRemove(item) else { continue }
            items.append(item)
            gone.insert(Int32(truncatingIfNeeded: slot))
            if touched.last != entries[slot].key { touched.append(entries[slot].key) }
        }
        if items.count == count {
            // Everything goes, as when a consumer stops: nothing needs to be looked for.
            keys.removeAll()
            barred.removeAll()
            for slot in gone.sorted(by: >) { free(slot) }
            return (items, [])
        }
        // Each queue is gone through once, however long it is.
        touched = Array(Set(touched)).sorted { $0.value < $1.value }
        for key in touched {
            guard var queues = keys.removeValue(forKey: key) else { continue }
            for index in queues.indices { queues[index].slots.removeAll { gone.contains($0) } }
            queues.removeAll { $0.slots.isEmpty }
            if !queues.isEmpty { keys[key] = queues }
        }
        barred = barred.compactMapValues { slots in
            let left = slots.filter { !gone.contains($0) }
            return left.isEmpty ? nil : left
        }
        for slot in gone.sorted(by: >) { free(slot) }
        return (items, touched.compactMap { runnable($0) })
    }

    // MARK: Queues

    private func isOpen(_ id: OpenID) -> Bool {
        entries.indices.contains(Int(id.slot)) && entries[Int(id.slot)].generation == id.generation
            && entries[Int(id.slot)].item != nil
    }

    /// Whether what is in a slot comes before a new one of the same topic partition.
    private func stays(_ slot: Int32, before place: QueuePlace, _ isHold: Bool) -> Bool {
        let other = entries[Int(slot)].place.offset
        return other < place.offset || (other == place.offset && (isHold || !entries[Int(slot)].isHold))
    }

    private mutating func insert(_ slot: Int32, _ key: LaneKey, _ place: QueuePlace, _ isHold: Bool) {
        guard let index = keys[key]?.firstIndex(where: { $0.source == place.source }) else {
            keys[key, default: []].append(Queue(source: place.source, slots: [slot]))
            return
        }
        // Nearly always the last: what is parked comes in order. In place, so that a long queue isn't copied.
        if let last = keys[key]?[index].slots.last, stays(last, before: place, isHold) {
            keys[key]?[index].slots.append(slot)
            return
        }
        var low = 0
        var high = keys[key]?[index].slots.count ?? 0
        while low < high {
            let middle = (low + high) / 2
            let isBefore = keys[key].map { stays($0[index].slots[middle], before: place, isHold) } ?? false
            if isBefore { low = middle + 1 } else { high = middle }
        }
        keys[key]?[index].slots.insert(slot, at: low)
    }

    private mutating func remove(_ slot: Int32) {
        detach(slot)
        unbar(slot)
        free(slot)
    }

    /// Takes it out of its key's queue.
    private mutating func detach(_ slot: Int32) {
        let entry = entries[Int(slot)]
        if let index = keys[entry.key]?.firstIndex(where: { $0.source == entry.place.source }) {
            if keys[entry.key]?[index].slots.first == slot {
                keys[entry.key]?[index].slots.removeFirst()
            } else {
                keys[entry.key]?[index].slots.removeAll { $0 == slot }
            }
            if keys[entry.key]?[index].slots.isEmpty == true { keys[entry.key]?.remove(at: index) }
            if keys[entry.key]?.isEmpty == true { keys[entry.key] = nil }
        }
    }

    private mutating func unbar(_ slot: Int32) {
        let entry = entries[Int(slot)]
        guard entry.state == .barred else { return }
        barred[entry.place.source]?.removeAll { $0 == slot }
        if barred[entry.place.source]?.isEmpty == true { barred[entry.place.source] = nil }
    }

    private mutating func free(_ slot: Int32) {
        if entries[Int(slot)].isHold { holds -= 1 }
        entries[Int(slot)].isHold = false
        entries[Int(slot)].item = nil
        entries[Int(slot)].generation &+= 1
        freeSlots.append(slot)
        count -= 1
    }

    private func head(_ key: LaneKey) -> Int32? { keys[key].flatMap { head($0) } }

    /// Of the first of each topic partition the earliest.
    private func head(_ queues: [Queue]) -> Int32? {
        var best: Int32?
        for queue in queues {
            guard let first = queue.slots.first else { continue }
            guard let known = best else {
                best = first
                continue
            }
            if entries[Int(first)].place.precedes(entries[Int(known)].place) { best = first }
        }
        return best
    }

    private func runnable(_ key: LaneKey) -> OpenID? {
        guard let slot = head(key), entries[Int(slot)].state == .atHand else { return nil }
        return OpenID(slot: slot, generation: entries[Int(slot)].generation)
    }
}
