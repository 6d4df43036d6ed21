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
        /// What the topics carry.
        var roles = TopicRoles()
        var links = TraceLinks()
    }

    /// Bytes of a value that are shown.
    static let maximumShownBytes = 256 * 1024
    /// Bytes that are exported in one piece.
    static let maximumExportBytes = 16 << 20

    private let access: DeadLetterAccess
    private let reveals: DeadLetterReveal
    private let roles: TopicRoles
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
        roles = parts.roles
        traceLinks = parts.links
        store = telemetry.spanStore
        meter = telemetry.meter
        clock = telemetry.tracer.clock
        self.logger = logger
        let reader = LetterReader(access, clock: clock)
        self.reader = reader
        desk = ConsoleDesk(
            access, roles: parts.roles, clock: clock,
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
    var topics: [String] { access.topics }
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
        let shape = PayloadShape(checking: value)
        return LetterDetail(
            entry: entry, headers: headers, shape: shape, shapeNote: shape == nil ? "It is no JSON object." : nil)
    }

    func reveal(_ id: RecordPosition, by name: String) async throws -> RevealedLetter {
        let (entry, record) = try await DeadLetterBrowser(access).find(id)
        // Nothing is shown of what couldn't be written down.
        try await reveals.record(id, by: name)
        logger.log(
            level: .notice, safe: "a dead letter was revealed on the console",
            shown: "\(id) was revealed on the console by \(name)")
        return RevealedLetter(entry, record, cipher: access.cipher)
    }

    func preview(_ patch: JSONPatch, of id: RecordPosition, by name: String) async throws -> LetterPreview {
        let (entry, written) = try await DeadLetterBrowser(access).find(id)
        if entry.letter.isPointer { throw LetterRepair.Fault.isElsewhere }
        if patch.operations.contains(where: { $0.kind == .test }) {
            // Whoever asks often enough what a value isn't knows what it is.
            try await reveals.record(id, by: name, reason: "a patch that compares values")
        }
        var record = written
        if record.headers.last(HeaderName.encryption) != nil {
            guard let opened = try? access.cipher?.opened(record) else { throw LetterRepair.Fault.isSealed }
            record = opened
        }
        let new = try LetterRepair(patch: patch, roles: roles).applied(to: record.value, of: record)
        guard let before = record.value.flatMap(PayloadShape.init(checking:)), let after = PayloadShape(checking: new) else {
            throw LetterRepair.Fault.noValue
        }
        return LetterPreview(before: before, after: after)
    }

    func export(_ choice: ConsoleOrder.Choice, by name: String, reason: String?) async throws -> [UInt8] {
        let lines = try await ConsoleExport(access).lines(choice)
        // Nothing is handed over of what couldn't be written down.
        let ids = if case .some(let ids) = choice { ids } else { [RecordPosition]() }
        try await reveals.recordExport(of: ids, by: name, reason: reason)
        logger.log(
            level: .notice, safe: "dead letters were exported from the console",
            shown: "dead letters were exported from the console by \(name)")
        return lines
    }

    func start(_ order: ConsoleOrder, by name: String) async throws -> String {
        let id = try desk.start(order, by: name)
        logger.log(
            level: .notice, safe: "dead letters are operated from the console",
            shown: "\(ConsoleRouter.title(order)), from the console, by \(name)")
        return id
    }
}

extension RevealedLetter {
    /// What a dead letter says, opened if there is a key for it.
    init(_ entry: DeadLetterEntry, _ written: Record, cipher: (any DeadLetterOpening)?) {
        var record = written
        var problem: String?
        var texts = DeadLetter.foreignTexts(of: written.headers)
        if written.headers.last(HeaderName.encryption) != nil {
            if let cipher {
                do { record = try cipher.opened(written) } catch { problem = "It is encrypted, and the key doesn't open it." }
                if let detail = try? cipher.openDetail(written.headers) { texts.append((name: "error", text: detail)) }
            } else {
                problem = "It is encrypted, and this service has no key."
            }
        }
        func text(_ bytes: ByteSlice, _ maximum: Int) -> String { String(decoding: bytes.prefix(maximum), as: UTF8.self) }
        self.init(
            entry: entry, key: record.key.map { text($0, 1024) },
            headers: record.headers.map { (name: $0.name, value: $0.value.map { text($0, 4096) }) },
            value: record.value.map { text($0, ServiceConsole.maximumShownBytes) },
            isCut: (record.value?.count ?? 0) > ServiceConsole.maximumShownBytes, problem: problem, texts: texts)
    }
}

extension PayloadShape {
    /// The shape of bytes; nil if they are no JSON object.
    fileprivate init?(checking value: ByteSlice) {
        guard (try? EventDecoder().checkObject(value)) != nil, let json = JSONValue(value) else { return nil }
        self.init(of: json)
    }
}
