internal import Synchronization
public import TriageEvents
public import TriageTelemetry

/// Takes in what FHIR servers notify: understands it, fetches what isn't told, publishes it, and notices what never came.
///
/// Thread-safe. ``routes`` answer the requests; ``tick()`` does what time brings.
public final class WebhookIntake: Sendable {
    /// What both routes and the background work share.
    struct State: Sendable {
        var memory = CaptureMemory()
        var gaps: NumberGaps
        var attribution = RequestAttribution()
        var recoveries: [Recovery] = []
        /// Whether the server said of the last Patient that was asked for that it doesn't have it.
        var isMissing = false
    }
    /// A gap that is being closed.
    struct Recovery: Sendable {
        let gap: NumberGaps.Gap
        var attempts = 0
        var notBefore: Timestamp
    }
    /// A change that is ready to be published.
    struct Prepared: Sendable {
        var event: CapturedEvent
        var number: Int64?
    }
    /// How capturing one change ended.
    enum Ending: Sendable, Hashable {
        case captured
        case duplicate
        case underWay
        case failed(BrokerError)
    }

    /// Events that one bundle may tell of: fifty times what Aidbox sends at most. Each of them may have to be fetched, within the time
    /// that the sender waits.
    static let maximumEvents = 1000

    let settings: WebhookSettings
    let tracer: Tracer
    let source: (any FHIRSource)?
    let decoders = DecoderPool()
    let waiting: Waiting<WebhookReply>
    let state: Mutex<State>
    let notify: @Sendable (WebhookNotice) -> Void
    let history: HistoryReader?
    let sink: CaptureSink
    private let identity: EventIdentity
    private let missed: Counter

    /// An intake that publishes through `sink`.
    ///
    /// - Parameters:
    ///   - source: the server that notifies; without it what isn't told can't be fetched.
    ///   - notify: told what an operator should know; called on any thread.
    public init(
        _ settings: WebhookSettings, sink: CaptureSink, tracer: Tracer, meter: Meter, source: (any FHIRSource)? = nil,
        notify: @escaping @Sendable (WebhookNotice) -> Void = { _ in }
    ) {
        self.settings = settings
        self.sink = sink
        self.tracer = tracer
        self.source = source
        self.notify = notify
        identity = EventIdentity(namespace: settings.namespace)
        waiting = Waiting(capacity: max(1, settings.maximumWaiting), late: .late)
        state = Mutex(State(gaps: NumberGaps(patience: settings.gapPatience)))
        missed = meter.counter(Metric.eventNumberGaps)
        history = source.map { HistoryReader($0, since: tracer.clock.now(), interval: settings.historyInterval) }
    }

    /// What it answers: `/webhooks/fhir` and `/webhooks/fhir/{type}/{id}`.
    public var routes: [any IngressRoute] { [WebhookRoute(self), WebhookResourceRoute(self)] }

    /// Does what is due: answers requests whose time is up, looks at the history, closes gaps. To be called a few times a second, by
    /// one caller at a time.
    public func tick() async {
        expire()
        let now = tracer.clock.now()
        if let history, await history.isDue(at: now) { _ = await history.read(for: self, isUrgent: false, cause: nil) }
        await recover(at: now)
    }

    /// Answers requests whose time is up: that part of ``tick()`` which waits for nobody.
    public func expire() { waiting.expire(at: tracer.clock.now()) }

    /// Takes in what is told of a command, so that the event which it causes gets its request id.
    ///
    /// - Parameter time: when that was told; nil is now.
    public func observe(_ news: CommandNews, at time: Timestamp? = nil) {
        let time = time ?? tracer.clock.now()
        state.withLock { $0.attribution.learn(news, at: time) }
    }

    // MARK: What all ways share

    /// Validates a change and gives it its ids.
    ///
    /// - Throws: the rule that its resource breaks.
    func prepare(_ event: Notification.Event, subscription: String?) throws(InvalidEvent) -> Prepared {
        let action = event.action ?? .updated
        var captured = CapturedEvent(action, resourceID: event.patientID, resource: event.resource, timestamp: event.timestamp)
        if let resource = event.resource {
            let decoded = try decoders.with { (decoder) throws(InvalidEvent) in
                try decoder.decode(value: resource, key: event.patientID, topicAction: action)
            }
            guard decoded.form == .resource else { throw InvalidEvent(.unknownForm, at: "Bundle.entry.resource") }
            guard event.patientID == nil || decoded.resourceIDBytes == event.patientID else {
                throw InvalidEvent(.id, at: "Patient.id")
            }
            captured.resourceID = decoded.resourceIDBytes
            captured.timestamp = event.timestamp ?? decoded.lastUpdated
            if action != .deleted, let json = JSONValue(checked: resource) {
                captured.correlationID = state.withLock { $0.attribution.request(in: json, version: event.versionID) }
            }
        }
        if action == .deleted, let patient = captured.resourceID?.utf8Text {
            // A deleted Patient has no tag.
            captured.correlationID = state.withLock { state in
                state.attribution.request(
                    deleting: patient, version: event.versionID, toldAt: captured.timestamp, at: tracer.clock.now())
            }
        }
        captured.eventID = identity.eventID(of: event, action: action, subscription: subscription)
        captured.traceID = identity.traceID(of: event, action: action, subscription: subscription)
        return Prepared(event: captured, number: event.number)
    }

    /// Publishes what isn't known to be in Kafka, or on its way there, and tells for each how it ended.
    ///
    /// - Parameter cause: the span of what brought them; nil begins a trace for each.
    func capture(_ changes: [Prepared], cause: TraceContext?, waitsForRoom: Bool) async -> [Ending] {
        let claims = claim(changes)
        guard !claims.mine.isEmpty else { return settle(changes, claims, []) }
        let events = claims.mine.map { changes[$0].event }
        return settle(
            changes, claims, await sink.publish(events, from: .webhook, cause: cause, waitsForRoom: waitsForRoom))
    }

    /// The same without waiting for room.
    ///
    /// - Parameter completion: called once, maybe on a thread of the producer's, so it must be quick, maybe before this returns.
    func capture(_ changes: [Prepared], cause: TraceContext?, completion: @escaping @Sendable ([Ending]) -> Void) {
        let claims = claim(changes)
        guard !claims.mine.isEmpty else { return completion(settle(changes, claims, [])) }
        sink.publish(claims.mine.map { changes[$0].event }, from: .webhook, cause: cause) { [self] results in
            completion(settle(changes, claims, results))
        }
    }

    /// Which of several changes are the caller's to publish, and how the others end.
    private struct Claims: Sendable {
        var endings: [Ending]
        var mine: [Int] = []
        /// Those that tell what an earlier one tells.
        var same: [(index: Int, earlier: Int)] = []
    }

    private func claim(_ changes: [Prepared]) -> Claims {
        var claims = Claims(endings: [Ending](repeating: .captured, count: changes.count))
        // A bundle may tell one change twice.
        var first: [String: Int] = [:]
        state.withLock { state in
            for (index, change) in changes.enumerated() {
                guard let id = change.event.eventID else {
                    claims.mine.append(index)
                    continue
                }
                if changes.count > 1 {
                    if let earlier = first[id] {
                        claims.same.append((index, earlier: earlier))
                        continue
                    }
                    first[id] = index
                }
                switch state.memory.claim(id) {
                case .new: claims.mine.append(index)
                case .underWay: claims.endings[index] = .underWay
                case .captured: claims.endings[index] = .duplicate
                }
            }
        }
        return claims
    }

    private func settle(
        _ changes: [Prepared], _ claims: Claims, _ results: [Result<Acknowledgement, BrokerError>]
    ) -> [Ending] {
        var endings = claims.endings
        for (index, result) in zip(claims.mine, results) {
            if case .failure(let error) = result { endings[index] = .failed(error) }
        }
        state.withLock { state in
            for index in claims.mine {
                if let id = changes[index].event.eventID { state.memory.settle(id, isCaptured: endings[index] == .captured) }
            }
        }
        for (index, earlier) in claims.same {
            endings[index] = endings[earlier] == .captured ? .duplicate : endings[earlier]
        }
        let duplicates = endings.count { $0 == .duplicate }
        if duplicates > 0 { sink.countSkipped(.webhook, "duplicate", duplicates) }
        return endings
    }

    /// Whether a change is known to be in Kafka.
    func isCaptured(_ change: Prepared) -> Bool {
        guard let id = change.event.eventID else { return false }
        return state.withLock { $0.memory.state(of: id) == .captured }
    }

    /// Counts what can't become events.
    func countRefused() { sink.countRefused(.webhook) }
    func countIgnored(_ count: Int) { if count > 0 { sink.countSkipped(.webhook, "ignored", count) } }

    // MARK: Numbers

    /// The numbers of events that are taken in, or weren't ours to take.
    ///
    /// - Returns: the numbers that are missing as of now.
    func note(_ numbers: [Int64], of subscription: String?) -> [ClosedRange<Int64>] {
        guard let subscription, subscription.utf8.count <= 1024, !numbers.isEmpty else { return [] }
        let now = tracer.clock.now()
        return state.withLock { state in
            numbers.sorted().compactMap { number in
                if case .gap(let missing) = state.gaps.take(number, of: subscription, at: now) { missing } else { nil }
            }
        }
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
    private func recover(at now: Timestamp) async {
        let due: [NumberGaps.Gap] = state.withLock { $0.gaps.due(at: now) }
        for gap in due {
            let count = gap.numbers.upperBound - gap.numbers.lowerBound + 1
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
            guard await !close(recoveries[index].gap) else { continue }
            recoveries[index].attempts += 1
            guard recoveries[index].attempts < WebhookIntake.maximumAttempts else { continue }
            recoveries[index].notBefore = now + settings.gapPatience
            let again = recoveries[index]
            state.withLock { $0.recoveries.append(again) }
        }
    }

    private static let maximumRecoveries = 100
    private static let maximumAttempts = 10

    /// Asks for the events of a gap; whether there is nothing more to be done about it.
    private func close(_ gap: NumberGaps.Gap) async -> Bool {
        guard let source else { return true }
        if let id = SubscriptionName.id(of: gap.subscription) {
            let query = SourceQuery.events(
                subscription: id, since: gap.numbers.lowerBound, until: gap.numbers.upperBound)
            switch await source.ask(query, parent: nil) {
            case .unavailable: return false
            case .body(let body): if let isClosed = await take(events: body, of: gap) { return isClosed }
            case .gone, .missing, .refused: break
            }
        }
        // The server doesn't offer that; its history may still have what was missed.
        return await history?.read(for: self, isUrgent: true, cause: nil) != .unavailable
    }

    /// Publishes an answer to `$events`; nil if it is none.
    private func take(events body: ByteSlice, of gap: NumberGaps.Gap) async -> Bool? {
        let told: Notification? = try? decoders.with { (decoder) throws(InvalidEvent) in
            try decoder.checkObject(body)
            return try Notification(JSONValue(body))
        }
        guard let told, told.kind == .events, !told.events.isEmpty else { return nil }
        guard case .ready(let changes) = await resolve(told, subscription: gap.subscription, cause: nil) else { return false }
        let endings = await capture(changes, cause: nil, waitsForRoom: true)
        guard endings.allSatisfy({ $0 == .captured || $0 == .duplicate }) else { return false }
        _ = note(told.numbers, of: gap.subscription)
        return true
    }
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
