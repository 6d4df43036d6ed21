import Metrics
import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageBridges

@Suite("Metrics of swift-metrics")
struct MetricsFactoryTests {
    private func value(_ bench: Bench, _ name: String, _ attributes: MetricAttributes = [:]) -> MetricData.Value? {
        bench.points(name).first { $0.attributes == attributes }?.value
    }

    @Test("each kind lands in the meter as OpenTelemetry has it")
    func kinds() throws {
        let bench = Bench()
        let factory = bench.bridges.metricsFactory
        let counter = Counter(label: "clinic.indexed", factory: factory)
        counter.increment(by: 3)
        counter.increment(by: -2)
        counter.reset()
        #expect(value(bench, "clinic.indexed") == .sum(3))
        #expect(bench.metric("clinic.indexed")?.instrument == .counter)

        let cost = FloatingPointCounter(label: "clinic.cost", factory: factory)
        #expect(value(bench, "clinic.cost") == .doubleSum(0))
        cost.increment(by: 1.5)
        cost.increment(by: Double.nan)
        cost.increment(by: -1)
        cost.increment(by: Double.infinity)
        #expect(value(bench, "clinic.cost") == .doubleSum(1.5))

        let beds = Metrics.Meter(label: "clinic.beds", factory: factory)
        #expect(value(bench, "clinic.beds") == nil)
        beds.set(5)
        beds.increment(by: 2)
        beds.decrement(by: 3)
        #expect(value(bench, "clinic.beds") == .gauge(4))
        let load = Gauge(label: "clinic.load", factory: factory)
        load.record(0.5)
        load.record(0.25)
        #expect(value(bench, "clinic.load") == .gauge(0.25))

        let size = Recorder(label: "clinic.size", factory: factory)
        size.record(7)
        size.record(8.5)
        guard case .histogram(let counts, let sum, let count, let minimum, let maximum)? = value(bench, "clinic.size") else {
            return #expect(Bool(false), "no histogram")
        }
        #expect(counts.count == 16 && counts[2] == 2 && sum == 15.5 && count == 2 && minimum == 7 && maximum == 8.5)

        let timer = Timer(label: "clinic.wait", factory: factory)
        timer.recordMilliseconds(20)
        guard case .histogram(let times, let total, _, _, _)? = value(bench, "clinic.wait") else {
            return #expect(Bool(false), "no histogram")
        }
        #expect(times.count == 15 && times[2] == 1 && total == 0.02)
        #expect(bench.metric("clinic.wait")?.unit == "s")
        #expect(bench.refused.isEmpty)
    }

    @Test("one label and the same dimensions are one series; dimensions that don't show are left out")
    func series() {
        let bench = Bench()
        let factory = bench.bridges.metricsFactory
        for number in 0..<3 {
            Counter(
                label: "requests",
                dimensions: [("http.request.method", "GET"), ("http.response.status_code", "200"), ("id", "p\(number)")],
                factory: factory
            ).increment()
        }
        Counter(label: "requests", dimensions: [("http.request.method", "canary")], factory: factory).increment()
        #expect(value(bench, "requests", ["http.request.method": "GET", "http.response.status_code": "200"]) == .sum(3))
        #expect(value(bench, "requests", ["http.request.method": "_OTHER"]) == .sum(1))
        #expect(bench.points("requests").count == 2)
        #expect(bench.refused == ["metric_attribute": 4])
    }

    @Test("labels become OpenTelemetry names; what isn't code, is taken or is reserved is refused and does nothing")
    func labels() {
        let bench = Bench()
        let factory = bench.bridges.metricsFactory
        Counter(label: "index_runs", factory: factory).increment()
        #expect(value(bench, "index_runs") == .sum(1))
        Counter(label: "indexRuns", factory: factory).increment()
        Counter(label: "patient.4711", factory: factory).increment()
        Counter(label: "Doe", factory: factory).increment()
        Counter(label: "triage.deliveries", factory: factory).increment()
        Counter(label: "triage.mine", factory: factory).increment()
        Counter(label: "otel.sdk.mine", factory: factory).increment()
        Counter(label: "messaging_client_sent_messages", factory: factory).increment()
        Counter(label: "http.server.request.duration.seconds.count", factory: factory).increment()
        Gauge(label: "process.cpu.time.seconds.total", factory: factory).record(1)
        Gauge(label: "target", factory: factory).record(1)
        Timer(label: "indexRuns", factory: factory).recordSeconds(1)
        Gauge(label: "index.runs", factory: factory).record(1)
        Gauge(label: "index_runs_total", factory: factory).record(1)
        let names = bench.meter.collect(at: bench.tracer.clock.now()).metrics.map(\.metric.name)
        #expect(names == ["triage.bridge.refusals", "indexRuns", "index_runs"])
        #expect(bench.refused == ["metric_name": 12])
        #expect(Set(names.compactMap { bench.metric($0) }.flatMap(\.prometheusNames)).count == 9)
        #expect(MetricNames.sanitized("9 _/a b:c") == "a_b_c" && MetricNames.sanitized("12") == nil)
    }

    @Test("destroyed by all who made it, a series goes; destroyed twice by one, it stays for the others")
    func destroy() {
        let bench = Bench()
        let factory = bench.bridges.metricsFactory
        let first = Counter(label: "jobs", factory: factory)
        let second = Counter(label: "jobs", factory: factory)
        first.increment()
        first.destroy()
        first.destroy()
        #expect(value(bench, "jobs") == .sum(1))
        second.destroy()
        #expect(bench.points("jobs").isEmpty)
        second.increment()
        let third = Counter(label: "jobs", factory: factory)
        #expect(value(bench, "jobs") == .sum(0))
        third.destroy()

        let gauge = Gauge(label: "level", factory: factory)
        gauge.record(1)
        gauge.destroy()
        let timer = Timer(label: "took", factory: factory)
        timer.destroy()
        let meter = Metrics.Meter(label: "depth", factory: factory)
        meter.set(1)
        meter.destroy()
        let cost = FloatingPointCounter(label: "cost", factory: factory)
        cost.destroy()
        for name in ["level", "took", "depth", "cost"] { #expect(bench.points(name).isEmpty, "\(name)") }
        // A handler of another factory's is nobody here.
        factory.destroyCounter(NOOPMetricsHandler.instance)
    }

    @Test("series and metrics are bounded; beyond the bound there is one series, or nothing, and nothing is lost of a sum")
    func bounds() {
        var policy = BridgePolicy()
        policy.allow("n", .number)
        policy.maximumNames = 3
        let tracer = Bench().tracer
        let meter = TriageTelemetry.Meter(cardinalityLimit: 4)
        let factory = Bridges(tracer: tracer, meter: meter, policy: policy).metricsFactory
        for number in 0..<20 {
            Counter(label: "whole", dimensions: [("n", "\(number)")], factory: factory).increment()
            FloatingPointCounter(label: "broken", dimensions: [("n", "\(number)")], factory: factory).increment(by: 0.5)
            let mine = Counter(label: "third", dimensions: [("n", "\(number)")], factory: factory)
            mine.increment()
            mine.destroy()
            Counter(label: "fourth", factory: factory).increment()
        }
        let metrics = meter.collect(at: tracer.clock.now()).metrics
        func sum(_ name: String) -> Double {
            (metrics.first { $0.metric.name == name }?.points ?? []).reduce(0) { sum, point in
                switch point.value {
                case .sum(let value): sum + Double(value)
                case .doubleSum(let value): sum + value
                default: sum
                }
            }
        }
        #expect(sum("whole") == 20 && sum("broken") == 10)
        for name in ["whole", "broken"] { #expect(metrics.first { $0.metric.name == name }?.points.count == 5, "\(name)") }
        #expect(!metrics.contains { $0.metric.name == "fourth" })
    }

    @Test("eight tasks count without losing one")
    func threads() async {
        let bench = Bench()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    for _ in 0..<1000 {
                        let factory = bench.bridges.metricsFactory
                        Counter(label: "jobs", factory: factory).increment()
                        Metrics.Meter(label: "level", factory: factory).increment(by: 1)
                        let passing = Recorder(label: "passing", factory: factory)
                        passing.record(1)
                        passing.destroy()
                    }
                }
            }
        }
        #expect(value(bench, "jobs") == .sum(8000) && value(bench, "level") == .gauge(8000))
        #expect(bench.points("passing").isEmpty)
    }
}
