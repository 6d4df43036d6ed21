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
    public let attempts: AttemptLedger
    /// Not to be handled before.
    public let dueAt: Timestamp?
    /// The origin of the record waited for.
    public let parkedBehind: String?
    /// The group that failed; nil on a first delivery.
    public let group: String?
    /// Why the record waits.
    public let waitReason: WaitReason
    /// The replay that wrote the event anew and the dead letter it was made from: `UUID topic/partition/offset`.
    public let replay: String?

    /// The history of a record: a first delivery's is itself.
    public init(of record: Record) {
        replay = record.headers.text(HeaderName.replay).flatMap(EventHistory.validReplay)
        guard TopicName.isRetry(record.topic) else {
            origin = record.position
            originTimestamp = record.timestamp
            originTraceparent = EventHistory.valid(record.headers.last(HeaderName.traceparent))
            retries = 0
            attempts = AttemptLedger()
            dueAt = nil
            parkedBehind = nil
            group = nil
            waitReason = .backoff
            return
        }
        let headers = record.headers
        func integer(_ name: StaticString) -> Int64? { headers.text(name).flatMap { Int64($0) } }
        origin = headers.text(HeaderName.origin).flatMap { RecordPosition($0) } ?? record.position
        func time(_ name: StaticString) -> Timestamp? {
            integer(name).flatMap { EventHistory.plausibleTimes.contains($0) ? Timestamp(milliseconds: $0) : nil }
        }
        originTimestamp = time(HeaderName.originTimestamp) ?? record.timestamp
        originTraceparent = EventHistory.valid(headers.last(HeaderName.originTraceparent))
        retries = Int(clamping: min(max(0, integer(HeaderName.retryCount) ?? 0), EventHistory.maximumRetries))
        attempts = AttemptLedger(headers.text(HeaderName.attempts) ?? "")
        // Whoever wrote it did so before it was due: an earlier time can't be ours.
        dueAt = time(HeaderName.dueAt).map { due in record.timestamp.map { max(due, $0) } ?? due }
        parkedBehind = headers.text(HeaderName.parkedBehind)
        group = headers.text(HeaderName.group)
        let isScheduled = headers.text(HeaderName.waitReason) == WaitReason.scheduled.rawValue
        waitReason = parkedBehind != nil ? .parked : isScheduled ? .scheduled : .backoff
    }

    /// Times that are believed, in milliseconds since 1970: from September 2001, before Kafka was, to the end of the year 9999.
    static let plausibleTimes: ClosedRange<Int64> = 1_000_000_000_000...253_402_300_799_999

    /// The value if it is one of ours; anything else is foreign text.
    private static func validReplay(_ text: String) -> String? {
        let parts = text.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 2, AttributeValue.uuid(ByteSlice(String(parts[0]))) != nil, RecordPosition(String(parts[1])) != nil,
            TopicName.isDeadLetter(parts[1].prefix { $0 != "/" }.description)
        else { return nil }
        return text
    }

    /// Retries that are believed: a header says anything, and counting on from there must not overflow.
    static let maximumRetries: Int64 = 1_000_000

    /// The value if it is a `traceparent`, written anew: what is none, or follows it in a later version, is foreign text,
    /// which none of our headers carries.
    private static func valid(_ value: ByteSlice?) -> ByteSlice? {
        value.flatMap { TraceContext(traceparent: $0)?.traceparent }
    }
}

/// Builds the headers of retry records and dead letters (design §2). Ours are replaced, foreign ones kept byte for byte.
public enum FailureHeaders {
    /// The headers of a retry record after a failure. `isScheduled`: its due time is one that the error named.
    public static func retry(
        _ history: EventHistory, failure: Failure, attempts: AttemptLedger, count: Int, dueAt: Timestamp, at now: Timestamp,
        group: String, writer: String, processTraceparent: ByteSlice?, isScheduled: Bool = false
    ) -> [Header] {
        common(history, failure, attempts, count, now, group, processTraceparent) + [
            Header("triage-wait-reason", isScheduled ? ByteSlice(WaitReason.scheduled.rawValue) : nil),
            Header("triage-due-at", text: "\(dueAt.milliseconds)"),
            Header("triage-writer", text: writer),
            Header("triage-parked-behind", nil),
        ]
    }

    /// The headers of a record that is parked behind the record from `behind`: no attempt was made, none is charged.
    public static func parked(
        _ history: EventHistory, retries: Int, attempts: AttemptLedger, behind: RecordPosition, group: String, writer: String,
        processTraceparent: ByteSlice?
    ) -> [Header] {
        [
            Header("retryCount", text: "\(retries)"),
            Header("triage-origin", text: history.origin.description),
            Header("triage-origin-timestamp", history.originTimestamp.map { ByteSlice("\($0.milliseconds)") }),
            Header("triage-origin-traceparent", history.originTraceparent ?? processTraceparent),
            Header("triage-parked-behind", text: behind.description),
            Header("triage-group", text: group),
            Header("triage-writer", text: writer),
            Header("triage-replay", history.replay.map { ByteSlice($0) }),
            Header("triage-attempts", attempts.entries.isEmpty ? nil : ByteSlice(attempts.text)),
            Header("error", nil), Header("failedAt", nil), Header("triage-error-class", nil),
            Header("triage-error-fingerprint", nil), Header("triage-due-at", nil), Header("triage-wait-reason", nil),
        ]
    }

    /// The headers of a dead letter.
    ///
    /// - Parameter refusal: the name of the broker's error that kept it from being retried, if one did; `error` says so.
    public static func deadLetter(
        _ history: EventHistory, failure: Failure, attempts: AttemptLedger, count: Int, at now: Timestamp, group: String,
        processTraceparent: ByteSlice?, refusal: String? = nil
    ) -> [Header] {
        var headers = common(history, failure, attempts, count, now, group, processTraceparent)
        if let refusal { headers[1] = Header("error", text: "\(failure.message.text), retry refused: \(refusal)") }
        return headers + [
            Header("triage-due-at", nil), Header("triage-writer", nil), Header("triage-parked-behind", nil),
            Header("triage-wait-reason", nil), Header("triage-pointer", nil),
        ]
    }

    /// What makes a dead letter's headers those of a pointer: it has no value, since one of `bytes` bytes was refused with the
    /// error of this name. The event stands where `triage-origin` says.
    public static func pointer(_ headers: [Header], refusal: String, bytes: Int) -> [Header] {
        headers.filter { $0.name != "triage-pointer" && $0.name != "content-type" }
            + [Header("triage-pointer", text: "\(refusal) \(bytes)")]
    }

    private static func common(
        _ history: EventHistory, _ failure: Failure, _ attempts: AttemptLedger, _ count: Int, _ now: Timestamp, _ group: String,
        _ processTraceparent: ByteSlice?
    ) -> [Header] {
        var headers = [
            Header("retryCount", text: "\(count)"),
            Header("error", text: failure.message.text),
            Header("failedAt", text: now.iso8601),
            Header("triage-origin", text: history.origin.description),
            Header("triage-error-class", text: failure.errorClass.rawValue),
            Header("triage-error-fingerprint", text: failure.fingerprint),
            Header("triage-attempts", text: attempts.text),
            Header("triage-group", text: group),
        ]
        // Without a value of ours a header of that name goes: whatever stands there is foreign.
        headers.append(Header("triage-origin-timestamp", history.originTimestamp.map { ByteSlice("\($0.milliseconds)") }))
        headers.append(Header("triage-replay", history.replay.map { ByteSlice($0) }))
        headers.append(Header("triage-origin-traceparent", history.originTraceparent ?? processTraceparent))
        return headers
    }
}
