import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

@Suite("Engine: metrics", .timeLimit(.minutes(1)))
struct EngineMetricTests {
    @Test("deliveries, events, retries and dead letters equal the summary")
    func counts() async throws {
        let bench = EngineBench(partitions: 3)
        for version in 0..<90 { try bench.put("p\(version)", version: version) }
        for _ in 0..<5 { try bench.put(ByteSlice("{"), key: ByteSlice("bad")) }
        let summary = try await bench.run { event, context in
            switch (event.versionID.flatMap { Int($0) } ?? 0) % 4 {
            case 1: throw Persistent()
            case 2: throw Transient()
            case 3 where context.attempt < 3: throw Unexpected()
            default: break
            }
        }
        #expect(summary.completed + summary.deadLettered == 95)
        #expect(bench.total(.deliveries) == summary.consumed)
        #expect(bench.total(.deliveries, ["triage.outcome": "completed"]) == summary.completed)
        #expect(bench.total(.deliveries, ["triage.outcome": "retry_scheduled"]) == summary.retries)
        #expect(bench.total(.deliveries, ["triage.outcome": "dead_lettered"]) == summary.deadLettered)
        #expect(bench.total(.eventsProcessed) == 95)
        #expect(bench.total(.eventsProcessed, ["triage.outcome": "completed"]) == summary.completed)
        #expect(bench.total(.eventsProcessed, ["triage.outcome": "dead_lettered"]) == summary.deadLettered)
        #expect(bench.total(.retries) == summary.retries)
        #expect(bench.total(.retries, ["triage.retry.strategy": "exponential"]) == summary.retries)
        #expect(bench.total(.deadLetters) == summary.deadLettered)
        #expect(bench.total(.deadLetters, ["triage.error.class": "transient"]) == 22)
        #expect(bench.total(.deadLetters, ["triage.error.class": "persistent"]) == 23 + 5)
        // One observation for each process span, each event, each wait.
        #expect(bench.total(.processDuration) == summary.consumed)
        #expect(bench.total(.processDuration, ["error.type": "Persistent"]) == 23)
        #expect(bench.total(.endToEndDuration) == 95)
        #expect(bench.total(.retryWaitDuration) == summary.retries)
        #expect(bench.total(.retryLateness) == summary.retries)
        #expect(bench.total(.consumedMessages) == 95 + summary.retries)
        #expect(bench.total(.sentMessages) == summary.retries + summary.deadLettered)
        let origin = ["messaging.destination.name": bench.topic, "messaging.consumer.group.name": "workers"]
        #expect(bench.total(.deliveries, origin) == summary.consumed)
        #expect(bench.total(.retries, origin) == summary.retries)
        #expect(bench.total(.deadLetters, origin) == summary.deadLettered)
    }

    @Test("each counter of fixed attributes is there before it counts, so that its first increase shows")
    func zeros() async throws {
        let bench = EngineBench(partitions: 1)
        try await bench.run { _, _ in }
        let snapshot = bench.meter.collect(at: bench.tracer.clock.now())
        func values(_ metric: Metric, _ key: String) -> Set<String> {
            let points = snapshot.metrics.first { $0.metric.name == metric.name }?.points ?? []
            return Set(points.flatMap(\.attributes.pairs).filter { $0.key == key }.map(\.value))
        }
        #expect(
            values(.deliveries, "triage.outcome").isSuperset(of: ["completed", "retry_scheduled", "dead_lettered", "abandoned"]))
        #expect(values(.eventsProcessed, "triage.outcome") == ["completed", "dead_lettered"])
        #expect(values(.retries, "triage.retry.strategy") == ["immediate", "exponential", "scheduled"])
        #expect(values(.retries, "triage.error.class") == ["transient", "system"])
        #expect(values(.deadLetters, "triage.error.class") == ["transient", "persistent", "system"])
        #expect(bench.total(.deadLetters) == 0)
    }

    @Test("exemplars name the span that was measured: process for what is handled, send for what is sent")
    func exemplars() async throws {
        let bench = EngineBench(partitions: 1)
        for version in 0..<6 { try bench.put("p\(version)", version: version) }
        try await bench.run { event, context in
            switch (event.versionID.flatMap { Int($0) } ?? 0) % 3 {
            case 1: throw Persistent()
            case 2 where context.attempt < 2: throw Transient()
            default: break
            }
        }
        let spans = Dictionary(uniqueKeysWithValues: bench.recorder.spans.map { ($0.context.spanID, $0) })
        let snapshot = bench.meter.collect(at: bench.tracer.clock.now())
        let expected: [(Metric, String)] = [
            (.processDuration, "process "), (.endToEndDuration, "process "), (.retryWaitDuration, "process "),
            (.retryLateness, "process "), (.retries, "process "), (.deadLetters, "process "),
            (.clientOperationDuration, "send "),
        ]
        for (metric, name) in expected {
            // Polls and commits are measured whether they have a span or not.
            let points = (snapshot.metrics.first { $0.metric.name == metric.name }?.points ?? []).filter { point in
                !point.attributes.pairs.contains {
                    $0.key == "messaging.operation.name" && ["poll", "commit"].contains($0.value)
                }
            }
            let exemplars = points.flatMap(\.exemplars)
            #expect(!exemplars.isEmpty, "\(metric.name)")
            for exemplar in exemplars {
                let span = spans[exemplar.spanID]
                #expect(
                    span?.template.name.hasPrefix(name) == true && span?.context.traceID == exemplar.traceID, "\(metric.name)")
            }
            for point in points {
                // A bucket, or a counter, that holds something that was measured in a span has an exemplar.
                switch point.value {
                case .histogram(let counts, _, _, _, _):
                    #expect(point.exemplars.count == counts.count { $0 > 0 }, "\(metric.name)")
                case .sum(let value): #expect(point.exemplars.count == (value > 0 ? 1 : 0), "\(metric.name)")
                default: Issue.record("\(metric.name)")
                }
            }
        }
        // The process span of a dead letter is the one that gave it up.
        let dead = snapshot.metrics.first { $0.metric == .deadLetters }?.points.flatMap(\.exemplars) ?? []
        #expect(dead.count == 1)
        for exemplar in dead {
            let outcome = Attribute("triage.outcome", .literal("dead_lettered"))
            #expect(spans[exemplar.spanID]?.attributes.contains(outcome) == true)
        }
    }

    @Test("commits and rebalances are counted, levels return to zero")
    func levels() async throws {
        let bench = EngineBench(partitions: 2)
        for version in 0..<20 { try bench.put("p\(version)", version: version) }
        try await bench.run { _, context in if context.attempt < 2 { throw Transient() } }
        #expect(bench.total(.commits) >= 1)
        #expect(bench.total(.rebalances, ["triage.rebalance.type": "assigned"]) >= 1)
        #expect(bench.total(.rebalances, ["triage.rebalance.type": "revoked"]) == 1)
        #expect(bench.total(.recordsInFlight) == 0)
        #expect(bench.total(.retryWaiting) == 0)
        #expect(bench.total(.partitionsPaused) == 0)
    }

    @Test("two payloads of one bug share a fingerprint")
    func fingerprints() async throws {
        let bench = EngineBench()
        for key in ["p1", "p2", "p3"] { try bench.put(key, version: 1) }
        try await bench.run {
            $0.retry = .none
        } handler: { event, _ in
            throw Secret.patient(event.resourceID ?? "")
        }
        let fingerprints = Set(bench.deadLetters.map { $0.headers.text(HeaderName.errorFingerprint) ?? "" })
        #expect(fingerprints.count == 1)
        #expect(bench.total(.deadLetters, ["triage.error.fingerprint": fingerprints.first ?? ""]) == 3)
        #expect(bench.deadLetters.allSatisfy { $0.headers.text(HeaderName.error) == "Secret patient" })
    }

    private enum Secret: Error { case patient(String) }
}
