import CRdKafka
import Glibc
import TriageEvents

/// Turns messages of librdkafka into records: the hot path of consuming.
///
/// A message's parts lie in the fetch buffer that came from the broker, and a message that is kept pins that whole
/// buffer. So each message is copied once, into one block, and destroyed while its memory is still in the cache.
///
/// Used by one thread, the one that polls. The arrays are memory of this object's own and reused between polls.
final class MessageIntake {
    private struct HeaderPart {
        var name: UnsafePointer<CChar>
        var nameCount: Int
        var value: UnsafeRawPointer?
        var valueCount: Int
    }

    /// What `rd_kafka_consume_batch_queue` fills; every slot is nil between calls.
    private var slots: UnsafeMutablePointer<UnsafeMutablePointer<rd_kafka_message_t>?>
    private var slotCount: Int
    private var parts: UnsafeMutablePointer<HeaderPart>
    private var partCount: Int
    private var lastTopicPointer: OpaquePointer?
    private var lastTopic = ""
    private var topics: [OpaquePointer: String] = [:]
    private var wasRevoked = false
    private var staleCount = 0
    private var staleFirst: UnsafeMutablePointer<rd_kafka_message_t>?
    /// Told instead of the batch about errors of one partition; nil puts them into ``PolledBatch/errors``.
    var failed: ((TopicPartition, rd_kafka_resp_err_t) -> Void)?

    init() {
        slotCount = 512
        slots = .allocate(capacity: slotCount)
        slots.initialize(repeating: nil, count: slotCount)
        partCount = 32
        parts = .allocate(capacity: partCount)
    }

    deinit {
        slots.deallocate()
        parts.deallocate()
    }

    /// Takes up to `maximum` messages from `queue`, waiting up to `milliseconds` until there are that many.
    ///
    /// librdkafka waits the whole time for a full batch, so wait for one and take more without waiting.
    func take(from queue: OpaquePointer, client: OpaquePointer, into batch: inout PolledBatch, maximum: Int, milliseconds: Int32)
    {
        guard maximum > 0 else { return }
        reserve(maximum)
        let slots = slots
        let count = max(0, rd_kafka_consume_batch_queue(queue, milliseconds, slots, maximum))
        var first = 0
        if wasRevoked {
            first = dropStale(count)
            batch.records.removeAll(keepingCapacity: true)
            batch.ends.removeAll()
        }
        guard count > first else { return }
        if count - first > 1 { batch.records.reserveCapacity(batch.records.count + count - first) }
        for index in first..<count {
            guard let message = slots[index] else { continue }
            slots[index] = nil
            if message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR {
                let record = record(message)
                if !batch.ends.isEmpty {
                    batch.ends.removeAll { $0.partition.partition == record.partition && $0.partition.topic == record.topic }
                }
                batch.records.append(record)
            } else {
                report(message.pointee, client: client, into: &batch)
            }
            rd_kafka_message_destroy(message)
        }
    }

    /// Notes that the partitions were taken away while messages were being taken: what was taken before is not ours.
    ///
    /// librdkafka runs the rebalance callback in the middle of filling the slots. With the range assignor every
    /// revocation takes all partitions, so everything in the slots so far is stale.
    func revoked() {
        wasRevoked = true
        staleCount = 0
        while staleCount < slotCount, slots[staleCount] != nil { staleCount += 1 }
        staleFirst = slots[0]
        // Topic objects may be freed and their addresses used again once nothing is assigned.
        topics.removeAll()
        lastTopicPointer = nil
    }

    /// Destroys what was taken before the revocation and returns the first slot that is valid.
    ///
    /// Later versions of librdkafka drop those messages themselves and close the gap; then the first slot holds
    /// another message (both were alive at once, so the addresses differ) and nothing is left to drop.
    private func dropStale(_ count: Int) -> Int {
        wasRevoked = false
        let stale = min(staleCount, count)
        guard stale > 0, slots[0] == staleFirst else { return 0 }
        for index in 0..<stale {
            rd_kafka_message_destroy(slots[index])
            slots[index] = nil
        }
        return stale
    }

    private func reserve(_ maximum: Int) {
        guard maximum > slotCount else { return }
        slots.deallocate()
        slotCount = maximum
        slots = .allocate(capacity: slotCount)
        slots.initialize(repeating: nil, count: slotCount)
    }

    @inline(__always)
    private func topic(_ pointer: OpaquePointer?) -> String {
        if pointer == lastTopicPointer, pointer != nil { return lastTopic }
        return otherTopic(pointer)
    }

    @inline(never)
    private func otherTopic(_ pointer: OpaquePointer?) -> String {
        guard let pointer else { return "" }
        let name = topics[pointer] ?? rd_kafka_topic_name(pointer).map { String(cString: $0) } ?? ""
        topics[pointer] = name
        lastTopicPointer = pointer
        lastTopic = name
        return name
    }

    @inline(__always)
    private func record(_ message: UnsafeMutablePointer<rd_kafka_message_t>) -> Record {
        let (headerCount, headerBytes) = readHeaders(message)
        var timestampType = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE
        let milliseconds = rd_kafka_message_timestamp(message, &timestampType)
        let key = message.pointee.key
        let value = message.pointee.payload
        let keyCount = message.pointee.key_len
        let valueCount = message.pointee.len
        let parts = parts
        return Record(
            topic: topic(message.pointee.rkt), partition: message.pointee.partition, offset: message.pointee.offset,
            timestamp: timestampType == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || milliseconds < 0
                ? nil : Timestamp(milliseconds: milliseconds),
            keyCount: key == nil ? nil : keyCount, valueCount: value == nil ? nil : valueCount,
            headerCount: headerCount, headerBytes: headerBytes
        ) { headerTarget, keyTarget, valueTarget in
            var at = 0
            for index in 0..<headerCount {
                let part = parts[index]
                at = Headers.pack(
                    name: UnsafeRawBufferPointer(start: part.name, count: part.nameCount),
                    value: part.value.map { UnsafeRawBufferPointer(start: $0, count: part.valueCount) },
                    into: headerTarget, at: at
                )
            }
            if let key, keyCount > 0 { keyTarget.baseAddress?.copyMemory(from: key, byteCount: keyCount) }
            if let value, valueCount > 0 { valueTarget.baseAddress?.copyMemory(from: value, byteCount: valueCount) }
        }
    }

    /// Notes where the headers of `message` lie and returns their number and packed size.
    @inline(__always)
    private func readHeaders(_ message: UnsafeMutablePointer<rd_kafka_message_t>) -> (count: Int, bytes: Int) {
        var list: OpaquePointer?
        guard rd_kafka_message_headers(message, &list) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else { return (0, 0) }
        let total = rd_kafka_header_cnt(list)
        if total > partCount {
            parts.deallocate()
            partCount = total
            parts = .allocate(capacity: partCount)
        }
        let parts = parts
        var count = 0
        var bytes = 0
        while count < total {
            var name: UnsafePointer<CChar>?
            var value: UnsafeRawPointer?
            var valueCount = 0
            guard rd_kafka_header_get_all(list, count, &name, &value, &valueCount) == RD_KAFKA_RESP_ERR_NO_ERROR, let name
            else { break }
            let nameCount = strlen(name)
            parts[count] = HeaderPart(name: name, nameCount: nameCount, value: value, valueCount: valueCount)
            bytes += Headers.packedSize(name: nameCount, value: value == nil ? nil : valueCount)
            count += 1
        }
        return (count, bytes)
    }

    private func report(_ message: rd_kafka_message_t, client: OpaquePointer, into batch: inout PolledBatch) {
        let name = message.rkt == nil ? nil : otherTopic(message.rkt)
        if message.err == RD_KAFKA_RESP_ERR__PARTITION_EOF, let name {
            let partition = TopicPartition(name, message.partition)
            batch.ends.removeAll { $0.partition == partition }
            batch.ends.append((partition, message.offset))
        } else if let failed, let name {
            failed(TopicPartition(name, message.partition), message.err)
        } else {
            batch.errors.append(
                BrokerError(code: message.err, client: client, operation: name.map { "consume \($0)" } ?? "consume")
            )
        }
    }
}
