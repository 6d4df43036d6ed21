internal import DequeModule

/// The key of a lane: a seeded 64-bit hash of the record key's bytes.
///
/// Two keys that collide share a lane. That costs them parallelism, nothing else: order within each key still holds.
public struct LaneKey: Hashable, Sendable {
    let value: UInt64

    /// The lane of this hash.
    public init(_ value: UInt64) { self.value = value }

    /// Hashes only the value, which is a hash already.
    public func hash(into hasher: inout Hasher) { hasher.combine(value) }

    /// The standard library's way to leave out SipHash, which a seeded hash needs no more: 40 ns a lookup.
    public func _rawHashValue(seed: Int) -> Int { Int(truncatingIfNeeded: value) ^ seed }
}

/// Per-patient lanes: items of one key are handed out one at a time, in order; different keys at the same time.
///
/// Fair: when a lane is free again its next item goes behind everything that is ready, so a key with many items can't
/// starve others. A key's lane exists only while it has an item out or waiting.
///
/// Lanes and the items that wait in them are nodes of two arrays, chained by their numbers, whose free ones are used again: once
/// as many were in flight as ever are, nothing is allocated.
public struct KeyLanes<Item> {
    private struct Lane {
        var first: Int32
        var last: Int32
        /// Items that wait behind the one that is out or ready.
        var count: Int32
    }
    private struct Node {
        var item: Item?
        var next: Int32
    }
    private static var none: Int32 { -1 }

    private var table = LaneTable()
    private var lanes: [Lane] = []
    private var freeLane = none
    private var nodes: [Node] = []
    private var freeNode = none
    private var ready = Deque<(key: LaneKey, item: Item)>()
    /// Items waiting, ready ones included.
    public private(set) var waiting = 0

    /// No lanes.
    public init() {}

    /// Whether an item can be handed out now.
    public var hasReady: Bool { !ready.isEmpty }
    /// Lanes that have an item out or ready.
    public var activeKeys: Int { table.count }

    /// How many items wait in a key's lane behind the one that is out or ready.
    public func count(behind key: LaneKey) -> Int { table[key].map { Int(lanes[Int($0)].count) } ?? 0 }

    /// Puts an item at the end of its key's lane.
    ///
    /// - Returns: how many items wait in the lane behind the one that is out or ready.
    @discardableResult
    public mutating func enqueue(_ item: Item, key: LaneKey) -> Int {
        waiting += 1
        let (lane, isNew) = self.lane(of: key)
        if isNew {
            ready.append((key, item))
            return 0
        }
        insert(item, into: lane, after: lanes[lane].last)
        return Int(lanes[lane].count)
    }

    /// Puts an item before the others of its key's lane, but behind the last one that `mustPrecede` it, and behind one that is
    /// handed out or next to be.
    public mutating func enqueueFirst(_ item: Item, key: LaneKey, after mustPrecede: (Item) -> Bool) {
        waiting += 1
        let (lane, isNew) = self.lane(of: key)
        if isNew {
            ready.append((key, item))
            return
        }
        var before = KeyLanes.none
        var node = lanes[lane].first
        while node >= 0 {
            if let other = nodes[Int(node)].item, mustPrecede(other) { before = node }
            node = nodes[Int(node)].next
        }
        insert(item, into: lane, after: before)
    }

    /// Hands out the next item; its lane stays occupied until ``finished(_:)``.
    public mutating func next() -> (key: LaneKey, item: Item)? {
        guard let first = ready.popFirst() else { return nil }
        waiting -= 1
        return first
    }

    /// Hands out the first item that is preferred, else the next. Takes time with the number of lanes that are ready.
    public mutating func next(preferring isPreferred: (Item) -> Bool) -> (key: LaneKey, item: Item)? {
        guard let index = ready.firstIndex(where: { isPreferred($0.item) }) else { return next() }
        waiting -= 1
        return ready.remove(at: index)
    }

    /// Frees the lane of an item that was handed out.
    public mutating func finished(_ key: LaneKey) {
        guard let number = table[key] else { return }
        let lane = Int(number)
        let node = lanes[lane].first
        guard node >= 0 else {
            table.remove(key)
            lanes[lane].first = freeLane
            freeLane = number
            return
        }
        lanes[lane].first = nodes[Int(node)].next
        if lanes[lane].first < 0 { lanes[lane].last = KeyLanes.none }
        lanes[lane].count -= 1
        if let item = free(node) { ready.append((key, item)) }
    }

    /// Puts an item that was handed out back to the head of its lane: nothing behind it in the lane comes before it. Lanes
    /// that are ready already go first.
    public mutating func putBack(_ item: Item, key: LaneKey) {
        waiting += 1
        ready.append((key, item))
    }

    /// Takes out every waiting item that `shouldRemove` names, keeping the order of the others.
    ///
    /// - Returns: the items taken out.
    public mutating func remove(where shouldRemove: (Item) -> Bool) -> [Item] {
        var removed: [Item] = []
        for lane in table.values { removed += remove(from: Int(lane), where: shouldRemove) }
        let before = ready
        ready.removeAll()
        var freed: [LaneKey] = []
        for entry in before {
            if shouldRemove(entry.item) {
                removed.append(entry.item)
                freed.append(entry.key)
            } else {
                ready.append(entry)
            }
        }
        for key in freed { finished(key) }
        waiting -= removed.count
        return removed
    }

    // MARK: Nodes

    /// The lane of a key, a new one if it has none.
    @inline(__always)
    private mutating func lane(of key: LaneKey) -> (lane: Int, isNew: Bool) {
        let slot = table.slot(of: key)
        if let known = table.value(at: slot) { return (Int(known), false) }
        let lane = Lane(first: KeyLanes.none, last: KeyLanes.none, count: 0)
        var number = freeLane
        if number >= 0 {
            freeLane = lanes[Int(number)].first
            lanes[Int(number)] = lane
        } else {
            number = Int32(truncatingIfNeeded: lanes.count)
            lanes.append(lane)
        }
        table.fill(slot, key: key, value: number)
        return (Int(number), true)
    }

    private mutating func insert(_ item: Item, into lane: Int, after before: Int32) {
        let next = before >= 0 ? nodes[Int(before)].next : lanes[lane].first
        let number: Int32
        if freeNode >= 0 {
            number = freeNode
            freeNode = nodes[Int(number)].next
            nodes[Int(number)] = Node(item: item, next: next)
        } else {
            number = Int32(truncatingIfNeeded: nodes.count)
            nodes.append(Node(item: item, next: next))
        }
        if before >= 0 { nodes[Int(before)].next = number } else { lanes[lane].first = number }
        if next < 0 { lanes[lane].last = number }
        lanes[lane].count += 1
    }

    private mutating func free(_ node: Int32) -> Item? {
        let item = nodes[Int(node)].item.take()
        nodes[Int(node)].next = freeNode
        freeNode = node
        return item
    }

    private mutating func remove(from lane: Int, where shouldRemove: (Item) -> Bool) -> [Item] {
        var removed: [Item] = []
        var last = KeyLanes.none
        var node = lanes[lane].first
        while node >= 0 {
            let next = nodes[Int(node)].next
            if let item = nodes[Int(node)].item, shouldRemove(item) {
                if last >= 0 { nodes[Int(last)].next = next } else { lanes[lane].first = next }
                lanes[lane].count -= 1
                _ = free(node)
                removed.append(item)
            } else {
                last = node
            }
            node = next
        }
        lanes[lane].last = last
        return removed
    }
}
