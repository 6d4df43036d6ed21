import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageIngress

/// A FHIR server in memory: conditional creates by tag, versions, If-Match, deletes; and answers that a test plants.
final class StubFHIRServer: HTTPCaller {
    struct State {
        var patients: [String: (version: Int, text: ByteSlice, isDeleted: Bool)] = [:]
        var calls: [String] = []
        var planted: [HTTPAnswer] = []
        /// Answers that are lost after the server did its work.
        var lost = 0
        /// Updates before which somebody else is quicker.
        var overtaken = 0
        /// Whether an update of what isn't there creates it.
        var createsByUpdate = false
    }
    let state = Mutex(State())

    func send(_ call: HTTPCall) async throws(HTTPCallError) -> HTTPAnswer {
        let result: Result<HTTPAnswer, HTTPCallError> = state.withLock { state in
            let rest = call.url.dropFirst("http://fhir.test/r4".count)
            state.calls.append("\(call.method.rawValue) \(rest)")
            if !state.planted.isEmpty { return .success(state.planted.removeFirst()) }
            let answer = StubFHIRServer.answer(call, String(rest), &state)
            if state.lost > 0 {
                state.lost -= 1
                return .failure(HTTPCallError(.connectionLost))
            }
            return .success(answer)
        }
        return try result.get()
    }

    private static func answer(_ call: HTTPCall, _ path: String, _ state: inout State) -> HTTPAnswer {
        let header = { (name: String) in call.headers.first { $0.name == name }?.value }
        if call.method == .post {
            let code = header("If-None-Exist")?.split(separator: "|").last.map(String.init)
            if let known = state.patients.first(where: { tag($0.value.text) == code && !$0.value.isDeleted }) {
                return success(200, known.key, known.value.version)
            }
            let id = "p\(state.patients.count)"
            state.patients[id] = (1, call.body ?? ByteSlice(""), false)
            return success(201, id, 1)
        }
        let id = String(path.dropFirst("/Patient/".count))
        if call.method == .put, state.createsByUpdate, state.patients[id] == nil {
            state.patients[id] = (1, call.body ?? ByteSlice(""), false)
            return success(201, id, 1)
        }
        guard var patient = state.patients[id] else { return HTTPAnswer(status: 404) }
        if call.method == .put, state.overtaken > 0 {
            state.overtaken -= 1
            patient.version += 1
            state.patients[id] = patient
        }
        if patient.isDeleted { return HTTPAnswer(status: 410) }
        if call.method == .get {
            return HTTPAnswer(status: 200, headers: [("etag", "W/\"\(patient.version)\"")], body: patient.text)
        }
        if let match = header("If-Match"), match != "W/\"\(patient.version)\"" {
            return HTTPAnswer(
                status: 412,
                body: ByteSlice(#"{"resourceType":"OperationOutcome","issue":[{"code":"conflict","diagnostics":"Jane"}]}"#))
        }
        patient.version += 1
        if call.method == .delete { patient.isDeleted = true } else { patient.text = call.body ?? ByteSlice("") }
        state.patients[id] = patient
        return call.method == .delete ? HTTPAnswer(status: 204) : success(200, id, patient.version)
    }

    private static func tag(_ text: ByteSlice) -> String? { JSONValue(text).flatMap { RequestTag.requestID(in: $0) } }

    private static func success(_ status: Int, _ id: String, _ version: Int) -> HTTPAnswer {
        HTTPAnswer(
            status: status,
            headers: [("location", "http://fhir.test/r4/Patient/\(id)/_history/\(version)"), ("etag", "W/\"\(version)\"")])
    }
}

@Suite("Carrying out commands")
struct CommandRunnerTests {
    let server = StubFHIRServer()
    let spans = SpanRecorder()
    let clock = ManualClock()
    let runner: CommandRunner

    init() throws {
        let tracer = Tracer(clock: clock, processors: [spans])
        let caller = TracedHTTPCaller(server, tracer: tracer, meter: Meter(clock: clock))
        let configured = try #require(FHIRServer("http://fhir.test/r4/", authorization: .basic(user: "u", password: "pässword")))
        runner = CommandRunner(FHIRClient(configured, caller: caller, clock: clock))
    }

    func plan(_ type: String, _ data: String, request: String = "r-1") throws -> CommandPlan {
        let text =
            #"{"type":"\#(type)","data":\#(data),"metadata":{"requestId":"\#(request)","timestamp":"2026-11-23T10:00:00Z"}}"#
        return try CommandPlan(try EventDecoder().decode(command: ByteSlice(text)))
    }

    func code(_ plan: CommandPlan) async -> String? {
        do throws(CommandRunner.Failure) {
            _ = try await runner.run(plan, wantsResource: false, resends: 0)
            return nil
        } catch {
            return "\(error.errorClass) \(error.code)"
        }
    }

    let patient = #"{"resourceType":"Patient","name":[{"family":"Doe"}]}"#

    @Test("A create that is delivered again, its answer lost, creates once")
    func createOnce() async throws {
        server.state.withLock { $0.lost = 1 }
        #expect(await code(try plan("CreatePatient", patient)) == "transient connection_lost")
        let outcome = try await runner.run(try plan("CreatePatient", patient), wantsResource: true, resends: 1)
        #expect(outcome.resourceID == "p0" && outcome.versionID == "1")
        #expect(outcome.resource?.utf8Text?.contains("Doe") == true)
        #expect(server.state.withLock { $0.patients.count } == 1)
        _ = try await runner.run(try plan("CreatePatient", patient, request: "r-2"), wantsResource: false, resends: 0)
        #expect(server.state.withLock { $0.patients.count } == 2)
    }

    @Test("An update whose answer was lost is found done by its tag; another one's version is a persistent failure")
    func updates() async throws {
        _ = try await runner.run(try plan("CreatePatient", patient), wantsResource: false, resends: 0)
        let data = #"{"resourceType":"Patient","id":"p0","meta":{"versionId":"1"}}"#
        server.state.withLock { $0.lost = 1 }
        #expect(await code(try plan("UpdatePatient", data, request: "r-2")) == "transient connection_lost")
        let again = try await runner.run(
            try plan("UpdatePatient", data, request: "r-2"), wantsResource: false, resends: 1)
        #expect(again.versionID == "2")
        #expect(await code(try plan("UpdatePatient", data, request: "r-3")) == "persistent http_412_conflict")
        #expect(server.state.withLock { $0.patients["p0"]?.version } == 2)
    }

    private var puts: Int { server.state.withLock { $0.calls.count { $0.hasPrefix("PUT") } } }

    @Test("An update without a version that comes twice, by whatever record, is made once")
    func repeatedUpdate() async throws {
        _ = try await runner.run(try plan("CreatePatient", patient), wantsResource: false, resends: 0)
        let data = #"{"resourceType":"Patient","id":"p0"}"#
        for _ in 0..<3 {
            let outcome = try await runner.run(try plan("UpdatePatient", data, request: "r-2"), wantsResource: false, resends: 0)
            #expect(outcome.versionID == "2" && outcome.action == .updated)
        }
        #expect(puts == 1)
        let third = try await runner.run(try plan("UpdatePatient", data, request: "r-3"), wantsResource: false, resends: 0)
        #expect(third.versionID == "3" && puts == 2)
    }

    @Test("An update without a version gives way to nobody who was quicker, nor does it write over what it hasn't seen")
    func contended() async throws {
        _ = try await runner.run(try plan("CreatePatient", patient), wantsResource: false, resends: 0)
        let data = #"{"resourceType":"Patient","id":"p0"}"#
        server.state.withLock { $0.overtaken = 2 }
        let outcome = try await runner.run(try plan("UpdatePatient", data, request: "r-2"), wantsResource: false, resends: 0)
        #expect(outcome.versionID == "4" && puts == 3)
        server.state.withLock { $0.overtaken = 100 }
        #expect(await code(try plan("UpdatePatient", data, request: "r-3")) == "transient contended")
        // A refusal of another kind holds at once.
        server.state.withLock { state in
            state.overtaken = 0
            state.calls = []
        }
        let read = HTTPAnswer(status: 200, headers: [("etag", "W/\"9\"")], body: ByteSlice(data))
        server.state.withLock { $0.planted = [read, HTTPAnswer(status: 409), read] }
        #expect(await code(try plan("UpdatePatient", data, request: "r-4")) == "persistent http_409" && puts == 1)
    }

    @Test("An update of a Patient that isn't there, where the server makes one of it, created it; so it did when it comes again")
    func createdByUpdate() async throws {
        server.state.withLock { $0.createsByUpdate = true }
        let data = #"{"resourceType":"Patient","id":"n1"}"#
        for _ in 0..<2 {
            let outcome = try await runner.run(try plan("UpdatePatient", data, request: "r-2"), wantsResource: false, resends: 0)
            #expect(outcome.action == .created && outcome.resourceID == "n1" && outcome.versionID == "1")
        }
        #expect(puts == 1)
        let next = try await runner.run(try plan("UpdatePatient", data, request: "r-3"), wantsResource: false, resends: 0)
        #expect(next.action == .updated && next.versionID == "2")
    }

    @Test("A 2xx that no FHIR server gives, or that is about another Patient, isn't taken for done; nor is a page that says 404")
    func foreignAnswers() async throws {
        func answer(_ status: Int, _ body: String, _ headers: [(name: String, value: String)] = []) -> HTTPAnswer {
            HTTPAnswer(status: status, headers: headers, body: ByteSlice(body))
        }
        let page = "<html><body>Sign in</body></html>"
        let other = #"{"resourceType":"Patient","id":"other"}"#
        let data = #"{"resourceType":"Patient","id":"p0","meta":{"versionId":"1"}}"#
        let unversioned = #"{"resourceType":"Patient","id":"p0"}"#
        let cases: [(type: String, data: String, answers: [HTTPAnswer], code: String?)] = [
            ("CreatePatient", patient, [answer(201, page)], "transient no_fhir_answer"),
            ("CreatePatient", patient, [answer(200, #"{"resourceType":"Observation","id":"o"}"#)], "transient no_fhir_answer"),
            ("CreatePatient", patient, [answer(201, "")], "transient no_fhir_answer"),
            ("CreatePatient", patient, [answer(201, "", [("location", "http://s/Patient/p0/_history/1")])], nil),
            ("CreatePatient", patient, [answer(201, other)], nil),
            ("UpdatePatient", data, [answer(200, page)], "transient no_fhir_answer"),
            ("UpdatePatient", data, [answer(200, other)], "transient other_resource"),
            (
                "UpdatePatient", data, [answer(200, "", [("location", "http://s/Patient/other/_history/3")])],
                "transient other_resource"
            ),
            ("UpdatePatient", data, [answer(200, "")], nil),
            ("UpdatePatient", data, [answer(200, #"{"resourceType":"OperationOutcome"}"#)], nil),
            ("UpdatePatient", unversioned, [answer(200, "[]")], "transient no_fhir_answer"),
            ("UpdatePatient", unversioned, [answer(200, other)], "transient other_resource"),
            ("DeletePatient", data, [answer(200, page)], "transient no_fhir_answer"),
            ("DeletePatient", data, [answer(404, page)], "persistent http_404"),
            ("DeletePatient", data, [answer(404, #"{"resourceType":"OperationOutcome"}"#)], nil),
            ("DeletePatient", data, [answer(204, "")], nil),
        ]
        for (index, one) in cases.enumerated() {
            server.state.withLock { $0.planted = one.answers }
            #expect(await code(try plan(one.type, one.data)) == one.code, "\(index)")
        }
    }

    @Test("A delete of what is gone is done; an update of it fails for good")
    func deletes() async throws {
        let data = #"{"resourceType":"Patient","id":"p0"}"#
        _ = try await runner.run(try plan("CreatePatient", patient), wantsResource: false, resends: 0)
        for _ in 0..<2 { #expect(await code(try plan("DeletePatient", data, request: "r-2")) == nil) }
        #expect(await code(try plan("DeletePatient", #"{"resourceType":"Patient","id":"none"}"#)) == nil)
        #expect(await code(try plan("UpdatePatient", data, request: "r-3")) == "persistent http_410")
        #expect(await code(try plan("UpdatePatient", #"{"resourceType":"Patient","id":"none"}"#)) == "persistent http_404")
    }

    @Test("An overloaded server is asked again when it says")
    func retryAfter() async throws {
        server.state.withLock { $0.planted = [HTTPAnswer(status: 503, headers: [("retry-after", "30")])] }
        let failure = await #expect(throws: CommandRunner.Failure.self) {
            _ = try await runner.run(try plan("CreatePatient", patient), wantsResource: false, resends: 0)
        }
        #expect(failure?.errorClass == .transient && failure?.retryAt == clock.now() + .seconds(30))
    }

    @Test("Spans tell templates and statuses, never an id, a name or what the server says")
    func privacy() async throws {
        _ = try await runner.run(try plan("CreatePatient", patient), wantsResource: false, resends: 0)
        let stale = #"{"resourceType":"Patient","id":"p0","meta":{"versionId":"9"}}"#
        _ = await code(try plan("UpdatePatient", stale, request: "r-2"))
        #expect(spans.spans.map(\.template.name) == ["POST /Patient", "PUT /Patient/{id}", "GET /Patient/{id}"])
        let text = spans.spans.map { "\($0.template.attributes) \($0.attributes) \($0.status) \($0.events)" }.joined()
        for marker in ["p0", "Doe", "Jane", "r-2", "/r4", "pässword", "If-"] { #expect(!text.contains(marker)) }
        #expect(text.contains("http://fhir.test/Patient/{id}") && text.contains("412"))
    }

    @Test("A request id that means something in a search is refused")
    func refused() throws {
        #expect(throws: CommandPlan.Refusal.requestID) { _ = try plan("CreatePatient", patient, request: "a|b") }
        #expect(CommandResult.eventID(of: "r-1") == CommandResult.eventID(of: "r-1"))
        #expect(AttributeValue.uuid(ByteSlice(CommandResult.eventID(of: "r-1"))) != nil)
    }
}
