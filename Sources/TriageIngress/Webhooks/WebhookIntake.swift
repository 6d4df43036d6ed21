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
        var deletes = DeleteMemory()
        var gaps: NumberGaps
        var attribution = RequestAttribution()
        var recoveries: [Recovery] = []
        /// Whether the server said of the last Patient that was asked for that it doesn't have it.
        var isMissing = false
    }
    /// A change that is ready to be published.
    struct Prepared: Sendable {
        var event: CapturedEvent
        /// Of a delete, what tells it from others where ids don't.
        var delete: DeleteMemory.Delete?
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
    let fetches = FetchBudget()
    let waiting: Waiting<WebhookReply>
    let state: Mutex<State>
    let notify: @Sendable (WebhookNotice) -> Void
    let history: HistoryReader?
    let sink: CaptureSink
    private let identity: EventIdentity
    let missed: Counter

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
    /// - Parameter isHistory: whether the history tells it.
    /// - Throws: the rule that its resource breaks.
    func prepare(
        _ event: Notification.Event, subscription: String?, isHistory: Bool = false
    ) throws(InvalidEvent) -> Prepared {
        let action = event.action ?? .updated
        var captured = CapturedEvent(action, resourceID: event.patientID, resource: event.resource, timestamp: event.timestamp)
        if let resource = event.resource {
            // What is notified was looked into as a whole.
            if isHistory { try decoders.with { (decoder) throws(InvalidEvent) in try decoder.checkUniqueNames(resource) } }
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
        var delete: DeleteMemory.Delete?
        if action == .deleted, let id = captured.resourceID {
            delete = DeleteMemory.Delete(
                patient: id, isHistory: isHistory, hasVersion: event.versionID != nil, happened: event.happened,
                taken: tracer.clock.now())
        }
        return Prepared(event: captured, delete: delete)
    }

    /// The id that a change of the history has.
    func historyID(of event: Notification.Event) -> String? {
        identity.eventID(of: event, action: event.action ?? .updated, subscription: nil)
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
                if changes.count > 1, let id = change.event.eventID {
                    if let earlier = first[id] {
                        claims.same.append((index, earlier: earlier))
                        continue
                    }
                    first[id] = index
                }
                claims.endings[index] = state.claim(change)
                if claims.endings[index] == .captured { claims.mine.append(index) }
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
            for index in claims.mine { state.settle(changes[index], isCaptured: endings[index] == .captured) }
        }
        for (index, earlier) in claims.same {
            endings[index] = endings[earlier] == .captured ? .duplicate : endings[earlier]
        }
        let duplicates = endings.count { $0 == .duplicate }
        if duplicates > 0 { sink.countSkipped(.webhook, "duplicate", duplicates) }
        return endings
    }

    /// Whether a change of this id is known to be in Kafka.
    func isCaptured(_ id: String?) -> Bool {
        guard let id else { return false }
        return state.withLock { $0.memory.state(of: id) == .captured }
    }

    /// Counts what can't become events.
    func countRefused() { sink.countRefused(.webhook) }
    func countIgnored(_ count: Int) { if count > 0 { sink.countSkipped(.webhook, "ignored", count) } }
}

extension WebhookIntake.State {
    /// Whether a change is the caller's to publish: `captured` if so, else how it ends.
    fileprivate mutating func claim(_ change: WebhookIntake.Prepared) -> WebhookIntake.Ending {
        let known = change.event.eventID.map { memory.state(of: $0) } ?? .new
        if known == .captured { return .duplicate }
        if let delete = change.delete {
            if known == .new, deletes.takes(delete) {
                if let id = change.event.eventID { memory.settle(id, isCaptured: true) }
                return .duplicate
            }
        } else if let patient = change.event.resourceID {
            // A delete that is told from now on is of this version or a later one.
            deletes.changed(patient)
        }
        if known == .underWay { return .underWay }
        if let id = change.event.eventID { _ = memory.claim(id) }
        return .captured
    }

    /// How publishing a claimed change ended.
    fileprivate mutating func settle(_ change: WebhookIntake.Prepared, isCaptured: Bool) {
        if let id = change.event.eventID { memory.settle(id, isCaptured: isCaptured) }
        if isCaptured, let delete = change.delete { deletes.captured(delete) }
    }
}
