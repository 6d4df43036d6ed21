import Testing
import TriageEvents

@testable import TriageTelemetry

@Suite struct FingerprintSlotsTests {
    private func at(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: seconds * 1000) }

    @Test func aSlotIsKeptWhileItIsUsedAndFreedAfterAnHourIdle() {
        var slots = FingerprintSlots<Int>(capacity: 2)
        #expect(slots.use(1, at: at(0)) == .given(freed: nil))
        #expect(slots.use(2, at: at(10)) == .given(freed: nil))
        #expect(slots.use(1, at: at(20)) == .held)
        #expect(slots.use(3, at: at(3609)) == .other)
        #expect(slots.use(3, at: at(3610)) == .given(freed: 2))
        #expect(slots.use(2, at: at(3611)) == .other)
        #expect(slots.use(1, at: at(3611)) == .held)
        #expect(slots.use(2, at: at(7210)) == .given(freed: 3))
    }

    @Test func idleSlotsStayWhileNobodyNeedsThem() {
        var slots = FingerprintSlots<Int>(capacity: 2)
        #expect(slots.use(1, at: at(0)) == .given(freed: nil))
        #expect(slots.use(1, at: at(100_000)) == .held)
    }

    @Test func aClockThatGoesBackShortensNoHold() {
        var slots = FingerprintSlots<Int>(capacity: 1)
        #expect(slots.use(1, at: at(5000)) == .given(freed: nil))
        #expect(slots.use(1, at: at(0)) == .held)
        #expect(slots.use(2, at: at(8599)) == .other)
        #expect(slots.use(2, at: at(8600)) == .given(freed: 1))
    }

    @Test func fiftyByDefault() {
        var slots = FingerprintSlots<Int>()
        for fingerprint in 0..<50 { #expect(slots.use(fingerprint, at: at(0)) == .given(freed: nil)) }
        #expect(slots.use(50, at: at(1)) == .other)
    }

    @Test func deadLettersBeyondTheSlotsCountAsOther() {
        let meter = Meter()
        let counter = DeadLetterCounter(meter: meter, slots: FingerprintSlots(capacity: 1))
        counter.prepare(destination: "t", group: "g")
        #expect(counts(meter.collect(at: at(0)), .deadLetters) == [.sum(0), .sum(0), .sum(0)])
        func count(_ fingerprint: SafeText, _ seconds: Int64) {
            counter.count(destination: "t", group: "g", class: .system, fingerprint: fingerprint, at: at(seconds))
        }
        func seen() -> [String: MetricData.Value] {
            let points = meter.collect(at: at(0)).metrics[0].points
            return Dictionary(
                uniqueKeysWithValues: points.filter { $0.value != .sum(0) }.map { point in
                    (point.attributes.pairs.first { $0.key == "triage.error.fingerprint" }?.value ?? "", point.value)
                })
        }
        count("a", 0)
        count("a", 1)
        count("b", 2)
        #expect(seen() == ["a": .sum(2), "_other": .sum(1)])
        count("b", 3601)
        #expect(seen() == ["b": .sum(1), "_other": .sum(1)])
    }
}
