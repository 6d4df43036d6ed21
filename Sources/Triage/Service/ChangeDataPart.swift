internal import Logging
internal import Synchronization
internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing
internal import TriageTelemetry

/// Publishes what change data capture writes: a processor of its own group whose handler makes events of records.
///
/// Retries, order and dead letters are the processor's; the sends are children of its attempts.
struct ChangeDataPart: ServicePart {
    let processor: Processor

    /// - Parameter outlet: where the events go.
    /// - Throws: `KafkaConfigurationError` naming the property that can't be used.
    init(_ configuration: Configuration, outlet: CaptureOutlet, telemetry: Telemetry, logger: Logger) throws {
        var own = configuration
        own.group = configuration.changeDataGroup
        own.topics = configuration.changeDataTopics
        own.roles = TopicRoles(commands: [], changeData: Set(configuration.changeDataTopics))
        own.http = nil
        // Of what the connector repeats only the consumer of the events can tell that it was handled.
        own.dedupeWindow = 0
        let decoder = Mutex(EventDecoder(roles: own.roles))
        processor = try Processor(own, telemetry: telemetry, logger: logger) { [capture = outlet.capture] event, context in
            let made = decoder.withLock { decoder in
                Result { () throws(InvalidEvent) in
                    try ChangeDataCapture.events(of: event, in: context.record, from: context.origin, decoder: decoder)
                }
            }
            let events: [CapturedEvent]
            do throws(InvalidEvent) { events = try made.get() } catch {
                capture.countRefused(.changeData)
                throw RejectedError(SafeText(vetted: error.rule.rawValue))
            }
            for answer in await capture.publish(events, from: .changeData, cause: currentTraceContext()) {
                if case .failure(let error) = answer {
                    if error.isTooLarge { throw RejectedError("event_too_large") }
                    throw RetryableError("event_not_published")
                }
            }
        }
    }

    var endsService: Bool { true }
    func run() async throws { try await processor.run() }
    func stop() { processor.stop() }
    func health(since start: Timestamp) -> (any HealthReading)? { processor.health(since: start) as Health }
}
