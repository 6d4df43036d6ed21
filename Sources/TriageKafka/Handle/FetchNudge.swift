import CRdKafka
import Glibc
import TriageEvents

/// Keeps fetching going with a small prefetch queue.
///
/// librdkafka 2.0.2 stops fetching when its queue is full and looks at it again only when the broker's thread wakes for
/// some other reason, which may take a second (`fetch.queue.backoff.ms` came with 2.2). A consumer that empties a queue of
/// 16 MiB in 50 ms would idle for the rest of that second. So when the queue has been full and is nearly empty again,
/// this asks the leader for a partition's offsets: the answer is of no interest, the request wakes the thread.
///
/// ``observe(length:topic:partition:)`` is called by the polling thread, the question asked by a thread of its own, since it
/// waits for the answer. `@unchecked Sendable`: `asked` and `isEnded` are guarded by `lock`; `isArmed` belongs to the
/// polling thread.
final class FetchNudge: @unchecked Sendable {
    /// Records in the queue from which on it counts as having been full.
    static let high = 4096
    /// Records in the queue below which fetching should go on.
    static let low = 2048

    private let handle: ClientHandle
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var asked: TopicPartition?
    private var isEnded = false
    private var isArmed = false
    private var thread: NativeThread?

    init(_ handle: ClientHandle) {
        self.handle = handle
        pthread_mutex_init(lock, nil)
        pthread_cond_init(changed, nil)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(lock)
        changed.deallocate()
        lock.deallocate()
    }

    /// Notes how long the queue is, after a poll whose last record came from this partition.
    @inline(__always)
    func observe(length: Int, topic: String, partition: Int32) {
        if length >= FetchNudge.high {
            isArmed = true
        } else if isArmed, length < FetchNudge.low {
            isArmed = false
            ask(TopicPartition(topic, partition))
        }
    }

    /// Ends the thread and waits for it: at most for the answer to one question.
    func end() {
        pthread_mutex_lock(lock)
        isEnded = true
        pthread_cond_signal(changed)
        pthread_mutex_unlock(lock)
        thread?.join()
        thread = nil
    }

    private func ask(_ partition: TopicPartition) {
        if thread == nil { thread = NativeThread { [self] in run() } }
        pthread_mutex_lock(lock)
        asked = partition
        pthread_cond_signal(changed)
        pthread_mutex_unlock(lock)
    }

    private func run() {
        while let partition = next() {
            var low: Int64 = 0
            var high: Int64 = 0
            _ = rd_kafka_query_watermark_offsets(handle.client, partition.topic, partition.partition, &low, &high, 1000)
        }
    }

    private func next() -> TopicPartition? {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while asked == nil, !isEnded { pthread_cond_wait(changed, lock) }
        let partition = asked
        asked = nil
        return isEnded ? nil : partition
    }
}
