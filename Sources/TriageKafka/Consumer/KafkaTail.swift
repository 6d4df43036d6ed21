import Synchronization
public import TriageEvents

/// Follows whole topics from some records back, by a client of its own that is in no group and commits nothing.
///
/// A thread of its own reads. A topic that doesn't exist yet is looked for again every second, a partition that stopped bringing
/// records though there are some is begun again. Partitions that are added later are not followed. Memory: about 1 MiB fetched ahead.
public final class KafkaTail: Sendable {
    private let loop: TailLoop

    /// Begins to follow; it connects in the background.
    ///
    /// - Parameters:
    ///   - configuration: where and how to connect; the group is ignored.
    ///   - topics: what to follow.
    ///   - last: how many records back each partition begins, 0 for none.
    ///   - log: receives librdkafka's log lines; nil drops them.
    ///   - ready: called once, on the tail's thread, when it is known where each topic that exists begins.
    ///   - body: gets each record, on the tail's thread, in order within its partition, and whether it was there before the tail began.
    /// - Throws: a ``KafkaConfigurationError`` that names the property that can't be used.
    public init(
        _ configuration: KafkaConfiguration, topics: [String], last: Int64, log: KafkaLog? = nil,
        ready: @escaping @Sendable () -> Void = {}, _ body: @escaping @Sendable (Record, _ isOld: Bool) -> Void
    ) throws(KafkaConfigurationError) {
        loop = TailLoop(
            reader: try ReaderHandle(properties: configuration.properties(for: .reader), log: log),
            admin: try AdminHandle(properties: configuration.properties(for: .admin), log: log), topics: topics,
            last: max(0, last), ready: ready, body: body)
        guard loop.start() else {
            throw KafkaConfigurationError(key: "client", value: "", expected: "a thread of the system's")
        }
    }

    deinit { loop.close() }

    /// Ends it; nothing more is told when this returns, unless it is called by what is told. A second call does nothing.
    public func close() { loop.close() }
}

/// The tail's thread.
private final class TailLoop: Sendable {
    private struct State {
        var isClosing = false
        var thread: NativeThread?
    }

    /// A partition that is followed.
    private struct Following {
        /// Records before this one were there before.
        let began: Int64
        var position: Int64
        var isQuiet = true
    }

    private let reader: ReaderHandle
    private let admin: AdminHandle
    private let topics: [String]
    private let last: Int64
    private let ready: @Sendable () -> Void
    private let body: @Sendable (Record, Bool) -> Void
    private let state = Mutex(State())

    init(
        reader: ReaderHandle, admin: AdminHandle, topics: [String], last: Int64, ready: @escaping @Sendable () -> Void,
        body: @escaping @Sendable (Record, Bool) -> Void
    ) {
        self.reader = reader
        self.admin = admin
        self.topics = topics
        self.last = last
        self.ready = ready
        self.body = body
    }

    func start() -> Bool {
        state.withLock { state in
            state.thread = NativeThread { self.run() }
            return state.thread != nil
        }
    }

    func close() {
        let thread = state.withLock { state in
            defer {
                state.isClosing = true
                state.thread = nil
            }
            return state.thread
        }
        reader.wake()
        thread?.end()
    }

    private var isClosing: Bool { state.withLock { $0.isClosing } }

    private func run() {
        var following: [TopicPartition: Following] = [:]
        var missing = Set(topics)
        var isReady = false
        var nextLook = ContinuousClock.now
        var nextCheck = ContinuousClock.now + .seconds(15)
        var batch = PolledBatch()
        while !isClosing {
            if !missing.isEmpty, ContinuousClock.now >= nextLook {
                let isKnown = look(for: &missing, &following)
                if isKnown, !isReady {
                    isReady = true
                    ready()
                }
                nextLook = ContinuousClock.now + .seconds(1)
            }
            reader.take(into: &batch, maximum: 500, milliseconds: missing.isEmpty ? 1000 : 200)
            for record in batch.records { take(record, &following) }
            for failure in reader.failures { restart(failure.partition, isOutside: failure.error == nil, &following) }
            if ContinuousClock.now >= nextCheck {
                check(&following)
                nextCheck = ContinuousClock.now + .seconds(15)
            }
        }
        for partition in following.keys { reader.stop(partition) }
    }

    /// Begins with the topics that exist by now; tells whether the brokers could be asked.
    private func look(for missing: inout Set<String>, _ following: inout [TopicPartition: Following]) -> Bool {
        do throws(BrokerError) {
            for topic in try admin.topics(milliseconds: 5000) where missing.contains(topic.name) && topic.leaderless.isEmpty {
                for number in 0..<Int32(clamping: topic.partitions) where !isClosing {
                    let partition = TopicPartition(topic.name, number)
                    guard following[partition] == nil else { continue }
                    let range = try reader.watermarks(partition, milliseconds: 5000)
                    let first = max(range.lowerBound, range.upperBound - last)
                    try reader.start(partition, from: first)
                    following[partition] = Following(began: range.upperBound, position: first)
                }
                missing.remove(topic.name)
            }
            return true
        } catch {
            return false
        }
    }

    private func take(_ record: Record, _ following: inout [TopicPartition: Following]) {
        guard var known = following[record.topicPartition], record.offset >= known.position else { return }
        known.position = record.offset + 1
        known.isQuiet = false
        following[record.topicPartition] = known
        body(record, record.offset < known.began)
    }

    /// Partitions that brought nothing since the last check, though they hold something, are begun again: librdkafka doesn't make up
    /// for a start that it dropped (see ``PauseLedger``).
    private func check(_ following: inout [TopicPartition: Following]) {
        for (partition, known) in following where !isClosing {
            guard known.isQuiet else {
                following[partition]?.isQuiet = true
                continue
            }
            guard let range = try? reader.watermarks(partition, milliseconds: 2000), range.upperBound > known.position else {
                continue
            }
            restart(partition, isOutside: range.lowerBound > known.position, &following)
        }
    }

    private func restart(_ partition: TopicPartition, isOutside: Bool, _ following: inout [TopicPartition: Following]) {
        guard var known = following[partition] else { return }
        if isOutside, let range = try? reader.watermarks(partition, milliseconds: 2000) {
            known.position = min(max(known.position, range.lowerBound), range.upperBound)
            following[partition] = known
        }
        reader.stop(partition)
        try? reader.start(partition, from: known.position)
    }
}
