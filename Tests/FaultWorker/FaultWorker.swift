import Dispatch
import Glibc
import Logging
import ServiceLifecycle
import Triage
import UnixSignals

/// A service on the public library, as its README shows, whose handler tells a file outside of the process what it does.
///
///     FaultWorker --record FILE [--seed N] [--suspend-ms N] [--exit-at-end] [-X name=value]… [--KEY VALUE]…
///
/// Every other option is a key of `ConfigurationLoader`, such as `--brokers` and `--instance-id`. With `--suspend-ms` each event
/// takes that long and succeeds; otherwise ``FailurePlan`` says what happens to it.
@main
struct FaultWorker {
    static func main() async {
        do {
            try await serve(Options(CommandLine.arguments.dropFirst()))
        } catch {
            var text = "worker: \(error)\n"
            _ = text.withUTF8 { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
            exit(1)
        }
    }

    private static func serve(_ options: Options) async throws {
        let environment = Options.environment
        let loader = try await ConfigurationLoader(flags: options.settings, environment: environment)
        let level = try loader.logSettings(level: .info).level
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = level
            return handler
        }
        var configuration = try loader.configuration()
        configuration.kafka.additional = options.properties
        configuration.endsWhenIdle = options.exitsAtEnd
        let record = try Recorder(path: options.record)
        let telemetry = Telemetry(TelemetryConfiguration(environment: environment, exportsByDefault: false))
        let plan = FailurePlan(seed: options.seed)
        let suspension = options.suspension
        let logger = Logger(label: "worker")
        let processor = try Processor(configuration, telemetry: telemetry, logger: logger) { event, context in
            record.note(.begin, context)
            if let suspension {
                try await Task.sleep(for: suspension)
                record.note(.done, context)
                return
            }
            do {
                try await plan.perform(origin: context.origin.description, attempt: context.attempt)
            } catch let error as RejectedError {
                record.note(.persistent, context)
                throw error
            } catch let error as CancellationError {
                record.note(.cancelled, context)
                throw error
            } catch {
                record.note(.transient, context)
                throw error
            }
            record.note(.done, context)
        }
        // SIGTERM ends the group gracefully: the processor finishes what is in flight and commits.
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [.init(service: processor, successTerminationBehavior: .gracefullyShutdownGroup)],
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger
            )
        )
        try await group.run()
        await telemetry.shutdown()
        let summary = processor.summary
        logger.info("done: \(summary.consumed) handled, \(summary.completed) completed, \(summary.deadLettered) dead-lettered")
    }
}

/// The command line.
struct Options {
    var settings: [String: String] = [:]
    var properties: [String: String] = [:]
    var record = ""
    var seed: UInt64 = 0
    var suspension: Duration?
    var exitsAtEnd = false

    struct Wrong: Error, CustomStringConvertible {
        let description: String
    }

    init(_ arguments: some Sequence<String>) throws {
        var rest = arguments.makeIterator()
        while let name = rest.next() {
            if name == "--exit-at-end" {
                exitsAtEnd = true
                continue
            }
            guard name.hasPrefix("-"), let value = rest.next() else { throw Wrong(description: "\(name) needs a value") }
            switch name {
            case "-X":
                let parts = value.split(separator: "=", maxSplits: 1).map(String.init)
                guard parts.count == 2 else { throw Wrong(description: "-X needs name=value") }
                properties[parts[0]] = parts[1]
            case "--record": record = value
            case "--seed":
                guard let number = UInt64(value) else { throw Wrong(description: "--seed needs a number") }
                seed = number
            case "--suspend-ms":
                guard let number = Int(value) else { throw Wrong(description: "--suspend-ms needs a number") }
                suspension = .milliseconds(number)
            default:
                let key = String(name.dropFirst(2))
                guard ConfigurationLoader.keys.contains(where: { $0.key == key }) else {
                    throw Wrong(description: "there is no option \(name)")
                }
                settings[key] = value
            }
        }
        if record.isEmpty { throw Wrong(description: "--record FILE is needed") }
    }

    static var environment: [String: String] {
        var found: [String: String] = [:]
        var entry = environ
        while let text = entry.pointee {
            let pair = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if pair.count == 2 { found[String(pair[0])] = String(pair[1]) }
            entry += 1
        }
        return found
    }
}

/// Appends one line for each thing that a handler does, by one `write` each, so that a kill loses none that was made and the
/// lines of several processes stand in the order in which they were made.
final class Recorder: Sendable {
    enum Phase: String {
        case begin, done, transient, persistent, cancelled
    }

    private let descriptor: Int32
    private let process = getpid()

    init(path: String) throws {
        descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
        if descriptor < 0 { throw Options.Wrong(description: "\(path) can't be written: \(String(cString: strerror(errno)))") }
    }

    /// Monotonic nanoseconds, process, key, origin, attempt, phase.
    func note(_ phase: Phase, _ context: HandlerContext) {
        let nanoseconds = DispatchTime.now().uptimeNanoseconds
        let key = context.record.key.map { String(decoding: $0, as: UTF8.self) } ?? "-"
        var line = "\(nanoseconds) \(process) \(key) \(context.origin) \(context.attempt) \(phase.rawValue)\n"
        let written = line.withUTF8 { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        // A record with holes proves nothing: better none.
        if written != line.utf8.count { exit(3) }
    }
}
