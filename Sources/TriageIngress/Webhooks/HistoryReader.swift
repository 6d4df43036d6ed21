internal import TriageEvents
internal import TriageTelemetry

/// Reads the changes of all Patients off the server's history: how deletes come from servers that don't notify them, and what a
/// notification means that says only that something happened.
///
/// It begins where the service began and goes on from the newest change it has taken; the cursor is kept in memory only. What
/// notifications have captured is known by its event id and not published again. A regular look leaves what it sees for the first
/// time to the next one, so that a notification that is on its way comes first, under its caller's trace. Servers tell the newest
/// first: of a history that is longer than what is held at once only the oldest part is kept, published, and the rest read anew.
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
        var bytes: Int { change.event.resource?.count ?? 0 }
    }

    private static let chunk = 100
    private static let maximumPending = HistoryPages.maximumEvents
    private static let maximumPendingBytes = HistoryPages.maximumBytes

    private let source: any FHIRSource
    private let interval: Duration?
    private var cursor: HistoryCursor
    private var nextLook: Timestamp
    private var looks: UInt64 = 0
    private var pending: [Pending] = []
    /// The ids of what is pending.
    private var known: Set<String> = []
    /// What was refused, so that it is told once.
    private var refused = CaptureMemory(capacity: 1000)
    private var isReadable = true
    private var last: Task<Outcome, Never>?
    private var next: Task<Outcome, Never>?
    private let decoders = DecoderPool(capacity: 1)

    /// A reader of what happens from `start` on, two seconds earlier for clocks that differ.
    init(_ source: any FHIRSource, since start: Timestamp, interval: Duration?) {
        self.source = source
        self.interval = interval
        cursor = HistoryCursor(start + HistoryReader.margin)
        nextLook = start
    }

    private static let margin: Duration = .seconds(-2)

    func isDue(at now: Timestamp) -> Bool { interval != nil && now >= nextLook }

    /// Looks at the history. One look at a time; those who ask while one is under way share the one after it, which sees what they ask
    /// for.
    ///
    /// - Parameters:
    ///   - isUrgent: whether what is seen for the first time is published at once.
    ///   - cause: the span of what asks.
    ///   - bound: looks only at what happened later, if that is later than what has been read; the cursor stays then.
    func read(
        for intake: WebhookIntake, isUrgent: Bool, cause: TraceContext?, after bound: Timestamp? = nil
    ) async -> Outcome {
        let isShared = isUrgent && bound == nil
        if isShared, let next { return await next.value }
        let before = last
        let task = Task {
            _ = await before?.value
            if isShared { next = nil }
            return await look(for: intake, isUrgent: isUrgent, cause: cause, after: bound)
        }
        if isShared { next = task }
        last = task
        return await task.value
    }

    private func look(for intake: WebhookIntake, isUrgent: Bool, cause: TraceContext?, after bound: Timestamp?) async -> Outcome {
        if let interval, !isUrgent { nextLook = intake.tracer.clock.now() + interval }
        looks += 1
        var place = cursor
        var isAside = false
        if let bound, bound + HistoryReader.margin > cursor.time {
            place = HistoryCursor(bound + HistoryReader.margin)
            isAside = true
        }
        while true {
            let pages = await fetch(from: place, for: intake, cause: cause)
            if isReadable != (pages != nil) {
                isReadable = pages != nil
                intake.notify(.historyReadable(isReadable))
            }
            guard let pages else { return .unavailable }
            let fits = take(pages.entries, for: intake, &place)
            if !isAside { cursor = place }
            let isAll = fits && pages.isWhole
            let outcome = await publish(for: intake, isUrgent: isUrgent || !isAll, cause: cause)
            if isAll || outcome != .done { return outcome }
        }
    }

    /// The changes since the cursor, the oldest first; nil if the server doesn't tell them. Fewer entries a page if a page is too long.
    private func fetch(from place: HistoryCursor, for intake: WebhookIntake, cause: TraceContext?) async -> HistoryPages? {
        guard place.hasRoom else { return nil }
        for count in [100, 10, 1] {
            var pages = HistoryPages()
            var query = SourceQuery.history(since: place.text, count: count)
            asking: while true {
                switch await source.ask(query, parent: cause) {
                case .tooLarge: break asking
                case .body(let body):
                    guard let page = read(body) else { return nil }
                    refuse(page.malformed, for: intake)
                    switch pages.add(entries(page, from: place, for: intake), of: page, from: place, bytes: body.count) {
                    case .next(let link): query = .page(link)
                    case .end: return pages
                    case .endless: return nil
                    }
                case .gone, .missing, .refused, .unavailable: return nil
                }
            }
        }
        return nil
    }

    private func read(_ body: ByteSlice) -> HistoryPage? {
        try? decoders.with { (decoder) throws(InvalidEvent) in
            try decoder.checkObject(body)
            guard let json = JSONValue(body) else { throw InvalidEvent(.empty, at: "") }
            return try HistoryPage(json)
        }
    }

    /// What of a page hasn't been dealt with. Of what is known already only the time is kept, by which the cursor moves on.
    private func entries(_ page: HistoryPage, from place: HistoryCursor, for intake: WebhookIntake) -> [HistoryEntry] {
        page.events.compactMap { event in
            let id = intake.historyID(of: event)
            let entry = HistoryEntry(event: event, id: id, time: event.happened)
            guard !place.isBehind(entry) else { return nil }
            return intake.isCaptured(id) || id.map { known.contains($0) } ?? false ? entry.emptied : entry
        }
    }

    /// Adds what isn't known to what is to be published, and moves the cursor on; false if not all found room.
    private func take(_ entries: [HistoryEntry], for intake: WebhookIntake, _ place: inout HistoryCursor) -> Bool {
        var bytes = pending.reduce(0) { $0 + $1.bytes }
        let now = intake.tracer.clock.now()
        for entry in entries {
            if let event = entry.event, entry.id.map({ !known.contains($0) }) ?? true {
                guard pending.count < HistoryReader.maximumPending, bytes <= HistoryReader.maximumPendingBytes else {
                    return false
                }
                if var change = try? intake.prepare(event, subscription: nil, isHistory: true) {
                    // Else the whole page would be kept for as long as one entry of it waits.
                    change.event.resource = change.event.resource.map { ByteSlice(Array($0)) }
                    change.event.resourceID = change.event.resourceID.map { ByteSlice(Array($0)) }
                    change.delete?.patient = change.event.resourceID ?? ByteSlice("")
                    let added = Pending(change: change, look: looks)
                    bytes += added.bytes
                    pending.append(added)
                    if let id = entry.id { known.insert(id) }
                } else if let text = event.entry {
                    refuse([text], for: intake)
                }
            }
            place.pass(entry, at: now)
        }
        return true
    }

    /// Counts and tells what breaks a rule, once: it comes again with each look until something newer is behind it.
    private func refuse(_ entries: [ByteSlice], for intake: WebhookIntake) {
        var count = 0
        for entry in entries {
            let id = String(entry.hash64(seed: 0), radix: 36)
            guard refused.claim(id) == .new else { continue }
            refused.settle(id, isCaptured: true)
            intake.countRefused()
            count += 1
        }
        if count > 0 { intake.notify(.entriesRefused(count)) }
    }

    private func publish(for intake: WebhookIntake, isUrgent: Bool, cause: TraceContext?) async -> Outcome {
        pending.removeAll { entry in
            guard intake.isCaptured(entry.change.event.eventID) else { return false }
            if let id = entry.change.event.eventID { known.remove(id) }
            return true
        }
        var outcome = Outcome.done
        let ready = pending.filter { isUrgent || $0.look < looks }
        var left: [Pending] = []
        for start in stride(from: 0, to: ready.count, by: HistoryReader.chunk) {
            let chunk = Array(ready[start..<min(ready.count, start + HistoryReader.chunk)])
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
