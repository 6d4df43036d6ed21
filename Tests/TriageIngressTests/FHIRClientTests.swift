import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageIngress

/// Keeps the calls, and answers or fails.
private final class KeptCalls: HTTPCaller {
    let calls = Mutex<[HTTPCall]>([])
    let failure: HTTPCallError?

    init(failure: HTTPCallError? = nil) { self.failure = failure }

    func send(_ call: HTTPCall) async throws(HTTPCallError) -> HTTPAnswer {
        calls.withLock { $0.append(call) }
        if let failure { throw failure }
        return HTTPAnswer(status: 200, body: ByteSlice("{}"))
    }
}

@Suite("Calls to a FHIR server")
struct FHIRClientTests {
    private func client(_ caller: KeptCalls) throws -> FHIRClient {
        let clock = ManualClock()
        let traced = TracedHTTPCaller(caller, tracer: Tracer(clock: clock, processors: []), meter: Meter(clock: clock))
        return FHIRClient(try #require(FHIRServer("http://fhir.test/r4")), caller: traced, clock: clock)
    }

    @Test(
        "links to pages are followed below the server's base only, however the way out is written",
        arguments: [
            ("http://fhir.test/r4?page=1", true), ("http://fhir.test/r4/Patient/_history?_page=../..&x=%2e%2e", true),
            ("http://fhir.test:80/r4/a..b/...", true), ("http://fhir.test/r4/x#/../..", true),
            ("http://other.test/r4?page=1", false), ("https://fhir.test/r4?page=1", false), ("http://fhir.test/r40", false),
            ("http://fhir.test/", false), ("http://fhir.test/r4/../admin", false), ("http://fhir.test/r4/..", false),
            ("http://fhir.test/r4/..?x", false), ("http://fhir.test/r4/%2e%2E/admin", false), ("http://fhir.test/r4/.%2e", false),
            ("http://fhir.test/r4/..;x=1/admin", false), ("http://fhir.test/r4/a%2F..%2f..", false),
            ("http://fhir.test/r4/%252e%252e/a", false), ("http://fhir.test/r4/%5c..", false), ("/r4/Patient", false),
        ])
    func base(url: String, isFollowed: Bool) async throws {
        let caller = KeptCalls()
        let client = try client(caller)
        do throws(HTTPCallError) {
            _ = try await client.page(url)
            #expect(isFollowed, "\(url)")
        } catch {
            #expect(!isFollowed && error.code == .invalidCall, "\(url)")
        }
        #expect(caller.calls.withLock { $0.count } == (isFollowed ? 1 : 0))
    }

    @Test("an answer about one Patient may have 4 MiB, a bundle 16; a longer one is told apart from a server that is away")
    func lengths() async throws {
        let caller = KeptCalls()
        let client = try client(caller)
        _ = try await client.read("p1")
        _ = try await client.history(since: nil)
        _ = try await client.page("http://fhir.test/r4/next")
        _ = try await client.events(of: "s", 1...2)
        #expect(caller.calls.withLock { $0.map(\.maximumAnswerBytes) } == [4 << 20, 16 << 20, 16 << 20, 16 << 20])
        let long = try self.client(KeptCalls(failure: HTTPCallError(.answerTooLarge)))
        #expect(await FHIRClientSource(long, clock: ManualClock()).ask(.patient(ByteSlice("p1")), parent: nil) == .tooLarge)
    }
}
