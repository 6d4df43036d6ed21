import Synchronization
import Testing
import TriageEvents
import TriageTelemetry

@testable import Triage

@Suite("The demonstration", .serialized)
struct DemonstrationTests {
    @Test("200 events: none lost, none doubled, and the trace of a dead letter is whole")
    func balanced() async throws {
        var options = DemonstrationOptions()
        options.events = 200
        options.seed = 3
        options.transient = 0.2
        options.persistent = 0.05
        options.partitions = 2
        let recorder = TraceRecorder()
        let telemetry = makeTelemetry([recorder])
        let demonstration = try Demonstration(options, telemetry: telemetry, recorder: recorder, logger: quiet())
        defer { demonstration.close() }
        let told = Mutex<[DemonstrationProgress]>([])
        let report = try await demonstration.run { progress in told.withLock { $0.append(progress) } }

        // What the generator planned is what must have happened.
        var generator = PatientGenerator(seed: 3, transient: 0.2, persistent: 0.05)
        let plans = (0..<200).map { _ in generator.next().plan }
        let given = plans.count { $0 == .invalid || $0 == .rejected || $0 == .transient(healsOnAttempt: nil) }
        let retries = plans.reduce(0) { sum, plan in
            guard case .transient(let heals) = plan else { return sum }
            return sum + (heals.map { $0 - 1 } ?? 3)
        }
        #expect(report.produced == 200 && report.isBalanced && !report.isInterrupted)
        #expect(report.deadLettered == given)
        #expect(report.retries == retries)
        #expect(report.duplicates == 0)
        #expect(report.spansExported == 0 && report.spansDropped == 0)
        let last = told.withLock { $0.last }
        #expect(last?.produced == 200 && last?.total == 200)

        // Four processes, each with one attempt, three waits, and the dead letter's send at the end.
        let names = report.exampleTrace.map(\.template.name)
        let topic = try #require(names.first?.split(separator: " ").last)
        let expected = [
            "send \(topic)", "process \(topic)", "attempt", "send \(topic).retry",
            "wait \(topic).retry", "process \(topic).retry", "attempt", "send \(topic).retry",
            "wait \(topic).retry", "process \(topic).retry", "attempt", "send \(topic).retry",
            "wait \(topic).retry", "process \(topic).retry", "attempt", "send \(topic).dlq",
        ]
        // One that came while an earlier event of its patient waited was parked first: a wait and a process more.
        let parked = names.count { $0.hasPrefix("process ") } - 4
        let park = Array(
            repeating: ["send \(topic).retry", "wait \(topic).retry", "process \(topic).retry"], count: max(0, parked))
        #expect(names.sorted() == (expected + park.joined()).sorted())
        #expect(Set(report.exampleTrace.map(\.context.traceID)).count == 1)
        let known = Set(report.exampleTrace.map(\.context.spanID))
        #expect(report.exampleTrace.count { !known.contains($0.parentSpanID) } == 1)
    }

    @Test("Cancelled in the middle it ends and tells what was done")
    func interrupted() async throws {
        var options = DemonstrationOptions()
        options.events = 1_000_000
        options.partitions = 1
        let recorder = TraceRecorder()
        let demonstration = try Demonstration(options, telemetry: makeTelemetry([recorder]), recorder: recorder, logger: quiet())
        defer { demonstration.close() }
        let (progress, continuation) = AsyncStream.makeStream(of: DemonstrationProgress.self)
        let work = Task { try await demonstration.run { continuation.yield($0) } }
        for await step in progress where step.completed > 0 {
            work.cancel()
            break
        }
        let report = try await work.value
        #expect(report.isInterrupted)
        #expect(report.produced > 0 && report.produced < 1_000_000)
        #expect(report.completed > 0)
    }

    @Test("Without failures there is no trace to show")
    func noFailures() async throws {
        var options = DemonstrationOptions()
        options.events = 20
        options.transient = 0
        options.persistent = 0
        options.partitions = 1
        let recorder = TraceRecorder()
        let demonstration = try Demonstration(options, telemetry: makeTelemetry([recorder]), recorder: recorder, logger: quiet())
        defer { demonstration.close() }
        let report = try await demonstration.run { _ in }
        #expect(report.completed == 20 && report.deadLettered == 0 && report.retries == 0 && report.exampleTrace.isEmpty)
    }
}
