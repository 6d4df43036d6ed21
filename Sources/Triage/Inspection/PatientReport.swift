public import TriageEvents
public import TriageProcessing
public import TriageTelemetry

/// What is open for one patient, in the order in which it will be handled, and why nothing of it is done yet.
public struct PatientReport: Sendable {
    /// An event that isn't complete.
    public struct Item: Sendable, Hashable {
        /// What becomes of it next.
        public enum State: String, Sendable, CaseIterable {
            /// Its retry isn't due yet.
            case waiting
            /// Its retry is due.
            case due
            /// It waits for an earlier event of the patient.
            case parked
            /// It stands in the main topic: unread, or being handled.
            case unread
        }
        /// What becomes of it next.
        public let state: State
        /// Its first delivery.
        public let origin: RecordPosition
        /// When the event was first written.
        public let originTimestamp: Timestamp?
        /// The record that stands for it in the retry topic.
        public let retryRecord: RecordPosition?
        /// Not to be handled before.
        public let dueAt: Timestamp?
        /// Why it waits, if it stands in the retry topic.
        public let waitReason: WaitReason?
        /// The origin of the event that it was parked behind.
        public let parkedBehind: String?
        /// What went wrong so far; nil if nothing was tried.
        public let failure: FailureNote?

        /// An event that stands in the main topic.
        init(unread position: RecordPosition, at timestamp: Timestamp?) {
            state = .unread
            origin = position
            originTimestamp = timestamp
            retryRecord = nil
            dueAt = nil
            waitReason = nil
            parkedBehind = nil
            failure = nil
        }

        /// An event that a retry record stands for.
        init(_ entry: OpenRetries.Entry, note: FailureNote?, now: Timestamp) {
            let history = entry.history
            origin = history.origin
            originTimestamp = history.originTimestamp
            retryRecord = entry.position
            dueAt = history.dueAt
            waitReason = history.waitReason
            parkedBehind = history.parkedBehind.map { RecordPosition($0)?.description ?? "?" }
            failure = note.flatMap { $0.isFailure || !$0.attempts.entries.isEmpty ? $0 : nil }
            state = history.parkedBehind != nil ? .parked : (history.dueAt ?? .init(nanoseconds: .min)) > now ? .waiting : .due
        }
    }

    /// A dead letter of the patient.
    public struct DeadLetter: Sendable, Hashable {
        /// Where it stands.
        public let position: RecordPosition
        /// When it was written.
        public let written: Timestamp?
        /// The event's first delivery, if it says.
        public let origin: RecordPosition?
        /// What went wrong.
        public let failure: FailureNote
        /// What became of it; nil if nobody did anything about it, so that it is open.
        public let state: DeadLetterState?

        /// Its status; open if nobody did anything about it.
        public var status: DeadLetterState.Status { state?.status ?? .open }

        /// A dead letter and what became of it.
        init(_ letter: TriageProcessing.DeadLetter, _ state: DeadLetterState?) {
            position = letter.position
            written = letter.written
            origin = letter.origin
            failure = FailureNote(letter)
            self.state = state
        }
    }

    /// A main partition in which the patient's events can be, and how far it was looked through.
    public struct Place: Sendable, Hashable {
        /// The partition.
        public let main: TopicPartition
        /// The next offset to be read; nil if the group has never committed.
        public let committed: Int64?
        /// What rode with the commit.
        public let metadata: CommitMetadata
        /// Behind its last record.
        public let end: Int64
        /// Who reads it.
        public let owner: PartitionOwner
        /// What was looked at in its retry topic.
        public let retries: Range<Int64>
        /// What was looked at in its dead letter topic, newest first.
        public let deadLetters: Range<Int64>
        /// Dead letters that are older than what was looked at.
        public let olderDeadLetters: Int64
        /// Whether it is a static member's that has stopped: until its session times out the partition waits for it.
        public internal(set) var isLeft = false
    }

    /// The id that was asked for.
    public let id: String
    /// Whose view it is.
    public let group: String
    /// When it was looked.
    public let now: Timestamp
    /// How many retries there are, as far as this configuration knows.
    public let policies: RetryPolicies
    /// What is open, the head first; unread events beyond the first ``maximumUnread`` are only counted.
    public let queue: [Item]
    /// Events of the patient that stand unread in main topics.
    public let unread: Int
    /// The newest dead letter of the patient.
    public let lastDeadLetter: DeadLetter?
    /// What was looked at.
    public let places: [Place]
    /// What else one should know, in words.
    public let notes: [String]
    /// What holds the patient until an operator has decided about it; nil if nothing does.
    public internal(set) var held: HeldPatients.Head?

    /// Unread events that are shown one by one.
    public static let maximumUnread = 1000

    /// The event that the others wait for.
    public var head: Item? { queue.first }

    /// The order in which a patient's events are handled: in a partition by origin offset, between partitions by when they were
    /// first written.
    static func ordered(_ items: [Item]) -> [Item] {
        var lanes = Dictionary(grouping: items, by: \.origin.topicPartition).mapValues { $0.sorted { $0.origin > $1.origin } }
        var ordered: [Item] = []
        while let next = lanes.values.compactMap(\.last).min(by: { left, right in
            let times = (left.originTimestamp?.nanoseconds ?? .min, right.originTimestamp?.nanoseconds ?? .min)
            return times.0 == times.1 ? left.origin < right.origin : times.0 < times.1
        }) {
            ordered.append(next)
            let lane = next.origin.topicPartition
            lanes[lane]?.removeLast()
            if lanes[lane]?.isEmpty == true { lanes[lane] = nil }
        }
        return ordered
    }
}

extension PatientReport {
    /// Why the patient is stuck, or that it isn't: one or two sentences.
    public var explanation: String {
        guard let head else {
            let text = "nothing is open: no retry waits, nothing is parked, nothing is unread"
            return holding.map { "\(text); what comes \($0)" } ?? text
        }
        // Its replay goes first: that is what is happening then.
        let holding = head.origin == held?.origin ? nil : self.holding
        var text = holding ?? happening(head)
        let rest = holding == nil ? queue.dropFirst() : queue[...]
        let parked = rest.filter { $0.state == .parked }.count
        let retrying = rest.filter { $0.state == .waiting || $0.state == .due }.count
        let later = unread - (holding == nil && head.state == .unread ? 1 : 0)
        var behind: [String] = []
        if parked > 0 {
            behind.append("\(PlainText.count(parked, "later event")) \(parked == 1 ? "is" : "are") parked behind it")
        }
        if retrying > 0 {
            behind.append("\(PlainText.count(retrying, "more event")) \(retrying == 1 ? "waits" : "wait") for a retry")
        }
        if later > 0 { behind.append("\(PlainText.count(later, "later event")) \(later == 1 ? "is" : "are") unread") }
        if !behind.isEmpty { text += "; " + behind.joined(separator: ", ") }
        if let hindrance = hindrance(head) { text += ". " + hindrance }
        return text
    }

    private func happening(_ head: Item) -> String {
        switch head.state {
        case .waiting:
            let due = head.dueAt ?? now
            return "waits until \(PlainText.clock(due, now: now)) (in \(PlainText.span(due - now))) for \(retry(head))"
        case .due:
            guard let due = head.dueAt else { return "is due: \(retry(head))" }
            return "\(retry(head)) has been due since \(PlainText.clock(due, now: now)) (\(PlainText.span(now - due)))"
        case .parked:
            return "is next: what \(head.origin) was parked behind is done"
        case .unread:
            let age = head.originTimestamp.map { ", written \(PlainText.span(now - $0)) ago" } ?? ""
            return "\(head.origin) is unread or being handled\(age)"
        }
    }

    private func retry(_ item: Item) -> String {
        let number = item.failure?.retries ?? 0
        let retries = policies.policy(for: item.failure?.errorClass ?? .system, topic: item.origin.topic).retries
        let limit = number <= retries ? " of \(retries)" : ""
        guard number > 0 else { return "its replay" }
        return "retry \(number)\(limit) after \(item.failure?.text ?? "a failure")"
    }

    /// What keeps the head from being handled even when it is due.
    private func hindrance(_ head: Item) -> String? {
        guard
            let place = places.first(where: {
                $0.main == TopicPartition(TopicName.main(of: head.origin.topic), head.origin.partition)
            })
        else { return nil }
        var reasons: [String] = []
        let flags = place.metadata.flags
        if place.owner == .nobody, place.committed == nil {
            reasons.append(
                "Group \(group) has never worked on \(place.main), and no member of it reads that: is its name (-g) right?")
        } else if place.owner == .nobody {
            reasons.append("No member of group \(group) reads \(place.main): start `triage run`.")
        }
        if place.isLeft, let member = place.owner.member {
            reasons.append(
                "Instance \(member.displayName) has stopped and keeps \(place.main) until its session times out: start it again.")
        }
        // A single crash stops nothing: what was in flight is handled again.
        if let crashes = place.metadata.crashes, crashes.count > 1 || crashes.alone != nil {
            let alone = crashes.alone == head.origin.offset ? "; it runs alone now, since it may be what ends the process" : ""
            reasons.append("The process crashed \(PlainText.count(crashes.count, "time")) in a row\(alone).")
        }
        if flags.contains(.isGateClosed) {
            reasons.append("The outage gate is closed: nothing but probes is handled until one succeeds.")
        }
        if flags.contains(.isStormy) {
            reasons.append("The storm breaker has stopped intake: too many events were dead-lettered.")
        }
        if flags.contains(.isPaused), !flags.contains(.isGateClosed), !flags.contains(.isStormy) {
            reasons.append("The partition is paused.")
        }
        return reasons.isEmpty ? nil : reasons.joined(separator: " ")
    }
}
