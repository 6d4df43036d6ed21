import TriageEvents

@testable import TriageProcessing

/// Follows what became of dead letters for an engine in a world.
///
/// `@unchecked Sendable`: as the world.
final class SimulatedFeed: DeadLetterFeed, @unchecked Sendable {
    private unowned let seat: SimulatedEngine
    private unowned let world: SimulatedWorld
    private var next: Int64 = 0

    init(_ seat: SimulatedEngine) {
        self.seat = seat
        world = seat.world
    }

    func read(_ completion: @escaping @Sendable (Result<DeadLetterChanges, BrokerError>) -> Void) {
        guard !seat.isDead else { return }
        let end = world.broker.states.next
        let isFailure = !world.isCalm && world.chance(world.options.failingReads)
        world.after(world.milliseconds(0.2, world.isCalm ? 5 : 60)) { [self] in
            guard !seat.isDead else { return }
            if isFailure {
                completion(.failure(BrokerError("_TRANSPORT", operation: "read", isRetriable: true)))
                return
            }
            let until = min(end, next + 4)
            let changes = world.broker.states.records.filter { (next..<until).contains($0.offset) }.compactMap(BenchFeed.change)
            next = until
            completion(.success(DeadLetterChanges(changes, position: until, isAtEnd: until == end)))
        }
    }
}
