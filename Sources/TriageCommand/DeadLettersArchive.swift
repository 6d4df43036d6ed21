import ArgumentParser
import Foundation
import Logging
import Synchronization
import Triage
import TriageEvents
import TriageProcessing
import TriageTelemetry

extension DeadLettersCommand {
    struct Export: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Dead letters as NDJSON on standard output, byte for byte. That is patient data.",
            discussion: """
                A line for each, the oldest of each partition first: topic, partition, offset, timestamp, status, and key,
                value and headers in base64. Encrypted payloads stay encrypted. It goes on record in
                \(TopicName.deadLetterState) first.

                EXAMPLES
                  triage dlq export -b localhost:9092 --all > dead-letters.ndjson
                  triage dlq export --fingerprint 5c01 | jq -r '.value | @base64d' | jq .
                """
        )
        @OptionGroup var options: DeadLetterOptions
        @OptionGroup var which: DeadLetterWhich
        @OptionGroup var person: OperatorOptions
        @Option(help: ArgumentHelp("Why; goes on record.", valueName: "text"))
        var reason: String?

        func validate() throws {
            guard which.limit == nil else { throw ValidationError("--limit: expected none here; head -n cuts") }
        }

        func run() async throws {
            try await reported {
                let now = SystemClock().now()
                let resolved = try which.resolved(group: options.group, now: now, statuses: Set(DeadLetterState.Status.allCases))
                let desk = try await options.connect(resolved.ids)
                defer { desk.access.close() }
                let name = person.name
                try await DeadLetterReveal(desk.access, kafka: desk.configuration.kafka)
                    .recordExport(of: resolved.ids, by: name, reason: reason)
                Narration.logger.log(
                    level: .notice, safe: "dead letters are exported",
                    shown: "exported to \(PlainText.printable(name)): on record in \(TopicName.deadLetterState)")
                Narration.say("note: this is patient data: key, payload and headers of each event as they stand")
                let writer = LineWriter()
                switch resolved {
                case .ids(let ids):
                    for id in ids {
                        let (entry, record) = try await desk.browser.find(id)
                        _ = writer.write(DeadLetterArchive.line(record, entry.letter, state: entry.state))
                    }
                case .filter(let filter, _, let everywhere):
                    try await desk.browser.each(filter, everywhere: everywhere) { entry, record in
                        writer.write(DeadLetterArchive.line(record, entry.letter, state: entry.state))
                    }
                }
                Narration.endProgress()
                try writer.end()
                Narration.say("\(PlainText.count(writer.count, "dead letter")) exported")
            }
        }
    }

    struct Import: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Writes exported dead letters back into their topics; a dry run until --execute.",
            discussion: """
                For dead letters that aren't there any more, since retention or an operator removed them, or on another
                cluster: they can be listed, shown and replayed again. It replays nothing itself. Key, payload and headers are
                written byte for byte, to the same topic and partition, at a new offset; the broker stamps the time. What is
                there already, by group, origin and replay, isn't written again.

                EXAMPLES
                  triage dlq import -b localhost:9092 dead-letters.ndjson
                  zcat dead-letters.ndjson.gz | triage dlq import -b localhost:9092 --execute -
                """
        )
        @OptionGroup var options: DeadLetterOptions
        @OptionGroup var person: OperatorOptions
        @Argument(help: ArgumentHelp("What export wrote, or - for standard input.", valueName: "FILE"))
        var file: String
        @Flag(help: "Do it.")
        var execute = false

        func run() async throws {
            try await reported {
                let input = try LineReader(file)
                let desk = try await options.connect()
                defer { desk.access.close() }
                let telemetry = try makeTelemetry(desk.loader, logger: options.broker.logger, exportsByDefault: false)
                let importer = DeadLetterImporter(desk.access, by: person.name, telemetry: telemetry, execute: execute)
                var report: DeadLetterImporter.Report
                do {
                    report = try await read(input, into: importer)
                } catch {
                    await importer.end()
                    await telemetry.shutdown()
                    Narration.endProgress()
                    Narration.say("\(importer.written) were written before it ended; run again, it writes nothing twice")
                    throw error
                }
                await importer.end()
                await telemetry.shutdown()
                Narration.endProgress()
                report.execute = execute
                if options.output == .json { try Output.json(report) } else { try Output.line(text(report)) }
                if report.refused > 0 { throw ExitCode.failure }
            }
        }

        private func read(_ input: LineReader, into importer: DeadLetterImporter) async throws -> DeadLetterImporter.Report {
            try await importer.begin { topic, read, total in Narration.progress(ProgressBar.text(topic, Int64(read), of: total)) }
            let decoder = EventDecoder()
            var number = 0
            while let line = try input.next() {
                number += 1
                if line.allSatisfy({ $0 == 0x20 || $0 == 0x09 }) { continue }
                do {
                    try await importer.add(DeadLetterArchive.record(ByteSlice(line), decoder: decoder))
                } catch let error as DeadLetterArchiveError {
                    importer.refuse()
                    Narration.endProgress()
                    if importer.report.refused <= 10 { Narration.say("line \(number): \(error)") }
                } catch let error as DeadLetterImporter.NoSuchPartition {
                    importer.refuse()
                    Narration.endProgress()
                    if importer.report.refused <= 10 { Narration.say("line \(number): \(error)") }
                }
                if number % 64 == 0 { Narration.progress("line \(number)\(input.share.map { "  \(Int($0 * 100)) %" } ?? "")") }
            }
            return try await importer.finish()
        }

        private func text(_ report: DeadLetterImporter.Report) -> String {
            var rows = [(execute ? "written" : "would be written", "\(report.written)"), ("there already", "\(report.present)")]
            if report.refused > 0 { rows.append(("refused", "\(report.refused)")) }
            return Table.rows(rows) + (execute || report.written == 0 ? "" : "\nNothing was done yet: --execute does it.")
        }
    }
}

/// Writes lines to stdout, many at a time.
final class LineWriter: Sendable {
    private struct State {
        var pending = TextBytes(capacity: 1 << 17)
        var count = 0
        var error: OutputError?
    }
    private let state = Mutex(State())

    var count: Int { state.withLock(\.count) }

    /// - Returns: whether stdout still takes lines.
    func write(_ line: ByteSlice) -> Bool {
        state.withLock { state in
            guard state.error == nil else { return false }
            state.pending.append(line)
            state.pending.append(byte: UInt8(ascii: "\n"))
            state.count += 1
            if state.pending.count >= 1 << 16 { Self.flush(&state) }
            return state.error == nil
        }
    }

    /// Writes what is left.
    func end() throws(OutputError) {
        let error = state.withLock { state in
            if state.error == nil { Self.flush(&state) }
            return state.error
        }
        if let error { throw error }
    }

    private static func flush(_ state: inout State) {
        let reason = Output.write(state.pending.slice, to: STDOUT_FILENO)
        state.pending = TextBytes(capacity: 1 << 17)
        if let reason { state.error = OutputError(errno: reason) }
    }
}
