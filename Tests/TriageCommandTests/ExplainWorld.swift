import Foundation
import Logging
import Synchronization
import TriageEvents
import TriageKafka
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage
@testable import TriageCommand

/// A broker in memory with an event's records on it, commits as they are said to be, and whoever has spans.
final class ExplainWorld: Sendable {
    /// 2026-09-21T13:33:20Z.
    static let begin = Timestamp(milliseconds: 1_789_997_600_000)
    static let trace = TraceID(high: 0x4BF9_2F35_77B3_4DA6, low: 0xA3CE_929D_0E0E_4736)
    static let topic = "fhir.Patient.created"
    /// Stands for what must not show.
    static let marker = "MARKER"

    let clock = ManualClock(begin)
    let broker: InMemoryBroker
    private let committed = Mutex<[String: [TopicPartition: OffsetCommit]]>([:])
    private let answers = Mutex<[String: String]>([:])
    private let answersTimes: Bool

    init(_ topics: [String] = [topic], partitions: Int = 1, answersTimes: Bool = true) {
        broker = InMemoryBroker(clock: clock)
        self.answersTimes = answersTimes
        for topic in topics {
            for name in [topic, topic + ".retry", topic + ".dlq"] { broker.createTopic(name, partitions: partitions) }
        }
        broker.createTopic(TopicName.deadLetterState, partitions: 1)
    }

    static func envelope(_ id: String = marker, event: String = "6f1c7a52-6f5e-4f0e-9d53-3a0b7f8f2b11") -> String {
        #"{"type":"PatientCreated","data":{"resourceType":"Patient","id":"\#(id)","name":[{"family":"\#(marker)"}]},"#
            + #""metadata":{"eventId":"\#(event)","timestamp":"2026-09-21T13:33:20Z","source":"\#(marker)"}}"#
    }

    static func parent(_ span: UInt64, in trace: TraceID = trace) -> Header {
        Header("traceparent", text: "00-\(trace)-\(SpanID(span))-01")
    }

    /// Writes a record so long after the last one.
    @discardableResult
    func write(
        _ topic: String = topic, after: Duration = .zero, key: String? = marker, value: String? = envelope(),
        _ headers: [Header] = [],
        partition: Int32 = 0
    ) -> RecordPosition {
        clock.advance(by: after)
        // What an event's records say of its time is the time of its first one.
        let origin = headers.first { $0.name == "triage-origin" }?.value.flatMap { RecordPosition($0) }
        let first = broker.records(in: origin?.topic ?? "").first { $0.position == origin }?.timestamp
        let headers = headers.map { header in
            guard header.name == "triage-origin-timestamp", let first, header.value?.equals("\(Self.begin.milliseconds)") == true
            else { return header }
            return Header(header.name, text: "\(first.milliseconds)")
        }
        let offset = broker.end(of: TopicPartition(topic, partition))
        try? broker.producer().produce(
            OutboundRecord(
                topic: topic, partition: partition, key: key.map { ByteSlice($0) }, value: value.map { ByteSlice($0) },
                headers: Headers(headers))
        ) { _ in }
        return RecordPosition(topic: topic, partition: partition, offset: offset)
    }

    /// Writes a first delivery of the event.
    @discardableResult
    func write(_ headers: [Header]) -> RecordPosition { write(Self.topic, headers) }

    /// The ledger of attempts that failed so many milliseconds after the begin.
    static func ledger(_ times: [Int64], fingerprint: String = "c46697c0f79d48b2") -> String {
        var ledger = AttemptLedger()
        for (index, time) in times.enumerated() {
            ledger.append(
                .init(
                    time: begin + .milliseconds(time), errorClass: .transient, fingerprint: fingerprint, traceID: trace,
                    spanID: SpanID(UInt64(100 + index))))
        }
        return ledger.text
    }

    /// The headers of a retry record or dead letter of ours, failed at the last of `times`.
    static func failed(
        _ origin: RecordPosition, _ times: [Int64], due: Int64? = nil, group: String = "clinic", more: [Header] = []
    ) -> [Header] {
        var headers = [
            Header("retryCount", text: "\(due == nil ? times.count - 1 : times.count)"),
            Header("error", text: "RetryableError http_503"),
            // It is told when the record is made, which is a little later than the attempt's end.
            Header("failedAt", text: (begin + .milliseconds((times.last ?? 0) + 1)).iso8601),
            Header("triage-origin", text: "\(origin)"),
            Header("triage-origin-timestamp", text: "\(begin.milliseconds)"), Header("triage-group", text: group),
            Header("triage-origin-traceparent", text: "00-\(trace)-0000000000000001-01"),
            Header("triage-error-class", text: "transient"),
            Header("triage-error-fingerprint", text: "c46697c0f79d48b2"), Header("triage-attempts", text: ledger(times)),
            parent(UInt64(50 + times.count)),
        ]
        if let due { headers.append(Header("triage-due-at", text: "\((begin + .milliseconds(due)).milliseconds)")) }
        return headers + more
    }

    static func parked(_ origin: RecordPosition, behind: RecordPosition, group: String = "clinic") -> [Header] {
        [
            Header("retryCount", text: "0"), Header("triage-origin", text: "\(origin)"), Header("triage-group", text: group),
            Header("triage-origin-timestamp", text: "\(begin.milliseconds)"), Header("triage-parked-behind", text: "\(behind)"),
        ]
    }

    func commit(_ group: String, _ offsets: [String: Int64], metadata: CommitMetadata = CommitMetadata()) {
        committed.withLock { committed in
            for (topic, offset) in offsets {
                let partition = TopicPartition(topic, 0)
                committed[group, default: [:]][partition] = OffsetCommit(
                    partition, offset: offset, metadata: metadata.encoded(at: offset))
            }
        }
    }

    func commit(_ offsets: [String: Int64], metadata: CommitMetadata = CommitMetadata()) {
        commit("clinic", offsets, metadata: metadata)
    }

    func state(_ state: DeadLetterState, of position: RecordPosition, group: String = "clinic") {
        try? broker.producer().produce(
            OutboundRecord(
                topic: TopicName.deadLetterState, partition: 0,
                key: ByteSlice("\(DeadLetterKey(group: group, position: position))"),
                value: state.json)
        ) { _ in }
    }

    /// What a back end answers on a URL.
    func answer(_ url: String, _ body: String) { answers.withLock { $0[url] = body } }

    var caller: StubCaller { StubCaller(answers: answers.withLock { $0 }) }

    func explain(
        _ what: String, _ change: (inout Explainer.Options) -> Void = { _ in }, identifiers: IdentifierPolicy = .omitted,
        places: [TraceFetcher.Place] = [], traces: Configuration.Traces = Configuration.Traces(), topics: [String] = [topic]
    ) async throws -> Explanation {
        var configuration = Configuration(kafka: KafkaConfiguration(bootstrapServers: "unused:1"))
        configuration.topics = topics
        configuration.traces = traces
        var options = Explainer.Options()
        change(&options)
        let broker = broker
        let answersTimes = answersTimes
        let committed = committed.withLock { $0 }
        let source = ExplanationSource(
            scanner: broker.scanner(),
            offsets: { time, partitions in
                guard answersTimes else { return [:] }
                var found: [TopicPartition: Int64] = [:]
                for partition in partitions {
                    found[partition] =
                        broker.records(in: partition.topic)
                        .first { $0.partition == partition.partition && ($0.timestamp ?? time) >= time }?.offset
                }
                return found
            }, commits: { group, partitions in (committed[group] ?? [:]).filter { partitions.contains($0.key) } })
        let explainer = Explainer(
            configuration, source: source, options: options, identifiers: identifiers,
            fetcher: TraceFetcher(places: places, caller: caller), clock: clock)
        return try await explainer.explain(try ExplanationTarget(what))
    }

    /// The page, 100 columns wide unless said otherwise.
    func page(
        _ what: String, _ change: (inout Explainer.Options) -> Void = { _ in }, identifiers: IdentifierPolicy = .omitted,
        places: [TraceFetcher.Place] = [], traces: Configuration.Traces = Configuration.Traces(), topics: [String] = [topic],
        style: PageStyle = PageStyle()
    ) async throws -> String {
        let explanation = try await explain(
            what, change, identifiers: identifiers, places: places, traces: traces, topics: topics)
        return ExplainOutput(explanation, style: style).text
    }
}

/// Answers by URL; what it doesn't know is 404, an empty body is 500.
struct StubCaller: HTTPCaller {
    let answers: [String: String]

    func send(_ call: HTTPCall) async throws(HTTPCallError) -> HTTPAnswer {
        guard let body = answers[call.url] else { return HTTPAnswer(status: 404, body: ByteSlice("404 page not found")) }
        if body == "down" { throw HTTPCallError(.connectionFailed) }
        return HTTPAnswer(status: body.isEmpty ? 500 : 200, body: ByteSlice(body))
    }
}

/// The text in one line, for what may be broken anywhere.
func flat(_ text: String) -> String { text.split(whereSeparator: \.isWhitespace).joined(separator: " ") }

/// A page as it must be, without the line break at its end.
func golden(_ name: String) -> String {
    let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures/\(name)")
    let text = (try? String(contentsOf: file, encoding: .utf8)) ?? "no \(name)"
    return text.hasSuffix("\n") ? String(text.dropLast()) : text
}
