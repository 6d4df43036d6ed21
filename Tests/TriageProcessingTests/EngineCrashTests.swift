import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// A process that crashes is played by an engine whose last commits never arrive.
@Suite("Engine: crashes in a row", .timeLimit(.minutes(2)))
struct EngineCrashTests {
    private let bench = EngineBench(partitions: 1)
    private let main = TopicPartition(EngineBench.topic, 0)

    /// Plays a life of the process that ends in a crash while `poison` is at work; nil for one that ends in peace.
    ///
    /// - Returns: what was handled, in order, and how many were at work at the same time at most.
    private func life(poison: Int?) async throws -> (handled: [Int], atOnce: Int, summary: EngineSummary) {
        let seen = Watched<(handled: [Int], busy: Int, atOnce: Int)>(([], 0, 0))
        let crashed = Watched(false)
        let running = bench.start {
            $0.endsWhenIdle = poison == nil
            $0.commitInterval = .seconds(3600)
            $0.drainTimeout = .zero
            $0.revocationTimeout = .zero
        } handler: { event, context in
            let version = event.versionID.flatMap { Int($0) } ?? -1
            seen.change { seen in
                seen.handled.append(version)
                seen.busy += 1
                seen.atOnce = max(seen.atOnce, seen.busy)
            }
            defer { seen.change { $0.busy -= 1 } }
            if version == poison {
                crashed.change { $0 = true }
                // From here on the process is dead: nothing of it may be committed.
                await crashed.until { !$0 }
            } else {
                await Task.yield()
            }
        }
        if poison != nil {
            await crashed.until { $0 }
            bench.broker.failNextCommits(10, with: BrokerError("_TRANSPORT", operation: "commit", isRetriable: true))
            running.engine.stop()
            crashed.change { $0 = false }
        }
        let summary = try await running.finished()
        let all = seen.value
        return (all.handled, all.atOnce, summary)
    }

    private func metadata() throws -> CommitMetadata {
        let commit = try #require(bench.broker.committed(group: "workers")[main])
        return try CommitMetadata(commit.metadata ?? "", at: commit.offset)
    }

    @Test("the event that is at work at crash after crash runs alone, then is dead-lettered; all others are handled")
    func poison() async throws {
        for version in 0..<6 { try bench.put("p\(version)", version: version) }
        _ = try await life(poison: 3)
        #expect(try metadata().flags == [.isOpen] && metadata().crashes == nil)
        bench.broker.clearCommitFaults()
        _ = try await life(poison: 3)
        #expect(try metadata().crashes?.count == 1)
        bench.broker.clearCommitFaults()
        let third = try await life(poison: 3)
        #expect(third.atOnce == 1, "after two crashes what may have been in flight runs alone")
        #expect(try metadata().crashes?.count == 2 && metadata().crashes?.alone == 3)
        bench.broker.clearCommitFaults()
        let fourth = try await life(poison: 3)
        #expect(fourth.atOnce == 1 && bench.deadLetters.isEmpty, "once more, since a crash may be anybody's")
        #expect(try metadata().flags.contains(.isAloneAgain) && metadata().crashes?.alone == 3)
        bench.broker.clearCommitFaults()
        let fifth = try await life(poison: 3)
        #expect(fifth.atOnce == 1 && bench.deadLetters.isEmpty, "kills that have nothing to do with it may hit it twice")
        #expect(try metadata().flags.contains(.isAloneOnceMore) && metadata().crashes?.alone == 3)
        bench.broker.clearCommitFaults()
        let last = try await life(poison: nil)
        #expect(!last.handled.contains(3))
        #expect(bench.deadLetters.map { $0.key?.utf8Text } == ["p3"])
        let headers = try #require(bench.deadLetters.first?.headers)
        #expect(headers.text(HeaderName.errorClass) == "system")
        #expect(headers.text(HeaderName.error)?.contains("crashed") == true)
        bench.expectAllCommitted()
        #expect(try metadata() == CommitMetadata(), "a clean end forgets the crashes")
    }

    @Test("lives that end cleanly in between aren't counted")
    func clean() async throws {
        for version in 0..<4 { try bench.put("p\(version)", version: version) }
        _ = try await life(poison: 2)
        bench.broker.clearCommitFaults()
        let second = try await life(poison: nil)
        #expect(second.handled.contains(2))
        for version in 4..<8 { try bench.put("p\(version)", version: version) }
        _ = try await life(poison: 6)
        #expect(try metadata().crashes == nil && metadata().flags.contains(.isOpen))
    }
}
