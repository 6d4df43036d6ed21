internal import TriageEvents

/// What may be shown of texts that a trace back end tells: names and numbers, never free text (design §6).
///
/// Our own spans say `telemetry.sdk.name` = `triage` in their resource; what they carry was vetted when they were made. A span of
/// another service in the same trace may have anything in its name and attributes: a URL with an id, a query, a message.
package enum SafeName {
    /// The text without anything that could move a terminal's cursor, and no longer than 300 characters.
    package static func printable(_ text: String) -> String { HarmlessText.printable(text, limit: 300) }

    /// The name of another service's span: an HTTP method, a messaging operation with its destination, or a single word of letters;
    /// anything else is `_OTHER`.
    package static func span(_ name: String) -> String {
        let parts = name.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        guard let first = parts.first else { return "_OTHER" }
        if methods.contains(first) { return first }
        if parts.count == 2, operations.contains(first), isWord(parts[1], more: "-_.") { return name }
        return parts.count == 1 && isWord(first, more: "._:$") ? first : "_OTHER"
    }

    /// The attribute as it may be shown; nil if it may not.
    ///
    /// - Parameter isOwn: whether a span of ours has it.
    package static func attribute(_ key: String, _ value: String, isOwn: Bool) -> TraceSpan.Attribute? {
        guard value.utf8.count <= 300 else { return nil }
        switch key {
        case "messaging.kafka.message.key", "event.resource.id":
            // A plain identifier is a choice for exports; here it doesn't show.
            return isHash(value) ? TraceSpan.Attribute(key, value) : nil
        case "event.id", "messaging.message.conversation_id":
            return AttributeValue.uuid(ByteSlice(value)) != nil || value == "_OTHER" ? TraceSpan.Attribute(key, value) : nil
        case "error.type", "exception.type":
            return TraceSpan.Attribute(key, isType(value) ? value : "_OTHER")
        default: break
        }
        if isOwn {
            guard key.hasPrefix("triage.") || key.hasPrefix("messaging.") || own.contains(key) else { return nil }
            return TraceSpan.Attribute(key, printable(value))
        }
        return others.contains(key) && isType(value) ? TraceSpan.Attribute(key, value) : nil
    }

    private static let methods: Set<String> = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
    private static let operations: Set<String> = [
        "send", "publish", "create", "receive", "poll", "process", "settle", "commit", "ack",
    ]
    private static let own: Set<String> = [
        "event.type", "event.resource.type", "exception.message", "http.request.method", "http.response.status_code",
        "http.route",
        "url.path", "server.address", "server.port",
    ]
    private static let others: Set<String> = [
        "messaging.system", "messaging.operation.name", "messaging.operation.type", "messaging.destination.name",
        "messaging.destination.partition.id", "messaging.kafka.offset", "messaging.consumer.group.name", "http.request.method",
        "http.response.status_code",
    ]

    private static func isWord(_ text: String, more: String) -> Bool {
        (1...100).contains(text.utf8.count)
            && text.utf8.allSatisfy { (0x41...0x5A).contains($0 & 0xDF) && $0 < 0x80 || more.utf8.contains($0) }
    }

    /// The name of a type, a topic or a code.
    private static func isType(_ text: String) -> Bool { HarmlessText.isName(text, limit: 249, more: "._-$:") }

    /// `keyid:16 hex`, as ``IdentifierKey`` writes it.
    private static func isHash(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return bytes.count == 25 && bytes[8] == UInt8(ascii: ":")
            && bytes.enumerated().allSatisfy { index, byte in
                index == 8 || (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte)
            }
    }
}
