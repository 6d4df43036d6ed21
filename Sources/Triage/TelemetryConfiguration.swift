internal import Glibc
internal import TriageEvents
public import TriageOTLP
public import TriageTelemetry

/// What OpenTelemetry's variables say (specification, configuration/sdk-environment-variables).
///
/// A value that can't be used is named in ``rejected`` with what was expected, and its default is used.
public struct TelemetryConfiguration: Sendable {
    /// `OTEL_SDK_DISABLED=true`: no spans, contexts are only passed on. Metrics are still scraped.
    public var isDisabled = false
    /// Where spans go; nil sends none (`OTEL_TRACES_EXPORTER=none`).
    public var traces: OTLPConfiguration.Signal?
    /// Where metrics go; nil sends none (`OTEL_METRICS_EXPORTER=none`).
    public var metrics: OTLPConfiguration.Signal?
    /// Where log records go; nil, the default, sends none (`OTEL_LOGS_EXPORTER=otlp`).
    public var logs: OTLPConfiguration.Signal?
    /// Bounds on log records (`OTEL_LOGRECORD_*`, `OTEL_ATTRIBUTE_*`).
    public var logLimits = LogLimits()
    /// Bounds on the queue of log records (`OTEL_BLRP_*`); by default the specification's, and 4 MiB.
    public var logQueue = BatchLogProcessor.defaultLimits
    /// Which contexts travel in headers (`OTEL_PROPAGATORS`). Default trace context and baggage.
    public var propagators = Propagators.all
    /// `OTEL_TRACES_SAMPLER`; default parent-based, always on.
    public var sampler = Sampler.parentBased(root: .alwaysOn)
    /// Bounds on what is exported of failed events that the sampler refused; `TRIAGE_FAILURE_TRACE_LIMIT`, no `OTEL_*` variable.
    public var failureTraces = FailureTraceLimits()
    /// Bounds on spans (`OTEL_SPAN_*`, `OTEL_ATTRIBUTE_*`).
    public var limits = SpanLimits()
    /// Bounds on the span queue (`OTEL_BSP_*`); without them 32 MiB of encoded spans.
    public var queue = SpanQueue.Limits()
    /// How long the export of one batch of spans may take, beside the exporter's own time-out; nil is no limit. Default 30 s
    /// (`OTEL_BSP_EXPORT_TIMEOUT`).
    public var spanExportTimeout: Duration? = .seconds(30)
    /// What telemetry itself may say on stderr (`OTEL_LOG_LEVEL`). Default info.
    public var logLevel = SDKLogLevel.info
    /// Where metrics are scraped by `OTEL_EXPORTER_PROMETHEUS_HOST` and `_PORT`; nil if neither is set. Triage's own `http`
    /// setting goes before it.
    public var prometheusAddress: Configuration.HTTPAddress?
    /// Time between metric exports (`OTEL_METRIC_EXPORT_INTERVAL`). Default 60 s.
    public var metricInterval: Duration = .seconds(60)
    /// What one metric export may take at most (`OTEL_METRIC_EXPORT_TIMEOUT`); nil is no limit. The exporter's own time-out, if
    /// it is shorter, ends it before. Default 30 s.
    public var metricTimeout: Duration? = .seconds(30)
    /// Which measurements may become exemplars (`OTEL_METRICS_EXEMPLAR_FILTER`); default those of sampled spans.
    public var exemplarFilter = ExemplarFilter.traceBased
    /// How metrics are exported (`OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`,
    /// `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`); what is scraped is always cumulative, in explicit buckets.
    public var metricReader = MetricReaderOptions()
    /// `service.name` (`OTEL_SERVICE_NAME`). Default `triage`.
    public var serviceName = "triage"
    /// Further resource attributes (`OTEL_RESOURCE_ATTRIBUTES`), in order.
    public var resourceAttributes: [(key: String, value: String)] = []
    /// Whether each scraped sample carries the instrumentation scope as labels `otel_scope_*` (specification, metrics/sdk_exporters/
    /// prometheus, `without_scope_info`). Default true.
    public var hasScopeLabels = true
    /// Unique for this process.
    public let instanceID: String
    /// What was rejected, each with what was expected.
    public private(set) var rejected: [ConfigurationError] = []

    /// Reads the variables.
    ///
    /// - Parameters:
    ///   - environment: variables, such as the process's.
    ///   - exportsByDefault: whether to export to the specification's default endpoint if none is configured; the service does,
    ///     the demonstration doesn't.
    public init(environment: [String: String], exportsByDefault: Bool) {
        instanceID = randomUUID()
        let otlp = OTLPConfiguration(environment: environment)
        rejected = otlp.rejected.map { ConfigurationError(key: $0.key, value: $0.value, expected: $0.expected) }
        var reader = VariableReader(environment: environment)
        isDisabled = reader.choice("OTEL_SDK_DISABLED", of: ["true", "false"]) == "true"
        func exported(_ signal: OTLPConfiguration.Signal) -> OTLPConfiguration.Signal? {
            exportsByDefault || signal.isEndpointConfigured ? signal : nil
        }
        if reader.exporters("OTEL_TRACES_EXPORTER", of: ["otlp", "none"])?.contains("otlp") ?? true {
            traces = exported(otlp.traces)
        }
        if reader.exporters("OTEL_METRICS_EXPORTER", of: ["otlp", "none", "prometheus"])?.contains("otlp") ?? true {
            metrics = exported(otlp.metrics)
        }
        // Not by default, unlike the specification's: the lines are on stderr anyway.
        if reader.exporters("OTEL_LOGS_EXPORTER", of: ["otlp", "none"])?.contains("otlp") ?? false { logs = otlp.logs }
        if let propagators = reader.propagators() { self.propagators = propagators }
        if let level = reader.choice("OTEL_LOG_LEVEL", of: SDKLogLevel.allCases.map(\.rawValue)) {
            logLevel = SDKLogLevel(rawValue: level) ?? .info
        }
        reader.refuse("OTEL_CONFIG_FILE", "no file: Triage is configured by variables, flags and its own YAML file")
        if let sampler = reader.sampler() { self.sampler = sampler }
        readLimits(&reader)
        readQueue(&reader)
        readLogs(&reader)
        readPrometheus(&reader)
        if let interval = reader.number("OTEL_METRIC_EXPORT_INTERVAL", 1...86_400_000) {
            metricInterval = .milliseconds(interval)
        }
        if let timeout = reader.number("OTEL_METRIC_EXPORT_TIMEOUT", 0...86_400_000) {
            metricTimeout = timeout == 0 ? nil : .milliseconds(timeout)
        }
        if let filter = reader.word("OTEL_METRICS_EXEMPLAR_FILTER", of: ExemplarFilter.self) { exemplarFilter = filter }
        if let preference = reader.word(
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", of: TemporalityPreference.self)
        {
            metricReader.temporality = preference
        }
        if let aggregation = reader.word(
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", of: HistogramAggregation.self)
        {
            metricReader.histograms = aggregation
        }
        for (key, value) in reader.resourceAttributes() {
            if key == "service.name" { serviceName = value } else { resourceAttributes.append((key, value)) }
        }
        if let name = reader.text("OTEL_SERVICE_NAME") { serviceName = name }
        rejected += reader.rejected
    }

    private mutating func readLimits(_ reader: inout VariableReader) {
        let counts = 0...100_000
        let generalCount = reader.number("OTEL_ATTRIBUTE_COUNT_LIMIT", counts)
        let generalLength = reader.number("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", 0...1_000_000)
        limits.attributes = reader.number("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", counts) ?? generalCount ?? limits.attributes
        limits.valueLength = reader.number("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", 0...1_000_000) ?? generalLength
        if let count = reader.number("OTEL_SPAN_EVENT_COUNT_LIMIT", counts) { limits.events = count }
        if let count = reader.number("OTEL_SPAN_LINK_COUNT_LIMIT", counts) { limits.links = count }
        if let count = reader.number("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", counts) { limits.eventAttributes = count }
        if let count = reader.number("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", counts) { limits.linkAttributes = count }
        logLimits.attributes =
            reader.number("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", counts) ?? generalCount ?? logLimits.attributes
        logLimits.valueLength = reader.number("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", 0...1_000_000) ?? generalLength
    }

    private mutating func readQueue(_ reader: inout VariableReader) {
        if let spans = reader.number("OTEL_BSP_MAX_QUEUE_SIZE", 1...10_000_000) { queue.spans = spans }
        let largest = queue.spans ?? 10_000_000
        if let spans = reader.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1...largest) { queue.batchSpans = spans }
        queue.batchSpans = min(queue.batchSpans, largest)
        if let delay = reader.number("OTEL_BSP_SCHEDULE_DELAY", 0...3_600_000) { queue.delay = .milliseconds(max(1, delay)) }
        if let timeout = reader.number("OTEL_BSP_EXPORT_TIMEOUT", 0...3_600_000) {
            spanExportTimeout = timeout == 0 ? nil : .milliseconds(timeout)
        }
    }

    private mutating func readPrometheus(_ reader: inout VariableReader) {
        let host = reader.host("OTEL_EXPORTER_PROMETHEUS_HOST")
        let port = reader.number("OTEL_EXPORTER_PROMETHEUS_PORT", 0...65_535)
        if host != nil || port != nil {
            prometheusAddress = Configuration.HTTPAddress(host: host ?? "127.0.0.1", port: port ?? 9464)
        }
    }

    /// The traces' settings with the shorter of their time-out and the processor's.
    var tracesWithinTimeout: OTLPConfiguration.Signal? {
        guard var signal = traces else { return nil }
        if let limit = spanExportTimeout { signal.timeout = min(signal.timeout ?? limit, limit) }
        return signal
    }

    /// Where metrics go, with the shorter of both time-outs: one export, retries included, is what each of them bounds.
    var metricExport: OTLPConfiguration.Signal? {
        guard var signal = metrics else { return nil }
        if let metricTimeout { signal.timeout = min(signal.timeout ?? metricTimeout, metricTimeout) }
        return signal
    }

    private mutating func readLogs(_ reader: inout VariableReader) {
        if let records = reader.number("OTEL_BLRP_MAX_QUEUE_SIZE", 1...10_000_000) { logQueue.spans = records }
        let largest = logQueue.spans ?? 10_000_000
        if let records = reader.number("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", 1...largest) { logQueue.batchSpans = records }
        logQueue.batchSpans = min(logQueue.batchSpans, largest)
        if let delay = reader.number("OTEL_BLRP_SCHEDULE_DELAY", 0...3_600_000) { logQueue.delay = .milliseconds(max(1, delay)) }
        // The exporter's own time-out holds beside it, the shorter of both.
        let limit = reader.number("OTEL_BLRP_EXPORT_TIMEOUT", 0...3_600_000) ?? 30_000
        if var signal = logs, limit > 0 {
            signal.timeout = min(signal.timeout ?? .milliseconds(limit), .milliseconds(limit))
            logs = signal
        }
    }

    /// The resource as OTLP has it.
    var resource: OTLPResource {
        OTLPResource(
            attributes: prometheusResource.map { ($0.key, .string($0.value)) } + [("process.pid", .int(Int64(getpid())))],
            version: TriageVersion.current
        )
    }

    /// The resource as `target_info` has it, each key once: what the environment says about the service goes before what
    /// Triage says (specification, resource/sdk), but what the SDK is and the process's id are not for it to say.
    var prometheusResource: [(key: String, value: String)] {
        let fixed: [(key: String, value: String)] = [
            ("telemetry.sdk.name", "triage"), ("telemetry.sdk.language", "swift"),
            ("telemetry.sdk.version", TriageVersion.current),
        ]
        var merged: [(key: String, value: String)] = [
            ("service.name", serviceName), ("service.instance.id", instanceID), ("service.version", TriageVersion.current),
        ]
        for attribute in resourceAttributes
        where attribute.key != "process.pid" && !fixed.contains(where: { $0.key == attribute.key }) {
            merged.removeAll { $0.key == attribute.key }
            merged.append(attribute)
        }
        return merged + fixed
    }

    /// The instrumentation scope as labels of every scraped sample: what OTLP says of it.
    var prometheusScope: [(key: String, value: String)] {
        guard hasScopeLabels else { return [] }
        return [
            ("otel.scope.name", OTLPResource.scopeName.description),
            ("otel.scope.schema_url", OTLPResource.schemaURL.description), ("otel.scope.version", TriageVersion.current),
        ]
    }
}

/// How much telemetry says about itself (`OTEL_LOG_LEVEL`).
public enum SDKLogLevel: String, Sendable, CaseIterable {
    /// Nothing.
    case none
    /// Only what keeps it from working at all.
    case error
    /// What keeps it from going out, too.
    case warn
    /// The same: there is no more to say.
    case info
    /// The same.
    case debug

    /// Whether warnings are passed on.
    var hasWarnings: Bool { self != .none && self != .error }
}

/// Triage's own version.
public enum TriageVersion {
    /// The version, as `triage --version` prints it and telemetry carries it.
    public static let current = "0.1.0"
}

/// Reads variables by the specification's rules: empty counts as not set, an unusable value is reported and ignored.
private struct VariableReader {
    let environment: [String: String]
    var rejected: [ConfigurationError] = []

    init(environment: [String: String]) { self.environment = environment }

    func text(_ key: String) -> String? {
        guard let text = environment[key] else { return nil }
        let trimmed = text.drop(while: \.isWhitespace)
        guard let last = trimmed.lastIndex(where: { !$0.isWhitespace }) else { return nil }
        return String(trimmed[...last])
    }

    mutating func number(_ key: String, _ range: ClosedRange<Int>) -> Int? {
        guard let text = text(key) else { return nil }
        if let number = Int(text), range.contains(number) { return number }
        rejected.append(
            ConfigurationError(key: key, value: text, expected: "a whole number from \(range.lowerBound) to \(range.upperBound)")
        )
        return nil
    }

    /// A host's name or address, by the characters that there are in one (RFC 1123 §2.1, RFC 4291 §2.2).
    mutating func host(_ key: String) -> String? {
        guard let text = text(key) else { return nil }
        let isHost = text.utf8.allSatisfy { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
            default: ".-_:[]%".utf8.contains(byte)
            }
        }
        if isHost { return text }
        rejected.append(ConfigurationError(key: key, value: text, expected: "a host's name or address"))
        return nil
    }

    mutating func choice(_ key: String, of choices: [String]) -> String? {
        guard let text = text(key) else { return nil }
        if choices.contains(text.lowercased()) { return text.lowercased() }
        rejected.append(ConfigurationError(key: key, value: text, expected: choices.joined(separator: " or ")))
        return nil
    }

    /// One of a type's words, in any case.
    mutating func word<Word: RawRepresentable<String> & CaseIterable>(_ key: String, of words: Word.Type) -> Word? {
        choice(key, of: words.allCases.map(\.rawValue)).flatMap { words.init(rawValue: $0) }
    }

    /// A list of exporters, `none` only alone; one that isn't there spoils the list.
    mutating func exporters(_ key: String, of choices: [String]) -> Set<String>? {
        guard let text = text(key) else { return nil }
        let names = Set(text.lowercased().split(separator: ",").map { $0.trimmingBlanks() }.filter { !$0.isEmpty })
        if !names.isEmpty, names.isSubset(of: choices), names.count == 1 || !names.contains("none") { return names }
        rejected.append(ConfigurationError(key: key, value: text, expected: choices.joined(separator: " or ")))
        return nil
    }

    /// Each of the list that can be used; the others are named, the rest of the list counts.
    mutating func propagators() -> Propagators? {
        guard let text = text("OTEL_PROPAGATORS")?.lowercased() else { return nil }
        let names = text.split(separator: ",").map { $0.trimmingBlanks() }.filter { !$0.isEmpty }
        if names == ["none"] { return [] }
        var found: Propagators = []
        var unknown: [String] = []
        for name in names {
            switch name {
            case "tracecontext": found.insert(.traceContext)
            case "baggage": found.insert(.baggage)
            default: if !unknown.contains(name) { unknown.append(name) }
            }
        }
        if !unknown.isEmpty {
            rejected.append(
                ConfigurationError(
                    key: "OTEL_PROPAGATORS", value: unknown.joined(separator: ","),
                    expected: "tracecontext, baggage, or none alone"
                )
            )
        }
        return found.isEmpty ? nil : found
    }

    /// Names a variable that nothing comes of.
    mutating func refuse(_ key: String, _ expected: String) {
        if let text = text(key) { rejected.append(ConfigurationError(key: key, value: text, expected: expected)) }
    }

    mutating func sampler() -> Sampler? {
        let names = [
            "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off",
            "parentbased_traceidratio",
        ]
        let name = choice("OTEL_TRACES_SAMPLER", of: names)
        var ratio = 1.0
        if name?.hasSuffix("traceidratio") ?? true, let text = text("OTEL_TRACES_SAMPLER_ARG") {
            if let number = Double(text), (0...1).contains(number) {
                ratio = number
            } else {
                rejected.append(ConfigurationError(key: "OTEL_TRACES_SAMPLER_ARG", value: text, expected: "a number from 0 to 1"))
            }
        }
        guard let name else { return nil }
        let root: Sampler =
            switch name.replacing("parentbased_", with: "") {
            case "always_off": .alwaysOff
            case "traceidratio": .traceIDRatio(ratio)
            default: .alwaysOn
            }
        return name.hasPrefix("parentbased_") ? .parentBased(root: root) : root
    }

    /// `k=v,k=v` with percent-encoded values; one error discards the whole variable (specification, resource/sdk).
    mutating func resourceAttributes() -> [(key: String, value: String)] {
        guard let text = text("OTEL_RESOURCE_ATTRIBUTES") else { return [] }
        var attributes: [(key: String, value: String)] = []
        for member in text.split(separator: ",") {
            let pair = member.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard pair.count == 2, let key = percentDecoded(pair[0]), let value = percentDecoded(pair[1]), !key.isEmpty else {
                rejected.append(
                    ConfigurationError(
                        key: "OTEL_RESOURCE_ATTRIBUTES", value: text,
                        expected: "k1=v1,k2=v2 with commas and equal signs percent-encoded"
                    )
                )
                return []
            }
            attributes.append((key, value))
        }
        return attributes
    }

    private func percentDecoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = Substring(text.drop { $0 == " " }).utf8
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = hexadecimalDigit(rest.popFirst()), let low = hexadecimalDigit(rest.popFirst()) else { return nil }
            bytes.append(high << 4 | low)
        }
        while bytes.last == 0x20 { bytes.removeLast() }
        return String(validating: bytes, as: UTF8.self)
    }

    private func hexadecimalDigit(_ byte: UInt8?) -> UInt8? {
        byte.flatMap { Character(UnicodeScalar($0)).hexDigitValue }.map(UInt8.init)
    }
}

extension Substring {
    /// Without spaces and tabs at its ends.
    fileprivate func trimmingBlanks() -> String {
        var text = self
        while text.first == " " || text.first == "\t" { text = text.dropFirst() }
        while text.last == " " || text.last == "\t" { text = text.dropLast() }
        return String(text)
    }
}
