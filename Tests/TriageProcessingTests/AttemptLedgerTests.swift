import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Attempt ledger")
struct AttemptLedgerTests {
    private func entry(_ number: Int, _ errorClass: ErrorClass = .transient) -> AttemptLedger.Entry {
        AttemptLedger.Entry(
            time: Timestamp(milliseconds: 1_700_000_000_000 + Int64(number)), errorClass: errorClass,
            fingerprint: UInt64(number).hexadecimal, traceID: TraceID(high: 1, low: UInt64(number + 1)),
            spanID: SpanID(UInt64(number + 1))
        )
    }

    @Test("what is written is read")
    func roundTrip() {
        var ledger = AttemptLedger()
        #expect(ledger.text.isEmpty)
        #expect(ledger.last == nil)
        for (number, errorClass) in ErrorClass.allCases.enumerated() { ledger.append(entry(number, errorClass)) }
        #expect(AttemptLedger(ledger.text) == ledger)
        #expect(ledger.entries.count == 3)
        #expect(
            ledger.text.split(separator: ";").first
                == "1700000000000,transient,0000000000000000,00000000000000010000000000000001,0000000000000001"
        )
        #expect(ledger.last?.spanID == SpanID(3))
        #expect(ledger.last?.traceID == TraceID(high: 1, low: 3))
    }

    @Test("at most 2,048 bytes; first and last are kept, the dropped ones counted, also when it is read in between")
    func bound() {
        var ledger = AttemptLedger()
        for number in 0..<1000 {
            ledger.append(entry(number, .persistent))
            #expect(ledger.text.utf8.count <= 2048)
            #expect(ledger.entries.first == entry(0, .persistent))
            #expect(ledger.entries.last == entry(number, .persistent))
            #expect(ledger.entries.count + ledger.dropped == number + 1)
            if number % 7 == 0 { ledger = AttemptLedger(ledger.text) }
        }
        #expect(ledger.entries.count >= 15)
        // The most recent ones in order behind the first.
        let times = ledger.entries.map(\.time.milliseconds)
        #expect(times == times.sorted())
        #expect(times.dropFirst() == (1001 - times.count..<1000).map { 1_700_000_000_000 + Int64($0) }[...])
    }

    @Test(
        "foreign text is left out",
        arguments: [
            "", ";", ";;;;", ",,,,", "~", "~~", "~-5", "~x", "patient Müller", "1,transient,0,0,0",
            "1,fatal,0000000000000000,00000000000000010000000000000001,0000000000000001",
            "1,transient,000000000000000G,00000000000000010000000000000001,0000000000000001",
            "1,transient,0000000000000000,0000000000000001000000000000000,0000000000000001",
            "x,transient,0000000000000000,00000000000000010000000000000001,0000000000000001",
            "1,transient,0000000000000000,00000000000000010000000000000001,0000000000000001,more",
            "99999999999999999999,transient,0000000000000000,00000000000000010000000000000001,0000000000000001",
        ]
    )
    func foreign(text: String) {
        let ledger = AttemptLedger(text)
        #expect(ledger.entries.isEmpty)
        #expect(ledger.text.isEmpty)
        var next = AttemptLedger(text)
        next.append(entry(1))
        #expect(next.entries == [entry(1)])
    }

    @Test("counts that would overflow are held at the maximum")
    func overflow() {
        var ledger = AttemptLedger("~9223372036854775807;~9223372036854775807")
        #expect(ledger.dropped == 1_000_000)
        for number in 0..<100 { ledger.append(entry(number)) }
        #expect(ledger.dropped == 1_000_000)
        #expect(ledger.text.utf8.count <= 2048)
        #expect(AttemptLedger("~99999999999999999999").dropped == 0)
    }

    @Test("a header of a megabyte is cut to the bound while it is read")
    func huge() {
        let text = (0..<10_000).map { entry($0).text }.joined(separator: ";")
        let ledger = AttemptLedger(text)
        #expect(ledger.text.utf8.count <= 2048)
        #expect(ledger.entries.first == entry(0))
        #expect(ledger.entries.last == entry(9999))
        #expect(ledger.entries.count + ledger.dropped == 10_000)
    }

    @Test("attempts that were not traced are kept, but nothing links to them")
    func untraced() {
        var ledger = AttemptLedger()
        ledger.append(
            AttemptLedger.Entry(
                time: Timestamp(milliseconds: 5), errorClass: .system, fingerprint: "00000000000000ff",
                traceID: TraceID(high: 0, low: 0), spanID: SpanID(0)
            )
        )
        let read = AttemptLedger(ledger.text)
        #expect(read == ledger)
        #expect(read.entries.count == 1)
        #expect(read.last == nil)
    }
}
