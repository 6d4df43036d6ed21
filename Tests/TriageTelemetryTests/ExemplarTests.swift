import Testing
import TriageEvents

@testable import TriageTelemetry

private let sizes = Metric("test.sizes", .histogram, unit: "By", "Sizes.", attributes: ["kind"], boundaries: [1, 2, 5])
private let hits = Metric("test.hits", .counter, unit: "{hit}", "Hits.", attributes: ["kind"])

/// A context whose span is `span`.
func sampled(_ span: UInt64, _ flags: TraceFlags = .sampled) -> TraceContext {
    TraceContext(traceID: TraceID(high: 7, low: span), spanID: SpanID(span), flags: flags)
}

func exemplars(_ snapshot: MetricSnapshot, _ metric: Metric) -> [[Exemplar]] {
    snapshot.metrics.first { $0.metric.name == metric.name }?.points.map(\.exemplars) ?? []
}

@Suite struct ExemplarTests {
    let end = Timestamp(nanoseconds: 1_000)
    func at(_ time: Int64) -> Timestamp { Timestamp(nanoseconds: time) }
    func exemplar(_ value: Double, _ time: Int64, _ span: UInt64) -> Exemplar {
        Exemplar(value: value, timestamp: at(time), traceID: TraceID(high: 7, low: span), spanID: SpanID(span))
    }

    @Test func thePullSideKeepsTheLatestOfEachBucketAndTakesNothing() {
        let meter = Meter()
        let histogram = meter.histogram(sizes)
        #expect(exemplars(meter.collect(at: end), sizes) == [[]])
        histogram.record(0.5, in: sampled(1), at: at(1))
        histogram.record(3, in: sampled(2), at: at(2))
        histogram.record(1, in: sampled(3), at: at(3))
        for _ in 0..<2 {
            #expect(exemplars(meter.collect(at: end), sizes) == [[exemplar(1, 3, 3), exemplar(3, 2, 2)]])
        }
        histogram.record(9, in: sampled(4), at: at(4))
        #expect(exemplars(meter.collect(at: end), sizes) == [[exemplar(1, 3, 3), exemplar(3, 2, 2), exemplar(9, 4, 4)]])
    }

    @Test func aReaderBeginsAnewAfterEachCollectionAndReadersDoNotSeeEachOther() {
        let meter = Meter(readers: [MetricReaderOptions(), MetricReaderOptions(temporality: .delta)])
        let histogram = meter.histogram(sizes)
        let counter = meter.counter(hits)
        histogram.record(3, in: sampled(1), at: at(1))
        counter.add(2, in: sampled(2), at: at(2))
        let first = meter.collect(at: end, reader: 0)
        #expect(exemplars(first, sizes) == [[exemplar(3, 1, 1)]] && exemplars(first, hits) == [[exemplar(2, 2, 2)]])
        #expect(exemplars(meter.collect(at: end, reader: 0), sizes) == [[]])
        #expect(exemplars(meter.collect(at: end, reader: 0), hits) == [[]])
        histogram.record(4, in: sampled(3), at: at(3))
        #expect(exemplars(meter.collect(at: end, reader: 0), sizes) == [[exemplar(4, 3, 3)]])
        let other = exemplars(meter.collect(at: end, reader: 1), sizes)
        #expect(other == [[exemplar(3, 1, 1)]] || other == [[exemplar(4, 3, 3)]])
        #expect(exemplars(meter.collect(at: end), hits) == [[exemplar(2, 2, 2)]])
        // A place that there isn't is the pull side.
        #expect(exemplars(meter.collect(at: end, reader: 2), sizes) == [[exemplar(4, 3, 3)]])
    }

    @Test func onlySampledSpansCountByDefault() {
        let meter = Meter(readers: [MetricReaderOptions()])
        let histogram = meter.histogram(sizes)
        let counter = meter.counter(hits)
        let none = TraceContext(traceID: TraceID(high: 0, low: 0), spanID: SpanID(0), flags: .sampled)
        for context in [nil, none, sampled(1, []), sampled(2, .random)] {
            histogram.record(1, in: context)
            counter.add(1, in: context)
        }
        histogram.record(1)
        counter.add()
        counter.add(0, in: sampled(3))
        histogram.record(.nan, in: sampled(3))
        for snapshot in [meter.collect(at: end), meter.collect(at: end, reader: 0)] {
            #expect(exemplars(snapshot, sizes) == [[]] && exemplars(snapshot, hits) == [[]])
            #expect(counts(snapshot, hits) == [.sum(5)])
            #expect(counts(snapshot, sizes) == [.histogram(counts: [5, 0, 0, 0], sum: 5, count: 5, minimum: 1, maximum: 1)])
        }
        // The flag that an id is random doesn't hide the one that it is sampled.
        counter.add(1, in: sampled(4, [.sampled, .random]), at: at(4))
        #expect(exemplars(meter.collect(at: end), hits) == [[exemplar(1, 4, 4)]])
    }

    @Test func theFilters() {
        let clock = StandingClock()
        clock.set(42)
        let all = Meter(clock: clock, exemplarFilter: .alwaysOn)
        all.histogram(sizes).record(1)
        all.histogram(sizes).record(3, in: nil, at: at(3))
        all.histogram(sizes).record(9, in: sampled(1, []))
        all.counter(hits).add(2)
        func outside(_ value: Double, _ time: Int64) -> Exemplar {
            Exemplar(value: value, timestamp: at(time), traceID: TraceID(high: 0, low: 0), spanID: SpanID(0))
        }
        #expect(exemplars(all.collect(at: end), sizes) == [[outside(1, 42), outside(3, 3), exemplar(9, 42, 1)]])
        #expect(exemplars(all.collect(at: end), hits) == [[outside(2, 42)]])
        let off = Meter(clock: clock, exemplarFilter: .alwaysOff)
        off.histogram(sizes).record(1, in: sampled(1))
        off.counter(hits).add(1, in: sampled(1))
        #expect(exemplars(off.collect(at: end), sizes) == [[]] && exemplars(off.collect(at: end), hits) == [[]])
        #expect(ExemplarFilter.allCases.map(\.rawValue) == ["trace_based", "always_on", "always_off"])
    }

    @Test func eachOfManyIsKeptAsOftenAsAnyOther() {
        // 8 measurements for one slot, 8,000 times: each must be kept about 1,000 times; 5 deviations are 148.
        for shape in [ExemplarReservoir.Shape.aligned(1), .fixed(1)] {
            let reservoir = ExemplarReservoir(
                filter: .traceBased, clock: StandingClock(), buckets: 1, readers: [shape], seed: 0x5EED)
            var kept = [Int](repeating: 0, count: 8)
            for _ in 0..<8000 {
                for index in 0..<8 { reservoir.offer(Double(index), bucket: 0, in: sampled(1), at: at(0)) }
                for exemplar in reservoir.collect(0) { kept[Int(exemplar.value)] += 1 }
            }
            #expect(kept.reduce(0, +) == 8000)
            #expect(kept.allSatisfy { abs($0 - 1000) < 148 }, "\(shape): \(kept)")
        }
    }

    @Test func exponentialHistogramsKeepTwentyOfAll() {
        let meter = Meter(readers: [MetricReaderOptions(histograms: .base2ExponentialBucketHistogram)])
        let histogram = meter.histogram(sizes)
        for index in 1...7 { histogram.record(Double(index), in: sampled(UInt64(index)), at: at(Int64(index))) }
        let few = exemplars(meter.collect(at: end, reader: 0), sizes)
        #expect(few == [(1...7).map { exemplar(Double($0), Int64($0), UInt64($0)) }])
        for index in 1...500 { histogram.record(Double(index), in: sampled(UInt64(index)), at: at(Int64(index))) }
        let many = exemplars(meter.collect(at: end, reader: 0), sizes)[0]
        #expect(many.count == 20 && Set(many).count == 20)
        #expect(many.contains { $0.value > 20 })
        #expect(many.allSatisfy { $0 == exemplar($0.value, Int64($0.value), UInt64($0.value)) })
    }

    @Test func eightThreadsNeverMixTwoMeasurements() {
        let meter = Meter(readers: [MetricReaderOptions()])
        let histogram = meter.histogram(sizes)
        onThreads(9) { thread in
            for round in 0..<4_000 {
                let span = UInt64(thread * 4_000 + round + 1)
                if thread < 8 {
                    histogram.record(Double(span), in: sampled(span), at: Timestamp(nanoseconds: Int64(span)))
                } else if round % 50 == 0 {
                    for snapshot in [
                        meter.collect(at: Timestamp(nanoseconds: 1), reader: 0), meter.collect(at: Timestamp(nanoseconds: 1)),
                    ] {
                        for found in exemplars(snapshot, sizes).joined() {
                            if found != exemplar(Double(found.spanID.value), Int64(found.spanID.value), found.spanID.value) {
                                Issue.record("\(found)")
                            }
                        }
                    }
                }
            }
        }
        #expect(!exemplars(meter.collect(at: end), sizes)[0].isEmpty)
    }
}
