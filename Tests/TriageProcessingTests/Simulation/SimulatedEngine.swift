import Glibc
import TriageEvents
import TriageTelemetry

@testable import TriageProcessing

/// The time of the world; for an engine that is dead it runs so fast that nothing is waited for.
///
/// `@unchecked Sendable`: as the world.
final class SimulatedClock: EventClock, @unchecked Sendable {
    private unowned let world: SimulatedWorld
    var isDead = false
    private var jump: Int64 = 0

    init(_ world: SimulatedWorld) { self.world = world }

    func now() -> Timestamp {
        if isDead { jump += 1_000_000_000_000 }
        return Timestamp(nanoseconds: world.now + jump)
    }
}

/// The executor of an engine in a world.
///
/// `@unchecked Sendable`: as the world.
final class SimulatedExecutor: LoopExecutor, @unchecked Sendable {
    private enum Job {
        case task(UnownedJob)
        case call(@Sendable () -> Void)
    }
    private unowned let world: SimulatedWorld
    private unowned let seat: SimulatedEngine
    private var queue: [Job] = []
    private var isRunning = false

    init(_ world: SimulatedWorld, _ seat: SimulatedEngine) {
        self.world = world
        self.seat = seat
    }

    func bind(waker: @escaping @Sendable () -> Void) {}
    func enqueue(_ job: consuming ExecutorJob) { append(.task(UnownedJob(job))) }
    func post(_ body: @escaping @Sendable () -> Void) { append(.call(body)) }

    private func append(_ job: Job) {
        queue.append(job)
        world.wake(seat)
    }

    func runPending() {
        guard !isRunning else { return }
        isRunning = true
        defer { isRunning = false }
        while !queue.isEmpty {
            let jobs = queue
            queue.removeAll()
            for job in jobs {
                switch job {
                case .task(let task): task.runSynchronously(on: asUnownedTaskExecutor())
                case .call(let body): body()
                }
            }
        }
        if !seat.isDead { world.witness.caughtUp(seat) }
    }

    func willSleep() -> Bool { queue.isEmpty }
    func didWake() {}

    func wait(atMost timeout: Duration) {
        guard queue.isEmpty, !seat.isDead else { return }
        world.block(seat, for: timeout.wholeNanoseconds, isWakeable: true)
    }
}

/// A handler that waits for virtual time to pass.
final class Sleeper: @unchecked Sendable {
    var continuation: UnsafeContinuation<Void, Never>?
    var isAwake = false

    func wake() {
        isAwake = true
        let waiting = continuation
        continuation = nil
        waiting?.resume()
    }
}

/// A process: an engine on a thread of its own, with its clients. Once it has crashed nothing of it has any effect.
final class SimulatedEngine: SimulatedSeat, @unchecked Sendable {
    unowned let world: SimulatedWorld
    let clock: SimulatedClock
    private(set) var consumer: SimulatedConsumer!
    private(set) var producer: SimulatedProducer!
    private(set) var engine: Engine!
    private(set) var exporter: SimulatedExporter!
    private(set) var tracer: Tracer!
    private(set) var configuration: EngineConfiguration
    private(set) var isDead = false
    private(set) var hasEnded = false
    private(set) var failure: (any Error)?
    var hasCrashed = false
    var isAskedToStop = false
    var polls = 0
    /// Handlers that wait.
    private var sleepers: [Sleeper] = []
    /// Events whose handler is busy, by index: how often.
    var busy: [Int: Int] = [:]
    private(set) var notices: [(time: Int64, notice: EngineNotice)] = []

    init(_ world: SimulatedWorld, number: Int, _ configure: (inout EngineConfiguration) -> Void) {
        self.world = world
        clock = SimulatedClock(world)
        configuration = world.options.configuration
        configuration.seed = world.random.next() | 1
        configure(&configuration)
        super.init(number: number)
        exporter = SimulatedExporter(self)
        let isTraced = world.options.isTraced
        let tracer = Tracer(
            sampler: .alwaysOn, clock: clock, processors: isTraced ? [exporter] : [], failureTraces: nil, isEnabled: isTraced)
        self.tracer = tracer
        let meter = Meter(clock: clock)
        consumer = SimulatedConsumer(self)
        producer = SimulatedProducer(self, capacity: world.options.producerCapacity)
        engine = Engine(
            configuration, consumer: consumer, reader: SimulatedReader(self), states: SimulatedFeed(self),
            sink: TracedSink(producer: producer, tracer: tracer, meter: meter, clientID: nil), tracer: tracer, meter: meter,
            executor: SimulatedExecutor(world, self),
            log: { [unowned self] notice in notices.append((world.now, notice)) },
            handler: { [unowned self] _, context in try await self.handle(context) }
        )
    }

    /// Makes the engine make a mistake.
    func plant(_ fault: PlantedFault?) {
        #if DEBUG
            engine.plantedFault = fault
        #endif
    }

    func launch() {
        var thread = pthread_t()
        let context = Unmanaged.passRetained(self).toOpaque()
        pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<SimulatedEngine>.fromOpaque(context).takeRetainedValue().work() }
                return nil
            }, context)
        pthread_detach(thread)
    }

    private func work() {
        waitForTurn()
        let world = world
        do { try engine.run() } catch { failure = error }
        world.note(failure == nil ? .ended : .failed, self)
        if !isDead { world.referee.ended(self) }
        die()
        (engine.executor as? SimulatedExecutor)?.runPending()
        hasEnded = true
        world.options.whenEnded?(world, self)
        engine = nil
        world.leave(self)
    }

    /// The process is gone.
    func crash() {
        guard !isDead, !hasEnded else { return }
        world.note(.crashed, self)
        hasCrashed = true
        world.referee.disturbed(consumer.assignment)
        exporter.crashed(lag: world.options.exportLag)
        die()
        consumer.crashed()
        producer.crashed()
        engine.stop()
        world.wake(self)
    }

    private func die() {
        isDead = true
        clock.isDead = true
        let sleeping = sleepers
        sleepers.removeAll()
        for sleeper in sleeping { sleeper.wake() }
    }

    /// The process is asked to end.
    func stop() {
        guard !isDead, !hasEnded, !isAskedToStop else { return }
        world.note(.stopped, self)
        isAskedToStop = true
        engine.stop()
    }

    /// Crashes if that is what shall happen here.
    ///
    /// - Returns: whether the engine is dead.
    @discardableResult
    func passes(_ point: CrashPoint) -> Bool {
        if !isDead, world.armed == point, !world.isCalm {
            world.armed = nil
            crash()
        }
        return isDead
    }

    // MARK: The handler

    private func handle(_ context: HandlerContext) async throws {
        guard !isDead, let event = world.referee.began(context, in: self) else { throw CancellationError() }
        world.witness.began(context, event: event, in: self)
        defer { world.referee.left(event, self) }
        if passes(.handler) { throw CancellationError() }
        let generation = consumer.generation
        let isCancelled = await suspend(world.options.pace(world, self, event))
        if isDead {
            world.note(.unwound, self, event)
            throw CancellationError()
        }
        if isCancelled {
            world.note(.cancelled, self, event)
            world.witness.returned(context, failed: true)
            throw CancellationError()
        }
        if let error = world.options.deed(world, event, context) {
            world.note(.failedAttempt, self, event, context.attempt)
            world.witness.returned(context, failed: true)
            throw error
        }
        world.referee.succeeded(event, in: self, since: generation)
        if !passes(.handled) { world.witness.returned(context, failed: false) }
    }

    /// - Returns: whether the handler gave up because it was cancelled.
    private func suspend(_ pace: Pace) async -> Bool {
        switch pace {
        case .instant: return false
        case .block(let nanoseconds):
            world.burn(nanoseconds)
            return false
        case .suspend(let nanoseconds, let isCooperative):
            let sleeper = Sleeper()
            let deadline = world.now + nanoseconds
            await withTaskCancellationHandler {
                await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                    if sleeper.isAwake || isDead {
                        continuation.resume()
                    } else {
                        sleeper.continuation = continuation
                        sleepers.append(sleeper)
                        world.at(deadline) { sleeper.wake() }
                    }
                }
            } onCancel: {
                if isCooperative { sleeper.wake() }
            }
            sleepers.removeAll { $0 === sleeper }
            return isCooperative && Task.isCancelled
        }
    }
}

/// How a handler takes its time.
enum Pace {
    case instant
    /// Without suspending: nobody else of its engine does anything meanwhile.
    case block(Int64)
    case suspend(Int64, isCooperative: Bool)
}
