internal import CCurl
internal import Synchronization
internal import TriageTelemetry

/// What a transport has done, for the catalogue's metrics.
public struct OTLPTransportCounts: Sendable, Hashable {
    /// Requests sent, tries included.
    public var requests = 0
    /// Tries after the first of an export.
    public var retries = 0
    /// Successful answers that were no OTLP.
    public var unreadableResponses = 0

    /// Nothing yet.
    public init() {}
}

/// Posts bodies to the endpoint of one signal over a connection that is kept alive, blocking the calling thread.
///
/// libcurl's multi interface drives a single transfer: unlike the easy interface, its poll can be woken, so that
/// ``cancel()`` ends a request that hangs at once instead of at its time-out.
final class OTLPTransport: Sendable {
    /// The most that is sent, before compression, and the most that is read of an answer (OTLP specification, §OTLP/HTTP).
    static let maximumBody = 64 * 1024 * 1024
    static let maximumResponse = 4 * 1024 * 1024

    private let signal: OTLPConfiguration.Signal
    private let policy: ExportRetry.Policy
    private let onWarning: @Sendable (String) -> Void
    private let connection: Mutex<Connection>
    private let wakeup: Wakeup
    private let isCancelled = Atomic<Bool>(false)
    private let state = Mutex((counts: OTLPTransportCounts(), limiter: WarningLimiter()))

    /// A transport; it connects with the first body.
    init(
        _ signal: OTLPConfiguration.Signal, version: String, policy: ExportRetry.Policy,
        onWarning: @escaping @Sendable (String) -> Void
    ) {
        self.signal = signal
        self.policy = policy
        self.onWarning = onWarning
        _ = OTLPTransport.initializeLibrary
        wakeup = Wakeup()
        connection = Mutex(Connection(signal, version: version, wakeup: wakeup))
    }

    var counts: OTLPTransportCounts { state.withLock { $0.counts } }

    /// Ends the export under way and refuses later ones. From any thread.
    func cancel() {
        isCancelled.store(true, ordering: .releasing)
        wakeup.wake()
    }

    /// Posts a body, with retries, within the signal's time-out.
    ///
    /// - Returns: the body of a successful answer; nil if there was none.
    func post(_ body: [UInt8]) -> [UInt8]? {
        guard body.count <= OTLPTransport.maximumBody else {
            warn("size", "a body of \(body.count) bytes is over the limit of 64 MiB and dropped")
            return nil
        }
        return connection.withLock { post(body, over: $0) }
    }

    /// Passes a warning on unless one of its kind was passed on in the last five minutes.
    func warn(_ kind: String, _ text: String) {
        let now = MonotonicClock.now
        if state.withLock({ $0.limiter.allows(kind, at: now) }) { onWarning("OTLP \(signal.kind.rawValue): \(text)") }
    }

    func countUnreadableResponse() { state.withLock { $0.counts.unreadableResponses += 1 } }

    private func post(_ body: [UInt8], over connection: Connection) -> [UInt8]? {
        let deadline = signal.timeout.map { MonotonicClock.now + $0 }
        var retry = ExportRetry(policy, deadline: deadline)
        defer { connection.finish() }
        guard connection.prepare(body) else {
            warn("memory", "libcurl or zlib could not be set up")
            return nil
        }
        while !isCancelled.load(ordering: .acquiring) {
            state.withLock { $0.counts.requests += 1 }
            let outcome = connection.perform(remaining: deadline.map { $0 - MonotonicClock.now }, isCancelled)
            switch retry.decide(after: outcome.attempt, at: MonotonicClock.now, random: .random(in: 0..<1)) {
            case .delivered:
                return connection.takeResponse()
            case .retry(let time):
                state.withLock { $0.counts.retries += 1 }
                connection.sleep(until: time, isCancelled)
            case .giveUp:
                report(outcome)
                return nil
            }
        }
        return nil
    }

    private func report(_ outcome: Connection.Outcome) {
        let endpoint = OTLPEndpoint.redacted(signal.endpoint)
        let hint = "what could not be exported is dropped and counted; repeated at most once in five minutes"
        switch outcome.attempt {
        case .cancelled: break
        case .status(let status, _): warn("status \(status)", "\(endpoint) answers with status \(status); \(hint)")
        case .unanswered: warn("unanswered", "no answer from \(endpoint) (\(outcome.explanation)); \(hint)")
        case .unusable: warn("unusable", "\(endpoint) can't be used (\(outcome.explanation)); \(hint)")
        }
    }

    /// libcurl wants its global set-up before any thread uses it.
    private static let initializeLibrary: CURLcode = curl_global_init(Int(CURL_GLOBAL_ALL))
}
