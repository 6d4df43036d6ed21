import ArgumentParser
import Foundation
import Logging
import Synchronization
import Triage
import TriageEvents
import TriageProcessing
import TriageTelemetry
import UnixSignals

/// The way to the dead letters, as the options say it.
struct DeadLetterDesk {
    let configuration: Configuration
    let loader: ConfigurationLoader
    let identifiers: IdentifierPolicy
    let access: DeadLetterAccess
    /// The group that was given.
    let group: String?

    /// Reads dead letters, with a progress bar on a terminal.
    var browser: DeadLetterBrowser {
        DeadLetterBrowser(access) { topic, read, total in Narration.progress(ProgressBar.text(topic, Int64(read), of: total)) }
    }

    /// What is done to dead letters by an operator, who isn't one any more when that has ended, however it does.
    typealias Work<Report> =
        @Sendable (DeadLetterOperator, DeadLetterSelection, @escaping DeadLetterOperator.Progress) async throws -> Report

    /// Becomes the operator, finds out which dead letters are meant, and does `work` to them. Its spans have left when it returns.
    ///
    /// - Parameters:
    ///   - name: who does it.
    ///   - done: what was done, for the progress: `replayed`.
    /// - Throws: what ended it before its end, when it was said how far it had come.
    func operate<Report: Sendable>(
        _ which: DeadLetterWhich.Resolved, by name: String, done: String, _ work: @escaping Work<Report>
    ) async throws -> Report {
        let telemetry = try makeTelemetry(loader, logger: access.logger, exportsByDefault: false)
        let counts = DeadLetterWork(verb: done)
        let browser = browser
        let outcome: Result<Report, any Error>
        do {
            outcome = .success(
                try await InterruptibleWork.run {
                    let desk = DeadLetterOperator(browser.access, by: name, telemetry: telemetry)
                    // Others are fenced first: what they have done by then is known when it is decided what there is to do.
                    try await desk.begin()
                    defer { Narration.endProgress() }
                    do {
                        let selection = try await which.selection(browser)
                        counts.total = selection.count
                        let report = try await work(desk, selection) { counts.note($0) }
                        await desk.end()
                        return report
                    } catch {
                        await desk.end()
                        throw error
                    }
                })
        } catch {
            outcome = .failure(error)
        }
        await telemetry.shutdown()
        switch outcome {
        case .failure(let error): throw counts.interrupted(by: error)
        case .success(let report): return report
        }
    }

    /// Prints what would be done, and the command that does it.
    ///
    /// - Throws: an exit code if none of those that are meant can be taken.
    func preview(
        _ which: DeadLetterWhich.Resolved, verb: String, to targets: [String] = [], as output: OutputFormat, now: Timestamp,
        _ plan: @escaping DeadLetterPreview.Plan
    ) async throws {
        let preview = try await which.preview(browser, targets: targets, plan)
        let command = DeadLetterWhich.command(CommandLine.arguments, now: now, isFiltered: which.ids.isEmpty)
        if output == .json {
            try Output.json(DeadLetterPreview.Output(preview, verb: verb, command: command))
        } else {
            try Output.line(preview.text(verb: verb, command: command, now: now, width: FittedTable.terminalWidth))
        }
        if preview.isRefused { throw ExitCode.failure }
    }

    /// Puts on record that somebody looks at what a dead letter holds; nothing may be shown if that fails.
    func putOnRecord(
        _ action: DeadLetterReveal.Action, of id: RecordPosition, by name: String, reason: String?, what: String
    ) async throws {
        try await DeadLetterReveal(access, kafka: configuration.kafka).record(id, as: action, by: name, reason: reason)
        Narration.logger.log(
            level: .notice, safe: "a dead letter is revealed",
            shown: "\(what) to \(PlainText.printable(name)): on record in \(TopicName.deadLetterState)")
    }

    /// Puts on record that somebody asks by a patch what dead letters hold: these, or those of all topics if none are named.
    func putOnRecord(comparisonOf ids: [RecordPosition], by name: String, reason: String?) async throws {
        let reveal = DeadLetterReveal(access, kafka: configuration.kafka)
        let why = [reason, "a patch that compares values"].compactMap { $0 }.joined(separator: "; ")
        if ids.isEmpty {
            try await reveal.recordExport(of: ids, by: name, reason: why)
        } else {
            for id in ids { try await reveal.record(id, by: name, reason: why) }
        }
        Narration.logger.log(
            level: .notice, safe: "a patch compares values",
            shown: "the patch compares values, which reveals them: on record in \(TopicName.deadLetterState)")
    }
}

/// Counts what an operator does, and tells it as it goes on.
final class DeadLetterWork: Sendable {
    private struct Counts {
        var total = 0
        var done = 0
        var seen = 0
    }
    private let counts = Mutex(Counts())
    private let verb: String

    init(verb: String) { self.verb = verb }

    var total: Int {
        get { counts.withLock(\.total) }
        set { counts.withLock { $0.total = newValue } }
    }

    func note(_ event: OperatorEvent) {
        if case .waiting(let ended, let all) = event {
            Narration.progress("canaries: \(ended) of \(all) have ended")
            return
        }
        let counts = counts.withLock { counts in
            counts.seen += 1
            switch event {
            case .replayed, .discarded, .reopened: counts.done += 1
            case .unchanged, .refused, .waiting: break
            }
            return counts
        }
        if counts.seen % 50 == 0 || counts.seen == counts.total {
            Narration.progress(ProgressBar.text(verb, Int64(counts.seen), of: Int64(counts.total)))
        }
    }

    /// What is said of an end before the end.
    func interrupted(by error: any Error) -> any Error {
        let counts = counts.withLock { $0 }
        Narration.endProgress()
        let isCancelled = error is CancellationError
        if counts.total > 0 || isCancelled {
            Narration.say("\(verb) \(counts.done) of \(counts.total) before it ended; run again, it does nothing twice")
        }
        return isCancelled ? ExitCode(130) : error
    }
}

/// Runs what writes, so that a first Ctrl-C ends it between two transactions; a second one ends at once.
enum InterruptibleWork {
    static func run<Result: Sendable>(_ body: @escaping @Sendable () async throws -> Result) async throws -> Result {
        let work = Task { try await body() }
        let count = Atomic(0)
        let watcher = Task {
            for await signal in await UnixSignalsSequence(trapping: .sigterm, .sigint) {
                if count.add(1, ordering: .relaxed).oldValue > 0 { _exit(130) }
                Narration.endProgress()
                Narration.say("\(signal): ending after what is being written; once more ends at once")
                work.cancel()
            }
        }
        defer { watcher.cancel() }
        return try await work.value
    }
}
