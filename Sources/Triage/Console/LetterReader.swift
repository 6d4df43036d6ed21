internal import TriageEvents
internal import TriageProcessing

/// Keeps what a console knows of the dead letters: read when somebody looks and what is known is old, one reading at a time, and of
/// each topic only what came since.
actor LetterReader {
    /// How old may be what is shown before it is read again.
    static let maximumAge: Duration = .seconds(10)

    private let access: DeadLetterAccess
    private let clock: any EventClock
    private var states = ReadStates()
    private var snapshot: LetterSnapshot
    private var reading: Task<Void, Never>?
    private var isStale = false
    private var triedAt: Timestamp?

    init(_ access: DeadLetterAccess, clock: any EventClock) {
        self.access = access
        self.clock = clock
        snapshot = LetterSnapshot(index: LetterIndex(group: access.group))
    }

    /// What is known. Whoever comes first, or after something was done, waits for a reading, but not for long.
    func current(patience: Duration = .seconds(3)) async -> LetterSnapshot {
        let age = triedAt.map { clock.now() - $0 }
        let isOld = isStale || (age.map { $0 > LetterReader.maximumAge || $0 < .zero } ?? true)
        if isOld, reading == nil { reading = Task { await self.read() } }
        if let reading, isStale || snapshot.readAt == nil { await LetterReader.wait(for: reading, patience) }
        return snapshot
    }

    /// Something was done: what is known is old.
    func changed() { isStale = true }

    /// Ends the reading that is under way.
    func stop() async {
        await reading?.value
        access.close()
    }

    private func read() async {
        isStale = false
        triedAt = clock.now()
        do {
            var states = states
            try await states.read(access.scanner)
            let ends = try await access.scanner.watermarks(of: access.topics)
            var index = snapshot.index
            let ranges = index.survey(ends)
            if !ranges.isEmpty {
                index = try await access.scanner.scan(ranges, into: index) { index, record in
                    index.add(record)
                    return true
                }
            }
            index.settle(states.states)
            self.states = states
            snapshot = LetterSnapshot(index: index, readAt: clock.now(), problem: nil)
        } catch {
            snapshot.problem = ConsoleRouter.safe(error)
        }
        reading = nil
    }

    private static func wait(for task: Task<Void, Never>, _ patience: Duration) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await task.value }
            group.addTask { try? await Task.sleep(for: patience) }
            await group.next()
            group.cancelAll()
        }
    }
}
