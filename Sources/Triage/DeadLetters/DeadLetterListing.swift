internal import TriageEvents
internal import TriageProcessing

/// Some dead letters, newest first.
public struct DeadLetterListing: Sendable {
    /// Those that were asked for.
    public let entries: [DeadLetterEntry]
    /// Records that were read for it.
    public let read: Int
    /// Whether there are, or may be, more of them.
    public let isCut: Bool
    /// What one should know: topics that are missing, say.
    public let notes: [String]
}

/// Finds the newest dead letters of some partitions by reading windows of them backwards: records in, ranges to read out.
///
/// Within a partition records are taken to be in the order of their timestamps, so that nothing before a window is newer than its
/// first record. What is kept is bounded by the number asked for.
struct ListingPass: Sendable {
    private struct Place {
        let start: Int64
        /// Where reading goes on, backwards.
        var low: Int64
        /// The timestamp of the first record of the last window.
        var oldest: Timestamp?
        /// Set when the window that is being read has brought its first record.
        var isNew = false
        var window: Int64
    }
    private struct Candidate {
        var letter: DeadLetter
        var copies: [RecordPosition]
    }
    static let largestWindow: Int64 = 20_000

    private let limit: Int
    private let filter: DeadLetterFilter
    private let states: DeadLetterStates
    private let group: String?
    private var places: [TopicPartition: Place] = [:]
    private var candidates: [DeadLetter.Identity: Candidate] = [:]
    private var hasDropped = false
    private(set) var read = 0

    init(
        _ filter: DeadLetterFilter, limit: Int, states: DeadLetterStates, group: String?, ranges: [TopicPartition: Range<Int64>]
    ) {
        self.filter = filter
        self.limit = min(max(0, limit), 1_000_000_000)
        self.states = states
        self.group = group
        let window = Int64(min(2000, max(50, 2 * self.limit)))
        places = ranges.mapValues { Place(start: $0.lowerBound, low: $0.upperBound, window: window) }
    }

    /// What is to be read next, of each partition that may hold one of the newest; empty when they are known.
    mutating func next() -> [TopicPartition: Range<Int64>] {
        let times = candidates.values.map { ListingPass.time($0.letter) }.sorted(by: >)
        let last = times.count >= limit ? limit == 0 ? Timestamp(nanoseconds: .max) : times[limit - 1] : nil
        var ranges: [TopicPartition: Range<Int64>] = [:]
        for (partition, place) in places where place.low > place.start {
            if let oldest = place.oldest {
                if let last, oldest <= last { continue }
                if let since = filter.since, oldest < since { continue }
            } else if limit == 0 {
                continue
            }
            let range = max(place.start, place.low - place.window)..<place.low
            ranges[partition] = range
            places[partition]?.low = range.lowerBound
            places[partition]?.isNew = true
            places[partition]?.window = min(ListingPass.largestWindow, place.window * 4)
        }
        return ranges
    }

    /// Takes a record of what ``next()`` asked for.
    mutating func add(_ record: Record) {
        read += 1
        let partition = record.topicPartition
        if places[partition]?.isNew == true {
            places[partition]?.isNew = false
            if let timestamp = record.timestamp { places[partition]?.oldest = timestamp }
        }
        let letter = DeadLetter(record)
        guard filter.matches(letter), filter.matches(states.state(of: letter, group: group)) else { return }
        let identity = letter.identity
        if var known = candidates[identity] {
            // The first of the copies stands for all.
            if known.letter.position.topicPartition == partition, known.letter.position.offset < letter.position.offset {
                known.copies.append(letter.position)
            } else {
                known.copies.append(known.letter.position)
                known.letter = letter
            }
            candidates[identity] = known
            return
        }
        candidates[identity] = Candidate(letter: letter, copies: [])
        if candidates.count > 2 * limit + 1000 { prune() }
    }

    private mutating func prune() {
        let kept = sorted.prefix(limit)
        hasDropped = hasDropped || kept.count < candidates.count
        candidates = Dictionary(kept.map { ($0.letter.identity, $0) }) { $1 }
    }

    private var sorted: [Candidate] {
        candidates.values.sorted { left, right in
            let (one, other) = (ListingPass.time(left.letter), ListingPass.time(right.letter))
            return one == other ? left.letter.position > right.letter.position : one > other
        }
    }

    /// The newest, when ``next()`` has nothing more to ask for.
    var entries: [DeadLetterEntry] {
        sorted.prefix(limit).map { candidate in
            let copies = candidate.copies.sorted()
            return DeadLetterEntry(
                letter: candidate.letter, state: states.state(of: candidate.letter, group: group), copies: copies)
        }
    }

    /// Whether there may be more.
    var isCut: Bool {
        hasDropped || candidates.count > limit
            || places.values.contains { place in
                guard place.low > place.start else { return false }
                guard let since = filter.since, let oldest = place.oldest else { return true }
                return oldest >= since
            }
    }

    private static func time(_ letter: DeadLetter) -> Timestamp { letter.written ?? Timestamp(nanoseconds: .min) }
}
