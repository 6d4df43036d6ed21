import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageProcessing

@Suite("Dead letters as they are replayed")
struct DeadLetterReplayTests {
    @Test("a replay keeps origin and what isn't ours, loses its failures, and is the failed group's alone")
    func replayed() throws {
        let now = Timestamp(milliseconds: 1_790_000_100_000)
        let record = DeadLetterTests.record(DeadLetterTests.own())
        let out = try DeadLetterReplay(to: .retry, id: DeadLetterTests.replayID).outbound(record, at: now)
        #expect(out.topic == "fhir.Patient.created.retry" && out.partition == 3 && out.key == record.key)
        #expect(out.value == record.value)
        let kept = Record(
            topic: out.topic, partition: 3, offset: 0, timestamp: now, key: out.key, value: out.value, headers: out.headers)
        let history = EventHistory(of: kept)
        #expect(history.origin == RecordPosition(topic: "fhir.Patient.created", partition: 3, offset: 42))
        #expect(history.originTimestamp == Timestamp(milliseconds: 1_789_999_999_000))
        #expect(history.retries == 0 && history.group == "care" && !history.hasFailedAttempts && history.dueAt == now)
        #expect(history.replay == "\(DeadLetterTests.replayID) fhir.Patient.created.dlq/3/7")
        let names = out.headers.map(\.name)
        for gone in ["error", "failedAt", "triage-error-class", "triage-error-fingerprint", "triage-attempts", "triage-writer"] {
            #expect(!names.contains(gone), "\(gone)")
        }
        #expect(names.contains("my-own") && Set(names).count == names.count)
    }

    @Test("a replay to the origin is an event like any other there")
    func toOrigin() throws {
        let out = try DeadLetterReplay(to: .origin, id: DeadLetterTests.replayID).outbound(
            DeadLetterTests.record(DeadLetterTests.own()), value: ByteSlice("{\"repaired\":true}"), at: Timestamp(milliseconds: 0)
        )
        #expect(out.topic == "fhir.Patient.created" && out.value?.utf8Text == "{\"repaired\":true}")
        #expect(out.headers.map(\.name).filter { $0.hasPrefix("triage-") } == ["triage-replay"])
    }

    @Test("what can't be replayed is refused with its reason")
    func refused() {
        let replay = DeadLetterReplay(to: .retry, id: DeadLetterTests.replayID)
        let now = Timestamp(milliseconds: 0)
        #expect(throws: DeadLetterReplay.Refusal.noTopic) {
            try replay.outbound(DeadLetterTests.record([Header("triage-group", text: "care")], topic: "orders-dead"), at: now)
        }
        #expect(throws: DeadLetterReplay.Refusal.noGroup) {
            try replay.outbound(DeadLetterTests.record(DeadLetterTests.foreign[2].headers), at: now)
        }
        // A group whose name isn't shown is nobody else's; its own operator may name it.
        let strange = DeadLetterTests.record(
            DeadLetterTests.own().map { $0.name == "triage-group" ? Header("triage-group", text: "team@site") : $0 })
        let theirs = DeadLetterReplay(to: .retry, id: DeadLetterTests.replayID, group: "triage")
        #expect(throws: DeadLetterReplay.Refusal.noGroup) { try theirs.outbound(strange, at: now) }
        let own = DeadLetterReplay(to: .retry, id: DeadLetterTests.replayID, group: "team@site")
        #expect((try? own.outbound(strange, at: now))?.headers.text("triage-group") == "team@site")
        let pointer = DeadLetterTests.record(
            DeadLetterTests.own() + [Header("triage-pointer", text: "MSG_SIZE_TOO_LARGE 12")], value: nil)
        #expect(
            throws: DeadLetterReplay.Refusal.valueElsewhere(
                RecordPosition(topic: "fhir.Patient.created", partition: 3, offset: 42))
        ) { try replay.outbound(pointer, at: now) }
    }

    @Test("another's dead letter takes the place that its own headers name, for the group that is asked for")
    func foreignReplayed() throws {
        let record = DeadLetterTests.record(DeadLetterTests.foreign[1].headers, topic: "orders.dlq")
        let out = try DeadLetterReplay(to: .retry, id: DeadLetterTests.replayID, group: "care").outbound(
            record, at: Timestamp(milliseconds: 0))
        #expect(out.headers.text("triage-origin") == "orders/3/42" && out.headers.text("triage-group") == "care")
        // What tells of the failure is gone, exception messages with the patients in them first of all.
        for foreign in DeadLetterTests.foreign {
            let record = DeadLetterTests.record(foreign.headers, topic: "orders.dlq")
            let out = try DeadLetterReplay(to: .retry, id: DeadLetterTests.replayID, group: "care").outbound(
                record, at: Timestamp(milliseconds: 0))
            let names = DeadLetter(record).dialect.names
            let told = ((names?.texts ?? []) + [names?.type, names?.cause, names?.stage].compactMap { $0 }).map { "\($0)" }
            #expect(!out.headers.contains { told.contains($0.name) }, "\(foreign)")
        }
    }

    @Test("a dead letter in a topic of another name goes where it says that it came from, or to the topic that is named")
    func otherNames() throws {
        let now = Timestamp(milliseconds: 0)
        let record = DeadLetterTests.record(DeadLetterTests.foreign[0].headers, topic: "orders.DLT")
        let out = try DeadLetterReplay(to: .retry, id: DeadLetterTests.replayID, group: "care").outbound(record, at: now)
        #expect(out.topic == "orders.retry" && out.partition == 3 && out.headers.text("triage-origin") == "orders/3/42")
        let mark = out.headers.text("triage-replay").flatMap { ReplayMark($0) }
        #expect(mark == ReplayMark(id: DeadLetterTests.replayID, deadLetter: record.position))
        let named = try DeadLetterReplay(to: .origin, id: DeadLetterTests.replayID, group: "care", topic: "bills").outbound(
            record, at: now)
        #expect(named.topic == "bills" && named.partition == nil && named.headers.text("triage-origin") == nil)
        // What was encrypted when it was dead-lettered isn't any more, and doesn't say so.
        let sealed = DeadLetterTests.record(
            DeadLetterTests.own() + ["triage-encryption", "triage-error-detail", "triage-shape"].map { Header($0, text: "x") })
        let names = try DeadLetterReplay(to: .retry, id: DeadLetterTests.replayID).outbound(
            sealed, value: ByteSlice("{}"), at: now
        ).headers
        #expect(!names.contains { ["triage-encryption", "triage-error-detail", "triage-shape"].contains($0.name) })
    }
}
