import TriageEvents

@testable import TriageProcessing

/// What a patient's event is, and what has become of it, seen from outside the engines.
struct SimulatedEvent {
    let index: Int
    /// The main partition that it stands in, and where.
    let log: SimulatedLog
    let offset: Int64
    /// Whose it is; nil if it belongs to nobody's lane.
    let patient: Int?
    let plan: Plan
    /// Retry records that were stored: whose they are, and whether it knows.
    var copies: [(offset: Int64, owner: Owner, isAcknowledged: Bool)] = []
    /// Dead letters that were stored, by offset.
    var deadLetters: [Int64] = []
    /// When it ended, and whether whoever ended it still had the partition.
    var ends: [(time: Int64, isDetached: Bool, isDeadLetter: Bool)] = []
    /// When an attempt with this number began last, and whether its engine still had the partition.
    var attempts: [Int: (time: Int64, isDetached: Bool)] = [:]
    var calls = 0
    /// A dead letter was reported as failed that may have been stored.
    var isDeadLetterUnsure = false
    /// A retry record landed when its writer had the partition no more: whoever comes next can't always tell that it is void.
    var hasStaleCopy = false
    /// Compaction took it.
    var isCompacted = false
    /// Set if it is a replay, which stands at its event's place and comes to an end of its own.
    var mark: String?
    /// It says that it is one: then its own retries aren't void without an order when main redelivers it.
    var isMarked = false

    var isFinished: Bool { !ends.isEmpty }
    var position: RecordPosition { RecordPosition(topic: log.id.topic, partition: log.id.partition, offset: offset) }
    /// The patient's lane, or one of its own.
    var lane: Int { patient ?? -1 - index }

    /// An engine, during one of its assignments.
    struct Owner: Equatable {
        let engine: Int
        let generation: Int
    }

    /// What its handler makes of it.
    enum Plan: Equatable {
        case succeed
        /// Fails on so many attempts.
        case transient(Int), unexpected(Int), later(Int, milliseconds: Int)
        case persistent(after: Int)
        /// Can't be decoded.
        case malformed
    }
}

/// Judges what happens in a world by its own bookkeeping, which knows nothing of how the engine does it.
final class Referee {
    unowned let world: SimulatedWorld
    private(set) var events: [SimulatedEvent] = []
    /// By main log: its events by offset, and those that are not finished by the lane that they are in.
    private var byOffset: [Int: [Int64: Int]] = [:]
    private var byMark: [String: Int] = [:]
    /// Replays by their ids.
    private var byReplay: [String: Int] = [:]
    private var open: [Int: [Int: [Int]]] = [:]
    /// By main log: when something happened after which events may be delivered again.
    private var disturbances: [Int: [Int64]] = [:]
    private(set) var deadLetters = 0
    /// What the topic of the states says, when it was stored, and by which engine.
    private var states: [(change: DeadLetterChanges.Change, time: Int64, owner: SimulatedEvent.Owner?)] = []
    /// Dead letters that were told to hold their patients.
    private(set) var opened = 0
    /// Ends of replays that were told.
    private(set) var told = 0
    private(set) var duplicates = 0
    private(set) var completions = 0
    /// How often open retries were counted by the topics, and how many there were.
    var recounts = 0
    var recounted = 0
    /// When a retry partition's ledger began to be longer than it may stay.
    var tooLong: [TopicPartition: Int64] = [:]
    /// Of calls in the calm after everything was stopped: there must be none.
    var isAfterEnd = false

    init(_ world: SimulatedWorld) { self.world = world }

    var unfinished: [SimulatedEvent] { events.filter { !$0.isFinished && !$0.isCompacted } }

    func name(of index: Int) -> String {
        guard events.indices.contains(index) else { return "?" }
        let event = events[index]
        return "\(event.log.id)/\(event.offset)(p\(event.patient ?? -1))"
    }

    // MARK: What there is

    func published(_ log: SimulatedLog, _ offset: Int64, patient: Int?, plan: SimulatedEvent.Plan, isMarked: Bool = false) {
        let index = events.count
        events.append(
            SimulatedEvent(index: index, log: log, offset: offset, patient: patient, plan: plan, isMarked: isMarked))
        byOffset[log.index, default: [:]][offset] = index
        open[log.index, default: [:]][events[index].lane, default: []].append(index)
        world.note(.published, nil, index)
    }

    /// An operator wrote an event anew.
    func replayed(_ index: Int, mark: String, plan: SimulatedEvent.Plan) {
        let event = events[index]
        byMark[mark] = events.count
        if let id = ReplayMark(mark)?.id { byReplay[id] = events.count }
        events.append(
            SimulatedEvent(
                index: events.count, log: event.log, offset: event.offset, patient: event.patient, plan: plan, mark: mark))
        world.note(.replayed, nil, events.count - 1)
    }

    func event(at position: RecordPosition) -> Int? {
        guard let log = world.broker.log(position.topicPartition) else { return nil }
        return byOffset[log.index]?[position.offset]
    }

    func event(of headers: Headers) -> Int? {
        let origin = headers.text(HeaderName.origin).flatMap { RecordPosition($0) }
        // Anybody can say that an event is a replay: one that is stands at its event's place.
        if let mark = headers.text(HeaderName.replay), let replay = byMark[mark], events[replay].position == origin {
            return replay
        }
        return origin.flatMap { event(at: $0) }
    }

    func compacted(_ index: Int) {
        events[index].isCompacted = true
        world.note(.compacted, nil, index)
    }

    /// Something happened to whoever has these partitions: what isn't committed may be delivered again.
    func disturbed(_ logs: [SimulatedLog]) {
        for log in logs { disturbances[world.broker.main(of: log).index, default: []].append(world.now) }
    }

    private func wasDisturbed(_ log: SimulatedLog, since time: Int64) -> Bool {
        (disturbances[log.index]?.last ?? .min) >= time
    }

    // MARK: What engines do

    /// A handler begins.
    func began(_ context: HandlerContext, in engine: SimulatedEngine) -> Int? {
        guard let index = event(of: context.record.headers) ?? event(at: context.origin) else {
            world.violate("a handler is called for something that was never published: \(context.origin)")
            return nil
        }
        world.note(.began, engine, index, context.attempt)
        let event = events[index]
        if isAfterEnd { world.violate("\(name(of: index)) is handled again after a clean stop") }
        if context.attempt > engine.configuration.retry.retries + 1 || context.attempt < 1 {
            world.violate("\(name(of: index)): attempt \(context.attempt)")
        }
        if let patient = event.patient, engine.busy.keys.contains(where: { events[$0].patient == patient }) {
            world.violate("\(name(of: index)): a second handler call for one patient in one engine")
        }
        let isDetached = isDetached(event, engine)
        if world.options.rules.contains(.attempts), let last = event.attempts[context.attempt], !last.isDetached, !isDetached,
            !event.hasStaleCopy, !(event.isMarked && engine.configuration.ordering == .none),
            engine.configuration.outage == nil, !wasDisturbed(event.log, since: last.time)
        {
            world.violate("\(name(of: index)): attempt \(context.attempt) again, and nothing had happened")
        }
        events[index].attempts[context.attempt] = (world.now, isDetached)
        events[index].calls += 1
        engine.busy[index, default: 0] += 1
        expectPredecessorsFinished(event, "begins")
        if !isDetached { expectNotHeld(event, engine) }
        return index
    }

    func left(_ index: Int, _ engine: SimulatedEngine) {
        let calls = engine.busy[index] ?? 1
        engine.busy[index] = calls == 1 ? nil : calls - 1
    }

    private func expectPredecessorsFinished(_ event: SimulatedEvent, _ what: String) {
        guard world.options.rules.contains(.order), event.patient != nil, !event.isFinished else { return }
        for earlier in open[event.log.index]?[event.lane] ?? [] {
            if events[earlier].offset < event.offset, !events[earlier].isCompacted {
                world.violate("\(name(of: event.index)) \(what) before \(name(of: earlier)) is finished")
            }
        }
    }

    /// Whether an engine works on something that isn't its own any more.
    private func isDetached(_ event: SimulatedEvent, _ engine: SimulatedEngine) -> Bool {
        engine.consumer.isEvicted || !engine.consumer.assignment.contains { $0 === event.log }
    }

    /// - Parameter generation: of the group, when the handler began.
    func succeeded(_ index: Int, in engine: SimulatedEngine, since generation: Int) {
        world.note(.succeeded, engine, index)
        expectPredecessorsFinished(events[index], "is completed")
        completions += 1
        end(index, isDeadLetter: false, by: engine, since: generation)
    }

    private func end(_ index: Int, isDeadLetter: Bool, by engine: SimulatedEngine, since generation: Int) {
        let event = events[index]
        let isDetached = isDetached(event, engine) || generation != engine.consumer.generation
        if let last = event.ends.last {
            duplicates += 1
            let isExcused =
                isDetached || event.hasStaleCopy || (event.isMarked && engine.configuration.ordering == .none)
                || event.ends.contains { $0.isDetached }
                || wasDisturbed(event.log, since: last.time)
                || (isDeadLetter && last.isDeadLetter && event.isDeadLetterUnsure)
            if !isExcused, world.options.rules.contains(.duplicates) {
                world.violate("\(name(of: index)) ends a second time, and nothing had happened")
            }
        }
        events[index].ends.append((world.now, isDetached, isDeadLetter))
        guard event.ends.isEmpty, event.mark == nil else { return }
        open[event.log.index]?[event.lane]?.removeAll { $0 == index }
        if open[event.log.index]?[event.lane]?.isEmpty == true { open[event.log.index]?[event.lane] = nil }
    }

    /// A retry record or dead letter was stored.
    func landed(_ record: Record, in log: SimulatedLog, by owner: SimulatedEvent.Owner) {
        guard let index = event(of: record.headers) else {
            world.violate("\(record.position) has no origin")
            return
        }
        let event = events[index]
        if event.log !== world.broker.main(of: log) { world.violate("\(record.position) is not beside its origin") }
        let count = record.headers.text(HeaderName.retryCount).flatMap { Int($0) } ?? -1
        let limit = world.options.configuration.retry.retries
        if log.kind == .retry {
            if owner.generation != world.broker.generation { events[index].hasStaleCopy = true }
            events[index].copies.append((record.offset, owner, false))
            if count < 0 || count > limit { world.violate("\(name(of: index)): retryCount \(count)") }
        } else {
            events[index].deadLetters.append(record.offset)
            deadLetters += 1
            let isPersistent = record.headers.text(HeaderName.errorClass) == ErrorClass.persistent.rawValue
            let isCrashed = record.headers.text(HeaderName.error)?.contains("crashed") == true
            if !isPersistent, !isCrashed, count != limit {
                world.violate("\(name(of: index)) is dead-lettered after \(count) of \(limit) retries")
            }
        }
    }

    func acknowledged(_ index: Int, at offset: Int64, in log: SimulatedLog, by engine: SimulatedEngine, since generation: Int) {
        guard events.indices.contains(index) else { return }
        if log.kind == .retry {
            if let copy = events[index].copies.firstIndex(where: { $0.offset == offset }) {
                events[index].copies[copy].isAcknowledged = true
            }
        } else if events[index].deadLetters.contains(offset) {
            end(index, isDeadLetter: true, by: engine, since: generation)
        }
    }

    func unacknowledged(_ index: Int, in log: SimulatedLog) {
        if log.kind == .deadLetter, events.indices.contains(index) { events[index].isDeadLetterUnsure = true }
    }

    /// A commit was applied: whatever isn't finished must still be somewhere.
    func committed(_ log: SimulatedLog, from before: Int64, by owner: SimulatedEvent.Owner) {
        guard let committed = log.committed else { return }
        if committed.offset < before { world.violate("\(log.id): committed \(committed.offset) after \(before)") }
        if committed.offset > log.next { world.violate("\(log.id): committed \(committed.offset), behind the end") }
        guard world.options.rules.contains(.carriers) else { return }
        let main = world.broker.main(of: log)
        let retry = world.broker.twin(of: main)
        for index in (open[main.index] ?? [:]).values.joined() {
            let event = events[index]
            if event.isCompacted || !main.covers(event.offset) { continue }
            // Who wrote a record relies on it when it is acknowledged; others when they have read it.
            if !event.copies.contains(where: { ($0.isAcknowledged || $0.owner != owner) && !retry.covers($0.offset) }) {
                world.violate("\(name(of: index)) is committed as complete and is nowhere: \(log.id) \(committed.offset)")
            }
        }
    }

    /// A state of a dead letter was stored.
    func told(_ record: Record, by owner: SimulatedEvent.Owner?) {
        guard let change = BenchFeed.change(record) else {
            world.violate("a state can't be read: \(record.value?.utf8Text ?? "")")
            return
        }
        if owner != nil { expectTrue(change) }
        states.append((change, world.now, owner))
        if change.state?.status == .open { opened += 1 }
    }

    /// What an engine tells of a dead letter is so: an operator had replayed it, and that is how the replay ended; or main has brought its
    /// event again, which went well.
    private func expectTrue(_ change: DeadLetterChanges.Change) {
        guard let state = change.state, state.status == .completed || state.status == .failedAgain else { return }
        let name = "\(change.key.position) is told as \(state.status.rawValue)"
        guard let replay = state.replay else {
            let isHandled = events.contains { $0.position == state.origin && $0.ends.contains { !$0.isDeadLetter } }
            if state.status == .failedAgain || !isHandled { world.violate("\(name), and its event wasn't") }
            return
        }
        let wasReplayed = states.contains {
            $0.owner == nil && $0.change.key == change.key && $0.change.state?.status == .replayed
                && $0.change.state?.replay == replay
        }
        guard wasReplayed, let index = byReplay[replay] else {
            world.violate("\(name) by a replay that nobody asked for")
            return
        }
        if !events[index].ends.contains(where: { $0.isDeadLetter == (state.status == .failedAgain) }) {
            world.violate("\(name), and its replay \(self.name(of: index)) wasn't")
        }
        if state.replayedBy != "operator" || state.reason != "because" { world.violate("\(name), and not who asked for it") }
        told += 1
    }

    /// How every replay ended has been told.
    func expectTold() {
        var last: [RecordPosition: DeadLetterState] = [:]
        for (change, _, _) in states { last[change.key.position] = change.state }
        let ended = Set(states.compactMap { $0.owner == nil ? nil : $0.change.state?.replay })
        for (letter, state) in last where state.status == .replayed && state.replay.map({ ended.contains($0) }) != true {
            let story = states.filter { $0.change.key.position == letter }.map {
                "\(($0.time - world.start) / 1_000_000) \($0.change.state?.status.rawValue ?? "-") \($0.change.state?.replay?.suffix(2) ?? "")"
            }
            let replay = state.replay.flatMap { byReplay[$0] }.map { events[$0] }
            let ends = replay?.ends.map { "\(($0.time - world.start) / 1_000_000) \($0.isDeadLetter)" } ?? []
            world.violate("nobody has told how the replay of \(letter) ended: \(story), ends \(ends)")
        }
    }

    /// By what the topic says, and no more than this engine must know: what stood there when it took its partitions over, and what it
    /// wrote itself since.
    private func expectNotHeld(_ event: SimulatedEvent, _ engine: SimulatedEngine) {
        guard world.options.rules.contains(.holds), engine.configuration.deadLetters == .sequence,
            engine.configuration.ordering == .perKey, event.patient != nil
        else { return }
        let me = SimulatedEvent.Owner(engine: engine.number, generation: engine.consumer.generation)
        var held = HeldPatients(group: engine.configuration.group)
        for (change, time, owner) in states {
            let holds = change.state?.status == .open || change.state?.status == .replayed
            if holds, time >= engine.consumer.assignedAt, owner != me { continue }
            _ = held.apply(change.key, change.state, at: change.offset)
        }
        for head in held.heads(of: event.log.id) where head.origin.offset < event.offset {
            guard let index = self.event(at: head.origin), events[index].patient == event.patient else { continue }
            world.violate("\(name(of: event.index)) begins, held behind \(head.letter)")
        }
    }

    /// The dead letters that an operator has to decide about, since they hold their patients.
    var undecided: [RecordPosition] {
        var last: [RecordPosition: DeadLetterState.Status] = [:]
        for (change, _, _) in states { last[change.key.position] = change.state?.status }
        return last.filter { $0.value == .open }.keys.sorted()
    }

    /// What is known of a dead letter.
    func state(of letter: RecordPosition) -> DeadLetterState? { states.last { $0.change.key.position == letter }?.change.state }

    /// Partitions were given back: whoever was busy with something of theirs leaves it undone.
    func revoked(_ logs: [SimulatedLog], from engine: SimulatedEngine) {
        for log in logs where log.kind == .main {
            let isBusy =
                engine.busy.keys.contains { events[$0].log === log }
                || engine.producer.underWay.keys.contains { $0 >= 0 && events[$0].log === log }
                || engine.producer.failed.contains { events.indices.contains($0) && events[$0].log === log }
            if isBusy { disturbed([log]) }
        }
    }

    func ended(_ engine: SimulatedEngine) {
        let isIncomplete = engine.notices.contains { if case .drainIncomplete = $0.notice { true } else { false } }
        if engine.failure != nil || isIncomplete { disturbed(world.broker.logs) }
        if engine.failure == nil { expectEmpty(engine) }
    }

    // MARK: Ends

    /// Nothing is left in an engine that ended.
    private func expectEmpty(_ seat: SimulatedEngine) {
        guard let engine = seat.engine, seat.busy.isEmpty else { return }
        let load = engine.load
        if load.bytes != 0 || load.waitingBytes != 0 { world.violate("engine \(seat.number) ends with \(load)") }
        if !engine.partitions.isEmpty { world.violate("engine \(seat.number) ends with partitions") }
        if !engine.sends.isEmpty { world.violate("engine \(seat.number) ends with \(engine.sends.count) sends") }
        if engine.lanes.waiting != 0 { world.violate("engine \(seat.number) ends with \(engine.lanes.waiting) in lanes") }
    }

    /// Everything is finished, and the group has committed everything.
    func expectRest() {
        for event in unfinished { world.violate("\(name(of: event.index)) \(event.plan) never ended") }
        for log in world.broker.logs where log.kind != .deadLetter {
            if (log.committed?.offset ?? 0) != log.next {
                world.violate("\(log.id): committed \(log.committed?.offset ?? 0) of \(log.next)")
            }
        }
    }
}
