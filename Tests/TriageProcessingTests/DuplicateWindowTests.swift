import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Duplicates and versions: what is remembered")
struct DuplicateWindowTests {
    private func completion(_ number: Int) -> DuplicateWindow.Completion {
        DuplicateWindow.Completion(
            origin: DuplicateWindow.Origin(topic: Int16(number % 3), partition: Int32(number % 7), offset: Int64(number)),
            span: TraceContext(
                traceID: TraceID(high: 1, low: UInt64(number)), spanID: SpanID(UInt64(number + 1)), flags: .sampled))
    }

    private func identity(_ text: String, seed: UInt64 = 7) throws -> EventIdentity? {
        let record = Record(
            topic: "fhir.Patient", partition: 0, offset: 0, timestamp: nil, key: nil, value: ByteSlice(text), headers: Headers())
        return EventIdentity(try EventDecoder().decode(record), seed: seed)
    }

    private func event(_ id: String?, version: String? = "1", patient: String? = "p", type: String = "PatientUpdated") -> String {
        let patient = patient.map { #","id":"\#($0)""# } ?? ""
        let version = version.map { #","meta":{"versionId":"\#($0)"}"# } ?? ""
        let id = id.map { #","metadata":{"eventId":"\#($0)"}"# } ?? ""
        return #"{"type":"\#(type)","data":{"resourceType":"Patient"\#(patient)\#(version)}\#(id)}"#
    }

    @Test("event id, version, patient and action make an event; without an event id nothing does")
    func identities() throws {
        let texts = [
            event("a"), event("b"), event("a", version: "2"), event("a", version: nil), event("a", patient: "q"),
            event("a", type: "PatientDeleted"), event("a", version: nil, patient: "1"),
        ]
        // Ids that differ in little, and actions: no sum of theirs is the same.
        for seed in UInt64(1)...50 {
            var near: Set<UInt64> = []
            for id in ["a", "b", "c", "d"] {
                for type in ["PatientCreated", "PatientUpdated", "PatientDeleted"] {
                    for version in ["1", "2", "3"] {
                        let identity = try #require(try identity(event(id, version: version, type: type), seed: seed))
                        near.formUnion([identity.low, identity.high])
                    }
                }
            }
            #expect(near.count == 4 * 3 * 3 * 2, "seed \(seed)")
        }
        let identities = try texts.map { try #require(try identity($0)) }
        #expect(Set(identities).count == texts.count)
        #expect(Set(identities.map(\.low)).count == texts.count && Set(identities.map(\.high)).count == texts.count)
        #expect(try identity(event("a")) == identities[0])
        #expect(try identity(event("a"), seed: 8) != identities[0])
        #expect(try identity(event(nil)) == nil)
    }

    @Test("it remembers the last so many and forgets the one noted first; a second completion changes nothing")
    func transcript() {
        var window = DuplicateWindow(capacity: 3)
        let all = (0..<5).map { EventIdentity(high: UInt64($0), low: 8) }
        #expect(window.completion(of: all[0]) == nil)
        for number in 0..<3 { window.completed(all[number], completion(number)) }
        window.completed(all[0], completion(99))
        #expect(window.count == 3 && window.completion(of: all[0]) == completion(0))
        window.completed(all[3], completion(3))
        #expect(window.completion(of: all[0]) == nil)
        #expect((1...3).allSatisfy { window.completion(of: all[$0]) == completion($0) })
        window.completed(all[0], completion(4))
        #expect(window.completion(of: all[1]) == nil && window.completion(of: all[0]) == completion(4) && window.count == 3)
    }

    @Test("random histories agree with a list that is searched from its beginning")
    func property() {
        for seed in UInt64(1)...4000 {
            var random = SeededGenerator(seed)
            let capacity = Int.random(in: 1...12, using: &random)
            var window = DuplicateWindow(capacity: capacity)
            var model: [(identity: EventIdentity, completion: DuplicateWindow.Completion)] = []
            // Few homes, so that entries lie in one another's way, round the table's end as well.
            let homes = UInt64.random(in: 1...6, using: &random)
            let first = UInt64.random(in: 0...64, using: &random)
            for step in 0..<80 {
                let identity = EventIdentity(
                    high: UInt64.random(in: 0..<12, using: &random), low: first + UInt64.random(in: 0..<homes, using: &random))
                let known = model.first { $0.identity == identity }?.completion
                #expect(window.completion(of: identity) == known, "seed \(seed), step \(step)")
                if Bool.random(using: &random) {
                    window.completed(identity, completion(step))
                    if known == nil {
                        if model.count == capacity { model.removeFirst() }
                        model.append((identity, completion(step)))
                    }
                }
                #expect(window.count == model.count, "seed \(seed), step \(step)")
            }
            #expect(model.allSatisfy { window.completion(of: $0.identity) == $0.completion }, "seed \(seed)")
        }
    }

    @Test("it takes no more than it says, 72 bytes an event", arguments: [1000, 65_536, 100_000])
    func memory(capacity: Int) {
        #expect(DuplicateWindow.bytesPerEvent == 72)
        var window = DuplicateWindow(capacity: capacity)
        let reserved = window.bytes
        // The allocator may round up by a page.
        #expect(reserved <= capacity * DuplicateWindow.bytesPerEvent + 8192)
        for number in 0..<capacity * 2 {
            window.completed(EventIdentity(high: 0, low: UInt64(number) &* 0x9E37_79B9_7F4A_7C15), completion(number))
        }
        #expect(window.bytes == reserved && window.count == capacity)
        #expect(DuplicateWindow(capacity: 0).capacity == 1)
    }

    @Test("a version is stale if a higher one of the same patient was handled; forgetting never makes one stale")
    func versions() {
        for seed in UInt64(1)...2000 {
            var random = SeededGenerator(seed)
            var small = VersionTable(bits: 2)
            var large = VersionTable()
            var model: [UInt64: UInt64] = [:]
            for step in 0..<60 {
                let key = UInt64.random(in: 1...12, using: &random)
                let version = UInt64.random(in: 0...9, using: &random)
                let isStale = model[key].map { $0 > version } ?? false
                #expect(large.isStale(version, of: LaneKey(key)) == isStale, "seed \(seed), step \(step)")
                #expect(!small.isStale(version, of: LaneKey(key)) || isStale, "seed \(seed), step \(step)")
                small.handled(version, of: LaneKey(key))
                large.handled(version, of: LaneKey(key))
                model[key] = max(model[key] ?? 0, version)
                #expect(!small.isStale(version, of: LaneKey(key)) || isStale)
            }
        }
        #expect(VersionTable().bytes <= 1_048_576 + 8192)
    }
}
