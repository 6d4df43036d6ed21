internal import TriageEvents
internal import TriageTelemetry

/// Reads the changes of all Patients off the server's history: how deletes come from servers that don't notify them, and what a
/// notification means that says only that something happened.
///
/// It begins where the service began and goes on from the newest change it has seen; the cursor is kept in memory only. What
/// notifications have captured is known by its event id and not published again. A regular look leaves what it sees for the first
/// time to the next one, so that a notification that is on its way comes first, under its caller's trace.
actor HistoryReader {
    enum Outcome: Sendable, Hashable {
        /// The server's changes are in Kafka, but for those that the next look takes.
        case done
        /// The server didn't tell, or not all.
        case unavailable
        /// Kafka didn't take something; it is tried again at the next look.
        case failed(BrokerError)
        /// A notification is publishing something right now.
        case underWay
    }
    private struct Pending {
        let change: WebhookIntake.Prepared
        let look: UInt64
    }

    private static let pageSize = 100
    private static let maximumPages = 100
    private static let maximumPending = 10_000

    private let source: any FHIRSource
    private let interval: Duration?
    private var since: String
    private var sinceTime: Timestamp
    private var nextLook: Timestamp
    private var looks: UInt64 = 0
    private var pending: [Pending] = []
    private var known: Set<String> = []
    private var isReadable = true
    private var last: Task<Outcome, Never>?
    private var next: Task<Outcome, Never>?

    /// A reader of what happens from `start` on, two seconds earlier for clocks that differ.
    init(_ source: any FHIRSource, since start: Timestamp, interval: Duration?) {
        self.source = source
        self.interval = interval
        sinceTime = start + .seconds(-2)
        since = sinceTime.iso8601
        nextLook = start
    }

    func isDue(at now: Timestamp) -> Bool { interval != nil && now >= nextLook }

    /// Looks at the history. One look at a time; those who ask while one is under way share the one after it, which sees what they ask
    /// for.
    ///
    /// - Parameters:
    ///   - isUrgent: whether what is seen for the first time is published at once.
    ///   - cause: the span of what asks.
    func read(for intake: WebhookIntake, isUrgent: Bool, cause: TraceContext?) async -> Outcome {
        if isUrgent, let next { return await next.value }
        let before = last
        let task = Task {
            _ = await before?.value
            if isUrgent { next = nil }
            return await look(for: intake, isUrgent: isUrgent, cause: cause)
        }
        if isUrgent { next = task }
        last = task
        return await task.value
    }

    private func look(for intake: WebhookIntake, isUrgent: Bool, cause: TraceContext?) async -> Outcome {
        if let interval { nextLook = intake.tracer.clock.now() + interval }
        looks += 1
        let events = await fetch(cause: cause)
        if isReadable != (events != nil) {
            isReadable = events != nil
            intake.notify(.historyReadable(isReadable))
        }
        guard let events else { return .unavailable }
        // What doesn't fit is read again, since the cursor stays: whoever asks isn't told that it is done.
        let fits = pending.count + events.count <= HistoryReader.maximumPending
        if fits { await take(events, for: intake) }
        let outcome = await publish(for: intake, isUrgent: isUrgent, cause: cause)
        return outcome == .done && !fits ? .underWay : outcome
    }

    /// All changes since the cursor, the oldest first; nil if the server doesn't tell them.
    private func fetch(cause: TraceContext?) async -> [Notification.Event]? {
        var query = SourceQuery.history(since: since, count: HistoryReader.pageSize)
        var pages: [[Notification.Event]] = []
        while pages.count < HistoryReader.maximumPages {
            guard case .body(let body) = await source.ask(query, parent: cause), let page = read(body) else { return nil }
            // Some servers forget `_since` in their links: the first page without anything new is the last one.
            let fresh = page.events.filter { event in
                event.timestamp.flatMap { Timestamp(instant: ByteSlice($0)) }.map { $0 >= sinceTime } ?? true
            }
            pages.append(fresh)
            guard let link = page.next, fresh.count == page.events.count, !fresh.isEmpty else {
                return pages.reversed().flatMap { $0 }
            }
            query = .page(link)
        }
        // The oldest changes weren't reached, and those come first: to go on from the newest would lose them.
        return nil
    }

    private let decoders = DecoderPool(capacity: 1)
    private func read(_ body: ByteSlice) -> HistoryPage? {
        try? decoders.with { (decoder) throws(InvalidEvent) in
            try decoder.checkObject(body)
            guard let json = JSONValue(body) else { throw InvalidEvent(.empty, at: "") }
            return try HistoryPage(json)
        }
    }

    /// Adds what isn't known yet to what is to be published, and moves the cursor on.
    private func take(_ events: [Notification.Event], for intake: WebhookIntake) async {
        for event in events {
            if let text = event.timestamp, let time = Timestamp(instant: ByteSlice(text)), time > sinceTime {
                (since, sinceTime) = (text, time)
            }
            guard let change = try? intake.prepare(event, subscription: nil) else {
                intake.countRefused()
                continue
            }
            guard !intake.isCaptured(change) else { continue }
            if let id = change.event.eventID, !known.insert(id).inserted { continue }
            pending.append(Pending(change: change, look: looks))
        }
    }

    private func publish(for intake: WebhookIntake, isUrgent: Bool, cause: TraceContext?) async -> Outcome {
        pending.removeAll { entry in
            guard intake.isCaptured(entry.change) else { return false }
            if let id = entry.change.event.eventID { known.remove(id) }
            return true
        }
        var outcome = Outcome.done
        let ready = pending.filter { isUrgent || $0.look < looks }
        var left: [Pending] = []
        for start in stride(from: 0, to: ready.count, by: HistoryReader.pageSize) {
            let chunk = Array(ready[start..<min(ready.count, start + HistoryReader.pageSize)])
            let endings = await intake.capture(chunk.map(\.change), cause: cause, waitsForRoom: !isUrgent)
            for (entry, ending) in zip(chunk, endings) {
                switch ending {
                case .captured, .duplicate:
                    if let id = entry.change.event.eventID { known.remove(id) }
                case .underWay:
                    left.append(entry)
                    if outcome == .done { outcome = .underWay }
                case .failed(let error):
                    left.append(entry)
                    outcome = .failed(error)
                }
            }
        }
        pending = left + pending.filter { !isUrgent && $0.look >= looks }
        return outcome
    }
}
