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
        guard var patient = state.patients[id] else { return HTTPAnswer(status: 404) }
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

    func plan(_ type: String, _ data: String, request: String = "r-1", repeated: Bool = false) throws -> CommandPlan {
        let text =
            #"{"type":"\#(type)","data":\#(data),"metadata":{"requestId":"\#(request)","timestamp":"2026-11-23T10:00:00Z"}}"#
        return try CommandPlan(try EventDecoder().decode(command: ByteSlice(text)), isRepeated: repeated)
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
        let outcome = try await runner.run(try plan("CreatePatient", patient, repeated: true), wantsResource: true, resends: 1)
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
            try plan("UpdatePatient", data, request: "r-2", repeated: true), wantsResource: false, resends: 1)
        #expect(again.versionID == "2")
        #expect(await code(try plan("UpdatePatient", data, request: "r-3")) == "persistent http_412_conflict")
        #expect(server.state.withLock { $0.patients["p0"]?.version } == 2)
    }

    @Test("An update without a version, delivered again, is looked for first")
    func repeatedUpdate() async throws {
        _ = try await runner.run(try plan("CreatePatient", patient), wantsResource: false, resends: 0)
        let data = #"{"resourceType":"Patient","id":"p0"}"#
        for repeated in [false, true, true] {
            let outcome = try await runner.run(
                try plan("UpdatePatient", data, request: "r-2", repeated: repeated), wantsResource: false, resends: 0)
            #expect(outcome.versionID == "2")
        }
        let third = try await runner.run(
            try plan("UpdatePatient", data, request: "r-3", repeated: true), wantsResource: false, resends: 0)
        #expect(third.versionID == "3")
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
