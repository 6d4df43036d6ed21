internal import TriageEvents

/// How long each state of a connection may last.
struct ConnectionLimits: Sendable, Equatable {
    /// From accepting, or from a request's first byte, until its head is complete.
    var head: Duration = .seconds(10)
    /// From the head until the body is complete.
    var body: Duration = .seconds(30)
    /// Between requests, and for taking an answer.
    var idle: Duration = .seconds(60)
    /// For the client to notice the end of a connection on which it is still sending.
    var linger: Duration = .seconds(1)
}

/// When a connection's time is up. A pure machine: times are arguments, so nothing is tested by waiting.
///
/// Bytes never extend a limit: the time of a head counts from its first byte, that of a body from its head, however much trickles
/// in. While requests are being answered no time runs against the client, and what it has sent meanwhile counts from then on.
struct ConnectionClock: Sendable, Equatable {
    /// Monotonic time in nanoseconds.
    typealias Instant = UInt64

    /// What is to be done when the time is up.
    enum Expiry: Sendable, Equatable {
        /// Nothing: it isn't, or doesn't run.
        case none
        /// End the connection.
        case close
        /// Answer 408 and end it.
        case refuse(Refusal)
    }

    enum Phase: Sendable, Equatable {
        /// Accepted; nothing came yet.
        case opened
        /// Between requests.
        case idle
        /// A head has begun.
        case head
        /// A body is on its way.
        case body
        /// The last answer is on its way or out; what comes is dropped.
        case ending
    }

    private(set) var phase = Phase.opened
    /// Requests handed on that are not answered yet.
    private(set) var unanswered = 0
    /// Answers that are being written.
    private(set) var writing = 0
    private var since: Instant
    private let limits: ConnectionLimits

    init(limits: ConnectionLimits, now: Instant) {
        self.limits = limits
        since = now
    }

    /// Bytes came.
    mutating func received(at now: Instant) {
        switch phase {
        case .opened: phase = .head
        case .idle:
            phase = .head
            since = now
        case .head, .body, .ending: break
        }
    }

    /// A head is complete.
    mutating func headEnded(at now: Instant) {
        guard phase != .ending else { return }
        phase = .body
        since = now
    }

    /// A request is complete, or refused with the connection kept, and handed on.
    mutating func handedOn(at now: Instant) {
        unanswered += 1
        guard phase != .ending else { return }
        phase = .idle
        since = now
    }

    /// The last request that will be read is handed on, or refused.
    mutating func handedOnLast(at now: Instant) {
        unanswered += 1
        phase = .ending
        since = now
    }

    /// What is being answered is the last, though more could have come.
    mutating func end() { phase = .ending }

    /// An answer is given to the socket.
    mutating func answerBegan(at now: Instant) {
        unanswered -= 1
        writing += 1
        since = now
    }

    /// The socket has taken an answer.
    mutating func answerEnded(at now: Instant) {
        writing -= 1
        if unanswered == 0 { since = now }
    }

    /// When to look again; nil while requests are being answered.
    var deadline: Instant? {
        guard unanswered == 0 else { return nil }
        return since &+ UInt64(clamping: limit.wholeNanoseconds)
    }

    /// What to do at `now`.
    func expiry(at now: Instant) -> Expiry {
        guard let deadline, now >= deadline else { return .none }
        guard writing == 0 else { return .close }
        return switch phase {
        case .opened, .idle, .ending: .close
        case .head: .refuse(.headTimeout)
        case .body: .refuse(.bodyTimeout)
        }
    }

    /// Whether nothing is under way, so that the connection can end without anyone noticing.
    var isQuiet: Bool { unanswered == 0 && writing == 0 && (phase == .idle || phase == .opened) }

    private var limit: Duration {
        if writing > 0 { return limits.idle }
        return switch phase {
        case .opened, .head: limits.head
        case .body: limits.body
        case .idle: limits.idle
        case .ending: limits.linger
        }
    }
}
