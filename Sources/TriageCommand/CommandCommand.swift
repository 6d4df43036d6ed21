import ArgumentParser
import Foundation
import Glibc
import Triage
import TriageEvents
import TriageIngress

/// `triage command …`: asks for a change instead of telling of one.
struct CommandCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "command",
        abstract: "Asks for a Patient to be created, updated or deleted: sends a command to fhir.commands.",
        discussion: """
            A service that runs with --commands carries it out. The request id is printed on stdout; a create that is sent again with it
            makes no second Patient. With --wait what became of it is a second line, and anything but completed ends with 1. -o json prints
            what GET /commands/{requestId} answers.

            EXAMPLES
              triage command create-patient -b localhost:9092 patient.json
              triage command update-patient -b localhost:9092 --wait 30s -o json patient.json
              triage command delete-patient -b localhost:9092 --id example
            """,
        subcommands: [CreatePatient.self, UpdatePatient.self, DeletePatient.self])

    struct CreatePatient: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "create-patient", abstract: "Asks for a Patient to be created.")
        @OptionGroup var options: CommandSendOptions
        @Argument(help: ArgumentHelp("File with the Patient as JSON, or - for standard input.", valueName: "file"))
        var file: String

        func run() async throws {
            try await reported { try await options.send(.created, resource: try CommandSendOptions.read(file)) }
        }
    }

    struct UpdatePatient: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "update-patient",
            abstract: "Asks for a Patient to be replaced; with meta.versionId only if that is still its version.")
        @OptionGroup var options: CommandSendOptions
        @Argument(help: ArgumentHelp("File with the Patient as JSON, or - for standard input.", valueName: "file"))
        var file: String

        func run() async throws {
            try await reported { try await options.send(.updated, resource: try CommandSendOptions.read(file)) }
        }
    }

    struct DeletePatient: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "delete-patient", abstract: "Asks for a Patient to be deleted.")
        @OptionGroup var options: CommandSendOptions
        @Option(help: ArgumentHelp("The Patient's id, instead of a file.", valueName: "id"))
        var id: String?
        @Argument(help: ArgumentHelp("File with the Patient as JSON, or - for standard input.", valueName: "file"))
        var file: String?

        func validate() throws {
            guard (id == nil) != (file == nil) else { throw ValidationError("either --id or a file is needed") }
            guard id.map({ FHIRGrammar.isID(ByteSlice($0)) }) ?? true else {
                throw ValidationError("--id must be 1 to 64 letters, digits, dots or dashes")
            }
        }

        func run() async throws {
            try await reported {
                let resource =
                    if let id { ByteSlice(#"{"resourceType":"Patient","id":"\#(id)"}"#) } else {
                        try CommandSendOptions.read(file ?? "-")
                    }
                try await options.send(.deleted, resource: resource)
            }
        }
    }
}

/// What the three commands have in common.
struct CommandSendOptions: ParsableArguments {
    @OptionGroup var broker: BrokerOptions
    @Option(
        help: ArgumentHelp(
            "What tells this command from others, 1 to 128 letters, digits or -._~: (default: a new UUID).", valueName: "id"))
    var requestID: String?
    @Option(help: ArgumentHelp("How long to wait for the result, such as 30s.", valueName: "duration"))
    var wait: String?
    @Option(help: "metadata.source of the command.")
    var source = "triage-command"
    @Option(name: [.customShort("o"), .long], help: "The result: text or json.")
    var output: OutputFormat = .text

    func send(_ action: ChangeAction, resource: ByteSlice) async throws {
        var limit: Duration?
        if let wait {
            guard let duration = Duration(triage: wait) else {
                throw ConfigurationError(key: "--wait", value: wait, expected: "a duration such as 30s")
            }
            limit = duration
        }
        let (configuration, loader) = try await broker.load([:])
        let logger = broker.logger
        let telemetry = try makeTelemetry(loader, logger: logger, exportsByDefault: false)
        let publisher = try CommandPublisher(
            configuration.kafka, telemetry: telemetry, source: source, cipher: configuration.deadLetterCipher, logger: logger)
        let command: CommandRecord
        do throws(CommandRecord.Refusal) {
            command = try publisher.command(action, resource: resource, requestID: requestID)
        } catch {
            publisher.close()
            throw ConfigurationError(key: error.what, value: "refused", expected: error.expectation)
        }
        try await TopicAdministrator(configuration.kafka, logger: logger).reach()
        var status: CommandStatus?
        do {
            if let limit {
                status = try await publisher.publish(command, waitingFor: limit)
            } else {
                try await publisher.publish(command)
            }
        } catch {
            publisher.close()
            await telemetry.shutdown()
            throw error
        }
        publisher.close()
        await telemetry.shutdown()
        try print(command.requestID, status)
        guard limit == nil || status?.state == .completed else {
            if status == nil { Narration.say("no result within \(wait ?? ""); the command is still on its way") }
            throw ExitCode.failure
        }
    }

    private func print(_ requestID: String, _ status: CommandStatus?) throws {
        switch output {
        case .json: try Output.line(CommandAnswer.json(requestID, status))
        case .text:
            for line in CommandAnswer.lines(requestID, status, isAwaited: wait != nil) { try Output.line(line) }
        }
    }

    /// The whole of a file, or of standard input for `-`.
    static func read(_ path: String) throws -> ByteSlice {
        let lines = try LineReader(path)
        var bytes: [UInt8] = []
        while let line = try lines.next() {
            if bytes.isEmpty, line.starts(with: [0xEF, 0xBB, 0xBF]) { bytes += line.dropFirst(3) } else { bytes += line }
            bytes.append(UInt8(ascii: "\n"))
        }
        return ByteSlice(bytes)
    }
}

extension CommandRecord.Refusal {
    /// What was refused.
    fileprivate var what: String {
        switch self {
        case .invalid(let invalid): invalid.path.isEmpty ? "FILE" : "FILE at \(invalid.path)"
        case .requestID, .otherRequestID: "--request-id"
        }
    }

    /// What would have been accepted.
    fileprivate var expectation: String {
        switch self {
        case .invalid(let invalid): "a Patient that FHIR allows (\(invalid.rule.rawValue))"
        case .requestID, .otherRequestID: "1 to 128 letters, digits or characters of -._~:"
        }
    }
}
