public import TriageEvents

/// Decides whether so many events are dead-lettered that nothing more is taken in: a pure machine.
///
/// A flood of events that no retry can heal (a producer that writes rubbish, a handler's new bug) would fill the dead letter
/// topic as fast as the broker takes it. While the breaker is open, final outcomes feed it: events that were completed, and
/// those that are dead-lettered for a *persistent* failure. Dead letters for transient and system failures don't count, on
/// neither side: the outage gate sees to those. When the dead letters reach a share of the window's outcomes it stops; then
/// one event at a time is let through as a probe, after pauses that double. One that is completed opens it again, one that is
/// dead-lettered stops it again; one that says neither is followed by the next at once.
public struct StormBreaker: Sendable {
    /// The states, as the attribute `triage.storm.state` names them.
    public enum State: String, Sendable, CaseIterable {
        /// Everything is taken in.
        case open
        /// Nothing is, until the next probe is due.
        case stopped
        /// A probe is at the handler.
        case probing
    }

    /// What became of it.
    public enum Change: Sendable, Hashable {
        /// So many of the window's outcomes were dead letters: it stopped; the first probe is due then.
        case stopped(deadLetters: Int, events: Int, nextProbe: Timestamp)
        /// A probe was dead-lettered; the next is due then.
        case probeFailed(nextProbe: Timestamp)
        /// A probe was completed: it is open again, after so long.
        case opened(after: Duration)
    }

    /// The parts that the window is kept in.
    static let parts: Int64 = 6

    private struct Part {
        var index: Int64
        var events = 0
        var deadLetters = 0
    }

    /// Nil if nothing is ever to stop.
    public let policy: StormPolicy?
    /// The state.
    public private(set) var state = State.open
    /// When the next probe may begin; only while ``state`` is stopped.
    public private(set) var nextProbe: Timestamp?
    private var part = Part(index: .min)
    private var partEnd = Int64.min
    private var past: [Part] = []
    private let partLength: Int64
    private var stoppedAt = Timestamp(nanoseconds: 0)
    private var failedProbes = 0

    /// An open breaker; without a policy it stays open.
    public init(_ policy: StormPolicy?) {
        self.policy = policy
        partLength = max(1, (policy?.window.wholeNanoseconds ?? 0) / StormBreaker.parts)
    }

    /// Whether a probe may begin.
    public func admitsProbe(at now: Timestamp) -> Bool { nextProbe.map { $0 <= now } ?? false }

    /// A probe is handed to the handler; ``admitsProbe(at:)`` said it may.
    public mutating func probeBegan() {
        state = .probing
        nextProbe = nil
    }

    /// An event was completed. One that isn't the probe says nothing while the breaker isn't open: it may have begun long before.
    @inline(__always)
    public mutating func completed(isProbe: Bool, at now: Timestamp) -> Change? {
        if state == .open {
            if policy != nil { count(at: now) }
            return nil
        }
        return isProbe ? probeCompleted(at: now) : nil
    }

    /// An event is dead-lettered.
    ///
    /// - Parameters:
    ///   - errorClass: only persistent failures count.
    ///   - unit: a uniform random number in 0..<1, for the jitter of the next probe; only taken if there is one.
    public mutating func deadLettered(
        _ errorClass: ErrorClass, isProbe: Bool, at now: Timestamp, unit: @autoclosure () -> Double
    ) -> Change? {
        guard let policy else { return nil }
        guard errorClass == .persistent else {
            if isProbe { probeSaidNothing(at: now) }
            return nil
        }
        switch state {
        case .open:
            count(at: now)
            part.deadLetters += 1
            let events = past.reduce(part.events) { $0 + $1.events }
            let deadLetters = past.reduce(part.deadLetters) { $0 + $1.deadLetters }
            guard events >= policy.minimumEvents, Double(deadLetters) >= policy.share * Double(events) else { return nil }
            stoppedAt = now
            failedProbes = 0
            past.removeAll()
            part = Part(index: .min)
            partEnd = .min
            let next = now + policy.backoff.delay(before: 1, unit: unit())
            stop(until: next)
            return .stopped(deadLetters: deadLetters, events: events, nextProbe: next)
        case .probing where isProbe:
            failedProbes += 1
            let next = now + policy.backoff.delay(before: failedProbes + 1, unit: unit())
            stop(until: next)
            return .probeFailed(nextProbe: next)
        case .stopped, .probing: return nil
        }
    }

    /// The probe ended without a word about the storm: the next one may begin at once.
    public mutating func probeSaidNothing(at now: Timestamp) {
        if state == .probing { stop(until: now) }
    }

    private mutating func probeCompleted(at now: Timestamp) -> Change? {
        guard state == .probing else { return nil }
        state = .open
        return .opened(after: max(.zero, now - stoppedAt))
    }

    private mutating func stop(until probe: Timestamp) {
        state = .stopped
        nextProbe = probe
    }

    @inline(__always)
    private mutating func count(at now: Timestamp) {
        if now.nanoseconds >= partEnd { turn(to: now) }
        part.events += 1
    }

    /// Begins a new part of the window; a clock that was set back stays in the present one.
    private mutating func turn(to now: Timestamp) {
        let index = now.nanoseconds / partLength
        if part.index != .min { past.append(part) }
        past.removeAll { $0.index <= index - StormBreaker.parts }
        part = Part(index: index)
        partEnd = (index + 1).multipliedReportingOverflow(by: partLength).overflow ? .max : (index + 1) * partLength
    }
}
