public import Logging
public import TriageKafka
public import TriageProcessing

extension Processor {
    /// A processor whose handler takes many events at once, for those that write to databases.
    ///
    /// ```swift
    /// let processor = try Processor(configuration, telemetry: telemetry, batch: BatchPolicy(size: 100)) { batch in
    ///     try await database.insert(batch.map(\.event))
    /// }
    /// ```
    ///
    /// Each event has its own attempt, time-out, retries and outcome all the same. A batch never holds two events of one patient.
    ///
    /// - Parameters:
    ///   - configuration: its `concurrency` bounds the size of batches, and how many are under way at the same time.
    ///   - telemetry: where spans and metrics go; the caller shuts it down after the processor has ended.
    ///   - logger: told what an operator should know.
    ///   - onListening: told the port that `/metrics` and `/health` are served on.
    ///   - batch: how many events a batch has at most, and how long the first waits for the others.
    ///   - handler: what is done with a batch. Returning means that all of it is done, throwing ``BatchFailure`` that some
    ///     events failed, each with its own error; throwing anything else that all failed with it.
    /// - Throws: `KafkaConfigurationError` naming the property that can't be used.
    public convenience init(
        _ configuration: Configuration, telemetry: Telemetry, logger: Logger = Logger(label: "triage"),
        onListening: @escaping @Sendable (Int) -> Void = { _ in }, batch: BatchPolicy, handler: @escaping BatchHandler
    ) throws(KafkaConfigurationError) {
        let executor = PollingExecutor()
        let batcher = Batcher(batch, concurrency: configuration.concurrency, executor: executor, handler: handler)
        try self.init(
            configuration, telemetry: telemetry, logger: logger, onListening: onListening, executor: executor,
            handler: { event, context in try await batcher.handle(event, context) })
    }
}
