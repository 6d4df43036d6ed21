public import Logging
public import ServiceLifecycle
internal import Synchronization
internal import TriageEvents
internal import TriageIngress
internal import TriageKafka
public import TriageProcessing
internal import TriageTelemetry

/// Everything that `triage run` can do, in one process: processes events, carries out commands, takes changes in.
///
/// What it does is what the ``Configuration`` names. Its parts share one ``Telemetry`` and one server for `/metrics` and `/health`;
/// what they publish goes through one producer.
public final class TriageService: Service, Sendable {
    /// What was told about a server that listens.
    public enum Listener: Sendable, Hashable {
        /// The one for `/metrics` and `/health`.
        case admin
        /// The one for webhooks and commands.
        case ingress
    }

    /// What it was told.
    public let configuration: Configuration
    private let telemetry: Telemetry
    private let logger: Logger
    private let parts: [any ServicePart]
    /// Whether requests are taken in.
    private let listens: Bool
    private let events: Processor?
    private let commands: CommandPart?
    private let changeData: ChangeDataPart?
    private let outlet: CaptureOutlet?
    private let onListening: @Sendable (Listener, Int) -> Void
    private let isStopping = Atomic(false)

    /// A service that hasn't connected to anything yet.
    ///
    /// - Parameters:
    ///   - telemetry: where spans and metrics go; the caller shuts it down after the service has ended.
    ///   - onListening: told the port of each server that listens.
    ///   - handler: what is done with each event; nil processes none.
    /// - Throws: `KafkaConfigurationError` naming the property that can't be used; ``ConfigurationError`` if there is nothing to do.
    public init(
        _ configuration: Configuration, telemetry: Telemetry, logger: Logger = Logger(label: "triage"),
        onListening: @escaping @Sendable (Listener, Int) -> Void = { _, _ in }, handler: EventHandler?
    ) throws {
        self.configuration = configuration
        self.telemetry = telemetry
        self.logger = logger
        self.onListening = onListening
        var parts: [any ServicePart] = []
        // Set by the first part that takes something in.
        var outlet: CaptureOutlet?
        if let handler, configuration.handlesEvents {
            var alone = configuration
            alone.http = nil
            let processor = try Processor(alone, telemetry: telemetry, logger: logger, handler: handler)
            events = processor
            parts.append(ProcessorPart(processor: processor))
        } else {
            events = nil
        }
        // Whoever waits for an answer gets one in time; what nobody waits for may take longer.
        var patience: Duration = configuration.acceptedCommands == nil ? .seconds(30) : .seconds(10)
        if let webhooks = configuration.webhooks { patience = min(patience, webhooks.acknowledgementTimeout) }
        func shared() throws -> CaptureOutlet {
            let made =
                try outlet
                ?? CaptureOutlet(
                    configuration, timeout: patience, telemetry: telemetry, logger: logger)
            outlet = made
            return made
        }
        changeData =
            configuration.changeDataTopics.isEmpty
            ? nil : try ChangeDataPart(configuration, outlet: shared(), telemetry: telemetry, logger: logger)
        if let changeData { parts.append(changeData) }
        let follower = CommandFollower(configuration, logger: logger)
        if let follower { parts.append(follower) }
        if let commands = configuration.commands, let fhir = configuration.fhir {
            let part = try CommandPart(
                commands, on: fhir, configuration, outlet: shared(), follower: follower, telemetry: telemetry, logger: logger)
            self.commands = part
            parts.append(part)
        } else {
            self.commands = nil
        }
        var routes: [any IngressRoute] = []
        var upkeep: @Sendable () -> Void = {}
        if let webhooks = configuration.webhooks {
            let part = try WebhookPart(
                webhooks, from: configuration.fhir, configuration.listen, capture: shared().capture,
                source: configuration.capture.source,
                telemetry: telemetry, logger: logger)
            if configuration.attributesToCommands { follower?.add { part.observe($0, writtenAt: $1) } }
            routes += part.routes
            upkeep = { part.expire() }
            parts.append(part)
        }
        if let accepted = configuration.acceptedCommands, let follower {
            routes += try AcceptedCommandPart(
                accepted, configuration, memory: follower.memory, capture: shared().capture, telemetry: telemetry, logger: logger
            ).routes
        }
        listens = !routes.isEmpty
        if listens {
            parts.append(
                try IngressPart(
                    routes, configuration.listen, outlet: shared(), gracePeriod: configuration.gracePeriod, telemetry: telemetry,
                    logger: logger,
                    upkeep: upkeep, onListening: { onListening(.ingress, $0) }))
        }
        if parts.isEmpty {
            throw ConfigurationError(key: "events", value: "false", expected: "something else to do, such as change-data-topics")
        }
        self.parts = parts
        self.outlet = outlet
    }

    /// What has been done so far with events, commands and change data together.
    public var summary: EngineSummary {
        [events, commands?.processor, changeData?.processor].compactMap { $0?.summary }.reduce(EngineSummary(), +)
    }

    /// Asks all parts to finish what is under way and end; returns at once.
    public func stop() {
        isStopping.store(true, ordering: .releasing)
        for part in parts { part.stop() }
    }

    /// Works until ``stop()``, graceful shutdown, cancellation, until a part fails, or, with ``Configuration/endsWhenIdle``, until
    /// all processors are through.
    ///
    /// - Throws: what the first part that failed threw; a `ListenError` if an address can't be listened on.
    public func run() async throws {
        try await withGracefulShutdownHandler {
            try await withTaskCancellationHandler {
                try await work()
            } onCancel: {
                stop()
            }
        } onGracefulShutdown: {
            self.stop()
        }
    }

    private func work() async throws {
        let start = telemetry.tracer.clock.now()
        let admin = Task { try await serveAdmin(since: start) }
        defer { admin.cancel() }
        var failure: (any Error)?
        await withTaskGroup(of: (isEnding: Bool, failure: (any Error)?).self) { group in
            for part in parts {
                group.addTask {
                    do {
                        try await part.run()
                        return (part.endsService, nil)
                    } catch {
                        return (part.endsService, error)
                    }
                }
            }
            var ending = parts.count(where: \.endsService)
            for await result in group {
                if let error = result.failure {
                    failure = failure ?? error
                    stop()
                } else if result.isEnding {
                    ending -= 1
                    if ending == 0 { stop() }
                }
            }
        }
        await outlet?.close(within: configuration.gracePeriod)
        admin.cancel()
        do { try await admin.value } catch is CancellationError {} catch { failure = failure ?? error }
        if let failure { throw failure }
    }

    /// What the parts tell probes. Of an instance that listens readiness says where requests may be sent to, and those need no
    /// partitions: one that stands by as a consumer takes them in like the others.
    func health(since start: Timestamp) -> [any HealthReading] {
        parts.compactMap { part in
            guard let reading = part.health(since: start) else { return nil }
            guard listens, var consumer = reading as? Health else { return reading }
            consumer.needsAssignment = false
            return consumer
        }
    }

    /// Serves metrics and health until it is cancelled; if it can't, the service ends.
    private func serveAdmin(since start: Timestamp) async throws {
        guard let address = configuration.http else { return }
        let console = Console(configuration, telemetry: telemetry, logger: logger)
        async let _: Void? = console?.run()
        let server = telemetry.adminServer(
            at: address, logger: logger, console: console?.site, health: { [self] _ in health(since: start) },
            onListening: { [onListening] in onListening(.admin, $0) })
        do { try await server.run() } catch {
            stop()
            throw error
        }
    }
}
