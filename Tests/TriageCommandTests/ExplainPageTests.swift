import Testing
import TriageEvents
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage
@testable import TriageCommand

@Suite("triage explain: the page")
struct ExplainPageTests {
    typealias World = ExplainWorld

    /// An event that failed three times and was given up, with others of its patient around it.
    static func deadLettered() -> (world: World, event: RecordPosition, letter: RecordPosition) {
        let world = World()
        world.write(value: World.envelope(event: "00000000-0000-4000-8000-000000000001"))
        let event = world.write([World.parent(1)])
        world.write(World.topic + ".retry", after: .milliseconds(12), World.failed(event, [10], due: 1010))
        let later = world.write(after: .milliseconds(100))
        world.write(World.topic + ".retry", after: .milliseconds(8), World.parked(later, behind: event))
        world.write(key: "another")
        world.write(World.topic + ".retry", after: .milliseconds(902), World.failed(event, [10, 1020], due: 3020))
        let letter = world.write(World.topic + ".dlq", after: .milliseconds(2008), World.failed(event, [10, 1020, 3028]))
        world.write(
            World.topic + ".dlq", key: "another", World.failed(RecordPosition(topic: World.topic, partition: 0, offset: 77), [1]))
        world.commit(["fhir.Patient.created": 4, "fhir.Patient.created.retry": 3])
        world.clock.advance(by: .seconds(180))
        return (world, event, letter)
    }

    @Test("a dead letter from its records alone, line by line")
    func deadLetter() async throws {
        let (world, _, letter) = Self.deadLettered()
        let page = try await world.page("\(letter)")
        #expect(page == golden("explain-dead-letter.txt"))
    }

    @Test("what isn't there is said, with what is there instead")
    func nothing() async throws {
        let (world, event, _) = Self.deadLettered()
        func refusal(_ what: String, topics: [String] = [World.topic]) async -> String {
            do {
                _ = try await world.explain(what, topics: topics)
                return "nothing was refused"
            } catch {
                return "\(error)"
            }
        }
        #expect(await refusal("none/0/1") == "no topic none on these brokers")
        #expect(
            await refusal("fhir.Patient.created/7/1")
                == "topic fhir.Patient.created has 1 partition, numbered from 0: there is no partition 7")
        #expect(await refusal("fhir.Patient.created/0/4") == "fhir.Patient.created/0 has no offset 4 yet: its last offset is 3")
        #expect(await refusal("triage.dead-letters/0/0") == "triage.dead-letters/0 has no offset 0 yet: it is empty")
        world.broker.compact(event.topicPartition, removing: [1])
        #expect(
            await refusal("\(event)")
                == "there is no record at fhir.Patient.created/0/1: the offset is a transaction's marker, was aborted or compacted; the nearest are 0 and 2"
        )
        world.broker.trim(event.topicPartition, before: 2)
        #expect(
            await refusal("\(event)")
                == "fhir.Patient.created/0/1 is gone: retention has deleted what was before offset 2 of fhir.Patient.created/0")
        #expect(
            await refusal(String(repeating: "1", count: 32)).hasPrefix(
                "no record of this trace in fhir.Patient.created or the retry and dead letter topics beside, among the newest 100000 records"
            ))
        #expect(await refusal("no-such-event").hasPrefix("no record of this event in fhir.Patient.created"))
        #expect(await refusal("a/b").contains("TOPIC/PARTITION/OFFSET"))
        #expect(await refusal(String(repeating: "0", count: 32)).contains("isn't all zero"))
        #expect(await refusal("two words").contains("visible characters"))
    }

    @Test("the event goes before its dead letter, whose origin retention took; the same is told of it")
    func originGone() async throws {
        let (world, event, letter) = Self.deadLettered()
        world.broker.trim(event.topicPartition, before: 2)
        let page = try await world.page("\(letter)")
        #expect(page.contains("event          fhir.Patient.created/0/1 (no longer there)"))
        #expect(page.contains("attempt 3 failed") && page.contains("first written  2026-09-21T13:33:20.000Z"))
        #expect(page.contains("2   2026-09-21T13:33:20.112Z   handled after it was parked behind 1"))
    }

    @Test("a record that never failed, and one that isn't handled yet; of whom, if no record says")
    func neverFailed() async throws {
        let world = World()
        let event = world.write([World.parent(1)])
        let next = world.write(key: nil)
        world.commit("triage", ["fhir.Patient.created": 1])
        let page = try await world.page("\(event)")
        #expect(page.hasPrefix("fhir.Patient.created/0/0: handled by group triage without a failure.\n"))
        #expect(page.contains("handled: its offset is committed") && !page.contains("RECONSTRUCTED") && !page.contains("ATTEMPT"))
        #expect(
            try await world.explain("\(next)").headline
                == "not handled yet by group triage: it is unread, or at the handler right now")
        #expect(
            try await world.explain("\(event)", { $0.group = "other" }).headline
                == "never seen by group other: that has committed nothing of this partition (-g names another group)")
        // Records of other events tell who works on the partition.
        world.write(
            World.topic + ".dlq", key: "another", World.failed(RecordPosition(topic: World.topic, partition: 0, offset: 1), [1]))
        world.commit(["fhir.Patient.created": 2])
        world.commit("triage", [:])
        let fresh = World()
        fresh.write([World.parent(1)])
        fresh.write(
            World.topic + ".dlq", key: "another", World.failed(RecordPosition(topic: World.topic, partition: 0, offset: 1), [1]))
        fresh.commit(["fhir.Patient.created": 2])
        #expect(try await fresh.explain("\(event)").headline == "handled by group clinic without a failure")
    }

    @Test("a retry that waits, one that is due behind a closed gate, and one parked behind it")
    func waiting() async throws {
        let world = World()
        let head = world.write([World.parent(1)])
        let retry = world.write(World.topic + ".retry", after: .milliseconds(12), World.failed(head, [10], due: 60_010))
        let later = world.write(after: .milliseconds(100))
        let parked = world.write(World.topic + ".retry", World.parked(later, behind: head))
        world.commit(
            ["fhir.Patient.created": 2, "fhir.Patient.created.retry": 0], metadata: CommitMetadata(flags: .isGateClosed))
        let gate = ". The outage gate is closed: nothing but probes is handled until one succeeds"
        #expect(
            try await world.explain("\(head)").headline
                == "waits until 13:34:20Z (in 59 s) for its next attempt of group clinic; the last attempt failed with transient RetryableError http_503"
                + gate)
        #expect(
            try await world.explain("\(parked)").headline
                == "waits behind \(head), an earlier event of the same patient, which itself waits until 13:34:20Z (in 59 s)"
                + gate)
        let page = try await world.page("\(retry)")
        #expect(page.contains("waits for its backoff, due 13:34:20.010, as fhir.Patient.created.retry/0/0"))
        #expect(page.contains("+1 min  its next attempt is due"))
        #expect(page.contains("parked behind 0"))
        #expect(try await world.page("\(later)").contains("triage explain -g clinic \(head)"))
        world.clock.advance(by: .seconds(120))
        #expect(
            try await world.explain("\(head)").headline.hasPrefix(
                "its next attempt of group clinic has been due since 13:34:20Z (1 min"))
        world.commit(["fhir.Patient.created.retry": 1])
        #expect(
            try await world.explain("\(head)").headline
                == "handled by group clinic after 1 failed attempt: transient RetryableError http_503")
    }

    @Test(
        "another patient's dead letter and another event's of the same place are no copies; what says alone that it's a replay is none"
    )
    func forged() async throws {
        let (world, event, letter) = Self.deadLettered()
        let honest = try await world.explain("\(letter)")
        let others = world.write(World.topic + ".dlq", key: "another", World.failed(event, [5]))
        let earlier = World.failed(event, [6]).map { header in
            header.name == "triage-origin-timestamp" ? Header(header.name, text: "1600000000000") : header
        }
        let older = world.write(World.topic + ".dlq", earlier)
        for place in [others, older] {
            world.state(DeadLetterState(.discarded, time: world.clock.now(), by: "bob", reason: "not this one"), of: place)
        }
        let mark = ReplayMark(id: "11111111-1111-4111-8111-111111111111", deadLetter: letter)
        world.write(
            World.topic + ".retry",
            [
                Header("triage-replay", text: "\(mark)"), Header("retryCount", text: "0"),
                Header("triage-origin", text: "\(event)"),
                Header("triage-origin-timestamp", text: "\(World.begin.milliseconds)"), Header("triage-group", text: "clinic"),
            ])
        world.write(World.topic + ".dlq", World.failed(event, [7], more: [Header("triage-replay", text: "\(mark)")]))
        world.commit(["fhir.Patient.created.retry": 4])
        let page = try await world.explain("\(letter)")
        #expect(page.headline == honest.headline && page.stories.map(\.runs) == honest.stories.map(\.runs))
        // Of the others the page is their own, not that of what stands at their origin now.
        #expect(try await world.explain("\(older)").headline.contains("Discarded by bob"))
        #expect(try await world.explain("\(others)").headline.contains("Discarded by bob"))
        #expect(try await world.explain("\(others)").notes.contains { $0.contains("holds another event now") })
    }

    @Test("what operators did: replayed and handled, failed again, discarded with their words")
    func operated() async throws {
        let (world, event, letter) = Self.deadLettered()
        let mark = ReplayMark(id: "6f1c7a52-6f5e-4f0e-9d53-3a0b7f8f2b11", deadLetter: letter)
        let replayed = world.write(
            World.topic + ".retry", after: .seconds(60),
            [
                Header("triage-replay", text: "\(mark)"), Header("retryCount", text: "0"),
                Header("triage-origin", text: "\(event)"),
                Header("triage-origin-timestamp", text: "\(World.begin.milliseconds)"), Header("triage-group", text: "clinic"),
                Header("triage-due-at", text: "\((world.clock.now() + .seconds(60)).milliseconds)"),
                World.parent(70, in: TraceID(high: 7, low: 7)),
            ])
        let time = world.clock.now()
        world.state(
            DeadLetterState(.replayed, time: time, by: "ada", reason: "server is back", replay: mark.id, successor: replayed),
            of: letter)
        world.clock.advance(by: .seconds(30))
        var page = try await world.page("\(letter)")
        #expect(page.contains("13:37:23.030   +4 min 3 s  replayed by ada, as fhir.Patient.created.retry/0/3: server is back"))
        #expect(page.contains("00000000000000070000000000000007  the replay's"))
        #expect(page.contains("has been due since"))
        world.state(DeadLetterState(.completed, time: time + .seconds(1), by: "clinic", replay: mark.id), of: letter)
        world.commit(["fhir.Patient.created.retry": 4])
        page = try await world.page("\(event)")
        #expect(page.hasPrefix("fhir.Patient.created/0/1: handled by group clinic after 3 failed attempts"))
        #expect(page.contains("its replay was handled, by group clinic"))
        let again = world.write(
            World.topic + ".dlq", World.failed(event, [250_000], more: [Header("triage-replay", text: "\(mark)")]))
        world.state(
            DeadLetterState(.failedAgain, time: time + .seconds(1), by: "clinic", replay: mark.id, successor: again), of: letter)
        page = try await world.page("\(event)")
        #expect(page.contains("its replay failed again, as fhir.Patient.created.dlq/0/2"))
        #expect(
            page.hasPrefix("fhir.Patient.created/0/1: dead-lettered by group clinic") && page.contains("Nobody has acted on it"))
        #expect(try await world.explain("\(again)").subject.replay == mark)
        world.state(DeadLetterState(.discarded, time: time + .seconds(2), by: "ada", reason: "not\u{1B}[2J needed"), of: again)
        #expect(
            try await world.explain("\(event)").headline.hasSuffix(
                "Discarded by ada at 13:37:25Z (28 s ago) (not?[2J needed): nothing is left to do"))
    }

    @Test("found by its trace in headers, by an attempt's trace, by its event id; another event of the trace is named")
    func found() async throws {
        let (world, event, letter) = Self.deadLettered()
        let byTrace = try await world.explain("\(World.trace)")
        #expect(byTrace.subject.position == RecordPosition(topic: World.topic + ".dlq", partition: 0, offset: 1))
        #expect(byTrace.foundBy == "by its trace id, in the headers of fhir.Patient.created.dlq/0/1" && byTrace.others == [event])
        #expect(try await world.explain("00-\(World.trace)-0000000000000001-01").foundBy == byTrace.foundBy)
        let byEvent = try await world.explain("6F1C7A52-6f5e-4f0e-9d53-3a0b7f8f2b11".lowercased())
        #expect(
            byEvent.subject.position.topic == World.topic + ".dlq"
                && byEvent.subject.eventID == "6f1c7a52-6f5e-4f0e-9d53-3a0b7f8f2b11")
        let first = try await world.explain("00000000-0000-4000-8000-000000000001")
        #expect("\(first.subject.position)" == "fhir.Patient.created/0/0" && first.foundBy?.contains("event id") == true)
        _ = letter
    }

    @Test(
        "with spans from Jaeger: the waits are measured, the outage shows, links lead on to the trace before; a back end that is down only costs its spans"
    )
    func spans() async throws {
        let (world, event, _) = Self.deadLettered()
        let old = TraceID(high: 5, low: 5)
        func span(
            _ id: Int, _ parent: Int?, _ name: String, _ start: Int64, _ length: Int64, _ tags: [String: String],
            links: [TraceID] = []
        ) -> String {
            let begin = World.begin.milliseconds * 1000 + start
            let references =
                (parent.map { [#"{"refType":"CHILD_OF","traceID":"\#(World.trace)","spanID":"\#(SpanID(UInt64($0)))"}"#] } ?? [])
                + links.map { #"{"refType":"FOLLOWS_FROM","traceID":"\#($0)","spanID":"0000000000000001"}"# }
            let tags = tags.sorted { $0.key < $1.key }.map { #"{"key":"\#($0.key)","type":"string","value":"\#($0.value)"}"# }
            return
                #"{"traceID":"\#(World.trace)","spanID":"\#(SpanID(UInt64(id)))","operationName":"\#(name)","references":[\#(references.joined(separator: ","))],"startTime":\#(begin),"duration":\#(length),"tags":[\#(tags.joined(separator: ","))],"logs":[],"processID":"\#(id == 9 ? "elsewhere" : "p1")"}"#
        }
        let spans = [
            span(
                1, nil, "send fhir.Patient.created", 0, 5000, ["span.kind": "producer", "messaging.kafka.offset": "1"],
                links: [old]),
            span(
                2, 1, "process fhir.Patient.created", 8000, 3000,
                [
                    "span.kind": "consumer", "triage.outcome": "retry_scheduled", "error": "true",
                    "messaging.kafka.message.key": World.marker,
                ]),
            span(3, 2, "wait fhir.Patient.created.retry", 12_000, 1_008_000, ["triage.wait.reason": "outage"]),
            span(9, 2, "SELECT \(World.marker)", 9000, 1000, ["db.query.text": World.marker]),
        ]
        let process = #"{"serviceName":"triage","tags":[{"key":"telemetry.sdk.name","type":"string","value":"triage"}]}"#
        world.answer(
            "http://j/api/traces/\(World.trace)",
            #"{"data":[{"traceID":"\#(World.trace)","spans":[\#(spans.joined(separator: ","))],"processes":{"p1":\#(process)}}]}"#
        )
        world.answer(
            "http://j/api/traces/\(old)",
            #"{"data":[{"traceID":"\#(old)","spans":[{"traceID":"\#(old)","spanID":"0000000000000001","operationName":"GET /Patient/\#(World.marker)","references":[],"startTime":1789997599000000,"duration":5,"tags":[],"logs":[],"processID":"x"}],"processes":{}}]}"#
        )
        var traces = Configuration.Traces()
        traces.jaeger = "http://j"
        let page = try await world.page("\(event)", places: [.jaeger("http://j")], traces: traces)
        #expect(
            page.contains(
                "TRACE \(World.trace)\n  the event's own, from Jaeger: 1.02 s, 4 spans, 1 failed\n  Jaeger: http://j/trace/\(World.trace)"
            ))
        #expect(page.contains("waited 1.0 s for an outage to end, as fhir.Patient.created.retry/0/0"))
        #expect(page.contains("TRACE \(old)\n  linked, from Jaeger: 5 µs, 1 span") && page.contains("\n  GET "))
        #expect(!page.contains(World.marker) && !page.contains("RECONSTRUCTED"))
        world.answer("http://j/api/traces/\(World.trace)", "down")
        let down = try await world.page("\(event)", places: [.jaeger("http://j")])
        #expect(flat(down).contains("as there are no spans (Jaeger: nobody listens there)") && down.contains("RECONSTRUCTED"))
        world.answer("http://j/api/traces/\(World.trace)", "<html>\(World.marker)</html>")
        let page2 = try await world.page("\(event)", places: [.jaeger("http://j"), .tempo("http://t")])
        #expect(flat(page2).contains("Jaeger: its answer is no trace as JSON") && !page2.contains(World.marker))
    }

    @Test(
        "foreign dead letters are explained from their headers, without what their writers said",
        arguments: ExplainFixtures.foreign)
    func foreign(fixture: ExplainFixtures.Foreign) async throws {
        let world = World(["orders"], partitions: 4)
        world.broker.createTopic("orders-dlt", partitions: 4)
        world.write("orders", [World.parent(1)], partition: 3)
        let letter = world.write("orders-dlt", after: .seconds(5), fixture.headers, partition: 3)
        let page = try await world.page("\(letter)", topics: ["orders"])
        for line in fixture.lines { #expect(flat(page).contains(flat(line)), "\(line) in\n\(page)") }
        #expect(!page.contains(World.marker), "\(page)")
        let json = try Output.encoded(ExplainJSON(try await world.explain("\(letter)", topics: ["orders"])))
        #expect(!json.contains(World.marker) && json.contains(#""dialect":"\#(fixture.dialect)""#))
    }

    @Test("nothing of a patient shows anywhere, in text or JSON, in any place of any page; hashed the patient does")
    func privacy() async throws {
        let (world, event, letter) = Self.deadLettered()
        let key = IdentifierKey.random()
        for what in [
            "\(event)", "\(letter)", "fhir.Patient.created.retry/0/1", "\(World.trace)", "6f1c7a52-6f5e-4f0e-9d53-3a0b7f8f2b11",
        ] {
            for policy in [IdentifierPolicy.omitted, .plain, .hashed(key)] {
                let explanation = try await world.explain(what, identifiers: policy)
                let text =
                    ExplainOutput(explanation, style: PageStyle(hasColour: true)).text
                    + (try Output.encoded(ExplainJSON(explanation)))
                #expect(!text.contains(World.marker))
            }
        }
        let hash = key.text(for: ByteSlice(World.marker))
        #expect(try await world.page("\(event)", identifiers: .hashed(key)).contains("patient   \(hash) (hashed)"))
    }

    @Test("brokers that know no times: the end is looked through all the same, within the limit")
    func noTimes() async throws {
        let world = World(answersTimes: false)
        let event = world.write()
        let letter = world.write(World.topic + ".dlq", World.failed(event, [10]))
        #expect(try await world.explain("\(event)").story?.lastLetter?.letter.position == letter)
        let cut = try await world.explain("\(event)") { $0.limit = 1 }
        #expect(cut.story?.lastLetter != nil)
    }

    @Test("beyond the limit is said; nobody's neighbours if none are wanted")
    func limits() async throws {
        let world = World()
        let event = world.write()
        for _ in 0..<20 {
            world.write(
                World.topic + ".dlq", key: "x", World.failed(RecordPosition(topic: World.topic, partition: 0, offset: 99), [10]))
        }
        world.write(World.topic + ".dlq", World.failed(event, [10]))
        let page = try await world.page(
            "\(event)",
            {
                $0.limit = 5
                $0.neighbours = 0
            })
        #expect(
            flat(page).contains(
                "note: of fhir.Patient.created.dlq/0 5 records from the event's time on were read, 16 later ones not: --limit"))
        #expect(try await world.explain("\(event)").story?.lastLetter != nil)
    }

    @Test("whatever stands in headers, and wherever: a page or a clear refusal, never a trap", arguments: 0..<60)
    func anything(seed: UInt64) async throws {
        var generator = SplitMix(seed: seed)
        let world = World(partitions: 1)
        for _ in 0..<12 {
            let topic =
                [World.topic, World.topic + ".retry", World.topic + ".dlq", TopicName.deadLetterState].randomElement(
                    using: &generator) ?? World.topic
            world.write(
                topic, after: .milliseconds(Int.random(in: 0...5000, using: &generator)),
                key: ["a", "b", World.marker, "clinic/fhir.Patient.created.dlq/0/0"].randomElement(using: &generator),
                value: [
                    World.envelope(), nil, "{", "", "\u{0}", #"{"status":"replayed","time":"2026-01-01T00:00:00Z","by":"x"}"#,
                ].randomElement(using: &generator) ?? nil,
                ExplainFixtures.randomHeaders(&generator))
        }
        world.commit("clinic", ["fhir.Patient.created": .random(in: 0...9, using: &generator)])
        for offset in 0..<6 {
            for topic in [World.topic, World.topic + ".retry", World.topic + ".dlq"] {
                do {
                    let explanation = try await world.explain("\(topic)/0/\(offset)")
                    let text = ExplainOutput(explanation, style: PageStyle(width: 60, isUnicode: false)).text
                    #expect(!text.contains(World.marker) && !text.contains("\u{1B}"), "seed \(seed): \(text)")
                    _ = try Output.encoded(ExplainJSON(explanation))
                } catch is NothingToExplain {
                    // There may be fewer records.
                }
            }
        }
    }
}
