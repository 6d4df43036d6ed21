import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

@Suite("Spans of replays")
struct ReplaySpanTests {
    let old = TraceContext(traceparent: ByteSlice("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"))!
    let origin = TraceContext(traceparent: ByteSlice("00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203332-01"))!

    @Test("a replay is a trace of its own that links to the dead letter and the origin; the old trace is told, sampled")
    func linked() async throws {
        let world = DeskWorld()
        let letter = world.deadLetter(
            1, key: "patient-17",
            extra: [
                Header("traceparent", text: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
                Header("triage-origin-traceparent", text: "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203332-01"),
            ])
        let desk = world.desk()
        try await desk.begin()
        world.spans.removeAll()
        #expect(try await desk.replay([letter]).replayed == 1)
        let spans = world.spans.spans
        #expect(
            Set(spans.map(\.template.name)) == [
                "replay \(DeskWorld.dlq)", "replayed", "send \(DeskWorld.retry)", "send \(TopicName.deadLetterState)",
            ])
        let replay = try #require(spans.first { $0.template.name.hasPrefix("replay ") })
        #expect(!replay.parentSpanID.isValid && replay.template.kind == .internal && replay.context.isSampled)
        #expect(replay.links.map(\.context.spanID) == [old.spanID, origin.spanID])
        for span in spans where span.template.name.hasPrefix("send") {
            #expect(span.parentSpanID == replay.context.spanID && span.context.traceID == replay.context.traceID)
        }
        let replayed = try #require(spans.first { $0.template.name == "replayed" })
        #expect(replayed.context.traceID == old.traceID && replayed.parentSpanID == old.spanID)
        #expect(replayed.context.isSampled && replayed.links.map(\.context) == [replay.context])
        #expect(replayed.template.kind == .internal)
        // The record travels under its send, so that whoever handles it is in the new trace.
        let record = try #require(world.broker.records(in: DeskWorld.retry).first)
        let carried = try #require(record.headers.last(HeaderName.traceparent).flatMap { TraceContext(traceparent: $0) })
        let send = try #require(spans.first { $0.template.name == "send \(DeskWorld.retry)" })
        #expect(carried.spanID == send.context.spanID && carried.isSampled)
        // No patient data, and the key only as the identifier policy shows it.
        let text = spans.map { span in "\(span.attributes)" }.joined()
        #expect(!text.contains("patient-17") && !text.contains("ann"))
        #expect(replay.attributes.contains(Attribute("triage.replay.target", .text("retry"))))
        #expect(replay.attributes.contains(Attribute("triage.error.class", .text("persistent"))))
    }

    @Test("a dead letter without contexts gives a trace without links; one that isn't written an error")
    func unlinked() async throws {
        let world = DeskWorld()
        let letter = world.deadLetter(1)
        let desk = world.desk()
        try await desk.begin()
        world.spans.removeAll()
        world.broker.failNextProduces(1, with: BrokerError("_MSG_TIMED_OUT", operation: "produce"))
        await #expect(throws: OperatorError.self) { try await desk.replay([letter]) }
        let failed = try #require(world.spans.spans.first { $0.template.name.hasPrefix("replay ") })
        #expect(failed.status == .error("_MSG_TIMED_OUT") && failed.links.isEmpty)
        #expect(!world.spans.spans.contains { $0.template.name == "replayed" })
        try await desk.begin()
        world.spans.removeAll()
        #expect(try await desk.replay([letter]).replayed == 1)
        #expect(!world.spans.spans.contains { $0.template.name == "replayed" })
    }
}
