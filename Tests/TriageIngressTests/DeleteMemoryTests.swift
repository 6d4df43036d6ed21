import Testing
import TriageEvents

@testable import TriageIngress

@Suite("Deletes that are told in two ways")
struct DeleteMemoryTests {
    private func delete(
        _ patient: String = "p", history: Bool = false, version: Bool = false, happened: Int64? = nil, taken: Int64 = 100
    ) -> DeleteMemory.Delete {
        DeleteMemory.Delete(
            patient: ByteSlice(patient), isHistory: history, hasVersion: version,
            happened: happened.map { Timestamp(milliseconds: $0 * 1000) }, taken: Timestamp(milliseconds: taken * 1000))
    }

    private func memory(_ known: DeleteMemory.Delete) -> DeleteMemory {
        var memory = DeleteMemory()
        memory.captured(known)
        return memory
    }

    @Test("the history's is the notification's, unless both have versions, it happened later, or something came in between")
    func told() {
        var known = memory(delete())
        #expect([delete(history: true, version: true, happened: 105)].map { known.takes($0) } == [true])
        #expect([delete(history: true, version: true, happened: 105)].map { known.takes($0) } == [false], "one is one")
        for other in [
            delete(history: true, version: true, happened: 106), delete(version: false),
            delete("q", history: true, version: true),
        ] {
            known = memory(delete())
            #expect([other].map { known.takes($0) } == [false])
        }
        known = memory(delete())
        #expect([delete(history: true, version: true)].map { known.takes($0) } == [true])
        known = memory(delete(version: true))
        #expect([delete(history: true, version: true)].map { known.takes($0) } == [false])
        known = memory(delete(happened: 50))
        #expect([delete(history: true, version: true, happened: 44)].map { known.takes($0) } == [false])
        #expect([delete(history: true, version: true, happened: 45)].map { known.takes($0) } == [true])
        known = memory(delete())
        known.changed(ByteSlice("p"))
        #expect([delete(history: true, version: true)].map { known.takes($0) } == [false])
    }

    @Test("a notification that comes after the history is the same only if it says when; else it may be a later one")
    func late() {
        var known = memory(delete(history: true, version: true, happened: 50))
        #expect([delete(), delete(happened: 56), delete(happened: 55)].map { known.takes($0) } == [false, false, true])
    }

    @Test("it is bounded")
    func bounds() {
        var known = DeleteMemory(capacity: 2)
        for patient in ["a", "b", "a", "c"] { known.captured(delete(patient)) }
        let asked = ["a", "b", "c"].map { known.takes(delete($0, history: true, version: true)) }
        #expect(asked == [false, true, true])
    }
}
