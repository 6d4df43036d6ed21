import ArgumentParser
import Testing
import Triage
import TriageEvents

@testable import TriageCommand

@Suite("status and patient")
struct InspectionCommandTests {
    func parse<Command: ParsableCommand>(_ type: Command.Type, _ words: String) throws -> Command {
        try #require(TriageCommand.parseAsRoot(words.split(separator: " ").map(String.init)) as? Command)
    }

    @Test("what is typed")
    func flags() throws {
        let patient = try parse(
            PatientCommand.self, "patient -b h:1 -g clinic --topics a,b -t c --all-partitions --dead-letters 0 -o json example")
        #expect(patient.id == "example" && patient.allPartitions && patient.deadLetters == 0 && patient.options.output == .json)
        #expect(
            patient.options.group == "clinic" && patient.options.topics == ["a,b", "c"] && patient.options.broker.brokers == "h:1"
        )
        #expect(ListedTopics.parts(" a, b ,c") == ["a", "b", "c"])
        let status = try parse(StatusCommand.self, "status --watch 5s")
        #expect(status.watch == "5s" && status.options.output == .text && status.options.topics == [])
        #expect(throws: (any Error).self) { try TriageCommand.parseAsRoot(["patient"]) }
        #expect(throws: (any Error).self) { try TriageCommand.parseAsRoot(["patient", "--dead-letters=-1", "x"]) }
        #expect(throws: (any Error).self) { try TriageCommand.parseAsRoot(["patient", ""]) }
    }

    @Test("an id may be written as a reference")
    func references() throws {
        #expect(try PatientCommand.resourceID(" Patient/example ") == "example")
        #expect(try PatientCommand.resourceID("example") == "example")
        #expect(throws: ConfigurationError.self) { try PatientCommand.resourceID("Patient/") }
    }

    @Test("columns: as wide as their widest cell, numbers on the right, nothing trailing")
    func columns() {
        #expect(
            Table.columns(["NAME", "LAG", "STATE"], [["a", "7", "-"], ["long name", "1000", ""]], right: [1])
                == "NAME         LAG   STATE\na              7   -\nlong name   1000")
        #expect(Table.columns(["A"], []) == "A")
    }
}
