import Synchronization
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// A consumer that does what a script says, poll by poll: for what brokers do and the in-memory one doesn't.
///
/// Used on one thread, as the port demands; behind the script's end polls bring nothing.
final class ScriptedConsumer: RecordConsumer {
    typealias Step = (inout PolledBatch, any AssignmentObserver, ScriptedConsumer) -> Void

    private var script: [Step]
    private weak var observer: (any AssignmentObserver)?
    private(set) var polls = 0
    var committedOffsets: [TopicPartition: Int64] = [:]
    private(set) var commits: [OffsetCommit] = []
    private(set) var paused: Set<TopicPartition> = []
    private(set) var log: [String] = []
    var refusals = 0
    /// Questions for watermarks that a leader on the move doesn't answer.
    var leaderless = 0
    /// Where partitions end, if not at 100, or at 0 for retry partitions.
    var ends: [TopicPartition: Int64] = [:]

    init(_ script: [Step]) { self.script = script }

    var waker: @Sendable () -> Void { {} }
    func subscribe(to topics: [String], observer: any AssignmentObserver) throws(BrokerError) { self.observer = observer }

    func poll(into batch: inout PolledBatch, maximum: Int, timeout: Duration) {
        polls += 1
        guard !script.isEmpty, let observer else { return }
        script.removeFirst()(&batch, observer, self)
    }

    func pause(_ partitions: [TopicPartition]) throws(BrokerError) {
        if refusals > 0 {
            refusals -= 1
            throw BrokerError("_STATE", operation: "pause")
        }
        paused.formUnion(partitions)
        log.append("pause \(partitions.map(\.description).joined(separator: " "))")
    }

    func resume(_ partitions: [TopicPartition]) throws(BrokerError) {
        paused.subtract(partitions)
        log.append("resume \(partitions.map(\.description).joined(separator: " "))")
    }

    func commit(_ offsets: [OffsetCommit]) throws(BrokerError) { commits += offsets }
    func commitAndWait(_ offsets: [OffsetCommit]) throws(BrokerError) { commits += offsets }
    func committed(_ partitions: [TopicPartition], timeout: Duration) throws(BrokerError) -> [TopicPartition: OffsetCommit] {
        committedOffsets.filter { partitions.contains($0.key) }.reduce(into: [:]) {
            $0[$1.key] = OffsetCommit($1.key, offset: $1.value)
        }
    }
    func watermarks(_ partition: TopicPartition, timeout: Duration) throws(BrokerError) -> Range<Int64> {
        if leaderless > 0 {
            leaderless -= 1
            throw BrokerError("NOT_LEADER_FOR_PARTITION", operation: "watermarks", isRetriable: true)
        }
        return 0..<(ends[partition] ?? (TopicName.isRetry(partition.topic) ? 0 : 100))
    }
    func close() {}
}

/// What goes into a script.
enum Script {
    static let main = TopicPartition("fhir.Patient", 0)
    static let retry = TopicPartition("fhir.Patient.retry", 0)

    static func assign(_ partitions: [TopicPartition] = [main, retry]) -> ScriptedConsumer.Step {
        { _, observer, consumer in _ = observer.assigned(partitions, by: consumer) }
    }
    static func revoke(_ partitions: [TopicPartition] = [main, retry]) -> ScriptedConsumer.Step {
        { _, observer, consumer in observer.revoked(partitions, by: consumer) }
    }
    static func lose(_ partitions: [TopicPartition] = [main, retry]) -> ScriptedConsumer.Step {
        { _, observer, consumer in observer.lost(partitions, by: consumer) }
    }
    static func records(
        _ offsets: [Int64], of partition: TopicPartition = main, key: String? = nil, headers: Headers = []
    ) -> ScriptedConsumer.Step {
        { batch, _, _ in
            batch.records += offsets.map { offset in
                Record(
                    topic: partition.topic, partition: partition.partition, offset: offset, timestamp: nil,
                    key: ByteSlice(key ?? "p\(offset)"), value: EngineBench.event("p1", version: Int(offset)), headers: headers
                )
            }
        }
    }
    static func ends(_ offsets: [TopicPartition: Int64]) -> ScriptedConsumer.Step {
        { batch, _, _ in batch.ends += offsets.map { ($0.key, $0.value) } }
    }
    static func error(_ error: BrokerError) -> ScriptedConsumer.Step { { batch, _, _ in batch.errors.append(error) } }
    static func advance(_ clock: ManualClock, by duration: Duration) -> ScriptedConsumer.Step {
        { _, _, _ in clock.advance(by: duration) }
    }
    static var nothing: ScriptedConsumer.Step { { _, _, _ in } }
}
