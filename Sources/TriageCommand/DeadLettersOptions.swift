public import ArgumentParser
import Foundation
import Logging
import Triage
public import TriageEvents
public import TriageProcessing
import TriageTelemetry

extension ErrorClass: ExpressibleByArgument {}
extension DeadLetterState.Status: ExpressibleByArgument {}

/// What every `triage dead-letters …` has in common: which brokers, which dead letter topics, which group.
struct DeadLetterOptions: ParsableArguments {
    @OptionGroup var broker: BrokerOptions
    @Option(
        name: [.customShort("t"), .customLong("topic"), .customLong("topics")],
        help: """
            Topic whose dead letters are meant; may be repeated (default: those of the ids, else TRIAGE_TOPICS, else the hybrid \
            pattern's three).
            """)
    var topics: [String] = []
    @Option(
        name: .customLong("dlq-topic"),
        help: ArgumentHelp(
            "Dead letter topic of another system, whose name doesn't end in .dlq; may be repeated.", valueName: "topic"))
    var deadLetterTopics: [String] = []
    @Option(
        name: [.customShort("g"), .long],
        help: "Only dead letters of this group. Those that others wrote and that name none are taken for its own (default: any).")
    var group: String?
    @Option(name: [.customShort("o"), .long], help: "text or json.")
    var output: OutputFormat = .text
    @OptionGroup var keys: DeadLetterKeyOptions
    @Option(help: ArgumentHelp("How resource ids show: hashed, plain or omitted (TRIAGE_IDENTIFIERS).", valueName: "how"))
    var identifiers: String?
    @Option(
        help: ArgumentHelp(
            "File with the bytes that resource ids are hashed with (TRIAGE_IDENTIFIER_KEY_FILE).", valueName: "file"))
    var identifierKeyFile: String?

    /// The way to the topics, and the configuration; the brokers were reached.
    ///
    /// - Parameter ids: dead letters that are named: without `--topic` it is their topics that are looked into.
    func connect(_ ids: [RecordPosition] = []) async throws -> DeadLetterDesk {
        let mains = topics.flatMap(ListedTopics.parts).map { TopicName.main(of: $0) }
        if !mains.isEmpty { try ConfigurationLoader.check(topics: mains) }
        let flags: [String: String?] = [
            "group": group, "topics": mains.isEmpty ? nil : mains.joined(separator: ","), "identifiers": identifiers,
            "identifier-key-file": identifierKeyFile,
        ]
        let (configuration, loader) = try await broker.load(flags)
        let policy = try loader.identifierPolicy { Narration.say("\($0): ids are left out") } ?? .omitted
        try await TopicAdministrator(configuration.kafka, logger: broker.logger).reach()
        var named = deadLetterTopics.flatMap(ListedTopics.parts)
        if let id = ids.first(where: { !TopicName.isDeadLetter($0.topic) && !named.contains($0.topic) }) {
            throw NoSuchDeadLetter(id, .notDeadLetters)
        }
        if mains.isEmpty, named.isEmpty { named = Set(ids.map(\.topic)).sorted() }
        if !named.isEmpty, !mains.isEmpty { named += mains.map { TopicName.deadLetter(of: $0) } }
        // Also without any key: then it says which one is needed.
        let cipher = try keys.cipher(configuration)
        let access = try DeadLetterAccess(
            configuration, topics: named.isEmpty ? nil : named, cipher: cipher, logger: broker.logger)
        // Nothing found in a topic that was mistyped would look like good news.
        let missing = try await access.missing(
            mains.map { TopicName.deadLetter(of: $0) } + deadLetterTopics.flatMap(ListedTopics.parts))
        if let first = missing.first { throw NoSuchDeadLetterTopic(topic: first) }
        return DeadLetterDesk(configuration: configuration, loader: loader, identifiers: policy, access: access, group: group)
    }

    /// The dead letters that are named.
    static func ids(_ texts: [String]) throws -> [RecordPosition] {
        try texts.map { text in
            guard let position = RecordPosition(text) else {
                throw ConfigurationError(
                    key: "ID", value: PlainText.printable(text),
                    expected: "TOPIC/PARTITION/OFFSET, as list shows it")
            }
            return position
        }
    }
}

/// Which dead letters are meant.
struct DeadLetterChoice: ParsableArguments {
    @Option(
        name: .customLong("class"),
        help: ArgumentHelp("Only failures of this class: transient, persistent or system.", valueName: "class"))
    var errorClass: ErrorClass?
    @Option(help: ArgumentHelp("Only this bug: the fingerprint, or as many of its digits as tell it apart.", valueName: "digits"))
    var fingerprint: String?
    @Option(
        help: ArgumentHelp(
            "Only those written since then: 2026-11-23T04:00:00Z, 2026-11-23, or 2h for two hours ago.", valueName: "time"))
    var since: String?
    @Option(help: ArgumentHelp("Only those written before then; as --since.", valueName: "time"))
    var until: String?
    @Option(help: ArgumentHelp("Only this patient's: the resource id, or - to read it from standard input.", valueName: "id"))
    var patient: String?
    @Flag(help: "Look for the patient in every partition: for producers that choose it otherwise than Java's.")
    var allPartitions = false
    @Option(
        help: ArgumentHelp(
            "Only in this state: open, replayed, completed, failed_again or discarded; may be repeated.", valueName: "state"))
    var status: [DeadLetterState.Status] = []

    /// Whether anything was said.
    var isEmpty: Bool {
        errorClass == nil && fingerprint == nil && since == nil && until == nil && patient == nil && status.isEmpty
    }

    /// The flags that tell the same again, for a command that is shown.
    var words: [String] {
        var words: [String] = []
        if let errorClass { words += ["--class", errorClass.rawValue] }
        if let fingerprint { words += ["--fingerprint", fingerprint] }
        if let since { words += ["--since", since] }
        if let until { words += ["--until", until] }
        // The id stays out of what is shown, and of the shell's history.
        if patient != nil { words += ["--patient", "-"] + (allPartitions ? ["--all-partitions"] : []) }
        for status in status { words += ["--status", status.rawValue] }
        return words
    }

    /// The filter; `now` is what durations are counted from.
    func filter(group: String?, now: Timestamp) throws -> DeadLetterFilter {
        var filter = DeadLetterFilter()
        filter.errorClass = errorClass
        filter.group = group
        if let fingerprint {
            guard (1...16).contains(fingerprint.utf8.count), fingerprint.allSatisfy({ $0.isASCII && $0.isHexDigit }) else {
                throw ConfigurationError(
                    key: "--fingerprint", value: PlainText.printable(fingerprint),
                    expected: "1 to 16 hexadecimal digits, as groups shows them")
            }
            filter.fingerprint = fingerprint.lowercased()
        }
        filter.since = try since.map { try Self.time($0, of: "--since", now: now) }
        filter.until = try until.map { try Self.time($0, of: "--until", now: now) }
        if let since = filter.since, let until = filter.until, since >= until {
            throw ConfigurationError(key: "--until", value: self.until ?? "", expected: "a time after --since")
        }
        if let patient {
            let line = patient == "-" ? readLine() ?? "" : patient
            filter.patient = ByteSlice(try PatientCommand.resourceID(line))
        }
        if !status.isEmpty { filter.statuses = Set(status) }
        return filter
    }

    /// A time as ISO 8601 has it, a day, or a duration before `now`.
    static func time(_ text: String, of flag: String, now: Timestamp) throws -> Timestamp {
        if let time = Timestamp(instant: ByteSlice(text)) ?? Timestamp(instant: ByteSlice(text + "T00:00:00Z")) { return time }
        if text.hasSuffix("d"), let days = Int(text.dropLast()), (1...36_500).contains(days) {
            return now + .seconds(-86_400 * days)
        }
        guard let duration = Duration(triage: text), duration > .zero else {
            throw ConfigurationError(
                key: flag, value: PlainText.printable(text),
                expected: "a time such as 2026-11-23T04:00:00Z, a day such as 2026-11-23, or a duration such as 2h")
        }
        return now + (.zero - duration)
    }
}

/// A topic that was named doesn't exist.
struct NoSuchDeadLetterTopic: Error, CustomStringConvertible {
    let topic: String
    var description: String {
        "there is no topic \(PlainText.printable(topic)): -t takes the main topic's name, --dlq-topic that of dead letters elsewhere"
    }
}
