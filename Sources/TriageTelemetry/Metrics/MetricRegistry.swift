internal import Synchronization
internal import TriageEvents

/// What a meter holds of one metric.
struct MetricEntry {
    typealias Item = (attributes: MetricAttributes, start: Timestamp, handle: any Series)

    let id: Int
    let metric: Metric
    /// In the order of their attributes.
    var series: [Item] = []
    var handles: [MetricAttributes: any Series] = [:]
    var observers: [(start: Timestamp, body: Meter.Observer)] = []
    /// Removed series, and which readers of deltas haven't collected the last of them.
    var retired: [(series: Item, readers: Set<Int>)] = []
}

/// All metrics of a meter, by name. Confined to the meter's lock.
struct MetricRegistry {
    private static let rememberedNames = 100

    private var entries: [MetricEntry] = []
    /// The entries of a name as it was asked for.
    private var places: [String: [Int]] = [:]
    /// The first spelling of each name, by its lower-case form.
    private var spellings: [String: String] = [:]
    private var invalidNames: Set<String> = []

    /// Calls `body` with the entry of `metric`, made if there is none, and tells what to warn of; nil if the name is invalid.
    mutating func withEntry<Result>(
        _ metric: Metric, _ body: (inout MetricEntry) -> Result
    ) -> (Result?, warning: String?) {
        if let place = places[metric.name]?.first(where: { entries[$0].metric.isSame(as: metric) }) {
            return (body(&entries[place]), nil)
        }
        guard metric.hasValidName else {
            let isNew = invalidNames.count < MetricRegistry.rememberedNames && invalidNames.insert(metric.name).inserted
            return (
                nil, isNew ? "a metric's name is invalid, it isn't exported: \(metric.name.prefix(255).debugDescription)" : nil
            )
        }
        let folded = metric.name.lowercased()
        let name = spellings[folded] ?? metric.name
        spellings[folded] = name
        let known = places[name] ?? []
        if let place = known.first(where: { entries[$0].metric.isSame(as: metric) }) {
            places[metric.name] = known
            return (body(&entries[place]), nil)
        }
        var entry = MetricEntry(id: entries.count, metric: metric.named(name))
        let result = body(&entry)
        entries.append(entry)
        places[name] = known + [entry.id]
        places[metric.name] = places[name]
        guard !known.isEmpty else { return (result, nil) }
        return (
            result, "the metric \(name) is defined more than once, with different instruments, units or help; each is exported"
        )
    }

    /// A copy of all entries, for a reader: what was removed and is owed to it stands among their series a last time.
    mutating func entries(for reader: Int?) -> [MetricEntry] {
        guard let reader else { return entries }
        var copies = entries
        for place in entries.indices where !entries[place].retired.isEmpty {
            for index in entries[place].retired.indices where entries[place].retired[index].readers.contains(reader) {
                copies[place].series.append(entries[place].retired[index].series)
                entries[place].retired[index].readers.remove(reader)
            }
            entries[place].retired.removeAll { $0.readers.isEmpty }
            copies[place].series.sort { $0.attributes.precedes($1.attributes) }
        }
        return copies
    }
}

/// What a reader remembers from one collection to the next.
final class ReaderState: Sendable {
    private struct State {
        var previous: Timestamp?
        /// Of each observed metric, the sets that have a place of their own, and the last total of each.
        var known: [Int: [MetricAttributes: MetricData.Value]] = [:]
    }

    private let state = Mutex(State())

    /// Notes a collection and returns the time of the one before.
    func previous(at time: Timestamp) -> Timestamp? {
        state.withLock { state in
            defer { state.previous = time }
            return state.previous
        }
    }

    /// The points of `entry` with what its observers report.
    ///
    /// At most `limit` sets have a place of their own. Those that had one keep it; one that isn't reported any more gives it up
    /// only when another needs it. What finds none is added up in the overflow.
    ///
    /// - Parameters:
    ///   - points: those of the metric's other series.
    ///   - begin: where the point of an observer that was registered at a time begins.
    func observed(
        _ entry: MetricEntry, beside points: [MetricData.Point], _ temporality: Temporality, limit: Int,
        _ begin: (Timestamp) -> Timestamp
    ) -> [MetricData.Point] {
        // The observers are foreign code: they run outside the lock.
        let reports = entry.observers.map { (start: $0.start, values: $0.body()) }
        var order: [MetricAttributes] = []
        var totals: [MetricAttributes: (start: Timestamp, value: MetricData.Value)] = [:]
        for (start, values) in reports {
            for (attributes, value) in values {
                assert(entry.metric.allows(attributes), "\(entry.metric.name) has an attribute that the catalogue doesn't name")
                let before = totals[attributes]
                if before == nil { order.append(attributes) }
                totals[attributes] = (
                    before?.start ?? start, before?.value.adding(value) ?? .init(value, entry.metric.instrument)
                )
            }
        }
        var merged = Dictionary(points.map { ($0.attributes, $0) }) { $1 }
        let others = merged.keys.count { !$0.isOverflow }
        state.withLock { state in
            var known = state.known[entry.id] ?? [:]
            let placed = ReaderState.place(order, among: &known, others: others, taken: { merged[$0] != nil }, limit: limit)
            var overflow: (start: Timestamp, value: MetricData.Value)?
            func add(_ attributes: MetricAttributes, _ start: Timestamp, _ total: MetricData.Value) {
                let value = temporality == .delta ? total.difference(from: known[attributes]) : total
                known[attributes] = total
                let before = merged[attributes]
                merged[attributes] = MetricData.Point(
                    attributes: attributes, start: before?.start ?? begin(start), value: before?.value.adding(value) ?? value,
                    exemplars: before?.exemplars ?? [])
            }
            for (attributes, hasPlace) in zip(order, placed) {
                guard let (start, total) = totals[attributes] else { continue }
                if hasPlace {
                    add(attributes, start, total)
                } else {
                    overflow = (overflow?.start ?? start, overflow?.value.adding(total) ?? total)
                }
            }
            if let overflow { add(.overflow, overflow.start, overflow.value) }
            state.known[entry.id] = known
        }
        return merged.values.sorted { $0.attributes.precedes($1.attributes) }
    }

    /// Which of the reported sets have a place of their own. Makes room in `known` by forgetting what isn't reported.
    private static func place(
        _ reported: [MetricAttributes], among known: inout [MetricAttributes: MetricData.Value], others: Int,
        taken: (MetricAttributes) -> Bool, limit: Int
    ) -> [Bool] {
        var placed = reported.map { known[$0] != nil || taken($0) || $0.isOverflow }
        var used = others + known.keys.count { !taken($0) && !$0.isOverflow }
        var absent: [MetricAttributes]?
        for index in reported.indices where !placed[index] {
            if used >= limit {
                if absent == nil {
                    let present = Set(reported)
                    absent = known.keys.filter { !present.contains($0) && !taken($0) && !$0.isOverflow }
                }
                guard let leaving = absent?.popLast() else { continue }
                known[leaving] = nil
                used -= 1
            }
            placed[index] = true
            used += 1
        }
        return placed
    }
}

extension MetricData.Value {
    /// What an observer reported.
    fileprivate init(_ value: ObservedValue, _ instrument: Instrument) {
        switch (instrument, value) {
        case (.gauge, .int(let value)): self = .intGauge(value)
        case (.gauge, .double(let value)): self = .gauge(value)
        case (_, .int(let value)): self = .sum(value)
        case (_, .double(let value)): self = .doubleSum(value)
        }
    }

    /// The sum with another report; of gauges the later.
    fileprivate func adding(_ value: ObservedValue) -> MetricData.Value {
        switch self {
        case .gauge, .intGauge: adding(MetricData.Value(value, .gauge))
        default: adding(MetricData.Value(value, .counter))
        }
    }

    /// The sum with another value; of gauges the later.
    fileprivate func adding(_ other: MetricData.Value) -> MetricData.Value {
        switch (self, other) {
        case (.sum(let left), .sum(let right)): .sum(left &+ right)
        case (.sum(let left), .doubleSum(let right)): .doubleSum(Double(left) + right)
        case (.doubleSum(let left), .sum(let right)): .doubleSum(left + Double(right))
        case (.doubleSum(let left), .doubleSum(let right)): .doubleSum(left + right)
        default: other
        }
    }

    /// What came since `before`. A total that has gone down began anew.
    fileprivate func difference(from before: MetricData.Value?) -> MetricData.Value {
        switch (self, before) {
        case (.sum(let now), .sum(let before)?): .sum(now < before ? now : now &- before)
        case (.doubleSum(let now), .doubleSum(let before)?): .doubleSum(now < before ? now : now - before)
        case (.doubleSum(let now), .sum(let before)?): .doubleSum(now < Double(before) ? now : now - Double(before))
        case (.sum(let now), .doubleSum(let before)?):
            .doubleSum(Double(now) < before ? Double(now) : Double(now) - before)
        default: self
        }
    }
}

extension Metric {
    /// Whether both are one instrument, whatever the case of the name (specification, metrics/sdk, duplicates).
    fileprivate func isSame(as other: Metric) -> Bool {
        instrument == other.instrument && unit == other.unit && help == other.help
    }

    /// `[A-Za-z][A-Za-z0-9_./-]{0,254}` (specification, metrics/api, instrument name syntax).
    fileprivate var hasValidName: Bool {
        guard (1...255).contains(name.utf8.count), name.utf8.first.map(Metric.isLetter) == true else { return false }
        return name.utf8.allSatisfy { byte in
            Metric.isLetter(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "_./-".utf8.contains(byte)
        }
    }

    private static func isLetter(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
    }

    /// The same under another spelling of its name.
    fileprivate func named(_ name: String) -> Metric {
        name == self.name
            ? self : Metric(name, instrument, unit: unit, help, attributes: attributes, boundaries: boundaries)
    }
}
