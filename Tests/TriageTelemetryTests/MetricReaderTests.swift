import Synchronization
import Testing
import TriageEvents

@testable import TriageTelemetry

private let sizes = Metric("test.sizes", .histogram, unit: "By", "Sizes.", attributes: ["kind"], boundaries: [1, 2, 5])
private let hits = Metric("test.hits", .counter, unit: "{hit}", "Hits.", attributes: ["kind"])
private let level = Metric("test.level", .gauge, unit: "1", "Level.", attributes: ["kind"])
private let open = Metric("test.open", .upDownCounter, unit: "{door}", "Doors.", attributes: ["kind"])
private let seen = Metric("test.seen", .counter, unit: "s", "Seen.", attributes: ["kind"])

/// `name:temporality:start-time kind=value …` for each metric.
private func transcript(_ snapshot: MetricSnapshot) -> [String] {
    snapshot.metrics.map { data in
        let points = data.points.map { point in
            let value =
                switch point.value {
                case .sum(let value), .intGauge(let value): "\(value)"
                case .doubleSum(let value), .gauge(let value): "\(value)"
                case .histogram(let counts, let sum, _, let minimum, let maximum): "\(counts)/\(sum)/\(minimum)…\(maximum)"
                case .exponentialHistogram(let data): "\(data.positive.counts.reduce(0, +))+\(data.zeroCount)@\(data.scale)"
                }
            return "\(point.attributes.pairs.first?.value ?? "")\(point.start.nanoseconds)→\(value)"
        }
        return "\(data.metric.name.dropFirst(5)) \(data.temporality) \(points.joined(separator: ", "))"
    }
}

@Suite struct MetricReaderTests {
    private let clock = StandingClock()

    private func meter(_ temporality: TemporalityPreference, _ histograms: HistogramAggregation = .explicitBucketHistogram)
        -> Meter
    {
        Meter(clock: clock, readers: [MetricReaderOptions(temporality: temporality, histograms: histograms)])
    }

    private func collect(_ meter: Meter, at time: Int64) -> [String] {
        transcript(meter.collect(at: Timestamp(nanoseconds: time), reader: 0))
    }

    /// One of each instrument, begun at 10, observed from 20 on.
    private func fill(_ meter: Meter) {
        clock.set(10)
        meter.counter(hits, ["kind": "a"]).add(3)
        meter.counter(hits, ["kind": "b"]).add(0)
        meter.upDownCounter(open).add(4)
        meter.gauge(level).set(0.5)
        meter.histogram(sizes).record(1.5)
        clock.set(20)
    }

    /// Values that a test sets and an observer reports.
    final class Reported: Sendable {
        let values = Mutex<[(MetricAttributes, ObservedValue)]>([])
        func set(_ values: [(MetricAttributes, ObservedValue)]) { self.values.withLock { $0 = values } }
        var now: [(MetricAttributes, ObservedValue)] { values.withLock { $0 } }
    }

    private func scenario(_ preference: TemporalityPreference) -> [[String]] {
        let meter = meter(preference)
        let reported = Reported()
        fill(meter)
        meter.observe(seen) { reported.now }
        reported.set([(["kind": "x"], 100), (["kind": "y"], 1.5)])
        var result = [collect(meter, at: 100)]
        meter.counter(hits, ["kind": "a"]).add(2)
        meter.histogram(sizes).record(0.25)
        meter.histogram(sizes).record(7)
        meter.upDownCounter(open).add(-1)
        clock.set(150)
        meter.counter(hits, ["kind": "c"]).add(1)
        reported.set([(["kind": "x"], 130)])
        result.append(collect(meter, at: 200))
        reported.set([(["kind": "x"], 130), (["kind": "y"], 2)])
        result.append(collect(meter, at: 300))
        reported.set([(["kind": "x"], 5)])
        result.append(collect(meter, at: 400))
        return result
    }

    @Test func cumulative() {
        #expect(
            scenario(.cumulative) == [
                [
                    "hits cumulative a10→3, b10→0", "level cumulative 0→0.5", "open cumulative 10→4",
                    "seen cumulative x20→100, y20→1.5",
                    "sizes cumulative 10→[0, 1, 0, 0]/1.5/1.5…1.5",
                ],
                [
                    "hits cumulative a10→5, b10→0, c150→1", "level cumulative 0→0.5", "open cumulative 10→3",
                    "seen cumulative x20→130",
                    "sizes cumulative 10→[1, 1, 0, 1]/8.75/0.25…7.0",
                ],
                [
                    "hits cumulative a10→5, b10→0, c150→1", "level cumulative 0→0.5", "open cumulative 10→3",
                    "seen cumulative x20→130, y20→2", "sizes cumulative 10→[1, 1, 0, 1]/8.75/0.25…7.0",
                ],
                [
                    "hits cumulative a10→5, b10→0, c150→1", "level cumulative 0→0.5", "open cumulative 10→3",
                    "seen cumulative x20→5",
                    "sizes cumulative 10→[1, 1, 0, 1]/8.75/0.25…7.0",
                ],
            ])
    }

    @Test func delta() {
        #expect(
            scenario(.delta) == [
                [
                    "hits delta a10→3", "level cumulative 0→0.5", "open cumulative 10→4", "seen delta x20→100, y20→1.5",
                    "sizes delta 10→[0, 1, 0, 0]/1.5/1.5…1.5",
                ],
                [
                    "hits delta a100→2, c150→1", "level cumulative 0→0.5", "open cumulative 10→3", "seen delta x100→30",
                    "sizes delta 100→[1, 0, 0, 1]/7.25/0.25…7.0",
                ],
                // y was not reported at 200, yet what it counted before isn't counted again.
                ["level cumulative 0→0.5", "open cumulative 10→3", "seen delta x200→0, y200→0.5"],
                // A total that went down began anew.
                ["level cumulative 0→0.5", "open cumulative 10→3", "seen delta x300→5"],
            ])
    }

    @Test func lowMemory() {
        #expect(
            scenario(.lowMemory).prefix(2) == [
                [
                    "hits delta a10→3", "level cumulative 0→0.5", "open cumulative 10→4", "seen cumulative x20→100, y20→1.5",
                    "sizes delta 10→[0, 1, 0, 0]/1.5/1.5…1.5",
                ],
                [
                    "hits delta a100→2, c150→1", "level cumulative 0→0.5", "open cumulative 10→3", "seen cumulative x20→130",
                    "sizes delta 100→[1, 0, 0, 1]/7.25/0.25…7.0",
                ],
            ])
    }

    @Test func theTableOfPreferences() {
        func row(_ preference: TemporalityPreference) -> [Temporality] {
            [
                preference.temporality(of: .counter, isObserved: false), preference.temporality(of: .counter, isObserved: true),
                preference.temporality(of: .histogram, isObserved: false),
                preference.temporality(of: .upDownCounter, isObserved: false),
                preference.temporality(of: .upDownCounter, isObserved: true),
            ]
        }
        #expect(row(.cumulative) == [.cumulative, .cumulative, .cumulative, .cumulative, .cumulative])
        #expect(row(.delta) == [.delta, .delta, .delta, .cumulative, .cumulative])
        #expect(row(.lowMemory) == [.delta, .cumulative, .delta, .cumulative, .cumulative])
        #expect(TemporalityPreference.allCases.map(\.rawValue) == ["cumulative", "delta", "lowmemory"])
    }

    @Test func aReaderOfExponentialHistogramsLeavesThePullSideItsBuckets() {
        for (preference, second) in [(TemporalityPreference.cumulative, "3+1@"), (.delta, "1+0@20")] {
            let meter = meter(preference, .base2ExponentialBucketHistogram)
            let histogram = meter.histogram(sizes)
            for value in [1.5, 0, 4] { histogram.record(value) }
            #expect(collect(meter, at: 100).first?.contains("2+1@") == true)
            histogram.record(3)
            let line = collect(meter, at: 200).first ?? ""
            #expect(line.contains(second), "\(line)")
            #expect(line.contains(preference == .delta ? "delta 100→" : "cumulative 20→") || clock.now().nanoseconds == 0)
            #expect(collect(meter, at: 300).isEmpty == (preference == .delta))
            #expect(
                counts(meter.collect(at: Timestamp(nanoseconds: 0)), sizes) == [
                    .histogram(counts: [1, 1, 2, 0], sum: 8.5, count: 4, minimum: 0, maximum: 4)
                ])
        }
    }

    @Test func readersDoNotTakeFromEachOther() {
        let meter = Meter(
            readers: [
                MetricReaderOptions(temporality: .delta), MetricReaderOptions(temporality: .delta), MetricReaderOptions(),
            ])
        let histogram = meter.histogram(sizes)
        let one = { (time: Int64, reader: Int) in counts(meter.collect(at: Timestamp(nanoseconds: time), reader: reader), sizes) }
        histogram.record(1)
        let first = MetricData.Value.histogram(counts: [1, 0, 0, 0], sum: 1, count: 1, minimum: 1, maximum: 1)
        #expect(one(1, 0) == [first])
        histogram.record(2)
        let both = MetricData.Value.histogram(counts: [1, 1, 0, 0], sum: 3, count: 2, minimum: 1, maximum: 2)
        #expect(one(2, 1) == [both])
        #expect(one(2, 0) == [.histogram(counts: [0, 1, 0, 0], sum: 2, count: 1, minimum: 2, maximum: 2)])
        #expect(one(2, 2) == [both] && one(3, 2) == [both])
        #expect(counts(meter.collect(at: Timestamp(nanoseconds: 3)), sizes) == [both])
        #expect(one(3, 0).isEmpty && one(3, 1).isEmpty)
    }

    @Test func whatIsRemovedIsStillOwedToAReaderOfDeltas() {
        let meter = meter(.delta)
        clock.set(1)
        let counter = meter.counter(hits, ["kind": "a"])
        counter.add(3)
        #expect(collect(meter, at: 10) == ["hits delta a1→3"])
        counter.add(2)
        meter.counter(hits, ["kind": "b"]).add(1)
        meter.remove(hits) { $0.pairs.first?.value == "a" }
        #expect(counts(meter.collect(at: Timestamp(nanoseconds: 15)), hits) == [.sum(1)])
        #expect(collect(meter, at: 20) == ["hits delta a10→2, b10→1"])
        #expect(collect(meter, at: 30) == [])
        // Gone for good: asked for again it is another one.
        #expect(meter.counter(hits, ["kind": "a"]) !== counter)
        // Asked for before it was collected, it goes on.
        let again = meter.counter(hits, ["kind": "a"])
        again.add(4)
        meter.remove(hits) { $0.pairs.first?.value == "a" }
        #expect(meter.counter(hits, ["kind": "a"]) === again)
        again.add(1)
        #expect(collect(meter, at: 40) == ["hits delta a30→5"])
    }

    @Test func observedSetsKeepTheirPlaceBeyondTheLimitAndGiveItUpWhenAbsent() {
        let meter = Meter(clock: clock, cardinalityLimit: 2, readers: [MetricReaderOptions()])
        let reported = Reported()
        meter.observe(seen) { reported.now }
        func set(_ kinds: SafeText...) { reported.set(kinds.map { (["kind": $0], 1) }) }
        func kinds() -> [String] {
            let points = meter.collect(at: Timestamp(nanoseconds: 1), reader: 0).metrics.first?.points ?? []
            return points.map { "\($0.attributes.isOverflow ? "overflow" : $0.attributes.pairs[0].value)\($0.value)" }
        }
        set("b", "c")
        #expect(kinds() == ["bsum(1)", "csum(1)"])
        // New ones come first in the report; those with a place keep it.
        set("a", "d", "c", "b")
        #expect(kinds() == ["bsum(1)", "csum(1)", "overflowsum(2)"])
        set("a", "d", "c")
        #expect(kinds() == ["asum(1)", "csum(1)", "overflowsum(1)"])
        set("a")
        #expect(kinds() == ["asum(1)"])
    }

    @Test func aTimestampIsOneForTheWholeCollection() {
        let meter = meter(.cumulative)
        let reported = Reported()
        fill(meter)
        let calls = Atomic<Int>(0)
        meter.observe(seen) {
            calls.wrappingAdd(1, ordering: .relaxed)
            return reported.now
        }
        reported.set([([:], 1)])
        #expect(meter.collect(at: Timestamp(nanoseconds: 7), reader: 0).timestamp.nanoseconds == 7)
        #expect(calls.load(ordering: .relaxed) == 1)
    }

    @Test func definitionsThatContradictEachOtherAreWarnedOfOnceAndExported() {
        let warnings = Mutex<[String]>([])
        let meter = Meter { warning in warnings.withLock { $0.append(warning) } }
        meter.counter(hits).add(1)
        let other = Metric("test.hits", .counter, unit: "By", "Hits.", attributes: ["kind"])
        for _ in 0..<2 { meter.counter(other).add(10) }
        let gauge = Metric("test.HITS", .gauge, unit: "{hit}", "Hits.")
        meter.gauge(gauge).set(2)
        // The same but for the case: one instrument, by its first spelling.
        let sameButCase = Metric("Test.Hits", .counter, unit: "{hit}", "Hits.", attributes: ["kind"])
        meter.counter(sameButCase).add(100)
        #expect(meter.counter(sameButCase) === meter.counter(hits))
        let metrics = meter.collect(at: Timestamp(nanoseconds: 1)).metrics
        #expect(metrics.map(\.metric.name) == ["test.hits", "test.hits", "test.hits"])
        #expect(metrics.map { $0.points.map(\.value) } == [[.sum(101)], [.sum(20)], [.gauge(2)]])
        let told = warnings.withLock { $0 }
        #expect(told.count == 2 && told.allSatisfy { $0.contains("test.hits") }, "\(told)")
    }

    @Test(arguments: ["", "1st", "a b", "é", String(repeating: "a", count: 256)])
    func aNameThatIsNoneIsWarnedOfOnceAndCountsUnseen(name: String) {
        let warnings = Atomic<Int>(0)
        let meter = Meter { _ in warnings.wrappingAdd(1, ordering: .relaxed) }
        let metric = Metric(name, .counter, unit: "1", "Help.")
        for _ in 0..<3 { meter.counter(metric).add() }
        #expect(meter.collect(at: Timestamp(nanoseconds: 1)).metrics.isEmpty)
        #expect(warnings.load(ordering: .relaxed) == 1)
    }

    @Test(arguments: [HistogramAggregation.explicitBucketHistogram, .base2ExponentialBucketHistogram])
    func eightThreadsRecordWhileThreeCollectAndEveryMeasurementIsInExactlyOneDelta(aggregation: HistogramAggregation) {
        let meter = Meter(
            readers: [
                MetricReaderOptions(temporality: .delta, histograms: aggregation), MetricReaderOptions(temporality: .delta),
                MetricReaderOptions(histograms: aggregation),
            ])
        let counter = meter.counter(hits)
        let histogram = meter.histogram(sizes)
        let (writers, rounds) = (8, 4_000)
        let running = Atomic<Int>(writers)
        let totals = Mutex<[(hits: Int64, count: UInt64, sum: Double)]>([(0, 0, 0), (0, 0, 0)])
        /// Adds up a snapshot of a reader of deltas; each histogram must agree with itself.
        @Sendable func note(_ reader: Int) {
            let snapshot = meter.collect(at: Timestamp(nanoseconds: 1), reader: reader)
            var (hit, count, sum): (Int64, UInt64, Double) = (0, 0, 0)
            for value in counts(snapshot, hits) { if case .sum(let value) = value { hit += value } }
            for value in counts(snapshot, sizes) {
                switch value {
                case .histogram(let buckets, let total, let number, let minimum, let maximum):
                    (count, sum) = (number, total)
                    if buckets.reduce(0, +) != number || minimum * Double(number) > total || maximum * Double(number) < total {
                        Issue.record("\(value)")
                    }
                case .exponentialHistogram(let data):
                    (count, sum) = (data.count, data.sum)
                    if data.positive.counts.reduce(0, +) + data.zeroCount != data.count { Issue.record("\(value)") }
                default: Issue.record("\(value)")
                }
            }
            guard reader < 2 else { return }
            totals.withLock {
                $0[reader].hits += hit
                $0[reader].count += count
                $0[reader].sum += sum
            }
        }
        onThreads(writers + 3) { thread in
            if thread < writers {
                for round in 0..<rounds {
                    counter.add(1, in: sampled(1))
                    histogram.record(Double((round + thread) % 8), in: sampled(1), at: Timestamp(nanoseconds: 1))
                }
                running.wrappingSubtract(1, ordering: .relaxed)
            } else {
                while running.load(ordering: .relaxed) > 0 { note(thread - writers) }
            }
        }
        for reader in 0..<2 {
            note(reader)
            let found = totals.withLock { $0[reader] }
            #expect(found.hits == Int64(writers * rounds) && found.count == UInt64(writers * rounds))
            #expect(found.sum == Double(writers * rounds) * 3.5)
        }
        let all = UInt64(writers * rounds / 8)
        #expect(
            counts(meter.collect(at: Timestamp(nanoseconds: 1)), sizes) == [
                .histogram(
                    counts: [2 * all, all, 3 * all, 2 * all], sum: Double(28 * all), count: 8 * all, minimum: 0, maximum: 7)
            ])
    }
}
