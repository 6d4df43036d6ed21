internal import DequeModule
internal import Synchronization
public import TriageEvents
public import TriageTelemetry

/// The processing loop: polls, hands events to the handler lane by lane, retries, dead-letters, commits.
///
/// Everything it decides is decided by pure machines (``KeyLanes``, ``OffsetLedger``, ``RetryPlan``, ``DueTimeHeap``);
/// this type performs it. It blocks the thread that calls ``run()``, on which all its state lives:
///
/// `@unchecked Sendable`: all stored variables are confined to that thread. Workers run on the executor that the
/// loop itself drives, completions of produces are posted to it, and ``stop()``, ``summary`` and the health readings go
/// through atomics and a mutex. What an event touches is `@exclusivity(unchecked)`: the check that nobody else is in the middle of
/// a change costs more than the change, and debug builds of the simulation walk the same paths.
public final class Engine: AssignmentObserver, @unchecked Sendable {
    let configuration: EngineConfiguration
    let consumer: any RecordConsumer
    let sink: TracedSink
    let tracer: Tracer
    let meter: Meter
    let clock: any EventClock
    let executor: any LoopExecutor
    let handler: EventHandler
    let plan: RetryPlan
    let decoder: EventDecoder
    let attemptTemplate: SpanTemplate
    let commitTemplate: SpanTemplate
    let laneSeed: UInt64
    /// Nanoseconds.
    let attemptTimeout: Int64?
    private let log: @Sendable (EngineNotice) -> Void

    @exclusivity(unchecked) var lanes = KeyLanes<Delivery>()
    /// The open retries of every blocked key.
    @exclusivity(unchecked) var queues = KeyQueues<OpenRetry>()
    /// Heads of their keys' queues that aren't due yet; some of them may be so no longer.
    var waiting = DueTimeHeap<OpenRetry>()
    /// The same, of those whose bodies were left to the topic: when to read them again.
    var absent = DueTimeHeap<OpenRetry>()
    let reader: (any RecordReader)?
    var hasFetches = false
    /// Bodies that were asked for and not handed out yet.
    var fetchedBodies = 0
    /// Their bytes.
    var fetchedBytes = 0
    /// The numbers of topic partitions in the queues.
    var sources: [TopicPartition: Int] = [:]
    /// The last commits that were tried of partitions which left.
    var ownCommits: [TopicPartition: [OffsetCommit]] = [:]
    /// Something runs alone that may crash the process.
    @exclusivity(unchecked) var isCautious = false
    /// Of some replay it isn't known yet whether main brings it again.
    @exclusivity(unchecked) var hasUndecided = false
    /// What became of dead letters; nil where nobody follows that.
    let states: (any DeadLetterFeed)?
    var isReadingStates = false
    var isStateUnknown = false
    var isStateRefused = false
    var nextStateRead = Timestamp(nanoseconds: .min)
    var stateReads = 0
    var lastStateRead: Result<StateReading, BrokerError>?
    /// The last read that came to the end of the topic.
    var lastWholeRead = 0
    /// Replays whose ends aren't known, as far as the states are.
    var knownReplays: ReplaysUnderWay
    /// What is done and says that it is a replay, which isn't known yet.
    var unproven: [UnprovenReplay] = []
    var isUnprovenTold = false
    /// How long that is waited for.
    var replayPatience = Engine.replayPatience
    var replayBound = Engine.replayBound
    /// Whose patients are held, as far as the states are known.
    @exclusivity(unchecked) var held: HeldPatients
    /// What holds them in the queues, by origin.
    @exclusivity(unchecked) var holds: [RecordPosition: OpenRetry] = [:]
    /// Of how many dead letters of an origin the state that holds its patient is being written.
    var pendingHolds: [RecordPosition: Int] = [:]
    /// Retry partitions that are being read to their end.
    @exclusivity(unchecked) var isRebuilding = false
    @exclusivity(unchecked) var partitions: [TopicPartition: PartitionState] = [:]
    var topicMetrics: [String: PartitionMetrics] = [:]
    let deadLetterCounter: DeadLetterCounter
    @exclusivity(unchecked) var workers: [Worker] = []
    @exclusivity(unchecked) var idleWorkers: [Int] = []
    var sends: [Int: PendingSend] = [:]
    var unsent = Deque<PendingSend>()
    var resends = DueTimeHeap<PendingSend>()
    var sendSequence = 0
    var isWaitingForRoom = false
    var commitsInFlight = Deque<CommitStep>()
    var errors = ErrorMemory()
    @exclusivity(unchecked) var counts = EngineSummary()
    var intake: IntakeControl
    let laneShare: LaneShare
    @exclusivity(unchecked) var load = IntakeControl.Load()
    @exclusivity(unchecked) var random: SplitMix64
    @exclusivity(unchecked) var failure: EngineError?
    #if DEBUG
        var plantedFault: PlantedFault?
    #endif
    var pollStep: PollStep
    var lastCommit = Timestamp(nanoseconds: .min)
    private var lastPublished = Timestamp(nanoseconds: .min)
    var aloneSequence: UInt64 = 0
    /// Whether the group has settled what this member works on, if only that it is nothing.
    var hasAssignment = false
    var isDraining: Bool { drainDeadline != nil }
    /// Until when what is in flight may finish, once the run ends.
    @exclusivity(unchecked) var drainDeadline: Timestamp?
    /// When the loop last came back from polling: workers hand the thread back to it when their turn is over.
    @exclusivity(unchecked) var turnStart = Timestamp(nanoseconds: 0)

    var gauges: EngineGauges
    let readings: PipelineReadings
    let backlog: DeadLetterBacklog
    @exclusivity(unchecked) var gate: OutageGate
    let storm: StormWatch
    let memory: EventMemory
    /// The delivery that probes whether an outage is over.
    @exclusivity(unchecked) var probe: Delivery?
    /// The last probe had failed before: something else is to be fetched for the next one.
    @exclusivity(unchecked) var wantsFresh = false
    private let wakeConsumer: @Sendable () -> Void
    private let stopRequested = Atomic<Bool>(false)
    private let lastPollNanoseconds = Atomic<Int64>(0)
    private let failingSince = Atomic<Int64>(0)
    private let assignedCount = Atomic<Int>(-1)
    private let published = Mutex((summary: EngineSummary(), watermarks: [TopicPartition: Int64]()))

    /// An engine that hasn't started.
    ///
    /// - Parameters:
    ///   - consumer: only used on the thread that calls ``run()``.
    ///   - reader: reads bodies again that waited too long to be kept in memory; without one all are kept.
    ///   - states: what became of dead letters; without it all that are there count as open, and none can hold its patient.
    ///   - executor: what handlers run on; this engine's alone.
    ///   - log: told about what an operator should know; called on the loop's thread and on that of
    ///     ``look(by:timeout:isCancelled:)``.
    public init(
        _ configuration: EngineConfiguration, consumer: any RecordConsumer, reader: (any RecordReader)? = nil,
        states: (any DeadLetterFeed)? = nil, sink: TracedSink, tracer: Tracer, meter: Meter,
        executor: any LoopExecutor = PollingExecutor(), log: @escaping @Sendable (EngineNotice) -> Void = { _ in },
        handler: @escaping EventHandler
    ) {
        self.configuration = configuration
        decoder = EventDecoder(roles: configuration.roles)
        self.consumer = consumer
        self.reader = reader
        self.sink = sink
        self.tracer = tracer
        self.meter = meter
        self.clock = tracer.clock
        self.executor = executor
        self.handler = handler
        self.log = log
        plan = RetryPlan(configuration.retries)
        attemptTimeout = configuration.attemptTimeout.map { Timestamp(nanoseconds: 0) + $0 }?.nanoseconds
        attemptTemplate = AttemptStep.template(tracer: tracer)
        commitTemplate = CommitStep.template(group: configuration.group, clientID: configuration.clientID, tracer: tracer)
        pollStep = PollStep(group: configuration.group, clientID: configuration.clientID, tracer: tracer)
        deadLetterCounter = DeadLetterCounter(meter: meter)
        gauges = EngineGauges(meter: meter, group: configuration.group)
        readings = PipelineReadings(
            meter: meter, group: configuration.group, topics: configuration.topics, clock: tracer.clock)
        backlog = DeadLetterBacklog(
            meter: meter, group: configuration.group, topics: configuration.topics, clock: tracer.clock)
        gate = OutageGate(configuration.outage)
        storm = StormWatch(configuration.storm, group: configuration.group, meter: meter)
        intake = IntakeControl(maximumRecords: configuration.maximumInFlight, maximumBytes: configuration.maximumBytesInFlight)
        laneShare = LaneShare(maximumRecords: configuration.maximumInFlight, maximumBytes: configuration.maximumBytesInFlight)
        wakeConsumer = consumer.waker
        let seed = configuration.seed ?? UInt64.random(in: .min ... .max)
        random = SplitMix64(seed: seed)
        // What is held is told by its lane: all instances must agree about that. Keys that are made to collide share a lane.
        laneSeed = configuration.deadLetters == .sequence ? HeldPatients.laneSeed : seed ^ 0x9E37_79B9_7F4A_7C15
        held = HeldPatients(group: configuration.group)
        knownReplays = ReplaysUnderWay(group: configuration.group)
        self.states = states
        memory = EventMemory(
            duplicates: configuration.dedupeWindow, topics: configuration.topics, group: configuration.group, meter: meter,
            seed: seed ^ 0xD1B5_4A32_D192_ED03)
    }

    /// Asks the loop to finish what is in flight, commit and end; returns at once. May be called on any thread, repeatedly.
    public func stop() {
        stopRequested.store(true, ordering: .releasing)
        wakeConsumer()
    }

    /// Whether it was asked to end.
    public var isStopping: Bool { stopRequested.load(ordering: .relaxed) }
    /// What has been done so far; renewed several times a second and at the end.
    public var summary: EngineSummary { published.withLock { $0.summary } }
    /// The next offset of each assigned partition that isn't complete; renewed with the summary.
    public var watermarks: [TopicPartition: Int64] { published.withLock { $0.watermarks } }
    /// When the loop last polled; nil before the first time.
    public var lastPoll: Timestamp? {
        let nanoseconds = lastPollNanoseconds.load(ordering: .relaxed)
        return nanoseconds == 0 ? nil : Timestamp(nanoseconds: nanoseconds)
    }
    /// Since when retry records and dead letters can't be produced; nil if they can.
    public var produceFailingSince: Timestamp? {
        let nanoseconds = failingSince.load(ordering: .relaxed)
        return nanoseconds == 0 ? nil : Timestamp(nanoseconds: nanoseconds)
    }
    /// How many partitions are assigned; nil before the first assignment.
    public var assignedPartitions: Int? {
        let count = assignedCount.load(ordering: .relaxed)
        return count < 0 ? nil : count
    }

    /// Works until ``stop()`` is called or, with `endsWhenIdle`, everything is done. Blocks the calling thread.
    ///
    /// - Throws: ``EngineError`` if it can't go on. What was in flight is finished and committed as far as possible then too.
    public func run() throws {
        executor.bind(waker: wakeConsumer)
        let topics = configuration.topics + configuration.topics.map(TopicName.retry(of:))
        do { try consumer.subscribe(to: topics, observer: self) } catch { throw EngineError.broker(error) }
        var batch = PolledBatch()
        while failure == nil, !stopRequested.load(ordering: .acquiring) {
            work(until: clock.now())
            if configuration.endsWhenIdle, isIdle { break }
            poll(&batch, atMost: timeUntilNextWork(clock.now()))
            ingest(&batch)
        }
        drain(&batch)
        consumer.close()
        executor.runPending()
        let end = clock.now()
        // A commit that got no answer is none that failed: the last one, which waits for its answer, has its offsets too.
        while let step = commitsInFlight.popFirst() { step.end(nil, tracer: tracer, at: end) }
        publish()
        if let failure { throw failure }
    }

    /// Performs everything that can be done now.
    private func work(until now: Timestamp) {
        executor.runPending()
        retrySends(now)
        releaseDue(now)
        requestFetches()
        cancelOverdueAttempts(now)
        dispatch()
        balanceIntake()
        commitIfDue(now)
        if now - lastPublished >= .milliseconds(100) {
            lastPublished = now
            followStates(now)
            if !unproven.isEmpty { settleUnproven(now) }
            rewriteStragglers(now)
            settleMissing(now)
            if isCautious { reviewSuspects() }
            publish()
        }
    }

    /// In an order that is the same in each run: a dictionary's isn't.
    var partitionsInOrder: [PartitionState] { partitions.sorted { $0.key < $1.key }.map(\.value) }

    var inFlight: Int { lanes.waiting + partitions.values.reduce(0) { $0 + $1.busy } }

    private var isIdle: Bool {
        guard hasAssignment, sends.isEmpty, unsent.isEmpty, resends.count == 0, lanes.waiting == 0 else { return false }
        return (queues.isEmpty && partitions.values.allSatisfy { $0.isIdle && $0.busy == 0 }) || waitsForOperators
    }

    private func timeUntilNextWork(_ now: Timestamp) -> Duration {
        var wait = Duration.milliseconds(configuration.endsWhenIdle ? 50 : 200)
        let dues = [
            mayRelease ? waiting.nextDue : nil, mayFetch ? absent.nextDue : nil, resends.nextDue,
            lanes.hasReady && mayHandOutCautiously ? nextProbe : nil,
        ]
        for due in dues {
            if let due { wait = min(wait, max(.zero, due - now)) }
        }
        return lanes.hasReady && mayHandOut && !idleWorkers.isEmpty ? .zero : wait
    }

    private func poll(_ batch: inout PolledBatch, atMost timeout: Duration) {
        batch.removeAll()
        let start = clock.now()
        lastPollNanoseconds.store(start.nanoseconds, ordering: .relaxed)
        // A job that came between the last run and now would otherwise wait for the whole poll.
        let timeout = executor.willSleep() ? timeout : .zero
        consumer.poll(into: &batch, maximum: configuration.pollSize, timeout: timeout)
        executor.didWake()
        pollStart = start
        turnStart = clock.now()
    }
    var pollStart = Timestamp(nanoseconds: 0)

    /// Whether the workers have had the thread for so long that the client must be polled, commits made and time-outs seen to.
    var isTurnOver: Bool { lastEnd.nanoseconds &- turnStart.nanoseconds >= 100_000_000 }
    /// When the last attempt ended: a clock reading that was made anyway.
    @exclusivity(unchecked) var lastEnd = Timestamp(nanoseconds: 0)

    /// Marks a delivery's offset complete and forgets the delivery.
    func complete(_ delivery: Delivery) {
        load.bytes -= delivery.record.size
        if !delivery.partition.isRevoked { delivery.partition.ledger.complete(delivery.ticket) }
        if isCautious { noteSuspect(delivery) }
    }

    // MARK: Stopping

    /// Finishes what has been delivered and isn't waiting for its time, commits, and gives up the rest at the deadline.
    private func drain(_ batch: inout PolledBatch) {
        let deadline = clock.now() + configuration.drainTimeout
        drainDeadline = deadline
        notify(.stopping(inFlight))
        intake.close()
        // After an error that can't be recovered from, what hasn't begun is left to the successor.
        if failure != nil { _ = dropWaiting(of: Array(partitions.values)) }
        while clock.now() < deadline {
            // During an outage nothing can be finished that hasn't begun.
            if isHeld { _ = dropWaiting(of: Array(partitions.values)) }
            work(until: clock.now())
            if lanes.waiting == 0, sends.isEmpty, unsent.isEmpty, resends.count == 0,
                partitions.values.allSatisfy({ $0.busy == 0 })
            {
                break
            }
            poll(&batch, atMost: .milliseconds(20))
            ingest(&batch)
        }
        abandonWorkers()
        commitNow(partitions.values, isClosing: true)
    }

    /// Notes how a produce ended, for ``produceFailingSince``.
    func noteProduce(failed: Bool) {
        if !failed {
            failingSince.store(0, ordering: .relaxed)
        } else if failingSince.load(ordering: .relaxed) == 0 {
            failingSince.store(clock.now().nanoseconds, ordering: .relaxed)
        }
    }

    func notify(_ notice: EngineNotice) { log(notice) }

    func noteAssignment(_ change: EngineGauges.Rebalance) {
        // An eager rebalance takes everything away before it assigns anew: that is no time to find that all is done.
        hasAssignment = change == .assigned || !partitions.isEmpty
        assignedCount.store(partitions.count, ordering: .relaxed)
        gauges.rebalanced(change)
        backlog.own(partitions.keys.lazy.filter { !TopicName.isRetry($0.topic) })
        publish()
    }

    func publish() {
        let state = (counts, partitions.compactMapValues(\.ledger.watermark))
        published.withLock { $0 = state }
        publishReadings()
    }
}
