import Testing
import TriageEvents

@testable import Triage

@Suite("Generated patients")
struct PatientGeneratorTests {
    func events(_ count: Int, seed: UInt64, transient: Double = 0.2, persistent: Double = 0.2) -> [GeneratedEvent] {
        var generator = PatientGenerator(seed: seed, transient: transient, persistent: persistent)
        return (0..<count).map { _ in generator.next() }
    }

    @Test("A seed gives the same events again, another one others")
    func seeded() {
        let values = events(500, seed: 7).map(\.value)
        #expect(values == events(500, seed: 7).map(\.value))
        #expect(values != events(500, seed: 8).map(\.value))
        #expect(events(500, seed: 7).map(\.plan) == events(500, seed: 7).map(\.plan))
    }

    @Test(
        "Exactly those planned as invalid can't be decoded; the others say what the generator says",
        arguments: [1, 2, 3] as [UInt64])
    func validity(seed: UInt64) throws {
        let decoder = EventDecoder()
        var seen: Set<FailurePlan> = []
        for event in events(3000, seed: seed) {
            seen.insert(event.plan)
            let topic = ChangeAction.created
            if event.plan == .invalid {
                #expect(throws: InvalidEvent.self) {
                    try decoder.decode(value: ByteSlice(event.value), key: ByteSlice(event.key), topicAction: topic)
                }
            } else {
                let decoded = try decoder.decode(value: ByteSlice(event.value), key: nil, topicAction: nil)
                #expect(decoded.action == event.action && decoded.resourceID == event.key && decoded.eventID == event.eventID)
                #expect(AttributeIsUUID.check(decoded.eventIDBytes))
            }
        }
        #expect(
            seen == [
                .none, .invalid, .rejected, .transient(healsOnAttempt: 2), .transient(healsOnAttempt: 3),
                .transient(healsOnAttempt: 4),
                .transient(healsOnAttempt: nil),
            ]
        )
    }

    @Test("A patient is created first, its versions rise, and after a delete nothing comes")
    func histories() throws {
        let decoder = EventDecoder()
        var versions: [String: Int] = [:]
        var deleted: Set<String> = []
        for event in events(5000, seed: 11, transient: 0, persistent: 0) {
            let decoded = try decoder.decode(value: ByteSlice(event.value), key: nil, topicAction: nil)
            let version = try #require(decoded.versionID.flatMap { Int($0) })
            #expect(!deleted.contains(event.key))
            #expect(version == (versions[event.key] ?? 0) + 1)
            #expect((event.action == .created) == (version == 1))
            versions[event.key] = version
            if event.action == .deleted { deleted.insert(event.key) }
        }
        #expect(versions.count > 1000 && !deleted.isEmpty)
    }

    @Test("The shares of failures are those asked for")
    func shares() {
        let all = events(20_000, seed: 5, transient: 0.05, persistent: 0.01)
        let persistent = all.count { $0.plan == .invalid || $0.plan == .rejected }
        let none = all.count { $0.plan == .none }
        // Five standard deviations of a binomial count.
        #expect(abs(persistent - 200) < 5 * 15)
        #expect(abs(all.count - none - 1200) < 5 * 34)
        #expect(events(500, seed: 5, transient: 0, persistent: 0).allSatisfy { $0.plan == .none })
        #expect(events(500, seed: 5, transient: 0, persistent: 1).allSatisfy { $0.plan == .invalid || $0.plan == .rejected })
    }
}

private enum AttributeIsUUID {
    static func check(_ id: ByteSlice?) -> Bool { id.map { $0.count == 36 } ?? false }
}
