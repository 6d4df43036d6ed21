import Testing
import TriageEvents
import TriageTelemetry

@Suite("Samplers")
struct SamplerTests {
    func isSampled(_ sampler: Sampler, low: UInt64, parent: TraceContext? = nil) -> Bool {
        sampler.isSampled(parent: parent, traceID: TraceID(high: 0, low: low))
    }

    func parent(_ flags: TraceFlags, isRemote: Bool) -> TraceContext {
        TraceContext(traceID: TraceID(high: 1, low: 2), spanID: SpanID(3), flags: flags, isRemote: isRemote)
    }

    @Test("always on, always off, and the ratio's edges, which are Go's and Python's")
    func plain() {
        #expect(isSampled(.alwaysOn, low: 0) && isSampled(.alwaysOn, low: .max))
        #expect(!isSampled(.alwaysOff, low: 0) && !isSampled(.alwaysOff, low: .max))
        #expect(isSampled(.traceIDRatio(1), low: .max) && !isSampled(.traceIDRatio(0), low: 0))
        #expect(isSampled(.traceIDRatio(2), low: .max) && !isSampled(.traceIDRatio(-1), low: 0))
        #expect(!isSampled(.traceIDRatio(.nan), low: 0))
        #expect(isSampled(.traceIDRatio(0.5), low: 0x7FFF_FFFF_FFFF_FFFF))
        #expect(!isSampled(.traceIDRatio(0.5), low: 0x8000_0000_0000_0000))
        #expect(isSampled(.traceIDRatio(0.25), low: 0x3FFF_FFFF_FFFF_FFFF))
        #expect(!isSampled(.traceIDRatio(0.25), low: 0x4000_0000_0000_0000))
        // The smallest ratio that keeps anything, and the largest below 1.
        #expect(isSampled(.traceIDRatio(0x1p-63), low: 1) && !isSampled(.traceIDRatio(0x1p-63), low: 2))
        #expect(!isSampled(.traceIDRatio(0x1p-64), low: 0))
        #expect(!isSampled(.traceIDRatio(1.0.nextDown), low: .max) && isSampled(.traceIDRatio(1.0.nextDown), low: .max - 0x1000))
    }

    @Test("a plain sampler doesn't look at the parent; a parent-based one at nothing else, remote or local")
    func parents() {
        let roots: [Sampler] = [.alwaysOn, .alwaysOff, .traceIDRatio(0), .traceIDRatio(1)]
        for root in roots {
            for isRemote in [true, false] {
                let on = parent(.sampled, isRemote: isRemote)
                let off = parent([], isRemote: isRemote)
                let bare = isSampled(root, low: 2)
                #expect(isSampled(root, low: 2, parent: on) == bare && isSampled(root, low: 2, parent: off) == bare)
                #expect(isSampled(.parentBased(root: root), low: 2, parent: on))
                #expect(!isSampled(.parentBased(root: root), low: 2, parent: off))
                #expect(isSampled(.parentBased(root: .parentBased(root: root)), low: 2) == bare)
            }
            #expect(isSampled(.parentBased(root: root), low: 2) == isSampled(root, low: 2))
            let invalid = TraceContext(traceID: TraceID(high: 0, low: 0), spanID: SpanID(3), flags: .sampled)
            #expect(isSampled(.parentBased(root: root), low: 2, parent: invalid) == isSampled(root, low: 2))
        }
    }

    @Test("a higher ratio keeps every trace that a lower one keeps, always the same ones, and about as many as it says")
    func supersets() {
        let seed = UInt64.random(in: 1 ... .max)
        var random = QueueRandom(seed)
        let ratios = [0, 0x1p-63, 1e-9, 0.001, 0.1, 0.25, 0.5, 0.75, 0.999, 1.0.nextDown, 1]
        var kept = ratios.map { _ in 0 }
        for _ in 0..<20_000 {
            let low = UInt64.random(in: .min ... .max, using: &random)
            let high = UInt64.random(in: .min ... .max, using: &random)
            let decisions = ratios.map { Sampler.traceIDRatio($0).isSampled(parent: nil, traceID: TraceID(high: high, low: low)) }
            let again = ratios.map { Sampler.traceIDRatio($0).isSampled(parent: nil, traceID: TraceID(high: ~high, low: low)) }
            #expect(decisions == again, "seed \(seed)")
            #expect(!zip(decisions, decisions.dropFirst()).contains { $0 && !$1 }, "seed \(seed)")
            for (index, isKept) in decisions.enumerated() where isKept { kept[index] += 1 }
        }
        #expect(kept.first == 0 && kept.last == 20_000, "seed \(seed)")
        for (ratio, count) in zip(ratios, kept) {
            // Six standard deviations.
            let expected = 20_000 * ratio
            #expect(abs(Double(count) - expected) <= 6 * (expected * (1 - ratio)).squareRoot() + 1, "seed \(seed), \(ratio)")
        }
    }

    @Test("descriptions are those of the SDKs, with a decimal number that tells ratios apart")
    func descriptions() {
        let expected: [(Sampler, String)] = [
            (.alwaysOn, "AlwaysOnSampler"), (.alwaysOff, "AlwaysOffSampler"),
            (.traceIDRatio(0.25), "TraceIdRatioBased{0.25}"), (.traceIDRatio(1), "TraceIdRatioBased{1.0}"),
            (.traceIDRatio(0), "TraceIdRatioBased{0.0}"), (.traceIDRatio(0.0001), "TraceIdRatioBased{0.0001}"),
            (.traceIDRatio(0.00001), "TraceIdRatioBased{0.00001}"), (.traceIDRatio(1.25e-7), "TraceIdRatioBased{0.000000125}"),
            (.parentBased(root: .alwaysOn), "ParentBased{root:AlwaysOnSampler}"),
            (.parentBased(root: .alwaysOff), "ParentBased{root:AlwaysOffSampler}"),
            (.parentBased(root: .traceIDRatio(0.5)), "ParentBased{root:TraceIdRatioBased{0.5}}"),
        ]
        for (sampler, text) in expected { #expect(sampler.description == text) }
    }
}
