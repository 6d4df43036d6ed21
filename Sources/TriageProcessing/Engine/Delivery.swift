internal import TriageEvents
internal import TriageTelemetry

/// One record on its way through the engine. Confined to the loop's thread, like the engine.
final class Delivery {
    let record: Record
    let partition: PartitionState
    /// The ledger's ticket.
    let ticket: Int
    /// The context that the record carries.
    let context: TraceContext?
    @exclusivity(unchecked) var lane = LaneKey(0)
    /// The open retry that it is a record of, or has become.
    @exclusivity(unchecked) var open: OpenRetry?
    /// Whether it may have been delivered before: it lies where a predecessor that didn't end cleanly may have been at work.
    @exclusivity(unchecked) var isRedelivery = false
    /// Set while the handler is called.
    @exclusivity(unchecked) var work: Work?
    /// What few deliveries have: most would only carry, clear and look through its emptiness.
    @exclusivity(unchecked) private var details: Details?

    private final class Details {
        var knownHistory: EventHistory?
        var decoded: Result<PatientEvent, InvalidEvent>?
        var due: Timestamp?
        var deferral: Deferral?
    }

    init(record: Record, partition: PartitionState, ticket: Int, context: TraceContext?) {
        self.record = record
        self.partition = partition
        self.ticket = ticket
        self.context = context
    }

    /// Set for retry records; a first delivery's is made when it is needed, and kept.
    var knownHistory: EventHistory? {
        get { details?.knownHistory }
        set { change { $0.knownHistory = newValue } }
    }
    /// Decoded early, for lanes of records without a key.
    var decoded: Result<PatientEvent, InvalidEvent>? {
        get { details?.decoded }
        set { change { $0.decoded = newValue } }
    }
    /// When a waiting record was due.
    var due: Timestamp? {
        get { details?.due }
        set { change { $0.due = newValue } }
    }
    /// What an attempt during an outage left behind.
    var deferral: Deferral? {
        get { details?.deferral }
        set { change { $0.deferral = newValue } }
    }

    private func change(_ body: (Details) -> Void) {
        let details = self.details ?? Details()
        self.details = details
        body(details)
    }

    /// When the event was first produced.
    var originTimestamp: Timestamp? {
        guard let history = details?.knownHistory else { return record.timestamp }
        return history.originTimestamp ?? record.timestamp
    }

    var history: EventHistory {
        if let known = details?.knownHistory { return known }
        let made = EventHistory(of: record, likely: partition.mainTopic)
        knownHistory = made
        return made
    }

    /// Whether it is a retry after a failure: one that was only parked is none.
    var hasFailedBefore: Bool { details?.knownHistory?.hasFailedAttempts ?? false }
}

/// Where a delivery goes on that was deferred: what was charged before the outage, and what the next spans link to.
struct Deferral {
    let retries: Int
    let attempts: AttemptLedger
    let lastAttempt: TraceContext
}

/// What the engine knows about an assigned partition. Confined to the loop's thread.
final class PartitionState {
    let id: TopicPartition
    let mainTopic: String
    let isRetry: Bool
    let processTemplate: SpanTemplate
    let waitTemplate: SpanTemplate
    let metrics: PartitionMetrics
    @exclusivity(unchecked) var ledger = OffsetLedger()
    /// Deliveries that a handler or a produce is busy with.
    @exclusivity(unchecked) var busy = 0
    /// The position at which the end was seen; nil while there is more to read.
    var end: Int64?
    /// A retry partition must be read at least to here: we have written up to it.
    var expectedEnd: Int64 = 0
    @exclusivity(unchecked) var isRevoked = false
    /// Its retry records that wait for their time.
    var waiting = WaitCounts()
    /// The main partition's retry partition, the retry partition's main partition, if both are assigned.
    weak var twin: PartitionState?
    /// The main partition's, for both.
    let mainID: TopicPartition
    /// Identifies the writer of retry records under this assignment.
    var writer = ""
    /// The number that the queues know its records by.
    var source = 0
    /// Offsets before this one may have been delivered before.
    var redeliveredBelow: Int64 = .min
    /// An outage deferred something of it.
    var hasDeferred = false
    /// Whether handlers may have begun what it leaves behind.
    var leavesUndone: Bool { busy > 0 || hasDeferred }
    /// Its watermark lies so far behind that it isn't fetched from.
    var isFarAhead = false
    /// It isn't fetched from until so few wait in this lane.
    var crowd: (lane: LaneKey, rest: Int)?
    /// What rides in its commits beside what is complete.
    var mark = CommitMark()

    /// What main had at its assignment, if its retry partition had something to read: nothing else is redelivered.
    var available: Range<Int64>?

    // Of a retry partition:

    /// Read up to here before anything of it or of main is handled: its end at the assignment. Nil once that is done.
    var rebuildEnd: Int64?
    var rebuild: [RebuildItem] = []
    /// Produced and not read yet.
    var producing: [RetryIdentity: OpenRetry] = [:]
    /// Those whose records were given up since they didn't stand where the acknowledgement said.
    var givenUp: Set<RetryIdentity> = []
    /// Replays that main may redeliver, since they were written to main: what stands for them then is void.
    var undecided: [RetryIdentity: OpenRetry] = [:]
    /// Read and waiting, by offset.
    var atRest: [Int64: OpenRetry] = [:]
    /// Offsets of bodies that are to be read again.
    var toFetch: [Int64] = []
    var isFetching = false
    /// Records that are being written anew.
    var rewriting = 0

    init(
        _ id: TopicPartition, group: String, clientID: String?, tracer: Tracer, attemptTopic: String, metrics: PartitionMetrics
    ) {
        self.id = id
        mainTopic = attemptTopic
        isRetry = TopicName.isRetry(id.topic)
        mainID = TopicPartition(attemptTopic, id.partition)
        processTemplate = ProcessStep.template(
            topic: id.topic, partition: id.partition, group: group, clientID: clientID, tracer: tracer
        )
        waitTemplate = WaitStep.template(retryTopic: TopicName.retry(of: attemptTopic), tracer: tracer)
        self.metrics = metrics
    }

    /// Forgets what refers to it: the partition is gone.
    func clear() {
        rebuild = []
        producing = [:]
        givenUp = []
        undecided = [:]
        atRest = [:]
        toFetch = []
    }

    /// Whether everything that is there has been read and is complete.
    var isIdle: Bool { isRead && ledger.incomplete == 0 }

    /// Whether everything that is there has been read.
    var isRead: Bool {
        guard let end else { return false }
        return end >= expectedEnd
    }
}

/// The series of failed attempts by the failure's type, those that were needed so far. Confined to the loop's thread.
private final class FailedSeries {
    /// More types than a service has; beyond them a series is looked up each time.
    static let limit = 200
    var series: [String: Histogram] = [:]
}

/// The series of one origin topic, resolved once.
struct PartitionMetrics {
    let consumed: Counter
    let processDuration: Histogram
    let completedEndToEnd: Histogram
    let deadLetteredEndToEnd: Histogram
    let completedDeliveries: Counter
    let completedEvents: Counter
    let deadLetteredEvents: Counter
    private let waitDuration: Histogram
    let lateness: Histogram
    let duplicates: Counter
    let overruns: Counter
    let deadLetterPointers: Counter
    private let outcomes: [Outcome: Counter]
    private let retryCounters: [Retry: Counter]
    private let failed = FailedSeries()
    private let meter: Meter
    private let attributes: [(StaticString, SafeText)]

    init(meter: Meter, mainTopic: String, group: String) {
        self.meter = meter
        let topic = SafeText(vetted: mainTopic)
        let group = SafeText(vetted: group)
        attributes = [("messaging.destination.name", topic), ("messaging.consumer.group.name", group)]
        let messaging: [(StaticString, SafeText)] = attributes + [("messaging.system", "kafka")]
        consumed = meter.counter(
            Metric.consumedMessages, MetricAttributes(messaging + [("messaging.operation.name", "poll")])
        )
        processDuration = meter.histogram(
            Metric.processDuration, MetricAttributes(messaging + [("messaging.operation.name", "process")])
        )
        waitDuration = meter.histogram(
            Metric.retryWaitDuration, MetricAttributes(attributes + [("triage.wait.reason", SafeText(WaitReason.backoff))])
        )
        duplicates = meter.counter(Metric.duplicates, MetricAttributes(attributes))
        overruns = meter.counter(Metric.handlerOverruns, MetricAttributes(attributes))
        deadLetterPointers = meter.counter(Metric.deadLetterPointers, MetricAttributes(attributes))
        lateness = meter.histogram(Metric.retryLateness, MetricAttributes(attributes))
        // All outcomes and kinds of retries that there can be, so that each counter starts at 0 and its first increase shows.
        var outcomes: [Outcome: Counter] = [:]
        for outcome in [Outcome.completed, .retryScheduled, .parked, .deadLettered, .deferred, .abandoned, .skipped] {
            outcomes[outcome] = meter.counter(
                Metric.deliveries, MetricAttributes(attributes + [("triage.outcome", SafeText(outcome))])
            )
        }
        self.outcomes = outcomes
        var retryCounters: [Retry: Counter] = [:]
        for strategy in RetryPolicy.Strategy.allCases {
            for errorClass in [ErrorClass.transient, .system] {
                let retry = Retry(strategy: strategy, errorClass: errorClass)
                retryCounters[retry] = meter.counter(Metric.retries, retry.attributes(attributes))
            }
        }
        self.retryCounters = retryCounters
        let completed = MetricAttributes(attributes + [("triage.outcome", SafeText(Outcome.completed))])
        completedDeliveries = meter.counter(Metric.deliveries, completed)
        completedEvents = meter.counter(Metric.eventsProcessed, completed)
        completedEndToEnd = meter.histogram(Metric.endToEndDuration, completed)
        let deadLettered = MetricAttributes(attributes + [("triage.outcome", SafeText(Outcome.deadLettered))])
        deadLetteredEvents = meter.counter(Metric.eventsProcessed, deadLettered)
        deadLetteredEndToEnd = meter.histogram(Metric.endToEndDuration, deadLettered)
    }

    func deliveries(_ outcome: Outcome) -> Counter {
        outcomes[outcome]
            ?? meter.counter(Metric.deliveries, MetricAttributes(attributes + [("triage.outcome", SafeText(outcome))]))
    }

    func retries(_ strategy: RetryPolicy.Strategy, _ errorClass: ErrorClass) -> Counter {
        let retry = Retry(strategy: strategy, errorClass: errorClass)
        return retryCounters[retry] ?? meter.counter(Metric.retries, retry.attributes(attributes))
    }

    /// What retries are counted by.
    private struct Retry: Hashable {
        let strategy: RetryPolicy.Strategy
        let errorClass: ErrorClass

        func attributes(_ place: [(StaticString, SafeText)]) -> MetricAttributes {
            MetricAttributes(
                place + [("triage.retry.strategy", SafeText(strategy)), ("triage.error.class", SafeText(errorClass))])
        }
    }

    func waitDuration(_ reason: WaitReason) -> Histogram {
        if reason == .backoff { return waitDuration }
        return meter.histogram(
            Metric.retryWaitDuration, MetricAttributes(attributes + [("triage.wait.reason", SafeText(reason))])
        )
    }

    /// By the failure's type; looked up once for each.
    func failedProcessDuration(_ failure: Failure) -> Histogram {
        if let known = failed.series[failure.type.text] { return known }
        let made = makeFailedProcessDuration(failure)
        if failed.series.count < FailedSeries.limit { failed.series[failure.type.text] = made }
        return made
    }

    private func makeFailedProcessDuration(_ failure: Failure) -> Histogram {
        meter.histogram(
            Metric.processDuration,
            MetricAttributes(
                attributes + [
                    ("messaging.system", "kafka"), ("messaging.operation.name", "process"), ("error.type", failure.type),
                ]
            )
        )
    }
}
