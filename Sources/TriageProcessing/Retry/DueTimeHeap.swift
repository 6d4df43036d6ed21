internal import HeapModule
public import TriageEvents

/// Items that wait for their time: the one due first comes out first, whatever came in first.
///
/// A wait of one second never queues behind one of sixty. Items due at the same time leave in the order they came.
public struct DueTimeHeap<Item> {
    private struct Entry: Comparable {
        let due: Timestamp
        let sequence: Int
        let item: Item

        static func < (left: Entry, right: Entry) -> Bool {
            left.due == right.due ? left.sequence < right.sequence : left.due < right.due
        }
        static func == (left: Entry, right: Entry) -> Bool { left.sequence == right.sequence }
    }
    private var heap = Heap<Entry>()
    private var sequence = 0

    /// An empty heap.
    public init() {}

    /// How many items wait.
    public var count: Int { heap.count }
    /// When the first item is due.
    public var nextDue: Timestamp? { heap.min?.due }

    /// Lets an item wait until `due`.
    public mutating func insert(_ item: Item, due: Timestamp) {
        heap.insert(Entry(due: due, sequence: sequence, item: item))
        sequence += 1
    }

    /// Takes out the first item if it is due.
    public mutating func popDue(at now: Timestamp) -> (item: Item, due: Timestamp)? {
        guard let first = heap.min, first.due <= now else { return nil }
        heap.removeMin()
        return (first.item, first.due)
    }

    /// Takes out every item that `shouldRemove` names.
    public mutating func remove(where shouldRemove: (Item) -> Bool) -> [Item] {
        var removed: [Item] = []
        var kept: [Entry] = []
        for entry in heap.unordered {
            if shouldRemove(entry.item) { removed.append(entry.item) } else { kept.append(entry) }
        }
        if !removed.isEmpty { heap = Heap(kept) }
        return removed
    }
}
