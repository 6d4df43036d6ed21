import Synchronization
import Testing
import TriageEvents
import TriageKafka
import TriageProcessing
import TriageTelemetry

@testable import Triage

@Suite("Levels and outages over an embedded cluster", .serialized, .timeLimit(.minutes(2)))
struct PipelineTests {
    private func patients(_ count: Int) -> [String] { (0..<count).map { #"{"resourceType":"Patient","id":"p-\#($0)"}"# } }

    /// The sum of a metric's points that have this attribute; nil if there is none.
    private func total(_ metric: Metric, _ key: String, _ value: String, of telemetry: Telemetry) -> Double? {
        let data = telemetry.meter.collect(at: telemetry.tracer.clock.now()).metrics.first { $0.metric.name == metric.name }
        let points = (data?.points ?? []).filter { $0.attributes.pairs.contains { $0.key == key && $0.value == value } }
        return points.isEmpty
            ? nil
            : points.reduce(0) { sum, point in
                switch point.value {
                case .sum(let value): sum + Double(value)
                case .gauge(let value), .doubleSum(let value): sum + value
                default: sum
                }
            }
    }

    @Test("Open dead letters, their age and the lag are reported while it works, from what the brokers say")
    func levels() async throws {
        let cluster = try makeCluster(partitions: 2)
        defer { cluster.close() }
        let telemetry = makeTelemetry()
        try await publish(patients(20), action: .created, to: cluster, telemetry: telemetry)
        let topic = "fhir.Patient.created"
        func run(_ rejected: Set<String>) throws -> (Processor, Task<Void, any Error>) {
            let processor = try Processor(makeConfiguration(cluster), telemetry: telemetry, logger: quiet()) { event, _ in
                if rejected.contains(event.resourceID ?? "") { throw RejectedError("not_here") }
            }
            return (processor, Task { try await processor.run() })
        }
        let (processor, work) = try run(["p-3", "p-7", "p-11"])
        #expect(
            try await eventually {
                total(.deadLetterSize, "messaging.destination.name", topic, of: telemetry) == 3
            }, "three dead letters")
        #expect(
            try await eventually {
                total(.deadLetterSize, "messaging.destination.name", "fhir.Patient.updated", of: telemetry) == 0
            })
        #expect(try await eventually { total(.consumerLag, "messaging.destination.name", topic, of: telemetry) == 0 }, "no lag")
        let age = try #require(total(.deadLetterOldestAge, "messaging.destination.name", topic, of: telemetry))
        #expect(age >= 0 && age < 60)
        processor.stop()
        try await work.value
        #expect(total(.deadLetterSize, "messaging.destination.name", topic, of: telemetry) == nil)

        // The next one has written none itself: it is told by the brokers.
        let (next, nextWork) = try run([])
        #expect(
            try await eventually {
                total(.deadLetterSize, "messaging.destination.name", topic, of: telemetry) == 3
            }, "three dead letters, by a look")
        #expect((total(.deadLetterOldestAge, "messaging.destination.name", topic, of: telemetry) ?? 0) > 0)
        next.stop()
        try await nextWork.value
    }

    @Test("What the handler calls is away for a while: paused, probed, gone on; no dead letter, nothing doubled")
    func outage() async throws {
        let cluster = try makeCluster(partitions: 2)
        defer { cluster.close() }
        let telemetry = makeTelemetry()
        try await publish(patients(60), action: .created, to: cluster, telemetry: telemetry)
        var configuration = makeConfiguration(cluster)
        configuration.endsWhenIdle = true
        configuration.outage = OutagePolicy(
            failuresInRow: 5, failureRatio: 0, probeDelay: .milliseconds(20), maximumProbeDelay: .milliseconds(40))
        let calls = Mutex(0)
        let handled = Collected<String>()
        let processor = try Processor(configuration, telemetry: telemetry, logger: quiet()) { event, _ in
            let call = calls.withLock { calls in
                calls += 1
                return calls
            }
            if call <= 30 { throw RetryableError("http_503") }
            handled.append(event.resourceID ?? "")
        }
        try await processor.run()
        #expect(handled.all.count == 60 && Set(handled.all).count == 60)
        #expect(processor.summary.deadLettered == 0 && processor.summary.retries < 16)
        #expect(processor.summary.deferred + processor.summary.retries == 30)
        #expect(total(.gateState, "triage.gate.state", "open", of: telemetry) == 1)
    }
}
