import ArgumentParser
import Foundation
import Synchronization
import Triage
import TriageEvents
import UnixSignals

struct PublishCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "publish",
        abstract: "Publishes Patient resources or events from NDJSON, validated line by line.",
        discussion: """
            A resource needs --action and is wrapped in an event whose data is the line, byte for byte; an event (envelope or
            flat form) says itself what happened and is sent as it is.

            EXAMPLES
              triage publish -b localhost:9092 --action created patients.ndjson
              cat events.ndjson | triage publish -b localhost:9092 --keep-going -
            """
    )

    @OptionGroup var broker: BrokerOptions
    @Argument(help: ArgumentHelp("NDJSON file, or - for standard input.", valueName: "file"))
    var file: String
    @Option(help: "What happened to bare resources: created, updated or deleted.")
    var action: Action?
    @Option(help: "How topics are named: hybrid, resource or action.")
    var pattern: TopicsCommand.Pattern = .hybrid
    @Option(help: "metadata.source of the events that are made.")
    var source = "triage-publish"
    @Flag(help: "Go on after a bad line; all are named.")
    var keepGoing = false
    @Option(name: [.customShort("o"), .long], help: "The summary: text or json.")
    var output: OutputFormat = .text

    enum Action: String, ExpressibleByArgument, CaseIterable {
        case created, updated, deleted
    }

    func run() async throws {
        try await reported {
            let (configuration, loader) = try await broker.load([:])
            let input = try LineReader(file)
            let logger = broker.logger
            try await TopicAdministrator(configuration.kafka, logger: logger).reach()
            let telemetry = try makeTelemetry(loader, logger: logger, exportsByDefault: false)
            let publisher = try EventPublisher(
                configuration.kafka, telemetry: telemetry, pattern: pattern.value, source: source, logger: logger
            )
            let interruption = Interruption()
            let watcher = interruption.watch()
            defer { watcher.cancel() }
            let summary = try await publish(input, through: publisher, until: interruption)
            _ = await publisher.flush()
            publisher.close()
            await telemetry.shutdown()
            let result = summary.result
            if output == .json { try Output.json(result) } else { try Output.line(result.table) }
            if interruption.hasCome { throw ExitCode(130) }
            if result.failed > 0 { throw ExitCode.failure }
        }
    }

    /// A first SIGINT or SIGTERM ends the reading, so that the summary tells what was sent; a second ends at once.
    final class Interruption: Sendable {
        private let flag = Atomic(false)
        var hasCome: Bool { flag.load(ordering: .relaxed) }

        func watch() -> Task<Void, Never> {
            Task {
                for await signal in await UnixSignalsSequence(trapping: .sigterm, .sigint) {
                    if hasCome { _exit(130) }
                    flag.store(true, ordering: .relaxed)
                    Narration.endProgress()
                    Narration.say("\(signal): waiting for what was sent to be acknowledged; once more ends at once")
                }
            }
        }
    }

    private func publish(
        _ input: LineReader, through publisher: EventPublisher, until interruption: Interruption
    ) async throws -> Tally {
        let tally = Tally()
        let decoder = EventDecoder()
        let changeAction = action.flatMap { ChangeAction(rawValue: $0.rawValue) }
        var number = 0
        while !interruption.hasCome, var line = try input.next() {
            number += 1
            // Editors on Windows put a byte order mark first; RFC 8259 §8.1 lets a reader ignore it.
            if number == 1, line.starts(with: [0xEF, 0xBB, 0xBF]) { line = line.dropFirst(3) }
            if line.allSatisfy({ $0 == 0x20 || $0 == 0x09 }) { continue }
            let lineNumber = number
            do {
                try await publisher.publish(ByteSlice(line), action: changeAction, decoder: decoder) { result in
                    if case .failure(let error) = result {
                        tally.fail(lineNumber, "not acknowledged: \(error)")
                    } else {
                        tally.acknowledge()
                    }
                }
            } catch let invalid as InvalidEvent {
                tally.fail()
                Narration.endProgress()
                let hint = invalid.rule == .action && action == nil ? "; a bare resource needs --action" : ""
                let place = invalid.path.isEmpty ? "" : " at \(invalid.path)"
                Narration.say("line \(lineNumber): \(invalid.rule.rawValue)\(place)\(hint)")
                if !keepGoing { break }
            } catch let refused as BrokerError {
                // The client did not take this one, most likely for its size; others may pass.
                tally.fail(lineNumber, "not taken: \(refused)")
                if !keepGoing || refused.isFatal { break }
            }
            if number % 64 == 0 { Narration.progress("line \(number)\(input.share.map { "  \(Int($0 * 100)) %" } ?? "")") }
        }
        _ = await publisher.flush(timeout: .seconds(120))
        Narration.endProgress()
        for text in tally.folded { Narration.say(text) }
        return tally
    }

    /// Counts on several threads.
    final class Tally: Sendable {
        private let counts = Mutex((published: 0, failed: 0))
        private let failures = Mutex(FailedLines())
        func acknowledge() { counts.withLock { $0.published += 1 } }
        func fail() { counts.withLock { $0.failed += 1 } }

        /// A line failed for what the brokers or the client said: told at once for the first few of a reason, then only counted.
        func fail(_ line: Int, _ reason: String) {
            fail()
            let isTold = failures.withLock { $0.add(line, reason) }
            if isTold {
                Narration.endProgress()
                Narration.say("line \(line): \(reason)")
            }
        }

        /// What was only counted, a line for each reason.
        var folded: [String] { failures.withLock { $0.folded } }
        var result: PublishResult { counts.withLock { PublishResult(published: $0.published, failed: $0.failed) } }
    }

    /// Lines that failed, by reason: when a broker dies, thousands do at once.
    struct FailedLines {
        /// Lines of a reason that are told one by one.
        static let told = 3

        private var reasons: [(reason: String, count: Int, last: Int)] = []

        /// - Returns: whether the line is one of the first of its reason.
        mutating func add(_ line: Int, _ reason: String) -> Bool {
            guard let index = reasons.firstIndex(where: { $0.reason == reason }) else {
                reasons.append((reason, 1, line))
                return true
            }
            reasons[index].count += 1
            reasons[index].last = max(reasons[index].last, line)
            return reasons[index].count <= Self.told
        }

        /// `and 997 more, up to line 1000: not acknowledged: …` for each reason that had more.
        var folded: [String] {
            reasons.filter { $0.count > Self.told }.map {
                "and \(PlainText.count($0.count - Self.told, "more line")), up to line \($0.last): \($0.reason)"
            }
        }
    }

    struct PublishResult: Encodable {
        let published: Int
        let failed: Int
        var table: String { Table.rows([("published", "\(published)"), ("failed", "\(failed)")]) }
    }
}
