public import TriageEvents

/// Makes the record that a dead letter is replayed as: values in, a record out.
public struct DeadLetterReplay: Sendable, Hashable {
    /// Where a replay goes.
    public enum Target: String, Sendable, Hashable, CaseIterable {
        /// The retry topic beside the main topic: only the group that failed takes it, in its place among its patient's events.
        case retry
        /// The main topic: every group that reads it sees the event again, at the end of the topic.
        case origin
    }

    /// Why a dead letter can't be replayed as it was asked for.
    public enum Refusal: Error, Sendable, Hashable {
        /// Its topic's name doesn't end in `.dlq`, it doesn't say where the event came from, and no topic was given.
        case noTopic
        /// It says no group, and none was given.
        case noGroup
        /// It has no value since its bytes were refused, and they weren't read from its origin.
        case valueElsewhere(RecordPosition?)
        /// It is sealed and wasn't opened with the key of this id; nil if it doesn't say which.
        case sealed(keyID: String?)
    }

    /// Where it goes.
    public let target: Target
    /// The replay's id: a UUID in lower case, one for each run of the operator's command.
    public let id: String
    /// For dead letters that others wrote.
    public let group: String?
    /// The main topic that it goes to, or beside; nil for the one that the dead letter came from.
    public let topic: String?

    /// A replay of this id.
    public init(to target: Target, id: String, group: String? = nil, topic: String? = nil) {
        self.target = target
        self.id = id
        self.group = group
        self.topic = topic
    }

    /// The main topic of a dead letter: the one it stands beside, of one in a topic of another name the one that it came from; nil if
    /// it doesn't say.
    public static func mainTopic(of letter: DeadLetter) -> String? {
        let topic = letter.position.topic
        return TopicName.isDeadLetter(topic) ? TopicName.main(of: topic) : letter.origin?.topic
    }

    /// The record to be written, before its trace context is injected.
    ///
    /// On the retry topic it has no retries and is due now; what tells its failures goes, `triage-origin` and its like stay, and
    /// it takes its place by them. Its writer is no consumer, which is how a consumer tells it from one that it must void
    /// (design §3, Order). On the main topic it is a new event: nothing of its failures stays but `triage-replay`.
    ///
    /// - Parameters:
    ///   - record: the dead letter.
    ///   - value: what it is written with in place of its own value: an operator's repair, or the bytes from its origin.
    ///   - now: when it is due.
    public func outbound(_ record: Record, value: ByteSlice? = nil, at now: Timestamp) throws(Refusal) -> OutboundRecord {
        let letter = DeadLetter(record)
        guard let main = topic ?? DeadLetterReplay.mainTopic(of: letter) else { throw .noTopic }
        if letter.isSealed, value == nil, record.value != nil { throw .sealed(keyID: letter.keyID) }
        if letter.isPointer, value == nil { throw .valueElsewhere(letter.origin) }
        guard let owner = letter.group.flatMap({ letter.dialect == .triage ? $0 : nil }) ?? group else { throw .noGroup }
        // One that names a group in another form than groups usually have is for nobody else.
        if letter.dialect == .triage, letter.group == nil, let named = record.headers.last(HeaderName.group), !named.equals(owner)
        {
            throw .noGroup
        }
        var edits = HeaderEdits(capacity: 512)
        for name in DeadLetterReplay.failureHeaders { edits.remove(name) }
        for name in letter.dialect.failureHeaders { edits.remove(name) }
        edits.set(HeaderName.replay, text: ReplayMark(id: id, deadLetter: record.position).description)
        switch target {
        case .origin:
            for name in DeadLetterReplay.originHeaders { edits.remove(name) }
        case .retry:
            edits.set(HeaderName.retryCount, number: 0)
            edits.set(HeaderName.dueAt, number: now.milliseconds)
            edits.set(HeaderName.group, text: owner)
            // Of another's dead letter the place is only known from its own headers.
            if letter.dialect != .triage, let origin = letter.origin, origin.topic == main {
                edits.set(HeaderName.origin) { $0.append(origin) }
                if let time = letter.originTimestamp { edits.set(HeaderName.originTimestamp, number: time.milliseconds) }
            }
        }
        return OutboundRecord(
            topic: target == .retry ? TopicName.retry(of: main) : main, partition: partition(of: letter, beside: main),
            key: record.key,
            value: value ?? record.value, headers: record.headers.replacing(edits, HeaderEdits()))
    }

    /// The number of the partition that the event came from; nil, which leaves it to the partitioner, where that isn't known.
    private func partition(of letter: DeadLetter, beside main: String) -> Int32? {
        if let origin = letter.origin { return TopicName.main(of: origin.topic) == main ? origin.partition : nil }
        return letter.position.topic == TopicName.deadLetter(of: main) ? letter.position.partition : nil
    }

    /// What tells of failures, and of who wrote it.
    private static let failureHeaders: [StaticString] =
        [
            HeaderName.retryCount, HeaderName.error, HeaderName.failedAt, HeaderName.dueAt, HeaderName.parkedBehind,
            HeaderName.errorClass, HeaderName.errorFingerprint, HeaderName.attempts, HeaderName.writer, HeaderName.waitReason,
            HeaderName.pointer, HeaderName.replay,
        ] + HeaderName.ofSeals
    /// What tells of the first delivery: a record in a main topic is one itself.
    private static let originHeaders: [StaticString] = [
        HeaderName.origin, HeaderName.originTimestamp, HeaderName.originTraceparent, HeaderName.group,
    ]
}
