public import ArgumentParser
import Foundation
public import Logging
import Triage
import TriageEvents
import TriageKafka
import TriageTelemetry

/// How results are printed on stdout.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case text
    case json
}

/// The options of every command that talks to brokers.
struct BrokerOptions: ParsableArguments {
    @Option(name: [.customShort("b"), .long], help: "Brokers to ask first, host:port separated by commas (TRIAGE_BROKERS).")
    var brokers: String?

    @Option(
        name: .customShort("X"),
        help: ArgumentHelp(
            "Any property of librdkafka, such as security.protocol=SASL_SSL; a value @FILE is read from that file.",
            valueName: "name=value"
        )
    )
    var properties: [String] = []

    @Option(help: ArgumentHelp("YAML file with the keys of the environment, lower case and without TRIAGE_.", valueName: "file"))
    var config: String?

    @OptionGroup var log: LogOptions

    /// The configuration from flags over environment over file over defaults.
    func load(_ flags: [String: String?]) async throws -> (Configuration, ConfigurationLoader) {
        var set = flags.compactMapValues { $0 }
        if let brokers { set["brokers"] = brokers }
        set.merge(log.flags) { _, flag in flag }
        let loader = try await ConfigurationLoader(flags: set, environment: ProcessInfo.processInfo.environment, file: config)
        try Narration.begin(loader.logSettings())
        Narration.warn(of: ConfigurationLoader.unknownVariables(in: ProcessInfo.processInfo.environment))
        var configuration = try loader.configuration()
        configuration.kafka.additional = try parsedProperties()
        try configuration.kafka.validate()
        return (configuration, loader)
    }

    func parsedProperties() throws -> [String: String] {
        var parsed: [String: String] = [:]
        for property in properties {
            let parts = property.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, !parts[0].isEmpty else {
                // Without a name one can't tell whether it is a secret.
                throw ConfigurationError(
                    key: "-X", value: parts.count == 2 ? "=***" : "***", expected: "name=value or name=@file")
            }
            if parts[1].hasPrefix("@") {
                let path = String(parts[1].dropFirst())
                guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
                    throw ConfigurationError(key: "-X \(parts[0])", value: "@\(path)", expected: "a readable text file")
                }
                parsed[parts[0]] = text.trimmingCharacters(in: .newlines)
            } else {
                parsed[parts[0]] = parts[1]
            }
        }
        return parsed
    }

    /// Log lines on stderr; to be asked after ``load(_:)``.
    var logger: Logger { Narration.logger }
}

/// How to log; each can be set by TRIAGE_LOG_… and in the file as well.
struct LogOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "What is logged on stderr: trace, debug, info, notice, warning, error, critical (TRIAGE_LOG_LEVEL).",
            valueName: "level"))
    var logLevel: Logger.Level?
    @Option(help: ArgumentHelp("How log lines are written: text or json (TRIAGE_LOG_FORMAT).", valueName: "format"))
    var logFormat: LogFormat?

    /// The flags that were given, by key.
    var flags: [String: String] {
        ["log-level": logLevel?.rawValue, "log-format": logFormat?.rawValue].compactMapValues { $0 }
    }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}
extension LogFormat: ExpressibleByArgument {}

extension BrokerError {
    /// Whether nobody answered, as librdkafka names it.
    var isUnreachable: Bool { ["_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT"].contains(name) }
}

/// Errors of this program by their exit code: 64 for what was typed, 1 for what happened.
///
/// Beside these, 130 after a second Ctrl-C or an interrupted demonstration, 141 when stdout's reader went away.
func reported<Result>(_ body: () async throws -> Result) async throws -> Result {
    do {
        return try await body()
    } catch let error as ConfigurationError {
        Narration.fail("\(error)")
        throw ExitCode(64)
    } catch let error as KafkaConfigurationError {
        Narration.fail("\(error)")
        throw ExitCode(64)
    } catch let error as IdentifierKeyError {
        Narration.fail("\(error)")
        throw ExitCode(64)
    } catch let error as ExitCode {
        throw error
    } catch let error as BrokerError where error.isUnreachable {
        Narration.endProgress()
        Narration.fail("no broker answers (\(error)): is one listening at the address that -b or TRIAGE_BROKERS names?")
        throw ExitCode.failure
    } catch let error as OutputError where error.isClosedPipe {
        // What a shell reports of a command whose reader went away: 128 + SIGPIPE.
        throw ExitCode(128 + SIGPIPE)
    } catch {
        Narration.endProgress()
        Narration.fail("\(error)")
        throw ExitCode.failure
    }
}
