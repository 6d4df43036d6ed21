import Testing
import TriageEvents
import TriageIngress
import TriageTelemetry

@testable import Triage

@Suite("What a service tells probes", .serialized, .timeLimit(.minutes(2)))
struct ServiceHealthTests {
    private func readiness(_ service: TriageService) -> HealthStatus {
        let now = SystemClock().now()
        return .all(service.health(since: now).map { $0.readiness(at: now) })
    }

    @Test("Without partitions a consumer isn't ready; where requests are taken in they aren't asked for")
    func partitions() async throws {
        let cluster = try makeCluster(topics: ["fhir.Patient.created"])
        defer { cluster.close() }
        var configuration = makeConfiguration(cluster)
        let telemetry = makeTelemetry()
        let alone = try TriageService(configuration, telemetry: telemetry, logger: quiet(), handler: { _, _ in })
        #expect(readiness(alone) == .failing([.notAssigned]))
        configuration.webhooks = Configuration.Webhooks()
        let both = try TriageService(configuration, telemetry: telemetry, logger: quiet(), handler: { _, _ in })
        #expect(readiness(both) == .failing([.notListening, .notProducing]))
    }

    @Test("An instance that only takes requests in is ready once it listens and a broker answered, and not when it stops")
    func intake() async throws {
        let cluster = try makeCluster(topics: ["fhir.Patient.created"])
        defer { cluster.close() }
        var configuration = makeConfiguration(cluster)
        configuration.handlesEvents = false
        configuration.webhooks = Configuration.Webhooks()
        configuration.listen.address.port = 0
        let service = try TriageService(configuration, telemetry: makeTelemetry(), logger: quiet(), handler: nil)
        #expect(readiness(service) == .failing([.notListening, .notProducing]))
        async let run: Void = service.run()
        #expect(try await eventually { readiness(service) == .ok })
        service.stop()
        try await run
        #expect(readiness(service) == .failing([.stopping, .notListening]))
    }
}
