internal import Logging
internal import TriageEvents
internal import TriageIngress
internal import TriageKafka
internal import TriageProcessing
internal import TriageTelemetry

/// Carries out the commands of `fhir.commands`, with order, retries and dead letters as events have them.
struct CommandPart: ServicePart {
    let processor: Processor
    private let connection: FHIRConnection

    /// A part that hasn't connected to anything yet.
    ///
    /// - Parameters:
    ///   - configuration: that of the service; the group is its group's name with `-commands` behind it.
    ///   - outlet: where results go, and the events that commands cause.
    ///   - follower: knows of the results there are, and is told of new ones.
    init(
        _ commands: Configuration.Commands, on fhir: Configuration.FHIR, _ configuration: Configuration, outlet: CaptureOutlet,
        follower: CommandFollower?, telemetry: Telemetry, logger: Logger
    ) throws {
        connection = try FHIRConnection(fhir, telemetry: telemetry)
        let handler = CommandHandler(
            connection.client, sink: outlet.sink, capture: commands.events == .publish ? outlet.capture : nil,
            follower: follower, clock: telemetry.tracer.clock)
        processor = try Processor(
            CommandPart.configuration(of: configuration), telemetry: telemetry, logger: logger,
            handler: { event, context in try await handler.handle(event, context) })
    }

    /// The service's configuration as it is for commands.
    static func configuration(of service: Configuration) -> Configuration {
        var configuration = service
        configuration.http = nil
        configuration.group = service.commandGroup
        configuration.topics = [TopicName.commands]
        // Policies for event topics say nothing about commands.
        configuration.kafka.groupInstanceID = service.kafka.groupInstanceID.map { $0 + "-commands" }
        return configuration
    }

    var endsService: Bool { true }
    func run() async throws { try await processor.run() }
    func stop() { processor.stop() }
    func health(since start: Timestamp) -> (any HealthReading)? { processor.health(since: start) as Health }
}
