public import TriageEvents

/// Whether events are CloudEvents, and where their attributes stand.
public enum CloudEventMode: String, Sendable, CaseIterable {
    /// They are none: envelopes on Kafka.
    case off
    /// The value is the resource alone; the attributes stand in headers (`ce_id` on Kafka, `ce-id` on HTTP).
    case binary
    /// The value is one JSON object with attributes and resource.
    case structured
}

/// How an event's value is written.
public struct EventFormat: Sendable, Hashable {
    /// `metadata.source` of the events that are made, or a CloudEvent's `source`.
    public var source: String
    /// Whether they are CloudEvents.
    public var cloudEvents: CloudEventMode

    /// Events that name this source.
    public init(source: String = "triage", cloudEvents: CloudEventMode = .off) {
        self.source = source
        self.cloudEvents = cloudEvents
    }

    /// The record of an event, without key, topic and trace context.
    ///
    /// A delete without a resource has a Patient with nothing but its id for `data`, so that a receiver who isn't told the record's key
    /// knows who it was. As a CloudEvent it has no data, in binary mode a null value: its subject names the Patient.
    ///
    /// - Parameters:
    ///   - eventID: `metadata.eventId`, whatever the event's own says.
    ///   - now: `metadata.timestamp` if the event has none.
    public func value(of event: CapturedEvent, eventID: String, now: Timestamp) -> (value: ByteSlice?, headers: [Header]) {
        let type =
            switch event.action {
            case .created: "PatientCreated"
            case .updated: "PatientUpdated"
            case .deleted: "PatientDeleted"
            }
        let time = event.timestamp ?? now.iso8601
        let correlationID = event.correlationID ?? randomUUID()
        if cloudEvents == .off {
            let value = envelope(event, type: type, eventID: eventID, time: time, correlationID: correlationID)
            return (value, EventFormat.fhirJSON)
        }
        let cloud = CloudEvent(
            id: eventID, source: source.isEmpty ? "triage" : source, type: type,
            subject: event.resourceID?.utf8Text.map { "Patient/\($0)" }, time: time, correlationID: correlationID,
            data: event.resource)
        if cloudEvents == .structured {
            return (cloud.structured, [Header("content-type", text: CloudEvent.structuredType)])
        }
        var headers = cloud.attributes.map { Header("ce_\($0.name)", text: $0.value) }
        headers.append(Header("content-type", text: "application/fhir+json"))
        return (event.resource, headers)
    }

    private static let fhirJSON = [Header("content-type", text: "application/fhir+json")]

    private func envelope(
        _ event: CapturedEvent, type: String, eventID: String, time: String, correlationID: String
    ) -> ByteSlice {
        var bytes = TextBytes(capacity: (event.resource?.count ?? 4) + 256)
        bytes.append("{\"type\":\"" as StaticString)
        bytes.append(type)
        bytes.append("\",\"data\":" as StaticString)
        if let resource = event.resource {
            bytes.append(resource)
        } else if let id = event.resourceID?.utf8Text {
            bytes.append("{\"resourceType\":\"Patient\",\"id\":" as StaticString)
            bytes.append(quoted: id)
            bytes.append("}" as StaticString)
        } else {
            bytes.append("null" as StaticString)
        }
        bytes.append(",\"metadata\":{\"eventId\":" as StaticString)
        bytes.append(quoted: eventID)
        bytes.append(",\"timestamp\":" as StaticString)
        bytes.append(quoted: time)
        bytes.append(",\"source\":" as StaticString)
        bytes.append(quoted: source)
        bytes.append(",\"correlationId\":" as StaticString)
        bytes.append(quoted: correlationID)
        bytes.append("}}" as StaticString)
        return bytes.slice
    }
}
