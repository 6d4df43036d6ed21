internal import TriageEvents

/// Knows the copies of dead letters that stand near one another: values in, answers out, in bounded memory.
///
/// A crash between a dead letter's acknowledgement and the commit leaves a second copy in the same partition (design §3), as
/// many dead letters behind the first as were written between two commits. Of each partition the last ``window`` identities
/// are remembered, as 64 bits of a hash that is seeded anew in each process.
public struct DeadLetterCopies: Sendable {
    /// Identities that are remembered of each partition.
    public let window: Int

    fileprivate struct Seen {
        var offsets: [Int: Int64] = [:]
        /// The hashes in the order in which they came, once it is full from ``next`` on.
        var order: [Int] = []
        var next = 0
    }
    private var partitions: [TopicPartition: Seen] = [:]

    /// Nothing seen yet.
    ///
    /// - Parameter partitions: how many will be read: 50,000 identities of each are remembered, 500,000 in all, at some 50 bytes.
    public init(partitions: Int) { window = max(1000, min(50_000, 500_000 / max(1, partitions))) }

    /// The offset of the first dead letter of the same identity in its partition; nil if this is the first one, or names no origin.
    public mutating func first(of letter: DeadLetter) -> Int64? {
        guard letter.origin != nil else { return nil }
        return partitions[letter.position.topicPartition, default: Seen()]
            .note(letter.identity.hashValue, letter.position.offset, window: window)
    }
}

extension DeadLetterCopies.Seen {
    fileprivate mutating func note(_ hash: Int, _ offset: Int64, window: Int) -> Int64? {
        if let first = offsets[hash] { return first }
        offsets[hash] = offset
        if order.count < window {
            order.append(hash)
        } else {
            offsets[order[next]] = nil
            order[next] = hash
            next = (next + 1) % window
        }
        return nil
    }
}
