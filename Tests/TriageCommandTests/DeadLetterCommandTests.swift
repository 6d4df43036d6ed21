import ArgumentParser
import Foundation
import Testing
import Triage
import TriageEvents
import TriageProcessing

@testable import TriageCommand

@Suite("dead-letters")
struct DeadLetterCommandTests {
    func parse<Command: ParsableCommand>(_ type: Command.Type, _ words: String) throws -> Command {
        try #require(TriageCommand.parseAsRoot(words.split(separator: " ").map(String.init)) as? Command)
    }

    func refusal(_ words: String) -> String {
        do {
            _ = try TriageCommand.parseAsRoot(words.split(separator: " ").map(String.init))
            return ""
        } catch {
            #expect(TriageCommand.exitCode(for: error).rawValue == 64)
            return TriageCommand.message(for: error)
        }
    }

    static let now = Timestamp(instant: ByteSlice("2026-11-23T12:00:00Z")) ?? Timestamp(nanoseconds: 0)

    @Test("what is typed")
    func flags() throws {
        let list = try parse(
            DeadLettersCommand.List.self,
            "dlq list -b h:1 -t a,b -g clinic --class system --fingerprint ab --since 2h --until 1h --patient p --status open --status discarded --limit 7 -o json"
        )
        #expect(
            list.options.topics == ["a,b"] && list.options.group == "clinic" && list.limit == 7 && list.options.output == .json)
        #expect(list.selection.status == [.open, .discarded] && list.selection.errorClass == .system)
        #expect(try parse(DeadLettersCommand.Groups.self, "dead-letters groups --all").all)
        let show = try parse(DeadLettersCommand.Show.self, "dlq show a.dlq/0/1 --reveal --as ana --reason x")
        #expect(show.reveal && show.person.name == "ana" && show.id == "a.dlq/0/1")
        let replay = try parse(
            DeadLettersCommand.Replay.self,
            "dlq replay a.dlq/0/1 b.dlq/0/2 --to origin --to-topic c --canary 3 --canary-timeout 9s --rate 0.5 --force --execute --patch p.json"
        )
        #expect(
            replay.which.ids.count == 2 && replay.to == .origin && replay.toTopic == "c" && replay.canary == 3
                && replay.rate == 0.5)
        #expect(replay.force && replay.execute && replay.patch == "p.json" && !replay.edit)
        #expect(try parse(DeadLettersCommand.Discard.self, "dlq discard --all --reason x").which.all)
        #expect(try !parse(DeadLettersCommand.Reopen.self, "dlq reopen --class system").execute)
        #expect(try parse(DeadLettersCommand.Export.self, "dlq export --all").which.all)
        #expect(try parse(DeadLettersCommand.Import.self, "dlq import -").file == "-")
    }

    @Test(
        "what is refused, and what was expected",
        arguments: [
            ("list --limit 0", "--limit"), ("list --class odd", "odd"), ("list --status gone", "gone"),
            ("groups --all --status open", "--all"),
            ("replay", "or --all"), ("replay --all --class system", "one of these"), ("replay a.dlq/0/1 --all", "one of these"),
            ("replay a.dlq/0/1 --limit 3", "--limit"), ("replay --all --limit 0", "--limit"),
            ("replay --all --canary 0", "--canary"),
            ("replay --all --rate 0", "--rate"), ("replay --all --rate -1", "--rate"),
            ("replay --all --canary-timeout 3s", "--canary"),
            ("replay --all --to away", "away"), ("replay --all --edit --execute", "one ID"),
            ("replay a.dlq/0/1 --edit", "--execute"),
            ("replay a.dlq/0/1 --edit --execute --patch []", "--patch"), ("discard --all", "--reason"),
            ("export --all --limit 3", "--limit"), ("show", "ID"), ("import", "FILE"),
        ])
    func refused(words: String, part: String) {
        let text = refusal("dlq \(words)")
        #expect(text.contains(part), "\(text)")
    }

    @Test("a reason that says nothing, and a name that is none")
    func emptyReason() {
        for words in [
            ["dlq", "discard", "--all", "--reason", " "], ["dlq", "show", "a.dlq/0/1", "--as", ""],
            ["dlq", "show", "a/0/1", "--as", "a\nb"],
        ] {
            #expect(throws: (any Error).self) { try TriageCommand.parseAsRoot(words) }
        }
    }

    @Test(
        "times",
        arguments: [
            ("2026-11-23T04:00:00Z", "2026-11-23T04:00:00.000Z"), ("2026-11-20", "2026-11-20T00:00:00.000Z"),
            ("2h", "2026-11-23T10:00:00.000Z"),
            ("90s", "2026-11-23T11:58:30.000Z"), ("3d", "2026-11-20T12:00:00.000Z"),
            ("2026-11-23T04:00:00+02:00", "2026-11-23T02:00:00.000Z"),
        ])
    func times(text: String, expected: String) throws {
        #expect(try DeadLetterChoice.time(text, of: "--since", now: Self.now).iso8601 == expected)
    }

    @Test("what is no time", arguments: ["", "yesterday", "2026-13-01", "0", "-2h", "2h30m", "0d", "d"])
    func noTimes(text: String) {
        #expect(throws: ConfigurationError.self) { try DeadLetterChoice.time(text, of: "--since", now: Self.now) }
    }

    @Test("the filter, and what it takes for none")
    func filters() throws {
        func filter(_ words: String) throws -> DeadLetterFilter {
            try parse(DeadLettersCommand.List.self, "dlq list " + words).selection.filter(group: "g", now: Self.now)
        }
        let all = try filter("--class transient --fingerprint AB12 --since 2h --until 1h --patient Patient/p --status replayed")
        #expect(
            all.errorClass == .transient && all.fingerprint == "ab12" && all.patient == ByteSlice("p")
                && all.statuses == [.replayed])
        #expect(
            all.group == "g" && all.since?.iso8601 == "2026-11-23T10:00:00.000Z"
                && all.until?.iso8601 == "2026-11-23T11:00:00.000Z")
        #expect(try filter("").statuses == nil)
        for words in ["--fingerprint xyz", "--fingerprint 12345678901234567", "--since 1h --until 2h", "--patient Patient/"] {
            #expect(throws: ConfigurationError.self) { try filter(words) }
        }
    }

    @Test("without a status a replay means what is open, and nothing that comes later")
    func meant() throws {
        func resolved(_ words: String) throws -> DeadLetterWhich.Resolved {
            try parse(DeadLettersCommand.Replay.self, "dlq replay " + words).which.resolved(
                group: nil, now: Self.now, statuses: [.open])
        }
        guard case .filter(let filter, let limit, let everywhere) = try resolved("--all --limit 3") else {
            Issue.record("no filter")
            return
        }
        #expect(filter.statuses == [.open] && filter.until == Self.now && limit == 3 && !everywhere)
        #expect(try resolved("a.dlq/0/1 orders-dlt/1/2").ids.map(\.topic) == ["a.dlq", "orders-dlt"])
        #expect(throws: ConfigurationError.self) { try resolved("a.dlq/0") }
    }

    @Test("the command that a dry run shows does the same, as a shell takes it, and tells no patient")
    func shownCommand() {
        let words = [
            "/usr/bin/triage", "dlq", "replay", "--since=2h", "--patient", "Patient/jane", "--reason", "it's done", "-X", "a=b",
        ]
        #expect(
            DeadLetterWhich.command(words, now: Self.now, isFiltered: true)
                == "triage dlq replay --since 2026-11-23T10:00:00.000Z --patient - --reason 'it'\\''s done' -X a=b --until 2026-11-23T12:00:00.000Z --execute"
        )
        #expect(
            DeadLetterWhich.command(
                ["triage", "dlq", "replay", "--all", "--until", "2026-11-01"], now: Self.now, isFiltered: true)
                == "triage dlq replay --all --until 2026-11-01T00:00:00.000Z --execute")
        #expect(
            DeadLetterWhich.command(["triage", "dlq", "replay", "a.dlq/0/1", "--as", ""], now: Self.now, isFiltered: false)
                == "triage dlq replay a.dlq/0/1 --as '' --execute")
        let typed = ["triage", "dlq", "replay", "a.dlq/0/1", "--patch", #" [{"op":"test","path":"/a","value":"Jane"}]"#]
        #expect(
            DeadLetterWhich.command(typed, now: Self.now, isFiltered: false)
                == "triage dlq replay a.dlq/0/1 --patch PATCH.json --execute")
        #expect(
            DeadLetterWhich.command(
                ["triage", "dlq", "replay", "a.dlq/0/1", "--patch=fix.json"], now: Self.now, isFiltered: false)
                == "triage dlq replay a.dlq/0/1 --patch fix.json --execute")
    }

    // MARK: Printing

    @Test("a table keeps within a width: columns go, then a cell is cut", arguments: 20...90)
    func fitted(width: Int) {
        let table = FittedTable(
            columns: [.init(name: "ID"), .init(name: "CLASS", rank: 2), .init(name: "ERROR"), .init(name: "TRACE", rank: 1)],
            rows: [
                ["a/0/1", "persistent", "SomeLongError with a code", String(repeating: "f", count: 32)],
                ["a/0/2", "-", "E", "-"],
            ],
            flexible: 2, least: 8)
        let lines = table.text(width: width).split(separator: "\n")
        #expect(lines.count == 3 && lines.allSatisfy { $0.count <= width }, "\(lines)")
        #expect(lines[1].hasPrefix("a/0/1"))
        #expect(table.text(width: nil).contains("SomeLongError with a code   " + String(repeating: "f", count: 32)))
        if width >= 83 { #expect(table.text(width: width) == table.text(width: nil)) }
        if width < 64 { #expect(!lines[0].contains("TRACE")) }
    }

    @Test(
        "tables of dead letters and of groups never wrap, and keep ids and fingerprints as long as they fit", arguments: 21...120)
    func narrow(width: Int) {
        let id = "fhir.Patient.created.dlq/0/17"
        let record = Record(
            topic: "fhir.Patient.created.dlq", partition: 0, offset: 17, timestamp: Self.now, key: ByteSlice("p"),
            value: ByteSlice("{}"),
            headers: [
                Header("triage-origin", text: "fhir.Patient.created/0/1"), Header("triage-error-class", text: "persistent"),
                Header("error", text: "RejectedError http_422_business-rule"),
            ])
        let state = DeadLetterState(.failedAgain, time: Self.now, by: "g")
        let list = DeadLetterOutput.table(
            [DeadLetterEntry(letter: DeadLetter(record), state: state)], now: Self.now, width: width)
        var all = DeadLetterGroups()
        all.add(DeadLetter(record))
        let groups = DeadLetterGroupOutput.table(all, now: Self.now, width: width)
        for table in [list, groups] {
            #expect(table.split(separator: "\n").allSatisfy { $0.count <= width }, "\(table)")
        }
        if width >= id.count + 15 { #expect(list.contains("\(id)   ") && list.contains("failed_again")) }
        if width >= 70 { #expect(list.contains("RejectedErr")) }
        if width >= 43 { #expect(groups.contains(DeadLetter(record).fingerprint) && groups.contains("RejectedErr")) }
    }

    @Test("a bar")
    func bar() {
        #expect(ProgressBar.text("t", 0, of: 0) == "t  [....................]  0 %  0 of 1")
        #expect(ProgressBar.text("t", 500, of: 1000) == "t  [##########..........]  50 %  500 of 1000")
        #expect(ProgressBar.text("t", 2000, of: 1000).hasSuffix("100 %  2000 of 2000"))
    }

    @Test("shares")
    func shares() {
        #expect(DeadLetterGroupOutput.percent(1, of: 3) == "33.3 %" && DeadLetterGroupOutput.percent(3, of: 3) == "100.0 %")
        #expect(DeadLetterGroupOutput.percent(1, of: 1_000_000) == "<0.1 %" && DeadLetterGroupOutput.percent(0, of: 0) == "-")
    }

    // MARK: Repairs

    @Test("patches are typed or in a file; what is none is usage")
    func patches() throws {
        let text = #"[{"op":"remove","path":"/a"}]"#
        #expect(try Repair.patch(text).applied(to: ByteSlice(#"{"a":1}"#)) == ByteSlice("{}"))
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("patch-\(UUID().uuidString).json")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data(text.utf8).write(to: file)
        #expect(try Repair.patch(file.path).applied(to: ByteSlice(#"{"a":1}"#)) == ByteSlice("{}"))
        for bad in ["[", #"[{"op":"x","path":""}]"#, "/no/such/file", ""] {
            #expect(throws: ConfigurationError.self) { try Repair.patch(bad) }
        }
        #expect(throws: EditorError.self) { try Repair.patch(text).applied(to: nil) }
    }

    @Test("what isn't an event isn't replayed, and the payload isn't told")
    func checked() throws {
        let record = Record(
            topic: "fhir.Patient.created.dlq", partition: 0, offset: 1, timestamp: nil, key: ByteSlice("p"),
            value: ByteSlice("{"), headers: [])
        let checker = EventChecker(roles: TopicRoles())
        let good = ByteSlice(#"{"resourceType":"Patient","id":"p"}"#)
        #expect(try checker.checked(good, of: record) == good)
        let error = #expect(throws: EditorError.self) {
            try checker.checked(ByteSlice(#"{"resourceType":"Patient","birthDate":"secret"}"#), of: record)
        }
        #expect(error?.description.contains("birthDate") == true && error?.description.contains("secret") == false)
        // Another patient's would be handled in this one's order; where keys are something else nobody can tell.
        let whole = Record(
            topic: record.topic, partition: 0, offset: 1, timestamp: nil, key: ByteSlice("p"), value: good, headers: [])
        let anothers = ByteSlice(#"{"resourceType":"Patient","id":"secret"}"#)
        let refusal = #expect(throws: EditorError.self) { try checker.checked(anothers, of: whole) }
        #expect(refusal?.description.contains("another patient") == true && refusal?.description.contains("secret") == false)
        let keyed = Record(
            topic: record.topic, partition: 0, offset: 1, timestamp: nil, key: ByteSlice("clinic-7"), value: good, headers: [])
        #expect(try checker.checked(anothers, of: keyed) == anothers)
    }

    // MARK: The editor

    @Test("an editor changes the bytes; its file and directory are gone afterwards")
    func editing() async throws {
        let note = FileManager.default.temporaryDirectory.appendingPathComponent("note-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: note) }
        // An editor with arguments of its own, which ends the last line as editors do.
        let session = EditorSession(environment: [
            "VISUAL": "", "EDITOR": "sh -c 'printf \"b\\n\" > \"$1\"; echo \"$1\" > \(note)' x",
        ])
        #expect(try await session.edit(ByteSlice("a"), suffix: ".json") == ByteSlice("b"))
        let path = try String(contentsOfFile: note, encoding: .utf8).trimmingCharacters(in: .newlines)
        #expect(
            path.hasSuffix("dead-letter.json")
                && !FileManager.default.fileExists(atPath: (path as NSString).deletingLastPathComponent))
        #expect(try await EditorSession(environment: ["VISUAL": "true"]).edit(ByteSlice("a"), suffix: "") == nil)
        let failed = await #expect(throws: EditorError.self) {
            try await EditorSession(environment: ["EDITOR": "false"]).edit(ByteSlice("secret"), suffix: "")
        }
        #expect(failed?.description.contains("status 1") == true && failed?.description.contains("secret") == false)
        #expect(EditorSession(environment: [:]).command == "vi")
    }
}
