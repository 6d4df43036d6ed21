public import TriageEvents
internal import TriageHTTPClient
public import TriageProcessing
internal import TriageTelemetry

/// Delivers each event to a receiver by `POST`, as the handler of a ``Processor`` or ``TriageService``: what `triage run --handler http` does.
///
/// ```swift
/// let delivery = HTTPDelivery(Configuration.Delivery(to: "https://index.example.org/patients"), telemetry: telemetry)
/// let processor = try Processor(configuration, telemetry: telemetry, handler: delivery.handler)
/// ```
///
/// 2xx is done. 408, 425, 429, 5xx and no answer are transient, at the time that `Retry-After` names if it does. Other statuses are
/// persistent, redirects included. The receiver gets an event at least once; `Idempotency-Key` tells it what it has seen.
public final class HTTPDelivery: Sendable {
    /// What it was told.
    public let configuration: Configuration.Delivery
    private let caller: TracedHTTPCaller
    private let clock: any EventClock
    private let limiter: RateLimiter?
    private let close: @Sendable () -> Void

    /// A delivery that hasn't connected to anything yet.
    ///
    /// - Parameter telemetry: where its spans and metrics go.
    public convenience init(_ configuration: Configuration.Delivery, telemetry: Telemetry) {
        var options = CurlCaller.Options()
        options.caFile = configuration.caFile
        options.maximumConnections = configuration.concurrency
        options.userAgent = "triage/\(TriageVersion.current)"
        // The body is only used where dead letters are sealed, which keep the beginning of it.
        options.maximumAnswerBytes = 65_536
        options.cutsLongAnswers = true
        let caller = CurlCaller(options)
        self.init(configuration, telemetry: telemetry, caller: caller) { caller.close() }
    }

    /// The same through another caller, which `close` ends.
    init(
        _ configuration: Configuration.Delivery, telemetry: Telemetry, caller: any HTTPCaller,
        close: @escaping @Sendable () -> Void = {}
    ) {
        self.configuration = configuration
        self.caller = TracedHTTPCaller(caller, tracer: telemetry.tracer, meter: telemetry.meter)
        self.close = close
        clock = telemetry.tracer.clock
        limiter = configuration.rate.map { RateLimiter(rate: $0) }
    }

    deinit { close() }

    /// Delivers an event once.
    ///
    /// - Throws: ``RetryableError`` and ``RejectedError`` with codes such as `http_503` and `timeout`; `CancellationError` if it waited for
    ///   its turn by the rate when it was cancelled.
    public func deliver(_ event: PatientEvent, _ context: HandlerContext) async throws {
        try await limiter?.pass()
        let request = DeliveryRequest(
            event, contentType: context.record.headers.text(HeaderName.contentType), origin: context.origin,
            attempt: context.attempt, to: configuration, now: clock.now())
        let answer: HTTPAnswer
        do throws(HTTPCallError) {
            answer = try await caller.send(request.call, resends: context.attempt - 1)
        } catch {
            throw DeliveryRequest.failure(error)
        }
        if let failure = DeliveryRequest.failure(answer, now: clock.now()) { throw failure }
    }

    /// The same as a handler.
    public var handler: EventHandler {
        { [self] event, context in try await deliver(event, context) }
    }
}
