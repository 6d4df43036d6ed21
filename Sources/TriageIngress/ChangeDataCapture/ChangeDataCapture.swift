internal import Crypto
public import TriageEvents

/// Makes events of what change data capture wrote: pure, so that each delivery of a record makes the same.
public enum ChangeDataCapture {
    /// The events that a record tells of: one, or those of a notification.
    ///
    /// Event ids are the same each time: the outbox's `id`, an event's own, or made of the place in the database's log, else of the
    /// record's place in Kafka. What the connector sends again has the same id where its source tells the place.
    ///
    /// - Parameters:
    ///   - event: what an ``EventDecoder`` for a topic of change data made of it.
    ///   - record: the record, for its headers and its time.
    ///   - origin: where it was delivered first.
    ///   - decoder: the caller's, of this thread.
    /// - Throws: the first rule that one of several events breaks; then none is to be published.
    public static func events(
        of event: PatientEvent, in record: Record, from origin: RecordPosition, decoder: EventDecoder
    ) throws(InvalidEvent) -> [CapturedEvent] {
        let time = record.timestamp?.iso8601
        if event.form == .notification, let value = event.value, let root = JSONValue(value) {
            let told = try Notification(root).events
            if told.count > 1 {
                var events: [CapturedEvent] = []
                for (index, one) in told.enumerated() {
                    let part = try decoder.decode(one, value: value)
                    var made = CapturedEvent(part, otherwise: time)
                    made.eventID = uuid(["record", "\(origin)", "\(index)"])
                    made.correlationID = made.correlationID ?? made.eventID
                    events.append(made)
                }
                return events
            }
        }
        var made = CapturedEvent(event, otherwise: time)
        if let id = event.eventIDBytes {
            if event.form == .changeData, id != record.headers.last("id"), let text = id.utf8Text {
                // One place in the log may tell of several rows.
                made.eventID = uuid(["log", text, event.action.rawValue, event.resourceID ?? ""])
            }
        } else {
            made.eventID = uuid(["record", "\(origin)"])
        }
        made.correlationID = made.correlationID ?? made.eventID
        return [made]
    }

    /// A UUID of version 8 (RFC 9562 §5.8): the first bits of a SHA-256 over the parts, each with its length before it.
    static func uuid(_ parts: [String]) -> String {
        var bytes = Array("triage change data".utf8)
        for part in parts {
            withUnsafeBytes(of: UInt64(part.utf8.count).bigEndian) { bytes += $0 }
            bytes += part.utf8
        }
        var hash = Array(SHA256.hash(data: bytes).prefix(16))
        hash[6] = hash[6] & 0x0F | 0x80
        hash[8] = hash[8] & 0x3F | 0x80
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        for (index, byte) in hash.enumerated() {
            if [4, 6, 8, 10].contains(index) { text.append(UInt8(ascii: "-")) }
            text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        }
        return String(decoding: text, as: UTF8.self)
    }
}

extension CapturedEvent {
    /// What an event says, to be published again; its own bytes stay the resource.
    ///
    /// - Parameter time: the timestamp of an event that has none of its own.
    public init(_ event: PatientEvent, otherwise time: String? = nil) {
        let own = event.timestampBytes.flatMap { FHIRGrammar.isInstant($0) ? $0.utf8Text : nil }
        self.init(
            event.action, resourceID: event.resourceIDBytes, resource: event.resource, eventID: event.eventID,
            timestamp: own ?? time, correlationID: event.correlationID)
    }
}
