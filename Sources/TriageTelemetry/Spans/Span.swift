internal import Synchronization
public import TriageEvents

/// A live span that may be shared between tasks: what a handler annotates.
///
/// Every change after the end is ignored, so keeping one too long is harmless.
public final class Span: Sendable {
    /// The span that the current task works in: while a handler runs, its attempt.
    ///
    /// What is published, logged or begun without naming a parent belongs under it. Child tasks inherit it, detached ones don't.
    @TaskLocal public static var current: Span?

    /// The span's context, for passing on.
    public let context: TraceContext
    /// Whether changes have any effect at all.
    public let isRecording: Bool
    private let state: Mutex<SpanData?>
    private let clock: any EventClock

    /// Wraps a span begun by a tracer.
    public init(_ span: consuming SpanData, clock: any EventClock) {
        context = span.context
        isRecording = span.isRecording
        state = Mutex(span)
        self.clock = clock
    }

    /// A span of a disabled SDK.
    init(passing context: TraceContext, clock: any EventClock) {
        self.context = context
        isRecording = false
        state = Mutex(nil)
        self.clock = clock
    }

    /// Sets an attribute. Keys are literals and texts are ``SafeText``: telemetry carries no patient data.
    public func set(_ key: StaticString, _ value: AttributeValue) {
        guard isRecording else { return }
        state.withLock { $0?.set(key, value) }
    }

    /// Adds an event that happens now.
    public func addEvent(_ name: StaticString, _ attributes: [Attribute] = []) {
        guard isRecording else { return }
        let event = SpanEvent(name, at: clock.now(), attributes)
        state.withLock { $0?.add(event) }
    }

    /// Adds a link to another span.
    public func addLink(_ context: TraceContext, _ attributes: [Attribute] = []) {
        guard isRecording else { return }
        state.withLock { $0?.add(SpanLink(context, attributes)) }
    }

    /// Takes the span out, to be ended by whoever began it; nil if that has happened already.
    public func take() -> SpanData? {
        state.withLock { $0.take() }
    }
}
