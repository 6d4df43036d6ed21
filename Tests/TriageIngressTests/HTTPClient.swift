import Glibc

/// A connection to 127.0.0.1 over a plain socket, so that the server is tested by bytes and not by its own library.
///
/// Each read blocks a thread of its own, never one that the server's tasks need, and gives up after 30 s.
final class Connection: Sendable {
    private let socket: Int32

    init?(port: Int) {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        var limit = timeval(tv_sec: 30, tv_usec: 0)
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard connected == 0 else {
            close(socket)
            return nil
        }
        self.socket = socket
    }

    deinit { close(socket) }

    func send(_ text: String) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            guard count > 0 else { return }
            bytes = bytes.dropFirst(count)
        }
    }

    /// One answer: its head up to the blank line, and a body of `Content-Length`. Nil at the end of the connection.
    func receive(hasBody: Bool = true) async -> Reply? { await onThread { self.reply(hasBody: hasBody) } }

    /// Whether the other side closes within 30 s.
    var isClosed: Bool { get async { await onThread { self.closes() } } }

    private func reply(hasBody: Bool) -> Reply? {
        var head = ""
        while !head.hasSuffix("\r\n\r\n") {
            guard let byte = read(1).first else { return nil }
            head.unicodeScalars.append(Unicode.Scalar(byte))
        }
        var lines = head.split(separator: "\r\n").map(String.init)
        let status = lines.removeFirst().split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        var fields: [String: String] = [:]
        for line in lines {
            let halves = line.split(separator: ":", maxSplits: 1)
            fields[halves[0].lowercased()] = halves.count == 2 ? String(halves[1].drop { $0 == " " }) : ""
        }
        let length = hasBody ? Int(fields["content-length"] ?? "0") ?? 0 : 0
        return Reply(status: status, fields: fields, body: String(decoding: read(length), as: UTF8.self))
    }

    private func closes() -> Bool {
        var byte: UInt8 = 0
        while true {
            let count = recv(socket, &byte, 1, 0)
            if count == 0 { return true }
            if count < 0 { return errno == ECONNRESET }
        }
    }

    private func read(_ wanted: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while bytes.count < wanted {
            let count = recv(socket, &chunk, min(4096, wanted - bytes.count), 0)
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        return bytes
    }
}

struct Reply: Sendable {
    let status: Int
    let fields: [String: String]
    let body: String
}

/// Runs `body` on a new thread.
private func onThread<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result {
    return await withCheckedContinuation { continuation in
        let job = Unmanaged.passRetained(Job { continuation.resume(returning: body()) }).toOpaque()
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { pointer in
                if let pointer { Unmanaged<Job>.fromOpaque(pointer).takeRetainedValue().run() }
                return nil
            }, job)
        pthread_detach(thread)
    }
}

private final class Job: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}
