public import TriageEvents
public import TriageProcessing

/// What an event said before an operator changed it: a record of `triage.dead-letters`, whose value is the dead letter's as it
/// stood.
public struct DeadLetterAudit: Sendable {
    /// The replay and the dead letter.
    public let mark: ReplayMark
    /// Who changed it.
    public let by: String
    /// When.
    public let time: Timestamp
    /// Why, in the operator's words.
    public let reason: String?
    /// The value before; nil for a null value. As it stood: encrypted if it was.
    public let original: ByteSlice?
    /// What says how it is encrypted; nil if it isn't.
    public let encryption: String?
    /// Which event it was; nil if that isn't known.
    public let event: Event?
    /// Whether the dead letter only pointed to the event's bytes, and they aren't here either, since what is encrypted isn't to be
    /// written anywhere else: they stand at the event's origin, as long as that is kept.
    public let isElsewhere: Bool

    /// Which event was changed, so that whatever became of it after that leads back to what it said before.
    public struct Event: Sendable, Hashable {
        /// The event's first delivery, which what is encrypted is bound to.
        public let origin: RecordPosition
        /// What stands for its key: `DeadLetterState.lane(of:)`; nil if it has none. A topic that was made anew has other events at the
        /// same places.
        public let lane: String?
        /// When it was first written, if that is known: another event of the same patient may stand there then.
        public let originTimestamp: Timestamp?
        /// The group that gave it up.
        public let group: String?

        init(origin: RecordPosition, lane: String?, originTimestamp: Timestamp?, group: String?) {
            self.origin = origin
            self.lane = lane
            self.originTimestamp = originTimestamp
            self.group = group
        }

        /// The event of a dead letter, under the group that its state is kept under; nil if it doesn't say where it came from.
        init?(_ letter: DeadLetter, group: String?) {
            guard let origin = letter.origin else { return nil }
            self.init(
                origin: origin, lane: letter.key.map { DeadLetterState.lane(of: $0) }, originTimestamp: letter.originTimestamp,
                group: DeadLetterKey(letter, group: group).group)
        }
    }

    private static let byName: StaticString = "triage-by"
    private static let timeName: StaticString = "triage-at"
    private static let reasonName: StaticString = "triage-reason"
    private static let nullName: StaticString = "triage-null"
    private static let laneName: StaticString = "triage-lane"
    /// What ``nullName`` says of a value that was null, and of one that stands elsewhere.
    private static let wasNull = "true"
    private static let elsewhere = "at-origin"

    init(
        mark: ReplayMark, by: String, time: Timestamp, reason: String?, original: ByteSlice?, encryption: String?, event: Event?,
        isElsewhere: Bool = false
    ) {
        self.mark = mark
        self.by = by
        self.time = time
        self.reason = reason
        self.original = original
        self.encryption = encryption
        self.event = event
        self.isElsewhere = isElsewhere
    }

    /// What is kept when `record` is replayed with another value.
    ///
    /// - Parameters:
    ///   - record: the dead letter as it stands.
    ///   - value: what it says; of one that only points to its bytes, what was read at the origin.
    ///   - group: the operator's group.
    init(
        of record: Record, _ letter: DeadLetter, value: ByteSlice?, replay: String, by: String, time: Timestamp, reason: String?,
        group: String?
    ) {
        let isElsewhere = letter.isPointer && letter.isSealed
        self.init(
            mark: ReplayMark(id: replay, deadLetter: letter.position), by: by, time: time, reason: reason,
            original: !letter.isPointer ? record.value : isElsewhere ? nil : value,
            encryption: letter.isPointer ? nil : record.headers.text(HeaderName.encryption),
            event: Event(letter, group: group), isElsewhere: isElsewhere)
    }

    /// What such a record says; nil for any other one.
    public init?(_ record: Record) {
        guard let mark = record.key?.utf8Text.flatMap({ DeadLetterAuditKey($0) })?.mark, let value = record.value,
            let by = record.headers.text(DeadLetterAudit.byName),
            let time = record.headers.last(DeadLetterAudit.timeName).flatMap({ Timestamp(instant: $0) })
        else { return nil }
        let null = record.headers.text(DeadLetterAudit.nullName)
        let origin = record.headers.text(HeaderName.origin).flatMap { RecordPosition($0) }
        self.init(
            mark: mark, by: by, time: time, reason: record.headers.text(DeadLetterAudit.reasonName),
            original: null == nil ? value : nil, encryption: record.headers.text(HeaderName.encryption),
            event: origin.map {
                Event(
                    origin: $0, lane: record.headers.text(DeadLetterAudit.laneName),
                    originTimestamp: record.headers.last(HeaderName.originTimestamp)?.decimal.map { Timestamp(milliseconds: $0) },
                    group: record.headers.text(HeaderName.group))
            }, isElsewhere: null == DeadLetterAudit.elsewhere)
    }

    /// The record. A compacted topic would forget one with a null value, hence the header that says that it was null.
    var outbound: OutboundRecord {
        var headers = [
            Header(DeadLetterAudit.byName.description, text: by),
            Header(DeadLetterAudit.timeName.description, text: time.iso8601),
        ]
        func add(_ name: StaticString, _ text: String?) {
            if let text { headers.append(Header(name.description, text: text)) }
        }
        add(DeadLetterAudit.reasonName, reason)
        add(HeaderName.origin, event?.origin.description)
        add(HeaderName.originTimestamp, event?.originTimestamp.map { "\($0.milliseconds)" })
        add(DeadLetterAudit.laneName, event?.lane)
        add(HeaderName.group, event?.group)
        add(HeaderName.encryption, encryption)
        if original == nil { add(DeadLetterAudit.nullName, isElsewhere ? DeadLetterAudit.elsewhere : DeadLetterAudit.wasNull) }
        return OutboundRecord(
            topic: TopicName.deadLetterState, partition: 0, key: ByteSlice(DeadLetterAuditKey(mark).description),
            value: original ?? ByteSlice(""), headers: Headers(headers))
    }

    /// What it said, in the clear; nil for a null value, and for one that stands elsewhere.
    ///
    /// - Parameter cipher: opens what is encrypted.
    /// - Throws: `OperatorRefusal` if it is encrypted and can't be opened.
    public func opened(_ cipher: (any DeadLetterOpening)?) throws(OperatorRefusal) -> ByteSlice? {
        guard let original, let encryption else { return original }
        guard let cipher else { throw .encrypted }
        var headers = [Header(HeaderName.encryption.description, text: encryption)]
        // Encrypted bytes are bound to the event.
        if let event { headers.append(Header(HeaderName.origin.description, text: event.origin.description)) }
        let place = mark.deadLetter
        let record = Record(
            topic: place.topic, partition: place.partition, offset: place.offset, timestamp: nil, key: nil, value: original,
            headers: Headers(headers))
        do { return try cipher.open(record) } catch { throw .notOpened("\(error)") }
    }

    /// Whether it is an edit of the event that `letter` stands for: of that dead letter, of the one whose replay it became, or of
    /// any other one that the event was before.
    ///
    /// - Parameter event: the dead letter's.
    func isOf(_ letter: DeadLetter, _ event: Event?) -> Bool {
        mark.deadLetter == letter.position || mark == letter.replay || (event != nil && self.event == event)
    }
}

extension DeadLetterBrowser {
    /// What the event of a dead letter said before operators changed it, the first edit first: edits of this dead letter, and of
    /// those that the event was before it was replayed and failed again.
    ///
    /// It reads `triage.dead-letters` to its end, and keeps what belongs to this event alone.
    public func edits(of letter: DeadLetter) async throws -> [DeadLetterAudit] {
        let event = DeadLetterAudit.Event(letter, group: access.group)
        let ranges = try await access.scanner.watermarks(of: [TopicName.deadLetterState]).filter { !$0.value.isEmpty }
        guard !ranges.isEmpty else { return [] }
        let found = try await access.scanner.scan(ranges, into: [DeadLetterAuditKey: DeadLetterAudit]()) { found, record in
            guard let audit = DeadLetterAudit(record), audit.isOf(letter, event) else { return true }
            found[DeadLetterAuditKey(audit.mark)] = audit
            return true
        }
        return found.values.sorted { ($0.time, "\($0.mark)") < ($1.time, "\($1.mark)") }
    }
}
