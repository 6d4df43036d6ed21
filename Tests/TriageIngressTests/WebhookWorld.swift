import HTTPTypes
import Synchronization
import Testing
import TriageEvents
import TriageIngress
import TriageTelemetry
import TriageTestKit

/// An intake over the in-memory broker, and a FHIR server that answers what it is told to.
final class WebhookWorld: Sendable {
    static let marker = "Zzyzx-Marker"

    let clock = ManualClock(Timestamp(milliseconds: 1_767_225_600_000))
    let broker: InMemoryBroker
    let spans = SpanRecorder()
    let meter: Meter
    let intake: WebhookIntake
    let server = StandInServer()
    let notices = Notices()

    init(
        capacity: Int = 1000, hasServer: Bool = true, sampler: Sampler = .parentBased(root: .alwaysOn),
        _ change: (inout WebhookSettings) -> Void = { _ in }
    ) {
        broker = InMemoryBroker(clock: clock)
        for topic in TopicPattern.hybrid.patientTopics { broker.createTopic(topic, partitions: 1) }
        let tracer = Tracer(sampler: sampler, clock: clock, processors: [spans])
        meter = Meter(clock: clock)
        let sink = TracedSink(producer: broker.producer(capacity: capacity), tracer: tracer, meter: meter, clientID: nil)
        let capture = CaptureSink(sink, tracer: tracer, meter: meter, pattern: .hybrid, format: EventFormat(source: "test"))
        var settings = WebhookSettings()
        settings.authenticator = Authenticator(bearerTokens: ["secret"])
        change(&settings)
        intake = WebhookIntake(
            settings, sink: capture, tracer: tracer, meter: meter, source: hasServer ? server : nil,
            notify: { [notices] in notices.add($0) })
    }

    /// Asks a route, with the token unless told otherwise.
    func ask(
        _ body: String, _ headers: HTTPFields = [:], route index: Int = 0, method: HTTPRequest.Method = .post,
        parameters: [String: String] = [:], token: String? = "secret", type: String? = "application/fhir+json"
    ) async -> IngressAnswer {
        var headers = headers
        if let token { headers[.authorization] = "Bearer \(token)" }
        if let type { headers[.contentType] = type }
        return await intake.routes[index].answer(
            IngressRequest(
                method: method, parameters: parameters, headers: headers, body: ByteSlice(body), receivedAt: clock.now()))
    }

    /// The events on a topic as JSON.
    func events(_ action: ChangeAction) -> [JSONValue] {
        broker.records(in: TopicPattern.hybrid.topic(resourceType: "Patient", action: action)).compactMap { record in
            record.value.flatMap { JSONValue($0) }
        }
    }

    var published: Int { ChangeAction.allCases.reduce(0) { $0 + events($1).count } }

    func counted(_ result: String) -> Int64 {
        count(Metric.eventsCaptured.name) { $0.pairs.contains { $0.value == result } }
    }

    func count(_ metric: String, where matches: (MetricAttributes) -> Bool = { _ in true }) -> Int64 {
        var total: Int64 = 0
        for data in meter.collect(at: clock.now()).metrics where data.metric.name == metric {
            for point in data.points {
                if case .sum(let value) = point.value, matches(point.attributes) { total += value }
            }
        }
        return total
    }

    func span(_ name: String) -> SpanData? { spans.spans.last { $0.template.name == name } }
}

/// Keeps what an operator would be told.
final class Notices: Sendable {
    private let notices = Mutex<[WebhookNotice]>([])
    func add(_ notice: WebhookNotice) { notices.withLock { $0.append(notice) } }
    var all: [WebhookNotice] { notices.withLock { $0 } }
}

/// A FHIR server by script.
final class StandInServer: FHIRSource {
    private struct State {
        var answer: @Sendable (SourceQuery) -> SourceAnswer = { _ in .unavailable }
        var asked: [SourceQuery] = []
        var parents: [TraceContext?] = []
        var open = 0
        var mostOpen = 0
        var gate: [CheckedContinuation<Void, Never>]?
    }
    private let state = Mutex(State())

    func answers(_ answer: @escaping @Sendable (SourceQuery) -> SourceAnswer) { state.withLock { $0.answer = answer } }
    var asked: [SourceQuery] { state.withLock { $0.asked } }
    var parents: [TraceContext?] { state.withLock { $0.parents } }

    /// Keeps the answers back until ``release()``, or until who asks is cancelled.
    func hold() { state.withLock { $0.gate = [] } }
    var open: Int { state.withLock { $0.open } }
    var mostOpen: Int { state.withLock { $0.mostOpen } }

    func release() {
        let waiting = state.withLock { state in
            defer { state.gate = nil }
            return state.gate ?? []
        }
        for continuation in waiting { continuation.resume() }
    }

    func ask(_ query: SourceQuery, parent: TraceContext?) async -> SourceAnswer {
        let answer = state.withLock { state in
            state.asked.append(query)
            state.parents.append(parent)
            state.open += 1
            state.mostOpen = max(state.mostOpen, state.open)
            return state.answer
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isHeld = state.withLock { state in
                    guard !Task.isCancelled, state.gate != nil else { return false }
                    state.gate?.append(continuation)
                    return true
                }
                if !isHeld { continuation.resume() }
            }
        } onCancel: {
            release()
        }
        state.withLock { $0.open -= 1 }
        return Task.isCancelled ? .unavailable : answer(query)
    }
}

/// What servers send.
enum Sent {
    static func patient(_ id: String, version: String? = "1", tags: [String] = []) -> String {
        var meta: [String] = version.map { [#""versionId":"\#($0)""#] } ?? []
        if !tags.isEmpty {
            let all = tags.map { #"{"system":"urn:triage:request-id","code":"\#($0)"}"# }.joined(separator: ",")
            meta.append(#""tag":[\#(all)]"#)
        }
        return """
            {"resourceType":"Patient","id":"\(id)","meta":{\(meta.joined(separator: ","))},"name":[{"family":"\(WebhookWorld.marker)"}]}
            """
    }

    /// An Aidbox bundle; each entry is number, method, id and the resource, or nothing.
    static func aidbox(
        _ entries: [(number: Int, method: String, id: String, resource: String?)], type: String = "event-notification"
    ) -> String {
        let told = entries.map {
            #"{"eventNumber":\#($0.number),"timestamp":"2026-01-01T00:00:0\#($0.number % 10)Z","focus":{"reference":"Patient/\#($0.id)"}}"#
        }
        let content = entries.map { entry in
            let resource = entry.resource.map { #","resource":\#($0)"# } ?? ""
            return
                #",{"fullUrl":"http://a/Patient/\#(entry.id)","request":{"method":"\#(entry.method)","url":"/Patient"}\#(resource)}"#
        }
        return """
            {"resourceType":"Bundle","type":"history","entry":[{"resource":{"resourceType":"AidboxSubscriptionStatus",
            "type":"\(type)","notificationEvent":[\(told.joined(separator: ","))],"topic":"http://t",
            "topic-destination":{"reference":"AidboxTopicDestination/k"}}}\(content.joined())]}
            """
    }

    static func backport(_ type: String, number: Int, focus: String?, subscription: String = "http://s/Subscription/s1") -> String
    {
        let focusPart = focus.map { #",{"name":"focus","valueReference":{"reference":"\#($0)"}}"# } ?? ""
        let event = """
            ,{"name":"notification-event","part":[{"name":"event-number","valueString":"\(number)"},
            {"name":"timestamp","valueInstant":"2026-01-01T00:00:00Z"}\(focusPart)]}
            """
        return """
            {"resourceType":"Bundle","type":"history","entry":[{"resource":{"resourceType":"Parameters","parameter":[
            {"name":"subscription","valueReference":{"reference":"\(subscription)"}},{"name":"type","valueCode":"\(type)"},
            {"name":"events-since-subscription-start","valueString":"\(number)"}\(type == "event-notification" ? event : "")]}}]}
            """
    }

    /// A history bundle; entries are the oldest first.
    static func history(_ entries: [(method: String, id: String, version: Int, second: Int)]) -> ByteSlice {
        let all = entries.reversed().map { entry in
            let resource = entry.method == "DELETE" ? "" : #","resource":\#(patient(entry.id, version: "\(entry.version)"))"#
            return """
                {"fullUrl":"http://s/Patient/\(entry.id)","request":{"method":"\(entry.method)","url":"Patient/\(entry.id)"},
                "response":{"etag":"W/\\"\(entry.version)\\"","lastModified":"2026-01-01T00:00:\(entry.second < 10 ? "0" : "")\(entry.second)Z"}\(resource)}
                """
        }
        return ByteSlice(#"{"resourceType":"Bundle","type":"history","entry":[\#(all.joined(separator: ","))]}"#)
    }
}
