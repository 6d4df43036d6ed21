public import TriageEvents

/// Finds out which of a subscription's numbered events never came. A pure machine: time is an argument.
///
/// Servers number a subscription's events from 1 without holes, but deliver several at a time, so a number is only missing for good
/// once it has been missing for a while. What came before the first number seen isn't known and isn't missed.
///
/// Bounded: of more subscriptions the one that was silent for longest is forgotten, of more holes the oldest.
public struct NumberGaps: Sendable {
    /// What a number says.
    public enum Verdict: Sendable, Hashable {
        /// The first one of its subscription, or one so far ahead that the subscription must have begun anew.
        case first
        /// The one that was due.
        case next
        /// One that is ahead: these are missing as of now.
        case gap(ClosedRange<Int64>)
        /// One that was missing.
        case late
        /// One that has come before.
        case repeated
    }

    /// Numbers that have been missing for too long.
    public struct Gap: Sendable, Hashable {
        /// The subscription's reference.
        public let subscription: String
        /// The numbers.
        public let numbers: ClosedRange<Int64>

        /// These numbers of this subscription.
        public init(subscription: String, numbers: ClosedRange<Int64>) {
            self.subscription = subscription
            self.numbers = numbers
        }
    }

    /// Subscriptions that are known at most.
    public static let maximumSubscriptions = 100
    /// Holes of a subscription that are known at most.
    public static let maximumHoles = 100
    /// A number further ahead than this is no gap but a new beginning.
    public static let maximumGap: Int64 = 1_000_000

    fileprivate struct Hole {
        var numbers: ClosedRange<Int64>
        let since: Timestamp
        var isTold = false
    }
    fileprivate struct Subscription {
        var highest: Int64
        /// In ascending order, apart from one another.
        var holes: [Hole] = []
        var lastUse: UInt64
    }

    /// How long a number may be missing before it is told.
    public let patience: Duration
    private var subscriptions: [String: Subscription] = [:]
    private var uses: UInt64 = 0

    /// A machine that has seen nothing.
    public init(patience: Duration = .seconds(5)) { self.patience = patience }

    /// An event with this number was taken in.
    public mutating func take(_ number: Int64, of subscription: String, at now: Timestamp) -> Verdict {
        uses += 1
        // None is below 0, so that no difference overflows.
        let number = max(0, number)
        guard var known = subscriptions[subscription], number - known.highest <= NumberGaps.maximumGap else {
            begin(subscription, after: number)
            return .first
        }
        known.lastUse = uses
        defer { subscriptions[subscription] = known }
        if number > known.highest {
            let missing = known.highest + 1
            known.highest = number
            guard missing < number else { return .next }
            known.open(missing...number - 1, at: now)
            return .gap(missing...number - 1)
        }
        return known.close(number) ? .late : .repeated
    }

    /// The subscription begins, or begins anew, after this number: what its handshake says.
    public mutating func begin(_ subscription: String, after number: Int64) {
        uses += 1
        if subscriptions[subscription] == nil, subscriptions.count >= NumberGaps.maximumSubscriptions,
            let oldest = subscriptions.min(by: { $0.value.lastUse < $1.value.lastUse })?.key
        {
            subscriptions[oldest] = nil
        }
        subscriptions[subscription] = Subscription(highest: max(0, number), lastUse: uses)
    }

    /// The subscription's last event has this number: what a heartbeat says. A subscription that isn't known begins with it.
    ///
    /// - Returns: the numbers that are missing as of now.
    public mutating func announce(_ subscription: String, last number: Int64, at now: Timestamp) -> ClosedRange<Int64>? {
        let number = max(0, number)
        guard var known = subscriptions[subscription], number - known.highest <= NumberGaps.maximumGap else {
            begin(subscription, after: number)
            return nil
        }
        uses += 1
        known.lastUse = uses
        defer { subscriptions[subscription] = known }
        guard number > known.highest else { return nil }
        let missing = known.highest + 1...number
        known.highest = number
        known.open(missing, at: now)
        return missing
    }

    /// The numbers that have been missing for ``patience`` by now and have not been told yet.
    public mutating func due(at now: Timestamp) -> [Gap] {
        var gaps: [Gap] = []
        for (name, subscription) in subscriptions {
            for (index, hole) in subscription.holes.enumerated() where !hole.isTold && now - hole.since >= patience {
                gaps.append(Gap(subscription: name, numbers: hole.numbers))
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
    fileprivate mutating func open(_ numbers: ClosedRange<Int64>, at now: Timestamp) {
        if holes.count >= NumberGaps.maximumHoles { holes.removeFirst() }
        holes.append(NumberGaps.Hole(numbers: numbers, since: now))
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
        NumberGaps.Hole(numbers: numbers, since: since, isTold: isTold)
    }
}
