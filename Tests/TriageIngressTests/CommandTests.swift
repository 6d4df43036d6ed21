import HTTPTypes
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageIngress

private func at(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: seconds * 1000) }

private func record(
    _ topic: String, _ value: String?, at time: Timestamp = at(1), headers: [Header] = []
) -> Record {
    Record(
        topic: topic, partition: 0, offset: 0, timestamp: time, key: nil, value: value.map { ByteSlice($0) },
        headers: Headers(headers))
}

@Suite struct CommandRecordTests {
    private func make(_ body: String, key: String? = nil) -> Result<CommandRecord, CommandRecord.Refusal> {
        do throws(CommandRecord.Refusal) {
            return .success(
                try CommandRecord(
                    body: ByteSlice(body), idempotencyKey: key, source: "test", timestamp: at(0), decoder: EventDecoder()))
        } catch {
            return .failure(error)
        }
    }

    @Test func dataGoesOnByteForByte() throws {
        let body =
            #"{"type":"UpdatePatient", "data": {"resourceType":"Patient", "id":"p1" , "x":"}"},"metadata":{"requestId":"r-1"}}"#
        let command = try make(body).get()
        #expect(command.action == .updated && command.requestID == "r-1")
        #expect(command.record.topic == "fhir.commands" && command.record.key == ByteSlice("p1"))
        #expect(
            command.record.value?.utf8Text
                == #"{"type":"UpdatePatient","data":{"resourceType":"Patient", "id":"p1" , "x":"}"},"#
                + #""metadata":{"requestId":"r-1","timestamp":"1970-01-01T00:00:00.000Z","source":"test"}}"#)
    }

    @Test func theRequestIDIsTakenOrDrawn() throws {
        let created = #"{"type":"CreatePatient","data":{"resourceType":"Patient"}"#
        let drawn = try make(created + "}").get()
        #expect(drawn.requestID.utf8.count == 36 && drawn.record.key == ByteSlice(drawn.requestID))
        #expect(try make(created + "}", key: "\"k-1\"").get().requestID == "k-1")
        #expect(try make(created + "}", key: "k-1").get().requestID == "k-1")
        let named = created + #","metadata":{"requestId":"r"}}"#
        #expect(try make(named, key: "r").get().requestID == "r")
        #expect(make(named, key: "other").refusal == .otherRequestID)
        for key in ["", "a b", "a|b", "ä", "a\"", String(repeating: "a", count: 129)] {
            #expect(make(created + "}", key: key).refusal == .requestID)
        }
        for id in [#""""#, #""a|b""#, "7", "null", #""a\u0022,\u0022b""#] {
            let refusal = make(created + #","metadata":{"requestId":\#(id)}}"#).refusal
            // JSON's null is as good as nothing.
            #expect(refusal == (id == "null" ? nil : .requestID), "\(id)")
        }
    }

    @Test(
        arguments: [
            "", "[]", "{", "null", #"{"type":"PatientCreated","data":{"resourceType":"Patient"}}"#,
            #"{"type":"CreatePatient"}"#, #"{"type":"CreatePatient","data":"x"}"#,
            #"{"type":"CreatePatient","data":{"resourceType":"Observation"}}"#,
            #"{"type":"UpdatePatient","data":{"resourceType":"Patient"}}"#,
            #"{"type":"DeletePatient","data":{"resourceType":"Patient","id":"a/b"}}"#,
            #"{"type":"CreatePatient","data":{"resourceType":"Patient","gender":"x"}}"#,
            #"{"type":"CreatePatient","data":{"resourceType":"Patient"}} {}"#,
            #"{"type":"CreatePatient","data":{"resourceType":"Patient","meta":{"tag":{}}}}"#,
            #"{"type":"CreatePatient","data":{"resourceType":"Patient","meta":{"tag":null}}}"#,
            #"{"type":"UpdatePatient","data":{"resourceType":"Patient","id":"p1","meta":null}}"#,
        ])
    func whatBreaksARuleIsRefused(_ body: String) {
        guard case .invalid = make(body).refusal else {
            Issue.record("taken")
            return
        }
    }

    @Test(
        "What is told twice is refused, however deep: who reads it next may take the other one",
        arguments: [
            #"{"type":"CreatePatient","type":"DeletePatient","data":{"resourceType":"Patient","id":"a"}}"#,
            #"{"type":"CreatePatient","data":{"resourceType":"Patient"},"data":{"resourceType":"Patient","id":"a"}}"#,
            #"{"type":"UpdatePatient","data":{"resourceType":"Patient","id":"a","id":"b"}}"#,
            #"{"type":"UpdatePatient","data":{"resourceType":"Patient","id":"a","\u0069d":"b"}}"#,
            #"{"type":"CreatePatient","data":{"resourceType":"Patient","resourceType":"Observation"}}"#,
            #"{"type":"CreatePatient","data":{"resourceType":"Patient"},"metadata":{"requestId":"a","requestId":"b"}}"#,
            #"{"type":"CreatePatient","data":{"resourceType":"Patient","meta":{"tag":[{"system":"a","system":"b"}]}}}"#,
        ])
    func repeatedMembers(_ body: String) throws {
        let refusal = try #require(make(body).refusal)
        #expect(refusal == .invalid(InvalidEvent(.repeatedMember, at: "")))
        #expect(refusal.outcome.answer(.badRequest).body.utf8Text?.contains("two members of one name") == true)
        // The library and triage command take the Patient alone.
        let data = #"{"resourceType":"Patient","id":"a","id":"b"}"#
        #expect(throws: CommandRecord.Refusal.invalid(InvalidEvent(.repeatedMember, at: ""))) {
            try CommandRecord(.created, resource: ByteSlice(data), source: "s", timestamp: at(0), decoder: EventDecoder())
        }
    }

    @Test func twoCommandsOfOneIDAreToldApart() throws {
        let first = try make(#"{"type":"CreatePatient","data":{"resourceType":"Patient","active":true}}"#).get()
        let same = try make(#"{"type":"CreatePatient","data":{"resourceType":"Patient","active":true}, "metadata":{}}"#).get()
        let other = try make(#"{"type":"CreatePatient","data":{"resourceType":"Patient","active":false}}"#).get()
        #expect(first.contentHash == same.contentHash && first.contentHash != other.contentHash)
        let patient = #"{"resourceType":"Patient","id":"p"}"#
        let hashes = try ["CreatePatient", "UpdatePatient", "DeletePatient"].map {
            try make(#"{"type":"\#($0)","data":\#(patient)}"#).get().contentHash
        }
        #expect(Set(hashes).count == 3)
    }
}

extension Result {
    fileprivate var refusal: Failure? { if case .failure(let error) = self { error } else { nil } }
}

@Suite struct CommandMemoryTests {
    private func news(_ topic: String, _ value: String, at time: Timestamp = at(1), headers: [Header] = []) -> CommandNews? {
        CommandNews(record(topic, value, at: time, headers: headers), decoder: EventDecoder())
    }

    @Test func whatRecordsSay() {
        let result = #"{"requestId":"r","status":"completed","resource":"Patient/p1"}"#
        #expect(news("fhir.commands.results", result)?.status.json("r") == result)
        let dead = news(
            "fhir.commands.dlq", #"{"type":"CreatePatient","metadata":{"requestId":"r"}}"#,
            headers: [Header("error", text: "RejectedError http_422"), Header("triage-error-class", text: "persistent")])
        #expect(
            dead?.status.json("r")
                == #"{"requestId":"r","status":"failed","class":"persistent","error":"RejectedError http_422"}"#)
        #expect(news("fhir.commands", #"{"metadata":{"requestId":"r"}}"#)?.status.state == .pending)
        for (topic, value) in [
            ("fhir.commands.results", #"{"requestId":"r","status":"odd"}"#), ("fhir.commands.results", "no"),
            ("fhir.commands", #"{"metadata":{"requestId":"a|b"}}"#), ("fhir.commands", "{}"), ("elsewhere", result),
        ] {
            #expect(news(topic, value) == nil)
        }
        let long = #"{"requestId":"r","status":"completed","x":"\#(String(repeating: "a", count: 5000))"}"#
        #expect(news("fhir.commands.results", long)?.status.json("r") == #"{"requestId":"r","status":"completed"}"#)
    }

    @Test(
        "Of a failure callers are told words of closed vocabularies, whatever stands in the dead letter's header",
        arguments: [
            ("RejectedError http_422_business-rule", "RejectedError http_422_business-rule"),
            ("RejectedError http_409", "RejectedError http_409"),
            ("RetryableError connection_lost", "RetryableError connection_lost"),
            ("InvalidEvent invalid_birth_date at Patient.birthDate", "InvalidEvent invalid_birth_date"),
            ("RejectedError id_missing, retry refused: MSG_SIZE_TOO_LARGE", "RejectedError id_missing"),
            ("RejectedError http_422_Jane", "RejectedError http_422"), ("RejectedError http_999", "RejectedError"),
            ("RejectedError http_42x", "RejectedError"), ("RejectedError Jane Doe", "RejectedError"),
            ("java.lang.Exception: Jane Doe", "_OTHER"), ("Jane", "_OTHER"), ("", "_OTHER"), (" http_422", "_OTHER http_422"),
        ])
    func safeErrors(_ header: String, _ told: String) throws {
        let dead = try #require(
            news(
                "fhir.commands.dlq", #"{"metadata":{"requestId":"r"}}"#,
                headers: [Header("error", text: header), Header("triage-error-class", text: "Jane")]))
        #expect(dead.status.error == told && dead.status.errorClass == "system")
    }

    private func failed(_ offset: Int64?, partition: Int32 = 0, at time: Timestamp = at(1)) throws -> CommandNews {
        let origin = offset.map { [Header("triage-origin", text: "fhir.commands/\(partition)/\($0)")] } ?? []
        return try #require(news("fhir.commands.dlq", #"{"metadata":{"requestId":"r"}}"#, at: time, headers: origin))
    }

    private func sent(_ offset: Int64, partition: Int32 = 0) -> RecordPosition {
        RecordPosition(topic: "fhir.commands", partition: partition, offset: offset)
    }

    @Test func theLatestCountsAndWhatIsDoneStaysDone() throws {
        let memory = CommandMemory()
        let completed = try #require(news("fhir.commands.results", #"{"requestId":"r","status":"completed"}"#, at: at(5)))
        #expect(memory.claim("r", contentHash: 1) == .new)
        memory.accepted("r", contentHash: 1, at: sent(20))
        #expect(memory.status(of: "r")?.state == .pending)
        #expect(memory.claim("r", contentHash: 2) == .other)
        memory.observe(try failed(10))
        #expect(memory.status(of: "r")?.state == .pending, "the failure of an earlier try")
        memory.observe(try failed(20))
        #expect(memory.status(of: "r")?.state == .failed && memory.claim("r", contentHash: 1) == .new)
        memory.accepted("r", contentHash: 1, at: sent(21))
        #expect(memory.status(of: "r")?.state == .pending)
        memory.observe(completed)
        memory.observe(try failed(30))
        memory.accepted("r", contentHash: 1, at: sent(31))
        #expect(memory.status(of: "r")?.state == .completed)
    }

    @Test("Whose clock says what doesn't matter: which time a command failed is told by offsets", arguments: [0, 1_000_000])
    func clocks(_ time: Int64) throws {
        let memory = CommandMemory()
        memory.accepted("r", contentHash: 1, at: sent(20))
        memory.observe(try failed(19, at: at(time)))
        #expect(memory.status(of: "r")?.state == .pending, "the failure of an earlier try")
        memory.observe(try failed(20, at: at(time)))
        #expect(memory.status(of: "r")?.state == .failed)
        // Told before the acknowledgement was seen.
        let quick = CommandMemory()
        quick.observe(try failed(20, at: at(time)))
        quick.accepted("r", contentHash: 1, at: sent(20))
        #expect(quick.status(of: "r")?.state == .failed)
        quick.accepted("r", contentHash: 1, at: sent(21))
        #expect(quick.status(of: "r")?.state == .pending)
        // What doesn't say where it came from, or came from another partition, can't be told apart from this time's.
        quick.observe(try failed(nil, at: at(time)))
        #expect(quick.status(of: "r")?.state == .failed)
        quick.accepted("r", contentHash: 1, at: sent(3, partition: 1))
        #expect(quick.status(of: "r")?.state == .pending)
        quick.observe(try failed(3, partition: 1, at: at(time)))
        #expect(quick.status(of: "r")?.state == .failed)
    }

    @Test func aCommandOfTheTopicIsPendingAgainIfItStandsBehindItsFailure() throws {
        let memory = CommandMemory()
        memory.observe(try failed(5))
        for (offset, state) in [(Int64(5), CommandStatus.State.failed), (4, .failed), (6, .pending)] {
            let again = Record(
                topic: "fhir.commands", partition: 0, offset: offset, timestamp: at(9), key: nil,
                value: ByteSlice(#"{"metadata":{"requestId":"r"}}"#), headers: Headers([]))
            memory.observe(try #require(CommandNews(again, decoder: EventDecoder())))
            #expect(memory.status(of: "r")?.state == state)
        }
    }

    @Test func whatTheTopicsTellKnowsAnotherCommandToo() throws {
        let patient = #"{"resourceType":"Patient","id":"p1"}"#
        func command(_ type: String) -> String {
            #"{"type":"\#(type)","data":\#(patient),"metadata":{"requestId":"r"}}"#
        }
        let created = try CommandRecord(
            .created, resource: ByteSlice(patient), requestID: "r", source: "s", timestamp: at(0), decoder: EventDecoder())
        let deleted = try CommandRecord(
            .deleted, resource: ByteSlice(patient), requestID: "r", source: "s", timestamp: at(0), decoder: EventDecoder())
        // In both orders, since the topics are read side by side.
        for isResultFirst in [false, true] {
            let memory = CommandMemory()
            let told = try [
                #require(news("fhir.commands", command("CreatePatient"), at: at(1))),
                #require(news("fhir.commands.results", #"{"requestId":"r","status":"completed"}"#, at: at(2))),
            ]
            for one in isResultFirst ? told.reversed() : told { memory.observe(one) }
            #expect(memory.status(of: "r")?.state == .completed)
            #expect(memory.claim("r", contentHash: deleted.contentHash) == .other)
            guard case .repeated = memory.claim("r", contentHash: created.contentHash) else {
                Issue.record("the same command is known")
                continue
            }
        }
    }

    @Test func anIdIsClaimedByOneAtATime() {
        let memory = CommandMemory()
        #expect(memory.claim("r", contentHash: 1) == .new)
        #expect(memory.claim("r", contentHash: 1) == .underWay && memory.claim("r", contentHash: 2) == .underWay)
        memory.refused("r")
        #expect(memory.claim("r", contentHash: 1) == .new)
        memory.accepted("r", contentHash: 1, at: sent(1))
        #expect(memory.claim("r", contentHash: 2) == .other)
    }

    @Test func itIsBounded() {
        let memory = CommandMemory(capacity: 3)
        for index in 0..<20 { memory.accepted("r\(index)", contentHash: 0, at: sent(Int64(index))) }
        #expect(memory.count == 3 && memory.status(of: "r16") == nil && memory.status(of: "r17") != nil)
    }

    @Test func whoWaitsIsTold() async throws {
        let memory = CommandMemory()
        memory.accepted("r", contentHash: 0, at: sent(0))
        #expect(await memory.outcome(of: "r", within: .milliseconds(1)) == nil)
        let waiting = Task { await memory.outcome(of: "r", within: .seconds(60)) }
        let cancelled = Task { await memory.outcome(of: "r", within: .seconds(60)) }
        cancelled.cancel()
        #expect(await cancelled.value == nil)
        memory.observe(try #require(news("fhir.commands.results", #"{"requestId":"r","status":"completed"}"#)))
        #expect(await waiting.value?.state == .completed)
        #expect(await memory.outcome(of: "r", within: .seconds(60))?.state == .completed)
    }
}

@Suite struct CommandRouteTests {
    private final class Desk: Sendable {
        let broker = InMemoryBroker()
        let memory = CommandMemory()
        let recorder = SpanRecorder()
        let routes: [any IngressRoute]

        init(
            producer: (any RecordProducer)? = nil, tokens: [String] = ["secret-secret-16"], trust: CallerTrust = .continue
        ) {
            broker.createTopic("fhir.commands", partitions: 1)
            let tracer = Tracer(clock: SystemClock(), processors: [recorder])
            let meter = Meter()
            let sink = TracedSink(producer: producer ?? broker.producer(), tracer: tracer, meter: meter, clientID: "test")
            routes = CommandDesk(
                CaptureSink(sink, tracer: tracer, meter: meter, pattern: .hybrid, format: EventFormat()), memory: memory,
                authenticator: Authenticator(bearerTokens: tokens), source: "test", trust: trust, tracer: tracer,
                isSecure: false
            ).routes()
        }

        func post(
            _ body: String, wait: String? = nil, type: String = "application/json", token: String = "secret-secret-16",
            fields: HTTPFields = [:]
        ) async -> IngressAnswer {
            var headers = fields
            headers[.contentType] = type
            headers[.authorization] = "Bearer \(token)"
            return await routes[0].answer(
                IngressRequest(
                    method: .post, query: wait.map { [(name: "wait", value: $0)] } ?? [], headers: headers, body: ByteSlice(body),
                    receivedAt: at(1)))
        }

        func get(_ id: String) async -> IngressAnswer {
            await routes[1].answer(
                IngressRequest(
                    method: .get, parameters: ["requestId": id], headers: [.authorization: "Bearer secret-secret-16"],
                    receivedAt: at(1)))
        }
    }

    private let body = #"{"type":"CreatePatient","data":{"resourceType":"Patient"},"metadata":{"requestId":"r"}}"#

    @Test func aCommandIsSentOnceAndItsStatusKnown() async throws {
        let desk = Desk()
        let first = await desk.post(body)
        #expect(first.status == .accepted && first.headers[.location] == "/commands/r")
        #expect(first.body.utf8Text == "{\"requestId\":\"r\",\"status\":\"pending\"}\n")
        #expect(await desk.post(body).status == .accepted)
        #expect(desk.broker.records(in: "fhir.commands").count == 1)
        let other = #"{"type":"CreatePatient","data":{"resourceType":"Patient","active":true},"metadata":{"requestId":"r"}}"#
        #expect(await desk.post(other).status == .unprocessableContent)
        #expect(await desk.get("r").status == .ok)
        #expect(await desk.get("unknown").status == .notFound)
        desk.memory.observe(
            try #require(
                CommandNews(
                    record("fhir.commands.results", #"{"requestId":"r","status":"completed"}"#, at: at(2)),
                    decoder: EventDecoder())))
        let done = await desk.post(body, wait: "5s")
        #expect(done.status == .ok && done.body.utf8Text == "{\"requestId\":\"r\",\"status\":\"completed\"}\n")
        #expect(await desk.get("r").body.utf8Text == "{\"requestId\":\"r\",\"status\":\"completed\"}\n")
        let server = try #require(desk.recorder.spans.first { $0.template.name == "POST /commands" })
        let send = try #require(desk.recorder.spans.first { $0.template.name == "send fhir.commands" })
        #expect(send.parentSpanID == server.context.spanID && first.context?.traceID == server.context.traceID)
    }

    @Test(arguments: CallerTrust.allCases)
    func aCallersTraceGoesOnOrIsLinkedTo(_ trust: CallerTrust) async throws {
        let desk = Desk(trust: trust)
        var fields = HTTPFields()
        fields[try #require(HTTPField.Name("traceparent"))] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        #expect(await desk.post(body, fields: fields).status == .accepted)
        let server = try #require(desk.recorder.spans.first { $0.template.name == "POST /commands" })
        let continues = server.context.traceID.description == "0af7651916cd43dd8448eb211c80319c"
        #expect(continues == (trust == .continue) && server.parentSpanID.isValid == (trust == .continue))
        #expect(server.links.count == (trust == .link ? 1 : 0))
        // A stranger's counts in neither way.
        #expect(await desk.post(body, token: "wrong", fields: fields).status == .unauthorized)
        let refused = try #require(desk.recorder.spans.last { $0.template.name == "POST /commands" })
        #expect(!refused.parentSpanID.isValid && refused.links.count == 0)
    }

    @Test func whatIsNoCommandIsRefused() async {
        let desk = Desk()
        #expect(await desk.post(body, token: "wrong").status == .unauthorized)
        #expect(await desk.post(body, token: "wrong").headers[.wwwAuthenticate] == "Bearer")
        #expect(await desk.post(body, type: "text/plain").status == .unsupportedMediaType)
        #expect(await desk.post(body, wait: "31s", type: "application/fhir+json; charset=utf-8").status == .badRequest)
        for wait in ["", "s", "-1s", "1h", "1e1", "99999999999s"] {
            #expect(await desk.post(body, wait: wait).status == .badRequest)
        }
        let answer = await desk.post(#"{"type":"CreatePatient","data":{"resourceType":"Patient","gender":"secret"}}"#)
        #expect(answer.status == .badRequest && answer.body.utf8Text?.contains("secret") == false)
        #expect(answer.body.utf8Text?.contains(#""resourceType":"OperationOutcome""#) == true)
        #expect(desk.broker.records(in: "fhir.commands").isEmpty)
    }

    @Test func withoutAnAcknowledgementItIsAnsweredSo() async {
        let desk = Desk(producer: Refusing())
        let answer = await desk.post(body)
        #expect(answer.status == .serviceUnavailable && answer.headers[.retryAfter] == "5")
        #expect(desk.memory.status(of: "r") == nil && desk.memory.count == 0)
        #expect(desk.recorder.spans.contains { $0.template.name == "POST /commands" })
    }

    @Test func waits() {
        #expect(WaitTime.parse(nil) == .zero && WaitTime.parse("10") == .seconds(10) && WaitTime.parse("30s") == .seconds(30))
        #expect(WaitTime.parse("500ms") == .milliseconds(500) && WaitTime.parse("30001ms") == nil)
    }
}

/// Brokers that never acknowledge.
private final class Refusing: RecordProducer {
    func produce(
        _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        completion(.failure(BrokerError("_MSG_TIMED_OUT", operation: "send", isRetriable: true)))
    }
    func whenWritable(_ body: @escaping @Sendable () -> Void) { body() }
    func flush(timeout: Duration) async -> Bool { true }
    func close() {}
}
