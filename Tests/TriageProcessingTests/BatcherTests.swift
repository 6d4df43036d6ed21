import Glibc
import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

@Suite("Batches", .timeLimit(.minutes(1)))
struct BatcherTests {
    /// A batch that was handled: its patients and versions.
    private struct Seen: Sendable, Equatable {
        var keys: [String]
        var versions: [Int]
    }

    private func keys(_ batch: EventBatch) -> [String] { batch.map { $0.context.record.key?.utf8Text ?? "" } }

    private func run(
        _ bench: EngineBench, _ policy: BatchPolicy, concurrency: Int = 64,
        sleep: @escaping @Sendable (Duration) async -> Void = { try? await Task.sleep(for: $0) },
        _ configure: (inout EngineConfiguration) -> Void = { _ in }, handler: @escaping BatchHandler
    ) -> RunningEngine {
        let executor = PollingExecutor()
        let batcher = Batcher(policy, concurrency: concurrency, executor: executor, sleep: sleep, handler: handler)
        return bench.start(
            {
                $0.concurrency = concurrency
                configure(&$0)
            }, executor: executor, handler: { try await batcher.handle($0, $1) })
    }

    /// Never over by itself: a batch has to fill.
    private static let forever: @Sendable (Duration) async -> Void = { _ in try? await Task.sleep(for: .seconds(3600)) }

    @Test("full batches begin at once; no patient twice in one; all are done, in order for each patient")
    func full() async throws {
        let bench = EngineBench(partitions: 3)
        for version in 0..<5 {
            for number in 0..<20 { try bench.put("p\(number)", version: version) }
        }
        let batches = Watched<[Seen]>([])
        // Twenty patients in batches of ten: always enough for the next one.
        let summary = try await run(bench, BatchPolicy(size: 10), sleep: Self.forever) { batch in
            let seen = Seen(keys: keys(batch), versions: batch.map { $0.event.versionID.flatMap { Int($0) } ?? -1 })
            batches.change { $0.append(seen) }
        }.finished()
        #expect(summary.completed == 100 && summary.retries == 0)
        #expect(batches.value.allSatisfy { $0.keys.count == 10 && Set($0.keys).count == 10 })
        var versions: [String: [Int]] = [:]
        for batch in batches.value {
            for (key, version) in zip(batch.keys, batch.versions) { versions[key, default: []].append(version) }
        }
        #expect(versions.count == 20 && versions.values.allSatisfy { $0 == [0, 1, 2, 3, 4] })
        bench.expectAllCommitted()
        let attempts = bench.recorder.spans.filter { $0.template.name == "attempt" }
        #expect(attempts.count == 100)
        #expect(
            attempts.allSatisfy { span in
                span.attributes.contains { $0.key == "messaging.batch.message_count" && $0.value == .int(10) }
            })
    }

    @Test("what doesn't fill a batch begins when the delay has passed; the concurrency bounds the size")
    func delay() async throws {
        let bench = EngineBench(partitions: 1)
        for number in 0..<7 { try bench.put("p\(number)", version: 0) }
        let sizes = Watched<[Int]>([])
        let slept = Watched<[Duration]>([])
        var summary = try await run(
            bench, BatchPolicy(size: 100, delay: .milliseconds(3)), sleep: { duration in slept.change { $0.append(duration) } }
        ) { batch in
            sizes.change { $0.append(batch.count) }
        }.finished()
        #expect(summary.completed == 7 && sizes.value.reduce(0, +) == 7)
        #expect(!slept.value.isEmpty && slept.value.allSatisfy { $0 == .milliseconds(3) })

        let narrow = EngineBench(partitions: 1)
        for number in 0..<12 { try narrow.put("p\(number)", version: 0) }
        sizes.change { $0 = [] }
        summary = try await run(narrow, BatchPolicy(size: 100), concurrency: 4, sleep: Self.forever) { batch in
            sizes.change { $0.append(batch.count) }
        }.finished()
        #expect(summary.completed == 12 && sizes.value == [4, 4, 4])
        #expect(BatchPolicy(size: -1, delay: .seconds(-1)) == BatchPolicy(size: 1, delay: .zero))
    }

    @Test("one error fails all of a batch, a BatchFailure those alone that it names, each in its own class")
    func failures() async throws {
        let bench = EngineBench(partitions: 1)
        for number in 0..<4 { try bench.put("p\(number)", version: 0) }
        let calls = Mutex(0)
        // The first batch has to fill, however slowly its events come; what is tried again comes one by one.
        let summary = try await run(
            bench, BatchPolicy(size: 4, delay: .milliseconds(1)),
            sleep: { duration in
                let isFirst = calls.withLock { $0 } == 0
                try? await Task.sleep(for: isFirst ? .seconds(3600) : duration)
            }
        ) { batch in
            let call = calls.withLock { calls in
                calls += 1
                return calls
            }
            if call == 1 { throw Transient() }
            var errors: [Int: any Error] = [99: Unexpected()]
            for (place, element) in batch.enumerated() {
                if element.event.resourceID == "p2" { errors[place] = Persistent() }
                if element.event.resourceID == "p3", element.context.attempt == 2 { errors[place] = Unexpected() }
            }
            throw BatchFailure(errors)
        }.finished()
        #expect(summary.completed == 3 && summary.deadLettered == 1 && summary.retries == 5)
        #expect(bench.deadLetters.compactMap { $0.headers.text("error") } == ["Persistent"])
        #expect(bench.deadLetters.first?.key?.utf8Text == "p2")
        #expect(bench.retries.count { $0.headers.text("error") == "Transient" } == 4)
        #expect(bench.retries.count { $0.headers.text("error") == "Unexpected" } == 1)
    }

    @Test("a batch belongs to no one event: its spans aren't under an attempt, and one time-out doesn't cancel it")
    func timeouts() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p0", version: 0)
        try bench.put("p1", version: 0)
        let gate = Turnstile()
        let wasCancelled = Watched<[Bool]>([])
        let hadSpan = Mutex(false)
        let running = run(
            bench, BatchPolicy(size: 2), sleep: Self.forever,
            {
                $0.attemptTimeout = .milliseconds(5)
                $0.retry = .none
            }
        ) { batch in
            if Span.current != nil { hadSpan.withLock { $0 = true } }
            await gate.enter("batch")
            wasCancelled.change { $0.append(Task.isCancelled) }
            if Task.isCancelled { throw CancellationError() }
        }
        _ = await gate.arrivals(1)
        await running.notices.until { $0.count { if case .attemptOverdue = $0 { true } else { false } } == 2 }
        // Both are overdue, so the batch is cancelled; their lanes stay occupied until it has returned.
        #expect(bench.deadLetters.isEmpty)
        gate.open()
        let summary = try await running.finished()
        #expect(wasCancelled.value == [true] && summary.deadLettered == 2)
        #expect(bench.deadLetters.allSatisfy { $0.headers.text("error") == "AttemptTimeout" })
        #expect(!hadSpan.withLock { $0 })
    }

    /// What `handle` does when it is cancelled, without an engine.
    @Test(
        "a call that is cancelled while it waits throws at once; one whose batch runs ends with it, and the others don't notice")
    func cancellation() async throws {
        let bench = EngineBench(partitions: 1)
        let executor = PollingExecutor()
        let loop = Loop(executor)
        defer { loop.end() }
        let gate = Turnstile()
        let batches = Watched<[[String]]>([])
        let batcher = Batcher(BatchPolicy(size: 2), concurrency: 9, executor: executor, sleep: Self.forever) { batch in
            batches.change { $0.append(keys(batch)) }
            await gate.enter("batch")
            #expect(!Task.isCancelled)
        }
        func call(_ key: String) throws -> Task<Void, any Error> {
            let record = Record(
                topic: bench.topic, partition: 0, offset: 0, timestamp: nil, key: ByteSlice(key),
                value: EngineBench.event(key, version: 1))
            let event = try EventDecoder().decode(record)
            let step = AttemptStep(
                template: AttemptStep.template(tracer: bench.tracer), number: 1,
                process: TraceContext(traceID: TraceID(high: 1, low: 1), spanID: SpanID(1), flags: .sampled), previous: nil,
                tracer: bench.tracer, at: bench.tracer.clock.now())
            let context = HandlerContext(
                record: record, attempt: 1, firstOrigin: record.position, isRedelivery: false, span: step.span)
            return Task.detached(executorPreference: executor) { try await batcher.handle(event, context) }
        }
        let first = try call("waits")
        first.cancel()
        await #expect(throws: CancellationError.self) { try await first.value }
        // Its place is free: two others make the batch.
        let second = try call("a")
        let third = try call("b")
        _ = await gate.arrivals(1)
        #expect(batches.value.map(Set.init) == [["a", "b"]])
        second.cancel()
        gate.open()
        try await second.value
        try await third.value
    }
}

/// A thread that does what the engine's does with its executor.
private final class Loop: Sendable {
    private let executor: PollingExecutor
    private let isOver = Atomic(false)

    init(_ executor: PollingExecutor) {
        self.executor = executor
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                let loop = Unmanaged<Loop>.fromOpaque(context).takeRetainedValue()
                loop.executor.bind(waker: {})
                while !loop.isOver.load(ordering: .acquiring) {
                    loop.executor.runPending()
                    loop.executor.wait(atMost: .milliseconds(5))
                }
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        pthread_detach(thread)
    }

    func end() { isOver.store(true, ordering: .releasing) }
}
