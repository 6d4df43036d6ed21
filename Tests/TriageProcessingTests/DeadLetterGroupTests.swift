import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageProcessing

@Suite("Groups of dead letters, and filters")
struct DeadLetterGroupTests {
    @Test("groups count by fingerprint, with first, last, an example and distinct patients")
    func groups() {
        var groups = DeadLetterGroups()
        for index in 0..<1000 {
            let kind = index % 5
            let headers = [
                Header("triage-origin", text: "fhir.Patient.created/0/\(index)"),
                Header("triage-error-fingerprint", text: "000000000000000\(kind)"),
                Header("triage-error-class", text: "persistent"),
            ]
            groups.add(
                DeadLetter(
                    DeadLetterTests.record(
                        headers, offset: Int64(index), key: "p\(index % 50)",
                        at: Timestamp(milliseconds: 1_790_000_000_000 + Int64(index)))))
        }
        groups.add(DeadLetter(DeadLetterTests.record([], offset: 5000)))
        #expect(groups.total == 1001)
        let found = groups.groups
        #expect(found.map(\.count) == [200, 200, 200, 200, 200, 1])
        #expect(found[0].fingerprint == "0000000000000004" && found[0].example.offset == 999)
        #expect(found[0].firstSeen == Timestamp(milliseconds: 1_790_000_000_004) && found[0].distinctPatients == 10)
        #expect(found[0].topics == ["fhir.Patient.created": 200])
        #expect(found[5].dialect == .unknown)
    }

    @Test("more fingerprints than are told apart are counted together")
    func tooManyGroups() {
        var groups = DeadLetterGroups()
        for index in 0..<DeadLetterGroups.maximumGroups + 7 {
            let text = String(index, radix: 16)
            let fingerprint = String(repeating: "0", count: 16 - text.count) + text
            groups.add(DeadLetter(DeadLetterTests.record([Header("triage-error-fingerprint", text: fingerprint)])))
        }
        #expect(groups.groups.count == DeadLetterGroups.maximumGroups && groups.others == 7)
    }

    @Test("distinct counts are exact while small, and within 5 % when large", arguments: [0, 1, 4096, 4097, 20_000, 300_000])
    func distinct(size: Int) {
        var count = DistinctCount()
        for round in 0..<2 {
            for index in 0..<size { count.insert(ByteSlice("patient-\(index)").hash64(seed: 1)) }
            if round == 0, size <= DistinctCount.exactLimit { #expect(count.count == size) }
        }
        #expect(abs(count.count - size) <= size / 20, "\(count.count) of \(size)")
        #expect(count.isEstimated == (size > DistinctCount.exactLimit))
    }

    @Test("a filter lets through what all its parts agree on")
    func filters() {
        let letter = DeadLetter(DeadLetterTests.record(DeadLetterTests.own()))
        var filter = DeadLetterFilter()
        #expect(filter.matches(letter))
        filter.errorClass = .transient
        filter.fingerprint = "0011"
        filter.since = letter.written
        filter.patient = ByteSlice("p1")
        filter.group = "care"
        #expect(filter.matches(letter))
        let changes: [(inout DeadLetterFilter) -> Void] = [
            { $0.errorClass = .system }, { $0.fingerprint = "1" }, { $0.since = letter.written.map { $0 + .milliseconds(1) } },
            { $0.until = letter.written }, { $0.patient = ByteSlice("p2") }, { $0.group = "other" },
        ]
        for change in changes {
            var other = filter
            change(&other)
            #expect(!other.matches(letter))
        }
        filter.statuses = [.open]
        #expect(filter.matches(nil as DeadLetterState?))
        #expect(!filter.matches(DeadLetterState(.discarded, time: Timestamp(milliseconds: 0), by: "x")))
    }
}
