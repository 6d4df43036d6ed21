internal import Crypto
internal import TriageEvents

/// Who has shown the token, and for how long that counts: a pure machine, time and random bytes are arguments.
///
/// - A session ends after ``maximumAge``, or after ``maximumIdle`` without a request; beyond ``capacity`` the one that was idle for
///   longest makes room.
/// - After ``maximumFailures`` wrong tokens within ``failureWindow``, whoever they came from, none is looked at until that has
///   passed: a token can't be guessed, and nobody shall try.
///
/// Neither the token nor the sessions' ids are kept, only their SHA-256: what a lookup or a comparison takes tells nothing of them.
struct ConsoleSessions: Sendable {
    /// A work day.
    static let maximumAge: Duration = .seconds(8 * 3600)
    static let maximumIdle: Duration = .seconds(3600)
    static let capacity = 64
    static let maximumFailures = 10
    static let failureWindow: Duration = .seconds(60)

    /// What signing in came to.
    enum Entry: Equatable {
        /// A session of this id and form token.
        case admitted(id: String, formToken: String)
        /// The token is wrong.
        case refused
        /// Too many were wrong; after this time one is looked at again.
        case later(Duration)
        /// There is no token, so nobody can sign in.
        case closed
    }

    private struct Session {
        let name: String?
        let formToken: String
        let began: Timestamp
        var used: Timestamp
    }

    private let token: SHA256Digest?
    private var sessions: [SHA256Digest: Session] = [:]
    private var failures: [Timestamp] = []

    /// Nobody signed in.
    ///
    /// - Parameter token: what is to be shown; nil if nobody can sign in.
    init(token: String?) { self.token = token.map { SHA256.hash(data: Array($0.utf8)) } }

    /// Whether there is a token at all.
    var isOpen: Bool { token != nil }

    /// How many sessions there are.
    var count: Int { sessions.count }

    /// Someone shows a token.
    ///
    /// - Parameters:
    ///   - name: what they want to be called in what is written about their doings.
    ///   - random: 64 random bytes, for the session's id and its form token.
    mutating func enter(_ shown: String, name: String?, at now: Timestamp, random: [UInt8]) -> Entry {
        guard let token else { return .closed }
        failures.removeAll { now - $0 > ConsoleSessions.failureWindow || $0 > now }
        if failures.count >= ConsoleSessions.maximumFailures, let oldest = failures.first {
            return .later(max(.seconds(1), ConsoleSessions.failureWindow - (now - oldest)))
        }
        // Digests are compared in constant time.
        guard token == SHA256.hash(data: Array(shown.utf8)) else {
            failures.append(now)
            return .refused
        }
        expire(at: now)
        if sessions.count >= ConsoleSessions.capacity, let oldest = sessions.min(by: { $0.value.used < $1.value.used }) {
            sessions[oldest.key] = nil
        }
        let id = ConsoleSessions.hex(random.prefix(32))
        let formToken = ConsoleSessions.hex(random.dropFirst(32).prefix(32))
        sessions[ConsoleSessions.key(id)] = Session(name: name, formToken: formToken, began: now, used: now)
        return .admitted(id: id, formToken: formToken)
    }

    /// Who shows this session's id; nil if there is no such session, or not any more.
    mutating func visitor(_ id: String?, at now: Timestamp) -> ConsoleVisitor? {
        guard let id, id.utf8.count == 64 else { return nil }
        let key = ConsoleSessions.key(id)
        guard let session = sessions[key] else { return nil }
        guard ConsoleSessions.isGood(session, at: now) else {
            sessions[key] = nil
            return nil
        }
        sessions[key]?.used = max(session.used, now)
        return ConsoleVisitor(name: session.name, formToken: session.formToken)
    }

    /// Ends a session.
    mutating func leave(_ id: String?) {
        if let id { sessions[ConsoleSessions.key(id)] = nil }
    }

    private mutating func expire(at now: Timestamp) {
        sessions = sessions.filter { ConsoleSessions.isGood($0.value, at: now) }
    }

    private static func isGood(_ session: Session, at now: Timestamp) -> Bool {
        now - session.began <= maximumAge && now - session.used <= maximumIdle
    }

    private static func key(_ id: String) -> SHA256Digest { SHA256.hash(data: Array(id.utf8)) }

    static func hex(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}

/// Someone who has shown the token.
public struct ConsoleVisitor: Sendable, Hashable {
    /// What they want to be called in the audit; nil if they didn't say.
    public let name: String?
    /// What each of their forms carries, so that no other page can send one.
    public let formToken: String

    /// Someone of this name.
    public init(name: String?, formToken: String) {
        self.name = name
        self.formToken = formToken
    }

    /// Whether a form carries the right token; takes the same time whatever it carries.
    func matches(_ shown: String?) -> Bool {
        SHA256.hash(data: Array((shown ?? "").utf8)) == SHA256.hash(data: Array(formToken.utf8))
    }
}
