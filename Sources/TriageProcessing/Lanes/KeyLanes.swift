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
public struct KeyLanes<Item> {
    private var lanes: [LaneKey: Deque<Item>] = [:]
    private var ready = Deque<(key: LaneKey, item: Item)>()
    /// Items waiting, ready ones included.
    public private(set) var waiting = 0

    /// No lanes.
    public init() {}

    /// Whether an item can be handed out now.
    public var hasReady: Bool { !ready.isEmpty }
    /// Lanes that have an item out or ready.
    public var activeKeys: Int { lanes.count }

    /// Puts an item at the end of its key's lane.
    public mutating func enqueue(_ item: Item, key: LaneKey) {
        waiting += 1
        if lanes[key]?.append(item) == nil {
            lanes[key] = Deque()
            ready.append((key, item))
        }
    }

    /// Puts an item before the others of its key's lane, but behind the last one that `mustPrecede` it, and behind one that is
    /// handed out or next to be.
    public mutating func enqueueFirst(_ item: Item, key: LaneKey, after mustPrecede: (Item) -> Bool) {
        guard let index = lanes.index(forKey: key) else {
            enqueue(item, key: key)
            return
        }
        waiting += 1
        let position = lanes.values[index].lastIndex(where: mustPrecede).map { $0 + 1 } ?? 0
        lanes.values[index].insert(item, at: position)
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
        guard let index = lanes.index(forKey: key) else { return }
        if let next = lanes.values[index].popFirst() {
            ready.append((key, next))
        } else {
            lanes.remove(at: index)
        }
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
        for key in Array(lanes.keys) {
            guard let lane = lanes[key], !lane.isEmpty else { continue }
            removed += lane.filter(shouldRemove)
            lanes[key] = Deque(lane.filter { !shouldRemove($0) })
        }
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
}
