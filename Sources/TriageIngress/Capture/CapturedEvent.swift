public import TriageEvents

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
