import Dispatch
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// Follows the states in an in-memory broker, a few at a time.
final class BenchFeed: DeadLetterFeed {
    private let broker: InMemoryBroker
    private let next = Mutex<Int64>(0)
    /// A thread of its own, as the follower of a real broker has: the engine waits for it no longer than its limit, and the tests'
    /// shared threads may be busy with other tests for all that time.
    private let thread = DispatchQueue(label: "states")

    init(_ broker: InMemoryBroker) { self.broker = broker }

    func read(_ completion: @escaping @Sendable (Result<DeadLetterChanges, BrokerError>) -> Void) {
        thread.async { [self] in completion(readOn()) }
    }

    private func readOn() -> Result<DeadLetterChanges, BrokerError> {
        let partition = TopicPartition(TopicName.deadLetterState, 0)
        do throws(BrokerError) {
            let end = try broker.inspector().watermarks(partition, timeout: .seconds(1)).upperBound
            return next.withLock { next in
                let until = min(end, next + 3)
                let changes = broker.records(in: partition.topic).filter { (next..<until).contains($0.offset) }
                    .compactMap { record in BenchFeed.change(record) }
                next = until
                return .success(DeadLetterChanges(changes, position: until, isAtEnd: until == end))
            }
        } catch {
            return error.name == "_UNKNOWN_PARTITION" ? .success(DeadLetterChanges(exists: false)) : .failure(error)
        }
    }

    static func change(_ record: Record) -> DeadLetterChanges.Change? {
        guard let key = record.key?.utf8Text.flatMap({ DeadLetterKey($0) }) else { return nil }
        let state = record.value.flatMap { JSONValue($0) }.flatMap { DeadLetterState($0) }
        return DeadLetterChanges.Change(offset: record.offset, key: key, state: state)
    }
}

extension EngineBench {
    /// What the topic of the states says.
    var states: [DeadLetterChanges.Change] { records(TopicName.deadLetterState).compactMap { BenchFeed.change($0) } }

    /// What an operator's tool writes for a dead letter: its replay, and that it was replayed.
    func replay(
        _ offset: Int64, to target: DeadLetterReplay.Target = .retry, id: String = EngineReplayTests.ids[0], isTold: Bool = true,
        copies: [Int64] = []
    ) throws {
        let dead = try #require(deadLetters.first { $0.offset == offset })
        let record = try DeadLetterReplay(to: target, id: id).outbound(dead, at: tracer.clock.now())
        try put(record.value, key: record.key, headers: record.headers, to: record.topic, partition: 0)
        if isTold { for offset in [offset] + copies { try tellReplayed(offset, to: target, id: id) } }
    }

    /// Says that a dead letter was replayed.
    func tellReplayed(
        _ offset: Int64, to target: DeadLetterReplay.Target = .retry, id: String = EngineReplayTests.ids[0], key: String? = nil
    ) throws {
        let letter = DeadLetter(try #require(deadLetters.first { $0.offset == offset }))
        let now = Timestamp(milliseconds: tracer.clock.now().milliseconds)
        let state = DeadLetterState(
            .replayed, time: now, by: "ann", reason: "it is mended", replay: id, replayedBy: "ann", replayedAt: now,
            successor: RecordPosition(topic: target == .retry ? retryTopic : topic, partition: 0, offset: 0),
            origin: letter.origin, originTimestamp: letter.originTimestamp, follows: letter.replay,
            lane: (key.map { ByteSlice($0) } ?? letter.key).map { DeadLetterState.lane(of: $0) })
        try put(
            state.json, key: ByteSlice("workers/\(letter.position)"), to: TopicName.deadLetterState, partition: 0)
    }
}
