import Triage

// The lines between the two marks are the README's example, word for word; `READMETests` compares them.
// README ↓
struct Directory {
    let service: any PatientService

    func handle(_ event: PatientEvent, _ context: HandlerContext) async throws {
        guard let id = event.resourceID else { throw RejectedError("no_id") }  // a dead letter, at once
        context.span.set("clinic.action", .text(SafeText(event.action)))  // shows in the trace
        switch try await service.put(id, event.resource) {  // anything else that is thrown is retried
        case 200..<300: return  // done
        case 429, 503: throw RetryableError("busy", after: .seconds(30))  // again, not before then
        default: throw RejectedError("refused")
        }
    }
}

func serve(_ service: any PatientService, brokers: String, environment: [String: String]) async throws {
    var configuration = Configuration(kafka: KafkaConfiguration(bootstrapServers: brokers))
    configuration.group = "clinic"
    let telemetry = Telemetry(TelemetryConfiguration(environment: environment, exportsByDefault: true))
    let processor = try Processor(configuration, telemetry: telemetry, handler: Directory(service: service).handle)
    try await processor.run()  // until stop(), cancellation, or graceful shutdown by swift-service-lifecycle
    await telemetry.shutdown()
}
// README ↑

/// What the example calls: the reader's own service.
protocol PatientService: Sendable {
    func put(_ id: String, _ resource: ByteSlice?) async throws -> Int
}
