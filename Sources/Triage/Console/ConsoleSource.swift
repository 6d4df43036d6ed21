internal import TriageEvents
internal import TriageProcessing
internal import TriageTelemetry

/// What the pages of a console show and do: a running service's, or in tests one that is made up.
protocol ConsoleSource: Sendable {
    /// The time now.
    var now: Timestamp { get }
    /// The figures of the last minutes.
    var figures: ConsoleFigures { get }
    /// The dead letter topics.
    var topics: [String] { get }
    /// The newest dead letters, as they were read last; if that is long ago, they are being read again.
    func letters() async -> LetterSnapshot
    /// One dead letter, read anew.
    func letter(_ id: RecordPosition) async throws -> LetterDetail
    /// What a dead letter says, written down as revealed by someone.
    func reveal(_ id: RecordPosition, by name: String) async throws -> RevealedLetter
    /// What a patch would make of a dead letter. One that compares values is written down as a reveal: it tells what they are.
    func preview(_ patch: JSONPatch, of id: RecordPosition, by name: String) async throws -> LetterPreview
    /// Dead letters as lines of JSON, written down as exported by someone. Throws ``ConsoleTooMuch`` beyond what is kept in memory.
    func export(_ choice: ConsoleOrder.Choice, by name: String, reason: String?) async throws -> [UInt8]
    /// Begins to do something; gives its id. Throws ``ConsoleBusy`` while something else is being done.
    func start(_ order: ConsoleOrder, by name: String) async throws -> String
    /// What is being done, and what was done last, newest first.
    func tasks() async -> [ConsoleTask]
    /// Waits until a task has ended, but not for long.
    func settle(_ id: String) async
    /// Whether spans of failed events are kept.
    var keepsSpans: Bool { get }
    /// The kept spans of a trace.
    func spans(of trace: TraceID) -> [TraceSpan]
    /// The failed events whose spans are kept, newest first.
    func failures(limit: Int) -> [SpanStore.FailedTrace]
    /// Where else a trace can be looked at.
    func links(for trace: TraceID) -> [TraceLinks.Link]
}

/// The newest dead letters as they were read at some time.
struct LetterSnapshot: Sendable {
    var index: LetterIndex
    /// When they were read; nil if they never were.
    var readAt: Timestamp?
    /// What kept them from being read the last time; nil if nothing did.
    var problem: String?
}

/// One dead letter as a page shows it.
struct LetterDetail: Sendable {
    let entry: DeadLetterEntry
    /// Its headers, each with its value if that may be shown.
    let headers: [(name: String, bytes: Int?, value: String?)]
    /// What its value looks like; nil if it can't be told.
    let shape: PayloadShape?
    /// Why the shape can't be told.
    let shapeNote: String?
}

/// What a dead letter says: patient data.
struct RevealedLetter: Sendable {
    let entry: DeadLetterEntry
    /// The key, which is the patient's id.
    let key: String?
    /// Its headers, the producer's own among them if it was encrypted; each with its value as text, nil for none.
    let headers: [(name: String, value: String?)]
    /// The value; nil for a null value.
    let value: String?
    /// Whether the value is longer than what is shown of it.
    let isCut: Bool
    /// Why the value can't be shown; nil if it can.
    let problem: String?
    /// What others wrote about the error.
    let texts: [(name: String, text: String)]
}

/// What shall be done with dead letters.
struct ConsoleOrder: Sendable, Hashable {
    enum Kind: String, Sendable, Hashable, CaseIterable {
        case replay, discard, reopen
    }
    enum Choice: Sendable, Hashable {
        case some([RecordPosition])
        case query(LetterQuery)
    }
    var kind: Kind
    var choice: Choice
    var target = DeadLetterReplay.Target.retry
    var canary = 0
    /// How long those tried first may take.
    var canaryTimeout = ReplayOptions().canaryTimeout
    /// Dead letters in a second at most; nil for as fast as it goes.
    var rate: Double?
    /// How many of a query at most, the oldest; nil for all.
    var limit: Int?
    /// Whether also what isn't open is replayed.
    var force = false
    /// Changes the value of the one dead letter first. It may hold patient data, so what was done is remembered without it.
    var patch: JSONPatch?
    var reason: String?
}

/// More than is handed over in one piece.
struct ConsoleTooMuch: Error, CustomStringConvertible {
    var description: String {
        "This is more than \(ServiceConsole.maximumExportBytes >> 20) MiB. `triage dead-letters export` has no such bound."
    }
}

/// Something else is being done.
struct ConsoleBusy: Error, CustomStringConvertible {
    var description: String { "Another action is under way. Wait until it has ended." }
}

/// Something that someone had done from the console.
struct ConsoleTask: Sendable, Hashable {
    enum State: Sendable, Hashable {
        /// How far it is.
        case running(String)
        /// What came of it, a line for each thing; whether everything went well.
        case done([String], isWell: Bool)
        /// Why nothing more was done, and the same without anybody's name.
        case failed(String, nameless: String)
    }
    let id: String
    let order: ConsoleOrder
    let by: String
    /// Whether the value was changed by a patch.
    var isPatched = false
    let begun: Timestamp
    var ended: Timestamp?
    var state: State

    var isRunning: Bool { if case .running = state { true } else { false } }
}
