public import TriageEvents

/// Makes ids out of what a change is, so that each time it is told it has the same ones.
///
/// The event id is made of the resource's id, its version and whether it was deleted, so that a change has one id whoever tells of it; of the
/// subscription, the event's number and its time where no version is known. The trace id is made the other way round: of the
/// subscription, the number and the time where there are any, so that a redelivery joins the trace of the first delivery.
public struct EventIdentity: Sendable {
    private let namespace: String

    /// Ids within a namespace: where the changes come from, since two servers have the same ids for different patients.
    public init(namespace: String) { self.namespace = namespace }

    /// A UUID of version 8 (RFC 9562 §5.8) over SHA-256; nil if nothing tells the event from others.
    public func eventID(of event: Notification.Event, action: ChangeAction, subscription: String?) -> String? {
        guard let parts = version(event, action) ?? number(event, subscription) ?? entry(event) else { return nil }
        return DerivedID("webhook event", [ByteSlice(namespace)] + parts).uuid
    }

    /// The id of the trace that begins with the event; nil if nothing tells the event from others.
    public func traceID(of event: Notification.Event, action: ChangeAction, subscription: String?) -> TraceID? {
        guard let parts = number(event, subscription) ?? version(event, action) ?? entry(event) else { return nil }
        let derived = DerivedID("webhook trace", [ByteSlice(namespace)] + parts)
        let id = TraceID(high: derived.high, low: derived.low)
        return id.isValid ? id : nil
    }

    private func version(_ event: Notification.Event, _ action: ChangeAction) -> [ByteSlice]? {
        guard let id = event.patientID else { return nil }
        // Whether a version was created or updated isn't told by all in the same way. A delete may bring the version before it.
        let change = ByteSlice(action == .deleted ? "deleted" : "written")
        if let version = event.versionID { return [ByteSlice("version"), id, ByteSlice(version), change] }
        // A server without versions may still tell when.
        guard event.number == nil, let time = event.timestamp else { return nil }
        return [ByteSlice("time"), id, ByteSlice(time), change]
    }

    /// A server whose history has neither versions nor times tells the same by the same bytes. What it tells twice in the same words
    /// was one change, as far as anybody can see.
    private func entry(_ event: Notification.Event) -> [ByteSlice]? { event.entry.map { [ByteSlice("entry"), $0] } }

    private func number(_ event: Notification.Event, _ subscription: String?) -> [ByteSlice]? {
        guard let number = event.number, let subscription else { return nil }
        let id = event.patientID ?? ByteSlice("")
        return [ByteSlice("number"), ByteSlice(subscription), ByteSlice(String(number)), ByteSlice(event.timestamp ?? ""), id]
    }
}
