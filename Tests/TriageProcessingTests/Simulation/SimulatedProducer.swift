import TriageEvents

@testable import TriageProcessing

/// The producer of an engine in a world: idempotent, so in order within a partition; what is under way when its process
/// dies may still land, long after.
///
/// `@unchecked Sendable`: as the world.
final class SimulatedProducer: RecordProducer, @unchecked Sendable {
    private unowned let seat: SimulatedEngine
    private unowned let world: SimulatedWorld
    private let capacity: Int
    private var inFlight = 0
    private var waiters: [@Sendable () -> Void] = []
    /// When the last record for a partition lands, and when it is answered.
    private var landings: [Int: Int64] = [:]
    private var answers: [Int: Int64] = [:]
    /// What hadn't landed when the process died, and never will.
    private var isCut = false
    /// Events whose retry record or dead letter is under way, by index.
    private(set) var underWay: [Int: Int] = [:]
    /// Events whose retry record or dead letter wasn't taken last time.
    private(set) var failed: Set<Int> = []

    init(_ seat: SimulatedEngine, capacity: Int) {
        self.seat = seat
        self.capacity = capacity
        world = seat.world
    }

    func crashed() { isCut = world.chance(50) }

    func produce(
        _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
    ) throws(BrokerError) {
        if seat.passes(.produce) { return }
        guard let log = world.broker.log(TopicPartition(record.topic, record.partition ?? 0)) else {
            throw BrokerError("_UNKNOWN_PARTITION", operation: "produce")
        }
        let event = world.referee.event(of: record.headers) ?? -1
        if inFlight >= capacity {
            world.note(.refused, seat, event, log.index * 1_000_000)
            throw BrokerError("_QUEUE_FULL", operation: "produce", isRetriable: true)
        }
        inFlight += 1
        underWay[event, default: 0] += 1
        world.note(.sent, seat, event, log.index * 1_000_000)
        let send = world.witness.sent(record, log.kind, event: event, by: seat)
        let fate = world.broker.fate(world.broker.produceFates)
        let isFatal = world.broker.takeFatal()
        let delay = fate == .late ? world.milliseconds(200, 5000) : world.milliseconds(0.1, 12)
        let landing = max((landings[log.index] ?? 0) + 1000, world.now + delay)
        landings[log.index] = landing
        var answer = max((answers[log.index] ?? 0) + 1000, landing + world.milliseconds(0.05, 8))
        // A time-out may be reported before the record lands.
        if fate == .unacknowledged, world.chance(50) {
            answer = max((answers[log.index] ?? 0) + 1000, world.now + world.milliseconds(0.1, 6))
        }
        answers[log.index] = answer
        let slot = Slot()
        let owner = SimulatedEvent.Owner(engine: seat.number, generation: seat.consumer.generation)
        if fate != .refused, !(isFatal && world.chance(50)), world.options.spoil?.swallows(record) != true {
            world.broker.underWay += 1
            world.at(landing) { [self] in
                world.broker.underWay -= 1
                guard !(seat.isDead && isCut) else { return }
                let stored = world.broker.append(record, to: log)
                slot.offset = stored.offset
                world.note(.landed, seat, event, log.index * 1_000_000 + Int(stored.offset))
                if log === world.broker.states {
                    world.referee.told(stored, by: owner)
                } else {
                    world.referee.landed(stored, in: log, by: owner)
                }
                seat.passes(.landed)
            }
        } else if world.options.spoil?.swallows(record) == true {
            slot.offset = log.next
        }
        world.at(answer) { [self] in
            if seat.isDead { return }
            let left = (underWay[event] ?? 1) - 1
            underWay[event] = left == 0 ? nil : left
            inFlight -= 1
            let waiting = waiters
            waiters.removeAll()
            if isFatal {
                world.witness.answered(send, isStored: false, at: world.now, by: seat)
                completion(.failure(BrokerError("_FATAL", operation: "produce", isFatal: true)))
            } else if fate == .refused || fate == .unacknowledged {
                world.note(.notStored, seat, event, log.index * 1_000_000 + Int(slot.offset ?? 0))
                world.referee.unacknowledged(event, in: log)
                failed.insert(event)
                world.witness.answered(send, isStored: false, at: world.now, by: seat)
                completion(.failure(BrokerError("_MSG_TIMED_OUT", operation: "produce", isRetriable: true)))
            } else if let offset = slot.offset {
                world.note(.acknowledged, seat, event, log.index * 1_000_000 + Int(offset))
                if seat.passes(.acknowledged) { return }
                failed.remove(event)
                world.referee.acknowledged(event, at: offset, in: log, by: seat, since: owner.generation)
                world.witness.answered(send, isStored: true, at: world.now, by: seat)
                let shift = log.kind == .retry ? world.options.spoil?.misplaces(world) ?? 0 : 0
                completion(.success(Acknowledgement(partition: log.id.partition, offset: max(0, offset + shift))))
            }
            for waiter in waiting { waiter() }
        }
    }

    /// Where a record has landed.
    private final class Slot { var offset: Int64? }

    func whenWritable(_ body: @escaping @Sendable () -> Void) {
        if inFlight < capacity { body() } else { waiters.append(body) }
    }

    func flush(timeout: Duration) async -> Bool { inFlight == 0 }
    func close() {}
}

/// Reads records again for an engine in a world.
///
/// `@unchecked Sendable`: as the world.
final class SimulatedReader: RecordReader, @unchecked Sendable {
    private unowned let seat: SimulatedEngine
    private unowned let world: SimulatedWorld

    init(_ seat: SimulatedEngine) {
        self.seat = seat
        world = seat.world
    }

    func read(
        _ offsets: [Int64], of partition: TopicPartition,
        completion: @escaping @Sendable (Result<[Record], BrokerError>) -> Void
    ) {
        guard !seat.isDead else { return }
        let delay = world.isCalm || world.chance(90) ? world.milliseconds(0.5, 30) : world.milliseconds(100, 900)
        let isFailure = !world.isCalm && world.chance(world.options.failingReads)
        world.note(.reread, seat, world.broker.log(partition)?.index ?? -1, offsets.count)
        world.after(delay) { [self] in
            guard !seat.isDead, let log = world.broker.log(partition) else { return }
            if isFailure {
                completion(.failure(BrokerError("_TRANSPORT", operation: "read", isRetriable: true)))
                return
            }
            completion(
                .success(
                    offsets.compactMap { offset in
                        let index = log.firstIndex(from: offset)
                        return index < log.records.count && log.records[index].offset == offset ? log.records[index] : nil
                    }))
        }
    }

    func close() {}
}
