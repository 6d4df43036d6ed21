internal import TriageEvents
internal import TriageTelemetry

/// Reads what trace back ends answer: a value in, spans out; anything that isn't a span is left out.
///
/// Of spans of other services only names and numbers are taken: their attributes may say anything.
enum TraceDocument {
    /// `GET /api/traces/ID` of Jaeger's query service: `{"data":[{"spans":[…],"processes":{…}}]}`; nil if it is none.
    static func jaeger(_ value: JSONValue) -> [TraceSpan]? {
        guard let data = value["data"], data.kind == .array else { return nil }
        var spans: [TraceSpan] = []
        for trace in data.elements {
            var processes: [String: Origin] = [:]
            trace["processes"]?.forEachMember { name, process in
                let tags = tags(process["tags"])
                processes[name.utf8Text ?? ""] = Origin(
                    service: process["serviceName"]?.string, isOwn: tags["telemetry.sdk.name"] == "triage")
                return processes.count < 1000
            }
            for span in trace["spans"]?.elements ?? [] where spans.count < TraceSpan.maximumSpansOfDocument {
                if let span = jaegerSpan(span, processes) { spans.append(span) }
            }
        }
        return spans
    }

    /// OTLP as JSON: Tempo's `GET /api/traces/ID` (`{"batches":[…]}`), its `/api/v2/traces/ID` (`{"trace":{"resourceSpans":[…]}}`),
    /// or a request's own form (`{"resourceSpans":[…]}`); nil if it is none of them.
    static func otlp(_ value: JSONValue) -> [TraceSpan]? {
        let document = value["trace"] ?? value
        guard let resources = document["batches"] ?? document["resourceSpans"], resources.kind == .array else {
            // A trace that Tempo doesn't have: an object without spans.
            return value["trace"] != nil ? [] : nil
        }
        var spans: [TraceSpan] = []
        for resource in resources.elements {
            let attributes = attributes(resource["resource"]?["attributes"])
            let origin = Origin(service: attributes["service.name"], isOwn: attributes["telemetry.sdk.name"] == "triage")
            let scopes = resource["scopeSpans"] ?? resource["instrumentationLibrarySpans"]
            for scope in scopes?.elements ?? [] {
                for span in scope["spans"]?.elements ?? [] where spans.count < TraceSpan.maximumSpansOfDocument {
                    if let span = otlpSpan(span, origin) { spans.append(span) }
                }
            }
        }
        return spans
    }

    /// Whose span it is.
    private struct Origin {
        let service: String?
        let isOwn: Bool

        func name(_ name: String) -> String { isOwn ? SafeName.printable(name) : SafeName.span(name) }

        func attributes(_ texts: [String: String]) -> [TraceSpan.Attribute] {
            texts.sorted { $0.key < $1.key }.prefix(128).compactMap { SafeName.attribute($0.key, $0.value, isOwn: isOwn) }
        }

        /// A description is free text unless it is ours.
        func status(_ message: String?) -> TraceSpan.Status { .error(isOwn ? message.map(SafeName.printable) ?? "" : "") }

        func event(_ name: String, at time: Timestamp, _ texts: [String: String]) -> TraceSpan.Event {
            let shown = isOwn || name == "exception" ? SafeName.printable(name) : SafeName.span(name)
            return TraceSpan.Event(shown, at: time, attributes(texts))
        }
    }

    // MARK: Jaeger

    private static func jaegerSpan(_ value: JSONValue, _ processes: [String: Origin]) -> TraceSpan? {
        guard let traceID = value["traceID"]?.string.flatMap(traceID), let spanID = value["spanID"]?.string.flatMap(spanID),
            let start = value["startTime"]?.integer, let name = value["operationName"]?.string
        else { return nil }
        let origin = value["processID"]?.string.flatMap { processes[$0] } ?? Origin(service: nil, isOwn: false)
        let tags = tags(value["tags"])
        let references = (value["references"]?.elements ?? []).prefix(256).compactMap { reference -> Reference? in
            guard let trace = reference["traceID"]?.string.flatMap(Self.traceID),
                let span = reference["spanID"]?.string.flatMap(Self.spanID)
            else { return nil }
            return Reference(isChild: reference["refType"]?.string == "CHILD_OF", link: TraceSpan.Link(trace, span))
        }
        // A link to the parent is folded into the parent's reference, which then says FOLLOWS_FROM: the first within the trace is it.
        let parent =
            references.first { $0.isChild && $0.link.traceID == traceID } ?? references.first { $0.link.traceID == traceID }
        let isFailed = tags["error"] == "true" || tags["otel.status_code"] == "ERROR"
        return TraceSpan(
            traceID: traceID, spanID: spanID, parentSpanID: parent?.link.spanID, name: origin.name(name),
            kind: tags["span.kind"].flatMap { SpanKind(name: $0) } ?? .internal, service: origin.service.map(SafeName.printable),
            start: microseconds(start), end: microseconds(start &+ max(0, value["duration"]?.integer ?? 0)),
            status: isFailed ? origin.status(tags["otel.status_description"]) : tags["otel.status_code"] == "OK" ? .ok : .unset,
            attributes: origin.attributes(tags),
            links: references.filter { $0.link != parent?.link }.map(\.link),
            events: (value["logs"]?.elements ?? []).prefix(128).compactMap { log in
                var fields = Self.tags(log["fields"])
                guard let time = log["timestamp"]?.integer, let name = fields.removeValue(forKey: "event") else { return nil }
                return origin.event(name, at: microseconds(time), fields)
            })
    }

    private struct Reference {
        let isChild: Bool
        let link: TraceSpan.Link
    }

    /// `[{"key":…,"type":…,"value":…}]`.
    private static func tags(_ value: JSONValue?) -> [String: String] {
        var tags: [String: String] = [:]
        for tag in (value?.elements ?? []).prefix(512) {
            guard let key = tag["key"]?.string, let value = tag["value"], let text = text(value) else { continue }
            tags[key] = text
        }
        return tags
    }

    private static func microseconds(_ number: Int64) -> Timestamp {
        let (product, overflow) = number.multipliedReportingOverflow(by: 1000)
        return Timestamp(nanoseconds: overflow ? (number < 0 ? .min : .max) : product)
    }

    // MARK: OTLP

    private static func otlpSpan(_ value: JSONValue, _ origin: Origin) -> TraceSpan? {
        guard let traceID = value["traceId"]?.string.flatMap(traceID), let spanID = value["spanId"]?.string.flatMap(spanID),
            let start = value["startTimeUnixNano"]?.integer, let name = value["name"]?.string
        else { return nil }
        let status = value["status"]
        let code = status?["code"].flatMap(text) ?? ""
        return TraceSpan(
            traceID: traceID, spanID: spanID, parentSpanID: value["parentSpanId"]?.string.flatMap(Self.spanID),
            name: origin.name(name), kind: kind(value["kind"]), service: origin.service.map(SafeName.printable),
            start: Timestamp(nanoseconds: start), end: Timestamp(nanoseconds: value["endTimeUnixNano"]?.integer ?? start),
            status: code == "STATUS_CODE_ERROR" || code == "2"
                ? origin.status(status?["message"]?.string) : code == "STATUS_CODE_OK" || code == "1" ? .ok : .unset,
            attributes: origin.attributes(attributes(value["attributes"])),
            links: (value["links"]?.elements ?? []).prefix(256).compactMap { link in
                guard let trace = link["traceId"]?.string.flatMap(Self.traceID),
                    let span = link["spanId"]?.string.flatMap(Self.spanID)
                else { return nil }
                return TraceSpan.Link(trace, span)
            },
            events: (value["events"]?.elements ?? []).prefix(128).compactMap { event in
                guard let name = event["name"]?.string, let time = event["timeUnixNano"]?.integer else { return nil }
                return origin.event(name, at: Timestamp(nanoseconds: time), attributes(event["attributes"]))
            })
    }

    /// `SPAN_KIND_CONSUMER` or 5.
    private static func kind(_ value: JSONValue?) -> SpanKind {
        if let number = value?.integer { return UInt8(exactly: number).flatMap { SpanKind(rawValue: $0) } ?? .internal }
        let name = value?.string?.lowercased() ?? ""
        return SpanKind(name: name.hasPrefix("span_kind_") ? String(name.dropFirst(10)) : name) ?? .internal
    }

    /// `[{"key":…,"value":{"stringValue":…}}]`; arrays and maps are left out.
    private static func attributes(_ value: JSONValue?) -> [String: String] {
        var attributes: [String: String] = [:]
        for attribute in (value?.elements ?? []).prefix(512) {
            guard let key = attribute["key"]?.string, let value = attribute["value"] else { continue }
            for name in ["stringValue", "intValue", "doubleValue", "boolValue"] as [StaticString] {
                if let text = value[name].flatMap(text) { attributes[key] = text }
            }
        }
        return attributes
    }

    // MARK: Both

    private static func text(_ value: JSONValue) -> String? {
        switch value.kind {
        case .string: value.string
        case .number, .boolean: value.text.utf8Text
        case .object, .array, .null: nil
        }
    }

    /// 32 hexadecimal digits, fewer where leading zeros are left out (Jaeger), or the bytes in Base64 (Tempo; proto3's JSON mapping).
    private static func traceID(_ text: String) -> TraceID? {
        if let id = hexadecimal(text, 32).flatMap({ TraceID($0) }) { return id }
        guard let bytes = base64(text), bytes.count == 16 else { return nil }
        let id = TraceID(high: bigEndian(bytes[..<8]), low: bigEndian(bytes[8...]))
        return id.isValid ? id : nil
    }

    private static func spanID(_ text: String) -> SpanID? {
        if let id = hexadecimal(text, 16).flatMap({ SpanID($0) }) { return id }
        guard let bytes = base64(text), bytes.count == 8 else { return nil }
        let id = SpanID(bigEndian(bytes[...]))
        return id.isValid ? id : nil
    }

    private static func bigEndian(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }

    private static func hexadecimal(_ text: String, _ digits: Int) -> String? {
        let isHexadecimal = text.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x41...0x46).contains($0) || (0x61...0x66).contains($0)
        }
        guard isHexadecimal, !text.isEmpty, text.utf8.count <= digits else { return nil }
        return String(repeating: "0", count: digits - text.utf8.count) + text.lowercased()
    }

    /// Base64 with padding (RFC 4648 §4), of a few bytes.
    private static func base64(_ text: String) -> [UInt8]? {
        guard text.utf8.count <= 24, text.utf8.count % 4 == 0 else { return nil }
        var bytes: [UInt8] = []
        var bits: UInt32 = 0
        var count = 0
        for byte in text.utf8 {
            let value: UInt8
            switch byte {
            case 0x41...0x5A: value = byte - 0x41
            case 0x61...0x7A: value = byte - 0x61 + 26
            case 0x30...0x39: value = byte - 0x30 + 52
            case UInt8(ascii: "+"), UInt8(ascii: "-"): value = 62
            case UInt8(ascii: "/"), UInt8(ascii: "_"): value = 63
            case UInt8(ascii: "="): continue
            default: return nil
            }
            bits = bits << 6 | UInt32(value)
            count += 6
            if count >= 8 {
                count -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
            }
        }
        return bytes
    }
}
