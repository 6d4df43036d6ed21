internal import TriageEvents

/// The topics that an installation needs, and how they shall be set up (design §2): the pure part of `triage topics`.
public struct TopicPlan: Sendable, Hashable {
    /// A topic as it should be.
    public struct Topic: Sendable, Hashable {
        /// The name.
        public let name: String
        /// Partitions; the same for a topic and its retry and dead letter topics.
        public let partitions: Int
        /// Properties that differ from the broker's defaults.
        public let configuration: [String: String]
    }

    /// A topic as it was found.
    public struct Found: Sendable, Hashable {
        /// Partitions.
        public let partitions: Int
        /// The properties that the broker told.
        public let configuration: [String: String]

        /// A topic with these properties.
        public init(partitions: Int, configuration: [String: String]) {
            self.partitions = partitions
            self.configuration = configuration
        }
    }

    /// What is not as it should be.
    public enum Difference: Sendable, Hashable, CustomStringConvertible {
        /// There is no such topic.
        case missing(String)
        /// The number of partitions differs from that of the topic it stands beside, so order can't be kept.
        case partitions(String, found: Int, expected: Int, beside: String)
        /// A property differs.
        case property(String, key: String, found: String, expected: String)

        /// What differs and what to do.
        public var description: String {
            switch self {
            case .missing(let topic): "\(topic) is missing: `triage topics create` makes it"
            case .partitions(let topic, let found, let expected, let main):
                "\(topic) has \(found) partitions, \(main) has \(expected): they need the same number"
            case .property(let topic, let key, let found, let expected):
                "\(topic) has \(key)=\(found), expected \(expected)"
            }
        }
    }

    /// How long a retry topic keeps its records: 14 days, longer than any wait that a default policy makes.
    public static let retryRetention: Duration = .seconds(14 * 86_400)

    /// How long the results of commands are kept: a day, in which whoever asked can ask for them.
    public static let resultRetention: Duration = .seconds(86_400)

    /// Operators' state about dead letters: compacted, and in one partition, so that it has one order.
    public static let deadLetterState = Topic(
        name: TopicName.deadLetterState, partitions: 1, configuration: ["cleanup.policy": "compact"])

    /// The topics, main ones first, each followed by its retry and dead letter topic, ``deadLetterState`` last.
    public let topics: [Topic]

    /// The plan for these main topics, each of them once, those for commands and their results, and the one for operators' state.
    ///
    /// - Parameters:
    ///   - mainTopics: their `.retry` and `.dlq` topics come along.
    ///   - partitions: of each topic. Default 6.
    ///   - includesCommands: whether `fhir.commands`, its retry and dead letter topic, and `fhir.commands.results` are wanted.
    ///   - includesState: whether `triage.dead-letters` is wanted.
    public init(mainTopics: [String], partitions: Int = 6, includesCommands: Bool = true, includesState: Bool = true) {
        var topics: [Topic] = []
        var seen: Set<String> = []
        for main in mainTopics + (includesCommands ? [TopicName.commands] : []) where seen.insert(main).inserted {
            topics.append(Topic(name: main, partitions: partitions, configuration: [:]))
            topics.append(
                Topic(
                    name: TopicName.retry(of: main), partitions: partitions,
                    configuration: [
                        "cleanup.policy": "delete",
                        "retention.ms": "\(TopicPlan.retryRetention.wholeNanoseconds / 1_000_000)",
                    ]
                )
            )
            topics.append(
                Topic(
                    name: TopicName.deadLetter(of: main), partitions: partitions,
                    configuration: ["cleanup.policy": "delete", "retention.ms": "-1"]
                )
            )
        }
        if includesCommands {
            topics.append(
                Topic(
                    name: TopicName.commandResults, partitions: partitions,
                    configuration: [
                        "cleanup.policy": "delete",
                        "retention.ms": "\(TopicPlan.resultRetention.wholeNanoseconds / 1_000_000)",
                    ]
                )
            )
        }
        if includesState { topics.append(TopicPlan.deadLetterState) }
        self.topics = topics
    }

    private init(topics: [Topic]) { self.topics = topics }

    /// The same with the partitions of the main topics that exist already for those beside them.
    ///
    /// - Parameter found: how many partitions topics have that exist.
    public func beside(_ found: [String: Int]) -> TopicPlan {
        TopicPlan(
            topics: topics.map { topic in
                let main = TopicName.main(of: topic.name)
                guard main != topic.name, let partitions = found[main] else { return topic }
                return Topic(name: topic.name, partitions: partitions, configuration: topic.configuration)
            })
    }

    /// What differs between the plan and what there is.
    ///
    /// The number of partitions is only compared between a topic and those beside it; a retry topic may keep records
    /// longer than planned.
    public func differences(from found: [String: Found]) -> [Difference] {
        topics.flatMap { topic -> [Difference] in
            guard let there = found[topic.name] else { return [.missing(topic.name)] }
            var differences: [Difference] = []
            let main = TopicName.main(of: topic.name)
            if main != topic.name, let beside = found[main], beside.partitions != there.partitions {
                differences.append(
                    .partitions(topic.name, found: there.partitions, expected: beside.partitions, beside: main)
                )
            }
            for (key, expected) in topic.configuration.sorted(by: { $0.key < $1.key }) {
                guard let value = there.configuration[key], value != expected else { continue }
                if key == "retention.ms", expected != "-1", let actual = Int64(value), let least = Int64(expected),
                    actual < 0 || actual >= least
                {
                    continue
                }
                differences.append(.property(topic.name, key: key, found: value, expected: expected))
            }
            return differences
        }
    }
}
