import Glibc
import Synchronization

/// An HTTP server of one thread that answers what the test has scripted, request by request.
///
/// `@unchecked Sendable`: `descriptor` and `port` are set in `init`; the rest is in the mutex. `stop()` shuts the sockets
/// down, which ends the thread, and waits for it on a condition that the thread signals last.
final class StubReceiver: @unchecked Sendable {
    /// What a request is answered with.
    enum Answer: Sendable {
        /// A response; a body without a `Content-Length` of its own gets one.
        case reply(Int, headers: [String] = [], body: [UInt8] = [])
        /// A response in several pieces.
        case pieces([[UInt8]])
        /// Nothing, until the receiver is stopped.
        case hang
        /// The connection is closed.
        case close
    }

    /// What arrived.
    struct Request: Sendable {
        var head: [String]
        var body: [UInt8]
        var seconds: Double

        /// The value of a header.
        func header(_ name: String) -> String? {
            let line = head.dropFirst().first { $0.lowercased().hasPrefix(name.lowercased() + ":") }
            return line.map { $0.dropFirst(name.count + 1).drop { $0 == " " } }.map(String.init)
        }
    }

    private struct State {
        var answers: [Answer]
        var requests: [Request] = []
        var connections = 0
        var client: Int32 = -1
        var isStopped = false
    }

    let port: UInt16
    private let descriptor: Int32
    private let state: Mutex<State>
    private let changed: Changed

    /// Takes a free port of 127.0.0.1 and listens on it, unless `isDeaf`. The last answer is given again and again.
    init(_ answers: [Answer], isDeaf: Bool = false) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = descriptor
        let isListening = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(descriptor, address, length) == 0 && (isDeaf || listen(descriptor, 16) == 0)
                    && getsockname(descriptor, address, &length) == 0
            }
        }
        guard isListening else { throw StubError() }
        port = UInt16(bigEndian: address.sin_port)
        state = Mutex(State(answers: answers))
        changed = Changed()
        if isDeaf { return }
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<StubReceiver>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        pthread_detach(thread)
    }

    var url: String { "http://127.0.0.1:\(port)/v1/traces" }
    var requests: [Request] { state.withLock { $0.requests } }
    /// How many connections were accepted.
    var connections: Int { state.withLock { $0.connections } }

    /// Blocks until so many requests have arrived.
    func waitForRequests(_ count: Int) { changed.wait { self.state.withLock { $0.requests.count >= count } } }

    /// Ends the thread; a request that hangs is dropped.
    func stop() {
        let client = state.withLock { state in
            state.isStopped = true
            return state.client
        }
        shutdown(descriptor, Int32(SHUT_RDWR))
        if client >= 0 { shutdown(client, Int32(SHUT_RDWR)) }
        changed.signal()
    }

    /// Closes the socket of a deaf receiver.
    func closeDeaf() { Glibc.close(descriptor) }

    private func run() {
        while true {
            let client = accept(descriptor, nil, nil)
            guard client >= 0 else { break }
            let isStopped = state.withLock { state in
                state.client = client
                state.connections += 1
                return state.isStopped
            }
            if !isStopped { serve(client) }
            state.withLock { $0.client = -1 }
            Glibc.close(client)
        }
        Glibc.close(descriptor)
    }

    private func serve(_ client: Int32) {
        while let request = read(client) {
            let answer = state.withLock { state in
                state.requests.append(request)
                return state.answers.count > 1 ? state.answers.removeFirst() : state.answers[0]
            }
            changed.signal()
            switch answer {
            case .close: return
            case .hang: changed.wait { self.state.withLock { $0.isStopped } }
            case .reply(let status, let headers, let body):
                var head = "HTTP/1.1 \(status) Status\r\nContent-Length: \(body.count)\r\n"
                for header in headers { head += header + "\r\n" }
                guard send(client, Array((head + "\r\n").utf8) + body) else { return }
            case .pieces(let pieces):
                for piece in pieces {
                    guard send(client, piece) else { return }
                }
            }
        }
    }

    private func send(_ client: Int32, _ bytes: [UInt8]) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let sent = rest.withUnsafeBytes { Glibc.send(client, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            guard sent > 0 else { return false }
            rest = rest.dropFirst(sent)
        }
        return true
    }

    private func read(_ client: Int32) -> Request? {
        var bytes: [UInt8] = []
        var bodyStart: Int?
        var length = 0
        var head: [String] = []
        while true {
            if bodyStart == nil, let end = StubReceiver.headEnd(bytes) {
                bodyStart = end
                head = String(decoding: bytes[..<(end - 4)], as: UTF8.self).split(separator: "\r\n").map(String.init)
                let request = Request(head: head, body: [], seconds: 0)
                length = request.header("Content-Length").flatMap { Int($0) } ?? 0
            }
            if let bodyStart, bytes.count >= bodyStart + length {
                var time = timespec()
                clock_gettime(CLOCK_MONOTONIC, &time)
                let seconds = Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
                return Request(head: head, body: Array(bytes[bodyStart..<(bodyStart + length)]), seconds: seconds)
            }
            var buffer = [UInt8](repeating: 0, count: 65_536)
            let count = recv(client, &buffer, buffer.count, 0)
            guard count > 0 else { return nil }
            bytes += buffer[..<count]
        }
    }

    private static func headEnd(_ bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        for index in 0...(bytes.count - 4) where bytes[index..<(index + 4)].elementsEqual([13, 10, 13, 10]) { return index + 4 }
        return nil
    }
}

struct StubError: Error {}

/// Something has changed: a condition variable for threads of tests.
///
/// `@unchecked Sendable`: a POSIX mutex and condition variable, made for any thread.
final class Changed: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    func signal() {
        pthread_mutex_lock(mutex)
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Blocks until `isTrue`, for a minute at most.
    func wait(until isTrue: () -> Bool) {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        time.tv_sec += 60
        pthread_mutex_lock(mutex)
        while !isTrue(), pthread_cond_timedwait(condition, mutex, &time) == 0 {}
        pthread_mutex_unlock(mutex)
    }
}
