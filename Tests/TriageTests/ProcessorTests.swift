import Glibc
import Testing
import TriageEvents
import TriageIngress
import TriageKafka
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("The processor over an embedded cluster", .serialized)
struct ProcessorTests {
    func patients(_ ids: some Sequence<Int>) -> [String] { ids.map { #"{"resourceType":"Patient","id":"p-\#($0)"}"# } }

    @Test("Every event is handled; retries heal, rejections are dead-lettered, and with endsWhenIdle it ends")
    func endToEnd() async throws {
        let cluster = try makeCluster()
        defer { cluster.close() }
        let recorder = SpanRecorder()
        let telemetry = makeTelemetry([recorder])
        try await publish(patients(0..<20), action: .created, to: cluster, telemetry: telemetry)
        var configuration = makeConfiguration(cluster)
        configuration.endsWhenIdle = true
        let handled = Collected<String>()
        let processor = try Processor(configuration, telemetry: telemetry, logger: quiet()) { event, context in
            switch event.resourceID {
            case "p-3": throw RejectedError("not_here")
            case "p-5" where context.attempt < 3: throw RetryableError("busy")
            default: handled.append(event.resourceID ?? "")
            }
        }
        try await processor.run()
        #expect(handled.all.sorted() == (0..<20).filter { $0 != 3 }.map { "p-\($0)" }.sorted())
        let summary = processor.summary
        #expect(summary.completed == 19 && summary.deadLettered == 1 && summary.retries == 2 && summary.consumed == 22)
        let dead = try await records(of: ["fhir.Patient.created.dlq"], in: cluster)
        #expect(dead.count == 1)
        #expect(dead.first?.headers.text("error") == "RejectedError not_here")
        #expect(dead.first?.headers.text("triage-error-class") == "persistent")
        // All in one trace from the produce to the dead letter.
        let sent = try #require(recorder.spans.first { $0.template.name == "send fhir.Patient.created.dlq" })
        let names = recorder.spans(of: sent.context.traceID).map(\.template.name)
        #expect(
            names == ["send fhir.Patient.created", "process fhir.Patient.created", "attempt", "send fhir.Patient.created.dlq"])

        // All is committed: a second run has nothing to do.
        let again = try Processor(configuration, telemetry: makeTelemetry(), logger: quiet()) { _, _ in }
        try await again.run()
        #expect(again.summary.consumed == 0)
    }

    @Test("Topics whose partition counts differ end the run with an error that names both partitions, and nothing is handled")
    func notCoPartitioned() async throws {
        let cluster = try EmbeddedCluster()
        defer { cluster.close() }
        try cluster.createTopic("fhir.Patient", partitions: 6)
        try cluster.createTopic("fhir.Patient.retry", partitions: 3)
        var configuration = makeConfiguration(cluster)
        configuration.topics = ["fhir.Patient"]
        let handled = Collected<String>()
        let processor = try Processor(configuration, telemetry: makeTelemetry(), logger: quiet()) { event, _ in
            handled.append(event.resourceID ?? "")
        }
        let error = await #expect(throws: (any Error).self) { try await processor.run() }
        let text = error.map { "\($0)" } ?? ""
        #expect(text.contains("fhir.Patient/3 is assigned without fhir.Patient.retry/3"), "\(text)")
        #expect(handled.all.isEmpty)
    }

    @Test("A stop finishes what is in flight and commits it; the next run goes on behind it")
    func gracefulStop() async throws {
        let cluster = try makeCluster(partitions: 1, topics: ["fhir.Patient"])
        defer { cluster.close() }
        let publisher = try EventPublisher(
            KafkaConfiguration(bootstrapServers: cluster.bootstrapServers), telemetry: makeTelemetry(), pattern: .resource,
            logger: quiet()
        )
        let decoder = EventDecoder()
        for patient in patients(0..<50) {
            try await publisher.publish(ByteSlice(patient), action: .created, decoder: decoder) { _ in }
        }
        #expect(await publisher.flush())
        publisher.close()

        var configuration = makeConfiguration(cluster)
        configuration.topics = ["fhir.Patient"]
        configuration.concurrency = 4
        let begun = Collected<String>()
        let ended = Collected<String>()
        let (starts, started) = AsyncStream.makeStream(of: Void.self)
        let (gate, opened) = AsyncStream.makeStream(of: Void.self)
        let open = Task { for await _ in gate { break } }
        let processor = try Processor(configuration, telemetry: makeTelemetry(), logger: quiet()) { event, _ in
            begun.append(event.resourceID ?? "")
            started.yield()
            await open.value
            ended.append(event.resourceID ?? "")
        }
        let run = Task { try await processor.run() }
        for await _ in starts { break }
        processor.stop()
        opened.finish()
        try await run.value
        #expect(!begun.all.isEmpty)
        #expect(begun.all.sorted() == ended.all.sorted())

        configuration.endsWhenIdle = true
        let rest = Collected<String>()
        let next = try Processor(configuration, telemetry: makeTelemetry(), logger: quiet()) { event, _ in
            rest.append(event.resourceID ?? "")
        }
        try await next.run()
        #expect((ended.all + rest.all).sorted() == (0..<50).map { "p-\($0)" }.sorted())
    }

    @Test(
        "A topic that is missing ends a run that is to end at the topics' end, and is named; a server doesn't keep it up",
        arguments: [false, true])
    func missingTopic(isServing: Bool) async throws {
        let cluster = try makeCluster(topics: ["fhir.Patient"])
        defer { cluster.close() }
        var configuration = makeConfiguration(cluster)
        configuration.topics = ["fhir.Patient", "elsewhere"]
        if isServing { configuration.http = Configuration.HTTPAddress(host: "127.0.0.1", port: 0) }
        configuration.endsWhenIdle = true
        let processor = try Processor(configuration, telemetry: makeTelemetry(), logger: quiet()) { _, _ in }
        await #expect(throws: MissingTopic(topic: "elsewhere")) { try await processor.run() }
    }

    @Test("Cancelling its task ends it without an error")
    func cancellation() async throws {
        let cluster = try makeCluster(partitions: 1)
        defer { cluster.close() }
        var configuration = makeConfiguration(cluster)
        configuration.http = Configuration.HTTPAddress(host: "127.0.0.1", port: 0)
        let (ports, listening) = AsyncStream.makeStream(of: Int.self)
        let processor = try Processor(
            configuration, telemetry: makeTelemetry(), logger: quiet(), onListening: { listening.yield($0) }, handler: { _, _ in }
        )
        let run = Task { try await processor.run() }
        for await port in ports {
            #expect(port > 0)
            break
        }
        run.cancel()
        try await run.value
    }

    @Test("An address that is in use ends it with an error that says so")
    func addressInUse() async throws {
        let cluster = try makeCluster(partitions: 1)
        defer { cluster.close() }
        let taken = try TakenPort()
        var configuration = makeConfiguration(cluster)
        configuration.http = Configuration.HTTPAddress(host: "127.0.0.1", port: taken.port)
        let processor = try Processor(configuration, telemetry: makeTelemetry(), logger: quiet()) { _, _ in }
        do {
            try await processor.run()
            Issue.record("it listened on a port that is taken")
        } catch let error as ListenError {
            #expect(error.code == .addressInUse)
            #expect("\(error)".hasPrefix("can't listen on 127.0.0.1:\(taken.port): the port is in use"))
        }
    }

    @Test(
        "A property that can't be used is named before anything connects",
        arguments: [
            ("acks", "1"), ("session.timeout.ms", "soon"), ("no.such.property", "1"),
        ])
    func badProperty(key: String, value: String) throws {
        var configuration = Configuration(kafka: KafkaConfiguration(bootstrapServers: "127.0.0.1:1"))
        configuration.kafka.additional = [key: value]
        let error = #expect(throws: KafkaConfigurationError.self) {
            _ = try Processor(configuration, telemetry: makeTelemetry(), logger: quiet()) { _, _ in }
        }
        #expect(error?.key == key)
    }
}

/// A port of 127.0.0.1 that something listens on already.
private final class TakenPort {
    let port: Int
    private let descriptor: Int32

    init() throws {
        struct NoPort: Error {}
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isListening = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(descriptor, address, length) == 0 && listen(descriptor, 1) == 0
                    && getsockname(descriptor, address, &length) == 0
            }
        }
        guard isListening else { throw NoPort() }
        self.descriptor = descriptor
        port = Int(UInt16(bigEndian: address.sin_port))
    }

    deinit { close(descriptor) }
}
