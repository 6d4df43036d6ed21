internal import Logging
internal import Synchronization
internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing
internal import TriageTelemetry

/// A running service's console: what its pages show comes from its metrics, its span store and the brokers.
final class ServiceConsole: ConsoleSource {
    /// Where and how a console finds what it shows.
    struct Parts: Sendable {
        var access: DeadLetterAccess
        /// Puts on record that somebody looks, before he does.
        var reveals: DeadLetterReveal
        var links = TraceLinks()
    }

    /// Bytes of a value that are shown.
    static let maximumShownBytes = 256 * 1024

    private let access: DeadLetterAccess
    private let reveals: DeadLetterReveal
    private let traceLinks: TraceLinks
    private let store: SpanStore?
    private let meter: Meter
    private let clock: any EventClock
    private let logger: Logger
    private let reader: LetterReader
    private let desk: ConsoleDesk
    private let measured = Mutex(ConsoleFigures())

    init(_ parts: Parts, telemetry: Telemetry, logger: Logger) {
        access = parts.access
        reveals = parts.reveals
        traceLinks = parts.links
        store = telemetry.spanStore
        meter = telemetry.meter
        clock = telemetry.tracer.clock
        self.logger = logger
        let reader = LetterReader(access, clock: clock)
        self.reader = reader
        desk = ConsoleDesk(
            access, clock: clock,
            makeOperator: { [access, clock] in DeadLetterOperator(access, by: $0, telemetry: telemetry, clock: clock) },
            changed: { await reader.changed() })
    }

    /// Measures every two seconds until it is cancelled; then what is under way is waited for, and the clients are closed.
    func run() async {
        while !Task.isCancelled {
            let sample = FiguresSample(meter.collect(at: clock.now()))
            measured.withLock { $0.add(sample) }
            try? await Task.sleep(for: ConsoleFigures.interval)
        }
        await desk.stop()
        await reader.stop()
    }

    var now: Timestamp { clock.now() }
    var figures: ConsoleFigures { measured.withLock { $0 } }
    func letters() async -> LetterSnapshot { await reader.current() }
    func tasks() async -> [ConsoleTask] { desk.tasks }
    func settle(_ id: String) async { await desk.settle() }
    var keepsSpans: Bool { store != nil }
    func spans(of trace: TraceID) -> [TraceSpan] { store?.spans(of: trace) ?? [] }
    func failures(limit: Int) -> [SpanStore.FailedTrace] { store?.recentFailures(limit: limit) ?? [] }
    func links(for trace: TraceID) -> [TraceLinks.Link] { traceLinks.links(for: trace) }

    func letter(_ id: RecordPosition) async throws -> LetterDetail {
        let (entry, record) = try await DeadLetterBrowser(access).find(id)
        let headers = ShownHeader.all(of: record.headers).map { (name: $0.name, bytes: $0.bytes, value: $0.value) }
        if record.headers.last(HeaderName.encryption) != nil {
            return LetterDetail(
                entry: entry, headers: headers, shape: DeadLetter.shape(of: record.headers),
                shapeNote: "It is encrypted, and doesn't say what it looks like.")
        }
        guard let value = record.value else {
            return LetterDetail(entry: entry, headers: headers, shape: nil, shapeNote: "It has no value.")
        }
        guard (try? EventDecoder().checkObject(value)) != nil, let json = JSONValue(value) else {
            return LetterDetail(entry: entry, headers: headers, shape: nil, shapeNote: "It is no JSON object.")
        }
        return LetterDetail(entry: entry, headers: headers, shape: PayloadShape(of: json), shapeNote: nil)
    }

    func reveal(_ id: RecordPosition, by name: String) async throws -> RevealedLetter {
        let (entry, record) = try await DeadLetterBrowser(access).find(id)
        // Nothing is shown of what couldn't be written down.
        try await reveals.record(id, by: name)
        logger.log(
            level: .notice, safe: "a dead letter was revealed on the console",
            shown: "\(id) was revealed on the console by \(name)")
        var value = record.value
        var problem: String?
        var texts = DeadLetter.foreignTexts(of: record.headers)
        if record.headers.last(HeaderName.encryption) != nil {
            if let cipher = access.cipher {
                do { value = try cipher.open(record) } catch { problem = "It is encrypted, and the key doesn't open it." }
                if let detail = try? cipher.openDetail(record.headers) { texts.append((name: "error", text: detail)) }
            } else {
                problem = "It is encrypted, and this service has no key."
            }
        }
        let shown = value.map { String(decoding: $0.prefix(ServiceConsole.maximumShownBytes), as: UTF8.self) }
        return RevealedLetter(
            entry: entry, key: entry.letter.key.map { String(decoding: $0.prefix(1024), as: UTF8.self) }, value: shown,
            isCut: (value?.count ?? 0) > ServiceConsole.maximumShownBytes, problem: problem,
            texts: texts)
    }

    func start(_ order: ConsoleOrder, by name: String) async throws -> String {
        let id = try desk.start(order, by: name)
        logger.log(
            level: .notice, safe: "dead letters are operated from the console",
            shown: "\(ConsoleRouter.title(order)), from the console, by \(name)")
        return id
    }
}
