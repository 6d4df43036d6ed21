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
    /// The most that may be sent, before compression, and the most that is read of an answer (OTLP specification, §OTLP/HTTP).
    static let maximumBody = 64 * 1024 * 1024
    static let maximumResponse = 4 * 1024 * 1024

    /// How a request ended, after its last try.
    enum Delivery {
        /// With success: the status and the answer's body.
        case delivered(Int, [UInt8])
        /// Otherwise, with the last status if there was one.
        case failed(SafeText, status: Int?)
    }

    /// The largest body that is sent.
    let maximumRequest: Int
    private let signal: OTLPConfiguration.Signal
    private let policy: ExportRetry.Policy
    private let warnings: OTLPWarnings
    private let connection: Mutex<Connection>
    private let wakeup: Wakeup
    private let isCancelled = Atomic<Bool>(false)
    private let state = Mutex(OTLPTransportCounts())

    /// A transport; it connects with the first body.
    init(
        _ signal: OTLPConfiguration.Signal, version: String, policy: ExportRetry.Policy, warnings: OTLPWarnings
    ) {
        self.signal = signal
        self.policy = policy
        self.warnings = warnings
        maximumRequest = min(max(1, signal.maximumRequestBytes), OTLPTransport.maximumBody)
        _ = OTLPTransport.initializeLibrary
        wakeup = Wakeup()
        connection = Mutex(Connection(signal, version: version, wakeup: wakeup))
    }

    var counts: OTLPTransportCounts { state.withLock { $0 } }

    /// Ends the export under way and refuses later ones. From any thread.
    func cancel() {
        isCancelled.store(true, ordering: .releasing)
        wakeup.wake()
    }

    /// When an export that begins now must be over; nil is never.
    var deadline: Duration? { signal.timeout.map { MonotonicClock.now + $0 } }

    /// Posts a body of at most ``maximumRequest`` bytes, with retries, until `deadline`.
    func post(_ body: [UInt8], until deadline: Duration?) -> Delivery {
        connection.withLock { post(body, until: deadline, over: $0) }
    }

    /// Passes a warning about this signal on.
    func warn(_ kind: String, _ text: String) {
        warnings.warn("\(signal.kind.rawValue) \(kind)", "OTLP \(signal.kind.rawValue): \(text)")
    }

    func countUnreadableResponse() { state.withLock { $0.unreadableResponses += 1 } }

    private func post(_ body: [UInt8], until deadline: Duration?, over connection: Connection) -> Delivery {
        var retry = ExportRetry(policy, deadline: deadline)
        defer { connection.finish() }
        guard connection.prepare(body) else {
            warn("memory", "libcurl or zlib could not be set up")
            return .failed(SafeText(ExportErrorType.other), status: nil)
        }
        var last: Connection.Outcome?
        while !isCancelled.load(ordering: .acquiring) {
            // Of an export in several requests the first may have used up the time.
            if let deadline, deadline <= MonotonicClock.now { return .failed(SafeText(ExportErrorType.timeout), status: nil) }
            state.withLock { $0.requests += 1 }
            let outcome = connection.perform(remaining: deadline.map { $0 - MonotonicClock.now }, isCancelled)
            switch retry.decide(after: outcome.attempt, at: MonotonicClock.now, random: .random(in: 0..<1)) {
            case .delivered:
                return .delivered(outcome.status ?? 0, connection.takeResponse())
            case .retry(let time):
                state.withLock { $0.retries += 1 }
                last = outcome
                connection.sleep(until: time, isCancelled)
            case .giveUp:
                report(outcome, after: last, body.count)
                return .failed(outcome.status.map { "\($0)" } ?? SafeText(outcome.error), status: outcome.status)
            }
        }
        // The end came before the time was up; without this nobody would learn why telemetry is missing.
        if let last { report(last, after: nil, body.count) }
        return .failed(SafeText(ExportErrorType.cancelled), status: nil)
    }

    private func report(_ outcome: Connection.Outcome, after last: Connection.Outcome?, _ bytes: Int) {
        let endpoint = OTLPEndpoint.redacted(signal.endpoint)
        let hint = "what could not be exported is dropped and counted; repeated at most once in five minutes"
        // All signals of an endpoint share the complaint that it can't be reached.
        let server = OTLPEndpoint.server(signal.endpoint).map { "\($0.address) \($0.port)" } ?? endpoint
        switch outcome.attempt {
        case .cancelled:
            if let last { return report(last, after: nil, bytes) }
            warnings.warn("unanswered \(server)", "OTLP: no answer from \(endpoint) until the end came; \(hint)")
        case .status(413, _): warn("status 413", "\(endpoint) answers with status 413 to \(bytes) bytes; \(hint)")
        case .status(let status, _): warn("status \(status)", "\(endpoint) answers with status \(status); \(hint)")
        case .unanswered:
            warnings.warn("unanswered \(server)", "OTLP: no answer from \(endpoint) (\(outcome.explanation)); \(hint)")
        case .unusable:
            warnings.warn("unusable \(server)", "OTLP: \(endpoint) can't be used (\(outcome.explanation)); \(hint)")
        }
    }

    /// libcurl wants its global set-up before any thread uses it.
    private static let initializeLibrary: CURLcode = curl_global_init(Int(CURL_GLOBAL_ALL))
}
