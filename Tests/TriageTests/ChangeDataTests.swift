import Testing
import TriageEvents
import TriageKafka
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("Change data over an embedded cluster", .serialized, .timeLimit(.minutes(2)))
struct ChangeDataTests {
    let table = "db.public.patient"

    /// Puts records as a connector would, without a span.
    private func put(_ records: [OutboundRecord], to cluster: EmbeddedCluster) async throws {
        let producer = try KafkaProducer(KafkaConfiguration(bootstrapServers: cluster.bootstrapServers))
        for record in records { try producer.produce(record) { _ in } }
        #expect(await producer.flush(timeout: .seconds(30)))
        producer.close()
    }

    private func row(_ op: String, _ id: String, _ lsn: Int, type: String = "Patient") -> OutboundRecord {
        let resource = JSONText(#"{"gender":"male"}"#).quoted
        let row =
            #"{"id":"\#(id)","txid":\#(lsn),"ts":"2026-01-01T00:00:00Z","resource_type":"\#(type)","resource":\#(resource)}"#
        let value = #"""
            {"before":\#(op == "d" ? #"{"id":"\#(id)"}"# : "null"),"after":\#(op == "d" ? "null" : row),"op":"\#(op)","ts_ms":1,
            "source":{"connector":"postgresql","table":"patient","lsn":\#(lsn),"txId":\#(lsn),"ts_ms":1767225600000}}
            """#
        return OutboundRecord(topic: table, partition: 0, key: ByteSlice(#"{"id":"\#(id)"}"#), value: ByteSlice(value))
    }

    private func configuration(_ cluster: EmbeddedCluster) -> Configuration {
        var configuration = makeConfiguration(cluster)
        configuration.changeDataTopics = [table]
        configuration.handlesEvents = false
        configuration.endsWhenIdle = true
        return configuration
    }

    private func counted(_ result: String, of telemetry: Telemetry) -> Int64 {
        let data = telemetry.meter.collect(at: telemetry.tracer.clock.now()).metrics
            .first { $0.metric.name == Metric.eventsCaptured.name }
        return (data?.points ?? []).reduce(0) { sum, point in
            guard point.attributes.pairs.contains(where: { $0.key == "triage.capture.result" && $0.value == result }),
                point.attributes.pairs.contains(where: { $0.key == "triage.capture.source" && $0.value == "change_data" }),
                case .sum(let value) = point.value
            else { return sum }
            return sum + value
        }
    }

    @Test(
        "Debezium's records become events in order, under the attempt; what is nothing is skipped, what is broken a dead letter")
    func endToEnd() async throws {
        let cluster = try makeCluster(topics: TopicPattern.hybrid.patientTopics + [table])
        defer { cluster.close() }
        let tombstone = OutboundRecord(topic: table, partition: 0, key: ByteSlice(#"{"id":"p1"}"#), value: nil)
        let broken = OutboundRecord(
            topic: table, partition: 0, key: nil,
            value: ByteSlice(#"{"op":"c","after":{"name":"x"},"source":{"table":"patient"}}"#))
        try await put(
            // The first comes twice, as from a connector that starts again.
            [
                row("c", "p1", 1), row("c", "p1", 1), row("u", "p1", 2), row("c", "o1", 3, type: "Observation"),
                row("d", "p1", 4), tombstone, broken,
            ],
            to: cluster)
        let recorder = SpanRecorder()
        let telemetry = makeTelemetry([recorder])
        try await TriageService(configuration(cluster), telemetry: telemetry, logger: quiet(), handler: nil).run()

        let all = try await records(of: TopicPattern.hybrid.patientTopics + [table + ".dlq"], in: cluster)
        let dead = all.filter { $0.topic == table + ".dlq" }
        let found = all.filter { $0.topic != table + ".dlq" }
        let byTopic = Dictionary(grouping: found, by: \.topic)
        #expect(found.count == 4 && byTopic.count == 3)
        let decoder = EventDecoder()
        for (action, version) in [(ChangeAction.created, "1"), (.updated, "2")] {
            let record = try #require(byTopic["fhir.Patient.\(action.rawValue)"]?.first)
            let event = try decoder.decode(record)
            #expect(event.form == .envelope && event.action == action && record.key == ByteSlice("p1"))
            #expect(event.versionID == version && event.gender == "male" && event.timestamp == "2026-01-01T00:00:00.000Z")
            #expect(event.eventID?.utf8.count == 36)
        }
        let deleted = try decoder.decode(try #require(byTopic["fhir.Patient.deleted"]?.first))
        #expect(deleted.resourceID == "p1" && deleted.resource == ByteSlice(#"{"resourceType":"Patient","id":"p1"}"#))
        let twice = try (byTopic["fhir.Patient.created"] ?? []).map { try decoder.decode($0).eventID }
        #expect(twice.count == 2 && Set(twice).count == 1)
        #expect(dead.compactMap { $0.headers.text("error") } == ["InvalidEvent row_without_resource at after"])
        #expect(counted("published", of: telemetry) == 4 && counted("skipped", of: telemetry) == 2)

        // send ← attempt ← process, in one trace each.
        let spans = recorder.spans
        for send in spans where send.template.name.hasPrefix("send fhir.") {
            let attempt = try #require(spans.first { $0.context.spanID == send.parentSpanID })
            #expect(attempt.template.name == "attempt" && attempt.context.traceID == send.context.traceID)
        }
        #expect(spans.count { $0.template.name.hasPrefix("send fhir.") } == 4)
        let skipped = spans.filter { $0.attributes.contains { $0.key == "triage.skip.reason" } }
        #expect(skipped.count == 2)
    }

    @Test("Events are written as the settings say", arguments: [CloudEventMode.binary])
    func format(mode: CloudEventMode) async throws {
        let cluster = try makeCluster(topics: ["fhir.Patient", table])
        defer { cluster.close() }
        try await put([row("c", "p1", 1)], to: cluster)
        var configuration = configuration(cluster)
        configuration.capture.pattern = .resource
        configuration.capture.cloudEvents = mode
        configuration.capture.source = "clinic"
        try await TriageService(configuration, telemetry: makeTelemetry(), logger: quiet(), handler: nil).run()
        let found = try await records(of: ["fhir.Patient"], in: cluster)
        #expect(found.count == 1 && found[0].headers.text("ce_type") == "PatientCreated")
        let event = try EventDecoder().decode(found[0])
        #expect(event.form == .cloudEvent && event.action == .created && event.source == "clinic" && event.resourceID == "p1")
    }

    @Test(
        "settings",
        arguments: [
            ("change-data-topics", "fhir.Patient.created"), ("change-data-topics", "a.dlq"), ("pattern", "x"),
            ("cloud-events", "on"),
            ("events", "maybe"),
        ])
    func refusedSettings(key: String, value: String) async throws {
        let loader = try await ConfigurationLoader(flags: [key: value], environment: [:])
        #expect { try loader.configuration() } throws: { ($0 as? ConfigurationError)?.key == key }
    }

    @Test("settings are read, and a service that would do nothing is refused")
    func settings() async throws {
        let flags = [
            "change-data-topics": "a.b, c", "pattern": "resource", "cloud-events": "structured", "source": "s", "events": "false",
        ]
        let configuration = try await ConfigurationLoader(flags: flags, environment: [:]).configuration()
        #expect(configuration.changeDataTopics == ["a.b", "c"] && !configuration.handlesEvents)
        #expect(configuration.capture.pattern == .resource && configuration.capture.cloudEvents == .structured)
        #expect(configuration.capture.source == "s")
        var idle = configuration
        idle.changeDataTopics = []
        #expect(throws: ConfigurationError.self) {
            try TriageService(idle, telemetry: makeTelemetry(), logger: quiet(), handler: { _, _ in })
        }
    }
}
