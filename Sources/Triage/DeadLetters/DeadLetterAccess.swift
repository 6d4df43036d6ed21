public import Logging
internal import Synchronization
public import TriageEvents
public import TriageKafka
public import TriageProcessing

/// Opens dead letters whose values are encrypted: ``DeadLetterCipher``.
public protocol DeadLetterOpening: Sendable {
    /// What the value of a dead letter says: as it stands if it isn't encrypted, nil for a null value.
    ///
    /// - Throws: if the key is missing or isn't the one, or the bytes were changed; the error's text tells nothing of them.
    func open(_ record: Record) throws -> ByteSlice?

    /// The dead letter as if it had never been encrypted: its value, and the producer's headers.
    ///
    /// - Throws: as ``open(_:)``.
    func opened(_ record: Record) throws -> Record

    /// The text of the error that led to it, which may hold patient data; nil if none was kept.
    ///
    /// - Throws: as ``open(_:)``.
    func openDetail(_ headers: Headers) throws -> String?
}

extension DeadLetterOpening {
    /// With the value opened, and without what tells that it was encrypted.
    public func opened(_ record: Record) throws -> Record {
        var edits = HeaderEdits()
        for name in HeaderName.ofSeals { edits.remove(name) }
        return Record(
            topic: record.topic, partition: record.partition, offset: record.offset, timestamp: record.timestamp, key: record.key,
            value: try open(record), headers: record.headers.replacing(edits, HeaderEdits()))
    }

    /// None.
    public func openDetail(_ headers: Headers) throws -> String? { nil }
}

/// How the tools for dead letters reach the topics.
///
/// One for each run of a tool; ``close()`` ends its clients.
public struct DeadLetterAccess: Sendable {
    /// The dead letter topics, each once.
    public let topics: [String]
    /// Whether ``topics`` were named, and not made of the main topics' names.
    public let isNamed: Bool
    /// The group whose dead letters they are where those don't say.
    public let group: String?
    /// Opens what is encrypted; nil if there is no key.
    public var cipher: (any DeadLetterOpening)?
    /// Told what an operator should know.
    public let logger: Logger
    let scanner: any RecordScanner
    let transactions: @Sendable () throws -> any TransactionalProducer
    let createStateTopic: @Sendable () async throws -> Void
    let clientID: String?

    /// The transactional id of whoever operates dead letters: one for a cluster, so that there is one operator at a time.
    public static let transactionalID = "triage.dead-letters"

    /// Access to the dead letters of `configuration.topics` and of the commands, or of `topics`.
    ///
    /// - Parameters:
    ///   - configuration: the brokers, the group and the main topics.
    ///   - topics: the dead letter topics, for those of other systems whose names don't end in `.dlq`; nil for those beside the
    ///     main topics.
    ///   - cipher: opens what is encrypted; nil for what `configuration` says.
    ///   - logger: told by the Kafka client what keeps it from reaching the brokers.
    /// - Throws: a `KafkaConfigurationError` that names the property that can't be used.
    public init(
        _ configuration: Configuration, topics: [String]? = nil, cipher: (any DeadLetterOpening)? = nil,
        logger: Logger = Logger(label: "triage")
    ) throws(KafkaConfigurationError) {
        let kafka = configuration.kafka
        let mains = configuration.topics + [TopicName.commands]
        self.init(
            topics: topics ?? mains.map { TopicName.deadLetter(of: $0) }, isNamed: topics != nil, group: configuration.group,
            cipher: cipher ?? configuration.deadLetterCipher, scanner: try KafkaRecordScanner(kafka, log: logger.kafkaLog),
            transactions: { try KafkaTransactions(kafka, id: DeadLetterAccess.transactionalID, log: logger.kafkaLog) },
            createStateTopic: { try await DeadLetterAccess.createStateTopic(kafka, logger: logger) }, clientID: kafka.clientID,
            logger: logger)
    }

    /// Access to topics of any broker: those of the test kit among them.
    package init(
        topics: [String], isNamed: Bool = false, group: String?, cipher: (any DeadLetterOpening)? = nil,
        scanner: any RecordScanner, transactions: @escaping @Sendable () throws -> any TransactionalProducer,
        createStateTopic: @escaping @Sendable () async throws -> Void = {}, clientID: String? = nil,
        logger: Logger = Logger(label: "triage")
    ) {
        var seen: Set<String> = []
        self.topics = topics.filter { seen.insert($0).inserted }
        self.isNamed = isNamed
        self.group = group
        self.cipher = cipher
        self.scanner = scanner
        self.transactions = transactions
        self.createStateTopic = createStateTopic
        self.clientID = clientID
        self.logger = logger
    }

    /// Those of these topics that don't exist.
    ///
    /// - Throws: a `BrokerError` if the brokers don't answer.
    public func missing(_ topics: [String]) async throws -> [String] {
        let found = try await partitions(of: topics)
        return topics.filter { found[$0]?.isEmpty ?? true }
    }

    /// The numbers of the partitions of each of these topics; none of one that doesn't exist.
    ///
    /// - Throws: a `BrokerError` if the brokers don't answer.
    public func partitions(of topics: [String]) async throws -> [String: Set<Int32>] {
        var found = Dictionary(topics.map { ($0, Set<Int32>()) }) { first, _ in first }
        for partition in try await scanner.watermarks(of: topics).keys { found[partition.topic]?.insert(partition.partition) }
        return found
    }

    /// The dead letter as if it had never been sealed; one that isn't sealed as it is.
    ///
    /// - Throws: ``OperatorRefusal`` if it is sealed and can't be opened.
    public func opened(_ record: Record) throws(OperatorRefusal) -> Record {
        guard record.headers.last(HeaderName.encryption) != nil else { return record }
        guard let cipher else { throw .encrypted }
        do { return try cipher.opened(record) } catch { throw .notOpened("\(error)") }
    }

    /// Ends the clients that read; operators end their own.
    public func close() { scanner.close() }

    private static func createStateTopic(_ kafka: KafkaConfiguration, logger: Logger) async throws {
        let admin = try KafkaAdmin(kafka, log: logger.kafkaLog)
        defer { admin.close() }
        let topic = TopicPlan.deadLetterState
        let results = try await admin.createTopics(
            [NewTopic(topic.name, partitions: topic.partitions, configuration: topic.configuration)])
        if case .failed(let error) = results[topic.name] { throw error }
    }
}

/// A dead letter with what became of it.
public struct DeadLetterEntry: Sendable {
    /// What its headers tell; of several copies the first one.
    public let letter: DeadLetter
    /// What became of it, or of a copy; nil if nobody did anything about it, so that it is open.
    public let state: DeadLetterState?
    /// Further copies of it that are known, which a crash can leave: whatever is done about one is done about all.
    public let copies: [RecordPosition]

    /// A dead letter with what became of it.
    public init(letter: DeadLetter, state: DeadLetterState?, copies: [RecordPosition] = []) {
        self.letter = letter
        self.state = state
        self.copies = copies
    }

    /// Its status; open if nobody did anything about it.
    public var status: DeadLetterState.Status { state?.status ?? .open }
}

/// Why there is no such dead letter.
public struct NoSuchDeadLetter: Error, Sendable, Hashable, CustomStringConvertible {
    /// What is wrong with the place.
    public enum Reason: Sendable, Hashable {
        /// The topic doesn't exist.
        case noTopic
        /// The topic holds no dead letters, as far as its name says and nobody named it.
        case notDeadLetters
        /// The topic has so many partitions.
        case noPartition(count: Int)
        /// The partition begins later: retention or an operator removed what was there.
        case beforeStart(Int64)
        /// The partition ends there.
        case behindEnd(Int64)
        /// Nothing stands there: a transaction's marker, an aborted record, or one that was compacted.
        case noRecord
    }
    /// What was asked for.
    public let position: RecordPosition
    /// What is wrong with it.
    public let reason: Reason

    /// `reason` is wrong with `position`.
    public init(_ position: RecordPosition, _ reason: Reason) {
        self.position = position
        self.reason = reason
    }

    /// What is wrong and what there is instead.
    public var description: String {
        // What was typed may be anything.
        let topic = PlainText.printable(position.topic)
        let position = "\(topic)/\(position.partition)/\(position.offset)"
        return switch reason {
        case .noTopic: "\(position): there is no topic \(topic)"
        case .notDeadLetters:
            "\(position): \(topic) isn't a dead letter topic by its name; --dlq-topic names it as one if it is"
        case .noPartition(let count):
            "\(position): \(topic) has \(PlainText.count(count, "partition")), 0 to \(max(0, count - 1))"
        case .beforeStart(let first): "\(position): the partition begins at offset \(first): retention took what was before"
        case .behindEnd(let end):
            end == 0
                ? "\(position): the partition is empty" : "\(position): the last offset of the partition is \(end - 1)"
        case .noRecord:
            "\(position): no record stands there: it is a transaction's marker, or was aborted or compacted away"
        }
    }
}

/// Reads the records of `triage.dead-letters` into states; its parser is of one thread at a time.
final class StateReader: Sendable {
    private let decoder = Mutex(EventDecoder())

    func add(_ record: Record, to states: inout DeadLetterStates) {
        states.add(record) { bytes in
            decoder.withLock { decoder in (try? decoder.checkObject(bytes)).flatMap { JSONValue(bytes) } }
        }
    }
}

/// `triage.dead-letters` as far as it was read.
struct ReadStates: Sendable {
    var states = DeadLetterStates()
    /// The next offset of each partition.
    var next: [TopicPartition: Int64] = [:]
    /// Whether the topic exists.
    var exists = false

    /// Reads on to where the topic ends now.
    mutating func read(_ scanner: any RecordScanner) async throws(BrokerError) {
        let ends = try await scanner.watermarks(of: [TopicName.deadLetterState])
        exists = !ends.isEmpty
        var ranges: [TopicPartition: Range<Int64>] = [:]
        for (partition, range) in ends {
            let start = max(range.lowerBound, min(next[partition] ?? range.lowerBound, range.upperBound))
            if start < range.upperBound { ranges[partition] = start..<range.upperBound }
        }
        guard !ranges.isEmpty else { return }
        let reader = StateReader()
        // Moved, not copied: there may be a million of them.
        let box = Box(self)
        self = ReadStates()
        defer { self = box.take() }
        try await scanner.scan(ranges, into: ()) { _, record in
            box.read.withLock { read in
                reader.add(record, to: &read.states)
                // A transaction that is open hides what is behind its first record, so what brought nothing isn't behind us yet.
                read.next[record.topicPartition] = record.offset + 1
            }
            return true
        }
    }

    /// Holds them while they are read.
    private final class Box: Sendable {
        let read: Mutex<ReadStates>

        init(_ read: ReadStates) { self.read = Mutex(read) }

        func take() -> ReadStates {
            read.withLock { read in
                defer { read = ReadStates() }
                return read
            }
        }
    }
}
