internal import Crypto
public import TriageEvents

/// Makes ids out of what a change is, so that each time it is told it has the same ones.
///
/// The event id is made of the resource's id, its version and the action, so that a change has one id whoever tells of it; of the
/// subscription, the event's number and its time where no version is known. The trace id is made the other way round: of the
/// subscription, the number and the time where there are any, so that a redelivery joins the trace of the first delivery.
public struct EventIdentity: Sendable {
    private let namespace: String

    /// Ids within a namespace: where the changes come from, since two servers have the same ids for different patients.
    public init(namespace: String) { self.namespace = namespace }

    /// A UUID of version 8 (RFC 9562 §5.8) over SHA-256; nil if nothing tells the event from others.
    public func eventID(of event: Notification.Event, action: ChangeAction, subscription: String?) -> String? {
        guard let parts = version(event, action) ?? number(event, subscription) else { return nil }
        let (high, low) = hash("event", parts)
        return UUIDText.version8(high, low)
    }

    /// The id of the trace that begins with the event; nil if nothing tells the event from others.
    public func traceID(of event: Notification.Event, action: ChangeAction, subscription: String?) -> TraceID? {
        guard let parts = number(event, subscription) ?? version(event, action) else { return nil }
        let (high, low) = hash("trace", parts)
        let id = TraceID(high: high, low: low)
        return id.isValid ? id : nil
    }

    private func version(_ event: Notification.Event, _ action: ChangeAction) -> [ByteSlice]? {
        guard let id = event.patientID else { return nil }
        if let version = event.versionID { return [ByteSlice("version"), id, ByteSlice(version), ByteSlice(action.rawValue)] }
        // A server without versions may still tell when.
        guard event.number == nil, let time = event.timestamp else { return nil }
        return [ByteSlice("time"), id, ByteSlice(time), ByteSlice(action.rawValue)]
    }

    private func number(_ event: Notification.Event, _ subscription: String?) -> [ByteSlice]? {
        guard let number = event.number, let subscription else { return nil }
        let id = event.patientID ?? ByteSlice("")
        return [ByteSlice("number"), ByteSlice(subscription), ByteSlice(String(number)), ByteSlice(event.timestamp ?? ""), id]
    }

    /// The first 16 bytes of a hash of the parts, each with its length before it so that no two lists look alike.
    private func hash(_ purpose: String, _ parts: [ByteSlice]) -> (UInt64, UInt64) {
        var bytes: [UInt8] = []
        for part in [ByteSlice("triage webhook"), ByteSlice(purpose), ByteSlice(namespace)] + parts {
            withUnsafeBytes(of: UInt64(part.count).bigEndian) { bytes += $0 }
            bytes += part
        }
        var halves: (UInt64, UInt64) = (0, 0)
        for (index, byte) in SHA256.hash(data: bytes).prefix(16).enumerated() {
            if index < 8 { halves.0 = halves.0 << 8 | UInt64(byte) } else { halves.1 = halves.1 << 8 | UInt64(byte) }
        }
        return halves
    }
}

/// UUIDs as text.
enum UUIDText {
    /// The bits as a UUID of version 8 and the variant of RFC 9562 §4.1, in 36 lower-case characters.
    static func version8(_ high: UInt64, _ low: UInt64) -> String {
        let high = SpanID(high & 0xFFFF_FFFF_FFFF_0FFF | 0x8000).description
        let low = SpanID(low & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000).description
        return "\(high.prefix(8))-\(high.dropFirst(8).prefix(4))-\(high.suffix(4))-\(low.prefix(4))-\(low.suffix(12))"
    }
}
