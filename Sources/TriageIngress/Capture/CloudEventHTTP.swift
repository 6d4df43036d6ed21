public import TriageEvents

/// CloudEvents over HTTP (HTTP Protocol Binding 1.0.2): pure, headers and body in and out.
public enum CloudEventHTTP {
    /// Events that one batch may have.
    public static let maximumBatch = 1000

    /// Reads a request's events.
    ///
    /// - Parameters:
    ///   - header: a header field's value by its name in lower case: `content-type`, `ce-id` and the like.
    ///   - body: the whole body.
    ///   - topicAction: what happened where a CloudEvent's type doesn't say it, such as by the path it came to.
    ///   - decoder: the caller's, of this thread.
    /// - Returns: the events in order; nil if the request is no CloudEvent. A batch may have none.
    /// - Throws: ``InvalidEvent``; of a batch nothing is to be published then.
    public static func events(
        header: (String) -> String?, body: ByteSlice, topicAction: ChangeAction? = nil, decoder: EventDecoder
    ) throws(InvalidEvent) -> [CapturedEvent]? {
        let contentType = header("content-type")
        if let contentType, CloudEvent.isStructured(contentType) {
            try decoder.checkUniqueNames(body)
            guard let value = JSONValue(body) else { throw InvalidEvent(.empty, at: "") }
            return [try captured(CloudEvent(structured: value), body, topicAction, decoder)]
        }
        if let contentType, CloudEvent.isBatch(contentType) {
            // Only objects are checked whole, so the array becomes a member of one.
            var wrapped = TextBytes(capacity: body.count + 8)
            wrapped.append("{\"a\":")
            wrapped.append(body)
            wrapped.append("}")
            try decoder.checkUniqueNames(wrapped.slice)
            // What followed the array would be members of the object.
            guard let batch = JSONValue(wrapped.slice)?["a"], batch.kind == .array,
                let last = body.lastIndex(where: { $0 > 0x20 }), let first = body.firstIndex(where: { $0 > 0x20 }),
                batch.text.count == last - first + 1
            else {
                throw InvalidEvent(.cloudEvent, at: "")
            }
            let elements = batch.elements
            guard elements.count <= maximumBatch else { throw InvalidEvent(.tooManyEvents, at: "") }
            var events: [CapturedEvent] = []
            for element in elements {
                guard element.kind == .object else { throw InvalidEvent(.notAnObject, at: "") }
                events.append(try captured(CloudEvent(structured: element), element.text, topicAction, decoder))
            }
            return events
        }
        guard header("ce-specversion") != nil else { return nil }
        if !body.isEmpty { try decoder.checkUniqueNames(body) }
        let event = try CloudEvent(binary: body.isEmpty ? nil : body, contentType: contentType) { name in
            header("ce-\(name)").flatMap(decoded)
        }
        return [try captured(event, body, topicAction, decoder)]
    }

    private static func captured(
        _ cloud: CloudEvent, _ value: ByteSlice, _ action: ChangeAction?, _ decoder: EventDecoder
    ) throws(InvalidEvent) -> CapturedEvent {
        // What stood in a string wasn't looked into with what is around it.
        if let data = cloud.data, JSONValue(value)?["data"]?.kind != .object { try decoder.checkUniqueNames(data) }
        let captured = CapturedEvent(try decoder.decode(cloudEvent: cloud, value, topicAction: action))
        // A CloudEvent in a CloudEvent: consumers look for the resource in the outer one's data.
        if let data = cloud.data.flatMap({ JSONValue($0) }), data["specversion"] != nil, data["resourceType"] == nil {
            throw InvalidEvent(.cloudEvent, at: "data")
        }
        return captured
    }

    /// The header fields and the body that carry an event.
    ///
    /// - Parameter mode: ``CloudEventMode/off`` gives the resource alone under its media type.
    public static func request(
        for event: CloudEvent, mode: CloudEventMode
    ) -> (headers: [(name: String, value: String)], body: ByteSlice) {
        switch mode {
        case .structured: return ([("content-type", CloudEvent.structuredType)], event.structured)
        case .binary, .off:
            var headers: [(name: String, value: String)] = []
            if event.data != nil { headers.append(("content-type", event.dataContentType ?? "application/fhir+json")) }
            if mode == .binary { headers += event.attributes.map { ("ce-\($0.name)", encoded($0.value)) } }
            return (headers, event.data ?? ByteSlice(""))
        }
    }

    /// Percent-encodes what a header's value can't hold: all but visible ASCII, and `"` and `%` (§3.1.3.2).
    static func encoded(_ value: String) -> String {
        var text = ""
        for byte in value.utf8 {
            if (0x21...0x7E).contains(byte), byte != UInt8(ascii: "\""), byte != UInt8(ascii: "%") {
                text.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                let digits = String(byte, radix: 16, uppercase: true)
                text += digits.count == 1 ? "%0" + digits : "%" + digits
            }
        }
        return text
    }

    /// The text of a header's value; nil if its bytes are no UTF-8. A `%` before anything but two digits stands for itself.
    static func decoded(_ value: String) -> String? {
        let source = Array(value.utf8)
        var bytes: [UInt8] = []
        var at = 0
        while at < source.count {
            if source[at] == UInt8(ascii: "%"), at + 2 < source.count,
                let high = Character(Unicode.Scalar(source[at + 1])).hexDigitValue,
                let low = Character(Unicode.Scalar(source[at + 2])).hexDigitValue
            {
                bytes.append(UInt8(high << 4 | low))
                at += 3
            } else {
                bytes.append(source[at])
                at += 1
            }
        }
        return ByteSlice(bytes).utf8Text
    }
}

extension CloudEvent {
    /// The event as a CloudEvent, for its delivery.
    ///
    /// - Parameters:
    ///   - event: what is told.
    ///   - id: `id` where the event has no id of its own.
    ///   - source: `source` where the event names none.
    public init(_ event: PatientEvent, id: String, source: String) {
        let time = event.timestampBytes.flatMap { FHIRGrammar.isInstant($0) ? $0.utf8Text : nil }
        self.init(
            id: event.eventID.nonEmpty ?? id, source: event.source.nonEmpty ?? source, type: event.type,
            subject: event.resourceID.map { "Patient/\($0)" }, time: time, correlationID: event.correlationID,
            data: event.resource)
    }
}

extension String? {
    fileprivate var nonEmpty: String? { self?.isEmpty == true ? nil : self }
}
