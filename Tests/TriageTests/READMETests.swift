import Foundation
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import Triage

/// The repository, seen from this file.
private let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

private func text(_ path: String) throws -> String { try String(contentsOf: root.appending(path: path), encoding: .utf8) }

/// The rows of the first table behind `heading`, cell by cell, without its head.
private func table(_ heading: String, in text: String) throws -> [[String]] {
    let start = try #require(text.range(of: heading), "no heading \(heading)")
    let lines = text[start.upperBound...].split(separator: "\n", omittingEmptySubsequences: false)
    let rows = lines.drop { !$0.hasPrefix("|") }.prefix { $0.hasPrefix("|") }.dropFirst(2)
    return rows.map { row in row.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) } }
}

@Suite("What the documents say is what the code does", .serialized)
struct READMETests {
    @Test("The README's example is the code that is compiled here")
    func example() throws {
        let source = try text("Tests/TriageTests/READMEExampleTests.swift")
        let begin = try #require(source.range(of: "// README ↓\n"))
        let end = try #require(source.range(of: "// README ↑"))
        let code = source[begin.upperBound..<end.lowerBound]
        #expect(try text("README.md").contains("```swift\nimport Triage\n\n\(code)```\n"))
        #expect(code.split(separator: "\n").count <= 24)
    }

    @Test("The README's batch handler is the code that is compiled here, and does what its comments say")
    func batches() async throws {
        let source = try text("Tests/TriageTests/READMEExampleTests.swift")
        let begin = try #require(source.range(of: "// README batch ↓\n"))
        let end = try #require(source.range(of: "// README batch ↑"))
        #expect(try text("README.md").contains("```swift\n\(source[begin.upperBound..<end.lowerBound])```\n"))

        final class Database: PatientDatabase {
            let batches = Mutex<[[String]]>([])
            struct Down: Error {}
            func upsert(_ rows: [(id: String, resource: ByteSlice?)]) async throws -> [Int: String] {
                let isFirst = batches.withLock { batches in
                    batches.append(rows.map(\.id))
                    return batches.count == 1
                }
                if isFirst { throw Down() }
                let refused = rows.enumerated().filter { $0.element.id == "refused" }
                return Dictionary(uniqueKeysWithValues: refused.map { ($0.offset, "why") })
            }
        }
        let cluster = try makeCluster()
        defer { cluster.close() }
        let telemetry = makeTelemetry([])
        let ids = ["refused", "a", "b", "c"]
        try await publish(
            ids.map { #"{"resourceType":"Patient","id":"\#($0)"}"# }, action: .created, to: cluster, telemetry: telemetry)
        let database = Database()
        var configuration = makeConfiguration(cluster)
        configuration.endsWhenIdle = true
        // The example's processor is its own; so its end is, too.
        try await serve(database, configuration, telemetry)
        let batches = database.batches.withLock { $0 }
        #expect(batches.allSatisfy { Set($0).count == $0.count })
        // All of the first batch failed and came again.
        let calls = Dictionary(grouping: batches.flatMap(\.self), by: \.self).mapValues(\.count)
        #expect(calls == Dictionary(uniqueKeysWithValues: ids.map { ($0, (batches.first ?? []).contains($0) ? 2 : 1) }))
        let dead = try await records(of: ["fhir.Patient.created.dlq"], in: cluster)
        #expect(dead.compactMap { $0.headers.text("error") } == ["RejectedError refused"])
    }

    @Test("The README's publishing is the code that is compiled here, and does what its comments say")
    func publishing() async throws {
        let source = try text("Tests/TriageTests/READMEExampleTests.swift")
        let begin = try #require(source.range(of: "// README publish ↓\n"))
        let end = try #require(source.range(of: "// README publish ↑"))
        #expect(try text("README.md").contains("```swift\n\(source[begin.upperBound..<end.lowerBound])```\n"))

        let cluster = try makeCluster()
        defer { cluster.close() }
        let recorder = SpanRecorder()
        let telemetry = makeTelemetry([recorder])
        let patients = ["a", "b"].map { #"{"resourceType":"Patient","id":"\#($0)"}"# }
        let answers = try await importPatients(patients, brokers: cluster.bootstrapServers, telemetry: telemetry)
        #expect(answers.count == 2)
        var configuration = makeConfiguration(cluster)
        configuration.endsWhenIdle = true
        let publisher = try EventPublisher(configuration.kafka, telemetry: telemetry, logger: quiet())
        let processor = try Processor(
            configuration, telemetry: telemetry, logger: quiet(), handler: Intake(publisher: publisher).handle)
        try await processor.run()
        publisher.close()
        let decoder = EventDecoder()
        let found = try await records(of: TopicPattern.hybrid.patientTopics, in: cluster)
        let created = try found.filter { $0.topic == "fhir.Patient.created" }.map { try decoder.decode($0) }
        let updated = try found.filter { $0.topic == "fhir.Patient.updated" }.map { try decoder.decode($0) }
        #expect(created.count == 2 && created.allSatisfy { $0.source == "import" })
        #expect(Set(updated.map(\.correlationID)) == Set(created.map(\.correlationID)) && updated.count == 2)
        #expect(Set(updated.map(\.resource)) == Set(patients.map { ByteSlice($0) }))
        for send in recorder.spans where send.template.name == "send fhir.Patient.updated" {
            let attempt = try #require(recorder.spans.first { $0.context.spanID == send.parentSpanID })
            #expect(attempt.template.name == "attempt" && attempt.context.traceID == send.context.traceID)
        }
    }

    @Test("The README's handler does what its comments say")
    func handler() async throws {
        final class Service: PatientService {
            let calls = Mutex<[String: Int]>([:])
            func put(_ id: String, _ resource: ByteSlice?) async throws -> Int {
                let call = calls.withLock { calls in
                    calls[id, default: 0] += 1
                    return calls[id] ?? 0
                }
                struct Surprise: Error {}
                switch id {
                case "surprise" where call == 1: throw Surprise()
                case "refused": return 422
                default: return 200
                }
            }
        }
        let cluster = try makeCluster()
        defer { cluster.close() }
        let recorder = SpanRecorder()
        let telemetry = makeTelemetry([recorder])
        let patients =
            [#"{"resourceType":"Patient"}"#]
            + ["fine", "surprise", "refused"].map { #"{"resourceType":"Patient","id":"\#($0)"}"# }
        try await publish(patients, action: .created, to: cluster, telemetry: telemetry)
        let service = Service()
        var configuration = makeConfiguration(cluster)
        configuration.endsWhenIdle = true
        let processor = try Processor(
            configuration, telemetry: telemetry, logger: quiet(), handler: Directory(service: service).handle)
        try await processor.run()
        #expect(processor.summary.completed == 2 && processor.summary.deadLettered == 2 && processor.summary.retries == 1)
        #expect(service.calls.withLock { $0 } == ["fine": 1, "surprise": 2, "refused": 1])
        let dead = try await records(of: ["fhir.Patient.created.dlq"], in: cluster)
        #expect(Set(dead.compactMap { $0.headers.text("error") }) == ["RejectedError no_id", "RejectedError refused"])
        let attempts = recorder.spans.filter { $0.template.name == "attempt" }
        #expect(attempts.count { $0.attributes.contains { $0.key == "clinic.action" && $0.value == .text("created") } } == 4)
    }

    @Test(
        "The table of settings has every key of the loader and no other",
        arguments: [
            "README.md", "Sources/Triage/Triage.docc/Settings.md",
        ])
    func configurationTable(path: String) throws {
        let rows = try table("<!-- settings -->", in: text(path))
        #expect(rows.map { $0[0] } == ConfigurationLoader.keys.map { "`\($0.key)`" })
        for (row, key) in zip(rows, ConfigurationLoader.keys) {
            #expect(row[1] == "`TRIAGE_\(key.key.uppercased().replacing("-", with: "_"))`")
            #expect(row.last == key.meaning)
        }
    }

    @Test("The table of metrics is the catalogue")
    func metricTable() throws {
        let rows = try table("<!-- metrics -->", in: text("Sources/Triage/Triage.docc/Metrics.md"))
        let expected = Metric.all.map { metric in
            ["`\(metric.name)`", metric.instrument.rawValue, "`\(metric.unit)`", metric.help]
        }
        #expect(rows.map { Array($0.prefix(4)) } == expected)
    }

    /// The variables that the sources read: each literal, and the exporter's with and without the signals' names.
    private func variablesRead() throws -> Set<String> {
        var names: Set<String> = []
        let folder = root.appending(path: "Sources/Triage")
        for file in try FileManager.default.contentsOfDirectory(atPath: folder.path) where file.hasSuffix(".swift") {
            let source = try text("Sources/Triage/\(file)")
            names.formUnion(source.matches(of: /"(OTEL_[A-Z_]+)"/).map { String($0.output.1) })
        }
        let exporter = try text("Sources/TriageOTLP/Transport/OTLPConfiguration.swift")
        let endings = exporter.matches(of: /(?:kind|nil), "([A-Z_]+)"/).map { String($0.output.1) }
        for ending in endings {
            for signal in ["", "TRACES_", "METRICS_", "LOGS_"] { names.insert("OTEL_EXPORTER_OTLP_\(signal)\(ending)") }
        }
        return names
    }

    /// The variables of a table's first column; `OTLP_*_` stands for the general form and those of the signals.
    private func variablesNamed(_ path: String) throws -> Set<String> {
        let cells = try table("<!-- otel -->", in: text(path)).flatMap { $0[0].split(separator: ",") }
        let names = cells.map { $0.trimmingCharacters(in: ["`", " "]) }
        return Set(
            names.flatMap { name in
                guard name.contains("OTLP_*_") else { return [name] }
                return ["", "TRACES_", "METRICS_", "LOGS_"].map { name.replacing("OTLP_*_", with: "OTLP_\($0)") }
            }
        )
    }

    @Test("The table of OpenTelemetry's variables has each that is read and no other; the README's has only such")
    func telemetryTable() throws {
        let read = try variablesRead()
        let named = try variablesNamed("Sources/Triage/Triage.docc/Settings.md")
        #expect(read.count > 50)
        #expect(named.subtracting(read).sorted() == [], "named, but not read")
        #expect(read.subtracting(named).sorted() == [], "read, but not named")
        #expect(try variablesNamed("README.md").subtracting(read).sorted() == [], "named in the README, but not read")
    }
}
