public import TriageEvents

/// Finds out which of a subscription's numbered events never came. A pure machine: time is an argument.
///
/// Servers number a subscription's events from 1 without holes, but deliver several at a time, so a number is only missing for good
/// once it has been missing for a while. What came before the first number seen isn't known and isn't missed.
///
/// Numbers may begin anew without a handshake, as when a subscription was made again: a number that came before, or that isn't missing
/// any more, whose event happened later than all before it, begins the count anew; so do three in a row far below, where no times are
/// told. A number too far ahead is believed only when another one near it comes: a single wrong one must not hide what follows.
///
/// Bounded: of more subscriptions the one that was silent for longest is forgotten, of more holes the oldest.
public struct NumberGaps: Sendable {
    /// What a number says.
    public enum Verdict: Sendable, Hashable {
        /// The first one of its subscription, or the first one of a count that has begun anew.
        case first
        /// The one that was due.
        case next
        /// One that is ahead: these are missing as of now.
        case gap(ClosedRange<Int64>)
        /// One that was missing.
        case late
        /// One that has come before.
        case repeated
        /// One further ahead than ``NumberGaps/maximumGap``: it counts for nothing, unless another one near it follows.
        case unlikely
    }

    /// Numbers that have been missing for too long.
    public struct Gap: Sendable, Hashable {
        /// The subscription's reference.
        public let subscription: String
        /// The numbers.
        public let numbers: ClosedRange<Int64>
        /// When the last event before them happened, if that is known: these happened later.
        public let after: Timestamp?
        /// Whether they are too many to be asked for one by one, and possibly none at all: the numbers jumped.
        public var isJump: Bool { numbers.upperBound - numbers.lowerBound >= NumberGaps.maximumGap }

        /// These numbers of this subscription.
        public init(subscription: String, numbers: ClosedRange<Int64>, after: Timestamp? = nil) {
            self.subscription = subscription
            self.numbers = numbers
            self.after = after
        }
    }

    /// Subscriptions that are known at most.
    public static let maximumSubscriptions = 100
    /// Holes of a subscription that are known at most.
    public static let maximumHoles = 100
    /// A number further ahead than this isn't believed alone.
    public static let maximumGap: Int64 = 10_000
    /// How near two numbers are that bear each other out; how far below is far.
    static let nearby: Int64 = 100
    /// How much later than all before it an event must have happened to begin the count anew: numbers of events at about the same time
    /// may be out of order.
    static let tolerance: Duration = .seconds(5)

    fileprivate struct Hole {
        var numbers: ClosedRange<Int64>
        let since: Timestamp
        let after: Timestamp?
        var isTold = false
    }
    fileprivate struct Subscription {
        var highest: Int64
        /// When the latest event happened, as far as that is told.
        var latest: Timestamp?
        /// In ascending order, apart from one another.
        var holes: [Hole] = []
        /// A number too far ahead that nothing has borne out.
        var unlikely: Int64?
        /// The last of several numbers in a row that came far below, and how many they are.
        var below: (number: Int64, count: Int)?
        /// What the heartbeat before said, if that was less than what had been seen.
        var quiet: Int64?
        var lastUse: UInt64
    }

    /// How long a number may be missing before it is told.
    public let patience: Duration
    private var subscriptions: [String: Subscription] = [:]
    private var uses: UInt64 = 0

    /// A machine that has seen nothing.
    public init(patience: Duration = .seconds(5)) { self.patience = patience }

    /// An event with this number was taken in.
    ///
    /// - Parameter happened: when it happened, if that is told.
    public mutating func take(
        _ number: Int64, of subscription: String, happened: Timestamp? = nil, at now: Timestamp
    ) -> Verdict {
        uses += 1
        // None is below 0, so that no difference overflows.
        let number = max(0, number)
        // A time that is yet to come would hide all that happens until then.
        let happened = happened.flatMap { $0 <= now + HistoryCursor.tolerance ? $0 : nil }
        guard var known = subscriptions[subscription] else {
            begin(subscription, after: number, happened: happened)
            return .first
        }
        known.lastUse = uses
        defer { subscriptions[subscription] = known }
        guard number > known.highest else {
            if known.close(number) { return .late }
            guard known.beginsAnew(number, happened) else { return .repeated }
            known = Subscription(highest: number, latest: happened, lastUse: uses)
            return .first
        }
        if number - known.highest > NumberGaps.maximumGap {
            guard let other = known.unlikely, other != number, abs(other - number) <= NumberGaps.nearby else {
                defer { known.unlikely = number }
                return known.unlikely == number ? .repeated : .unlikely
            }
            // The one before it was right, too: both count, in their order.
            known.raise(to: min(number, other), happened: nil, at: now)
            let missing = known.holes.last?.numbers
            known.raise(to: max(number, other), happened: happened, at: now)
            return missing.map { .gap($0) } ?? .next
        }
        let missing = known.highest + 1
        known.raise(to: number, happened: happened, at: now)
        return missing < number ? .gap(missing...number - 1) : .next
    }

    /// The subscription begins, or begins anew, after this number: what its handshake says.
    public mutating func begin(_ subscription: String, after number: Int64, happened: Timestamp? = nil) {
        uses += 1
        if subscriptions[subscription] == nil, subscriptions.count >= NumberGaps.maximumSubscriptions,
            let oldest = subscriptions.min(by: { $0.value.lastUse < $1.value.lastUse })?.key
        {
            subscriptions[oldest] = nil
        }
        subscriptions[subscription] = Subscription(highest: max(0, number), latest: happened, lastUse: uses)
    }

    /// The subscription's last event has this number: what a heartbeat says. A subscription that isn't known begins with it; two
    /// heartbeats in a row that say less than what has been seen begin it anew.
    ///
    /// - Returns: the numbers that are missing as of now.
    public mutating func announce(_ subscription: String, last number: Int64, at now: Timestamp) -> ClosedRange<Int64>? {
        let number = max(0, number)
        guard var known = subscriptions[subscription] else {
            begin(subscription, after: number)
            return nil
        }
        uses += 1
        known.lastUse = uses
        defer { subscriptions[subscription] = known }
        guard number > known.highest else {
            if number < known.highest, let before = known.quiet, number >= before {
                known = Subscription(highest: number, lastUse: uses)
            } else {
                known.quiet = number < known.highest ? number : nil
            }
            return nil
        }
        if number - known.highest > NumberGaps.maximumGap {
            guard let other = known.unlikely, abs(other - number) <= NumberGaps.nearby else {
                known.unlikely = number
                return nil
            }
        }
        let missing = known.highest + 1...number
        known.open(missing, at: now)
        known.highest = number
        return missing
    }

    /// The numbers that have been missing for ``patience`` by now and have not been told yet.
    public mutating func due(at now: Timestamp) -> [Gap] {
        var gaps: [Gap] = []
        for (name, subscription) in subscriptions {
            for (index, hole) in subscription.holes.enumerated() where !hole.isTold && now - hole.since >= patience {
                gaps.append(Gap(subscription: name, numbers: hole.numbers, after: hole.after))
                subscriptions[name]?.holes[index].isTold = true
            }
        }
        return gaps.sorted { ($0.subscription, $0.numbers.lowerBound) < ($1.subscription, $1.numbers.lowerBound) }
    }

    /// The numbers of a subscription that are missing, told or not, in ascending order.
    public func missing(of subscription: String) -> [ClosedRange<Int64>] {
        subscriptions[subscription]?.holes.map(\.numbers) ?? []
    }
}

extension NumberGaps.Subscription {
    /// The highest number is this one from now on, which is higher; what lies between is missing.
    fileprivate mutating func raise(to number: Int64, happened: Timestamp?, at now: Timestamp) {
        if highest + 1 < number { open(highest + 1...number - 1, at: now) }
        highest = number
        if let happened, latest.map({ $0 < happened }) ?? true { latest = happened }
        (below, quiet) = (nil, nil)
    }

    fileprivate mutating func open(_ numbers: ClosedRange<Int64>, at now: Timestamp) {
        if holes.count >= NumberGaps.maximumHoles { holes.removeFirst() }
        holes.append(NumberGaps.Hole(numbers: numbers, since: now, after: latest))
        (below, quiet) = (nil, nil)
    }

    /// Whether a number that has been passed, and isn't missing, is one of a new count.
    fileprivate mutating func beginsAnew(_ number: Int64, _ happened: Timestamp?) -> Bool {
        if let happened, let latest { return happened > latest + NumberGaps.tolerance }
        guard highest - number > NumberGaps.nearby else { return false }
        let count = below.map { $0.number + 1 == number ? $0.count + 1 : 1 } ?? 1
        below = (number, count)
        return count >= 3
    }

    /// Takes a number out of the holes; false if it is in none.
    fileprivate mutating func close(_ number: Int64) -> Bool {
        guard let index = holes.firstIndex(where: { $0.numbers.contains(number) }) else { return false }
        let hole = holes.remove(at: index)
        var rest: [NumberGaps.Hole] = []
        if hole.numbers.lowerBound < number { rest.append(hole.with(hole.numbers.lowerBound...number - 1)) }
        if number < hole.numbers.upperBound { rest.append(hole.with(number + 1...hole.numbers.upperBound)) }
        holes.insert(contentsOf: rest, at: index)
        if holes.count > NumberGaps.maximumHoles { holes.removeFirst() }
        return true
    }
}

extension NumberGaps.Hole {
    fileprivate func with(_ numbers: ClosedRange<Int64>) -> NumberGaps.Hole {
        NumberGaps.Hole(numbers: numbers, since: since, after: after, isTold: isTold)
    }
}
