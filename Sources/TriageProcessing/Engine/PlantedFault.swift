/// Mistakes that a test can have an engine make, to prove that it would notice: about order, one for each rule of design §3, about
/// what it tells of dead letters, and about what its traces tell.
///
/// Only a debug build knows them.
enum PlantedFault: CaseIterable {
    /// A key isn't blocked while the retry record is still being produced.
    case unblockedWhileProduced
    /// A key's queue is in the order of the retry topic.
    case queuedByPlace
    /// A retry record is taken though main redelivers its origin.
    case redeliveredTaken
    /// Of several retry records of one origin all are taken.
    case supersededTaken
    /// What another writer's assignment left to land late is taken.
    case otherWriterTaken
    /// A retry is handled before main has redelivered what lies before its origin.
    case unbarred
    /// An offset is complete before its retry record is acknowledged.
    case completedUnacknowledged
    /// A head that is dead-lettered doesn't release its successors.
    case deadLetterHolds
    /// A dead letter that should hold its patient doesn't before its state is acknowledged.
    case heldLate
    /// Who was held before an assignment isn't after it.
    case holdForgotten
    /// What a record says in `triage-replay` is believed whatever the states say.
    case markBelieved
    /// A retry record's send stands under what its delivery came with, not under the process.
    case sendUnderRecord
    /// A retry's process doesn't link the attempt before it.
    case attemptUnlinked
    /// A retry that waits so long that it begins a new trace links nothing.
    case newTraceUnlinked
    /// A process that parks its record doesn't say which retry it waits for.
    case parkingUnlinked
}

extension Engine {
    /// Whether a test asked for this mistake.
    @inline(__always)
    func makes(_ fault: PlantedFault) -> Bool {
        #if DEBUG
            plantedFault == fault
        #else
            false
        #endif
    }
}
