public import TriageEvents
internal import TriageTelemetry

/// A change that was taken in from outside and validated: what becomes a record.
public struct CapturedEvent: Sendable {
    /// What happened.
    public var action: ChangeAction
    /// The Patient's logical id, which becomes the record's key; nil if a created one has none. Patient data.
    public var resourceID: ByteSlice?
    /// The Patient resource, JSON, byte for byte as it came; nil for a delete that brings none. Patient data.
    public var resource: ByteSlice?
    /// `metadata.eventId`: a UUID, the same for each delivery of the same change where the source tells them apart; nil draws one.
    public var eventID: String?
    /// When the source says that it happened, a FHIR instant; nil is now.
    public var timestamp: String?
    /// `metadata.correlationId`: the request that caused it; nil draws one.
    public var correlationID: String?
    /// The id of the trace that the record's send begins, if it begins one; nil draws one.
    public var traceID: TraceID?

    /// A change of these parts.
    public init(
        _ action: ChangeAction, resourceID: ByteSlice?, resource: ByteSlice?, eventID: String? = nil, timestamp: String? = nil,
        correlationID: String? = nil, traceID: TraceID? = nil
    ) {
        self.action = action
        self.resourceID = resourceID
        self.resource = resource
        self.eventID = eventID
        self.timestamp = timestamp
        self.correlationID = correlationID
        self.traceID = traceID
    }
}

/// Where events are taken in: the attribute `triage.capture.source`.
public enum CaptureSource: String, Sendable, CaseIterable {
    /// A FHIR server's subscription.
    case webhook
    /// Change data capture.
    case changeData = "change_data"
    /// A command that was carried out.
    case command
    /// A program that publishes through the library, or `triage publish`.
    case library
}

/// How an event's value is written.
public struct EventFormat: Sendable, Hashable {
    /// `metadata.source` of the events that are made.
    public var source: String

    /// Envelopes that name this source.
    public init(source: String = "triage") { self.source = source }

    /// The record of an event, without key, topic and trace context.
    ///
    /// A delete without a resource has null for `data`.
    ///
    /// - Parameters:
    ///   - eventID: `metadata.eventId`, whatever the event's own says.
    ///   - now: `metadata.timestamp` if the event has none.
    public func value(of event: CapturedEvent, eventID: String, now: Timestamp) -> (value: ByteSlice, headers: [Header]) {
        let type =
            switch event.action {
            case .created: "PatientCreated"
            case .updated: "PatientUpdated"
            case .deleted: "PatientDeleted"
            }
        let head = #"{"type":"\#(type)","data":"#
        let tail = """
            ,"metadata":{"eventId":\(JSONText(eventID).quoted),"timestamp":\(JSONText(event.timestamp ?? now.iso8601).quoted),\
            "source":\(JSONText(source).quoted),"correlationId":\(JSONText(event.correlationID ?? randomUUID()).quoted)}}
            """
        var bytes: [UInt8] = []
        bytes.reserveCapacity(head.utf8.count + (event.resource?.count ?? 4) + tail.utf8.count)
        bytes += head.utf8
        if let resource = event.resource { bytes += resource } else { bytes += "null".utf8 }
        bytes += tail.utf8
        return (ByteSlice(bytes), [Header("content-type", text: "application/fhir+json")])
    }
}
