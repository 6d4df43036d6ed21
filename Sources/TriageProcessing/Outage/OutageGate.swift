public import TriageEvents

/// Decides whether what the handler calls is away, so that nothing more is tried, charged or given up for it: a pure machine.
///
/// While it is open, attempts that end feed it. Transient and system failures close it: so many keys in a row, or, of events that
/// are tried for the first time, more than a share of a window's attempts. One key counts once in a row and once in each
/// sixth of the window, so an event that fails alone doesn't close it.
///
/// A retry may fail for its event's own reasons, so that it failed counts only in a row, and only if nothing has succeeded
/// for a second. So a backlog of events that always fail closes nothing while others succeed; but retries that come due in an
/// outage do, although nothing new comes in.
///
/// While it is closed one probe at a time is let through, after delays that double; the first that succeeds opens it. A probe
/// that says nothing about the outage (a persistent failure, a partition that was revoked) is followed by the next one at once.
public struct OutageGate: Sendable {
    /// The states, as the attribute `triage.gate.state` names them.
    public enum State: String, Sendable, CaseIterable {
        /// Everything is handed to the handler.
        case open
        /// Nothing is, until the next probe is due.
        case closed
        /// A probe is at the handler.
        case probing
    }

    /// What closed it.
    public enum Cause: Sendable, Hashable {
        /// So many keys failed in a row.
        case row(Int)
        /// So many of so many attempts in the window failed.
        case ratio(failures: Int, attempts: Int)
    }

    /// What became of it.
    public enum Change: Sendable, Hashable {
        /// It closed; the first probe is due then.
        case closed(Cause, nextProbe: Timestamp)
        /// A probe failed; the next is due then.
        case probeFailed(nextProbe: Timestamp)
        /// A probe succeeded: it is open again, after so long.
        case opened(after: Duration)
    }

    /// The parts that the window is kept in.
    static let parts: Int64 = 6
    /// How long a success speaks against an outage that retries alone tell of. In nanoseconds.
    static let silence: Int64 = 1_000_000_000

    private struct Part {
        var index: Int64
        var attempts = 0
        var failures = 0
    }

    /// Nil if the gate is never to close.
    public let policy: OutagePolicy?
    /// The state.
    public private(set) var state = State.open
    /// When the next probe may begin; only while ``state`` is closed.
    public private(set) var nextProbe: Timestamp?
    /// When it opened last; nil if it never was closed.
    public private(set) var lastOpened: Timestamp?
    private var row: Set<LaneKey> = []
    /// When something succeeded last.
    private var lastSuccess = Timestamp(nanoseconds: .min)
    private var part = Part(index: .min)
    private var partEnd = Int64.min
    private var past: [Part] = []
    /// Keys that failed in this part of the window, as many as matter.
    private var failedKeys: Set<LaneKey> = []
    private let partLength: Int64
    private var closedAt = Timestamp(nanoseconds: 0)
    private var failedProbes = 0

    /// An open gate; without a policy it stays open.
    public init(_ policy: OutagePolicy?) {
        self.policy = policy
        partLength = max(1, (policy?.window.wholeNanoseconds ?? 0) / OutageGate.parts)
    }

    /// Whether everything may be handed to the handler.
    @inline(__always)
    public var isOpen: Bool { state == .open }

    /// Whether a probe may begin.
    public func admitsProbe(at now: Timestamp) -> Bool { nextProbe.map { $0 <= now } ?? false }

    /// A probe is handed to the handler; ``admitsProbe(at:)`` said it may.
    public mutating func probeBegan() {
        state = .probing
        nextProbe = nil
    }

    /// An attempt succeeded. One that isn't the probe says nothing while the gate isn't open: it may have begun long before.
    public mutating func succeeded(isProbe: Bool, at now: Timestamp) -> Change? {
        guard policy != nil else { return nil }
        if state == .open {
            if !row.isEmpty { row.removeAll(keepingCapacity: true) }
            lastSuccess = now
            count(at: now)
            return nil
        }
        guard isProbe, state == .probing else { return nil }
        state = .open
        lastOpened = now
        lastSuccess = now
        failedProbes = 0
        return .opened(after: max(.zero, now - closedAt))
    }

    /// An attempt failed.
    ///
    /// - Parameters:
    ///   - errorClass: persistent failures say nothing about an outage.
    ///   - key: whose event it was.
    ///   - isFirst: whether the event had not been charged an attempt before.
    ///   - unit: a uniform random number in 0..<1, for the jitter of the next probe; only taken if there is one.
    public mutating func failed(
        _ errorClass: ErrorClass, key: LaneKey, isFirst: Bool, isProbe: Bool, at now: Timestamp,
        unit: @autoclosure () -> Double
    ) -> Change? {
        guard let policy else { return nil }
        if errorClass == .persistent {
            if isProbe { probeSaidNothing(at: now) }
            return nil
        }
        switch state {
        case .open:
            guard isFirst || isSilent(at: now), let cause = cause(of: key, isFirst: isFirst, policy, at: now) else {
                return nil
            }
            closedAt = now
            failedProbes = 0
            let next = now + policy.backoff.delay(before: 1, unit: unit())
            close(until: next)
            row.removeAll()
            failedKeys.removeAll()
            past.removeAll()
            part = Part(index: .min)
            partEnd = .min
            return .closed(cause, nextProbe: next)
        case .probing where isProbe:
            failedProbes += 1
            let next = now + policy.backoff.delay(before: failedProbes + 1, unit: unit())
            close(until: next)
            return .probeFailed(nextProbe: next)
        case .closed, .probing: return nil
        }
    }

    /// The probe ended without a word about the outage: the next one may begin at once.
    public mutating func probeSaidNothing(at now: Timestamp) {
        if state == .probing { close(until: now) }
    }

    private mutating func close(until probe: Timestamp) {
        state = .closed
        nextProbe = probe
    }

    /// Whether nothing has succeeded lately. A success that lies in the future says nothing: the clock was set back.
    private func isSilent(at now: Timestamp) -> Bool {
        let (since, isLong) = now.nanoseconds.subtractingReportingOverflow(lastSuccess.nanoseconds)
        return isLong || !(0..<OutageGate.silence).contains(since)
    }

    /// Counts a failure; what it makes the gate close for.
    private mutating func cause(
        of key: LaneKey, isFirst: Bool, _ policy: OutagePolicy, at now: Timestamp
    ) -> Cause? {
        if policy.failuresInRow > 0 {
            row.insert(key)
            if row.count >= policy.failuresInRow { return .row(row.count) }
        }
        guard isFirst, policy.failureRatio > 0 else { return nil }
        turn(to: now)
        if failedKeys.contains(key) { return nil }
        if failedKeys.count < policy.minimumAttempts { failedKeys.insert(key) }
        part.attempts += 1
        part.failures += 1
        let attempts = past.reduce(part.attempts) { $0 + $1.attempts }
        let failures = past.reduce(part.failures) { $0 + $1.failures }
        guard attempts >= policy.minimumAttempts, Double(failures) >= policy.failureRatio * Double(attempts) else { return nil }
        return .ratio(failures: failures, attempts: attempts)
    }

    @inline(__always)
    private mutating func count(at now: Timestamp) {
        if now.nanoseconds >= partEnd { turn(to: now) }
        part.attempts += 1
    }

    /// Begins a new part of the window if `now` lies behind the present one; a clock that was set back stays in it.
    private mutating func turn(to now: Timestamp) {
        guard now.nanoseconds >= partEnd else { return }
        let index = now.nanoseconds / partLength
        if part.index != .min { past.append(part) }
        past.removeAll { $0.index <= index - OutageGate.parts }
        part = Part(index: index)
        partEnd = (index + 1).multipliedReportingOverflow(by: partLength).overflow ? .max : (index + 1) * partLength
        failedKeys.removeAll(keepingCapacity: true)
    }
}
