/// How change events are spread over topics: the guide's three patterns.
public enum TopicPattern: String, Sendable, CaseIterable {
    /// One topic for each resource type and action: `fhir.Patient.created`. The default.
    case hybrid
    /// One topic for each resource type: `fhir.Patient`. Gives total order per patient.
    case resource
    /// One topic for each action: `fhir.created`.
    case action

    /// The topic of an event.
    public func topic(resourceType: String, action: ChangeAction) -> String {
        switch self {
        case .hybrid: "fhir.\(resourceType).\(action.rawValue)"
        case .resource: "fhir.\(resourceType)"
        case .action: "fhir.\(action.rawValue)"
        }
    }

    /// The topics that Patient events can be in, in the order created, updated, deleted, each once.
    public var patientTopics: [String] {
        switch self {
        case .resource: ["fhir.Patient"]
        case .hybrid, .action: ChangeAction.allCases.map { topic(resourceType: "Patient", action: $0) }
        }
    }
}

/// The names of the topics beside a topic, and what a name says about itself.
public enum TopicName {
    /// Where commands travel, apart from events.
    public static let commands = "fhir.commands"
    /// Where the results of commands are told.
    public static let commandResults = "fhir.commands.results"
    /// Operators' state about dead letters (compacted).
    public static let deadLetterState = "triage.dead-letters"
    /// The ending of a retry topic.
    public static let retrySuffix = ".retry"
    /// The ending of a dead letter topic.
    public static let deadLetterSuffix = ".dlq"

    /// The retry topic beside `topic`.
    public static func retry(of topic: String) -> String { topic + retrySuffix }
    /// The dead letter topic beside `topic`.
    public static func deadLetter(of topic: String) -> String { topic + deadLetterSuffix }
    /// Whether `topic` is a retry topic.
    public static func isRetry(_ topic: String) -> Bool { topic.hasSuffix(retrySuffix) }
    /// Whether `topic` is a dead letter topic.
    public static func isDeadLetter(_ topic: String) -> Bool { topic.hasSuffix(deadLetterSuffix) }

    /// The topic that a retry or dead letter topic stands beside; any other topic itself.
    public static func main(of topic: String) -> String {
        for suffix in [retrySuffix, deadLetterSuffix] where topic.hasSuffix(suffix) {
            return String(topic.dropLast(suffix.count))
        }
        return topic
    }

    /// The action that a topic's name implies: the last part of `fhir.Patient.created` or `fhir.created`.
    public static func action(of topic: String) -> ChangeAction? {
        let main = main(of: topic)
        let start = main.utf8.lastIndex(of: UInt8(ascii: ".")).map { main.utf8.index(after: $0) } ?? main.startIndex
        return ChangeAction(rawValue: String(main[start...]))
    }
}

/// What a topic carries, which decides how its records are read.
public enum TopicRole: Sendable, Hashable {
    /// Change events.
    case events
    /// Commands.
    case commands
    /// What change data capture writes: a tombstone is no delete there, and other resource types are passed over.
    case changeData
}

/// Which topics carry something else than change events. Retry and dead letter topics carry what the topic beside them does.
public struct TopicRoles: Sendable, Hashable {
    /// Topics of commands. Default ``TopicName/commands``.
    public var commands: Set<String>

    /// Topics of change data. Default none.
    public var changeData: Set<String>

    /// These topics; all others carry events.
    public init(commands: Set<String> = [TopicName.commands], changeData: Set<String> = []) {
        self.commands = commands
        self.changeData = changeData
    }

    /// What `topic` carries.
    public func role(of topic: String) -> TopicRole {
        let main = TopicName.main(of: topic)
        return changeData.contains(main) ? .changeData : commands.contains(main) ? .commands : .events
    }
}
