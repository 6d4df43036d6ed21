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

// README batch ↓
func serve(_ database: any PatientDatabase, _ configuration: Configuration, _ telemetry: Telemetry) async throws {
    let policy = BatchPolicy(size: 100, delay: .milliseconds(20))  // up to 100 events, of which none waits longer
    let processor = try Processor(configuration, telemetry: telemetry, batch: policy) { batch in
        // No patient is in a batch twice. What is thrown here fails all of it.
        let refused = try await database.upsert(batch.map { ($0.event.resourceID ?? "", $0.event.resource) })
        if refused.isEmpty { return }  // all done
        throw BatchFailure(refused.mapValues { _ in RejectedError("refused") })  // these fail, the others are done
    }
    try await processor.run()
}
// README batch ↑

// README publish ↓
struct Intake {
    let publisher: EventPublisher

    /// In a handler: the send is a child of the attempt, so one trace leads from the event to those that it causes.
    func handle(_ event: PatientEvent, _ context: HandlerContext) async throws {
        guard let patient = event.resource, event.action == .created else { return }
        try await publisher.publish(.updated, patient, correlationID: event.correlationID)  // acknowledged, or thrown
    }
}

func importPatients(_ patients: [String], brokers: String, telemetry: Telemetry) async throws -> [Acknowledgement] {
    let publisher = try EventPublisher(KafkaConfiguration(bootstrapServers: brokers), telemetry: telemetry, source: "import")
    defer { publisher.close() }
    return try await publisher.publish(patients.map { PatientChange(.created, $0) })  // a PublishError names those that failed
}
// README publish ↑

/// What the example calls: the reader's own service.
protocol PatientService: Sendable {
    func put(_ id: String, _ resource: ByteSlice?) async throws -> Int
}

/// A database that writes many rows at once, and tells by their places which it refused.
protocol PatientDatabase: Sendable {
    func upsert(_ rows: [(id: String, resource: ByteSlice?)]) async throws -> [Int: String]
}
