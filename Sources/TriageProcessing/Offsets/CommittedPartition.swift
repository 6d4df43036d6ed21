public import TriageEvents

/// What a group has committed of one partition: what is complete, and how its owner was doing.
public struct CommittedPartition: Sendable, Hashable {
    /// The next offset to be read; nil if the group has never committed.
    public let offset: Int64?
    /// What rode with the commit; nothing if it couldn't be read.
    public let metadata: CommitMetadata
    /// Why what rode with the commit couldn't be read, if so.
    public let error: CommitMetadataError?

    /// What this commit says; nil if there is none.
    public init(_ commit: OffsetCommit?) {
        offset = commit?.offset
        guard let commit else {
            metadata = CommitMetadata()
            error = nil
            return
        }
        do throws(CommitMetadataError) {
            metadata = try CommitMetadata(commit.metadata ?? "", at: commit.offset)
            error = nil
        } catch {
            metadata = CommitMetadata()
            self.error = error
        }
    }

    /// Whether the record at `offset` is complete: its event was handled, or its retry record or dead letter acknowledged.
    public func isComplete(_ offset: Int64) -> Bool {
        guard let committed = self.offset else { return false }
        if offset < committed { return true }
        // The first range that ends behind the offset is the only one that can hold it.
        var low = 0
        var high = metadata.completed.count
        while low < high {
            let middle = (low + high) / 2
            if metadata.completed[middle].upperBound <= offset { low = middle + 1 } else { high = middle }
        }
        return low < metadata.completed.count && metadata.completed[low].lowerBound <= offset
    }
}
