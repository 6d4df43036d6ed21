import Testing
import TriageEvents

@testable import TriageTelemetry

@Suite struct PrometheusTextTests {
    private func text(_ metrics: [MetricData], resource: [(key: String, value: String)] = []) -> String {
        let snapshot = MetricSnapshot(timestamp: Timestamp(nanoseconds: 0), metrics: metrics)
        return String(decoding: PrometheusText(resource: resource).write(snapshot), as: UTF8.self)
    }

    private func point(_ attributes: MetricAttributes, _ value: MetricData.Value) -> MetricData.Point {
        MetricData.Point(attributes: attributes, start: Timestamp(nanoseconds: 0), value: value)
    }

    @Test(arguments: [
        ("messaging.process.duration", Instrument.histogram, "s", "messaging_process_duration_seconds"),
        ("messaging.client.sent.messages", .counter, "{message}", "messaging_client_sent_messages_total"),
        ("process.cpu.time", .counter, "s", "process_cpu_time_seconds_total"),
        ("process.memory.usage", .upDownCounter, "By", "process_memory_usage_bytes"),
        ("process.cpu.utilization", .gauge, "1", "process_cpu_utilization_ratio"),
        ("otel.sdk.processor.span.queue.size", .upDownCounter, "{span}", "otel_sdk_processor_span_queue_size"),
        ("http.server.request.duration", .histogram, "s", "http_server_request_duration_seconds"),
        ("triage.gate.state", .upDownCounter, "1", "triage_gate_state"),
        ("a.seconds", .gauge, "s", "a_seconds"),
        ("seconds", .gauge, "s", "seconds"),
        ("total.hits", .counter, "{hit}", "hits_total"),
        ("a..b-/c", .gauge, "{x}", "a_b_c"),
        ("1st", .gauge, "", "_1st"),
        ("speed", .gauge, "m/s", "speed_meters_per_second"),
        ("rate", .gauge, "{record}/s", "rate_per_second"),
        ("rate", .gauge, "By/min", "rate_bytes_per_minute"),
        ("rate", .gauge, "By/{record}", "rate_bytes"),
        ("heat", .gauge, "Cel", "heat_celsius"),
        ("share", .gauge, "%", "share_percent"),
        ("wait", .gauge, "d", "wait_days"), ("wait", .gauge, "h", "wait_hours"), ("wait", .gauge, "min", "wait_minutes"),
        ("wait", .gauge, "ms", "wait_milliseconds"), ("wait", .gauge, "us", "wait_microseconds"),
        ("wait", .gauge, "ns", "wait_nanoseconds"),
        ("size", .gauge, "KiBy", "size_kibibytes"), ("size", .gauge, "MiBy", "size_mebibytes"),
        ("size", .gauge, "GiBy", "size_gibibytes"), ("size", .gauge, "TiBy", "size_tebibytes"),
        ("size", .gauge, "kBy", "size_kilobytes"), ("size", .gauge, "MBy", "size_megabytes"),
        ("size", .gauge, "GBy", "size_gigabytes"), ("size", .gauge, "TBy", "size_terabytes"),
        ("of", .gauge, "m", "of_meters"), ("of", .gauge, "g", "of_grams"), ("of", .gauge, "V", "of_volts"),
        ("of", .gauge, "A", "of_amperes"), ("of", .gauge, "W", "of_watts"), ("of", .gauge, "J", "of_joules"),
        ("of", .gauge, "Hz", "of_hertz"), ("of", .gauge, "fathom", "of_fathom"),
    ])
    func familyNames(name: String, instrument: Instrument, unit: String, expected: String) {
        #expect(ExpositionFamily(Metric(name, instrument, unit: unit, "Help.")).sample == expected)
    }

    @Test(
        arguments: [
            (0.00001, "1e-05"), (0.0001, "0.0001"), (0.25, "0.25"), (0.005, "0.005"), (0, "0"), (1, "1"), (7.5, "7.5"),
            (10, "10"),
            (86_400, "86400"), (100_000, "100000"), (1_000_000, "1e+06"), (1_500_000, "1.5e+06"), (123_456.5, "123456.5"),
            (1e100, "1e+100"), (-2.5, "-2.5"), (0.1 + 0.2, "0.30000000000000004"), (.infinity, "+Inf"), (-.infinity, "-Inf"),
            (.nan, "NaN"),
        ] as [(Double, String)])
    func canonicalNumbers(value: Double, expected: String) {
        #expect(ExpositionNumber.canonical(value) == expected)
    }

    @Test func eachInstrumentHasItsType() {
        let metrics = [
            MetricData(metric: .deliveries, points: [point(["triage.outcome": "completed"], .sum(3)), point([:], .sum(0))]),
            MetricData(metric: .recordsInFlight, points: [point([:], .sum(-2))]),
            MetricData(metric: .retryOldestAge, points: [point([:], .gauge(1.5))]),
            MetricData(metric: .processCPUTime, points: [point([:], .doubleSum(0.25))]),
            MetricData(metric: .processThreadCount, points: [point([:], .sum(4))]),
        ]
        #expect(
            text(metrics) == """
                # HELP triage_deliveries_total Deliveries handled, by what became of them.
                # TYPE triage_deliveries_total counter
                triage_deliveries_total{triage_outcome="completed"} 3
                triage_deliveries_total 0
                # HELP triage_records_in_flight Records delivered and not yet complete, without the retries that wait for their time.
                # TYPE triage_records_in_flight gauge
                triage_records_in_flight -2
                # HELP triage_retry_oldest_age_seconds Age of the oldest waiting retry record.
                # TYPE triage_retry_oldest_age_seconds gauge
                triage_retry_oldest_age_seconds 1.5
                # HELP process_cpu_time_seconds_total Total CPU seconds broken down by different CPU modes.
                # TYPE process_cpu_time_seconds_total counter
                process_cpu_time_seconds_total 0.25
                # HELP process_thread_count Process threads count.
                # TYPE process_thread_count untyped
                process_thread_count 4

                """)
    }

    @Test func bucketsAreCumulative() {
        let metric = Metric("m", .histogram, unit: "s", "Help.", attributes: ["k"], boundaries: [0.5, 1, 1_000_000])
        let value = MetricData.Value.histogram(counts: [1, 0, 2, 4], sum: 12.5, count: 7, minimum: 0.1, maximum: 9)
        #expect(
            text([MetricData(metric: metric, points: [point(["k": "v"], value)])]) == """
                # HELP m_seconds Help.
                # TYPE m_seconds histogram
                m_seconds_bucket{k="v",le="0.5"} 1
                m_seconds_bucket{k="v",le="1"} 1
                m_seconds_bucket{k="v",le="1e+06"} 3
                m_seconds_bucket{k="v",le="+Inf"} 7
                m_seconds_sum{k="v"} 12.5
                m_seconds_count{k="v"} 7

                """)
        let without = text([MetricData(metric: metric, points: [point([:], value)])])
        #expect(without.contains("m_seconds_bucket{le=\"0.5\"} 1\n") && without.contains("m_seconds_sum 12.5\n"))
    }

    @Test func textIsEscaped() {
        let metric = Metric("m", .gauge, unit: "", "A \\ and\na \"quote\".", attributes: ["k"])
        let nasty = SafeText(vetted: "\\ \" \n é")
        #expect(
            text([MetricData(metric: metric, points: [point(["k": nasty], .gauge(.nan))])])
                == "# HELP m A \\\\ and\\na \"quote\".\n# TYPE m gauge\nm{k=\"\\\\ \\\" \\n é\"} NaN\n")
    }

    @Test func labelsAreMadeValidAndJoinedWhenTheyCoincide() {
        let metric = Metric("m", .gauge, unit: "", "Help.", attributes: ["a.b", "a_b", "1x"])
        let written = text([MetricData(metric: metric, points: [point(["a_b": "2", "a.b": "1", "1x": "y"], .gauge(0))])])
        #expect(written.hasSuffix("m{key_1x=\"y\",a_b=\"1;2\"} 0.0\n"))
    }

    @Test func theResourceIsTargetInfo() {
        #expect(
            text([], resource: [("service.name", "triage"), ("service.instance.id", "i-1")]) == """
                # HELP target_info Target metadata
                # TYPE target_info gauge
                target_info{service_instance_id="i-1",service_name="triage"} 1

                """)
        #expect(text([]) == "")
    }

    @Test(
        "of metrics whose samples share a name the first is written, in both formats",
        arguments: [
            ("a.b", Instrument.gauge, "a/b", Instrument.upDownCounter), ("a.b", .gauge, "a_b", .counter),
            ("a", .counter, "a.total", .gauge), ("a", .histogram, "a.count", .gauge), ("a", .histogram, "a.bucket", .gauge),
            ("a.created", .gauge, "a", .counter), ("target", .gauge, "b", .gauge), ("target.info", .gauge, "b", .gauge),
        ])
    func clashes(first: String, firstKind: Instrument, second: String, secondKind: Instrument) {
        let metrics = [(first, firstKind, "First."), (second, secondKind, "Second.")].map { name, kind, help in
            MetricData(
                metric: Metric(name, kind, unit: "", help),
                points: [
                    point([:], kind == .histogram ? .histogram(counts: [1], sum: 1, count: 1, minimum: 1, maximum: 1) : .sum(1))
                ])
        }
        let snapshot = MetricSnapshot(timestamp: Timestamp(nanoseconds: 0), metrics: metrics)
        for format in ExpositionFormat.allCases {
            let written = String(
                decoding: PrometheusText(resource: [("k", "v")]).write(snapshot, as: format), as: UTF8.self)
            let hasFirst = !first.hasPrefix("target")
            #expect(written.contains("First.") == hasFirst && written.contains("Second.") == !hasFirst)
        }
    }

    @Test func everyMetricOfTheCatalogueCanBeWritten() {
        let meter = Meter()
        for metric in Metric.all {
            switch metric.instrument {
            case .counter: meter.counter(metric).add()
            case .upDownCounter: meter.upDownCounter(metric).add(1)
            case .gauge: meter.gauge(metric).set(1)
            case .histogram: meter.histogram(metric).record(0.2)
            }
        }
        let snapshot = meter.collect(at: Timestamp(nanoseconds: 0))
        #expect(snapshot.metrics.map(\.metric) == Metric.all)
        let written = String(decoding: PrometheusText().write(snapshot), as: UTF8.self)
        #expect(written.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }.count == Metric.all.count)
    }
}
