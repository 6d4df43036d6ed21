import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

@Suite("Engine: what it logs", .timeLimit(.minutes(1)))
struct EngineLogTests {
    @Test("Each failed attempt and each refused record is one event, in the span that failed")
    func exceptions() async throws {
        let recorder = LogRecorder()
        let bench = EngineBench(partitions: 1, logs: LogEmitter(clock: SystemClock(), processors: [recorder]))
        try bench.put("p1", version: 1)
        try bench.put("p2", version: 1)
        try bench.put(ByteSlice("not json"), key: ByteSlice("p3"))
        try await bench.run { event, _ in if event.resourceID == "p1" { throw Transient() } }
        let records = recorder.records
        #expect(records.count == 5)
        #expect(records.allSatisfy { $0.eventName == "messaging.process.exception" && $0.severity == .error })
        let failed = bench.recorder.spans.filter { span in span.events.contains { $0.name == "exception" } }
        #expect(Set(records.compactMap(\.context)) == Set(failed.map(\.context)))
        #expect(failed.map(\.template.name).sorted() == ["attempt", "attempt", "attempt", "attempt", "process fhir.Patient"])
    }

    @Test("With nothing sampled the events are the same, and name spans that nobody recorded")
    func unsampled() async throws {
        let recorder = LogRecorder()
        let emitter = LogEmitter(clock: SystemClock(), processors: [recorder])
        let bench = EngineBench(partitions: 1, sampler: .alwaysOff, logs: emitter)
        try bench.put("p1", version: 1)
        try await bench.run { _, _ in throw Persistent() }
        #expect(recorder.records.count == 1)
        #expect(recorder.records.first?.context?.isValid == true)
    }

    @Test("The notice of a dead letter has its process span's context, and safe words")
    func notice() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p1", version: 1)
        let running = bench.start { _, _ in throw Persistent() }
        try await running.finished()
        let notice = running.notices.value.first { if case .deadLettered = $0 { true } else { false } }
        let process = bench.recorder.spans.first { $0.template.name == "process fhir.Patient" }
        #expect(notice?.context != nil && notice?.context == process?.context)
        #expect(notice?.text.text == "fhir.Patient/0/0 is dead-lettered: Persistent")
        #expect(EngineNotice.assigned(3).context == nil)
    }
}
