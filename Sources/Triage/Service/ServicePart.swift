internal import TriageEvents
internal import TriageIngress

/// One of the things that run side by side in a ``TriageService``: a processor, a server.
protocol ServicePart: Sendable {
    /// Whether the service is over when all such parts have ended by themselves: a processor that works off what is there.
    var endsService: Bool { get }
    /// Works until ``stop()``, or until the task is cancelled.
    func run() async throws
    /// Asks it to finish what is under way and end; returns at once, and may be called at any time, also more than once.
    func stop()
    /// Live and ready, as of now; nil if it has nothing to say about that.
    func health(since start: Timestamp) -> (any HealthReading)?
}

/// A processor without its own admin server.
struct ProcessorPart: ServicePart {
    let processor: Processor

    var endsService: Bool { true }
    func run() async throws { try await processor.run() }
    func stop() { processor.stop() }
    func health(since start: Timestamp) -> (any HealthReading)? { processor.health(since: start) as Health }
}
