import Glibc
import HTTPTypes
import Testing
import TriageEvents
import TriageIngress
import TriageTelemetry

/// Answers with the name of the thread that it runs on, before and after it has waited for another one.
private struct ThreadRoute: IngressRoute {
    let template = "/thread"
    let methods: [HTTPRequest.Method] = [.post]
    let maximumBodyBytes = 1 << 20

    func admits(_ headers: HTTPFields) -> Bool { true }

    func answer(_ request: IngressRequest) async -> IngressAnswer {
        let before = ThreadRoute.thread()
        let between = await Task.detached { ThreadRoute.thread() }.value
        return IngressAnswer(status: .ok, body: ByteSlice([before, between, ThreadRoute.thread()].joined(separator: "\n")))
    }

    /// Which kind of thread this is, by its name.
    private static func thread() -> String {
        let file = open("/proc/thread-self/comm", O_RDONLY)
        defer { close(file) }
        return withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { name in
            let count = max(0, read(file, name.baseAddress, 64))
            return String(decoding: name[..<count], as: UTF8.self).hasPrefix("NIO-") ? "loop" : "pool"
        }
    }
}

@Suite struct LoopExecutorTests {
    @Test(
        "A request is answered on its connection's event loop, one with a long body and what it starts elsewhere",
        arguments: [(1000, "loop\npool\nloop"), (64 * 1024, "loop\npool\nloop"), (64 * 1024 + 1, "pool\npool\npool")])
    func threads(_ bytes: Int, _ threads: String) async throws {
        var configuration = IngressServer.Configuration()
        configuration.port = 0
        try await withServer([ThreadRoute()], configuration) { _, port in
            let connection = try #require(Connection(port: port))
            connection.send(
                "POST /thread HTTP/1.1\r\nHost: x\r\nContent-Length: \(bytes)\r\n\r\n" + String(repeating: "a", count: bytes))
            #expect(await connection.receive()?.body == threads)
        }
    }
}
