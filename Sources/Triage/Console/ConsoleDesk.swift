internal import Synchronization
internal import TriageEvents
internal import TriageProcessing

/// Does what is ordered from a console, one thing at a time, and remembers how the last ones ended.
///
/// The operator is begun for each order and ended right behind it: a console that is only looked at fences nobody.
final class ConsoleDesk: Sendable {
    /// Orders that are remembered.
    static let maximumTasks = 50

    private struct State {
        var tasks: [ConsoleTask] = []
        var work: Task<Void, Never>?
    }

    private let access: DeadLetterAccess
    private let roles: TopicRoles
    private let clock: any EventClock
    private let makeOperator: @Sendable (String) -> DeadLetterOperator
    private let changed: @Sendable () async -> Void
    private let state = Mutex(State())

    /// A desk where nothing was done yet.
    ///
    /// - Parameters:
    ///   - roles: what the topics carry, so that what a patch makes is found to be an event.
    ///   - makeOperator: makes an operator of this name that hasn't begun.
    ///   - changed: called when something was done.
    init(
        _ access: DeadLetterAccess, roles: TopicRoles = TopicRoles(), clock: any EventClock,
        makeOperator: @escaping @Sendable (String) -> DeadLetterOperator,
        changed: @escaping @Sendable () async -> Void
    ) {
        self.access = access
        self.roles = roles
        self.clock = clock
        self.makeOperator = makeOperator
        self.changed = changed
    }

    /// Newest first.
    var tasks: [ConsoleTask] { state.withLock { $0.tasks.reversed() } }

    /// Begins with an order; gives its id.
    func start(_ order: ConsoleOrder, by name: String) throws(ConsoleBusy) -> String {
        let id = randomUUID()
        var kept = order
        kept.patch = nil
        let task = ConsoleTask(
            id: id, order: kept, by: name, isPatched: order.patch != nil, begun: clock.now(),
            state: .running("Taking over as operator."))
        let isBusy = state.withLock { state in
            if state.tasks.contains(where: \.isRunning) { return true }
            state.tasks.append(task)
            if state.tasks.count > ConsoleDesk.maximumTasks { state.tasks.removeFirst() }
            return false
        }
        if isBusy { throw ConsoleBusy() }
        let work = Task { await carryOut(order, id, by: name) }
        state.withLock { $0.work = work }
        return id
    }

    /// Waits until an order has been carried out, or for so long.
    func settle(_ patience: Duration = .seconds(3)) async {
        guard let work = state.withLock({ $0.work }) else { return }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await work.value }
            group.addTask { try? await Task.sleep(for: patience) }
            await group.next()
            group.cancelAll()
        }
    }

    /// Has what is under way end at its next pause, and waits for that. What it has written by then counts.
    func stop() async {
        let work = state.withLock { $0.work }
        work?.cancel()
        await work?.value
    }

    private func set(_ id: String, _ new: ConsoleTask.State) {
        let now = clock.now()
        state.withLock { state in
            guard let index = state.tasks.lastIndex(where: { $0.id == id }) else { return }
            state.tasks[index].state = new
            if !state.tasks[index].isRunning { state.tasks[index].ended = now }
        }
    }

    private func carryOut(_ order: ConsoleOrder, _ id: String, by name: String) async {
        let desk = makeOperator(name)
        do {
            try await desk.begin()
            let selection = try await selection(order)
            set(id, .running("\(ConsoleTexts.count(selection.count, "dead letter")) chosen."))
            let result = try await work(order, desk, selection) { [self] text in set(id, .running(text)) }
            await desk.end()
            await changed()
            set(id, result)
        } catch {
            await desk.end()
            await changed()
            set(id, .failed(ConsoleRouter.safe(error), nameless: ConsoleRouter.safe(error, withNames: false)))
        }
    }

    private func selection(_ order: ConsoleOrder) async throws -> DeadLetterSelection {
        switch order.choice {
        case .some(let ids):
            // Their copies are looked for when they are read.
            try await DeadLetterBrowser(access).check(ids)
            return DeadLetterSelection(ids)
        case .query(let query): return try await DeadLetterBrowser(access).select(query.filter, limit: order.limit)
        }
    }

    private func work(
        _ order: ConsoleOrder, _ desk: DeadLetterOperator, _ selection: DeadLetterSelection,
        tell: @escaping @Sendable (String) -> Void
    ) async throws -> ConsoleTask.State {
        let done = Atomic(0)
        let total = ConsoleTexts.grouped(selection.count)
        @Sendable func progress(_ event: OperatorEvent, _ verb: String) {
            switch event {
            case .waiting(let ended, let count): tell("Waiting for those tried first: \(ended) of \(count) have ended.")
            default:
                let count = done.add(1, ordering: .relaxed).newValue
                if count % 50 == 0 { tell("\(verb) \(ConsoleTexts.grouped(count)) of \(total).") }
            }
        }
        switch order.kind {
        case .replay:
            var options = ReplayOptions()
            options.target = order.target
            options.canary = order.canary
            options.canaryTimeout = order.canaryTimeout
            options.rate = order.rate
            options.force = order.force
            if let patch = order.patch {
                let repair = LetterRepair(patch: patch, roles: roles)
                options.edit = { _, record, value in try repair.applied(to: value, of: record) }
            }
            options.reason = order.reason
            return ConsoleDesk.told(try await desk.replay(selection, options: options) { progress($0, "Replayed") })
        case .discard:
            let report = try await desk.discard(selection, reason: order.reason ?? "") { progress($0, "Discarded") }
            return ConsoleDesk.told(report, "discarded")
        case .reopen:
            let report = try await desk.reopen(selection, reason: order.reason) { progress($0, "Opened") }
            return ConsoleDesk.told(report, "opened again")
        }
    }

    private static func told(_ report: ReplayReport) -> ConsoleTask.State {
        var lines = ["\(ConsoleTexts.count(report.replayed, "dead letter")) replayed."]
        var isWell = report.refused == 0
        switch report.canary {
        case .completed?: lines.append("Those tried first were completed.")
        case .failedAgain(let some)?:
            isWell = false
            lines.append("Of those tried first \(some.count) failed again (\(names(some))), so \(report.left) were left alone.")
        case .timedOut(let some)?:
            isWell = false
            lines.append(
                "Of those tried first \(some.count) hadn't ended in time (\(names(some))), so \(report.left) were left alone.")
        case nil: break
        }
        lines += rest(report.unchanged, report.refusals, report.refused)
        return .done(lines, isWell: isWell)
    }

    private static func told(_ report: StateChangeReport, _ verb: String) -> ConsoleTask.State {
        let lines = ["\(ConsoleTexts.count(report.changed, "dead letter")) \(verb)."]
        return .done(lines + rest(report.unchanged, report.refusals, report.refused), isWell: report.refused == 0)
    }

    private static func rest(
        _ unchanged: [DeadLetterState.Status: Int], _ refusals: [(position: RecordPosition, refusal: OperatorRefusal)],
        _ refused: Int
    ) -> [String] {
        var lines = unchanged.sorted { $0.key.rawValue < $1.key.rawValue }.map { status, count in
            "\(ConsoleTexts.count(count, "dead letter")) left alone: \(ConsoleTexts.word(status)) already."
        }
        lines += refusals.prefix(20).map { "\($0.position): \(said($0.refusal))." }
        if refused > 20 { lines.append("\(refused - 20) more couldn't be done.") }
        return lines
    }

    /// A refusal without the texts of errors that may say anything.
    private static func said(_ refusal: OperatorRefusal) -> String {
        switch refusal {
        case .notOpened: "it can't be decrypted with this key"
        case .notEdited: "the edit failed"
        default: refusal.description
        }
    }

    private static func names(_ some: [RecordPosition]) -> String {
        some.prefix(3).map(\.description).joined(separator: ", ") + (some.count > 3 ? ", …" : "")
    }
}
