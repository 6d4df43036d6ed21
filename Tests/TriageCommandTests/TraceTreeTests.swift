import Synchronization
import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageCommand

@Suite("Drawing a trace")
struct TraceTreeTests {
    static func context(_ id: UInt64) -> TraceContext {
        TraceContext(traceID: TraceID(high: 10, low: 11), spanID: SpanID(id), flags: .sampled)
    }

    static func span(
        _ id: UInt64, under parent: UInt64?, _ name: String, kind: SpanKind = .internal, from start: Int64 = 0, to end: Int64 = 0,
        _ change: (inout SpanData) -> Void = { _ in }
    ) -> SpanData {
        let template = SpanTemplate(name: name, kind: kind, attributes: [], packed: ByteSlice(""))
        var span = SpanData(
            template: template, context: context(id), parent: parent.map(context), start: Timestamp(nanoseconds: start),
            isRecording: true
        )
        change(&span)
        let recorder = Ended()
        Tracer(clock: SystemClock(), processors: [recorder]).end(span, at: Timestamp(nanoseconds: end))
        return recorder.span ?? span
    }

    /// An event that was tried twice, out of order as spans end.
    static let deadLetter: [SpanData] = [
        span(3, under: 2, "attempt", from: 2_100_000, to: 2_104_000) { $0.set(.error("RetryableError http_503")) },
        span(1, under: nil, "send fhir.Patient.created", kind: .producer, from: 0, to: 1_250_000) {
            $0.append("messaging.destination.partition.id", .text("3"))
            $0.append("messaging.kafka.offset", .int(18))
        },
        span(2, under: 1, "process fhir.Patient.created", from: 2_000_000, to: 7_800_000) {
            $0.append("triage.outcome", .literal("retry_scheduled"))
            $0.set(.error("RetryableError http_503"))
        },
        span(4, under: 2, "send fhir.Patient.created.retry", from: 2_200_000, to: 3_000_000),
        span(5, under: 4, "wait fhir.Patient.created.retry", from: 3_000_000, to: 1_203_000_000) {
            $0.append("triage.wait.reason", .literal("backoff"))
        },
        span(6, under: 4, "process fhir.Patient.created.retry", from: 1_203_000_000, to: 1_204_000_000) {
            $0.append("triage.outcome", .literal("dead_lettered"))
        },
    ]

    @Test("A dead letter's trace, line by line")
    func deadLetterTrace() {
        #expect(
            TraceTree(Self.deadLetter).text == """
                send fhir.Patient.created                    1.2 ms  partition 3 offset 18
                └─ process fhir.Patient.created              5.8 ms  retry_scheduled  ERROR RetryableError http_503
                   ├─ attempt                                  4 µs  ERROR RetryableError http_503
                   └─ send fhir.Patient.created.retry        800 µs
                      ├─ wait fhir.Patient.created.retry     1.20 s  backoff
                      └─ process fhir.Patient.created.retry  1.0 ms  dead_lettered
                """
        )
    }

    @Test(
        "Durations by their size",
        arguments: [
            (0, "0 µs"), (999, "0 µs"), (1_000, "1 µs"), (999_999, "999 µs"), (1_000_000, "1.0 ms"), (999_999_999, "999.9 ms"),
            (1_000_000_000, "1.00 s"), (61_050_000_000, "61.05 s"), (3_600_000_000_000, "3600.00 s"),
        ] as [(Int64, String)])
    func durations(nanoseconds: Int64, text: String) {
        #expect(TraceTree([Self.span(1, under: nil, "x", to: nanoseconds)]).text == "x  \(text)")
    }

    @Test("Siblings in the order they began; lines go on past them")
    func siblings() {
        let spans = [
            Self.span(1, under: nil, "root"), Self.span(4, under: 1, "second", from: 20, to: 20),
            Self.span(2, under: 1, "first", from: 10, to: 10),
            Self.span(3, under: 2, "below", from: 11, to: 11),
        ]
        #expect(
            TraceTree(spans).text == """
                root         0 µs
                ├─ first     0 µs
                │  └─ below  0 µs
                └─ second    0 µs
                """
        )
    }

    @Test("A span whose parent is missing is a root of its own")
    func orphans() {
        let spans = [Self.span(1, under: nil, "a"), Self.span(3, under: 9, "b", from: 5, to: 5)]
        #expect(TraceTree(spans).text == "a  0 µs\nb  0 µs")
        #expect(TraceTree([]).text == "")
    }

    @Test("An error without a text is one all the same")
    func emptyError() {
        #expect(TraceTree([Self.span(1, under: nil, "x") { $0.set(.error("")) }]).text == "x  0 µs  ERROR")
    }
}

/// Keeps one span, with its end.
private final class Ended: SpanProcessor {
    private let kept = Mutex<SpanData?>(nil)
    var span: SpanData? { kept.withLock { $0 } }
    func onEnd(_ span: borrowing SpanData) {
        let span = copy span
        kept.withLock { $0 = span }
    }
}
