import Synchronization
import Testing
import TriageEvents
import TriageKafka
import TriageProcessing
import TriageTelemetry

@testable import Triage

@Suite("A producer that fails for good in the middle of the work", .serialized, .timeLimit(.minutes(2)))
struct ProducerRestartTests {
    @Test("Retries and dead letters that it has not answered leave through its successor: nothing is lost")
    func nothingIsLost() async throws {
        let cluster = try makeCluster(partitions: 2)
        defer { cluster.close() }
        let telemetry = makeTelemetry()
        let patients = (0..<120).map { #"{"resourceType":"Patient","id":"p-\#($0)"}"# }
        try await publish(patients, action: .created, to: cluster, telemetry: telemetry)
        var configuration = makeConfiguration(cluster)
        configuration.endsWhenIdle = true
        configuration.outage = nil
        let attempted = Mutex<[String: Int]>([:])
        let calls = Mutex(0)
        let handled = Collected<String>()
        let processor = try Processor(configuration, telemetry: telemetry, logger: quiet()) { event, _ in
            let id = event.resourceID ?? ""
            let call = calls.withLock { calls in
                calls += 1
                return calls
            }
            // OUT_OF_ORDER_SEQUENCE_NUMBER, for a retry record or a dead letter.
            if call == 20 || call == 140 { cluster.pushRequestErrors(.produce, [45]) }
            if id.hasSuffix("7") { throw RejectedError("not_here") }
            let attempt = attempted.withLock { attempted in
                attempted[id, default: 0] += 1
                return attempted[id, default: 0]
            }
            if attempt == 1 { throw RetryableError("http_503") }
            handled.append(id)
        }
        try await processor.run()
        let rejected = Set((0..<120).map { "p-\($0)" }.filter { $0.hasSuffix("7") })
        #expect(Set(handled.all) == Set((0..<120).map { "p-\($0)" }).subtracting(rejected))
        let dead = try await records(of: [TopicName.deadLetter(of: "fhir.Patient.created")], in: cluster)
        #expect(Set(dead.compactMap { $0.key?.utf8Text }) == rejected)
        let restarts = telemetry.meter.collect(at: telemetry.tracer.clock.now()).metrics
            .first { $0.metric.name == Metric.producerRestarts.name }
        #expect(restarts?.points.isEmpty == false)
    }
}
