import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// Order across retries in states that are made by hand, since an engine alone rarely or never comes into them.
@Suite("Engine: order across retries", .timeLimit(.minutes(2)))
struct EngineOrderTests {
    private let bench = EngineBench(partitions: 1)
    private let main = TopicPartition(EngineBench.topic, 0)
    private let retry = TopicPartition(EngineBench.topic + ".retry", 0)

    private func retryHeaders(origin: Int64, retries: Int, writer: String?, behind: Int64? = nil) -> Headers {
        var headers = [
            Header("triage-origin", text: "\(main)/\(origin)"), Header("retryCount", text: "\(retries)"),
            Header("triage-group", text: "workers"),
        ]
        if let writer { headers.append(Header("triage-writer", text: writer)) }
        if let behind { headers.append(Header("triage-parked-behind", text: "\(main)/\(behind)")) }
        return Headers(headers)
    }

    private func putRetry(_ version: Int, origin: Int64, retries: Int, writer: String?, behind: Int64? = nil) throws {
        try bench.put(
            EngineBench.event("p", version: version), key: ByteSlice("p"),
            headers: retryHeaders(origin: origin, retries: retries, writer: writer, behind: behind), to: bench.retryTopic,
            partition: 0)
    }

    /// What a predecessor left: so much is committed of main, with what is complete beyond it.
    private func commit(_ offset: Int64, _ completed: [Range<Int64>]) throws {
        let consumer = bench.broker.consumer(group: "workers")
        let text = CommitMetadata(completed: completed).encoded(at: offset)
        try consumer.commitAndWait([OffsetCommit(main, offset: offset, metadata: text), OffsetCommit(retry, offset: 0)])
    }

    private func handledVersions(_ plant: ((Engine) -> Void)? = nil) async throws -> [Int] {
        let journal = Journal()
        try await bench.start(
            prepare: plant ?? { _ in },
            handler: { event, context in
                journal.note(event, context)
                // Whatever comes with it is there before this one is done.
                await Task.yield()
            }
        ).finished()
        return journal.all.map(\.version)
    }

    @Test("an event that can't be decoded waits behind its patient's open retry like any other, and is given up in its turn")
    func malformedSuccessor() async throws {
        try bench.put("p", version: 0)
        try bench.put(ByteSlice("{"), key: ByteSlice("p"))
        try bench.put("p", version: 2)
        let journal = Journal()
        try await bench.run { event, context in
            journal.note(event, context)
            if event.versionID == "0", context.attempt < 3 { throw Transient() }
        }
        #expect(journal.all.map(\.version) == [0, 0, 0, 2])
        let dead = try #require(bench.deadLetters.first)
        #expect(bench.deadLetters.count == 1 && dead.value == ByteSlice("{"))
        #expect(dead.headers.text(HeaderName.origin) == "\(main)/1" && dead.headers.last(HeaderName.contentType) == nil)
        let parked = bench.retries.filter { $0.headers.last(HeaderName.parkedBehind) != nil }
        #expect(parked.map { $0.headers.text(HeaderName.origin) } == ["\(main)/1", "\(main)/2"])
    }

    @Test("an origin in another topic than the record's own is foreign text: no header, log line or span repeats it")
    func foreignOrigin() async throws {
        let foreign = Headers([
            Header("triage-origin", text: "Jane Doe 1970-01-01/0/6"), Header("retryCount", text: "1"),
            Header("triage-group", text: "workers"),
        ])
        try bench.put(ByteSlice("{"), key: ByteSlice("p"), headers: foreign, to: bench.retryTopic, partition: 0)
        let running = bench.start { _, _ in }
        try await running.finished()
        let dead = try #require(bench.deadLetters.first)
        #expect(dead.headers.text(HeaderName.origin) == "\(retry)/0")
        let told = running.notices.value.map { "\($0)" } + bench.recorder.spans.map { "\($0)" }
        #expect(!told.contains { $0.contains("Jane") })
    }

    @Test("a parked successor waits until main has redelivered what lies before it")
    func barrier() async throws {
        for version in 0..<3 { try bench.put("p", version: version) }
        // Version 2 was parked behind version 1, which isn't complete: main brings that again.
        try putRetry(2, origin: 2, retries: 0, writer: "00000000000000aa", behind: 1)
        try commit(1, [2..<3])
        #expect(try await handledVersions() == [1, 2])
        bench.expectAllCommitted()
    }

    #if DEBUG
        @Test("without the barrier it would overtake: the test above can fail")
        func noBarrier() async throws {
            for version in 0..<3 { try bench.put("p", version: version) }
            try putRetry(2, origin: 2, retries: 0, writer: "00000000000000aa", behind: 1)
            try commit(1, [2..<3])
            #expect(try await handledVersions { $0.plantedFault = .unbarred } == [2, 1])
        }
    #endif

    @Test("an event whose retry another writer's assignment left to land late isn't handled for it", arguments: [false, true])
    func lateWriter(isPlanted: Bool) async throws {
        try bench.put("p", version: 7)
        let journal = Journal()
        let running = bench.start(
            { $0.retry = RetryPolicy(base: .milliseconds(50), cap: .milliseconds(50), jitter: 0) },
            prepare: { engine in
                #if DEBUG
                    if isPlanted { engine.plantedFault = .otherWriterTaken }
                #endif
            }
        ) { event, context in
            journal.note(event, context)
            if journal.all.count == 1 {
                // The engine is at work here, so its assignment is older than this record.
                try self.putRetry(7, origin: 0, retries: 1, writer: "00000000000000aa")
                throw Transient()
            }
        }
        let summary = try await running.finished()
        #if DEBUG
            #expect(journal.all.count == (isPlanted ? 3 : 2))
            #expect(summary.skipped == (isPlanted ? 0 : 1))
        #endif
        bench.expectAllCommitted()
    }

    @Test("a record that nobody of ours wrote, such as an operator's replay, is handled, and holds its patient's later events up")
    func replay() async throws {
        try bench.put("p", version: 0)
        try putRetry(9, origin: 0, retries: 0, writer: nil)
        try commit(1, [])
        try bench.put("p", version: 1)
        #expect(try await handledVersions() == [9, 1])
    }

    @Test("of a patient's events in two topics the one that was written first goes first")
    func topics() async throws {
        let bench = EngineBench(partitions: 1)
        for suffix in ["", ".retry", ".dlq"] { bench.broker.createTopic("fhir.Patient.updated" + suffix, partitions: 1) }
        try bench.put("p", version: 0)
        try bench.put(EngineBench.event("p", version: 1), key: ByteSlice("p"), to: "fhir.Patient.updated", partition: 0)
        let journal = Journal()
        try await bench.run {
            $0.topics = [EngineBench.topic, "fhir.Patient.updated"]
        } handler: { event, context in
            journal.note(event, context)
            if event.versionID == "0", context.attempt < 3 { throw Transient() }
        }
        #expect(journal.all.map(\.version) == [0, 0, 0, 1] || journal.all.map(\.version) == [1, 0, 0, 0])
        #expect(bench.records("fhir.Patient.updated.retry").count <= 1)
    }

    @Test("ordering none: a retry holds nobody up, and nothing is parked")
    func none() async throws {
        for version in 0..<5 { try bench.put("p", version: version) }
        let journal = Journal()
        let summary = try await bench.run {
            $0.ordering = .none
            $0.retry = RetryPolicy(base: .milliseconds(30), cap: .milliseconds(30), jitter: 0)
        } handler: { event, context in
            journal.note(event, context)
            if event.versionID == "0", context.attempt == 1 { throw Transient() }
        }
        #expect(summary.parked == 0 && summary.retries == 1)
        #expect(journal.all.map(\.version) == [0, 1, 2, 3, 4, 0])
        bench.expectAllCommitted()
    }

    @Test("ordering none: retries of one patient that are due together come in the order in which they are due")
    func noneInOrder() async throws {
        for origin in Int64(0)..<6 { try putRetry(Int(origin), origin: origin, retries: 0, writer: nil) }
        let journal = Journal()
        try await bench.run {
            $0.ordering = .none
        } handler: { event, context in
            journal.note(event, context)
        }
        #expect(journal.all.map(\.version) == Array(0..<6))
    }

    @Test("bodies beyond the bound are left to the topic, and read again when it is their turn")
    func bodies() async throws {
        for version in 0..<60 { try bench.put("p\(version % 3)", version: version) }
        let journal = Journal()
        let running = bench.start {
            $0.maximumBytesInFlight = 600
        } handler: { event, context in
            journal.note(event, context)
            if context.attempt == 1, event.versionID.flatMap({ Int($0) }) ?? 0 < 6 { throw Transient() }
        }
        let summary = try await running.finished()
        #expect(summary.completed == 60)
        for (key, versions) in journal.byKey {
            let firsts = versions.enumerated().filter { !versions[..<$0.offset].contains($0.element) }.map(\.element)
            #expect(firsts == firsts.sorted(), "\(key)")
        }
        bench.expectAllCommitted()
        #expect(running.engine.load.waitingBytes == 0 && running.engine.fetchedBodies == 0)
    }

    @Test("a record that waits far behind the end is written anew there, unchanged and uncharged, so that the watermark goes on")
    func stragglers() async throws {
        try bench.put("late", version: 0)
        let journal = Journal()
        let running = bench.start {
            $0.maximumOffsetSpan = 40
            $0.retry = RetryPolicy(base: .milliseconds(1), cap: .milliseconds(1))
        } handler: { [bench] event, context in
            journal.note(event, context)
            guard context.attempt == 1 else { return }
            guard context.record.key?.utf8Text == "late" else { throw Transient() }
            // All there before it waits: what comes in meanwhile doesn't depend on how busy the machine is.
            for version in 1...120 { try bench.put("p\(version)", version: version) }
            throw RetryLater(retryAt: bench.tracer.clock.now() + .seconds(3))
        }
        let summary = try await running.finished()
        #expect(summary.completed == 121)
        let copies = bench.retries.filter { $0.key?.utf8Text == "late" }
        #expect(copies.count > 1, "it was written anew")
        #expect(Set(copies.map { $0.headers.text(HeaderName.retryCount) }) == ["1"])
        #expect(Set(copies.map { $0.headers.text(HeaderName.dueAt) }).count == 1)
        #expect(journal.all.filter { $0.key == "late" }.map(\.attempt) == [1, 2])
        bench.expectAllCommitted()
    }
}
