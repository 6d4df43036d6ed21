public import TriageEvents
public import TriageProcessing

/// Dead letters as lines of JSON, for a file or another cluster: key, value and headers are in base64, so that every byte of them
/// comes back as it was. Such a file holds patient data.
///
/// A line has `topic`, `partition`, `offset`, `timestamp` (epoch milliseconds), `key`, `value` (null for none) and `headers`,
/// a list of `[name, value]` with both in base64. What else is in it is for readers: `group`, `origin`, `error_class`,
/// `fingerprint`, `status`.
public enum DeadLetterArchive {
    /// The line of a dead letter, without a line end.
    ///
    /// - Parameters:
    ///   - record: the record of the dead letter topic.
    ///   - letter: what it says.
    ///   - state: what became of it.
    public static func line(_ record: Record, _ letter: DeadLetter, state: DeadLetterState?) -> ByteSlice {
        var text = TextBytes(capacity: record.size * 4 / 3 + 512)
        func add(_ name: StaticString, _ write: (inout TextBytes) -> Void) {
            text.append(",\"" as StaticString)
            text.append(name)
            text.append("\":" as StaticString)
            write(&text)
        }
        func base64(_ bytes: ByteSlice?, to text: inout TextBytes) {
            guard let bytes else { return text.append("null" as StaticString) }
            text.append(byte: UInt8(ascii: "\""))
            text.append(Base64.encode(bytes))
            text.append(byte: UInt8(ascii: "\""))
        }
        text.append("{\"topic\":" as StaticString)
        text.append(quoted: record.topic)
        add("partition") { $0.append(Int64(record.partition)) }
        add("offset") { $0.append(record.offset) }
        if let timestamp = record.timestamp { add("timestamp") { $0.append(timestamp.milliseconds) } }
        if let group = letter.group { add("group") { $0.append(quoted: group) } }
        if let origin = letter.origin { add("origin") { $0.append(quoted: origin.description) } }
        if let errorClass = letter.errorClass { add("error_class") { $0.append(quoted: errorClass.rawValue) } }
        add("fingerprint") { $0.append(quoted: letter.fingerprint) }
        add("status") { $0.append(quoted: (state?.status ?? .open).rawValue) }
        add("key") { base64(record.key, to: &$0) }
        add("value") { base64(record.value, to: &$0) }
        add("headers") { text in
            text.append(byte: UInt8(ascii: "["))
            for (index, header) in record.headers.enumerated() {
                text.append((index == 0 ? "[" : ",[") as StaticString)
                base64(ByteSlice(header.name), to: &text)
                text.append(byte: UInt8(ascii: ","))
                base64(header.value, to: &text)
                text.append(byte: UInt8(ascii: "]"))
            }
            text.append(byte: UInt8(ascii: "]"))
        }
        text.append(byte: UInt8(ascii: "}"))
        return text.slice
    }

    /// The record that a line holds.
    ///
    /// - Parameter decoder: tells whether it is JSON; one for each thread.
    /// - Throws: ``DeadLetterArchiveError`` which says what of the line isn't as it should be, and nothing that it says.
    public static func record(_ line: ByteSlice, decoder: EventDecoder) throws(DeadLetterArchiveError) -> Record {
        guard (try? decoder.checkObject(line)) != nil, let value = JSONValue(line) else { throw .noJSON }
        guard let topic = value["topic"]?.string, let partition = value["partition"]?.integer,
            let offset = value["offset"]?.integer,
            let position = RecordPosition("\(topic)/\(partition)/\(offset)")
        else { throw .noPosition }
        guard TopicName.isDeadLetter(topic) else { throw .noDeadLetterTopic }
        var headers: [Header] = []
        guard let list = value["headers"], list.kind == .array else { throw .noHeaders }
        for pair in list.elements {
            let parts = pair.elements
            guard parts.count == 2, let name = parts[0].stringBytes.flatMap({ Base64.decode($0) })?.utf8Text,
                parts[1].kind == .string || parts[1].kind == .null
            else { throw .noHeaders }
            guard parts[1].kind == .string else {
                headers.append(Header(name, nil))
                continue
            }
            guard let bytes = parts[1].stringBytes.flatMap({ Base64.decode($0) }) else { throw .noHeaders }
            headers.append(Header(name, bytes))
        }
        return Record(
            topic: position.topic, partition: position.partition, offset: position.offset,
            timestamp: value["timestamp"]?.integer.map { Timestamp(milliseconds: $0) }, key: try bytes(value, "key"),
            value: try bytes(value, "value"), headers: Headers(headers))
    }

    private static func bytes(_ value: JSONValue, _ name: StaticString) throws(DeadLetterArchiveError) -> ByteSlice? {
        guard let member = value[name] else {
            // A value that is missing isn't one that was null: what was cut off must not become a tombstone.
            var isThere = false
            value.forEachMember { found, _ in
                isThere = found.equals(name)
                return !isThere
            }
            guard isThere else { throw .noBytes }
            return nil
        }
        guard let bytes = member.stringBytes.flatMap({ Base64.decode($0) }) else { throw .noBytes }
        return bytes
    }
}

/// Why a line is none of ``DeadLetterArchive``'s.
public enum DeadLetterArchiveError: Error, Sendable, Hashable, CustomStringConvertible {
    /// It is no JSON object.
    case noJSON
    /// It doesn't say where the record stood.
    case noPosition
    /// The record didn't stand in a dead letter topic.
    case noDeadLetterTopic
    /// Its headers are no list of names and values.
    case noHeaders
    /// Its key or value is missing, or no base64.
    case noBytes

    /// What was expected.
    public var description: String {
        switch self {
        case .noJSON: "expected a JSON object in a line"
        case .noPosition: "expected \"topic\", \"partition\" and \"offset\""
        case .noDeadLetterTopic: "expected a \"topic\" whose name ends in .dlq"
        case .noHeaders: "expected \"headers\": a list of [name, value], both in base64"
        case .noBytes: "expected \"key\" and \"value\": base64, or null"
        }
    }
}

/// Which dead letters are in their topics already, so that importing a file twice writes nothing twice: a value.
///
/// Two are the same if they have one identity (group, origin, replay); of those that say no origin, if they are equal byte for
/// byte. Of each it keeps 16 bytes.
public struct DeadLetterPresence: Sendable {
    private struct Digest: Hashable {
        let first: UInt64
        let second: UInt64
    }
    private var digests: Set<Digest> = []
    private let seeds: (UInt64, UInt64)

    /// Nothing is there.
    public init() { seeds = (.random(in: .min ... .max), .random(in: .min ... .max)) }

    /// How many are there.
    public var count: Int { digests.count }

    /// Notes a dead letter.
    ///
    /// - Returns: whether it wasn't there yet.
    public mutating func insert(_ record: Record) -> Bool {
        let letter = DeadLetter(record)
        var text = TextBytes(capacity: 256)
        text.append(record.topic)
        text.append(byte: 0)
        if letter.origin != nil {
            let identity = letter.identity
            text.append(identity.group ?? "")
            text.append(byte: 0)
            text.append(identity.origin)
            text.append(byte: 0)
            text.append(identity.replay?.description ?? "")
            text.append(byte: 0)
            text.append(Int64(bitPattern: identity.lane ?? 0))
            text.append(byte: 0)
            text.append(identity.originTimestamp?.milliseconds ?? 0)
        } else {
            for bytes in [record.key, record.value] {
                text.append(Int64(bytes?.count ?? -1))
                text.append(byte: 0)
                if let bytes { text.append(bytes) }
            }
            for header in record.headers {
                text.append(header.name)
                text.append(byte: 0)
                text.append(Int64(header.value?.count ?? -1))
                text.append(byte: 0)
                if let value = header.value { text.append(value) }
            }
        }
        let bytes = text.slice
        return digests.insert(Digest(first: bytes.hash64(seed: seeds.0), second: bytes.hash64(seed: seeds.1))).inserted
    }
}
