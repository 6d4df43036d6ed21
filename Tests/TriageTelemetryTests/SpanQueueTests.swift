import Testing

@testable import TriageTelemetry

/// A generator whose seed a failing test prints (Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
struct QueueRandom: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}

@Suite("The span queue's decisions")
struct SpanQueueTests {
    func limits(_ change: (inout SpanQueue.Limits) -> Void = { _ in }) -> SpanQueue.Limits {
        var limits = SpanQueue.Limits()
        limits.bytes = 1000
        limits.reservedBytes = 250
        limits.batchSpans = 3
        limits.batchBytes = 200
        change(&limits)
        return limits
    }

    func batch(_ spans: Int, _ bytes: Int) -> SpanQueue.Batch { SpanQueue.Batch(spans: spans, bytes: bytes) }

    @Test("A trickle is exported when its oldest span has waited for the delay")
    func delay() {
        var queue = SpanQueue(limits())
        #expect(queue.next(at: .seconds(1)) == .wait(until: nil))
        #expect(queue.offer(bytes: 10, isError: false, at: .seconds(2)) == .append(sealing: false, waking: true))
        #expect(queue.next(at: .seconds(2)) == .wait(until: .seconds(7)))
        #expect(queue.offer(bytes: 10, isError: false, at: .seconds(6)) == .append(sealing: false, waking: false))
        #expect(queue.next(at: .seconds(6)) == .wait(until: .seconds(7)))
        #expect(queue.next(at: .seconds(7)) == .export(batch(2, 20), sealing: true))
        #expect(queue.completed(.exported) == SpanQueue.Release(finished: [], discarding: false))
        #expect(queue.next(at: .seconds(7)) == .wait(until: nil))
        #expect(queue.counts.exported == 2 && queue.counts.ended == 2)
    }

    @Test("A batch is full by spans or by bytes, and is exported at once")
    func fullBatch() {
        var queue = SpanQueue(limits())
        _ = queue.offer(bytes: 1, isError: false, at: .zero)
        _ = queue.offer(bytes: 1, isError: false, at: .zero)
        #expect(queue.offer(bytes: 1, isError: false, at: .zero) == .append(sealing: true, waking: true))
        #expect(queue.offer(bytes: 200, isError: false, at: .zero) == .append(sealing: true, waking: true))
        #expect(queue.next(at: .zero) == .export(batch(3, 3), sealing: false))
        _ = queue.completed(.exported)
        #expect(queue.next(at: .zero) == .export(batch(1, 200), sealing: false))
    }

    @Test("While an export is under way nothing wakes the worker; it asks again by itself")
    func oneAtATime() {
        var queue = SpanQueue(limits())
        _ = queue.offer(bytes: 200, isError: false, at: .zero)
        #expect(queue.next(at: .zero) == .export(batch(1, 200), sealing: false))
        #expect(queue.offer(bytes: 200, isError: false, at: .zero) == .append(sealing: true, waking: false))
        #expect(queue.counts.inFlight == 1 && queue.counts.queued == 1)
        _ = queue.completed(.exported)
        #expect(queue.next(at: .zero) == .export(batch(1, 200), sealing: false))
    }

    @Test("A full queue drops the new span; a quarter is kept for errors, and what is in flight takes room")
    func full() {
        var queue = SpanQueue(limits())
        for _ in 0..<3 { #expect(queue.offer(bytes: 250, isError: false, at: .zero) == .append(sealing: true, waking: true)) }
        #expect(queue.offer(bytes: 1, isError: false, at: .zero) == .drop(.queueFull))
        #expect(queue.offer(bytes: 250, isError: true, at: .zero) == .append(sealing: true, waking: true))
        #expect(queue.offer(bytes: 1, isError: true, at: .zero) == .drop(.queueFull))
        #expect(queue.next(at: .zero) == .export(batch(1, 250), sealing: false))
        #expect(queue.offer(bytes: 1, isError: true, at: .zero) == .drop(.queueFull))
        _ = queue.completed(.exported)
        #expect(queue.offer(bytes: 1, isError: true, at: .zero) == .append(sealing: false, waking: true))
        #expect(queue.counts.droppedQueueFull == 3 && queue.counts.dropped(.queueFull) == 3)
    }

    @Test("An explicit bound in spans counts those that wait")
    func spanBound() {
        var queue = SpanQueue(limits { $0.spans = 2 })
        #expect(queue.limits.batchSpans == 2)
        _ = queue.offer(bytes: 1, isError: false, at: .zero)
        #expect(queue.offer(bytes: 1, isError: false, at: .zero) == .append(sealing: true, waking: true))
        #expect(queue.offer(bytes: 1, isError: true, at: .zero) == .drop(.queueFull))
        #expect(queue.next(at: .zero) == .export(batch(2, 2), sealing: false))
        #expect(queue.offer(bytes: 1, isError: false, at: .zero) == .append(sealing: false, waking: false))
    }

    @Test("A flush ends when all that came before it has left; what comes later doesn't hold it up")
    func flush() {
        var queue = SpanQueue(limits())
        #expect(queue.flush(id: 1) == SpanQueue.Request(sealing: false, waking: false, finished: [.init(id: 1, succeeded: true)]))
        _ = queue.offer(bytes: 10, isError: false, at: .zero)
        #expect(queue.flush(id: 2) == SpanQueue.Request(sealing: true, waking: true, finished: []))
        _ = queue.offer(bytes: 10, isError: false, at: .zero)
        #expect(queue.next(at: .zero) == .export(batch(1, 10), sealing: false))
        #expect(queue.flush(id: 3) == SpanQueue.Request(sealing: true, waking: false, finished: []))
        #expect(queue.completed(.exported) == SpanQueue.Release(finished: [.init(id: 2, succeeded: true)], discarding: false))
        #expect(queue.next(at: .zero) == .export(batch(1, 10), sealing: false))
        #expect(queue.completed(.failed) == SpanQueue.Release(finished: [.init(id: 3, succeeded: false)], discarding: false))
        #expect(queue.counts.failed == 1)
    }

    @Test("A flush whose time was up is forgotten")
    func expiredFlush() {
        var queue = SpanQueue(limits())
        _ = queue.offer(bytes: 10, isError: false, at: .zero)
        _ = queue.flush(id: 1)
        queue.expire(id: 1)
        _ = queue.next(at: .zero)
        #expect(queue.completed(.exported).finished.isEmpty)
    }

    @Test("A partial success counts exported and rejected, and believes no receiver that rejects more than it got")
    func partial() {
        var queue = SpanQueue(limits())
        for rejected in [1, 99] {
            for _ in 0..<3 { _ = queue.offer(bytes: 1, isError: false, at: .zero) }
            _ = queue.next(at: .zero)
            _ = queue.completed(.partial(rejected: rejected))
        }
        #expect(queue.counts.exported == 2 && queue.counts.rejected == 4)
    }

    @Test("A shutdown exports what waits, refuses what comes, and ends")
    func shutdown() {
        var queue = SpanQueue(limits())
        _ = queue.offer(bytes: 10, isError: false, at: .zero)
        #expect(queue.shutdown() == SpanQueue.Request(sealing: true, waking: true, finished: []))
        #expect(queue.offer(bytes: 10, isError: true, at: .zero) == .drop(.alreadyShutdown))
        #expect(queue.next(at: .zero) == .export(batch(1, 10), sealing: false))
        _ = queue.completed(.exported)
        #expect(queue.next(at: .zero) == .finish)
        #expect(queue.shutdown() == SpanQueue.Request(sealing: false, waking: false, finished: []))
        #expect(queue.offer(bytes: 10, isError: false, at: .zero) == .drop(.alreadyShutdown))
        #expect(queue.counts.droppedAlreadyShutdown == 2 && queue.counts.ended == 3)
    }

    @Test("The first failure during a shutdown drops the rest, so a dead endpoint costs one time-out")
    func shutdownWithDeadEndpoint() {
        var queue = SpanQueue(limits())
        for _ in 0..<3 { _ = queue.offer(bytes: 200, isError: false, at: .zero) }
        _ = queue.flush(id: 1)
        _ = queue.shutdown()
        _ = queue.next(at: .zero)
        #expect(queue.completed(.failed) == SpanQueue.Release(finished: [.init(id: 1, succeeded: false)], discarding: true))
        #expect(queue.next(at: .zero) == .finish)
        #expect(queue.counts.failed == 1 && queue.counts.droppedShutdownTimeout == 2 && queue.counts.queued == 0)
    }

    @Test("When the shutdown's time is up, what waits is dropped, and the batch in flight still counts")
    func abandon() {
        var queue = SpanQueue(limits())
        for _ in 0..<2 { _ = queue.offer(bytes: 200, isError: false, at: .zero) }
        _ = queue.next(at: .zero)
        _ = queue.shutdown()
        #expect(queue.abandon() == SpanQueue.Release(finished: [], discarding: true))
        #expect(queue.counts.inFlight == 1 && queue.counts.droppedShutdownTimeout == 1)
        #expect(queue.completed(.exported) == SpanQueue.Release(finished: [], discarding: false))
        #expect(queue.next(at: .zero) == .finish)
        #expect(queue.counts.exported == 1 && queue.counts.ended == 2)
    }

    @Test("Limits out of range are brought into it")
    func normalized() {
        var limits = SpanQueue.Limits()
        limits.bytes = 100
        limits.spans = 0
        limits.batchSpans = -1
        limits.delay = .seconds(-1)
        let queue = SpanQueue(limits)
        #expect(queue.limits.batchBytes == 25 && queue.limits.reservedBytes == 50)
        #expect(queue.limits.spans == 1 && queue.limits.batchSpans == 1 && queue.limits.delay == .zero)
    }

    @Test("It does what a naive model does, whatever happens", arguments: [UInt64.random(in: 1 ... .max), 1, 2])
    func model(seed: UInt64) {
        var random = QueueRandom(seed)
        for round in 0..<200 {
            var limits = SpanQueue.Limits()
            limits.bytes = Int.random(in: 1...500, using: &random)
            limits.reservedBytes = Int.random(in: 0...200, using: &random)
            limits.spans = Bool.random(using: &random) ? Int.random(in: 1...20, using: &random) : nil
            limits.batchSpans = Int.random(in: 1...10, using: &random)
            limits.batchBytes = Int.random(in: 1...200, using: &random)
            var queue = SpanQueue(limits)
            var model = QueueModel(limits: queue.limits)
            var now = Duration.zero
            for step in 0..<200 {
                let place = "seed \(seed), round \(round), step \(step)"
                now += .milliseconds(Int.random(in: 0...2000, using: &random))
                switch Int.random(in: 0..<100, using: &random) {
                case 0..<60:
                    let bytes = Int.random(in: 0...60, using: &random)
                    let isError = Bool.random(using: &random)
                    let offer = queue.offer(bytes: bytes, isError: isError, at: now)
                    #expect(offer.dropReason == model.offer(bytes, isError, now), "\(place)")
                case 60..<75:
                    guard model.inFlight == nil else { continue }
                    let next = queue.next(at: now)
                    #expect(next.exported == model.next(now), "\(place)")
                    #expect((next == .finish) == model.isFinished, "\(place)")
                case 75..<92:
                    let results: [ExportResult] = [
                        .exported, .exported, .partial(rejected: 2), .failed, .mixed(rejected: 1, failed: 2),
                        .mixed(rejected: 1, failed: 0),
                    ]
                    let result = results.randomElement(using: &random) ?? .exported
                    #expect(queue.completed(result).finished == model.completed(result), "\(place)")
                case 92..<97:
                    #expect(queue.flush(id: step).finished == model.flush(step), "\(place)")
                case 97:
                    queue.expire(id: step - 1)
                    model.flushes.removeAll { $0.id == step - 1 }
                case 98 where Int.random(in: 0..<8, using: &random) == 0:
                    _ = queue.shutdown()
                    model.shutdown()
                case 99 where Int.random(in: 0..<8, using: &random) == 0:
                    #expect(queue.abandon().finished == model.abandon(), "\(place)")
                default: break
                }
                #expect(queue.counts == model.counts, "\(place)")
                #expect(queue.counts.ended == model.offered, "\(place)")
            }
        }
    }
}

extension SpanQueue.Offer {
    var dropReason: SpanQueue.DropReason? { if case .drop(let reason) = self { reason } else { nil } }
}

extension SpanQueue.Step {
    var exported: SpanQueue.Batch? { if case .export(let batch, _) = self { batch } else { nil } }
}

/// The queue written down as lists of single spans, with everything recomputed each time.
struct QueueModel {
    struct Flush {
        let id: Int
        /// The numbers of the spans it waits for.
        var spans: Set<Int>
        var succeeded = true
    }

    let limits: SpanQueue.Limits
    var chunks: [[(number: Int, bytes: Int)]] = []
    var isOpen = false
    var since = Duration.zero
    var inFlight: [(number: Int, bytes: Int)]?
    var flushes: [Flush] = []
    var offered = 0
    var counts = SpanExportCounts()
    var isStopping = false
    var isFinished = false

    init(limits: SpanQueue.Limits) { self.limits = limits }

    private var waiting: [(number: Int, bytes: Int)] { chunks.flatMap { $0 } }

    private mutating func recount() {
        counts.queued = waiting.count
        counts.queuedBytes = waiting.reduce(0) { $0 + $1.bytes }
        counts.inFlight = inFlight?.count ?? 0
    }

    mutating func offer(_ bytes: Int, _ isError: Bool, _ now: Duration) -> SpanQueue.DropReason? {
        defer { recount() }
        offered += 1
        if isStopping {
            counts.droppedAlreadyShutdown += 1
            return .alreadyShutdown
        }
        let held = (waiting + (inFlight ?? [])).reduce(0) { $0 + $1.bytes }
        let room = limits.bytes - (isError ? 0 : limits.reservedBytes)
        if held + bytes > room || waiting.count >= limits.spans ?? .max {
            counts.droppedQueueFull += 1
            return .queueFull
        }
        if !isOpen {
            chunks.append([])
            isOpen = true
            since = now
        }
        chunks[chunks.count - 1].append((offered, bytes))
        let last = chunks[chunks.count - 1]
        if last.count >= limits.batchSpans || last.reduce(0, { $0 + $1.bytes }) >= limits.batchBytes { isOpen = false }
        return nil
    }

    mutating func next(_ now: Duration) -> SpanQueue.Batch? {
        defer { recount() }
        guard let first = chunks.first else {
            isFinished = isStopping
            return nil
        }
        if chunks.count == 1, isOpen {
            guard isStopping || now >= since + limits.delay else { return nil }
            isOpen = false
        }
        chunks.removeFirst()
        inFlight = first
        return SpanQueue.Batch(spans: first.count, bytes: first.reduce(0) { $0 + $1.bytes })
    }

    mutating func completed(_ result: ExportResult) -> [SpanQueue.Flush] {
        defer { recount() }
        guard let batch = inFlight else { return [] }
        inFlight = nil
        switch result {
        case .exported: counts.exported += batch.count
        case .partial(let rejected):
            counts.rejected += min(rejected, batch.count)
            counts.exported += batch.count - min(rejected, batch.count)
        case .failed:
            counts.failed += batch.count
            for index in flushes.indices { flushes[index].succeeded = false }
        case .mixed(let rejected, let failed):
            let failed = min(failed, batch.count)
            let rejected = min(rejected, batch.count - failed)
            counts.failed += failed
            counts.rejected += rejected
            counts.exported += batch.count - failed - rejected
            if failed > 0 { for index in flushes.indices { flushes[index].succeeded = false } }
        }
        for index in flushes.indices { flushes[index].spans.subtract(batch.map(\.number)) }
        if result == .failed, isStopping { return abandon() }
        return takeFinished()
    }

    mutating func flush(_ id: Int) -> [SpanQueue.Flush] {
        let numbers = Set((waiting + (inFlight ?? [])).map(\.number))
        isOpen = false
        flushes.append(Flush(id: id, spans: numbers))
        return numbers.isEmpty ? takeFinished() : []
    }

    mutating func shutdown() {
        isStopping = true
        isOpen = false
    }

    mutating func abandon() -> [SpanQueue.Flush] {
        isStopping = true
        counts.droppedShutdownTimeout += waiting.count
        for index in flushes.indices {
            if !waiting.isEmpty { flushes[index].succeeded = false }
            flushes[index].spans.subtract(waiting.map(\.number))
        }
        chunks = []
        isOpen = false
        recount()
        return takeFinished()
    }

    private mutating func takeFinished() -> [SpanQueue.Flush] {
        defer { flushes.removeAll { $0.spans.isEmpty } }
        return flushes.filter(\.spans.isEmpty).compactMap { flush in
            // The fields' memberwise initialiser is the module's own, so the machine makes the value.
            SpanQueue.Flush(id: flush.id, succeeded: flush.succeeded)
        }
    }
}
