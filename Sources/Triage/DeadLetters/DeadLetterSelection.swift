public import TriageEvents
internal import TriageProcessing

/// Which dead letters shall be replayed, discarded or opened again, in which order: some 24 bytes for each.
public struct DeadLetterSelection: Sendable {
    private struct Item {
        let topic: Int32
        let partition: Int32
        let offset: Int64
        let time: Int64
    }
    private var topics: [String] = []
    private var items: [Item] = []
    private var copiesOf: [RecordPosition: [RecordPosition]] = [:]
    /// Whether copies were looked for when it was made.
    let knowsCopies: Bool

    /// These, in this order.
    public init(_ positions: [RecordPosition]) {
        knowsCopies = false
        var seen: Set<RecordPosition> = []
        for (index, position) in positions.enumerated() where seen.insert(position).inserted {
            append(position, time: Int64(index))
        }
    }

    /// None yet, to be filled in any order: ``sort()`` puts the oldest first.
    init() { knowsCopies = true }

    /// How many there are.
    public var count: Int { items.count }
    /// Whether there are none.
    public var isEmpty: Bool { items.isEmpty }

    /// The one at `index`, 0 to ``count`` − 1.
    public subscript(index: Int) -> RecordPosition {
        let item = items[index]
        return RecordPosition(topic: topics[Int(item.topic)], partition: item.partition, offset: item.offset)
    }

    /// Further copies of one of them that are known.
    public func copies(of position: RecordPosition) -> [RecordPosition] { copiesOf[position] ?? [] }

    /// All of them, in order.
    public var positions: [RecordPosition] { items.indices.map { self[$0] } }

    /// The first so many.
    public func prefix(_ count: Int) -> DeadLetterSelection {
        var some = self
        some.items = Array(items.prefix(max(0, count)))
        return some
    }

    mutating func append(_ position: RecordPosition, time: Int64) {
        let topic = topics.firstIndex(of: position.topic) ?? topics.count
        if topic == topics.count { topics.append(position.topic) }
        items.append(Item(topic: Int32(topic), partition: position.partition, offset: position.offset, time: time))
    }

    mutating func append(copy: RecordPosition, of position: RecordPosition) { copiesOf[position, default: []].append(copy) }

    /// The oldest first; of those written at the same time by place.
    mutating func sort() {
        let names = topics
        items.sort { left, right in
            if left.time != right.time { return left.time < right.time }
            return (names[Int(left.topic)], left.partition, left.offset) < (
                names[Int(right.topic)], right.partition, right.offset
            )
        }
    }
}
