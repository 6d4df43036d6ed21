import ArgumentParser
import Foundation
import Triage

struct PatientCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "patient",
        abstract: "Why a patient's events aren't handled: the one that the others wait for, its attempts, when it is due.",
        discussion: """
            Read from Kafka alone, so it works while the service runs and while it doesn't; it joins no group and changes
            nothing. Times are UTC. No payload is shown.

            Looks into the partition that the id's key goes to, as Java's and Triage's producers choose it. With - ids are
            read from standard input, one in a line: that keeps them out of the shell's history and of the list of processes.
            There is a report for each, as JSON one in a line.

            EXAMPLES
              triage patient -b localhost:9092 --group clinic example
              triage patient -b localhost:9092 example -o json | jq .head
              triage patient -b localhost:9092 --all-partitions -
            """
    )

    @OptionGroup var options: InspectionOptions
    @Argument(help: ArgumentHelp("The patient's resource id, or - to read ids from standard input.", valueName: "ID"))
    var id: String
    @Flag(help: "Look into every partition: for other partitioners, and for records without a key.")
    var allPartitions = false
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Dead letters of a partition to look through for the patient's last one, newest first; 0 for none.",
            valueName: "number"))
    var deadLetters: Int64 = 100_000

    func validate() throws {
        guard deadLetters >= 0 else { throw ValidationError("--dead-letters \(deadLetters): expected 0 or more") }
        guard !id.isEmpty else { throw ValidationError("ID: expected a resource id, or -") }
    }

    func run() async throws {
        try await reported {
            let ids = try id == "-" ? Self.resourceIDs { readLine() } : [Self.resourceID(id)]
            let (inspector, configuration) = try await options.inspector()
            for (index, id) in ids.enumerated() {
                let report = try await inspector.patient(
                    id, everywhere: allPartitions, deadLetters: deadLetters, policies: configuration.retries)
                Narration.endProgress()
                if options.output == .json {
                    try Output.json(PatientOutput(report))
                } else {
                    try Output.line((index == 0 ? "" : "\n") + PatientOutput.text(report, everywhere: allPartitions))
                }
            }
        }
    }

    /// The ids that stand in lines of their own; empty lines are passed over.
    static func resourceIDs(_ line: () -> String?) throws -> [String] {
        var ids: [String] = []
        while let text = line() {
            if !text.allSatisfy(\.isWhitespace) { ids.append(try resourceID(text)) }
        }
        guard !ids.isEmpty else {
            throw ConfigurationError(key: "ID", value: "-", expected: "resource ids on standard input, one in a line")
        }
        return ids
    }

    /// The id without what stands before it in a reference.
    static func resourceID(_ text: String) throws -> String {
        var id = text.trimmingCharacters(in: .whitespaces)
        if id.hasPrefix("Patient/") { id.removeFirst("Patient/".count) }
        // The id is not shown: what was typed wrongly may be anything.
        guard !id.isEmpty else { throw ConfigurationError(key: "ID", value: "", expected: "a resource id") }
        return id
    }
}
