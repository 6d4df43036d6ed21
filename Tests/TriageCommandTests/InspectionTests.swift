import ArgumentParser
import Testing
import TriageEvents
import TriageKafka
import TriageProcessing

@testable import Triage
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

    @Test("ids on standard input, one in a line; none is refused")
    func standardInput() throws {
        func ids(_ lines: String...) throws -> [String] {
            var rest = lines[...]
            return try PatientCommand.resourceIDs { rest.popFirst() }
        }
        #expect(try ids("Patient/a", "", "  ", " b ") == ["a", "b"])
        #expect(throws: ConfigurationError.self) { try ids("", " ") }
        #expect(throws: ConfigurationError.self) { try ids("a", "Patient/") }
    }

    @Test("a number below zero is a value, so that what is refused is the number")
    func negative() throws {
        for words in [
            ["status", "--dead-letters", "-1"], ["patient", "--dead-letters", "-1", "x"], ["demo", "--events", "-1"],
            ["demo", "--rate", "-1"], ["demo", "--transient", "-1"], ["topics", "create", "--partitions", "-1"],
            ["embedded-broker", "--partitions", "-1"], ["embedded-broker", "--brokers", "0"],
        ] {
            let error = #expect(throws: (any Error).self) { try TriageCommand.parseAsRoot(words) }
            let text = error.map { TriageCommand.message(for: $0) } ?? ""
            #expect(text.contains("expected"), "\(words): \(text)")
        }
        #expect(try parse(RunCommand.self, "run --concurrency -1 --dedupe-window -5").concurrency == "-1")
    }

    @Test("the owner is named by its instance id; dead letters that aren't the group's are told apart")
    func statusText() throws {
        let member = ConsumerGroup.Member(id: "m1", clientID: "triage", host: "/10.0.0.7", instanceID: "one")
        let report = StatusReport(
            group: "g", description: GroupDescription(.success(ConsumerGroup(name: "g", state: "Stable", members: [member]))),
            now: Timestamp(milliseconds: 1_700_000_000_000),
            partitions: [
                StatusReport.Partition(
                    main: TopicPartition("t", 0), committed: 4, offsets: 0..<9, metadata: CommitMetadata(), metadataError: nil,
                    firstOpen: nil, owner: .member(member), retries: nil,
                    deadLetters: .init(count: 2, closed: 3, others: 1, unnamed: 1, older: 5))
            ], missing: [], differences: [])
        let text = StatusOutput.text(report)
        #expect(text.contains("one@10.0.0.7   stopped"))
        #expect(text.contains("group g: Stable, 1 member;") && text.contains(" 2+ "))
        #expect(
            text.hasSuffix(
                "Dead letters are the open ones of group g; not counted: 3 that were replayed or discarded, 1 of other groups, "
                    + "1 that names no group, of other software, "
                    + "5 older ones (+; --dead-letters looks further back)."))
        let json = try Output.encoded(StatusOutput(report))
        for part in [
            #""instance_id":"one""#, #""is_left":true"#, #""dead_letters":2"#, #""dead_letters_closed":3"#,
            #""dead_letters_of_others":1"#,
            #""dead_letters_unnamed":1"#, #""dead_letters_not_looked_at":5"#, #""notes":[]"#,
        ] { #expect(json.contains(part), "\(part) in \(json)") }
    }

    @Test("columns: as wide as their widest cell, numbers on the right, nothing trailing")
    func columns() {
        #expect(
            Table.columns(["NAME", "LAG", "STATE"], [["a", "7", "-"], ["long name", "1000", ""]], right: [1])
                == "NAME         LAG   STATE\na              7   -\nlong name   1000")
        #expect(Table.columns(["A"], []) == "A")
    }
}
