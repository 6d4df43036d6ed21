import Dispatch
import Synchronization
import TriageEvents
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
