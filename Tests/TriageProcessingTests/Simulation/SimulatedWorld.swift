import Glibc
import TriageEvents

@testable import TriageProcessing

/// Whoever takes turns in a world: the test itself, and each engine's loop on a thread of its own.
///
/// `@unchecked Sendable`: as the world.
class SimulatedSeat: @unchecked Sendable {
    let number: Int
    private let turn = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    /// Which of its entries in the agenda counts; those before it don't any more.
    fileprivate var ticket = 0
    fileprivate var wakesAt = Int64.max
    fileprivate var isWakeable = false

    init(number: Int) {
        self.number = number
        sem_init(turn, 0, 0)
    }

    deinit {
        sem_destroy(turn)
        turn.deallocate()
    }

    /// Lets the seat's thread go on.
    fileprivate func go() { sem_post(turn) }
    /// Waits for the turn.
    func waitForTurn() { while sem_wait(turn) != 0 {} }
}

/// A little universe that is a function of its seed: virtual time, an agenda, and seats of which exactly one has the turn.
///
/// Whoever blocks (a poll, a commit that waits) performs what is next in the agenda itself, until its own turn comes or
/// another seat's, to which it hands over. So nothing is ever done by two threads at once, and nothing depends on how they
/// are scheduled.
///
/// `@unchecked Sendable`: everything in it, and in what refers to it, is touched only by the thread that has the turn; handing
/// over by a semaphore orders what the two threads do.
final class SimulatedWorld: @unchecked Sendable {
    private struct Entry {
        let time: Int64
        /// Of what is to happen at the same time chance decides what comes first.
        let order: UInt64
        let seat: SimulatedSeat?
        let ticket: Int
        let action: (() -> Void)?

        static func < (left: Entry, right: Entry) -> Bool {
            left.time != right.time ? left.time < right.time : left.order < right.order
        }
    }

    let seed: UInt64
    let options: SimulationOptions
    var random: SeededGenerator
    /// Nanoseconds since the epoch.
    private(set) var now: Int64 = 1_700_000_000_000_000_000
    let start: Int64 = 1_700_000_000_000_000_000
    /// Everything still to happen, what comes first at the end.
    private var agenda: [Entry] = []
    private var steps = 0
    /// The test's own seat.
    private let host = SimulatedSeat(number: 0)
    private(set) var engines: [SimulatedEngine] = []
    var running = 0
    private(set) var transcript: [TranscriptEntry] = []
    private(set) var violations: [String] = []
    /// Nothing more goes wrong from now on.
    var isCalm = false
    /// Until when the handler of every event fails.
    var outageEnd = Int64.min
    /// How many seeded faults are still to come at crash points.
    var armed: CrashPoint?

    private(set) lazy var broker = SimulatedBroker(self)
    private(set) lazy var referee = Referee(self)
    let witness = TraceWitness()

    init(seed: UInt64, options: SimulationOptions) {
        self.seed = seed
        self.options = options
        random = SeededGenerator(seed)
        transcript.reserveCapacity(4000)
    }

    // MARK: Chance

    func int(_ range: ClosedRange<Int>) -> Int {
        let width = UInt64(range.upperBound - range.lowerBound + 1)
        return range.lowerBound + Int(random.next() % width)
    }
    /// True so many times in a hundred.
    func chance(_ percent: Int) -> Bool { Int(random.next() % 100) < percent }
    /// Nanoseconds between two numbers of milliseconds.
    func milliseconds(_ from: Double, _ to: Double) -> Int64 {
        let unit = Double(random.next() >> 11) / Double(1 << 53)
        return Int64((from + (to - from) * unit) * 1e6)
    }
    func pick<Value>(_ values: [Value]) -> Value { values[int(0...values.count - 1)] }

    // MARK: Time

    /// Does `action` so many nanoseconds from now, on whichever thread has the turn then.
    func after(_ delay: Int64, _ action: @escaping () -> Void) { at(now + delay, action) }
    func at(_ time: Int64, _ action: @escaping () -> Void) {
        insert(Entry(time: max(now, time), order: random.next(), seat: nil, ticket: 0, action: action))
    }

    private func insert(_ entry: Entry) {
        var low = 0
        var high = agenda.count
        while low < high {
            let middle = (low + high) / 2
            if entry < agenda[middle] { low = middle + 1 } else { high = middle }
        }
        agenda.insert(entry, at: low)
    }

    /// Time passes while a thread is busy: for everyone.
    func burn(_ nanoseconds: Int64) { now += nanoseconds }

    /// Gives the turn away until so many nanoseconds have passed, or, if it may be woken, ``wake(_:)``.
    func block(_ seat: SimulatedSeat, for nanoseconds: Int64, isWakeable: Bool) {
        seat.isWakeable = isWakeable
        seat.ticket += 1
        seat.wakesAt = now + max(1, nanoseconds)
        insert(Entry(time: seat.wakesAt, order: random.next(), seat: seat, ticket: seat.ticket, action: nil))
        goOn(seat)
    }

    /// Ends a wait early, as soon as the wait's thread would notice.
    func wake(_ seat: SimulatedSeat) {
        guard seat.isWakeable else { return }
        let time = now + milliseconds(0.01, 1.5)
        guard time < seat.wakesAt else { return }
        seat.ticket += 1
        seat.wakesAt = time
        insert(Entry(time: time, order: random.next(), seat: seat, ticket: seat.ticket, action: nil))
    }

    /// Keeps an engine's thread from its turn for so long. What can't be woken isn't over any earlier for it: a commit that was
    /// waited for would otherwise be applied before those that were sent first.
    func stall(_ seat: SimulatedSeat, _ nanoseconds: Int64) {
        guard seat.wakesAt != .max else { return }
        let end = now + nanoseconds
        seat.wakesAt = seat.isWakeable ? end : max(seat.wakesAt, end)
        seat.isWakeable = false
        seat.ticket += 1
        insert(Entry(time: seat.wakesAt, order: random.next(), seat: seat, ticket: seat.ticket, action: nil))
    }

    /// Performs the agenda until it is this seat's turn; nil for a thread that ends.
    private func goOn(_ seat: SimulatedSeat?) {
        while let entry = agenda.popLast() {
            now = max(now, entry.time)
            guard let next = entry.seat else {
                entry.action?()
                continue
            }
            guard entry.ticket == next.ticket else { continue }
            next.ticket += 1
            next.wakesAt = .max
            next.isWakeable = false
            steps += 1
            if steps == options.maximumSteps {
                violate("the world doesn't come to rest: \(steps) turns")
                for engine in engines where !engine.hasEnded { engine.crash() }
            }
            if next === seat { return }
            next.go()
            seat?.waitForTurn()
            return
        }
    }

    // MARK: The test's side

    /// Lets so much virtual time pass, or less if something is wrong.
    func pass(_ nanoseconds: Int64) { if violations.isEmpty { block(host, for: nanoseconds, isWakeable: true) } }

    /// Lets time pass until the condition holds.
    ///
    /// - Returns: whether it did within `limit` nanoseconds.
    @discardableResult
    func pass(until limit: Int64, step: Int64 = 100_000_000, _ condition: () -> Bool) -> Bool {
        let deadline = now + limit
        while violations.isEmpty, !condition() {
            if now >= deadline { return false }
            pass(step)
        }
        return violations.isEmpty
    }

    @discardableResult
    func startEngine(
        _ configure: (inout EngineConfiguration) -> Void = { _ in }
    ) -> SimulatedEngine {
        let engine = SimulatedEngine(self, number: engines.count + 1, configure)
        engines.append(engine)
        witness.started(engine)
        running += 1
        engine.plant(options.planted)
        note(.started, engine)
        engine.launch()
        insert(Entry(time: now + milliseconds(0, 2), order: random.next(), seat: engine, ticket: engine.ticket, action: nil))
        return engine
    }

    /// The thread of this engine ends, and hands over.
    func leave(_ engine: SimulatedEngine) {
        running -= 1
        goOn(nil)
    }

    /// Ends whatever still runs without any effect, and breaks up what holds itself in memory.
    func destroy() {
        isCalm = true
        for engine in engines where !engine.hasEnded { engine.crash() }
        var turns = 0
        while running > 0, turns < 100_000 {
            turns += 1
            block(host, for: 1_000_000, isWakeable: false)
        }
        agenda.removeAll()
        engines.removeAll()
        broker.removeAll()
        witness.removeAll()
    }

    // MARK: What is told

    func note(_ what: TranscriptEntry.What, _ seat: SimulatedSeat?, _ one: Int = -1, _ two: Int = -1) {
        transcript.append(TranscriptEntry(time: now - start, what: what, seat: seat?.number ?? 0, one: one, two: two))
    }

    /// Only the first thing that is wrong is told: the others follow from it.
    func violate(_ text: String) {
        guard violations.isEmpty else { return }
        violations.append(text)
        note(.violated, nil)
        wake(host)
    }

    /// A number that two worlds share only if the same happened in them at the same times.
    var fingerprint: UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for entry in transcript {
            for part in [UInt64(entry.time), UInt64(entry.what.rawValue), UInt64(entry.seat)] {
                hash = (hash ^ part) &* 0x100_0000_01B3
            }
            for part in [entry.one, entry.two] { hash = (hash ^ UInt64(bitPattern: Int64(part))) &* 0x100_0000_01B3 }
        }
        return hash
    }

    /// The last lines of what happened, and how to see it again.
    func tail() -> String {
        let lines = transcript.suffix(options.tail).map { $0.line(in: self) }
        return """
            seed \(seed): \(violations.joined(separator: "\n    "))
            \(lines.joined(separator: "\n"))
            Again: TRIAGE_SIMULATION_SEED=\(seed) swift test --filter SimulationTests
            """
    }
}

/// Where an engine can be made to crash in the middle of something.
enum CrashPoint: Int, CaseIterable {
    /// A retry record or dead letter is handed to the producer, or stored, or acknowledged.
    case produce, landed, acknowledged
    /// A commit is sent, or applied and not answered.
    case commit, committed
    /// Partitions are being taken over or given back.
    case assigned, assignedLate, revoked
    /// A handler has just begun, or has just succeeded.
    case handler, handled
}

/// One thing that happened.
struct TranscriptEntry: Equatable {
    enum What: UInt8 {
        case started, crashed, stopped, ended, failed, evicted, lost, revoking, revoked, assigned, read
        case began, succeeded, failedAttempt, cancelled, unwound
        case sent, landed, notStored, acknowledged, refused, commit, applied, fenced, commitError, commitAnswered
        case published, replayed, compacted, outage, fault, violated, reread
    }
    let time: Int64
    let what: What
    let seat: Int
    let one: Int
    let two: Int

    func line(in world: SimulatedWorld) -> String {
        let clock = "\(time / 1_000_000_000).\(String(time % 1_000_000_000 / 1000 + 1_000_000).dropFirst())"
        let who = seat == 0 ? "world" : "engine \(seat)"
        func event(_ index: Int) -> String { world.referee.name(of: index) }
        func log(_ index: Int) -> String { world.broker.logs.indices.contains(index) ? "\(world.broker.logs[index].id)" : "?" }
        let detail =
            switch what {
            case .began, .failedAttempt: "\(event(one)) attempt \(two)"
            case .succeeded, .cancelled, .unwound: "\(event(one))"
            case .sent, .landed, .notStored, .acknowledged, .refused: "\(event(one)) \(log(two / 1_000_000)) \(two % 1_000_000)"
            case .assigned, .commit, .applied, .fenced, .read, .reread: "\(log(one)) \(two)"
            case .published, .replayed, .compacted: "\(event(one))"
            default: "\(one >= 0 ? "\(one)" : "") \(two >= 0 ? "\(two)" : "")"
            }
        return "  \(clock) \(who) \(what) \(detail)"
    }
}
