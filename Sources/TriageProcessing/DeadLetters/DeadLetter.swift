public import TriageEvents
internal import TriageTelemetry

/// A dead letter as its headers tell it: where it comes from, what failed, how often and in which traces.
///
/// Of what others wrote only names and numbers are taken. Their messages and stack traces may say anything; those stay in the
/// record, and ``foreignTexts(of:)`` reads them for whoever asked to see it.
public struct DeadLetter: Sendable, Hashable {
    /// Where it stands; its name for operators.
    public let position: RecordPosition
    /// When it was written.
    public let written: Timestamp?
    /// Its key, which is the patient's resource id.
    public let key: ByteSlice?
    /// Bytes of its value; nil for a null value.
    public let valueBytes: Int?
    /// Whose headers it carries.
    public let dialect: DeadLetterDialect
    /// The event's first delivery, if it says.
    public let origin: RecordPosition?
    /// When the event was first written, if it says.
    public let originTimestamp: Timestamp?
    /// The consumer group that failed; of Kafka Connect the connector.
    public let group: String?
    /// The failure's class; nil if it doesn't say, as others don't.
    public let errorClass: ErrorClass?
    /// Type, code and path of the error; of others the names of the exception and its cause; `(not shown)` stands for what may be
    /// anything. Nil if it says none.
    public let error: String?
    /// Sixteen hexadecimal digits, equal for the same bug on two patients.
    public let fingerprint: String
    /// When the last attempt failed.
    public let failedAt: Timestamp?
    /// Not to be handled before: of records that wait for a retry, as those of our retry topics and Spring's.
    public let dueAt: Timestamp?
    /// Retries before it was given up.
    public let retries: Int
    /// One entry for each failed attempt, the first and last ones kept; empty in other dialects.
    public let attempts: AttemptLedger
    /// The context of the span that sent it.
    public let context: TraceContext?
    /// The context that the event was first created under.
    public let originContext: TraceContext?
    /// The replay after which it failed again.
    public let replay: ReplayMark?
    /// Set if it has no value since its bytes were refused: they stand at the origin.
    public let isPointer: Bool
    /// Whether value, error text and the producer's headers are sealed.
    public let isSealed: Bool
    /// The id of the key that opens a sealed one: eight hexadecimal digits; nil if it isn't sealed, or doesn't say.
    public let keyID: String?

    /// What a record of a dead letter topic says.
    public init(_ record: Record) {
        let headers = record.headers
        let dialect = DeadLetterDialect(headers)
        position = record.position
        written = record.timestamp
        key = record.key
        valueBytes = record.value?.count
        self.dialect = dialect
        context = headers.last(HeaderName.traceparent).flatMap { TraceContext(traceparent: $0) }
        originContext = headers.last(HeaderName.originTraceparent).flatMap { TraceContext(traceparent: $0) }
        replay = headers.text(HeaderName.replay).flatMap { ReplayMark($0) }
        isPointer = headers.last(HeaderName.pointer) != nil
        isSealed = headers.last(HeaderName.encryption) != nil
        keyID = DeadLetter.keyID(of: headers)
        attempts = headers.last(HeaderName.attempts).map { AttemptLedger($0) } ?? AttemptLedger()
        guard let names = dialect.names else {
            let isOurs = dialect == .triage
            origin = headers.last(HeaderName.origin).flatMap { RecordPosition($0) }.flatMap {
                DeadLetter.name($0.topic) == nil ? nil : $0
            }
            originTimestamp = DeadLetter.time(headers.last(HeaderName.originTimestamp)?.decimal)
            group = headers.text(HeaderName.group).flatMap(DeadLetter.name)
            let errorClass = headers.text(HeaderName.errorClass).flatMap { ErrorClass(rawValue: $0) }
            self.errorClass = errorClass
            let error = isOurs ? headers.text(HeaderName.error).flatMap(VettedText.error) : nil
            self.error = error
            let named = headers.text(HeaderName.errorFingerprint).flatMap { $0.isFingerprint ? $0 : nil }
            fingerprint = named ?? Failure.fingerprint([dialect.rawValue, errorClass?.rawValue ?? "", error ?? ""])
            failedAt = headers.last(HeaderName.failedAt).flatMap { Timestamp(instant: $0) }
            dueAt = DeadLetter.time(headers.last(HeaderName.dueAt)?.decimal)
            retries = DeadLetter.count(headers.last(HeaderName.retryCount)?.decimal)
            return
        }
        let reader = ForeignHeaders(headers: headers, names: names)
        origin = reader.origin
        originTimestamp = DeadLetter.time(reader.number(names.timestamp))
        group = reader.text(names.group).flatMap(DeadLetter.name)
        errorClass = nil
        let parts = [reader.text(names.type), reader.text(names.cause)].map { $0.map(VettedText.typeName) }
        let stage = reader.text(names.stage).map(VettedText.typeName)
        // The cause says what the wrapper around it doesn't.
        let types = [parts[0], parts[1] == parts[0] ? nil : parts[1]].compactMap { $0 }
        var error = types.joined(separator: ", caused by ")
        if let stage { error += error.isEmpty ? "at \(stage)" : " at \(stage)" }
        self.error = error.isEmpty ? nil : error
        fingerprint = Failure.fingerprint([dialect.rawValue] + types + [stage ?? ""])
        failedAt = nil
        dueAt = DeadLetter.time(reader.number(names.dueAt))
        let tries = reader.number(names.attempts)
        // Karafka, share groups and Spring count attempts, of which the first is no retry; NServiceBus counts retries.
        retries = DeadLetter.count(dialect == .nServiceBus ? tries : tries.map { max(0, $0 - 1) })
    }

    /// What two copies of one dead letter share: a crash between its acknowledgement and the commit leaves a second (design §3).
    public var identity: Identity { identity(in: group) }

    /// The same under the group that its state is kept under: see ``DeadLetterKey/init(_:group:)``.
    func identity(in group: String?) -> Identity {
        Identity(
            group: group, origin: origin ?? position, replay: replay, lane: key?.hash64(seed: HeldPatients.laneSeed),
            originTimestamp: originTimestamp)
    }

    /// What two copies of one dead letter share.
    public struct Identity: Sendable, Hashable {
        /// The group that gave it up.
        public let group: String?
        /// The event's first delivery; of one that doesn't say, the dead letter's own place.
        public let origin: RecordPosition
        /// The replay that it followed.
        public let replay: ReplayMark?
        /// A hash of the event's key, ``DeadLetterState/lane(of:)`` as a number: a topic that was made anew has another event at the
        /// same place.
        public let lane: UInt64?
        /// When the event was first written: so has one that was made anew for the same patients.
        public let originTimestamp: Timestamp?

        /// An identity of these parts.
        public init(
            group: String?, origin: RecordPosition, replay: ReplayMark?, lane: UInt64? = nil, originTimestamp: Timestamp? = nil
        ) {
            self.group = group
            self.origin = origin
            self.replay = replay
            self.lane = lane
            self.originTimestamp = originTimestamp
        }
    }

    /// Messages and stack traces that others wrote, by header: they may contain patient data, so they are for reveals only.
    ///
    /// - Parameter maximumBytes: what is kept of each.
    public static func foreignTexts(of headers: Headers, maximumBytes: Int = 16_384) -> [(name: String, text: String)] {
        (DeadLetterDialect(headers).names?.texts ?? []).compactMap { name in
            headers.last(name).map { value in
                (name.description, String(decoding: value.prefix(maximumBytes), as: UTF8.self))
            }
        }
    }

    /// The algorithm that dead letters are sealed by, as their header `triage-encryption` says it (RFC 7518 §5.1 names it so).
    public static let sealAlgorithm = "A256GCM"

    /// The key id in the header `triage-encryption`; nil for anything else than `A256GCM` and eight hexadecimal digits.
    public static func keyID(of headers: Headers) -> String? { headers.text(HeaderName.encryption).flatMap { keyID($0) } }

    /// The key id in such a header's text.
    static func keyID(_ text: String) -> String? {
        let words = text.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 2, words[0] == sealAlgorithm, words[1].utf8.count == 8,
            words[1].utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) })
        else { return nil }
        return String(words[1])
    }

    /// What the value of a sealed dead letter looks like, as its writer found it; nil if it doesn't say.
    public static func shape(of headers: Headers) -> PayloadShape? {
        headers.text(HeaderName.shape).flatMap { PayloadShape(text: $0) }
    }

    // MARK: What is believed

    private static func time(_ milliseconds: Int64?) -> Timestamp? {
        milliseconds.flatMap { EventHistory.plausibleTimes.contains($0) ? Timestamp(milliseconds: $0) : nil }
    }

    private static func count(_ number: Int64?) -> Int {
        Int(clamping: min(max(0, number ?? 0), EventHistory.maximumRetries))
    }

    /// The name of a group that a header says; nil if it is none.
    package static func groupName(_ value: ByteSlice) -> String? { value.utf8Text.flatMap(name) }

    /// The name of a group, connector or topic as they are usually made; nil for other text.
    static func name(_ text: String) -> String? { VettedText.isName(text) ? text : nil }
}

/// The header `triage-replay`: which replay wrote an event anew, and from which dead letter.
public struct ReplayMark: Sendable, Hashable, CustomStringConvertible {
    /// The replay's id: one for each run of the operator's command.
    public let id: String
    /// The dead letter that was replayed.
    public let deadLetter: RecordPosition

    /// A replay of a dead letter.
    ///
    /// - Parameter id: a UUID in lower case.
    public init(id: String, deadLetter: RecordPosition) {
        self.id = id
        self.deadLetter = deadLetter
    }

    /// What `UUID topic/partition/offset` says; nil for anything else, which is foreign text.
    public init?(_ text: String) {
        let parts = text.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 2, AttributeValue.uuid(ByteSlice(String(parts[0]))) != nil,
            let position = RecordPosition(String(parts[1])), DeadLetter.name(position.topic) != nil
        else { return nil }
        self.init(id: String(parts[0]), deadLetter: position)
    }

    /// The header's value.
    public var description: String { "\(id) \(deadLetter)" }
}

/// Reads numbers and texts as a dialect writes them.
struct ForeignHeaders {
    let headers: Headers
    let names: DeadLetterDialect.Names

    var origin: RecordPosition? {
        guard let topic = text(names.topic).flatMap(DeadLetter.name),
            let partition = number(names.partition).flatMap({ Int32(exactly: $0) }),
            let offset = number(names.offset)
        else { return nil }
        return RecordPosition("\(topic)/\(partition)/\(offset)")
    }

    func text(_ name: StaticString?) -> String? { name.flatMap { headers.text($0) } }

    /// A decimal number, or a big-endian one of at most eight bytes, whose first bit is its sign.
    func number(_ name: StaticString?) -> Int64? {
        guard let name, let value = headers.last(name) else { return nil }
        guard names.isBinary else { return value.decimal }
        guard let first = value.first, value.count <= 8 else { return nil }
        return value.reduce(first & 0x80 == 0 ? 0 : -1) { $0 << 8 | Int64($1) }
    }
}

extension String {
    /// Sixteen lower-case hexadecimal digits.
    var isFingerprint: Bool {
        utf8.count == 16 && utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }
}
