import HTTPTypes
import Synchronization
import TriageEvents
import TriageIngress
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

/// What a console shows in a test: everything is made up.
final class FakeConsole: ConsoleSource {
    struct State {
        var figures = ConsoleFigures()
        var snapshot = LetterSnapshot(index: LetterIndex(group: "care"))
        var details: [RecordPosition: LetterDetail] = [:]
        var tasks: [ConsoleTask] = []
        var orders: [ConsoleOrder] = []
        var reveals: [String] = []
        var exports: [String] = []
        var previews: [JSONPatch] = []
        var preview: Result<LetterPreview, any Error>?
        var spans: [TraceSpan] = []
        var failures: [SpanStore.FailedTrace] = []
        var failure: (any Error)?
    }
    let state = Mutex(State())
    let clock = ManualClock()

    var now: Timestamp { clock.now() }
    var figures: ConsoleFigures { state.withLock { $0.figures } }
    var topics: [String] { ["a.dlq", "fhir.Patient.created.dlq"] }
    func letters() async -> LetterSnapshot { state.withLock { $0.snapshot } }
    func letter(_ id: RecordPosition) async throws -> LetterDetail {
        guard let detail = state.withLock({ $0.details[id] }) else { throw NoSuchDeadLetter(id, .noTopic) }
        return detail
    }
    func reveal(_ id: RecordPosition, by name: String) async throws -> RevealedLetter {
        let detail = try await letter(id)
        state.withLock { $0.reveals.append("\(id) by \(name)") }
        return RevealedLetter(
            entry: detail.entry, key: "marker-key",
            headers: [(name: "x-own", value: "marker <header>"), (name: "x-null", value: nil)],
            value: "{\"name\":\"<marker>\"}", isCut: false, problem: nil,
            texts: [(name: "kafka_dlt-exception-message", text: "marker & text")])
    }
    func preview(_ patch: JSONPatch, of id: RecordPosition, by name: String) async throws -> LetterPreview {
        let answer = state.withLock { state in
            state.previews.append(patch)
            return state.preview
        }
        return try (answer ?? .failure(NoSuchDeadLetter(id, .noRecord))).get()
    }
    func export(_ choice: ConsoleOrder.Choice, by name: String, reason: String?) async throws -> [UInt8] {
        try state.withLock { state in
            if let failure = state.failure { throw failure }
            state.exports.append("\(choice) by \(name): \(reason ?? "-")")
        }
        return Array("{\"key\":\"marker\"}\n".utf8)
    }
    func start(_ order: ConsoleOrder, by name: String) async throws -> String {
        try state.withLock { state in
            if let failure = state.failure { throw failure }
            state.orders.append(order)
            state.tasks.append(
                ConsoleTask(
                    id: "t\(state.orders.count)", order: order, by: name, begun: clock.now(),
                    state: .done(["1 dead letter replayed."], isWell: true)))
            return "t\(state.orders.count)"
        }
    }
    func tasks() async -> [ConsoleTask] { state.withLock { $0.tasks } }
    func settle(_ id: String) async {}
    var keepsSpans: Bool { true }
    func spans(of trace: TraceID) -> [TraceSpan] { state.withLock { $0.spans.filter { $0.traceID == trace } } }
    func failures(limit: Int) -> [SpanStore.FailedTrace] { state.withLock { $0.failures } }
    func links(for trace: TraceID) -> [TraceLinks.Link] { TraceLinks(jaeger: "http://jaeger.test").links(for: trace) }

    /// The page at a path; nil if it is none.
    func page(_ path: String, query: [(String, String)] = [], visitor: ConsoleVisitor? = nil) async -> (status: Int, text: String)
    {
        await ask(
            ConsoleRequest(
                path: FakeConsole.segments(path), query: FormFields(query.map { (name: $0, value: $1) }), visitor: visitor))
    }

    func post(_ path: String, _ form: [(String, String)]) async -> (status: Int, text: String) {
        await ask(
            ConsoleRequest(
                isPost: true, path: FakeConsole.segments(path), form: FormFields(form.map { (name: $0, value: $1) }),
                visitor: ConsoleVisitor(name: "Ann", formToken: "f")))
    }

    private func ask(_ request: ConsoleRequest) async -> (status: Int, text: String) {
        let answer = await ConsoleRouter(source: self).answer(request)
        return switch answer.content {
        case .page(_, let html): (answer.status.code, html.text)
        case .json(let text): (answer.status.code, text)
        case .lines(let name, let bytes): (answer.status.code, "\(name)\n\(String(decoding: bytes, as: UTF8.self))")
        case .redirect(let path): (303, path)
        }
    }

    private static func segments(_ path: String) -> [String] { path.split(separator: "/").map(String.init) }

    /// Puts dead letters into the snapshot as the broker would.
    func show(_ records: [Record], states: DeadLetterStates = DeadLetterStates()) {
        state.withLock { state in
            var ends: [TopicPartition: Range<Int64>] = [:]
            for record in records {
                ends[record.topicPartition] = 0..<max(ends[record.topicPartition]?.upperBound ?? 0, record.offset + 1)
            }
            _ = state.snapshot.index.survey(ends)
            for record in records { state.snapshot.index.add(record) }
            state.snapshot.index.settle(states)
            state.snapshot.readAt = clock.now()
        }
    }
}

/// A dead letter of ours.
func deadLetter(
    _ offset: Int64, partition: Int32 = 0, topic: String = "fhir.Patient.created.dlq", key: String? = nil, origin: Int64? = nil,
    fingerprint: String = "00000000000000aa", error: String = "RejectedError no_id", errorClass: String = "persistent",
    at time: Int64? = nil, more: [Header] = []
) -> Record {
    Record(
        topic: topic, partition: partition, offset: offset,
        timestamp: Timestamp(milliseconds: time ?? 1_700_000_000_000 + offset * 1000),
        key: ByteSlice(key ?? "patient-\(offset)"), value: ByteSlice("{}"),
        headers: Headers(
            [
                Header("traceparent", text: "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"),
                Header("triage-origin", text: "fhir.Patient.created/\(partition)/\(origin ?? offset)"),
                Header("triage-group", text: "care"),
                Header("triage-error-class", text: errorClass), Header("error", text: error),
                Header("triage-error-fingerprint", text: fingerprint), Header("retryCount", text: "3"),
            ] + more))
}
