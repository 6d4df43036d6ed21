import Glibc
import Synchronization
import Testing
import TriageEvents

@testable import TriageTelemetry

/// A clock that stands where it is put.
final class StandingClock: EventClock {
    private let time = Atomic<Int64>(0)
    func now() -> Timestamp { Timestamp(nanoseconds: time.load(ordering: .relaxed)) }
    func set(_ nanoseconds: Int64) { time.store(nanoseconds, ordering: .relaxed) }
}

func counts(_ snapshot: MetricSnapshot, _ metric: Metric) -> [MetricData.Value] {
    snapshot.metrics.first { $0.metric.name == metric.name }?.points.map(\.value) ?? []
}

private let sizes = Metric("test.sizes", .histogram, unit: "By", "Sizes.", attributes: ["kind"], boundaries: [1, 2, 5])
private let hits = Metric("test.hits", .counter, unit: "{hit}", "Hits.", attributes: ["kind", "side"])
private let level = Metric("test.level", .gauge, unit: "1", "Level.", attributes: ["kind"])
private let open = Metric("test.open", .upDownCounter, unit: "{door}", "Doors.", attributes: ["kind"])

@Suite struct MeterTests {
    let end = Timestamp(nanoseconds: 1_000)

    @Test func aCounterIsExportedAsZeroBeforeItsFirstIncrease() {
        let meter = Meter()
        let counter = meter.counter(hits)
        #expect(counts(meter.collect(at: end), hits) == [.sum(0)])
        counter.add()
        counter.add(41)
        #expect(counts(meter.collect(at: end), hits) == [.sum(42)])
    }

    @Test func oneSetOfAttributesIsOneHandleWhateverTheirOrder() {
        let meter = Meter()
        #expect(meter.counter(hits, ["kind": "a", "side": "b"]) === meter.counter(hits, ["side": "b", "kind": "a"]))
        #expect(meter.counter(hits, ["kind": "a"]) !== meter.counter(hits, ["kind": "b"]))
        #expect(meter.histogram(sizes) === meter.histogram(sizes))
    }

    @Test func aGaugeHasNoPointUntilItIsSet() {
        let meter = Meter()
        let gauge = meter.gauge(level)
        #expect(meter.collect(at: end).metrics.isEmpty)
        gauge.set(-2.5)
        #expect(counts(meter.collect(at: end), level) == [.gauge(-2.5)])
        #expect(gauge.current == -2.5)
    }

    @Test func anUpDownCounterGoesBothWays() {
        let meter = Meter()
        meter.upDownCounter(open).add(3)
        meter.upDownCounter(open).add(-5)
        #expect(counts(meter.collect(at: end), open) == [.sum(-2)])
    }

    @Test func bucketsIncludeTheirUpperBoundary() {
        let meter = Meter()
        let histogram = meter.histogram(sizes)
        let empty = MetricData.Value.histogram(counts: [0, 0, 0, 0], sum: 0, count: 0, minimum: 0, maximum: 0)
        #expect(counts(meter.collect(at: end), sizes) == [empty])
        for value in [1, 1.5, 2, 5, 5.5, -3, .nan, .infinity] { histogram.record(value) }
        #expect(
            counts(meter.collect(at: end), sizes)
                == [.histogram(counts: [2, 2, 1, 1], sum: 15, count: 6, minimum: 0, maximum: 5.5)])
    }

    @Test func aHistogramRecordsTheTimeBetweenTwoPointsInSeconds() {
        let meter = Meter()
        meter.histogram(sizes).record(from: Timestamp(nanoseconds: 500_000_000), to: Timestamp(nanoseconds: 2_000_000_000))
        #expect(
            counts(meter.collect(at: end), sizes)
                == [.histogram(counts: [0, 1, 0, 0], sum: 1.5, count: 1, minimum: 1.5, maximum: 1.5)])
    }

    @Test(arguments: 0..<40) func aHistogramEqualsACountByHand(seed: UInt64) {
        var random = SeededRandom(state: seed)
        let drawn = (0..<Int.random(in: 0...25, using: &random)).map { _ in Double(Int.random(in: 0...60, using: &random)) }
        let boundaries = Set(drawn).sorted()
        let histogram = Histogram(boundaries: boundaries)
        let values = (0..<200).map { _ in Double(Int.random(in: 0...140, using: &random)) / 2 }
        var expected = [UInt64](repeating: 0, count: boundaries.count + 1)
        for value in values {
            histogram.record(value)
            expected[boundaries.firstIndex { value <= $0 } ?? boundaries.count] += 1
        }
        #expect(
            histogram.value
                == .histogram(
                    counts: expected, sum: values.reduce(0, +), count: 200, minimum: values.min() ?? -1,
                    maximum: values.max() ?? -1))
    }

    @Test func pointsStandInTheOrderOfTheirAttributesAndMetricsInThatOfTheCatalogue() {
        let meter = Meter()
        for kind: SafeText in ["b", "c", "a"] { meter.counter(hits, ["kind": kind]).add() }
        _ = meter.counter(.commits)
        _ = meter.counter(.deliveries)
        _ = meter.upDownCounter(.recordsInFlight)
        let snapshot = meter.collect(at: end)
        #expect(
            snapshot.metrics.map(\.metric.name)
                == ["triage.deliveries", "triage.records.in_flight", "triage.commits", "test.hits"])
        #expect(snapshot.metrics[3].points.map { $0.attributes.pairs[0].value } == ["a", "b", "c"])
        #expect(snapshot.timestamp == end)
    }

    @Test func aSeriesBeginsWhenItIsMade() {
        let clock = StandingClock()
        let meter = Meter(clock: clock)
        clock.set(5)
        _ = meter.counter(hits, ["kind": "a"])
        clock.set(9)
        _ = meter.counter(hits, ["kind": "b"])
        _ = meter.counter(hits, ["kind": "a"])
        #expect(meter.collect(at: end).metrics[0].points.map(\.start.nanoseconds) == [5, 9])
    }

    @Test func setsBeyondTheLimitShareTheOverflowAndNothingIsLost() {
        let meter = Meter(cardinalityLimit: 3)
        for kind in 0..<10 { meter.counter(hits, ["kind": "\(kind)"]).add(Int64(kind)) }
        meter.counter(hits, ["kind": "1"]).add(100)
        let points = meter.collect(at: end).metrics[0].points
        #expect(
            points.map { "\($0.attributes.pairs[0].key)=\($0.attributes.pairs[0].value)" }
                == ["kind=0", "kind=1", "kind=2", "otel.metric.overflow=true"])
        #expect(points.map(\.value) == [.sum(0), .sum(101), .sum(2), .sum(42)])
    }

    @Test func observersReportAtCollectionAndSumsOfOneSetAddUp() {
        let meter = Meter()
        meter.observe(open) { [(["kind": "b"], 2), (["kind": "a"], 1)] }
        meter.observe(open) { [(["kind": "b"], 40)] }
        meter.upDownCounter(open, ["kind": "a"]).add(10)
        meter.observe(level) { [([:], 1.5)] }
        meter.observe(level) { [([:], 3)] }
        meter.observe(.processCPUTime) { [(["cpu.mode": "user"], 0.25)] }
        let snapshot = meter.collect(at: end)
        #expect(counts(snapshot, open) == [.sum(11), .sum(42)])
        #expect(counts(snapshot, level) == [.intGauge(3)])
        #expect(counts(snapshot, .processCPUTime) == [.doubleSum(0.25)])
    }

    @Test func anObserverBeyondTheLimitOverflows() {
        let meter = Meter(cardinalityLimit: 2)
        meter.observe(open) { (0..<5).map { (["kind": "\($0)"], .int(Int64($0))) } }
        #expect(counts(meter.collect(at: end), open) == [.sum(0), .sum(1), .sum(9)])
    }

    @Test func fourThreadsLoseNothing() {
        let meter = Meter()
        let counter = meter.counter(hits)
        let histogram = meter.histogram(sizes)
        let rounds = 50_000
        onThreads(4) { thread in
            for round in 0..<rounds {
                counter.add()
                histogram.record(Double((round + thread) % 8))
                if round % 1000 == 0 { meter.upDownCounter(open, ["kind": "\(round % 3)"]).add(1) }
            }
        }
        let snapshot = meter.collect(at: end)
        let each = UInt64(4 * rounds / 8)
        #expect(counts(snapshot, hits) == [.sum(Int64(4 * rounds))])
        #expect(
            counts(snapshot, sizes)
                == [
                    .histogram(
                        counts: [2 * each, each, 3 * each, 2 * each], sum: Double(28 * each), count: 8 * each, minimum: 0,
                        maximum: 7)
                ])
        #expect(counts(snapshot, open).map { if case .sum(let sum) = $0 { sum } else { 0 } }.reduce(0, +) == 200)
    }

    @Test func theProcessIsSeen() throws {
        let meter = Meter()
        ProcessMetrics.register(on: meter)
        let snapshot = meter.collect(at: end)
        #expect(
            snapshot.metrics.map(\.metric.name) == [
                "process.cpu.time", "process.memory.usage", "process.unix.file_descriptor.count", "process.thread.count",
                "process.uptime",
            ])
        #expect(counts(snapshot, .processCPUTime).count == 2)
        #expect(try #require(ProcessMetrics.residentBytes) > 1_000_000)
        #expect(try #require(ProcessMetrics.threadCount) >= 1)
        #expect(try #require(ProcessMetrics.uptimeSeconds) < 86_400)
        let before = try #require(ProcessMetrics.fileDescriptorCount)
        #expect(before >= 3)
        let usage = ResourceUsage.now()
        #expect(usage.cpuSeconds > 0 && usage.maximumResidentBytes > 1_000_000)
    }

    @Test func aTracersCountsAreSeen() {
        let meter = Meter()
        let tracer = Tracer(clock: StandingClock(), processors: [])
        tracer.counts.register(on: meter)
        let template = tracer.template("poll", kind: .client, [])
        tracer.end(tracer.start(template, parent: nil, at: end), at: end)
        _ = tracer.start(template, parent: nil, at: end)
        _ = tracer.start(template, parent: nil, at: end, isSampled: false)
        let snapshot = meter.collect(at: end)
        // By origin (local, none, remote), then by result (DROP, RECORD_AND_SAMPLE, RECORD_ONLY).
        let none = [0, 0, 0].map { MetricData.Value.sum($0) }
        #expect(counts(snapshot, .sdkSpanStarted) == none + [.sum(1), .sum(2), .sum(0)] + none)
        #expect(counts(snapshot, .sdkSpanLive) == [.sum(1), .sum(0)])
    }
}

/// Runs `body` on `count` threads at once and waits for them.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    final class Box: Sendable {
        let index: Int
        let body: @Sendable (Int) -> Void
        init(_ index: Int, _ body: @escaping @Sendable (Int) -> Void) { (self.index, self.body) = (index, body) }
    }
    var threads: [pthread_t] = []
    for index in 0..<count {
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Box(index, body)).toOpaque()
        pthread_create(
            &thread, nil,
            { pointer in
                guard let pointer else { return nil }
                let box = Unmanaged<Box>.fromOpaque(pointer).takeRetainedValue()
                box.body(box.index)
                return nil
            }, box)
        threads.append(thread)
    }
    for thread in threads { pthread_join(thread, nil) }
}

/// SplitMix64: the same numbers for the same seed.
struct SeededRandom: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
