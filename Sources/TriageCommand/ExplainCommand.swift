import ArgumentParser
import Foundation
import Triage
import TriageTelemetry

/// `triage explain`: one event on one page.
struct ExplainCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain",
        abstract: "One event on one page: its attempts, where it waited and why, what became of it, its trace as a waterfall.",
        discussion: """
            WHAT is a record of any topic, TOPIC/PARTITION/OFFSET: a first delivery, a retry or a dead letter, those of Spring, Kafka
            Connect, Streams, share groups, Karafka, Watermill and NServiceBus included; or a trace id, or a traceparent; or an
            event's id. A trace or an event id is looked for among the newest records of the topics (-t), dead letters first.

            Read from Kafka alone, so it works while the service runs and while it doesn't; it joins no group and changes nothing. The
            partitions of the same number in the retry and dead letter topics are read from the event's time on. Spans are asked of
            Jaeger, Tempo or a running process's console, if one is named; without them the waterfall is put together from the
            attempt ledger, and says so. No payload, key or foreign error text is shown; the patient as a hash, given the key.

            EXAMPLES
              triage explain -b localhost:9092 fhir.Patient.created/3/1042
              triage explain -b localhost:9092 fhir.Patient.created.dlq/3/17 --jaeger-url http://localhost:16686
              triage explain -b localhost:9092 4bf92f3577b34da6a3ce929d0e0e4736 --console http://127.0.0.1:9464
              triage explain -b localhost:9092 6f1c7a52-6f5e-4f0e-9d53-3a0b7f8f2b11 -o json | jq .headline
            """
    )

    @OptionGroup var options: InspectionOptions
    @Argument(help: ArgumentHelp("TOPIC/PARTITION/OFFSET, a trace id, a traceparent or an event id.", valueName: "WHAT"))
    var what: String
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Records of one partition that are read at most.", valueName: "number"))
    var limit: Int64 = 100_000
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Events of the same patient that are shown before it, and as many behind it; 0 for none.", valueName: "number"))
    var neighbours = 5
    @Option(help: ArgumentHelp("Base URL of Jaeger, to ask for spans (TRIAGE_JAEGER_URL).", valueName: "url"))
    var jaegerUrl: String?
    @Option(help: ArgumentHelp("Base URL of Tempo's API, to ask for spans (TRIAGE_TEMPO_URL).", valueName: "url"))
    var tempoUrl: String?
    @Option(help: ArgumentHelp("Base URL of a running process's console, to ask for spans that it keeps.", valueName: "url"))
    var console: String?
    @Option(
        help: ArgumentHelp(
            "File with the key that `triage run` has, to show the patient as telemetry does (TRIAGE_IDENTIFIER_KEY_FILE).",
            valueName: "file"))
    var identifierKeyFile: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Columns of the page (default: the terminal's, else 100).", valueName: "number"))
    var width: Int?

    func validate() throws {
        guard limit >= 1 else { throw ValidationError("--limit \(limit): expected 1 or more") }
        guard (0...100).contains(neighbours) else { throw ValidationError("--neighbours \(neighbours): expected 0 to 100") }
        if let width, !PageStyle.widths.contains(width) {
            throw ValidationError("--width \(width): expected \(PageStyle.widths.lowerBound) to \(PageStyle.widths.upperBound)")
        }
    }

    func run() async throws {
        try await reported {
            let target = try ExplanationTarget(what)
            let environment = ProcessInfo.processInfo.environment
            let explainer = try await explainer()
            defer { explainer.close() }
            let explanation = try await explainer.explain(target)
            Narration.endProgress()
            if options.output == .json {
                try Output.json(ExplainJSON(explanation))
            } else {
                try Output.line(
                    ExplainOutput(explanation, style: .standardOutput(width: width, environment: environment)).text)
            }
        }
    }

    private func explainer() async throws -> Explainer {
        let topics = options.topics.flatMap(ListedTopics.parts)
        if !topics.isEmpty { try ConfigurationLoader.check(topics: topics) }
        let (configuration, loader) = try await options.broker.load([
            "group": options.group, "topics": topics.isEmpty ? nil : topics.joined(separator: ","), "jaeger-url": jaegerUrl,
            "tempo-url": tempoUrl, "identifier-key-file": identifierKeyFile,
        ])
        // Without a key nothing stands for the patient.
        let identifiers = try loader.identifierPolicy { _ in } ?? .omitted
        let fetcher = try TraceFetcher(console: console, traces: configuration.traces)
        try await TopicAdministrator(configuration.kafka, logger: options.broker.logger).reach()
        var explained = Explainer.Options()
        explained.group = options.group
        explained.limit = limit
        explained.neighbours = neighbours
        return try Explainer(
            configuration, options: explained, identifiers: identifiers, fetcher: fetcher, logger: options.broker.logger
        ) { topic, read, total in
            Narration.progress("\(topic): \(read) of at most \(total) records")
        }
    }
}
