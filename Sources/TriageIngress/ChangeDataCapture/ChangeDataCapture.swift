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
        // What is told twice, whoever reads the event may read as the other one of the two.
        if let resource = event.resource { try decoder.checkUniqueNames(resource) }
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

    private static func uuid(_ parts: [String]) -> String { DerivedID("change data", parts.map { ByteSlice($0) }).uuid }
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
