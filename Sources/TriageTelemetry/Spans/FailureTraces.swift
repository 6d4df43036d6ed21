/// Keeps the ended spans of local traces that the sampler refused until their local root has ended or something in them
/// has failed: a pure state machine (design §4, "Every failure has a trace").
///
/// A local trace is a span whose parent is remote or none, and everything begun under it in this process. It is *open* until
/// its root ends, which discards it; a failure that the rate limiter admits *flags* it, which exports what has ended, and
/// from then on its spans are exported as they end. A span that outlives its root is on its own.
///
/// `Payload` is a span's data; tests use something simpler. Spans lie in one array and find each other by index, so that
/// beginning and ending one allocates nothing in the long run; what they hold lies in another, and moves in and out only
/// when one waits. A span's id is random, so its low bits are its hash.
struct FailureTraces<Payload: Sendable>: Sendable {
    /// What a span begun under another one is.
    enum Begin: Sendable, Equatable {
        /// Buffered with its trace.
        case buffered(BufferedSpanHandle)
        /// Sampled, since its trace has been flagged.
        case sampled
        /// Neither: the parent isn't known here.
        case unknown
    }

    /// What becomes of a span that ended.
    enum End: Sendable, Equatable {
        /// It waits.
        case kept
        /// It is to be exported.
        case export
        /// Nobody will see it.
        case discarded
        /// It had ended before.
        case ignored
    }

    /// What a failure leads to.
    enum Failing: Sendable {
        /// The trace is flagged now: these ended before and are to be exported, in the order in which they began.
        case flagged([Payload], isOrphan: Bool)
        /// It had been flagged before.
        case sampled
        /// The rate limit refuses it.
        case limited
        /// The span has ended, or was never known.
        case ignored
    }

    private enum State { case open, limited, flagged, closed, closedLimited }

    /// Plain numbers without references, so that copying and clearing one costs next to nothing.
    private struct Node: Sendable {
        var trace: UInt64 = 0
        var span: UInt64 = 0
        var bytes = 0
        var generation: UInt32 = 0
        /// The next one in its bucket; in a free node the next free one.
        var nextInBucket = -1
        /// The node of its local root; its own for a root.
        var root = -1
        /// Its neighbours among the members of its trace, in the order in which they began.
        var previous = -1
        var next = -1
        var isLive = false
        /// Whether it has ended and waits.
        var waits = false

        // Of a root only:
        var state = State.open
        var hasLostSpans = false
        var first = -1
        var last = -1
        /// Members under way, the root not counted.
        var live = 0
        /// Members that have ended and wait.
        var buffered = 0
        /// Its neighbours among the traces with spans that wait, in the order in which they had their first.
        var older = -1
        var newer = -1
    }

    let limits: FailureTraceLimits
    private var limiter: TraceRateLimiter
    private var nodes: [Node] = []
    /// What waits, by the index of its node.
    private var payloads: [Payload?] = []
    private var free = -1
    private var live = 0
    private var used = 0
    private var buckets = [Int](repeating: -1, count: 256)
    private var oldest = -1
    private var newest = -1
    /// The counts at this moment.
    private(set) var counts = FailureTraceCounts()

    init(_ limits: FailureTraceLimits) {
        self.limits = limits
        limiter = TraceRateLimiter(limits)
    }

    // MARK: Beginning

    /// Begins a local trace. Without room for another span it is not known here, and on its own: ``BufferedSpanHandle/none``.
    mutating func beginRoot(trace: UInt64, span: UInt64) -> BufferedSpanHandle {
        guard live < limits.liveSpans else { return .none }
        let index = insert(trace, span)
        nodes[index].root = index
        return handle(index)
    }

    /// Begins a span under the one with the id `parent`.
    mutating func begin(trace: UInt64, span: UInt64, under parent: UInt64) -> Begin {
        var index = buckets[bucket(parent)]
        while index >= 0, nodes[index].span != parent || nodes[index].trace != trace { index = nodes[index].nextInBucket }
        return begin(trace, span, besides: index)
    }

    /// Begins a span that belongs to the local trace of another one without being its child.
    mutating func begin(trace: UInt64, span: UInt64, beside other: BufferedSpanHandle) -> Begin {
        begin(trace, span, besides: find(other) ?? -1)
    }

    private mutating func begin(_ trace: UInt64, _ span: UInt64, besides other: Int) -> Begin {
        guard other >= 0 else { return .unknown }
        let root = nodes[other].root
        if nodes[root].state == .flagged { return .sampled }
        guard live < limits.liveSpans else { return .unknown }
        let index = insert(trace, span)
        let last = nodes[root].last
        nodes[index].root = root
        nodes[index].previous = last
        if last >= 0 { nodes[last].next = index } else { nodes[root].first = index }
        nodes[root].last = index
        nodes[root].live += 1
        return .buffered(handle(index))
    }

    // MARK: Ending

    /// Ends a span.
    ///
    /// - Parameters:
    ///   - payload: what the span holds; taken if it is to wait, left where it is otherwise.
    ///   - bytes: estimates what it occupies; asked only if it is to wait.
    mutating func end(_ handle: BufferedSpanHandle, _ payload: inout Payload?, bytes: (borrowing Payload) -> Int) -> End {
        guard let index = find(handle), nodes[index].isLive else { return .ignored }
        counts.ended += 1
        nodes[index].isLive = false
        live -= 1
        let root = nodes[index].root
        if root == index { return endRoot(index) }
        nodes[root].live -= 1
        switch nodes[root].state {
        case .open, .limited:
            let size = payload.map { bytes($0) } ?? 0
            nodes[index].bytes = size
            swap(&payloads[index], &payload)
            nodes[index].waits = true
            counts.buffered += 1
            counts.bufferedBytes += size
            nodes[root].buffered += 1
            if nodes[root].buffered == 1 { enlist(root) }
            while counts.bufferedBytes > limits.bytes, oldest >= 0 { evict(oldest) }
            return .kept
        case .flagged:
            counts.exported += 1
            remove(index, from: root)
            return .export
        case .closed, .closedLimited:
            if nodes[root].state == .closed { counts.notFailed += 1 } else { counts.rateLimited += 1 }
            remove(index, from: root)
            return .discarded
        }
    }

    private mutating func endRoot(_ root: Int) -> End {
        let state = nodes[root].state
        switch state {
        case .flagged: counts.exported += 1
        case .limited:
            counts.rateLimited += 1
            counts.limitedTraces += 1
        case .open, .closed, .closedLimited: counts.notFailed += 1
        }
        close(root)
        return state == .flagged ? .export : .discarded
    }

    /// Discards what waits; the root stays as long as a member is under way.
    private mutating func close(_ root: Int) {
        let dropped = dropEnded(root)
        switch nodes[root].state {
        case .open:
            counts.notFailed += dropped
            nodes[root].state = .closed
        case .limited:
            counts.rateLimited += dropped
            nodes[root].state = .closedLimited
        case .flagged, .closed, .closedLimited: break
        }
        if nodes[root].live == 0 { release(root) }
    }

    /// Forgets a span that was begun for something that didn't happen; it counts as neither ended nor under way.
    mutating func discard(_ handle: BufferedSpanHandle) {
        guard let index = find(handle), nodes[index].isLive else { return }
        counts.discarded += 1
        nodes[index].isLive = false
        live -= 1
        let root = nodes[index].root
        if root == index {
            close(index)
        } else {
            nodes[root].live -= 1
            remove(index, from: root)
        }
    }

    // MARK: Failing

    /// Something failed in a span that is under way.
    mutating func fail(_ handle: BufferedSpanHandle, fingerprint: String, at now: Duration) -> Failing {
        guard let index = find(handle), nodes[index].isLive else { return .ignored }
        let root = nodes[index].root
        let state = nodes[root].state
        if state == .flagged { return .sampled }
        guard limiter.admits(fingerprint, at: now) else {
            if state == .open { nodes[root].state = .limited }
            if state == .closed {
                nodes[root].state = .closedLimited
                counts.limitedTraces += 1
            }
            return .limited
        }
        if state == .closedLimited { counts.limitedTraces -= 1 }
        counts.flaggedTraces += 1
        if nodes[root].hasLostSpans { counts.incompleteTraces += 1 }
        nodes[root].state = .flagged
        var ended: [Payload] = []
        ended.reserveCapacity(nodes[root].buffered)
        counts.exported += takeEnded(root) { if let payload = $0.take() { ended.append(payload) } }
        return .flagged(ended, isOrphan: state == .closed || state == .closedLimited)
    }

    // MARK: Spans on their own

    /// Something failed in a span that isn't known here; tells whether it is exported.
    mutating func failAlone(fingerprint: String, at now: Duration) -> Bool {
        guard limiter.admits(fingerprint, at: now) else { return false }
        counts.flaggedTraces += 1
        return true
    }

    /// A span that isn't known here ended, after its failure was admitted or refused.
    mutating func endAlone(isFlagged: Bool, isLimited: Bool) {
        counts.ended += 1
        if isFlagged {
            counts.exported += 1
        } else if isLimited {
            counts.rateLimited += 1
            counts.limitedTraces += 1
        } else {
            counts.notFailed += 1
        }
    }

    /// A span that isn't known here was begun for something that didn't happen.
    mutating func discardAlone() { counts.discarded += 1 }

    // MARK: The bound

    private mutating func evict(_ root: Int) {
        counts.evicted += dropEnded(root)
        nodes[root].hasLostSpans = true
    }

    /// Discards the members that have ended, and gives their number.
    private mutating func dropEnded(_ root: Int) -> Int { takeEnded(root) { $0 = nil } }

    /// Takes out the members that have ended, in the order in which they began, and gives their number.
    private mutating func takeEnded(_ root: Int, _ take: (inout Payload?) -> Void) -> Int {
        let count = nodes[root].buffered
        guard count > 0 else { return 0 }
        var index = nodes[root].first
        while index >= 0 {
            let next = nodes[index].next
            if nodes[index].waits {
                take(&payloads[index])
                counts.bufferedBytes -= nodes[index].bytes
                unlink(index, from: root)
                release(index)
            }
            index = next
        }
        counts.buffered -= count
        nodes[root].buffered = 0
        delist(root)
        return count
    }

    private mutating func enlist(_ root: Int) {
        nodes[root].older = newest
        nodes[root].newer = -1
        if newest >= 0 { nodes[newest].newer = root } else { oldest = root }
        newest = root
    }

    private mutating func delist(_ root: Int) {
        let (older, newer) = (nodes[root].older, nodes[root].newer)
        if older >= 0 { nodes[older].newer = newer } else { oldest = newer }
        if newer >= 0 { nodes[newer].older = older } else { newest = older }
        nodes[root].older = -1
        nodes[root].newer = -1
    }

    // MARK: Nodes

    private func handle(_ index: Int) -> BufferedSpanHandle {
        BufferedSpanHandle(slot: UInt32(truncatingIfNeeded: index), generation: nodes[index].generation)
    }

    private func find(_ handle: BufferedSpanHandle) -> Int? {
        let index = Int(handle.slot)
        return index < nodes.count && nodes[index].generation == handle.generation ? index : nil
    }

    @inline(__always)
    private func bucket(_ span: UInt64) -> Int { Int(truncatingIfNeeded: span) & (buckets.count - 1) }

    private mutating func insert(_ trace: UInt64, _ span: UInt64) -> Int {
        if used >= buckets.count { grow() }
        let index: Int
        if free >= 0 {
            index = free
            free = nodes[index].nextInBucket
        } else {
            index = nodes.count
            nodes.append(Node())
            payloads.append(nil)
        }
        let bucket = bucket(span)
        nodes[index].trace = trace
        nodes[index].span = span
        nodes[index].isLive = true
        nodes[index].nextInBucket = buckets[bucket]
        buckets[bucket] = index
        used += 1
        live += 1
        return index
    }

    private mutating func grow() {
        buckets = [Int](repeating: -1, count: buckets.count * 2)
        for index in nodes.indices where nodes[index].root >= 0 {
            let bucket = bucket(nodes[index].span)
            nodes[index].nextInBucket = buckets[bucket]
            buckets[bucket] = index
        }
    }

    /// Takes a member out of its trace, and the trace with it if nothing is left of that.
    private mutating func remove(_ index: Int, from root: Int) {
        unlink(index, from: root)
        release(index)
        if !nodes[root].isLive, nodes[root].live == 0 { release(root) }
    }

    private mutating func unlink(_ index: Int, from root: Int) {
        let (previous, next) = (nodes[index].previous, nodes[index].next)
        if previous >= 0 { nodes[previous].next = next } else { nodes[root].first = next }
        if next >= 0 { nodes[next].previous = previous } else { nodes[root].last = previous }
    }

    /// Frees a node; whoever still has its handle finds nothing.
    private mutating func release(_ index: Int) {
        let bucket = bucket(nodes[index].span)
        if buckets[bucket] == index {
            buckets[bucket] = nodes[index].nextInBucket
        } else {
            var at = buckets[bucket]
            while nodes[at].nextInBucket != index { at = nodes[at].nextInBucket }
            nodes[at].nextInBucket = nodes[index].nextInBucket
        }
        let generation = nodes[index].generation &+ 1
        nodes[index] = Node()
        nodes[index].generation = generation
        nodes[index].nextInBucket = free
        free = index
        used -= 1
    }
}

extension FailureTraces.Failing: Equatable where Payload: Equatable {}
