internal import TriageEvents
internal import TriageTelemetry

/// A retry that is open: its record is being produced, waits in the retry topic, or is at the handler.
///
/// Its body needn't be in memory while it waits. Confined to the loop's thread.
final class OpenRetry {
    let identity: RetryIdentity
    /// What its deliveries are handed out by.
    let lane: LaneKey
    /// The retry partition.
    let partition: PartitionState
    /// Its name in the queues.
    var id = OpenID(slot: -1, generation: 0)
    /// Where its record stands, once that was read; its ticket in the ledger.
    var offset: Int64?
    var ticket = 0
    var size = 0
    /// Its record; nil before it is read, while the body is left to the topic, and while it is handed out.
    var delivery: Delivery?
    /// What was read before it was clear which is the one: copies may exist after an error of the producer.
    var candidates: [Delivery] = []
    /// Where the acknowledgement says that its record stands, which wasn't read yet: negative if it doesn't say, nil before it.
    var writtenAt: Int64?
    /// When the acknowledgement came.
    var writtenTime = Timestamp(nanoseconds: 0)
    /// The `retryCount` of the record that is being produced.
    var retries = 0
    /// When it is due; once it is freed, not before that.
    var due = Timestamp(nanoseconds: 0)
    var reason = WaitReason.backoff
    /// The context of the send of its record, for those that wait behind it.
    var context: TraceContext?
    /// The times at which it stands in the heaps.
    var queued: Timestamp?
    var queuedToFetch: Timestamp?
    var isFetching = false
    /// Its body was read again for it to be handed out.
    var isFetched = false
    var isRewriting = false
    /// It isn't a retry but a dead letter that holds its patient.
    var isHold = false

    var origin: RecordPosition { identity.origin }

    init(_ identity: RetryIdentity, lane: LaneKey, partition: PartitionState) {
        self.identity = identity
        self.lane = lane
        self.partition = partition
    }
}

/// A record of a retry partition that was there at its assignment.
struct RebuildItem {
    let identity: RetryIdentity
    let originTime: Timestamp?
    let retries: Int
    let offset: Int64
    let size: Int
    let ticket: Int
    let due: Timestamp?
    let reason: WaitReason
    let lane: LaneKey
    let context: TraceContext?
    /// Nil if the body is left to the topic.
    var delivery: Delivery?
}

/// Which of the records of a retry partition that its predecessor left are void (design §3, Order): a pure rule.
enum Rebuild {
    /// - Parameter isOriginOpen: whether main redelivers an origin.
    /// - Returns: by index, whether a record is void: main redelivers its origin, or another record supersedes it, which is one
    ///   with a higher `retryCount` of the same origin and replay, or with the same and a later place. What a predecessor completed
    ///   isn't among them: it may itself have been void, and what main redelivered since counts its retries from 0 again.
    ///
    /// A replay isn't void because main redelivers its origin: that one doesn't say what an operator has repaired, and nobody
    /// would learn how the replay ended.
    static func voids(_ items: [RebuildItem], isOriginOpen: (RecordPosition) -> Bool) -> [Bool] {
        var last: [RetryIdentity: Int] = [:]
        for (index, item) in items.enumerated() {
            guard let known = last[item.identity] else {
                last[item.identity] = index
                continue
            }
            if item.retries >= items[known].retries { last[item.identity] = index }
        }
        return items.enumerated().map { index, item in
            last[item.identity] != index || (!item.identity.isReplay && isOriginOpen(item.identity.origin))
        }
    }
}
