internal import Synchronization
public import Tracing
internal import TriageEvents
internal import TriageProcessing
internal import TriageTelemetry

/// A span begun by ``TriageTracer``. Any thread may use and end it; what comes after its end is ignored.
public struct TriageSpan: Tracing.Span {
    /// What work inside the span runs under, and what passes it on.
    public let context: ServiceContext
    let core: SpanCore

    /// Whether changes have any effect: it is sampled and has not ended.
    public var isRecording: Bool { core.isRecording }

    /// The name as it shows: `_OTHER` if the policy doesn't let the given one through.
    public var operationName: String {
        get { core.name }
        nonmutating set { core.rename(newValue) }
    }

    /// The attributes that the policy let through. Setting them keeps back the others, which are counted.
    public var attributes: SpanAttributes {
        get { core.attributes }
        nonmutating set { core.set(newValue) }
    }

    /// Sets the status. OK stays. A message never shows: an error's does by its type, once it is recorded.
    public func setStatus(_ status: Tracing.SpanStatus) { core.set(status) }

    /// Adds an event with the attributes that the policy lets through; its name shows as `_OTHER` if the policy says so.
    public func addEvent(_ event: Tracing.SpanEvent) { core.add(event) }

    /// Adds a link to the span of another service context; one without a span is kept back and counted.
    public func addLink(_ link: Tracing.SpanLink) { core.add(link) }

    /// Adds an `exception` event with the error's type and its code, if it is one that a handler may throw with a code.
    ///
    /// The error's own text never shows: it may hold whatever was being handled.
    public func recordError<Instant: TracerInstant>(
        _ error: any Error, attributes: SpanAttributes, at instant: @autoclosure () -> Instant
    ) {
        core.record(error, attributes, at: Timestamp(instant()))
    }

    /// Ends the span; a second end is ignored.
    public func end<Instant: TracerInstant>(at instant: @autoclosure () -> Instant) { core.end(at: Timestamp(instant())) }
}

extension Timestamp {
    init(_ instant: some TracerInstant) { self.init(nanoseconds: Int64(clamping: instant.nanosecondsSinceEpoch)) }
    init(nanosecondsSinceEpoch: UInt64) { self.init(nanoseconds: Int64(clamping: nanosecondsSinceEpoch)) }
}

/// The part of a span that all its copies share. It knows no service context, which holds it in turn.
final class SpanCore: Sendable {
    private struct State {
        /// Nil once it has ended.
        var span: SpanData?
        var name: String
        /// What `attributes` gives back: foreign form, vetted content.
        var attributes = SpanAttributes()
        var vetted: [Attribute] = []
        var failure: Failure?
        var isFailed = false
    }

    private let state: Mutex<State>
    private let isSampled: Bool
    private let owner: TriageTracer

    init(_ span: SpanData, name: String, owner: TriageTracer) {
        isSampled = span.isRecording
        state = Mutex(State(span: span, name: name))
        self.owner = owner
    }

    /// Forgotten without an end: not exported, and no longer counted as live.
    deinit {
        let span = state.withLock { state in
            let span = state.span
            state.span = nil
            return span
        }
        if let span { owner.tracer.discard(span) }
    }

    var isRecording: Bool { isSampled && state.withLock { $0.span != nil } }
    var name: String { state.withLock { $0.name } }
    var attributes: SpanAttributes { state.withLock { $0.attributes } }

    func rename(_ name: String) {
        guard isRecording else { return }
        let template = owner.templates.template(name, kind: state.withLock { $0.span?.template.kind } ?? .internal)
        state.withLock { state in
            guard state.span != nil else { return }
            state.span?.rename(template)
            state.name = template.name
        }
    }

    func set(_ attributes: SpanAttributes) {
        guard isRecording else { return }
        var vetted: [Attribute] = []
        var kept = SpanAttributes()
        var refused = 0
        attributes.forEach { key, value in
            guard let attribute = owner.attribute(key, value) else {
                refused += 1
                return
            }
            vetted.append(attribute)
            kept.set(key, value: attribute.value == .literal("_OTHER") ? "_OTHER" : value)
        }
        vetted.sort { $0.key.description < $1.key.description }
        state.withLock { state in
            guard state.span != nil else { return }
            state.attributes = kept
            state.vetted = vetted
            state.span?.countDroppedAttributes(refused)
        }
    }

    func set(_ status: Tracing.SpanStatus) {
        guard isRecording else { return }
        if status.message != nil { owner.vetting.refuse(.statusMessage) }
        state.withLock { state in
            switch status.code {
            case .ok: state.span?.set(.ok)
            case .error: state.isFailed = true
            }
        }
    }

    func add(_ event: Tracing.SpanEvent) {
        guard isRecording else { return }
        let name = owner.vetting.name(event.name, .spanEventName) ?? "_OTHER"
        let attributes = owner.attributes(event.attributes)
        let time = Timestamp(nanosecondsSinceEpoch: event.nanosecondsSinceEpoch)
        state.withLock { $0.span?.add(TriageTelemetry.SpanEvent(named: name, at: time, attributes)) }
    }

    func add(_ link: Tracing.SpanLink) {
        guard isRecording else { return }
        guard let context = link.context.carried?.context else {
            owner.vetting.refuse(.spanLink)
            return
        }
        let attributes = owner.attributes(link.attributes)
        state.withLock { $0.span?.add(TriageTelemetry.SpanLink(context, attributes)) }
    }

    func record(_ error: any Error, _ attributes: SpanAttributes, at time: Timestamp) {
        guard isRecording else { return }
        let failure = ErrorClassification.failure(error, step: "handle")
        let exception = [
            Attribute("exception.type", .text(failure.type)), Attribute("exception.message", .text(failure.message)),
        ]
        let more = owner.attributes(attributes).filter { attribute in !exception.contains { $0.key == attribute.key } }
        state.withLock { state in
            state.failure = failure
            state.span?.add(TriageTelemetry.SpanEvent("exception", at: time, exception + more))
        }
    }

    func end(at time: Timestamp) {
        let ended: SpanData? = state.withLock { state in
            guard var span = state.span else { return nil }
            state.span = nil
            guard span.isRecording else { return span }
            for attribute in state.vetted { span.set(attribute.key.literal, attribute.value) }
            if state.isFailed {
                let hasType = state.vetted.contains { $0.key == "error.type" }
                if !hasType { span.set("error.type", .text(state.failure?.type ?? "_OTHER")) }
                span.set(.error(state.failure?.message ?? ""))
            }
            return span
        }
        if let ended { owner.tracer.end(ended, at: time) }
    }
}
