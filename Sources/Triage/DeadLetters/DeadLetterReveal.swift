public import TriageEvents
public import TriageKafka
internal import TriageProcessing
internal import TriageTelemetry

/// Puts on record that somebody looked at what a dead letter holds, before he does: in `triage.dead-letters`, under a key of its
/// own, `audit/UUID/topic/partition/offset`.
///
/// It is no operator's transaction and fences nobody.
public struct DeadLetterReveal: Sendable {
    private let access: DeadLetterAccess
    private let producer: @Sendable () throws -> any RecordProducer
    private let clock: any EventClock

    /// On the brokers of `kafka`.
    public init(_ access: DeadLetterAccess, kafka: KafkaConfiguration) {
        self.init(access, clock: SystemClock()) { try KafkaProducer(kafka, log: access.logger.kafkaLog) }
    }

    /// On any broker: those of the test kit among them.
    package init(
        _ access: DeadLetterAccess, clock: any EventClock, producer: @escaping @Sendable () throws -> any RecordProducer
    ) {
        self.access = access
        self.clock = clock
        self.producer = producer
    }

    /// What of a dead letter somebody looks at.
    public enum Action: String, Sendable, Hashable, CaseIterable {
        /// What it holds.
        case reveal
        /// What the event said before it was edited.
        case original
    }

    /// Writes who looked at which dead letter, and when.
    ///
    /// - Parameters:
    ///   - position: the dead letter.
    ///   - action: what of it. Default what it holds.
    ///   - name: who looks.
    ///   - reason: why, if that was said.
    /// - Throws: ``NotRecorded`` if the record wasn't acknowledged: then nothing may be shown.
    public func record(
        _ position: RecordPosition, as action: Action = .reveal, by name: String, reason: String? = nil
    ) async throws(NotRecorded) {
        try await write(action.rawValue, ["\(position)"], at: position, by: name, reason: reason)
    }

    /// Writes who exported dead letters, and when: of which topics, or which of them if they were named.
    ///
    /// - Throws: ``NotRecorded`` if the record wasn't acknowledged: then nothing may be exported.
    public func recordExport(of ids: [RecordPosition], by name: String, reason: String? = nil) async throws(NotRecorded) {
        let what = ids.isEmpty ? access.topics : ids.map { "\($0)" }
        let position =
            ids.first ?? RecordPosition(topic: access.topics.first ?? TopicName.deadLetterState, partition: 0, offset: 0)
        try await write("export", what, at: position, by: name, reason: reason)
    }

    private func write(
        _ action: String, _ what: [String], at position: RecordPosition, by name: String, reason: String?
    ) async throws(NotRecorded) {
        do {
            // Who may only write there must not have to be allowed to make it.
            if try await access.scanner.watermarks(of: [TopicName.deadLetterState]).isEmpty {
                try await access.createStateTopic()
            }
            let producer = try producer()
            defer { producer.close() }
            var value = "{\"action\":\"\(action)\",\"of\":[\(what.map { JSONText($0).quoted }.joined(separator: ","))]"
            value += ",\"time\":\"\(clock.now().iso8601)\",\"by\":\(JSONText(name).quoted)"
            if let reason { value += ",\"reason\":\(JSONText(reason).quoted)" }
            let key = DeadLetterAuditKey(ReplayMark(id: randomUUID(), deadLetter: position))
            let record = OutboundRecord(
                topic: TopicName.deadLetterState, partition: 0, key: ByteSlice(key.description), value: ByteSlice(value + "}"))
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                do {
                    try producer.produce(record) { continuation.resume(with: $0.map { _ in }) }
                } catch {
                    continuation.resume(throwing: error)
                }
            }
        } catch {
            throw NotRecorded(reason: "\(error)")
        }
    }

    /// It couldn't be put on record.
    public struct NotRecorded: Error, Sendable, CustomStringConvertible {
        /// What the brokers or the client said.
        public let reason: String
        /// What that means.
        public var description: String {
            "nothing is revealed, since that can't be put on record in \(TopicName.deadLetterState): \(reason)"
        }
    }
}
