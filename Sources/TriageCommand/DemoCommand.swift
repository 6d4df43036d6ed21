import ArgumentParser
import Foundation
import Logging
import Triage
import TriageEvents
import TriageTelemetry
import UnixSignals

struct DemoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Everything on one machine: an embedded broker, synthetic patients, failures, retries, dead letters, a trace.",
        discussion: """
            Nothing else needs to run. Set OTEL_EXPORTER_OTLP_ENDPOINT to see the same spans in a collector of yours.

            EXAMPLES
              triage demo
              triage demo --events 100000 --seed 7 -o json
              triage demo --serve                           /metrics and /console from the start; everything stays up afterwards
              triage demo --serve --rate 50 --events 10000  a live system for dashboards, for some minutes
            """
    )

    @Option(parsing: .unconditional, help: "Events to produce.")
    var events = 1000
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Events to produce in a second; as fast as they are handled if absent.", valueName: "number"))
    var rate: Double?
    @Option(parsing: .unconditional, help: "Makes patients, failures and their order reproducible.")
    var seed: UInt64 = 1
    @Option(parsing: .unconditional, help: "Share of events whose handler fails at first, 0 to 1.")
    var transient = 0.05
    @Option(parsing: .unconditional, help: "Share of events that are invalid or refused, 0 to 1 (default: 0.01).")
    var persistent: Double?
    @Option(name: [.customShort("o"), .long], help: "The report: text or json.")
    var output: OutputFormat = .text
    @Flag(help: "Serve /metrics and /console from the start, and keep them, the broker and the processor up until Ctrl-C.")
    var serve = false
    @Option(help: ArgumentHelp("Where --serve listens (default: 127.0.0.1:9464).", valueName: "host:port"))
    var http: String?
    @OptionGroup var log: LogOptions

    func validate() throws {
        guard (1...100_000_000).contains(events) else {
            throw ValidationError("--events \(events): expected a number from 1 to 100000000")
        }
        if let rate, !(0.1...1_000_000).contains(rate) {
            throw ValidationError("--rate \(rate): expected events per second, from 0.1 to 1000000")
        }
        for (name, value) in [("--transient", transient), ("--persistent", persistent ?? 0)] where !(0...1).contains(value) {
            throw ValidationError("\(name) \(value): expected a share from 0 to 1")
        }
        guard transient + (persistent ?? 0) <= 1 else {
            throw ValidationError("--transient \(transient) --persistent \(persistent ?? 0): expected at most 1 together")
        }
        guard serve || http == nil else { throw ValidationError("--http \(http ?? ""): expected --serve beside it") }
        if let http, Configuration.HTTPAddress(http) == nil { throw ValidationError("--http \(http): expected host:port") }
    }

    func run() async throws {
        try await reported {
            let loader = try await ConfigurationLoader(flags: log.flags, environment: ProcessInfo.processInfo.environment)
            try Narration.begin(loader.logSettings(level: .warning))
            let logger = Narration.logger
            let recorder = TraceRecorder()
            let console = try serve ? consoleSettings(loader) : nil
            let telemetry = try makeTelemetry(
                loader, logger: logger, exportsByDefault: false, processors: [recorder], identifiersByDefault: .hashed(.random()),
                keeping: console.map { _ in Self.kept }
            )
            var options = DemonstrationOptions()
            options.events = events
            options.rate = rate
            options.staysUp = serve
            options.seed = seed
            options.transient = transient
            options.persistent = persistent ?? min(options.persistent, 1 - transient)
            let demonstration = try Demonstration(options, telemetry: telemetry, recorder: recorder, logger: logger)
            if output == .text {
                Narration.say(
                    "Embedded broker at \(demonstration.brokers); \(events) events of synthetic patients, seed \(seed).")
            }
            let serving =
                serve
                ? try await startServing(
                    demonstration, at: telemetry.configuration.prometheusAddress, console: console, links: loader.traceLinks())
                : nil
            let server = serving?.server
            defer { server?.cancel() }
            let work = Task {
                let report = try await demonstration.run { Narration.progress(Self.line($0)) }
                Narration.endProgress()
                return report
            }
            let interruption = Self.cancelOnSignal { work.cancel() }
            defer { interruption.cancel() }
            let flusher = await FlushSignal.watch(telemetry) { _, text in Narration.say(text) }
            defer { flusher.cancel() }
            let report = try await work.value
            let summary = Summary(report)
            if report.isInterrupted {
                Narration.say(
                    "Interrupted with \(report.completed + report.deadLettered) of \(PlainText.count(events, "event")) finished.")
            }
            if output == .json { try Output.json(summary) } else { try Output.line(summary.text(report)) }
            if report.isInterrupted {
                await telemetry.shutdown(timeout: .seconds(5))
                throw ExitCode(130)
            }
            if let server {
                // A pipe's reader wants the report now, not when the serving ends.
                fflush(nil)
                if let console, let address = serving?.address { ConsoleOptions.announce(console, at: address) }
                let interruption = Self.cancelOnSignal { server.cancel() }
                defer { interruption.cancel() }
                try await server.value
                try await demonstration.finish()
            }
            await telemetry.shutdown(timeout: .seconds(5))
            demonstration.close()
            guard report.isBalanced else {
                Narration.fail(
                    "\(report.produced) produced, but \(report.completed) completed and \(report.deadLettered) dead-lettered"
                )
                throw ExitCode.failure
            }
        }
    }

    /// Serves `/metrics` from now on, and returns once it listens, so that a port that is taken ends the demonstration at once.
    ///
    /// The flag goes before OpenTelemetry's variables, those before the default.
    private func startServing(
        _ demonstration: Demonstration, at configured: Configuration.HTTPAddress?, console: Configuration.Console?,
        links: TraceLinks
    ) async throws -> (server: Task<Void, any Error>, address: Configuration.HTTPAddress) {
        let address =
            http.flatMap { Configuration.HTTPAddress($0) } ?? configured
            ?? Configuration.HTTPAddress(host: "127.0.0.1", port: 9464)
        let (listening, announce) = AsyncThrowingStream<Int, any Error>.makeStream()
        let server = Task {
            do {
                try await demonstration.serve(at: address, console: console, links: links) { announce.yield($0) }
                announce.finish()
            } catch {
                announce.finish(throwing: error)
                throw error
            }
        }
        var bound = address
        for try await port in listening {
            bound.port = port
            Narration.say("Broker:  \(demonstration.brokers)")
            Narration.say("Metrics: http://\(bound)/metrics   (Ctrl-C ends)")
            if let console { ConsoleOptions.announce(console, at: bound) }
            break
        }
        return (server, bound)
    }

    /// The console as the environment says, else with a token of its own; nil if it is off.
    private func consoleSettings(_ loader: ConfigurationLoader) throws -> Configuration.Console? {
        var console = try loader.consoleSettings()
        guard console.isOn ?? true else { return nil }
        console.makeToken(if: true)
        return console
    }

    /// All that a demonstration of usual size makes: thousands of events come in a few seconds, and fail a little later.
    private static let kept: SpanStore.Limits = {
        var limits = SpanStore.Limits()
        limits.bytes = 128 << 20
        return limits
    }()

    private static func cancelOnSignal(_ cancel: @escaping @Sendable () -> Void) -> Task<Void, Never> {
        Task {
            var isSecond = false
            for await _ in await UnixSignalsSequence(trapping: .sigterm, .sigint) {
                if isSecond { _exit(130) }
                isSecond = true
                cancel()
            }
        }
    }

    private static func line(_ progress: DemonstrationProgress) -> String {
        let finished = progress.completed + progress.deadLettered
        let width = 24
        let filled = progress.total == 0 ? width : min(width, finished * width / progress.total)
        let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
        return "\(bar) \(finished)/\(progress.total)  produced \(progress.produced)  completed \(progress.completed)  "
            + "retries \(progress.retries)  parked \(progress.parked)  dead-lettered \(progress.deadLettered)"
    }

    /// What `-o json` prints.
    struct Summary: Encodable {
        let produced: Int
        let completed: Int
        let deadLettered: Int
        let retries: Int
        let parked: Int
        let duplicates: Int
        let spansExported: Int
        let spansDropped: Int
        let durationSeconds: Double
        let interrupted: Bool
        @OrNull var exampleTraceId: String?

        init(_ report: DemonstrationReport) {
            produced = report.produced
            completed = report.completed
            deadLettered = report.deadLettered
            retries = report.retries
            parked = report.parked
            duplicates = report.duplicates
            spansExported = report.spansExported
            spansDropped = report.spansDropped
            durationSeconds = report.duration.inSeconds
            interrupted = report.isInterrupted
            exampleTraceId = report.exampleTrace.first.map { "\($0.context.traceID)" }
        }

        func text(_ report: DemonstrationReport) -> String {
            let table = Table.rows([
                ("produced", "\(produced)"), ("completed", "\(completed)"), ("dead-lettered", "\(deadLettered)"),
                ("retries", "\(retries)"), ("parked", "\(parked)"), ("duplicates", "\(duplicates)"),
                ("spans exported", "\(spansExported)"), ("spans dropped", "\(spansDropped)"),
                ("duration", Table.seconds(durationSeconds)),
            ])
            // The event of the trace may not have come to its end yet.
            if report.isInterrupted { return table + "\n\nInterrupted: the numbers tell what was done until then." }
            guard let exampleTraceId else {
                if deadLettered > 0 {
                    return table + "\n\nNo trace was recorded: OTEL_SDK_DISABLED or OTEL_TRACES_SAMPLER says so."
                }
                return table + "\n\nNo event was dead-lettered: raise --transient or --persistent, or --events, to see a trace."
            }
            return table + "\n\nOne dead-lettered event, trace \(exampleTraceId):\n\n" + TraceTree(report.exampleTrace).text
        }
    }
}

/// Encodes nil as `null` rather than leaving the key out, so that a reader always finds it.
@propertyWrapper
struct OrNull<Value: Encodable & Sendable>: Encodable, Sendable {
    var wrappedValue: Value?

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if let wrappedValue { try container.encode(wrappedValue) } else { try container.encodeNil() }
    }
}
