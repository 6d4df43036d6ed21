internal import TriageEvents
public import TriageKafka

/// Who of a group reads a partition.
public enum PartitionOwner: Sendable, Hashable {
    /// A member of the group.
    case member(ConsumerGroup.Member)
    /// Nobody: no member of the group has it.
    case nobody
    /// The brokers don't say.
    case unknown

    /// The member, if one is known.
    public var member: ConsumerGroup.Member? {
        if case .member(let member) = self { member } else { nil }
    }
}

/// A consumer group as the brokers described it, or why they didn't.
public struct GroupDescription: Sendable, Hashable {
    /// `Stable`, `Empty`, `PreparingRebalance`, …; `Unknown` if the brokers don't say.
    public let state: String
    /// Its members; nil if the brokers don't say.
    public let members: [ConsumerGroup.Member]?
    /// Why they don't.
    public let error: BrokerError?

    /// What the brokers answered.
    public init(_ answer: Result<ConsumerGroup?, BrokerError>) {
        switch answer {
        case .success(let group?) where group.error == nil:
            state = group.state
            members = group.members
            error = nil
        case .success(let group):
            state = "Unknown"
            members = nil
            error = group?.error
        case .failure(let failure):
            state = "Unknown"
            members = nil
            error = failure
        }
    }

    /// Who reads a partition.
    public func owner(of partition: TopicPartition) -> PartitionOwner {
        guard let members else { return .unknown }
        return members.first { $0.assignment.contains(partition) }.map { .member($0) } ?? .nobody
    }
}
