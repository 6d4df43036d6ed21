import TriageEvents

@testable import TriageProcessing

/// What is judged.
struct SimulationRules: OptionSet {
    let rawValue: Int
    /// First completions of a patient's events of one topic partition are in origin order.
    static let order = SimulationRules(rawValue: 1)
    /// Nothing ends twice unless something had happened.
    static let duplicates = SimulationRules(rawValue: 2)
    /// No attempt is made twice unless something had happened.
    static let attempts = SimulationRules(rawValue: 4)
    /// What is committed as complete and isn't finished is in a retry record.
    static let carriers = SimulationRules(rawValue: 8)
    /// No more is in flight than shall be.
    static let bounds = SimulationRules(rawValue: 16)
    /// Nobody is handled who is known to be held behind a dead letter.
    static let holds = SimulationRules(rawValue: 32)
    static let all: SimulationRules = [.order, .duplicates, .attempts, .carriers, .bounds, .holds]
}

/// What a port does wrong on purpose, so that it is seen whether anyone notices.
struct Spoiler {
    var committed: (OffsetCommit) -> OffsetCommit = { $0 }
    /// The record is acknowledged and isn't stored.
    var swallows: (OutboundRecord) -> Bool = { _ in false }
    /// How far from where a retry record stands its acknowledgement says that it does.
    var misplaces: (SimulatedWorld) -> Int64 = { _ in 0 }
}

/// What a world is made of.
struct SimulationOptions {
    var topics = ["fhir.Patient"]
    var partitions = 1
    var configuration: EngineConfiguration
    var rules = SimulationRules.all
    /// How many of a hundred records have a gap before or behind them.
    var gaps = 0
    var producerCapacity = 100_000
    /// How often an operator writes a dead letter anew.
    var replays = 0
    /// How often somebody writes an event that says it is such a replay.
    var forgeries = 0
    /// How many of a hundred records that are read again can't be.
    var failingReads = 0
    var rebalanceTimeout: Int64 = 10_000_000_000
    var sessionTimeout: (SimulatedWorld) -> Int64 = { $0.milliseconds(50, 4000) }
    var maximumSteps = 400_000
    /// How much of the transcript is told when something is wrong.
    var tail = 80
    var pace: (SimulatedWorld, SimulatedEngine, Int) -> Pace = { _, _, _ in .instant }
    /// What the handler throws.
    var deed: (SimulatedWorld, Int, HandlerContext) -> (any Error)? = SimulationOptions.asPlanned
    var spoil: Spoiler?
    /// What the engines do wrong.
    var planted: PlantedFault?
    /// Every step has its span, and the spans are judged; otherwise what contexts come along travel on untouched.
    var isTraced = true
    /// How long before a crash what ended hadn't been exported.
    var exportLag: Int64 = 0
    var whenEnded: ((SimulatedWorld, SimulatedEngine) -> Void)?

    init(topics: [String] = ["fhir.Patient"], partitions: Int = 1) {
        self.topics = topics
        self.partitions = partitions
        configuration = EngineConfiguration(group: "workers", topics: topics)
        configuration.outage = nil
    }

    /// The event's own plan, and the outage.
    static func asPlanned(_ world: SimulatedWorld, _ event: Int, _ context: HandlerContext) -> (any Error)? {
        if world.now < world.outageEnd { return Transient() }
        // Where attempts may not be charged they can't say when an event is healed: calls do.
        let number = world.options.configuration.outage == nil ? context.attempt : world.referee.events[event].calls
        switch world.referee.events[event].plan {
        case .succeed, .malformed: return nil
        case .transient(let count): return number <= count ? Transient() : nil
        case .unexpected(let count): return number <= count ? Unexpected() : nil
        case .later(let count, let milliseconds):
            guard number <= count else { return nil }
            return RetryLater(retryAt: Timestamp(nanoseconds: world.now + Int64(milliseconds) * 1_000_000))
        case .persistent(let after): return number > after ? Persistent() : nil
        }
    }
}

extension SimulatedWorld {
    /// Publishes an event of a patient.
    ///
    /// - Parameters:
    ///   - partition: the patient's, unless told otherwise.
    ///   - isKeyless: without a key its lane is by the resource's id, and nobody else's.
    ///   - mark: which replay it says that it is.
    func publish(
        _ patient: Int, plan: SimulatedEvent.Plan = .succeed, topic: Int = 0, partition: Int? = nil, isKeyless: Bool = false,
        mark: ReplayMark? = nil
    ) {
        let number = partition ?? patient % broker.partitions
        guard let log = broker.log(TopicPartition(broker.topics[topic], Int32(number))) else { return }
        let name = isKeyless ? "n\(patient)" : "p\(patient)"
        let version = referee.events.count
        let value = plan == .malformed ? ByteSlice("{") : EngineBench.event(name, version: version)
        let record = broker.append(
            OutboundRecord(
                topic: log.id.topic, partition: log.id.partition, key: isKeyless ? nil : ByteSlice(name), value: value,
                headers: Headers(
                    (producersContext().map { [Header("traceparent", $0.traceparent)] } ?? [])
                        + (mark.map { [Header("triage-replay", text: $0.description)] } ?? []))), to: log)
        let lane = !isKeyless ? patient : plan == .malformed ? nil : 1000 + patient
        referee.published(log, record.offset, patient: lane, plan: plan, isMarked: mark != nil)
    }
}
