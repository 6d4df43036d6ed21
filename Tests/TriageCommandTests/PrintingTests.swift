import Foundation
import Testing
import TriageEvents
import TriageIngress
import TriageTelemetry

@testable import Triage
@testable import TriageCommand

@Suite("What is printed")
struct PrintingTests {
    @Test("Tables: names on the left, values aligned on the right")
    func table() {
        #expect(Table.rows([("produced", "1000"), ("dead-lettered", "7")]) == "  produced       1000\n  dead-lettered     7")
        #expect(Table.rows([]) == "")
        #expect(Table.seconds(1.005) == "1.00 s" && Table.seconds(0) == "0.00 s" && Table.seconds(12.349) == "12.35 s")
    }

    /// The keys of a value's JSON.
    func keys(_ value: some Encodable) throws -> [String] {
        let parsed = try JSONSerialization.jsonObject(with: Data(Output.encoded(value).utf8))
        return try #require(parsed as? [String: Any]).keys.sorted()
    }

    func report(_ trace: [SpanData] = [], deadLettered: Int = 1, isInterrupted: Bool = false) -> DemonstrationReport {
        DemonstrationReport(
            produced: 10, completed: 10 - deadLettered, deadLettered: deadLettered, retries: 3, parked: 4, duplicates: 0,
            spansExported: 50, spansDropped: 2, duration: .milliseconds(1500), exampleTrace: trace, isInterrupted: isInterrupted
        )
    }

    @Test("What became of a command is data: the Patient's id stands on stdout and nowhere else; -o json is what HTTP answers")
    func commandAnswers() {
        let result = CommandResult(
            requestID: "r", action: .created, resourceID: "p1", versionID: "1", finishedAt: Timestamp(nanoseconds: 0))
        let done = CommandStatus(.completed, result: result.json)
        #expect(CommandAnswer.lines("r", nil, isAwaited: false) == ["r"])
        #expect(CommandAnswer.lines("r", nil, isAwaited: true) == ["r", "pending"])
        #expect(CommandAnswer.lines("r", done, isAwaited: true) == ["r", "completed created Patient/p1 version 1"])
        let failed = CommandStatus(.failed, errorClass: "persistent", error: "RejectedError http_422")
        #expect(CommandAnswer.lines("r", failed, isAwaited: true) == ["r", "failed persistent RejectedError http_422"])
        #expect(CommandAnswer.json("r", nil) == #"{"requestId":"r","status":"pending"}"#)
        #expect(
            CommandAnswer.json("r", done)
                == #"{"requestId":"r","status":"completed","action":"created","resource":"Patient/p1","versionId":"1","#
                + #""finishedAt":"1970-01-01T00:00:00.000Z"}"#)
        #expect(CommandAnswer.json("r", failed) == failed.json("r"))
    }

    @Test("demo -o json has what the issue asks for, a missing trace as null")
    func demoJSON() throws {
        let expected = [
            "completed", "dead_lettered", "duplicates", "duration_seconds", "example_trace_id", "interrupted", "parked",
            "produced", "retries", "spans_dropped", "spans_exported",
        ]
        #expect(try keys(DemoCommand.Summary(report())) == expected)
        #expect(
            try Output.encoded(DemoCommand.Summary(report()))
                == #"{"completed":9,"dead_lettered":1,"duplicates":0,"duration_seconds":1.5,"example_trace_id":null,"#
                + #""interrupted":false,"parked":4,"produced":10,"retries":3,"spans_dropped":2,"spans_exported":50}"#
        )
        let withTrace = try Output.encoded(DemoCommand.Summary(report(TraceTreeTests.deadLetter)))
        #expect(withTrace.contains(#""example_trace_id":"000000000000000a000000000000000b""#))
    }

    @Test("demo's text ends with the trace, or says how to see one")
    func demoText() {
        let text = DemoCommand.Summary(report(TraceTreeTests.deadLetter)).text(report(TraceTreeTests.deadLetter))
        #expect(text.contains("  dead-lettered        1\n"))
        #expect(
            text.contains("\n\nOne dead-lettered event, trace 000000000000000a000000000000000b:\n\nsend fhir.Patient.created "))
        // One was dead-lettered and there is no trace: tracing is off.
        #expect(DemoCommand.Summary(report()).text(report()).hasSuffix("says so."))
        #expect(text.contains("\n  parked               4\n"))
        let early = report(isInterrupted: true)
        #expect(DemoCommand.Summary(early).text(early).hasSuffix("\n\nInterrupted: the numbers tell what was done until then."))
        let none = report(deadLettered: 0)
        #expect(DemoCommand.Summary(none).text(none).hasSuffix("to see a trace."))
    }

    @Test("run -o json has what the issue asks for")
    func runJSON() throws {
        let telemetry = Telemetry(TelemetryConfiguration(environment: [:], exportsByDefault: false))
        let summary = RunSummary(EngineSummary(), telemetry: telemetry, started: telemetry.tracer.clock.now())
        let keys = try keys(summary)
        for key in [
            "consumed", "completed", "retries", "skipped", "deduplicated", "duplicates", "dead_lettered", "duration_seconds",
            "cpu_seconds", "max_rss_bytes",
            "spans_exported",
            "spans_dropped",
        ] { #expect(keys.contains(key)) }
        #expect(summary.durationSeconds >= 0 && summary.cpuSeconds >= 0 && summary.maxRssBytes > 0)
        #expect(summary.table.split(separator: "\n").count == keys.count)
    }

    @Test("publish -o json")
    func publishJSON() throws {
        #expect(try Output.encoded(PublishCommand.PublishResult(published: 51, failed: 0)) == #"{"failed":0,"published":51}"#)
    }

    @Test("Lines that failed for the same reason: the first few are told, the rest counted")
    func failedLines() {
        var lines = PublishCommand.FailedLines()
        var told: [Int] = []
        func add(_ number: Int, _ reason: String = "a") { if lines.add(number, reason) { told.append(number) } }
        for number in 1...3 { add(number) }
        #expect(told == [1, 2, 3] && lines.folded.isEmpty)
        add(9, "b")
        add(4)
        #expect(told == [1, 2, 3, 9] && lines.folded == ["and 1 more line, up to line 4: a"])
        for number in 5...1000 { add(number) }
        add(7)
        #expect(told.count == 4 && lines.folded == ["and 998 more lines, up to line 1000: a"])
    }

    @Test("Writing to what takes nothing tells why", arguments: ["/dev/full"])
    func full(path: String) {
        let descriptor = open(path, O_WRONLY)
        defer { close(descriptor) }
        #expect(Output.write("x", to: descriptor) == ENOSPC)
        #expect(Output.write("", to: descriptor) == nil)
        #expect("\(OutputError(errno: ENOSPC))" == "standard output can't be written: No space left on device")
        #expect(OutputError(errno: EPIPE).isClosedPipe && !OutputError(errno: ENOSPC).isClosedPipe)
    }
}
