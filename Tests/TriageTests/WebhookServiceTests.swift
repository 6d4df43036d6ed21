import Glibc
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry

@testable import Triage

@Suite("Webhooks of a service", .serialized, .timeLimit(.minutes(2)))
struct WebhookServiceTests {
    @Test("a request that waits for a FHIR server gets its 503 at its deadline, also if the service is asked to end meanwhile")
    func deadlineAtStop() async throws {
        let cluster = try makeCluster()
        defer { cluster.close() }
        // Who connects there waits for ever: it is never accepted.
        let silent = try LocalSocket(connectingTo: nil)
        var configuration = makeConfiguration(cluster)
        configuration.handlesEvents = false
        configuration.fhir = Configuration.FHIR("http://127.0.0.1:\(silent.port)/fhir")
        configuration.webhooks = Configuration.Webhooks()
        configuration.webhooks?.timeout = .seconds(2)
        configuration.listen.address.port = 0
        let listening = Mutex(0)
        let service = try TriageService(
            configuration, telemetry: makeTelemetry(), logger: quiet(),
            onListening: { _, port in listening.withLock { $0 = port } }, handler: nil)
        async let end: Void = service.run()
        #expect(try await eventually { listening.withLock { $0 } > 0 })
        let client = try LocalSocket(connectingTo: listening.withLock { $0 })
        let body =
            #"{"resourceType":"Bundle","type":"history","entry":[{"resource":{"resourceType":"SubscriptionStatus","#
            + #""type":"event-notification","notificationEvent":[{"eventNumber":1,"focus":{"reference":"Patient/p1"}}]}}]}"#
        client.send(
            "POST /webhooks/fhir HTTP/1.1\r\nHost: h\r\nContent-Type: application/fhir+json\r\nContent-Length: "
                + "\(body.utf8.count)\r\n\r\n\(body)")
        #expect(try await eventually { silent.hasVisitor })
        service.stop()
        // Its call may take 30 s, and so may the service's end.
        var answer = ""
        #expect(
            try await eventually(within: .seconds(15)) {
                answer += client.received()
                return answer.contains("\r\n\r\n")
            })
        #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.lowercased().contains("retry-after: 5"))
        try await end
    }
}

/// A socket of this machine that never blocks: a listening one that accepts nobody, or one that is connected to a port.
private final class LocalSocket: Sendable {
    struct Failed: Error {}

    private let socket: Int32
    let port: Int

    init(connectingTo port: Int?) throws {
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port ?? 0).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isDone = withUnsafeMutablePointer(to: &address) { [socket] in
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                if port != nil { return connect(socket, address, length) == 0 }
                return bind(socket, address, length) == 0 && listen(socket, 8) == 0 && getsockname(socket, address, &length) == 0
            }
        }
        self.port = Int(in_port_t(bigEndian: address.sin_port))
        guard isDone else {
            close(socket)
            throw Failed()
        }
    }

    deinit { close(socket) }

    /// Whether somebody is connected, or waits to be accepted.
    var hasVisitor: Bool {
        var poll = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&poll, 1, 0) > 0
    }

    func send(_ text: String) {
        let bytes = Array(text.utf8)
        _ = Glibc.send(socket, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }

    /// What has come since; nothing if nothing has.
    func received() -> String {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = recv(socket, &bytes, bytes.count, Int32(MSG_DONTWAIT))
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }
}
