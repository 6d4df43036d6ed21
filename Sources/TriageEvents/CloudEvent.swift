/// A CloudEvent (CloudEvents 1.0.2): its attributes and its data, whatever carried it.
///
/// `type` is read as the guide writes it, `PatientCreated`, or as names in reverse whose last two parts say resource and action, such
/// as `org.example.Patient.created`. It is written as the guide has it. `correlationid` is an extension that carries
/// `metadata.correlationId`.
public struct CloudEvent: Sendable, Equatable {
    /// `id`: the event's own, unique for its source.
    public var id: String
    /// `source`: a URI reference that names who sent it.
    public var source: String
    /// `type`: what happened.
    public var type: String
    /// `subject`: `Patient/ID` where it is written. Patient data.
    public var subject: String?
    /// `time`: when it happened, RFC 3339.
    public var time: String?
    /// `datacontenttype`.
    public var dataContentType: String?
    /// The extension `correlationid`.
    public var correlationID: String?
    /// The data, usually a Patient resource as JSON; nil if it has none. Patient data.
    public var data: ByteSlice?

    /// The media type of one event in structured mode.
    public static let structuredType = "application/cloudevents+json; charset=UTF-8"
    /// The media type of several events in one body (HTTP only).
    public static let batchType = "application/cloudevents-batch+json; charset=UTF-8"

    /// An event of these attributes.
    public init(
        id: String, source: String, type: String, subject: String? = nil, time: String? = nil, dataContentType: String? = nil,
        correlationID: String? = nil, data: ByteSlice? = nil
    ) {
        self.id = id
        self.source = source
        self.type = type
        self.subject = subject
        self.time = time
        self.dataContentType = dataContentType
        self.correlationID = correlationID
        self.data = data
    }

    /// Whether a media type is that of the structured mode, whatever its parameters.
    public static func isStructured(_ contentType: String) -> Bool {
        MediaText.isType(contentType, "application/cloudevents+json")
    }

    /// Whether a media type is that of a batch.
    public static func isBatch(_ contentType: String) -> Bool {
        MediaText.isType(contentType, "application/cloudevents-batch+json")
    }

    /// An event in binary mode: its attributes stand in headers.
    ///
    /// - Parameters:
    ///   - contentType: the carrier's own header of that name, which is `datacontenttype` here.
    ///   - attribute: the value of an attribute's header (`ce_id` on Kafka, `ce-id` on HTTP); asked for the attribute's name.
    /// - Throws: ``InvalidEvent`` if a required attribute is missing or the version isn't 1.
    public init(
        binary data: ByteSlice?, contentType: String?, attribute: (StaticString) -> String?
    ) throws(InvalidEvent) {
        try self.init(attribute)
        dataContentType = contentType
        self.data = data
    }

    /// An event in structured mode.
    ///
    /// - Parameter value: what ``EventDecoder/checkObject(_:)`` found to be an object.
    /// - Throws: ``InvalidEvent`` if a required attribute is missing, the version isn't 1, or the data can't be read.
    public init(structured value: JSONValue) throws(InvalidEvent) {
        try self.init { value[$0]?.string }
        dataContentType = value["datacontenttype"]?.string
        if let encoded = value["data_base64"] {
            guard let text = encoded.stringBytes, let bytes = Base64.decode(text) else {
                throw InvalidEvent(.cloudEvent, at: "data_base64")
            }
            data = bytes
        } else if let inner = value["data"] {
            // A JSON document in a string is how some write it.
            data = inner.kind == .string ? inner.stringBytes : inner.text
        }
    }

    private init(_ attribute: (StaticString) -> String?) throws(InvalidEvent) {
        guard let version = attribute("specversion"), version == "1.0" || version.hasPrefix("1.0.") else {
            throw InvalidEvent(.cloudEvent, at: "specversion")
        }
        guard let id = attribute("id"), !id.isEmpty else { throw InvalidEvent(.cloudEvent, at: "id") }
        guard let source = attribute("source"), !source.isEmpty else { throw InvalidEvent(.cloudEvent, at: "source") }
        guard let type = attribute("type"), !type.isEmpty else { throw InvalidEvent(.cloudEvent, at: "type") }
        let time = attribute("time")
        if let time, !FHIRGrammar.isInstant(ByteSlice(time)) { throw InvalidEvent(.timestamp, at: "time") }
        self.init(
            id: id, source: source, type: type, subject: attribute("subject"), time: time,
            correlationID: attribute("correlationid"))
    }

    /// What ``type`` says that happened; nil if it doesn't.
    public var action: ChangeAction? {
        let parts = type.split(separator: ".")
        if let last = parts.last, parts.count >= 2, parts[parts.count - 2].lowercased() == "patient" {
            return CloudEvent.action(String(last))
        }
        guard type.hasPrefix("Patient") else { return nil }
        return CloudEvent.action(String(type.dropFirst(7)))
    }

    /// `created`, `create` and the like.
    static func action(_ word: String) -> ChangeAction? {
        switch word.lowercased() {
        case "created", "create": .created
        case "updated", "update": .updated
        case "deleted", "delete": .deleted
        default: nil
        }
    }

    /// The id of ``subject``, `Patient/ID` or the id alone; nil if it says neither.
    public var subjectID: ByteSlice? {
        guard let subject else { return nil }
        let id = ByteSlice(FHIRReference(subject).map { $0.type == "Patient" ? $0.id : "" } ?? subject)
        return FHIRGrammar.isID(id) ? id : nil
    }

    /// The attributes with their names, as headers carry them after a prefix; `datacontenttype` is not among them.
    public var attributes: [(name: String, value: String)] {
        var all = [("specversion", "1.0"), ("id", id), ("type", type), ("source", source)]
        if let time { all.append(("time", time)) }
        if let subject { all.append(("subject", subject)) }
        if let correlationID { all.append(("correlationid", correlationID)) }
        return all.map { (name: $0.0, value: $0.1) }
    }

    /// The event in structured mode. The data is written as JSON, which it must be.
    public var structured: ByteSlice {
        var bytes = TextBytes(capacity: 256 + (data?.count ?? 0))
        bytes.append("{")
        for (name, value) in attributes {
            if name != "specversion" { bytes.append(",") }
            bytes.append("\"\(name)\":\(JSONText(value).quoted)")
        }
        if let data {
            bytes.append(",\"datacontenttype\":\(JSONText(dataContentType ?? "application/fhir+json").quoted),\"data\":")
            bytes.append(data)
        }
        bytes.append("}")
        return bytes.slice
    }
}

/// Base64 with padding (RFC 4648 §4).
package enum Base64 {
    /// The bytes, or nil if the text is none of it.
    package static func decode(_ text: ByteSlice) -> ByteSlice? {
        guard text.count % 4 == 0 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count / 4 * 3)
        let padding = text.reversed().prefix { $0 == UInt8(ascii: "=") }.count
        guard padding <= 2 else { return nil }
        var group: UInt32 = 0
        for (index, character) in text.enumerated() {
            let isPadding = index >= text.count - padding
            guard let six = isPadding ? 0 : value(character) else { return nil }
            group = group << 6 | six
            if index % 4 == 3 {
                bytes.append(UInt8(truncatingIfNeeded: group >> 16))
                bytes.append(UInt8(truncatingIfNeeded: group >> 8))
                bytes.append(UInt8(truncatingIfNeeded: group))
                group = 0
            }
        }
        return ByteSlice(bytes.dropLast(padding))
    }

    private static func value(_ character: UInt8) -> UInt32? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - 65)
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - 71)
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character + 4)
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
