public import TriageEvents

/// When a batch handler is called.
public struct BatchPolicy: Sendable, Hashable {
    /// Events of one batch at most, 1 or more. Default 100. A batch is never larger than the processor's concurrency, since no more
    /// events than that are at the handler at the same time.
    public var size: Int
    /// How long the first event of a batch waits for others. Default 20 ms.
    public var delay: Duration

    /// Batches of up to `size` events, of which none waits longer than `delay`.
    public init(size: Int = 100, delay: Duration = .milliseconds(20)) {
        self.size = max(1, size)
        self.delay = max(.zero, delay)
    }
}

/// Events that are handled together: never two of one patient, in the order in which they came to the handler.
public struct EventBatch: Sendable, RandomAccessCollection {
    /// An event and what is told about its delivery.
    public typealias Element = (event: PatientEvent, context: HandlerContext)

    private let elements: [Element]

    init(_ elements: [Element]) { self.elements = elements }

    /// 0.
    public var startIndex: Int { 0 }
    /// How many there are.
    public var endIndex: Int { elements.count }
    /// The event and its context at `index`, the number that ``BatchFailure`` names it by.
    public subscript(index: Int) -> Element { elements[index] }
}

/// Thrown by a batch handler if some of its events failed: those alone fail, each with its error; the others are done.
public struct BatchFailure: Error, Sendable {
    /// The errors by the events' places in the batch.
    public let errors: [Int: any Error]

    /// The events at these places failed.
    public init(_ errors: [Int: any Error]) { self.errors = errors }
}

/// Handles a batch: returning means that all of it is done, throwing ``BatchFailure`` that some failed, throwing anything else that
/// all failed with that error.
public typealias BatchHandler = @Sendable (EventBatch) async throws -> Void
