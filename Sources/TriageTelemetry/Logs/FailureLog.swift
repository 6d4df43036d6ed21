internal import TriageEvents

/// The events that the messaging conventions ask for when an operation fails (messaging/exceptions), with their severities.
enum FailureLog {
    /// A delivery or an attempt failed.
    static func process(_ failure: Failure, to logs: LogEmitter, at time: Timestamp, in context: TraceContext) {
        logs.emitException(
            "messaging.process.exception", .error, type: failure.type, message: failure.message,
            [
                Attribute("triage.error.class", .text(SafeText(failure.errorClass))),
                Attribute("triage.error.fingerprint", .text(SafeText(vetted: failure.fingerprint))),
            ],
            at: time, in: context
        )
    }

    /// A record was not acknowledged.
    static func send(_ error: BrokerError, to logs: LogEmitter, at time: Timestamp, of span: SpanData) {
        emit("messaging.send.exception", error, to: logs, at: time, of: span)
    }

    /// A commit failed.
    static func settle(_ error: BrokerError, to logs: LogEmitter, at time: Timestamp, of span: SpanData) {
        emit("messaging.settle.exception", error, to: logs, at: time, of: span)
    }

    private static func emit(
        _ name: StaticString, _ error: BrokerError, to logs: LogEmitter, at time: Timestamp, of span: SpanData
    ) {
        let code = SafeText(vetted: error.name)
        let destination = span.template.attributes.filter { $0.key == "messaging.destination.name" }
        logs.emitException(name, .warning, type: code, message: code, destination, at: time, in: span.context)
    }
}
