public import CoreMetrics
internal import Synchronization
public import TriageTelemetry

/// Makes metrics for those who call swift-metrics: handlers with `Counter`, `Timer` and the like, and the libraries they use.
///
/// They land in Triage's own meter: exported over OTLP and scraped with the rest, within its limit of series. Counters stay
/// counters (`reset` is ignored: what has been exported only grows), `Gauge` and `Meter` become gauges, `Recorder`
/// a histogram, `Timer` a histogram in seconds. A label is made an OpenTelemetry name: what can't stand in one becomes `_`.
/// Refused, and counted in `triage.bridge.refusals`, are labels that the policy doesn't let through, names of Triage's
/// catalogue and what would look like one in Prometheus, and a label that is in use for another kind; such a metric does
/// nothing. Dimensions that the policy doesn't let through are left out, so series that differ in nothing else are one.
public final class TriageMetricsFactory: MetricsFactory {
    let meter: TriageTelemetry.Meter
    let vetting: Vetting
    private let registry = Mutex(Registry())

    /// A factory in front of a meter.
    public convenience init(_ meter: TriageTelemetry.Meter, policy: BridgePolicy = BridgePolicy()) {
        self.init(meter, vetting: Vetting(policy, meter: meter))
    }

    init(_ meter: TriageTelemetry.Meter, vetting: Vetting) {
        self.meter = meter
        self.vetting = vetting
        registry.withLock { registry in
            for metric in Metric.all { registry.claim(metric) }
        }
    }

    /// A counter of whole numbers.
    public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        make(.counter, label, dimensions) { metric, attributes, _ in
            CounterBridge(meter.counter(metric, attributes))
        } ?? CounterBridge(nil)
    }

    /// A counter of floating-point numbers.
    public func makeFloatingPointCounter(label: String, dimensions: [(String, String)]) -> any FloatingPointCounterHandler {
        make(.doubleCounter, label, dimensions) { _, _, cell in CellBridge(cell, startingAt: 0) } ?? CellBridge(nil)
    }

    /// A gauge that can be set, raised and lowered.
    public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        make(.gauge, label, dimensions) { _, _, cell in CellBridge(cell) } ?? CellBridge(nil)
    }

    /// A histogram if it aggregates, else a gauge.
    public func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        guard aggregate else { return make(.gauge, label, dimensions) { _, _, cell in CellBridge(cell) } ?? CellBridge(nil) }
        return make(.recorder, label, dimensions) { metric, attributes, _ in
            HistogramBridge(meter.histogram(metric, attributes))
        } ?? HistogramBridge(nil)
    }

    /// A histogram in seconds.
    public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        make(.timer, label, dimensions) { metric, attributes, _ in
            HistogramBridge(meter.histogram(metric, attributes))
        } ?? HistogramBridge(nil)
    }

    /// Takes the series away once everyone who made it has destroyed it.
    public func destroyCounter(_ handler: any CounterHandler) { destroy(handler) }
    /// Takes the series away once everyone who made it has destroyed it.
    public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) { destroy(handler) }
    /// Takes the series away once everyone who made it has destroyed it.
    public func destroyMeter(_ handler: any MeterHandler) { destroy(handler) }
    /// Takes the series away once everyone who made it has destroyed it.
    public func destroyRecorder(_ handler: any RecorderHandler) { destroy(handler) }
    /// Takes the series away once everyone who made it has destroyed it.
    public func destroyTimer(_ handler: any TimerHandler) { destroy(handler) }

    // MARK: Within

    enum Kind: Hashable { case counter, doubleCounter, gauge, recorder, timer }

    private struct Registry {
        /// By name in lower case: names differ in more than case (specification, metrics/api, instrument name syntax).
        var definitions: [String: Definition] = [:]
        /// Names in Prometheus that are taken, in lower case.
        private(set) var claimed: Set<String> = ["target", "target_info"]

        mutating func claim(_ metric: Metric) { claimed.formUnion(metric.prometheusNames.map { $0.lowercased() }) }

        func isFree(_ metric: Metric) -> Bool { claimed.isDisjoint(with: metric.prometheusNames.map { $0.lowercased() }) }
    }

    private struct Definition {
        let kind: Kind
        let metric: Metric
        var series: [MetricAttributes: Series] = [:]
    }

    private struct Series {
        /// How many handlers use it.
        var users = 0
        /// The value, if it is reported when asked for.
        let cell: Cell?
    }

    /// The handler of a series, made inside the lock: else a series could be removed after it was given out anew.
    private func make<Handler: Bridge>(
        _ kind: Kind, _ label: String, _ dimensions: [(String, String)],
        _ body: (Metric, MetricAttributes, Cell?) -> Handler
    ) -> Handler? {
        guard let name = vetting.name(label, .metricName).flatMap({ MetricNames.sanitized($0.text) }) else { return nil }
        let id = name.lowercased()
        let attributes = MetricAttributes(dimensions.compactMap { vetting.dimension($0.0, $0.1) })
        return registry.withLock { registry in
            guard define(name, id, kind, &registry), var definition = registry.definitions[id] else {
                vetting.refuse(.metricName)
                return nil
            }
            // The meter gives what lies beyond its limit one shared series; so is it done with cells.
            let isBeyond = definition.series[attributes] == nil && definition.series.count >= meter.cardinalityLimit
            let key: MetricAttributes = isBeyond ? ["otel.metric.overflow": "true"] : attributes
            let isCell = kind == .gauge || kind == .doubleCounter
            var series = definition.series[key] ?? Series(cell: isCell ? Cell() : nil)
            series.users += 1
            let handler = body(definition.metric, isCell ? key : attributes, series.cell)
            handler.membership.join(Membership.Place(id: id, attributes: key))
            definition.series[key] = series
            registry.definitions[id] = definition
            return handler
        }
    }

    /// Whether `name` is, or now becomes, a metric of this kind.
    private func define(_ name: String, _ id: String, _ kind: Kind, _ registry: inout Registry) -> Bool {
        if let known = registry.definitions[id] { return known.kind == kind }
        let metric = definition(name, kind)
        guard registry.definitions.count < vetting.policy.maximumNames, !MetricNames.isReserved(id), registry.isFree(metric)
        else { return false }
        registry.claim(metric)
        registry.definitions[id] = Definition(kind: kind, metric: metric)
        if kind == .gauge || kind == .doubleCounter {
            meter.observe(metric) { [weak self] in self?.values(of: id) ?? [] }
        }
        return true
    }

    private func definition(_ name: String, _ kind: Kind) -> Metric {
        let help = "A metric of the application or of a library it uses."
        return switch kind {
        case .counter, .doubleCounter: Metric(name, .counter, unit: "", help, attributes: vetting.keys)
        case .gauge: Metric(name, .gauge, unit: "", help, attributes: vetting.keys)
        case .recorder:
            Metric(name, .histogram, unit: "", help, attributes: vetting.keys, boundaries: vetting.policy.recorderBoundaries)
        case .timer:
            Metric(name, .histogram, unit: "s", help, attributes: vetting.keys, boundaries: vetting.policy.timerBoundaries)
        }
    }

    private func values(of id: String) -> [(MetricAttributes, ObservedValue)] {
        let series = registry.withLock { $0.definitions[id]?.series } ?? [:]
        return series.compactMap { attributes, series in
            guard let value = series.cell?.current else { return nil }
            return (attributes, .double(value))
        }
    }

    private func destroy(_ handler: AnyObject) {
        guard let place = (handler as? any Bridge)?.membership.leave() else { return }
        registry.withLock { registry in
            guard var series = registry.definitions[place.id]?.series[place.attributes],
                let metric = registry.definitions[place.id]?.metric
            else { return }
            series.users -= 1
            registry.definitions[place.id]?.series[place.attributes] = series.users > 0 ? series : nil
            if series.users == 0, series.cell == nil { meter.forget(metric) { $0 == place.attributes } }
        }
    }
}

/// Labels as OpenTelemetry's names (specification, metrics/api, instrument name syntax).
enum MetricNames {
    /// A letter first, then letters, digits, `_`, `.`, `-`, `/`, 255 at most; nil if it can't be made one.
    static func sanitized(_ label: String) -> String? {
        var bytes = label.utf8.map { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "/"): byte
            default: UInt8(ascii: "_")
            }
        }
        while let first = bytes.first, !(0x61...0x7A).contains(first | 0x20) { bytes.removeFirst() }
        guard !bytes.isEmpty else { return nil }
        return String(decoding: bytes.prefix(255), as: UTF8.self)
    }

    /// Whether it lies in a namespace that is Triage's or OpenTelemetry's own.
    static func isReserved(_ name: String) -> Bool {
        ["triage", "otel"].contains { space in
            name.hasPrefix(space + ".") || name.hasPrefix(space + "_") || name == space
        }
    }
}
