internal import Synchronization
public import TriageEvents

/// What became of a command.
public struct CommandStatus: Sendable, Equatable {
    /// How far it is.
    public enum State: String, Sendable, CaseIterable {
        /// Kafka has it; nothing is known of its end.
        case pending
        /// It was carried out.
        case completed
        /// It was given up and lies in the dead letter topic.
        case failed
    }

    /// How far it is.
    public var state: State
    /// When the record that says so was written; of a pending command, the command itself.
    public var time: Timestamp
    /// What the result says, a JSON object; nil if it isn't completed or the result was too long to keep. May name a patient.
    public var result: ByteSlice?
    /// `transient`, `persistent` or `system`; nil if it hasn't failed.
    public var errorClass: String?
    /// The error's type and safe text; nil if it hasn't failed.
    public var error: String?

    /// A status of these parts.
    public init(
        _ state: State, at time: Timestamp, result: ByteSlice? = nil, errorClass: String? = nil, error: String? = nil
    ) {
        self.state = state
        self.time = time
        self.result = result
        self.errorClass = errorClass
        self.error = error
    }

    /// The status as JSON; of a completed command what the result says.
    public func json(_ requestID: String) -> String {
        if let result { return String(decoding: result, as: UTF8.self) }
        var text = "{\"requestId\":\(JSONText(requestID).quoted),\"status\":\"\(state.rawValue)\""
        if let errorClass { text += ",\"class\":\(JSONText(errorClass).quoted)" }
        if let error { text += ",\"error\":\(JSONText(error).quoted)" }
        return text + "}"
    }
}

/// What a record of one of the three topics says about a command.
public struct CommandNews: Sendable, Equatable {
    /// Which command.
    public let requestID: String
    /// What became of it.
    public let status: CommandStatus
    /// What tells it from another command with the same id; nil if the record doesn't say what was asked for.
    let contentHash: UInt64?

    /// The topics that tell of commands: their own, their results' and their dead letters'.
    public static let topics = [
        TopicName.commands, TopicName.commandResults, TopicName.deadLetter(of: TopicName.commands),
    ]

    /// Bytes of a result that are kept; one of ours has some 300.
    public static let maximumResultBytes = 4096

    /// What `record` says, of the commands' topic, of their results or of their dead letters; nil for other records.
    ///
    /// - Parameter decoder: the caller's, one for each thread.
    public init?(_ record: Record, decoder: EventDecoder) {
        guard let value = record.value, (try? decoder.checkObject(value)) != nil, let json = JSONValue(value) else { return nil }
        let time = record.timestamp ?? Timestamp(nanoseconds: 0)
        switch record.topic {
        case TopicName.commandResults:
            guard let id = json["requestId"]?.string, json["status"]?.says("completed") == true else { return nil }
            requestID = id
            let isShort = value.count <= CommandNews.maximumResultBytes
            status = CommandStatus(.completed, at: time, result: isShort ? ByteSlice(value) : nil)
            contentHash = nil
        case TopicName.deadLetter(of: TopicName.commands):
            guard let id = json["metadata"]?["requestId"]?.string else { return nil }
            requestID = id
            let errorClass = record.headers.text("triage-error-class") ?? ""
            status = CommandStatus(
                .failed, at: time,
                errorClass: ErrorClass(rawValue: errorClass)?.rawValue ?? "system", error: record.headers.text("error"))
            contentHash = CommandRecord.contentHash(of: json)
        case TopicName.commands:
            guard let id = json["metadata"]?["requestId"]?.string else { return nil }
            requestID = id
            status = CommandStatus(.pending, at: time)
            contentHash = CommandRecord.contentHash(of: json)
        default: return nil
        }
        guard RequestTag.isRequestID(requestID.utf8) else { return nil }
    }
}

/// The latest known status of many commands, and who waits for them. Bounded; the oldest is forgotten first. Thread-safe.
public final class CommandMemory: Sendable {
    /// What is known of a command with the id of one that is being taken in.
    public enum Known: Sendable, Equatable {
        /// Nothing, or it failed: it is to be sent.
        case new
        /// It was taken in before, or is done.
        case repeated(CommandStatus)
        /// There is a command of that id that asks for something else.
        case other
        /// One with that id is on its way to Kafka right now.
        case underWay
    }

    private struct Entry {
        var status: CommandStatus
        var contentHash: UInt64?
    }

    private struct State {
        var entries: [String: Entry] = [:]
        /// Ids that somebody claimed and is sending.
        var claimed: Set<String> = []
        /// Ids in the order in which they came to be known, from `oldest` on.
        var order: [String] = []
        var oldest = 0
        var waiters: [String: [UInt64: CheckedContinuation<CommandStatus?, Never>]] = [:]
        var nextWaiter: UInt64 = 0
    }

    private let capacity: Int
    private let state = Mutex(State())

    /// A memory without any command.
    ///
    /// - Parameter capacity: commands that it knows at most; some 500 bytes each.
    public init(capacity: Int = 10_000) { self.capacity = max(1, capacity) }

    /// How many commands it knows.
    public var count: Int { state.withLock { $0.entries.count } }

    /// What is known of a command.
    public func status(of requestID: String) -> CommandStatus? { state.withLock { $0.entries[requestID]?.status } }

    /// Whether a command is to be sent: if it is, its id is the caller's until it says ``accepted(_:contentHash:at:)`` or
    /// ``refused(_:)``.
    public func claim(_ requestID: String, contentHash: UInt64) -> Known {
        state.withLock { state in
            if let entry = state.entries[requestID] {
                if let hash = entry.contentHash, hash != contentHash { return .other }
                guard entry.status.state == .failed else { return .repeated(entry.status) }
            }
            return state.claimed.insert(requestID).inserted ? .new : .underWay
        }
    }

    /// Kafka didn't take the command: its id may be claimed again.
    public func refused(_ requestID: String) { state.withLock { _ = $0.claimed.remove(requestID) } }

    /// Kafka has the command.
    public func accepted(_ requestID: String, contentHash: UInt64, at time: Timestamp) {
        state.withLock { state in
            state.claimed.remove(requestID)
            note(requestID, CommandStatus(.pending, at: time), &state)
            state.entries[requestID]?.contentHash = contentHash
        }
    }

    /// Takes in what a record says. A command that is completed stays so; one that failed is pending again if it was sent later.
    public func observe(_ news: CommandNews) {
        let waiters = state.withLock { state in
            note(news.requestID, news.status, &state)
            // The first command with the id is the one that was carried out, or will be.
            if let hash = news.contentHash, let entry = state.entries[news.requestID], entry.contentHash == nil {
                state.entries[news.requestID]?.contentHash = hash
            }
            guard let status = state.entries[news.requestID]?.status, status.state != .pending else {
                return [CheckedContinuation<CommandStatus?, Never>]()
            }
            return Array((state.waiters.removeValue(forKey: news.requestID) ?? [:]).values)
        }
        for waiter in waiters { waiter.resume(returning: news.status) }
    }

    /// Waits until the command is completed or failed; nil if it isn't after `limit`.
    public func outcome(of requestID: String, within limit: Duration) async -> CommandStatus? {
        let ticket = state.withLock { state in
            defer { state.nextWaiter += 1 }
            return state.nextWaiter
        }
        let timer = Task {
            try? await Task.sleep(for: limit)
            self.giveUp(requestID, ticket)
        }
        defer { timer.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let known: CommandStatus?? = state.withLock { state in
                    if let status = state.entries[requestID]?.status, status.state != .pending { return .some(status) }
                    if Task.isCancelled { return .some(nil) }
                    state.waiters[requestID, default: [:]][ticket] = continuation
                    return .none
                }
                if let known { continuation.resume(returning: known) }
            }
        } onCancel: {
            giveUp(requestID, ticket)
        }
    }

    private func giveUp(_ requestID: String, _ ticket: UInt64) {
        let waiter = state.withLock { state in
            let waiter = state.waiters[requestID]?.removeValue(forKey: ticket)
            if state.waiters[requestID]?.isEmpty == true { state.waiters[requestID] = nil }
            return waiter
        }
        waiter?.resume(returning: nil)
    }

    private func note(_ requestID: String, _ status: CommandStatus, _ state: inout State) {
        if var known = state.entries[requestID] {
            let replaces =
                switch (known.status.state, status.state) {
                case (.completed, .completed): status.time > known.status.time
                case (.completed, _), (.pending, .pending): false
                case (_, .completed): true
                // Between topics only the time tells which was first: of the same millisecond the end is the later.
                case (.pending, .failed): status.time >= known.status.time
                case (.failed, .failed), (.failed, .pending): status.time > known.status.time
                }
            guard replaces else { return }
            known.status = status
            state.entries[requestID] = known
            return
        }
        state.entries[requestID] = Entry(status: status)
        state.order.append(requestID)
        if state.entries.count > capacity {
            state.entries[state.order[state.oldest]] = nil
            state.oldest += 1
            if state.oldest > capacity {
                state.order.removeFirst(state.oldest)
                state.oldest = 0
            }
        }
    }
}
