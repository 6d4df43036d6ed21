internal import Synchronization
internal import TriageEvents
internal import TriageTelemetry

/// What never came: numbers that are left out, and how they are asked for.
extension WebhookIntake {
    /// A gap that is being closed.
    struct Recovery: Sendable {
        /// What is left of it.
        var gap: NumberGaps.Gap
        var attempts = 0
        var notBefore: Timestamp
    }

    private static let maximumRecoveries = 100
    private static let maximumAttempts = 10
    /// Numbers that are asked for at once, so that the answer isn't longer than what is taken.
    private static let portion: Int64 = 100

    /// Takes down the numbers of events that are taken in, or weren't ours to take.
    ///
    /// - Returns: the numbers that are missing as of now.
    func note(numbersOf notification: Notification, subscription: String?) -> [ClosedRange<Int64>] {
        guard let subscription, subscription.utf8.count <= 1024, !notification.numbers.isEmpty else { return [] }
        var times: [Int64: Timestamp] = [:]
        for event in notification.events {
            if let number = event.number, let time = event.happened { times[number] = time }
        }
        let now = tracer.clock.now()
        var unlikely: Int64 = 0
        let gaps: [ClosedRange<Int64>] = state.withLock { state in
            var gaps: [ClosedRange<Int64>] = []
            for number in notification.numbers.sorted() {
                switch state.gaps.take(number, of: subscription, happened: times[number], at: now) {
                case .gap(let missing): gaps.append(missing)
                case .unlikely: unlikely += 1
                case .first, .next, .late, .repeated: break
                }
            }
            return gaps
        }
        if unlikely > 0 {
            // How many are missing isn't known, if any is: it counts as one.
            missed.add(unlikely)
            notify(.unlikelyNumber)
        }
        return gaps
    }

    /// What a notification without events says about the numbers.
    func note(_ notification: Notification) -> [ClosedRange<Int64>] {
        guard let subscription = notification.subscription, subscription.utf8.count <= 1024,
            let last = notification.eventsSinceStart
        else { return [] }
        let now = tracer.clock.now()
        return state.withLock { state in
            if notification.kind == .handshake {
                state.gaps.begin(subscription, after: last)
                return []
            }
            return state.gaps.announce(subscription, last: last, at: now).map { [$0] } ?? []
        }
    }

    /// Takes note of gaps that have lasted, and tries to close them.
    func recover(at now: Timestamp) async {
        let due: [NumberGaps.Gap] = state.withLock { $0.gaps.due(at: now) }
        for gap in due {
            let count = gap.isJump ? 1 : gap.numbers.upperBound - gap.numbers.lowerBound + 1
            missed.add(count)
            notify(.gap(numbers: count))
        }
        guard source != nil else { return }
        var recoveries: [Recovery] = state.withLock { state in
            let room = max(0, WebhookIntake.maximumRecoveries - state.recoveries.count)
            state.recoveries += due.prefix(room).map { Recovery(gap: $0, notBefore: now) }
            defer { state.recoveries.removeAll { $0.notBefore <= now } }
            return state.recoveries.filter { $0.notBefore <= now }
        }
        for index in recoveries.indices {
            guard await !close(&recoveries[index]) else { continue }
            recoveries[index].attempts += 1
            guard recoveries[index].attempts < WebhookIntake.maximumAttempts else { continue }
            recoveries[index].notBefore = now + settings.gapPatience
            let again = recoveries[index]
            state.withLock { $0.recoveries.append(again) }
        }
    }

    /// Asks for the events of a gap; whether there is nothing more to be done about it.
    private func close(_ recovery: inout Recovery) async -> Bool {
        guard let source else { return true }
        if !recovery.gap.isJump, let id = SubscriptionName.id(of: recovery.gap.subscription) {
            asking: while true {
                let numbers = recovery.gap.numbers
                // By the distance: no sum of numbers from outside.
                let rest = numbers.upperBound - numbers.lowerBound
                let last = rest < WebhookIntake.portion ? numbers.upperBound : numbers.lowerBound + (WebhookIntake.portion - 1)
                switch await source.ask(.events(subscription: id, since: numbers.lowerBound, until: last), parent: nil) {
                case .unavailable: return false
                case .body(let body):
                    guard let isClosed = await take(events: body, of: recovery.gap) else { break asking }
                    guard isClosed else { return false }
                case .gone, .missing, .refused, .tooLarge: break asking
                }
                guard last < numbers.upperBound else { return true }
                recovery.gap = NumberGaps.Gap(
                    subscription: recovery.gap.subscription, numbers: last + 1...numbers.upperBound, after: recovery.gap.after)
            }
        }
        // The server doesn't offer that; its history may still have what was missed.
        return await history?.read(for: self, isUrgent: true, cause: nil, after: recovery.gap.after) != .unavailable
    }

    /// Publishes an answer to `$events`; nil if it is none.
    private func take(events body: ByteSlice, of gap: NumberGaps.Gap) async -> Bool? {
        let told: Notification? = try? decoders.with { (decoder) throws(InvalidEvent) in
            try decoder.checkUniqueNames(body)
            return try Notification(JSONValue(body))
        }
        guard let told, told.kind == .events, !told.events.isEmpty else { return nil }
        guard case .ready(let changes, let held) = await resolve(told, subscription: gap.subscription, cause: nil) else {
            return false
        }
        defer { fetches.letGo(held) }
        let endings = await capture(changes, cause: nil, waitsForRoom: true)
        guard endings.allSatisfy({ $0 == .captured || $0 == .duplicate }) else { return false }
        _ = note(numbersOf: told, subscription: gap.subscription)
        return true
    }
}

extension Notification.Event {
    /// ``timestamp`` as a time.
    var happened: Timestamp? { timestamp.flatMap { Timestamp(instant: ByteSlice($0)) } }
}

/// The id of a Subscription by a reference to it.
enum SubscriptionName {
    static func id(of reference: String) -> String? {
        let parts = reference.split(separator: "/")
        guard parts.count >= 2, parts[parts.count - 2] == "Subscription", let id = parts.last,
            FHIRGrammar.isID(ByteSlice(id.utf8))
        else { return nil }
        return String(id)
    }
}
