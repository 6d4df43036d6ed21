internal import TriageEvents
internal import TriageTelemetry

/// What a predecessor that didn't end cleanly leaves behind (design §3, Classes): events that may be delivered again, and crashes
/// to be counted.
extension Engine {
    /// Takes over what the commit of a predecessor says.
    func succeed(_ metadata: CommitMetadata, of state: PartitionState, at start: Int64) {
        guard metadata.flags.contains(.isOpen) else { return }
        state.redeliveredBelow = start + configuration.maximumOffsetSpan
        var crashes = CommitMetadata.Crashes(count: 1, base: start)
        if let known = metadata.crashes, start - known.base < configuration.maximumOffsetSpan {
            crashes = CommitMetadata.Crashes(count: known.count + 1, base: known.base, alone: known.alone)
        }
        state.mark.crashes = crashes
    }
}
