import Foundation
import Logging
import Synchronization
import Testing
import TriageEvents
import TriageKafka
import TriageTelemetry

@testable import Triage

/// Every text and every name of an element in these patients is a marker; failures of every class are made of them. Then all
/// that left the process is searched: spans and metrics as OTLP bytes, the scrape, log lines, the headers we wrote.
@Suite("Markers in place of patient data show nowhere", .serialized)
struct PrivacyTests {
    @Test("Hashed ids: no marker leaves, in no encoding")
    func hashed() async throws {
        let left = try await run(.hashed(try IdentifierKey(Array(repeating: 7, count: 32))))
        #expect(left.deadLettered > 0 && left.retried > 0, "failures happened")
        for (place, bytes) in left.places {
            #expect(!bytes.isEmpty, "there is something to search in \(place)")
            #expect(Marker.found(in: bytes) == nil, "in \(place)")
        }
        #expect(left.text("otlp").contains("event.resource.id"))
    }

    @Test("Omitted ids: no marker leaves, nor any id")
    func omitted() async throws {
        let left = try await run(.omitted)
        for (place, bytes) in left.places { #expect(Marker.found(in: bytes) == nil, "in \(place)") }
        #expect(!left.text("otlp").contains("event.resource.id"))
    }

    @Test("Plain ids: the same search finds them, so it would have found them above")
    func plain() async throws {
        let left = try await run(.plain)
        let otlp = try #require(left.places["otlp"])
        #expect(Marker.found(in: otlp) != nil)
        // Nothing but the ids, though.
        let ids = Set(left.text("otlp").matches(of: /CANARY-?[A-Za-z]*-?[0-9]+/).map { String($0.output) })
        #expect(!ids.isEmpty && ids.allSatisfy { $0.hasPrefix("CANARY-id-") }, "\(ids)")
        for (place, bytes) in left.places where place != "otlp" { #expect(Marker.found(in: bytes) == nil, "in \(place)") }
    }

    @Test("Sealed dead letters: no marker is in a whole dead letter without the key, and each is opened with it")
    func sealed() async throws {
        let cipher = DeadLetterCipher(keys: [try DeadLetterSealKey(repeatElement(9, count: 32))])
        let left = try await run(.omitted, cipher: cipher)
        for (place, bytes) in left.places {
            #expect(!bytes.isEmpty, "there is something to search in \(place)")
            #expect(Marker.found(in: bytes) == nil, "in \(place)")
        }
        #expect(left.deadLetters.count > 20)
        var details = 0
        for record in left.deadLetters {
            // The key is the resource's id; tracestate is passed on. All else is searched.
            var bytes = Array(record.value ?? ByteSlice(""))
            for header in record.headers where header.name != "tracestate" {
                bytes += Array(header.name.utf8) + [10] + Array(header.value ?? ByteSlice("")) + [10]
            }
            #expect(Marker.found(in: bytes) == nil)
            let opened = try cipher.opened(record)
            #expect(opened.value.map { Marker.found(in: Array($0)) != nil } == true)
            let upstream = opened.headers.last("x-upstream")
            #expect(upstream.map { Marker.found(in: Array($0)) != nil } ?? true)
            if let text = try cipher.openDetail(record.headers), Marker.found(in: Array(text.utf8)) != nil { details += 1 }
        }
        #expect(details > 5, "the errors' texts are there, for who has the key")
    }

    @Test("The search knows the encodings", arguments: ["plain", "percent", "hexadecimal", "base64", "base64, shifted", "date"])
    func search(_ encoding: String) throws {
        let text = "Zoë CANARY-name-12 of Delft"
        let bytes: [UInt8] =
            switch encoding {
            case "percent": text.utf8.flatMap { Array("%\(String($0, radix: 16, uppercase: true))".utf8) }
            case "hexadecimal": text.utf8.flatMap { Array(String($0, radix: 16).utf8) }
            case "base64": Array(Data(text.utf8).base64EncodedString().utf8)
            case "base64, shifted": Array(Data(("x" + text).utf8).base64EncodedString().utf8)
            case "date": Array(Marker.date.utf8)
            default: Array(text.utf8)
            }
        #expect(Marker.found(in: bytes) != nil)
        #expect(Marker.found(in: Array("canaries are birds".utf8)) == nil)
    }

    // MARK: The run

    /// What left the process in one run.
    struct Left {
        var places: [String: [UInt8]] = [:]
        var deadLettered = 0
        var retried = 0
        var deadLetters: [Record] = []
        func text(_ place: String) -> String { String(decoding: places[place] ?? [], as: UTF8.self) }
    }

    private func run(_ identifiers: IdentifierPolicy, cipher: DeadLetterCipher? = nil) async throws -> Left {
        let receiver = try ReceiverOfEverything()
        defer { receiver.stop() }
        let cluster = try makeCluster()
        defer { cluster.close() }
        let lines = Collected<String>()
        var logger = Logger(label: "triage") { _ in LineCollector(lines) }
        logger.logLevel = .trace
        let settings = TelemetryConfiguration(
            environment: ["OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_LOGS_EXPORTER": "otlp"], exportsByDefault: true
        )
        let telemetry = Telemetry(settings, identifiers: identifiers) { lines.append($0) }
        try await send(to: cluster, telemetry: telemetry, logger: logger)

        var configuration = makeConfiguration(cluster)
        configuration.endsWhenIdle = true
        configuration.deadLetterCipher = cipher
        configuration.retry = RetryPolicy(retries: 2, base: .milliseconds(10), cap: .milliseconds(20))
        let handled = Collected<Int>()
        let processor = try Processor(configuration, telemetry: telemetry, logger: logger) { event, context in
            handled.append(1)
            let text = String(decoding: event.resource ?? ByteSlice(""), as: UTF8.self)
            try PrivacyTests.fail(handled.all.count, with: text)
        }
        try await processor.run()
        let scrape = telemetry.scrape()
        await telemetry.shutdown()

        var left = Left(deadLettered: processor.summary.deadLettered, retried: processor.summary.retries)
        left.places["otlp"] = receiver.received
        left.places["scrape"] = scrape
        left.places["logs"] = Array(lines.all.joined(separator: "\n").utf8)
        var headers: [UInt8] = []
        let written = TopicPattern.hybrid.patientTopics.flatMap { [TopicName.retry(of: $0), TopicName.deadLetter(of: $0)] }
        for record in try await records(of: written, in: cluster) {
            if TopicName.isDeadLetter(record.topic) { left.deadLetters.append(record) }
            // What the producer put there is kept byte for byte; baggage and tracestate are passed on.
            for header in record.headers where !["x-upstream", "baggage", "tracestate"].contains(header.name) {
                headers += Array("\(header.name): \(header.value.map { String(decoding: $0, as: UTF8.self) } ?? "")\n".utf8)
            }
        }
        left.places["headers"] = headers
        return left
    }

    /// Good and bad events, through the publisher and past it, as other producers would send them.
    private func send(to cluster: EmbeddedCluster, telemetry: Telemetry, logger: Logger) async throws {
        let patients = try Marker.patients()
        #expect(patients.count > 20)
        try await publish(patients, action: .updated, to: cluster, telemetry: telemetry, source: Marker.next("source"))
        let sink = TracedSink(
            producer: try KafkaProducer(KafkaConfiguration(bootstrapServers: cluster.bootstrapServers)), tracer: telemetry.tracer,
            meter: telemetry.meter, clientID: nil
        )
        defer { sink.close() }
        for (number, patient) in patients.enumerated() {
            let metadata = """
                {"eventId":"\(Marker.next("event"))","timestamp":"2026-01-02T03:04:05Z","source":"\(Marker.next("source"))",\
                "correlationId":"\(Marker.next("correlation"))"}
                """
            let envelope = #"{"type":"PatientUpdated","data":\#(patient),"metadata":\#(metadata)}"#
            let value =
                switch number % 6 {
                case 0: envelope
                case 1: String(envelope.dropLast(40))
                case 2: envelope.replacing("PatientUpdated", with: Marker.next("type"))
                case 3: patient.replacing(#""resourceType":"Patient""#, with: #""resourceType":"\#(Marker.next("resource"))""#)
                case 4: patient.replacing(#""id":"CANARY"#, with: #""id":"/CANARY"#)
                default: patient.replacing(Marker.date, with: Marker.next("date"))
                }
            let record = OutboundRecord(
                topic: "fhir.Patient.updated", key: ByteSlice(Marker.next(number % 2 == 0 ? "id" : "key of a patient")),
                value: ByteSlice(value),
                headers: [
                    Header("x-upstream", text: Marker.next("header")),
                    Header("baggage", text: "patient=\(Marker.next("baggage"))"),
                    Header("error", text: Marker.next("error")), Header("retryCount", text: Marker.next("count")),
                    Header("tracestate", text: "pt=\(Marker.next("state"))"),
                    Header("triage-replay", text: Marker.next("replay")),
                ]
            )
            _ = try await sink.send(record, parent: nil)
        }
    }

    /// Errors of every kind that a handler may throw, each with the event's text in it.
    private static func fail(_ number: Int, with text: String) throws {
        struct Described: Error, CustomStringConvertible, LocalizedError {
            let description: String
            var errorDescription: String? { description }
        }
        enum Cased: Error { case refused(patient: String) }
        struct Mirrored: Error, CustomReflectable {
            let text: String
            var customMirror: Mirror { Mirror(self, children: [(label: text, value: text)], displayStyle: .enum) }
        }
        struct Own: ClassifiedError {
            let text: String
            let errorClass = ErrorClass.transient
        }
        switch number % 10 {
        case 1: throw Described(description: text)
        case 2: throw Cased.refused(patient: text)
        case 3: throw Mirrored(text: text)
        case 4: throw Own(text: text)
        case 5: throw RejectedError("not_here", detail: text)
        case 6: throw RetryableError("busy")
        case 7: throw NSError(domain: text, code: 7, userInfo: [NSLocalizedDescriptionKey: text])
        case 8: throw InvalidEvent(.elementType, at: "Patient.name")
        default: return
        }
    }
}

/// Texts that stand for patient data.
private enum Marker {
    /// Stands for birth dates, which must be dates to be taken.
    static let date = "1801-02-03"
    private static let count = Mutex(0)

    /// A marker that was not there before; `kind` must be letters for ids.
    static func next(_ kind: String) -> String {
        count.withLock {
            $0 += 1
            return "CANARY-\(kind)-\($0)"
        }
    }

    /// The patients of the fixtures: each text a marker, each element that the decoder doesn't look at renamed to one.
    static func patients() throws -> [String] {
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let file = tests.appending(path: "TriageEventsTests/Fixtures/hl7-r4-patients.ndjson")
        return try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map { line in
            var patient = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            for (key, value) in patient { patient[key] = marked(value) }
            patient["resourceType"] = "Patient"
            patient["id"] = next("id")
            patient["meta"] =
                ["versionId": next("version"), "source": next("source"), "tag": [["code": next("tag")]]] as [String: Any]
            if patient["deceasedDateTime"] != nil { patient["deceasedDateTime"] = date }
            patient["gender"] = "other"
            patient["birthDate"] = date
            patient[next("element")] = next("value")
            let data = try JSONSerialization.data(withJSONObject: patient, options: [.withoutEscapingSlashes, .sortedKeys])
            return String(decoding: data, as: UTF8.self)
        }
    }

    private static func marked(_ value: Any) -> Any {
        switch value {
        case is String: next("text")
        case let list as [Any]: list.map(marked)
        case let object as [String: Any]:
            Dictionary(uniqueKeysWithValues: object.map { (next($0.key.filter(\.isLetter)), marked($0.value)) })
        default: value
        }
    }

    /// The first form of a marker that stands in `bytes`.
    static func found(in bytes: [UInt8]) -> String? {
        let text = String(decoding: bytes, as: UTF8.self)
        // Without punctuation: what strips it would leak all the same.
        let core = Array("CANARY".utf8)
        var forms = [
            "CANARY", date, core.map { "%\(String($0, radix: 16, uppercase: true))" }.joined(),
            core.map { String($0, radix: 16) }.joined(),
        ]
        // Of each of the three alignments the characters that don't depend on what stands before and behind.
        for shift in 0..<3 {
            let encoded = Data([UInt8](repeating: 0, count: shift) + core).base64EncodedString()
            let certain = encoded.dropFirst([0, 2, 3][shift]).prefix { $0 != "=" }
            forms.append(String(certain.dropLast((shift + core.count) % 3 == 0 ? 0 : 1)))
        }
        return forms.first { text.contains($0) }
    }
}

/// Keeps log lines as a file would have them.
private struct LineCollector: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace
    let lines: Collected<String>

    init(_ lines: Collected<String>) { self.lines = lines }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        lines.append("\(event.level) \(event.message) \(metadata) \(event.metadata ?? [:]) \(event.error.map { "\($0)" } ?? "")")
    }
}

/// Takes every HTTP request, keeps all bytes, answers 200.
private final class ReceiverOfEverything: Sendable {
    let endpoint: String
    private let descriptor: Int32
    private let bytes = Mutex<[UInt8]>([])

    init() throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isListening = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(descriptor, address, length) == 0 && listen(descriptor, 16) == 0
                    && getsockname(descriptor, address, &length) == 0
            }
        }
        try #require(isListening)
        self.descriptor = descriptor
        endpoint = "http://127.0.0.1:\(UInt16(bigEndian: address.sin_port))"
        Thread.detachNewThread { self.accept() }
    }

    var received: [UInt8] { bytes.withLock { $0 } }

    func stop() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    private func accept() {
        while true {
            let client = Glibc.accept(descriptor, nil, nil)
            if client < 0 { break }
            Thread.detachNewThread { self.serve(client) }
        }
        close(descriptor)
    }

    private func serve(_ client: Int32) {
        defer { close(client) }
        var pending: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = read(client, &buffer, buffer.count)
            if count <= 0 { return }
            bytes.withLock { $0 += buffer[..<count] }
            pending += buffer[..<count]
            while let end = pending.firstRange(of: Array("\r\n\r\n".utf8)) {
                let head = String(decoding: pending[..<end.lowerBound], as: UTF8.self).lowercased()
                let length = head.firstMatch(of: /content-length: *([0-9]+)/).flatMap { Int($0.output.1) } ?? 0
                guard pending.count >= end.upperBound + length else { break }
                pending.removeFirst(end.upperBound + length)
                let answer = Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8)
                _ = write(client, answer, answer.count)
            }
        }
    }
}
