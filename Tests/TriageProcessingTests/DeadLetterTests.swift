import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageProcessing

@Suite("Dead letters")
struct DeadLetterTests {
    static func record(
        _ headers: [Header], topic: String = "fhir.Patient.created.dlq", offset: Int64 = 7, key: String? = "p1",
        value: String? = "{}", at time: Timestamp? = Timestamp(milliseconds: 1_790_000_000_000)
    ) -> Record {
        Record(
            topic: topic, partition: 3, offset: offset, timestamp: time, key: key.map { ByteSlice($0) },
            value: value.map { ByteSlice($0) }, headers: Headers(headers))
    }

    static func bigEndian<Number: FixedWidthInteger>(_ number: Number) -> ByteSlice {
        withUnsafeBytes(of: number.bigEndian) { ByteSlice(copying: $0) }
    }

    /// What each dialect's writer puts onto a record of topic `orders`, partition 3, offset 42, that failed three times.
    static let foreign: [(dialect: DeadLetterDialect, headers: [Header])] = [
        (
            .spring,
            [
                Header("kafka_dlt-original-topic", text: "orders"),
                Header("kafka_dlt-original-partition", bigEndian(Int32(3))),
                Header("kafka_dlt-original-offset", bigEndian(Int64(42))),
                Header("kafka_dlt-original-timestamp", bigEndian(Int64(1_789_999_999_000))),
                Header("kafka_dlt-original-timestamp-type", text: "CREATE_TIME"),
                Header("kafka_dlt-original-consumer-group", text: "billing"),
                Header("kafka_dlt-exception-fqcn", text: "org.springframework.kafka.listener.ListenerExecutionFailedException"),
                Header("kafka_dlt-exception-cause-fqcn", text: "java.lang.IllegalStateException"),
                Header("kafka_dlt-exception-message", text: "MARKER"),
                Header("retry_topic-attempts", bigEndian(Int32(3))),
            ]
        ),
        (
            .connect,
            [
                Header("__connect.errors.topic", text: "orders"), Header("__connect.errors.partition", text: "3"),
                Header("__connect.errors.offset", text: "42"), Header("__connect.errors.connector.name", text: "billing"),
                Header("__connect.errors.stage", text: "VALUE_CONVERTER"),
                Header("__connect.errors.exception.class.name", text: "org.apache.kafka.connect.errors.DataException"),
                Header("__connect.errors.exception.message", text: "MARKER"),
            ]
        ),
        (
            .streams,
            [
                Header("__streams.errors.topic", text: "orders"), Header("__streams.errors.partition", text: "3"),
                Header("__streams.errors.offset", text: "42"), Header("__streams.errors.message", text: "MARKER"),
                Header("__streams.errors.exception", text: "java.lang.NullPointerException"),
            ]
        ),
        (
            .shareGroup,
            [
                Header("__dlq.errors.topic", text: "orders"), Header("__dlq.errors.partition", text: "3"),
                Header("__dlq.errors.offset", text: "42"), Header("__dlq.errors.group", text: "billing"),
                Header("__dlq.errors.delivery.count", text: "3"), Header("__dlq.errors.message", text: "MARKER"),
            ]
        ),
        (
            .karafka,
            [
                Header("source_topic", text: "orders"), Header("source_partition", text: "3"),
                Header("source_offset", text: "42"),
                Header("source_consumer_group", text: "billing"), Header("source_attempts", text: "3"),
            ]
        ),
    ]

    @Test("each dialect's origin, group and tries are read, and none of its free text", arguments: foreign)
    func dialects(dialect: DeadLetterDialect, headers: [Header]) {
        let letter = DeadLetter(Self.record(headers))
        #expect(letter.dialect == dialect)
        #expect(letter.origin == RecordPosition(topic: "orders", partition: 3, offset: 42))
        #expect(letter.group == (dialect == .streams ? nil : "billing"))
        #expect(letter.retries == ([.spring, .shareGroup, .karafka].contains(dialect) ? 2 : 0))
        #expect(!String(reflecting: letter).contains("MARKER"))
        let texts = DeadLetter.foreignTexts(of: Headers(headers)).map(\.text)
        #expect(texts == (dialect == .karafka ? [] : ["MARKER"]))
    }

    @Test("the cause is told, and the same bug on another record has the same fingerprint")
    func fingerprints() {
        let letter = DeadLetter(Self.record(Self.foreign[0].headers))
        #expect(
            letter.error
                == "org.springframework.kafka.listener.ListenerExecutionFailedException, caused by java.lang.IllegalStateException"
        )
        #expect(letter.originTimestamp == Timestamp(milliseconds: 1_789_999_999_000))
        var others = Self.foreign[0].headers
        others[2] = Header("kafka_dlt-original-offset", Self.bigEndian(Int64(43)))
        others[8] = Header("kafka_dlt-exception-message", text: "another patient")
        #expect(DeadLetter(Self.record(others, offset: 8)).fingerprint == letter.fingerprint)
        others[7] = Header("kafka_dlt-exception-cause-fqcn", text: "java.io.IOException")
        #expect(DeadLetter(Self.record(others)).fingerprint != letter.fingerprint)
        #expect(
            DeadLetter(Self.record(Self.foreign[1].headers)).error
                == "org.apache.kafka.connect.errors.DataException at VALUE_CONVERTER")
    }

    @Test("NServiceBus and Watermill name no place; NServiceBus counts retries")
    func placeless() {
        let letter = DeadLetter(
            Self.record([
                Header("NServiceBus.FailedQ", text: "billing"), Header("NServiceBus.Retries", text: "3"),
                Header("NServiceBus.ExceptionInfo.ExceptionType", text: "System.FormatException, mscorlib"),
                Header("NServiceBus.ExceptionInfo.Message", text: "MARKER"),
            ]))
        #expect(letter.dialect == .nServiceBus && letter.origin == nil && letter.group == "billing" && letter.retries == 3)
        #expect(letter.error == "System.FormatException")
        let watermill = DeadLetter(
            Self.record([
                Header("reason_poisoned", text: "MARKER"), Header("topic_poisoned", text: "orders"),
                Header("handler_poisoned", text: "onPatient"), Header("subscriber_poisoned", text: "billing"),
            ]))
        #expect(watermill.dialect == .watermill && watermill.origin == nil && watermill.group == "billing")
        #expect(watermill.error == "at onPatient")
    }

    @Test("text in place of a name or a number shows nowhere, and nothing traps")
    func hostile() {
        for dialect in Self.foreign {
            for text in ["Jane MARKER 1970-01-01", "", "é", String(repeating: "M", count: 5000), "-9223372036854775809"] {
                let letter = DeadLetter(Self.record(dialect.headers.map { Header($0.name, text: text) }))
                #expect(!String(reflecting: letter).contains("Jane"), "\(dialect.dialect)")
                #expect((0...1_000_000).contains(letter.retries))
            }
        }
        let own = DeadLetter(
            Self.record([
                Header("triage-origin", text: "Jane"), Header("triage-error-fingerprint", text: "Jane"),
                Header("error", text: "Jane born 1970/01/01"), Header("triage-error-class", text: "Jane"),
                Header("triage-replay", text: "Jane"), Header("failedAt", text: "Jane"), Header("retryCount", text: "-4"),
            ]))
        #expect(own.dialect == .triage && own.origin == nil && own.retries == 0)
        #expect(!String(reflecting: own).contains("Jane"))
    }

    @Test("a record with our headers is told as it was written")
    func ours() throws {
        let attempts = "1790000000000,transient,00112233445566aa,0af7651916cd43dd8448eb211c80319c,b7ad6b7169203331"
        let letter = DeadLetter(Self.record(Self.own(attempts: attempts)))
        #expect(letter.dialect == .triage)
        #expect(letter.origin == RecordPosition(topic: "fhir.Patient.created", partition: 3, offset: 42))
        #expect(letter.group == "care" && letter.errorClass == .transient && letter.error == "Timeout http_503 at name[].family")
        #expect(letter.fingerprint == "00112233445566aa" && letter.retries == 3)
        #expect(letter.failedAt == Timestamp(milliseconds: 1_790_000_000_123))
        #expect(letter.attempts.entries.count == 1)
        #expect(letter.context?.spanID.description == "00f067aa0ba902b7")
    }

    static func own(attempts: String = "") -> [Header] {
        [
            Header("my-own", text: "kept"), Header("content-type", text: "application/fhir+json"),
            Header("traceparent", text: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            Header("retryCount", text: "3"), Header("error", text: "Timeout http_503 at name[].family"),
            Header("failedAt", text: Timestamp(milliseconds: 1_790_000_000_123).iso8601),
            Header("triage-origin", text: "fhir.Patient.created/3/42"), Header("triage-origin-timestamp", text: "1789999999000"),
            Header("triage-origin-traceparent", text: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
            Header("triage-error-class", text: "transient"), Header("triage-error-fingerprint", text: "00112233445566aa"),
            Header("triage-attempts", text: attempts), Header("triage-group", text: "care"),
        ]
    }

    static let replayID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"

    // MARK: States

    @Test("a key is written as it is read, slashes in a group's name included; anything else is none")
    func keys() {
        let key = DeadLetterKey(group: "a/b", position: RecordPosition(topic: "t.dlq", partition: 1, offset: 2))
        #expect(DeadLetterKey(key.description) == key)
        for text in ["", "/t/1/2", "g/t/1", "g/t/1/-2", "g//1/2", "g/t/01/2"] { #expect(DeadLetterKey(text) == nil, "\(text)") }
    }

    @Test("states are written as they are read, the last one counts, and a null value opens again")
    func states() throws {
        let decoder = EventDecoder()
        let key = DeadLetterKey(group: "g", position: RecordPosition(topic: "t.dlq", partition: 1, offset: 2))
        func record(_ value: ByteSlice?, key: String? = nil) -> Record {
            Record(
                topic: TopicName.deadLetterState, partition: 0, offset: 0, timestamp: nil,
                key: ByteSlice(key ?? "g/t.dlq/1/2"), value: value)
        }
        var states = DeadLetterStates()
        let parse: (ByteSlice) -> JSONValue? = { bytes in (try? decoder.checkObject(bytes)).flatMap { _ in JSONValue(bytes) } }
        #expect(states.isOpen(key) && states[key] == nil)
        let replayed = DeadLetterState(
            .replayed, time: Timestamp(milliseconds: 1_790_000_000_000), by: "ann \"the\" SRE", replay: Self.replayID,
            successor: RecordPosition(topic: "t.retry", partition: 1, offset: 9))
        let discarded = DeadLetterState(.discarded, time: replayed.time, by: "bob", reason: "a\nb\\ü")
        for state in [replayed, discarded] {
            states.add(record(state.json), parse: parse)
            #expect(states[key] == state && !states.isOpen(key) && states.closed == 1)
        }
        for bad in [
            record(ByteSlice("{")), record(ByteSlice("{\"status\":\"gone\"}")), record(ByteSlice("[]")), record(nil, key: "x"),
        ] {
            states.add(bad, parse: parse)
        }
        #expect(states[key] == discarded && states.malformed == 4)
        states.add(record(nil), parse: parse)
        #expect(states.isOpen(key) && states.closed == 0)
    }

    @Test("what a state knows of the event is written and read, and kept when a consumer that doesn't know it says how it ended")
    func eventsOfStates() throws {
        let decoder = EventDecoder()
        let parse: (ByteSlice) -> JSONValue? = { bytes in (try? decoder.checkObject(bytes)).flatMap { _ in JSONValue(bytes) } }
        let now = Timestamp(milliseconds: 1_790_000_000_000)
        let letter = DeadLetter(Self.record(Self.own(), topic: "fhir.Patient.created.dlq"))
        let follows = ReplayMark(id: Self.replayID, deadLetter: RecordPosition(topic: "t.dlq", partition: 0, offset: 1))
        let state = DeadLetterState(
            .replayed, time: now, by: "ann", replay: Self.replayID, origin: letter.origin, follows: follows,
            lane: DeadLetterState.lane(of: ByteSlice("p1")))
        #expect(parse(state.json).flatMap { DeadLetterState($0) } == state)
        #expect(state.lane?.count == 16 && state.lane != DeadLetterState.lane(of: ByteSlice("p2")))

        var states = DeadLetterStates()
        let key = DeadLetterKey(letter, group: "another")
        #expect(key == DeadLetterKey(group: "care", position: letter.position))
        let known = DeadLetterState(
            .replayed, time: now, by: "ann", origin: letter.origin, lane: DeadLetterState.lane(of: ByteSlice("p1")))
        states.set(key, known)
        let copy = DeadLetter(Self.record(Self.own(), offset: 9))
        #expect(states.state(of: copy, group: nil) == known && states.copy(of: copy.identity) == key)
        let later = DeadLetter(Self.record(Self.own() + [Header("triage-replay", text: follows.description)], offset: 10))
        #expect(states.state(of: later, group: nil) == nil)
        // A consumer's outcome names the dead letter alone, or the origin without what the dead letter followed.
        for origin in [nil, letter.origin] {
            states.set(key, DeadLetterState(.completed, time: now, by: "care", origin: origin))
            #expect(states.state(of: copy, group: nil)?.status == .completed && states[key]?.lane == known.lane)
        }
        var fresh = DeadLetterStates()
        fresh.set(key, DeadLetterState(.completed, time: now, by: "care", origin: letter.origin))
        #expect(fresh[key]?.status == .completed && fresh.state(of: copy, group: nil) == nil)
        // Another's dead letter is found whatever group is asked for.
        let foreign = DeadLetter(Self.record(Self.foreign[0].headers, topic: "orders.DLT"))
        #expect(DeadLetterKey(foreign, group: nil).group == "billing" && DeadLetterKey(foreign, group: "care").group == "care")
        states.set(DeadLetterKey(foreign, group: "care"), known)
        #expect(states.state(of: foreign, group: "x") == known)
        var seen: Set<DeadLetterKey> = []
        states.forEach { key, _ in seen.insert(key).inserted }
        #expect(seen.count == 2)
    }

    @Test("how a replay ended isn't forgotten for its beginning, which a consumer that reads ahead may overtake")
    func overtaken() {
        let decoder = EventDecoder()
        var states = DeadLetterStates()
        let key = DeadLetterKey(group: "care", position: RecordPosition(topic: "t.dlq", partition: 1, offset: 2))
        func add(_ status: DeadLetterState.Status, _ replay: String) -> DeadLetterState.Status? {
            let state = DeadLetterState(status, time: Timestamp(milliseconds: 1_790_000_000_000), by: "x", replay: replay)
            states.add(
                Record(
                    topic: TopicName.deadLetterState, partition: 0, offset: 0, timestamp: nil, key: ByteSlice(key.description),
                    value: state.json)
            ) { bytes in (try? decoder.checkObject(bytes)).flatMap { _ in JSONValue(bytes) } }
            return states[key]?.status
        }
        #expect(add(.completed, Self.replayID) == .completed && add(.replayed, Self.replayID) == .completed)
        // Another replay is another matter.
        #expect(add(.replayed, "0af76519-16cd-43dd-8448-eb211c80319d") == .replayed)
    }

    @Test("who operates and what was edited stand beside the states, and are none")
    func leases() throws {
        let decoder = EventDecoder()
        let parse: (ByteSlice) -> JSONValue? = { bytes in (try? decoder.checkObject(bytes)).flatMap { _ in JSONValue(bytes) } }
        var states = DeadLetterStates()
        func add(_ key: String, _ value: ByteSlice?) {
            states.add(
                Record(
                    topic: TopicName.deadLetterState, partition: 0, offset: 0, timestamp: nil, key: ByteSlice(key), value: value),
                parse: parse)
        }
        let lease = DeadLetterLease(by: "ann \"x\"", time: Timestamp(milliseconds: 1_790_000_000_000), id: Self.replayID)
        add("operator", lease.json)
        #expect(states.lease == lease && states.malformed == 0)
        let audit = DeadLetterAuditKey(
            ReplayMark(id: Self.replayID, deadLetter: RecordPosition(topic: "t.dlq", partition: 1, offset: 2)))
        #expect(DeadLetterAuditKey(audit.description) == audit)
        add(audit.description, ByteSlice("no JSON"))
        #expect(states.malformed == 0 && states.closed == 0)
        add("operator", ByteSlice("{}"))
        #expect(states.lease == lease && states.malformed == 1)
        // A group may be called like that: what follows must be a UUID.
        #expect(DeadLetterAuditKey("audit/x/t.dlq/1/2") == nil)
    }
}
