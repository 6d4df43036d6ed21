import Testing
import TriageEvents
import TriageKafka
import TriageProcessing

@testable import Triage

@Suite("Events that are too large for the retry and dead letter topics", .serialized, .timeLimit(.minutes(2)))
struct TooLargeTests {
    @Test("become dead letters that point to their origin; others aren't held up")
    func pointers() async throws {
        let cluster = try makeCluster(partitions: 1)
        defer { cluster.close() }
        let telemetry = makeTelemetry()
        let filling = String(repeating: " ", count: 50_000)
        let patients = (0..<20).map { #"{"resourceType":"Patient","id":"p-\#($0)"\#($0 % 5 == 0 ? filling : "")}"# }
        try await publish(patients, action: .created, to: cluster, telemetry: telemetry)
        var configuration = makeConfiguration(cluster)
        configuration.endsWhenIdle = true
        configuration.outage = nil
        configuration.retry = RetryPolicy(base: .milliseconds(20), cap: .milliseconds(50))
        // The client refuses what is larger, as a broker would.
        configuration.kafka.additional["message.max.bytes"] = "20000"
        let processor = try Processor(configuration, telemetry: telemetry, logger: quiet()) { _, _ in
            throw RetryableError("http_503")
        }
        try await processor.run()
        #expect(processor.summary.deadLettered == 20)
        let dead = try await records(of: [TopicName.deadLetter(of: "fhir.Patient.created")], in: cluster)
        #expect(dead.count == 20)
        for record in dead {
            let isLarge = Int(record.key?.utf8Text?.dropFirst(2) ?? "").map { $0 % 5 == 0 } == true
            #expect((record.value == nil) == isLarge)
            #expect((record.headers.text(HeaderName.pointer)?.hasPrefix("MSG_SIZE_TOO_LARGE 50") == true) == isLarge)
            #expect(record.headers.text(HeaderName.retryCount) == (isLarge ? "0" : "3"))
            // Where it points to, the event stands.
            let origin = try #require(RecordPosition(record.headers.text(HeaderName.origin) ?? ""))
            #expect(origin.topic == "fhir.Patient.created")
        }
    }
}
