import Foundation
import Glibc
import Logging
import Synchronization
import Testing
import TriageTelemetry
import TriageTestKit

@testable import Triage
@testable import TriageEvents

private let clock = ManualClock(Timestamp(milliseconds: 1_790_000_000_123))

private func span(_ id: UInt64, sampled: Bool = true) -> Span {
    let context = TraceContext(
        traceID: TraceID(high: 0x0AF7_6519_16CD_43DD, low: 0x8448_EB21_1C80_319C), spanID: SpanID(id),
        flags: sampled ? .sampled : [])
    let template = SpanTemplate(name: "x", kind: .internal, attributes: [], packed: ByteSlice(""))
    return Span(
        SpanData(template: template, context: context, parent: nil, start: clock.now(), isRecording: sampled), clock: clock)
}

/// An output whose lines come back.
final class LogPipe: Sendable {
    let output: LogOutput
    private let ends: [Int32]

    init(_ format: LogFormat = .text, exported: LogExportRules = LogExportRules()) {
        var ends: [Int32] = [0, 0]
        _ = ends.withUnsafeMutableBufferPointer { pipe($0.baseAddress) }
        // Nobody reads while a test writes, so all of it must fit into the pipe: 64 KiB (pipe(7)).
        self.ends = ends
        output = LogOutput(format, descriptor: ends[1], exported: exported, clock: clock)
    }

    func logger(_ level: Logger.Level = .trace, provider: Logger.MetadataProvider? = nil) -> Logger {
        Logger(label: "test") { TriageLogHandler(label: $0, output: self.output, level: level, metadataProvider: provider) }
    }

    /// Everything that was written; to be called once.
    var lines: [String] {
        close(ends[1])
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = read(ends[0], &buffer, buffer.count)
            guard count > 0 else { break }
            all += buffer[..<count]
        }
        close(ends[0])
        return String(decoding: all, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false).dropLast()
            .map(String.init)
    }
}

@Suite("The log backend: lines")
struct LogLineTests {
    static let time = "2026-09-21T14:13:20.123Z"

    private func object(_ line: String) throws -> [String: Any] {
        try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    }

    @Test(
        "Text: time, level, logger, message, metadata by key; nothing that could forge a line or steer a terminal",
        arguments: [
            ("plain", [:], "plain"),
            ("two\nlines\r\tand \u{1B}[31mred\u{7F}\u{85}\u{2028}", [:], #"two\nlines\r\tand \u001b[31mred\u007f\u0085\u2028"#),
            ("", [:], ""), ("ünï🙂", [:], "ünï🙂"),
            ("m", ["b": "2", "a": "1"], "m a=1 b=2"), ("m", ["k": ""], #"m k="""#),
            ("m", ["k": "a b", "l": "x\"y", "m": "a=b", "n": "a\nb"], #"m k="a b" l="x\"y" m="a=b" n=a\nb"#),
            ("m", ["k": .array(["1", "2"])], #"m k="["1", "2"]""#.replacing(#"["1", "2"]"#, with: #"[\"1\", \"2\"]"#)),
            ("m", ["n": .stringConvertible(7)], "m n=7"),
        ] as [(String, Logger.Metadata, String)])
    func text(message: String, metadata: Logger.Metadata, expected: String) {
        let pipe = LogPipe()
        pipe.logger().notice("\(message)", metadata: metadata)
        #expect(pipe.lines == ["\(LogLineTests.time) notice test: \(expected)"])
    }

    @Test("JSON: any text survives, numbers and truth values stay what they are, keys are sorted")
    func json() throws {
        let nasty =
            "\u{0}\u{1}\u{1F}\"\\/\n\r\t\u{7F}\u{85}\u{2028}é🙂" + String(decoding: [0xFF, 0x41, 0xC3] as [UInt8], as: UTF8.self)
        let pipe = LogPipe(.json)
        pipe.logger().error(
            "\(nasty)",
            metadata: [
                nasty: "\(nasty)", "int": .stringConvertible(-7), "double": .stringConvertible(0.5),
                "nan": .stringConvertible(Double.nan), "true": .stringConvertible(true), "big": .stringConvertible(UInt64.max),
                "list": ["a", .array([]), ["k": "v"]], "map": .dictionary(["b": "2", "a": .dictionary([:])]),
            ])
        let lines = pipe.lines
        #expect(lines.count == 1)
        let line = try #require(lines.first)
        #expect(line.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F && $0.value != 0x2028 })
        let found = try object(line)
        #expect(found["message"] as? String == nasty && found["level"] as? String == "error")
        #expect(found["timestamp"] as? String == LogLineTests.time && found["logger"] as? String == "test")
        #expect(found["source"] as? String == "TriageTests" && found["trace_id"] == nil)
        let metadata = try #require(found["metadata"] as? [String: Any])
        #expect(metadata[nasty] as? String == nasty)
        #expect(metadata["int"] as? Int == -7 && metadata["double"] as? Double == 0.5 && metadata["nan"] as? String == "nan")
        #expect(metadata["true"] as? Bool == true && metadata["big"] as? UInt64 == .max)
        #expect(metadata["list"] as? NSArray == ["a", [], ["k": "v"]] as NSArray)
        #expect(metadata["map"] as? NSDictionary == ["b": "2", "a": [:]] as NSDictionary)
    }

    @Test("Random texts and metadata are one line of valid JSON each, and come back whole")
    func random() throws {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SplitMix(state: seed)
        func text() -> String {
            var scalars = String.UnicodeScalarView()
            for _ in 0..<Int.random(in: 0...12, using: &random) {
                let bits = random.next()
                if let scalar = Unicode.Scalar(UInt32(truncatingIfNeeded: bits % (bits & 1 == 0 ? 0xA0 : 0x11_0000))) {
                    scalars.append(scalar)
                }
            }
            return String(scalars)
        }
        let pipe = LogPipe(.json)
        let texts = (0..<100).map { _ in (text(), text(), text()) }
        let logger = pipe.logger()
        for (message, key, value) in texts { logger.info("\(message)", metadata: ["k" + key: "\(value)"]) }
        let lines = pipe.lines
        #expect(lines.count == texts.count, "seed \(seed)")
        for (line, (message, key, value)) in zip(lines, texts) {
            let found = try object(line)
            #expect((found["message"] as? String)?.unicodeScalars.elementsEqual(message.unicodeScalars) == true, "seed \(seed)")
            let metadata = found["metadata"] as? [String: String]
            #expect(metadata?["k" + key]?.unicodeScalars.elementsEqual(value.unicodeScalars) == true, "seed \(seed)")
        }
    }

    @Test("Lines of many threads never interleave")
    func threads() async throws {
        let pipe = LogPipe(.json)
        let logger = pipe.logger()
        let filler = String(repeating: "x", count: 200)
        await withTaskGroup { group in
            for task in 0..<8 {
                group.addTask { for index in 0..<20 { logger.info("\(task) \(index) \(filler)") } }
            }
        }
        let lines = pipe.lines
        #expect(lines.count == 160)
        let messages = try lines.map { try object($0)["message"] as? String ?? "" }
        #expect(Set(messages).count == 160 && messages.allSatisfy { $0.hasSuffix(filler) })
    }

    @Test("A reader that went away costs lines, which are counted, and nothing else")
    func closed() {
        signal(SIGPIPE, SIG_IGN)
        var ends: [Int32] = [0, 0]
        _ = ends.withUnsafeMutableBufferPointer { pipe($0.baseAddress) }
        close(ends[0])
        let output = LogOutput(.text, descriptor: ends[1], clock: clock)
        let logger = Logger(label: "test") { TriageLogHandler(label: $0, output: output) }
        logger.error("one")
        logger.error("two")
        #expect(output.linesLost == 2)
        close(ends[1])
    }
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
private struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}

@Suite("The log backend: contract, span ids, export")
struct LogHandlerTests {
    static let ids = "trace_id=0af7651916cd43dd8448eb211c80319c span_id=0000000000000007"

    private func says(_ pipe: LogPipe) -> [String] { pipe.lines.map { String($0.dropFirst(LogLineTests.time.count + 1)) } }

    @Test("Level and metadata are values of each logger; the line's own metadata goes over the provider's over the handler's")
    func contract() {
        let pipe = LogPipe()
        var first = pipe.logger(.info, provider: Logger.MetadataProvider { ["p": "provider", "h": "provider", "l": "provider"] })
        first[metadataKey: "h"] = "handler"
        first[metadataKey: "own"] = "handler"
        var second = first
        second.logLevel = .error
        second[metadataKey: "own"] = nil
        first.debug("no")
        first.info("first", metadata: ["l": "line"])
        second.warning("no")
        second.error("second")
        #expect(first.logLevel == .info)
        #expect(
            says(pipe) == [
                "info test: first h=provider l=line own=handler p=provider",
                "error test: second h=provider l=provider p=provider",
            ])
    }

    enum Boom: Error, CustomStringConvertible {
        case loud(String)
        var description: String { "a patient's name" }
    }

    @Test("An error of the line shows as its type and case, never with its text")
    func error() {
        let pipe = LogPipe()
        pipe.logger().error("third", error: Boom.loud("a patient's name"))
        #expect(says(pipe) == [#"error test: third error.type="Boom loud""#])
    }

    @Test("A line in a span has its ids, sampled or not, in child tasks too; one with ids of its own keeps those")
    func ids() async {
        let pipe = LogPipe()
        let logger = pipe.logger()
        logger.info("outside")
        await Span.$current.withValue(span(7)) {
            logger.info("inside")
            await withTaskGroup { $0.addTask { logger.info("child") } }
            logger.info("given", metadata: ["trace_id": "t"])
        }
        Span.$current.withValue(span(7, sampled: false)) { logger.info("unsampled", metadata: ["a": "1"]) }
        Span.$current.withValue(span(9)) { logger.log(level: .info, safe: "about another", in: span(7).context) }
        #expect(
            says(pipe) == [
                "info test: outside", "info test: inside \(LogHandlerTests.ids) trace_flags=01",
                "info test: child \(LogHandlerTests.ids) trace_flags=01", "info test: given trace_id=t",
                "info test: unsampled a=1 \(LogHandlerTests.ids) trace_flags=00",
                "info test: about another \(LogHandlerTests.ids) trace_flags=01",
            ])
    }

    @Test("JSON has the ids at the top, beside the message")
    func jsonIDs() throws {
        let pipe = LogPipe(.json)
        Span.$current.withValue(span(7)) { pipe.logger().info("m") }
        let line = try #require(pipe.lines.first)
        #expect(
            line == #"{"timestamp":"\#(LogLineTests.time)","level":"info","logger":"test","message":"m","#
                + #""trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"0000000000000007","trace_flags":"01","#
                + #""source":"TriageTests"}"#)
    }

    /// What is exported when `body` logs.
    private func exported(_ rules: LogExportRules = LogExportRules(), _ body: (Logger) -> Void) -> (
        [LogRecord], LogEmitter, [String]
    ) {
        let pipe = LogPipe(exported: rules)
        let recorder = LogRecorder()
        let emitter = LogEmitter(clock: clock, processors: [recorder])
        pipe.output.export(to: emitter)
        body(pipe.logger(.info))
        return (recorder.records, emitter, says(pipe))
    }

    @Test("Of a safe line everything is exported but what stands on stderr in its place")
    func safeLine() throws {
        let (records, emitter, lines) = exported { logger in
            Span.$current.withValue(span(7)) {
                logger.log(
                    level: .warning, safe: "indexed in \(3) ms",
                    [Attribute("clinic.site", .literal("north")), Attribute("id", .identifier(ByteSlice("p-1")))],
                    shown: "indexed Jane Doe in 3 ms")
            }
            logger.log(level: .debug, safe: "below the level")
        }
        let record = try #require(records.first)
        #expect(records.count == 1)
        #expect(record.body == "indexed in 3 ms" && record.severity == .warning && record.context == span(7).context)
        #expect(record.timestamp == clock.now() && record.eventName == nil && record.allowed.isEmpty)
        #expect(
            record.attributes.map(\.key.description) == ["clinic.site", "id", "code.file.path", "code.line.number"])
        #expect(record.attributes[2].value == .text(SafeText(vetted: "TriageTests/LogHandlerTests.swift")))
        #expect(emitter.bodiesWithheld == 0 && emitter.attributesWithheld == 0 && record.droppedAttributes == 0)
        #expect(lines == ["warning test: indexed Jane Doe in 3 ms clinic.site=north \(LogHandlerTests.ids) trace_flags=01"])
    }

    @Test("Of another line neither text nor metadata leave, and both are counted")
    func foreignLine() throws {
        let (records, emitter, lines) = exported { logger in
            logger.critical("patient Jane Doe", metadata: ["name": "Doe", "mrn": "12"], file: "Jane Doe/x y.swift")
            logger.info("again")
        }
        #expect(records.map(\.body) == [nil, nil] && records.map(\.severity) == [.fatal, .info])
        #expect(records[0].attributes.isEmpty && records[0].allowed.isEmpty && records[0].droppedAttributes == 2)
        #expect(records[1].attributes.map(\.key.description) == ["code.file.path", "code.line.number"])
        #expect(emitter.bodiesWithheld == 2 && emitter.attributesWithheld == 2 && emitter.created == 2)
        #expect(lines[0] == "critical test: patient Jane Doe mrn=12 name=Doe")
    }

    @Test("What the operator names is exported: texts of a logger, values of keys")
    func rules() {
        var rules = LogExportRules()
        rules.metadata = ["request", "list"]
        let (records, emitter, _) = exported(rules) {
            $0.info("secret", metadata: ["request": "r1", "list": ["a"], "name": "Doe"])
        }
        #expect(
            records[0].body == nil && records[0].allowed == [LogRecord.AllowedAttribute(vettedKey: "request", vettedValue: "r1")])
        #expect(records[0].droppedAttributes == 2 && emitter.attributesWithheld == 2)
        rules.labels = ["test"]
        let (vouched, other, _) = exported(rules) { $0.info("told") }
        #expect(vouched[0].body == "told" && other.bodiesWithheld == 0)
        #expect(vouched[0].attributes.first == Attribute("triage.log.logger", .text("test")))
    }

    @Test("Levels and severities")
    func severities() {
        #expect(Logger.Level.allCases.map { LogSeverity($0).rawValue } == [1, 5, 9, 10, 13, 17, 21])
    }
}

@Suite("Log settings")
struct LogSettingsTests {
    func load(_ flags: [String: String] = [:], _ environment: [String: String] = [:], file: String? = nil) async throws
        -> LogSettings
    {
        try await ConfigurationLoader(flags: flags, environment: environment, file: file).logSettings()
    }

    @Test("Flags over environment over file over defaults")
    func layers() async throws {
        #expect(try await load() == LogSettings())
        try await withFile("log-level: debug\nlog-format: json\nlog-export-metadata: [a, b]\n") { path in
            let settings = try await load(
                ["log-level": "ERROR"], ["TRIAGE_LOG_LEVEL": "info", "TRIAGE_LOG_EXPORT_LABELS": "x, y,"], file: path)
            #expect(settings.level == .error && settings.format == .json)
            #expect(settings.exported.labels == ["x", "y"] && settings.exported.metadata == ["a", "b"])
        }
    }

    @Test("What can't be used is named", arguments: [("log-level", "loud"), ("log-format", "xml")])
    func refused(key: String, value: String) async {
        let error = await refusal { _ = try await load([key: value]) }
        #expect(error?.key == key && error?.value == value)
    }
}
