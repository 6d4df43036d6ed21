internal import CoreMetrics
internal import Synchronization
internal import Tracing
public import Triage
public import TriageTelemetry

/// Has what code reports by swift-distributed-tracing and swift-metrics join Triage's own spans and metrics.
///
/// ```swift
/// let telemetry = Telemetry(configuration)
/// Bridges(telemetry).bootstrap()
/// LoggingSystem.bootstrap(StreamLogHandler.standardError, metadataProvider: .triage)
/// ```
///
/// From then on a handler's `withSpan` makes a child of its attempt, its `Counter` is exported and scraped, its log lines
/// carry `trace_id` and `span_id`, and what it publishes inside of `withSpan` belongs under that span.
public struct Bridges: Sendable {
    /// For `InstrumentationSystem`.
    public let tracer: TriageTracer
    /// For `MetricsSystem`.
    public let metricsFactory: TriageMetricsFactory

    /// Bridges to `telemetry`; nothing is installed yet.
    public init(_ telemetry: Telemetry, policy: BridgePolicy = BridgePolicy()) {
        self.init(tracer: telemetry.tracer, meter: telemetry.meter, policy: policy) {
            Task { await telemetry.flush() }
        }
    }

    /// Bridges to a tracer and a meter, as tests have them.
    ///
    /// - Parameters:
    ///   - policy: what may show.
    ///   - flush: exports what has ended; must return at once.
    public init(
        tracer: TriageTelemetry.Tracer, meter: TriageTelemetry.Meter, policy: BridgePolicy = BridgePolicy(),
        flush: @escaping @Sendable () -> Void = {}
    ) {
        let vetting = Vetting(policy, meter: meter)
        self.tracer = TriageTracer(tracer, vetting: vetting, flush: flush)
        metricsFactory = TriageMetricsFactory(meter, vetting: vetting)
    }

    /// What ``bootstrap()`` installed.
    public struct Installed: OptionSet, Sendable, Hashable {
        /// The set as a number.
        public let rawValue: Int
        /// The set of this number.
        public init(rawValue: Int) { self.rawValue = rawValue }
        /// The tracer, in `InstrumentationSystem`.
        public static let tracing = Installed(rawValue: 1)
        /// The factory, in `MetricsSystem`.
        public static let metrics = Installed(rawValue: 2)
    }

    /// Installs the tracer and the factory for the whole process, each unless there is one already; tells which.
    ///
    /// Both systems take one for each process and trap on a second, so what is taken is left alone. Call it before the first
    /// `Counter` is made: a metric stays with the factory that was there when it was made.
    @discardableResult
    public func bootstrap() -> Installed {
        Bridges.installLookup()
        return Bridges.bootstrapping.withLock { _ in
            var installed: Installed = []
            if InstrumentationSystem.instrument is NoOpInstrument {
                InstrumentationSystem.bootstrap(tracer)
                installed.insert(.tracing)
            }
            if MetricsSystem.factory is NOOPMetricsHandler {
                MetricsSystem.bootstrap(metricsFactory)
                installed.insert(.metrics)
            }
            return installed
        }
    }

    /// Has Triage's own lookups — a publish without a parent, its log lines, exemplars — see spans begun by ``TriageTracer``.
    public static func installLookup() { CurrentSpan.install { ServiceContext.currentTraceContext } }

    private static let bootstrapping = Mutex(())
}
