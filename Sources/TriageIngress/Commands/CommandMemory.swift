internal import Synchronization
public import TriageEvents

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
        /// Where the command stands that the status speaks of; nil if nobody told.
        var position: RecordPosition?
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
    ///
    /// - Parameter position: where it stands; a failure of the same partition counts from there on. Nil if the brokers didn't say.
    public func accepted(_ requestID: String, contentHash: UInt64, at position: RecordPosition?) {
        state.withLock { state in
            state.claimed.remove(requestID)
            // What is known to have failed may be this very command, if that was told before the acknowledgement was seen.
            if let known = state.entries[requestID], known.status.state == .failed,
                CommandMemory.compare(known.position, position).map({ $0 < 0 }) ?? true
            {
                state.entries[requestID]?.status = CommandStatus(.pending)
                state.entries[requestID]?.position = position
            } else {
                note(requestID, CommandStatus(.pending), at: position, &state)
            }
            state.entries[requestID]?.contentHash = contentHash
        }
    }

    /// Takes in what a record says. A command that is completed stays so; one that failed is pending again if it was sent later.
    ///
    /// Which of two came later is told by the offsets of the commands' topic, never by anyone's clock.
    public func observe(_ news: CommandNews) {
        let (outcome, waiters) = state.withLock { state in
            note(news.requestID, news.status, at: news.position, &state)
            // The first command with the id is the one that was carried out, or will be.
            if let hash = news.contentHash, let entry = state.entries[news.requestID], entry.contentHash == nil {
                state.entries[news.requestID]?.contentHash = hash
            }
            guard let status = state.entries[news.requestID]?.status, status.state != .pending else {
                return (news.status, [CheckedContinuation<CommandStatus?, Never>]())
            }
            return (status, Array((state.waiters.removeValue(forKey: news.requestID) ?? [:]).values))
        }
        for waiter in waiters { waiter.resume(returning: outcome) }
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

    private func note(
        _ requestID: String, _ status: CommandStatus, at position: RecordPosition?, _ state: inout State
    ) {
        if var known = state.entries[requestID] {
            let order = CommandMemory.compare(position, known.position)
            let replaces =
                switch (known.status.state, status.state) {
                case (_, .completed): true
                case (.completed, _): false
                case (.pending, .pending): order.map { $0 > 0 } ?? false
                // The failure of an earlier time that it was sent says nothing of this one.
                case (.pending, .failed), (.failed, .failed): order.map { $0 >= 0 } ?? true
                case (.failed, .pending): order.map { $0 > 0 } ?? false
                }
            guard replaces else { return }
            known.status = status
            known.position = position ?? known.position
            state.entries[requestID] = known
            return
        }
        state.entries[requestID] = Entry(status: status, position: position)
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

    /// Less than, equal to or greater than 0 as `left` was sent before, with or behind `right`; nil if that can't be told: partitions
    /// have no common order.
    private static func compare(_ left: RecordPosition?, _ right: RecordPosition?) -> Int64? {
        guard let left, let right, left.topicPartition == right.topicPartition else { return nil }
        return left.offset - right.offset
    }
}
