import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Headers that may be shown")
struct ShownHeaderTests {
    func values(_ headers: [(String, String)]) -> [String: String] {
        let all = ShownHeader.all(of: Headers(headers.map { Header($0.0, text: $0.1) }))
        return Dictionary(all.compactMap { header in header.value.map { (header.name, $0) } }) { $1 }
    }

    @Test("of ours what has the form that we write")
    func ours() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        let all = [
            ("retryCount", "3"), ("error", "RejectedError http_400"), ("failedAt", "2026-01-02T03:04:05.678Z"),
            ("triage-due-at", "17"),
            ("triage-origin", "fhir.Patient.created/0/1"), ("triage-parked-behind", "fhir.Patient.created/0/0"),
            ("triage-origin-timestamp", "1764000000000"), ("traceparent", trace), ("triage-origin-traceparent", trace),
            ("triage-error-class", "persistent"), ("triage-error-fingerprint", "00000000000000aa"), ("triage-group", "clinic"),
            ("triage-writer", "0af7651916cd43dd"), ("triage-wait-reason", "scheduled"), ("content-type", "application/fhir+json"),
            ("triage-pointer", "MSG_SIZE_TOO_LARGE 70000"), ("triage-encryption", "A256GCM 1f0c8a53"),
            ("triage-replay", "0af76519-16cd-43dd-8448-eb211c80319c fhir.Patient.created.dlq/0/1"),
        ]
        #expect(values(all) == Dictionary(uniqueKeysWithValues: all))
        #expect(values([("triage-origin", "a/0/1"), ("triage-attempts", "")])["triage-attempts"] == "0 attempts")
    }

    @Test("never what might be anything else")
    func anythingElse() {
        let names = [
            "retryCount", "failedAt", "triage-due-at", "triage-parked-behind", "triage-origin-timestamp", "traceparent",
            "triage-origin-traceparent", "triage-error-class", "triage-error-fingerprint", "triage-writer", "triage-wait-reason",
            "content-type", "triage-replay", "triage-group", "tracestate", "baggage", "x-patient", "kafka_dlt-exception-message",
            "error",
        ]
        for text in ["Jane Doe, 1980-01-02", "Jane Doe", "\u{1B}[2J", ""] {
            let found = values(
                [("triage-origin", "a/0/1")] + names.filter { $0 != "error" || !text.hasPrefix("Jane") }.map { ($0, text) })
            #expect(found == ["triage-origin": "a/0/1"], "\(text)")
        }
        // Whose error it is isn't known.
        #expect(values([("error", "Jane Doe")]) == [:])
        #expect(values([("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-Jane")]) == [:])
    }

    @Test("of others numbers and names, as they encode them")
    func others() {
        let spring = ShownHeader.all(of: [
            Header("kafka_dlt-original-topic", text: "orders"), Header("kafka_dlt-original-partition", ByteSlice([0, 0, 0, 3])),
            Header("kafka_dlt-original-offset", ByteSlice([0, 0, 0, 0, 0, 0, 1, 0])),
            Header("kafka_dlt-exception-fqcn", text: "a.B$C"),
            Header("kafka_dlt-exception-message", text: "Jane Doe"),
            Header("kafka_dlt-original-consumer-group", text: "Jane Doe"),
        ])
        #expect(spring.map(\.value) == ["orders", "3", "256", "a.B$C", nil, nil])
        #expect(spring.map(\.bytes) == [6, 4, 8, 5, 8, 8])
        let connect = ShownHeader.all(of: [
            Header("__connect.errors.topic", text: "orders"), Header("__connect.errors.partition", text: "x"), Header("n", nil),
        ])
        #expect(connect.map(\.value) == ["orders", nil, nil] && connect[2].bytes == nil)
    }
}
