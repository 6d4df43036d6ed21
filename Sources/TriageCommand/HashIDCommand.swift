import ArgumentParser
import Foundation
import Triage
import TriageEvents
import TriageTelemetry

/// `triage hash-id`: what stands for a resource id in telemetry, so that a patient's traces can be searched for.
struct HashIDCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hash-id",
        abstract: "Turns resource ids into what stands for them in spans.",
        discussion: """
            Prints keyid:hash for each id, one line for each key, the present key first. Without an ID, or with -, ids are read
            from standard input, one a line: that keeps them out of the shell's history and of the list of processes.

            Search for it as event.resource.id: in Jaeger as the tag event.resource.id=HASH, in Tempo as
            { span.event.resource.id = "HASH" }.

            EXAMPLES
              triage hash-id --identifier-key-file key example
              triage hash-id --identifier-key-file key --old-identifier-key-file key.2025 < ids.txt
            """
    )

    @Argument(help: ArgumentHelp("Resource ids, as FHIR has them: without Patient/ before them.", valueName: "ID"))
    var ids: [String] = []
    @Option(
        help: ArgumentHelp(
            "File with the key that `triage run` has (TRIAGE_IDENTIFIER_KEY_FILE, or identifier-key-file in --config).",
            valueName: "file"))
    var identifierKeyFile: String?
    @Option(
        help: ArgumentHelp("Key that was used before, for traces of that time; may be repeated.", valueName: "file"))
    var oldIdentifierKeyFile: [String] = []
    @Option(help: ArgumentHelp("YAML file with the keys of the environment, lower case and without TRIAGE_.", valueName: "file"))
    var config: String?
    @Option(name: [.customShort("o"), .long], help: "text, or json: one object for each id and key.")
    var output: OutputFormat = .text

    struct Row: Encodable {
        let id: String
        let keyId: String
        let hash: String
    }

    func run() async throws {
        try await reported {
            let flags = identifierKeyFile.map { ["identifier-key-file": $0] } ?? [:]
            let loader = try await ConfigurationLoader(
                flags: flags, environment: ProcessInfo.processInfo.environment, file: config)
            var keys: [IdentifierKey] = []
            switch try loader.identifierPolicy({ _ in }) {
            case .hashed(let key): keys.append(key)
            case .plain:
                throw ConfigurationError(
                    key: "identifiers", value: "plain", expected: "hashed: with plain, ids stand in telemetry as they are")
            case .omitted:
                throw ConfigurationError(
                    key: "identifiers", value: "omitted", expected: "hashed: with omitted, ids are not in telemetry")
            case nil:
                throw ConfigurationError(
                    key: "--identifier-key-file", value: "", expected: "the key file that `triage run` is given")
            }
            for file in oldIdentifierKeyFile { keys.append(try IdentifierKey(contentsOfFile: file)) }
            if ids.isEmpty || ids == ["-"] {
                if isatty(STDIN_FILENO) != 0 { Narration.say("ids, one a line; Ctrl-D ends") }
                while let line = readLine() { try print(line, keys) }
            } else {
                for id in ids { try print(id, keys) }
            }
        }
    }

    private func print(_ line: String, _ keys: [IdentifierKey]) throws {
        let id = line.trimmingCharacters(in: .whitespaces)
        guard !id.isEmpty else { return }
        if id.hasPrefix("Patient/") {
            Narration.say("warning: an id was given with Patient/ before it; telemetry has ids without, so this won't be found")
        }
        for key in keys {
            let hash = key.text(for: ByteSlice(id))
            if output == .json {
                try Output.json(Row(id: id, keyId: key.id, hash: hash))
            } else {
                try Output.line(hash)
            }
        }
    }
}
