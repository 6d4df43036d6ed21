import Testing
import TriageEvents
import TriageOTLP
import TriageTelemetry

@testable import Triage

@Suite("Reading OpenTelemetry's variables")
struct TelemetryConfigurationTests {
    func read(_ environment: [String: String], exportsByDefault: Bool = true) -> TelemetryConfiguration {
        TelemetryConfiguration(environment: environment, exportsByDefault: exportsByDefault)
    }

    @Test("Defaults; what is empty or blank counts as not set")
    func defaults() {
        let names = [
            "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_TRACES_SAMPLER",
            "OTEL_TRACES_SAMPLER_ARG",
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_EVENT_COUNT_LIMIT",
            "OTEL_SPAN_LINK_COUNT_LIMIT",
            "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
            "OTEL_BSP_SCHEDULE_DELAY",
            "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT", "OTEL_METRICS_EXEMPLAR_FILTER",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ]
        for value in ["", "  "] {
            let settings = read(Dictionary(uniqueKeysWithValues: names.map { ($0, value) }))
            #expect(settings.rejected.isEmpty)
            #expect(!settings.isDisabled)
            #expect(settings.traces?.endpoint == "http://localhost:4318/v1/traces")
            #expect(settings.metrics?.endpoint == "http://localhost:4318/v1/metrics")
            #expect(settings.sampler == .parentBased(root: .alwaysOn))
            #expect(settings.limits == SpanLimits())
            #expect(settings.queue == SpanQueue.Limits())
            #expect(settings.metricInterval == .seconds(60) && settings.metricTimeout == .seconds(30))
            #expect(settings.exemplarFilter == .traceBased && settings.metricReader == MetricReaderOptions())
            #expect(settings.serviceName == "triage")
            #expect(settings.resourceAttributes.isEmpty)
        }
    }

    @Test("Log records go out only if asked for, and then by the variables of their own or the general ones")
    func logs() {
        #expect(read([:]).logs == nil)
        #expect(read(["OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1", "OTEL_LOGS_EXPORTER": "none"]).logs == nil)
        let asked = read(["OTEL_LOGS_EXPORTER": "OTLP"], exportsByDefault: false)
        #expect(asked.logs?.endpoint == "http://localhost:4318/v1/logs" && asked.rejected.isEmpty)
        #expect(asked.logLimits == LogLimits() && asked.logQueue == BatchLogProcessor.defaultLimits)
        #expect(asked.logs?.timeout == .seconds(10))
        let own = read([
            "OTEL_LOGS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l/x", "OTEL_BLRP_EXPORT_TIMEOUT": "70",
            "OTEL_BLRP_MAX_QUEUE_SIZE": "7", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "3", "OTEL_BLRP_SCHEDULE_DELAY": "9",
            "OTEL_ATTRIBUTE_COUNT_LIMIT": "5", "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "6",
        ])
        #expect(own.logs?.endpoint == "http://l/x" && own.logs?.timeout == .milliseconds(70))
        #expect(own.logQueue.spans == 7 && own.logQueue.batchSpans == 3 && own.logQueue.delay == .milliseconds(9))
        #expect(own.logLimits.attributes == 5 && own.logLimits.valueLength == 6 && own.limits.valueLength == nil)
        #expect(read(["OTEL_LOGS_EXPORTER": "console"]).rejected.map(\.key) == ["OTEL_LOGS_EXPORTER"])
    }

    @Test("Without an endpoint the demonstration exports nothing")
    func endpoints() {
        #expect(read([:], exportsByDefault: false).traces == nil)
        #expect(read([:], exportsByDefault: false).metrics == nil)
        let both = read(["OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1"], exportsByDefault: false)
        #expect(both.traces?.endpoint == "http://c:1/v1/traces" && both.metrics?.endpoint == "http://c:1/v1/metrics")
        let one = read(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:1/x"], exportsByDefault: false)
        #expect(one.traces?.endpoint == "http://c:1/x" && one.metrics == nil)
    }

    @Test(
        "OTEL_SDK_DISABLED is true in any case, and only then",
        arguments: [
            ("true", true, 0), ("TRUE", true, 0), (" true ", true, 0), ("false", false, 0), ("1", false, 1), ("yes", false, 1),
        ])
    func disabled(text: String, isDisabled: Bool, rejected: Int) {
        let settings = read(["OTEL_SDK_DISABLED": text])
        #expect(settings.isDisabled == isDisabled)
        #expect(settings.rejected.count == rejected)
    }

    @Test("Exporters")
    func exporters() {
        #expect(read(["OTEL_TRACES_EXPORTER": "none"]).traces == nil)
        #expect(read(["OTEL_TRACES_EXPORTER": "none"]).metrics != nil)
        #expect(read(["OTEL_METRICS_EXPORTER": "none"]).metrics == nil)
        #expect(read(["OTEL_METRICS_EXPORTER": "prometheus"]).metrics == nil)
        #expect(read(["OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp"]).traces != nil)
        let settings = read(["OTEL_TRACES_EXPORTER": "zipkin"])
        #expect(settings.traces != nil)
        #expect(settings.rejected == [ConfigurationError(key: "OTEL_TRACES_EXPORTER", value: "zipkin", expected: "otlp or none")])
    }

    @Test(
        "Samplers",
        arguments: [
            ("always_on", "", Sampler.alwaysOn), ("always_off", "", .alwaysOff), ("traceidratio", "0.25", .traceIDRatio(0.25)),
            ("traceidratio", "", .traceIDRatio(1)), ("parentbased_always_on", "0.1", .parentBased(root: .alwaysOn)),
            ("parentbased_always_off", "", .parentBased(root: .alwaysOff)),
            ("parentbased_traceidratio", "0", .parentBased(root: .traceIDRatio(0))),
            ("ParentBased_TraceIDRatio", "1", .parentBased(root: .traceIDRatio(1))),
        ])
    func samplers(name: String, argument: String, sampler: Sampler) {
        let settings = read(["OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument])
        #expect(settings.sampler == sampler)
        #expect(settings.rejected.isEmpty)
    }

    @Test(
        "Samplers and ratios that don't exist",
        arguments: [
            ("sometimes", "", "OTEL_TRACES_SAMPLER", Sampler.parentBased(root: .alwaysOn)),
            ("traceidratio", "2", "OTEL_TRACES_SAMPLER_ARG", .traceIDRatio(1)),
            ("traceidratio", "nan", "OTEL_TRACES_SAMPLER_ARG", .traceIDRatio(1)),
            ("parentbased_traceidratio", "half", "OTEL_TRACES_SAMPLER_ARG", .parentBased(root: .traceIDRatio(1))),
        ])
    func badSamplers(name: String, argument: String, key: String, sampler: Sampler) {
        let settings = read(["OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument])
        #expect(settings.sampler == sampler)
        #expect(settings.rejected.map(\.key) == [key])
    }

    @Test("Limits of spans, a signal's own before the general ones")
    func limits() {
        let settings = read([
            "OTEL_ATTRIBUTE_COUNT_LIMIT": "10", "OTEL_SPAN_EVENT_COUNT_LIMIT": "3", "OTEL_SPAN_LINK_COUNT_LIMIT": "4",
            "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "5", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "6",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "100",
        ])
        var expected = SpanLimits()
        expected.attributes = 10
        expected.events = 3
        expected.links = 4
        expected.eventAttributes = 5
        expected.linkAttributes = 6
        expected.valueLength = 100
        #expect(settings.limits == expected)
        let own = read([
            "OTEL_ATTRIBUTE_COUNT_LIMIT": "10", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "20",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "100",
            "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "0",
        ])
        #expect(own.limits.attributes == 20 && own.limits.valueLength == 0)
    }

    @Test("The queue and the interval")
    func queue() {
        let settings = read([
            "OTEL_BSP_MAX_QUEUE_SIZE": "2048", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": " 512 ", "OTEL_BSP_SCHEDULE_DELAY": "0",
            "OTEL_METRIC_EXPORT_INTERVAL": "1500",
        ])
        #expect(settings.queue.spans == 2048 && settings.queue.batchSpans == 512 && settings.queue.delay == .milliseconds(1))
        #expect(settings.metricInterval == .milliseconds(1500))
        #expect(settings.rejected.isEmpty)
    }

    @Test("How metrics are exported")
    func metricReader() {
        let settings = read([
            "OTEL_METRICS_EXEMPLAR_FILTER": "Always_On", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "LowMemory",
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "BASE2_EXPONENTIAL_BUCKET_HISTOGRAM",
            "OTEL_METRIC_EXPORT_TIMEOUT": "2500",
        ])
        #expect(settings.rejected.isEmpty)
        #expect(settings.exemplarFilter == .alwaysOn)
        #expect(
            settings.metricReader
                == MetricReaderOptions(temporality: .lowMemory, histograms: .base2ExponentialBucketHistogram))
        #expect(settings.metricTimeout == .milliseconds(2500) && settings.metricExport?.timeout == .milliseconds(2500))
        #expect(read([:]).metricExport?.timeout == .seconds(10))
        #expect(read(["OTEL_METRIC_EXPORT_TIMEOUT": "0"]).metricTimeout == nil)
        let unlimited = ["OTEL_METRIC_EXPORT_TIMEOUT": "0", "OTEL_EXPORTER_OTLP_TIMEOUT": "0"]
        #expect(read(unlimited).metricExport.map { $0.timeout == nil } == true)
        #expect(read(["OTEL_EXPORTER_OTLP_TIMEOUT": "0"]).metricExport?.timeout == .seconds(30))
    }

    @Test(
        "Words that don't exist are named and the default stays",
        arguments: [
            ("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based or always_on or always_off"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative or delta or lowmemory"),
            (
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
                "explicit_bucket_histogram or base2_exponential_bucket_histogram"
            ),
        ])
    func badWords(key: String, expected: String) {
        let settings = read([key: "some"])
        #expect(settings.rejected == [ConfigurationError(key: key, value: "some", expected: expected)])
        #expect(settings.exemplarFilter == .traceBased && settings.metricReader == MetricReaderOptions())
    }

    @Test(
        "Numbers that can't be used are named and the default stays",
        arguments: [
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_EVENT_COUNT_LIMIT", "OTEL_SPAN_LINK_COUNT_LIMIT",
            "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
            "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_METRIC_EXPORT_INTERVAL",
            "OTEL_METRIC_EXPORT_TIMEOUT",
            "OTEL_BSP_EXPORT_TIMEOUT",
            "OTEL_EXPORTER_PROMETHEUS_PORT",
        ])
    func badNumbers(key: String) {
        for value in ["-1", "1.5", "many", "99999999999999999999"] {
            let settings = read([key: value])
            #expect(settings.rejected.map(\.key) == [key])
            #expect(settings.rejected.first?.value == value)
            #expect(settings.rejected.first?.expected.hasPrefix("a whole number from ") == true)
            #expect(
                settings.limits == SpanLimits() && settings.queue == SpanQueue.Limits() && settings.metricInterval == .seconds(60)
            )
        }
    }

    @Test("Service and resource")
    func resource() {
        let settings = read([
            "OTEL_SERVICE_NAME": "clinic",
            "OTEL_RESOURCE_ATTRIBUTES":
                "service.name=other, deployment.environment.name = test%2C1 ,service.version=9,service.instance.id=pod-1,telemetry.sdk.name=x",
        ])
        #expect(settings.serviceName == "clinic")
        #expect(settings.rejected.isEmpty)
        let merged = Dictionary(grouping: settings.prometheusResource, by: \.key).mapValues { $0.map(\.value) }
        #expect(merged["service.name"] == ["clinic"])
        #expect(merged["deployment.environment.name"] == ["test,1"])
        #expect(merged["service.version"] == ["9"])
        #expect(merged["service.instance.id"] == ["pod-1"])
        #expect(merged["telemetry.sdk.name"] == ["triage"])
        let exported = settings.resource.attributes.map(\.key)
        #expect(Set(exported).count == exported.count)
        #expect(read(["OTEL_RESOURCE_ATTRIBUTES": "service.name=other"]).serviceName == "other")
    }

    @Test("Each scraped sample names the scope that OTLP names, unless switched off", arguments: ExpositionFormat.allCases)
    func scopeLabels(format: ExpositionFormat) {
        func samples(_ settings: TelemetryConfiguration) -> [Substring] {
            let telemetry = Telemetry(settings)
            telemetry.meter.counter(.deliveries, ["triage.outcome": "completed"]).add()
            return String(decoding: telemetry.scrape(as: format), as: UTF8.self).split(separator: "\n")
                .filter { !$0.hasPrefix("#") && !$0.hasPrefix("target_info") }
        }
        var settings = read([:], exportsByDefault: false)
        let labels = """
            otel_scope_name="triage",otel_scope_schema_url="\(OTLPResource.schemaURL)",otel_scope_version="\(TriageVersion.current)"
            """
        #expect(samples(settings).contains("triage_deliveries_total{triage_outcome=\"completed\",\(labels)} 1"))
        #expect(samples(settings).allSatisfy { $0.contains(labels) })
        settings.hasScopeLabels = false
        #expect(samples(settings).allSatisfy { !$0.contains("otel_scope") })
    }

    @Test("One error discards all resource attributes", arguments: ["a", "=b", "a=1,b", "a=%4", "a=%zz", "a=%+1", "a=%FF"])
    func badResource(text: String) {
        let settings = read(["OTEL_RESOURCE_ATTRIBUTES": text])
        #expect(settings.resourceAttributes.isEmpty)
        #expect(settings.rejected.map(\.key) == ["OTEL_RESOURCE_ATTRIBUTES"])
    }

    @Test("Rejected exporter settings are passed on, secrets redacted")
    func rejectedExporterSettings() {
        let settings = read(["OTEL_EXPORTER_OTLP_HEADERS": "authorization", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"])
        #expect(settings.rejected.map(\.key) == ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TIMEOUT"])
        #expect(!settings.rejected.description.contains("authorization"))
    }

    @Test(
        "Propagators: known ones count, others are named",
        arguments: [
            ("tracecontext,baggage", Propagators.all, nil), ("tracecontext", .traceContext, nil), (" Baggage ", .baggage, nil),
            ("baggage,tracecontext,baggage", .all, nil), ("none", [], nil), ("b3", .all, "b3"),
            ("tracecontext,b3,jaeger,b3", .traceContext, "b3,jaeger"), ("none,baggage", .baggage, "none"), ("", .all, nil),
        ] as [(String, Propagators, String?)])
    func propagators(text: String, propagators: Propagators, rejected: String?) {
        let settings = read(["OTEL_PROPAGATORS": text])
        #expect(settings.propagators == propagators)
        #expect(settings.rejected.map(\.value) == (rejected.map { [$0] } ?? []))
    }

    @Test("Exporters in a list")
    func exporterLists() {
        #expect(read(["OTEL_METRICS_EXPORTER": "otlp, prometheus"]).metrics != nil)
        #expect(read(["OTEL_METRICS_EXPORTER": "PROMETHEUS"]).metrics == nil)
        for text in ["none,otlp", "console", "otlp,console", ","] {
            let settings = read(["OTEL_METRICS_EXPORTER": text])
            #expect(settings.metrics != nil)
            #expect(settings.rejected.map(\.expected) == ["otlp or none or prometheus"])
        }
    }

    @Test("A batch is at most the queue: a larger one is named, the default cut to the queue")
    func batches() {
        let settings = read(["OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "101"])
        #expect(settings.queue.spans == 100 && settings.queue.batchSpans == 100)
        #expect(settings.rejected.map(\.expected) == ["a whole number from 1 to 100"])
    }

    @Test(
        "Of the two time-outs of an export the shorter counts; 0 is no limit",
        arguments: [
            ("", "", 10_000), ("20000", "", 20_000), ("40000", "", 30_000), ("0", "", 30_000), ("", "500", 500),
            ("0", "0", nil), ("100", "0", 100),
        ] as [(String, String, Int?)])
    func timeouts(exporter: String, processor: String, milliseconds: Int?) {
        let settings = read(["OTEL_EXPORTER_OTLP_TIMEOUT": exporter, "OTEL_BSP_EXPORT_TIMEOUT": processor])
        #expect(settings.tracesWithinTimeout?.timeout == milliseconds.map { .milliseconds($0) })
        #expect(settings.metrics?.timeout == (exporter == "0" ? nil : .milliseconds(Int(exporter) ?? 10_000)))
    }

    @Test("Where metrics are scraped: our own setting goes before OpenTelemetry's")
    func prometheus() async throws {
        #expect(read([:]).prometheusAddress == nil)
        let cases: [([String: String], String)] = [
            (["OTEL_EXPORTER_PROMETHEUS_PORT": "9999"], "127.0.0.1:9999"),
            (["OTEL_EXPORTER_PROMETHEUS_HOST": "::1"], "[::1]:9464"),
            (["OTEL_EXPORTER_PROMETHEUS_HOST": "0.0.0.0", "OTEL_EXPORTER_PROMETHEUS_PORT": "0"], "0.0.0.0:0"),
        ]
        for (environment, address) in cases {
            #expect(read(environment).prometheusAddress?.description == address)
            let loader = try await ConfigurationLoader(environment: environment)
            #expect(try loader.configuration().http?.description == address)
            let both = environment.merging(["TRIAGE_HTTP": "127.0.0.1:1"]) { $1 }
            #expect(try await ConfigurationLoader(environment: both).configuration().http?.description == "127.0.0.1:1")
            let off = try await ConfigurationLoader(flags: ["http": "off"], environment: environment)
            #expect(try off.configuration().http == nil)
        }
        let bad = read(["OTEL_EXPORTER_PROMETHEUS_PORT": "65536"])
        #expect(bad.prometheusAddress == nil && bad.rejected.map(\.key) == ["OTEL_EXPORTER_PROMETHEUS_PORT"])
    }

    @Test("What telemetry may say, and a file that isn't read")
    func others() {
        #expect(read([:]).logLevel == .info && read(["OTEL_LOG_LEVEL": "ERROR"]).logLevel == .error)
        #expect(read(["OTEL_LOG_LEVEL": "loud"]).rejected.map(\.key) == ["OTEL_LOG_LEVEL"])
        #expect(SDKLogLevel.allCases.filter(\.hasWarnings) == [.warn, .info, .debug])
        #expect(read(["OTEL_CONFIG_FILE": "otel.yaml"]).rejected.map(\.key) == ["OTEL_CONFIG_FILE"])
    }
}
