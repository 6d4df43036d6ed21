public import TriageEvents
public import TriageTelemetry

/// What a retry record or dead letter says about itself: read from its headers, carried on to the next.
public struct EventHistory: Sendable, Hashable {
    /// The first delivery's position; immutable.
    public let origin: RecordPosition
    /// The first record's timestamp; immutable.
    public let originTimestamp: Timestamp?
    /// The `traceparent` value that the event was first created under; immutable.
    public let originTraceparent: ByteSlice?
    /// Retries so far.
    public let retries: Int
    /// Failed attempts so far.
    public var attempts: AttemptLedger { attemptsText.map { AttemptLedger($0) } ?? AttemptLedger() }
    /// Not to be handled before.
    public let dueAt: Timestamp?
    /// Read when they are needed: most records wait first, and one that goes on needs them once.
    private let attemptsText: ByteSlice?
    private let parkedBehindText: ByteSlice?
    private let groupText: ByteSlice?
    /// Why the record waits.
    public let waitReason: WaitReason
    /// The replay that wrote the event anew and the dead letter it was made from: `UUID topic/partition/offset`.
    public let replay: String?

    /// Whether any attempt of it failed: one that was only parked has none.
    public var hasFailedAttempts: Bool { attemptsText.map { AttemptLedger.hasEntry($0) } ?? false }
    /// The origin of the record waited for.
    public var parkedBehind: String? { parkedBehindText?.utf8Text }
    /// The group that failed; nil on a first delivery.
    public var group: String? { groupText?.utf8Text }

    /// The history of a record: a first delivery's is itself.
    ///
    /// - Parameter mainTopic: the topic that its origin is likely to stand in; saves making a copy of the name.
    public init(of record: Record, likely mainTopic: String? = nil) {
        replay = record.headers.text(HeaderName.replay).flatMap(EventHistory.validReplay)
        guard TopicName.isRetry(record.topic) else {
            origin = record.position
            originTimestamp = record.timestamp
            originTraceparent = EventHistory.valid(record.headers.last(HeaderName.traceparent))
            retries = 0
            attemptsText = nil
            dueAt = nil
            parkedBehindText = nil
            groupText = nil
            waitReason = .backoff
            return
        }
        let headers = record.headers
        // Another topic than its own is foreign text, or somebody else's record.
        let named = headers.last(HeaderName.origin).flatMap { RecordPosition($0, likely: mainTopic) }
        let isBelievable = named.map { $0.topic == mainTopic ?? TopicName.main(of: record.topic) || $0.topic == record.topic }
        origin = isBelievable == true ? named ?? record.position : record.position
        func time(_ name: StaticString) -> Timestamp? {
            guard let value = headers.last(name)?.decimal, EventHistory.plausibleTimes.contains(value) else { return nil }
            return Timestamp(milliseconds: value)
        }
        originTimestamp = time(HeaderName.originTimestamp) ?? record.timestamp
        originTraceparent = EventHistory.valid(headers.last(HeaderName.originTraceparent))
        let count = headers.last(HeaderName.retryCount)?.decimal ?? 0
        retries = Int(clamping: min(max(0, count), EventHistory.maximumRetries))
        attemptsText = headers.last(HeaderName.attempts)
        // Whoever wrote it did so before it was due: an earlier time can't be ours.
        dueAt = time(HeaderName.dueAt).map { due in record.timestamp.map { max(due, $0) } ?? due }
        parkedBehindText = headers.last(HeaderName.parkedBehind).flatMap { $0.isText ? $0 : nil }
        groupText = EventHistory.group(of: headers)
        let isScheduled = headers.last(HeaderName.waitReason)?.equals("scheduled" as StaticString) ?? false
        waitReason = parkedBehindText != nil ? .parked : isScheduled ? .scheduled : .backoff
    }

    /// The group that a retry record names; nil if it names none.
    static func group(of headers: Headers) -> ByteSlice? { headers.last(HeaderName.group).flatMap { $0.isText ? $0 : nil } }

    /// Times that are believed, in milliseconds since 1970: from September 2001, before Kafka was, to the end of the year 9999.
    static let plausibleTimes: ClosedRange<Int64> = 1_000_000_000_000...253_402_300_799_999

    /// The value if it is one of ours; anything else is foreign text.
    private static func validReplay(_ text: String) -> String? { ReplayMark(text) == nil ? nil : text }

    /// Retries that are believed: a header says anything, and counting on from there must not overflow.
    static let maximumRetries: Int64 = 1_000_000

    /// The value if it is a `traceparent`, written anew: what is none, or follows it in a later version, is foreign text,
    /// which none of our headers carries.
    private static func valid(_ value: ByteSlice?) -> ByteSlice? {
        guard let value, let context = TraceContext(traceparent: value) else { return nil }
        // Nearly always it stands there just so.
        return context.isWritten(as: value) ? value : context.traceparent
    }
}

/// Builds the headers of retry records and dead letters (design §2). Ours are replaced, foreign ones kept byte for byte.
public enum FailureHeaders {
    /// Room for what one record gets: some 600 bytes for a first retry. With the array's own it stays below what glibc keeps
    /// for each thread, 1,032 bytes.
    private static let capacity = 896

    /// The headers of a retry record after a failure. `isScheduled`: its due time is one that the error named.
    public static func retry(
        _ history: EventHistory, failure: Failure, attempts: AttemptLedger, count: Int, dueAt: Timestamp, at now: Timestamp,
        group: String, writer: String, processTraceparent: @autoclosure () -> ByteSlice?, isScheduled: Bool = false
    ) -> HeaderEdits {
        var edits = common(history, failure, attempts, count, now, group, processTraceparent)
        if isScheduled { edits.set(HeaderName.waitReason, text: "scheduled") } else { edits.remove(HeaderName.waitReason) }
        edits.set(HeaderName.dueAt, number: dueAt.milliseconds)
        edits.set(HeaderName.writer, text: writer)
        edits.remove(HeaderName.parkedBehind)
        return edits
    }

    /// The headers of a record that is parked behind the record from `behind`: no attempt was made, none is charged.
    public static func parked(
        _ history: EventHistory, retries: Int, attempts: AttemptLedger, behind: RecordPosition, group: String, writer: String,
        processTraceparent: @autoclosure () -> ByteSlice?
    ) -> HeaderEdits {
        var edits = HeaderEdits(capacity: capacity)
        edits.set(HeaderName.retryCount, number: Int64(retries))
        edits.set(HeaderName.origin) { $0.append(history.origin) }
        set(HeaderName.originTimestamp, history.originTimestamp?.milliseconds, in: &edits)
        edits.set(HeaderName.originTraceparent, history.originTraceparent ?? processTraceparent())
        edits.set(HeaderName.parkedBehind) { $0.append(behind) }
        edits.set(HeaderName.group, text: group)
        edits.set(HeaderName.writer, text: writer)
        set(HeaderName.replay, history.replay, in: &edits)
        if attempts.entries.isEmpty {
            edits.remove(HeaderName.attempts)
        } else {
            edits.set(HeaderName.attempts) { attempts.write(to: &$0) }
        }
        let others = [
            HeaderName.error, HeaderName.failedAt, HeaderName.errorClass, HeaderName.errorFingerprint, HeaderName.dueAt,
            HeaderName.waitReason,
        ]
        for name in others { edits.remove(name) }
        return edits
    }

    /// The headers of a dead letter.
    ///
    /// - Parameter refusal: the name of the broker's error that kept it from being retried, if one did; `error` says so.
    public static func deadLetter(
        _ history: EventHistory, failure: Failure, attempts: AttemptLedger, count: Int, at now: Timestamp, group: String,
        processTraceparent: @autoclosure () -> ByteSlice?, refusal: String? = nil
    ) -> HeaderEdits {
        var edits = common(history, failure, attempts, count, now, group, processTraceparent, refusal: refusal)
        let others = [
            HeaderName.dueAt, HeaderName.writer, HeaderName.parkedBehind, HeaderName.waitReason, HeaderName.pointer,
        ]
        // Nobody else says that it is sealed.
        for name in others + HeaderName.ofSeals { edits.remove(name) }
        return edits
    }

    /// What makes a dead letter's headers those of a pointer: it has no value, since one of `bytes` bytes was refused with the
    /// error of this name. The event stands where `triage-origin` says.
    public static func pointer(_ headers: HeaderEdits, refusal: String, bytes: Int) -> HeaderEdits {
        var edits = headers.without([HeaderName.pointer, HeaderName.contentType, HeaderName.sealedHeaders])
        edits.set(HeaderName.pointer) {
            $0.append(refusal)
            $0.append(byte: UInt8(ascii: " "))
            $0.append(Int64(bytes))
        }
        return edits
    }

    private static func common(
        _ history: EventHistory, _ failure: Failure, _ attempts: AttemptLedger, _ count: Int, _ now: Timestamp, _ group: String,
        _ processTraceparent: () -> ByteSlice?, refusal: String? = nil
    ) -> HeaderEdits {
        var edits = HeaderEdits(capacity: capacity)
        edits.set(HeaderName.retryCount, number: Int64(count))
        edits.set(HeaderName.error) {
            $0.append(failure.message.text)
            guard let refusal else { return }
            $0.append(", retry refused: " as StaticString)
            $0.append(refusal)
        }
        edits.set(HeaderName.failedAt) { $0.append(iso8601: now) }
        edits.set(HeaderName.origin) { $0.append(history.origin) }
        edits.set(HeaderName.errorClass, text: failure.errorClass.rawValue)
        edits.set(HeaderName.errorFingerprint, text: failure.fingerprint)
        edits.set(HeaderName.attempts) { attempts.write(to: &$0) }
        edits.set(HeaderName.group, text: group)
        // Without a value of ours a header of that name goes: whatever stands there is foreign.
        set(HeaderName.originTimestamp, history.originTimestamp?.milliseconds, in: &edits)
        set(HeaderName.replay, history.replay, in: &edits)
        edits.set(HeaderName.originTraceparent, history.originTraceparent ?? processTraceparent())
        return edits
    }

    private static func set(_ name: StaticString, _ number: Int64?, in edits: inout HeaderEdits) {
        if let number { edits.set(name, number: number) } else { edits.remove(name) }
    }

    private static func set(_ name: StaticString, _ text: String?, in edits: inout HeaderEdits) {
        if let text { edits.set(name, text: text) } else { edits.remove(name) }
    }
}
