public import TriageEvents

/// Spans as JSON, which a running process's console serves and `triage explain --console` reads: `{"spans":[…]}`.
///
/// Names are OTLP's JSON's where it has them: `traceId`, `spanId`, `parentSpanId`, `name`, `kind`, `startTimeUnixNano`,
/// `endTimeUnixNano` (both strings of digits), `links`, `events` with `timeUnixNano`. `kind` is a word such as `consumer`, `service`
/// the service's name, `status` is `unset`, `ok` or `error` with `statusMessage`, `attributes` are an object of strings.
extension TraceSpan {
    /// Spans that are read of one document at most.
    public static let maximumSpansOfDocument = 10_000

    /// The document of these spans.
    public static func document(_ spans: [TraceSpan]) -> ByteSlice {
        var text = TextBytes(capacity: 64 + spans.count * 512)
        text.append("{\"spans\":[" as StaticString)
        for (index, span) in spans.enumerated() {
            if index > 0 { text.append(byte: UInt8(ascii: ",")) }
            span.write(to: &text)
        }
        text.append("]}" as StaticString)
        return text.slice
    }

    /// The spans of a document; nil if it is none. What isn't a span is left out, texts are cut and made printable.
    public init?(_ value: JSONValue) {
        guard let traceID = value["traceId"]?.string.flatMap({ TraceID($0) }),
            let spanID = value["spanId"]?.string.flatMap({ SpanID($0) }), let name = value["name"]?.string,
            let start = value["startTimeUnixNano"]?.integer, let end = value["endTimeUnixNano"]?.integer
        else { return nil }
        let message = value["statusMessage"]?.string.map { SafeName.printable($0) } ?? ""
        self.init(
            traceID: traceID, spanID: spanID, parentSpanID: value["parentSpanId"]?.string.flatMap { SpanID($0) },
            name: SafeName.printable(name), kind: value["kind"]?.string.flatMap { SpanKind(name: $0) } ?? .internal,
            service: value["service"]?.string.map { SafeName.printable($0) }, start: Timestamp(nanoseconds: start),
            end: Timestamp(nanoseconds: end),
            status: value["status"]?.string == "error" ? .error(message) : value["status"]?.string == "ok" ? .ok : .unset,
            attributes: TraceSpan.attributes(value["attributes"]),
            links: (value["links"]?.elements ?? []).prefix(128).compactMap { link in
                guard let trace = link["traceId"]?.string.flatMap({ TraceID($0) }),
                    let span = link["spanId"]?.string.flatMap({ SpanID($0) })
                else { return nil }
                return Link(trace, span)
            },
            events: (value["events"]?.elements ?? []).prefix(128).compactMap { event in
                guard let name = event["name"]?.string, let time = event["timeUnixNano"]?.integer else { return nil }
                return Event(
                    SafeName.printable(name), at: Timestamp(nanoseconds: time), TraceSpan.attributes(event["attributes"]))
            })
    }

    /// The spans of a document; nil if it has no member `spans`.
    public static func spans(ofDocument value: JSONValue) -> [TraceSpan]? {
        guard let spans = value["spans"], spans.kind == .array else { return nil }
        return spans.elements.prefix(maximumSpansOfDocument).compactMap { TraceSpan($0) }
    }

    private static func attributes(_ value: JSONValue?) -> [Attribute] {
        var attributes: [Attribute] = []
        value?.forEachMember { name, value in
            if let text = value.string, let key = name.utf8Text {
                attributes.append(Attribute(SafeName.printable(key), SafeName.printable(text)))
            }
            return attributes.count < 128
        }
        return attributes
    }

    /// Appends the span as a JSON object.
    func write(to text: inout TextBytes) {
        text.append("{\"traceId\":\"\(traceID)\",\"spanId\":\"\(spanID)\"")
        if let parentSpanID { text.append(",\"parentSpanId\":\"\(parentSpanID)\"") }
        text.append(",\"name\":" as StaticString)
        text.append(quoted: name)
        text.append(",\"kind\":\"\(kind.name)\"")
        if let service {
            text.append(",\"service\":" as StaticString)
            text.append(quoted: service)
        }
        text.append(",\"startTimeUnixNano\":\"\(start.nanoseconds)\",\"endTimeUnixNano\":\"\(end.nanoseconds)\"")
        switch status {
        case .unset: text.append(",\"status\":\"unset\"" as StaticString)
        case .ok: text.append(",\"status\":\"ok\"" as StaticString)
        case .error(let message):
            text.append(",\"status\":\"error\",\"statusMessage\":" as StaticString)
            text.append(quoted: message)
        }
        TraceSpan.write(attributes, to: &text)
        text.append(",\"links\":[" as StaticString)
        for (index, link) in links.enumerated() {
            text.append("\(index > 0 ? "," : ""){\"traceId\":\"\(link.traceID)\",\"spanId\":\"\(link.spanID)\"}")
        }
        text.append("],\"events\":[" as StaticString)
        for (index, event) in events.enumerated() {
            text.append("\(index > 0 ? "," : ""){\"timeUnixNano\":\"\(event.time.nanoseconds)\",\"name\":")
            text.append(quoted: event.name)
            TraceSpan.write(event.attributes, to: &text)
            text.append(byte: UInt8(ascii: "}"))
        }
        text.append("]}" as StaticString)
    }

    private static func write(_ attributes: [Attribute], to text: inout TextBytes) {
        text.append(",\"attributes\":{" as StaticString)
        for (index, attribute) in attributes.enumerated() {
            if index > 0 { text.append(byte: UInt8(ascii: ",")) }
            text.append(quoted: attribute.key)
            text.append(byte: UInt8(ascii: ":"))
            text.append(quoted: attribute.value)
        }
        text.append(byte: UInt8(ascii: "}"))
    }
}

extension SpanKind {
    /// `internal`, `server`, `client`, `producer` or `consumer`.
    public var name: String {
        switch self {
        case .internal: "internal"
        case .server: "server"
        case .client: "client"
        case .producer: "producer"
        case .consumer: "consumer"
        }
    }

    /// The kind of that name.
    public init?(name: String) {
        guard let kind = SpanKind.allCases.first(where: { $0.name == name }) else { return nil }
        self = kind
    }
}
