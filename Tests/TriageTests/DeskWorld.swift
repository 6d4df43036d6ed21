import Synchronization
import TriageEvents
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

/// A broker in memory with dead letters, and those who operate them.
final class DeskWorld: Sendable {
    static let topic = "fhir.Patient.created"
    static let dlq = "fhir.Patient.created.dlq"
    static let retry = "fhir.Patient.created.retry"
    let clock = ManualClock()
    let broker: InMemoryBroker
    let spans = SpanRecorder()
    let tracer: Tracer
    let meter: Meter
    /// What happens while somebody sleeps.
    let meanwhile = Mutex<(@Sendable () -> Void)?>(nil)
    let slept = Mutex(Duration.zero)

    init(partitions: Int = 3, sampler: Sampler = .parentBased(root: .alwaysOff), hasStateTopic: Bool = true) {
        broker = InMemoryBroker(clock: clock)
        for name in [DeskWorld.topic, DeskWorld.dlq, DeskWorld.retry] { broker.createTopic(name, partitions: partitions) }
        if hasStateTopic { broker.createTopic(TopicName.deadLetterState, partitions: 1) }
        tracer = Tracer(sampler: sampler, clock: clock, processors: [spans])
        meter = Meter(clock: clock)
    }

    func access(
        topics: [String] = [DeskWorld.dlq], isNamed: Bool = false, group: String? = "care",
        cipher: (any DeadLetterOpening)? = nil, transactions: (@Sendable () throws -> any TransactionalProducer)? = nil
    ) -> DeadLetterAccess {
        let broker = broker
        return DeadLetterAccess(
            topics: topics, isNamed: isNamed, group: group, cipher: cipher, scanner: broker.scanner(),
            transactions: transactions ?? { broker.transactions(id: DeadLetterAccess.transactionalID) },
            createStateTopic: { broker.createTopic(TopicName.deadLetterState, partitions: 1) }, clientID: "desk")
    }

    func desk(_ name: String = "ann", _ access: DeadLetterAccess? = nil) -> DeadLetterOperator {
        DeadLetterOperator(access ?? self.access(), by: name, tracer: tracer, meter: meter, clock: clock) { duration in
            self.slept.withLock { $0 += duration }
            self.clock.advance(by: duration)
            self.meanwhile.withLock { $0 }?()
            await Task.yield()
        }
    }

    /// Writes a dead letter of ours; where it stands.
    @discardableResult
    func deadLetter(
        _ origin: Int64, partition: Int32 = 0, key: String? = nil, fingerprint: String = "00000000000000aa",
        value: String? = "{}", extra: [Header] = []
    ) -> RecordPosition {
        write(
            DeskWorld.dlq, partition: partition, key: key ?? "p\(origin)", value: value,
            [
                Header("triage-origin", text: "\(DeskWorld.topic)/\(partition)/\(origin)"),
                Header("triage-group", text: "care"), Header("triage-error-class", text: "persistent"),
                Header("triage-error-fingerprint", text: fingerprint), Header("retryCount", text: "3"),
                Header("my-own", text: "kept"),
            ] + extra)
    }

    @discardableResult
    func write(
        _ topic: String, partition: Int32 = 0, key: String? = nil, value: String? = "{}", _ headers: [Header] = []
    ) -> RecordPosition {
        let place = Mutex<Acknowledgement?>(nil)
        try? broker.producer().produce(
            OutboundRecord(
                topic: topic, partition: partition, key: key.map { ByteSlice($0) }, value: value.map { ByteSlice($0) },
                headers: Headers(headers))
        ) { result in place.withLock { $0 = try? result.get() } }
        clock.advance(by: .milliseconds(1))
        return RecordPosition(topic: topic, partition: partition, offset: place.withLock { $0?.offset } ?? -1)
    }

    /// Writes what a processor would: how the replays that it finds in the retry topic ended.
    func process(_ status: @Sendable (RecordPosition) -> DeadLetterState.Status?) {
        for record in broker.records(in: DeskWorld.retry) {
            guard let mark = record.headers.text(HeaderName.replay).flatMap({ ReplayMark($0) }),
                let status = status(mark.deadLetter)
            else { continue }
            let state = DeadLetterState(status, time: clock.now(), by: "care", replay: mark.id)
            let key = DeadLetterKey(group: "care", position: mark.deadLetter)
            write(TopicName.deadLetterState, key: key.description, value: state.json.utf8Text)
        }
    }

    /// The dead letters that replays were written for and count, one for each record.
    func replays(in topic: String = DeskWorld.retry) -> [RecordPosition] {
        broker.records(in: topic).compactMap { $0.headers.text(HeaderName.replay).flatMap { ReplayMark($0) }?.deadLetter }
    }

    /// The id of the replay that a dead letter was written anew by, the last one.
    func replayID(of letter: RecordPosition, in topic: String = DeskWorld.retry) -> String? {
        broker.records(in: topic).compactMap { $0.headers.text(HeaderName.replay).flatMap { ReplayMark($0) } }
            .last { $0.deadLetter == letter }?.id
    }

    /// What the state topic says, read from its beginning.
    func states() -> DeadLetterStates {
        var states = DeadLetterStates()
        let reader = StateReader()
        for record in broker.records(in: TopicName.deadLetterState) { reader.add(record, to: &states) }
        return states
    }

    func status(_ position: RecordPosition) -> DeadLetterState.Status? {
        states()[DeadLetterKey(group: "care", position: position)]?.status
    }
}

/// A generator whose seed is told when a test fails.
struct Seeded: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}
