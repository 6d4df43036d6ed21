internal import Synchronization
public import TriageEvents

/// Takes each log record that is emitted, on the thread that emits it; must neither block nor fail.
public protocol LogProcessor: Sendable {
    /// Takes note of a record; its values are still to be cut to the emitter's limit, which the encoder does.
    func onEmit(_ record: LogRecord, limits: LogLimits)
}

/// Packs log records into the bytes that are exported. Implemented by the OTLP room.
public protocol LogEncoder: Sendable {
    /// Encodes one record and calls `body` with the bytes, which are valid only inside it.
    func withEncoded(_ record: LogRecord, valueLength: Int?, _ body: (UnsafeRawBufferPointer) -> Void)
}

/// Emits log records: OpenTelemetry's logger, under a name that leaves `Logger` to swift-log.
///
/// There is one only while logs are exported, so whoever has none to emit to has nothing to prepare either.
public final class LogEmitter: Sendable {
    /// Bounds on each record.
    public let limits: LogLimits
    /// Where timestamps come from.
    public let clock: any EventClock
    private let processors: [any LogProcessor]
    private let createdCount = Atomic<Int>(0)
    private let withheldBodies = Atomic<Int>(0)
    private let withheldAttributes = Atomic<Int>(0)

    /// An emitter.
    ///
    /// - Parameter processors: called in this order for each record.
    public init(limits: LogLimits = LogLimits(), clock: any EventClock, processors: [any LogProcessor]) {
        self.limits = limits
        self.clock = clock
        self.processors = processors
    }

    /// Records emitted so far (`otel.sdk.log.created`).
    public var created: Int { createdCount.load(ordering: .relaxed) }
    /// Bodies that were left out of records because they were not known to be safe.
    public var bodiesWithheld: Int { withheldBodies.load(ordering: .relaxed) }
    /// Attributes that were left out of records because their keys were not allowed.
    public var attributesWithheld: Int { withheldAttributes.load(ordering: .relaxed) }

    /// Emits a record.
    public func emit(_ record: LogRecord) {
        createdCount.wrappingAdd(1, ordering: .relaxed)
        let record = record.limited(to: limits)
        for processor in processors { processor.onEmit(record, limits: limits) }
    }

    /// Counts what the privacy rules kept from leaving.
    public func countWithheld(bodies: Int = 0, attributes: Int = 0) {
        if bodies > 0 { withheldBodies.wrappingAdd(bodies, ordering: .relaxed) }
        if attributes > 0 { withheldAttributes.wrappingAdd(attributes, ordering: .relaxed) }
    }

    /// Emits a failure as the conventions ask: an event with the exception's type and message (general/recording-errors).
    ///
    /// - Parameters:
    ///   - name: the operation's event, such as `messaging.process.exception`.
    ///   - context: the span that failed, sampled or not.
    public func emitException(
        _ name: StaticString, _ severity: LogSeverity, type: SafeText, message: SafeText, _ more: [Attribute] = [],
        at time: Timestamp, in context: TraceContext?
    ) {
        let attributes = [Attribute("exception.type", .text(type)), Attribute("exception.message", .text(message))]
        emit(LogRecord(severity, message, eventName: name, at: time, attributes: attributes + more, context: context))
    }
}
