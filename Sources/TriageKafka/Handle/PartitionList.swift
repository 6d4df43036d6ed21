import CRdKafka
import Glibc
import TriageEvents

/// A list of partitions that this object made and destroys.
struct PartitionList: ~Copyable {
    private let pointer: OpaqueList

    init(capacity: Int) { pointer = rd_kafka_topic_partition_list_new(Int32(clamping: capacity)) }

    init(_ partitions: some Collection<TopicPartition>) {
        self.init(capacity: partitions.count)
        for partition in partitions {
            rd_kafka_topic_partition_list_add(pointer, partition.topic, partition.partition)
        }
    }

    init(topics: [String]) {
        self.init(capacity: topics.count)
        for topic in topics { rd_kafka_topic_partition_list_add(pointer, topic, RD_KAFKA_PARTITION_UA) }
    }

    init(_ commits: [OffsetCommit]) {
        self.init(capacity: commits.count)
        for commit in commits {
            guard
                let added = rd_kafka_topic_partition_list_add(
                    pointer, commit.topicPartition.topic, commit.topicPartition.partition)
            else { continue }
            added.pointee.offset = commit.offset
            guard let metadata = commit.metadata, !metadata.isEmpty else { continue }
            // librdkafka frees the text together with the list, hence memory of malloc's.
            var text = metadata
            text.withUTF8 { bytes in
                guard let source = bytes.baseAddress, let copy = malloc(bytes.count) else { return }
                copy.copyMemory(from: source, byteCount: bytes.count)
                added.pointee.metadata = copy
                added.pointee.metadata_size = bytes.count
            }
        }
    }

    deinit { rd_kafka_topic_partition_list_destroy(pointer) }

    /// Calls `body` with the list, which must not leave it: a pointer alone would not keep the list alive.
    func withPointer<Result: ~Copyable, Failure: Error>(
        _ body: (OpaqueList) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(pointer)
    }

    /// The first partition's own error.
    func firstError(operation: String) -> BrokerError? {
        for element in pointer.elements where element.err != RD_KAFKA_RESP_ERR_NO_ERROR {
            return BrokerError(code: element.err, operation: operation)
        }
        return nil
    }
}

extension OpaqueList {
    /// The entries; valid as long as the list.
    var elements: UnsafeMutableBufferPointer<rd_kafka_topic_partition_t> {
        UnsafeMutableBufferPointer(start: pointee.elems, count: Int(pointee.cnt))
    }

    /// The partitions named in the list.
    var partitions: [TopicPartition] { elements.map(\.topicPartition) }

    /// The entries that have an offset, as commits.
    var commits: [OffsetCommit] { elements.compactMap(\.commit) }
}

extension rd_kafka_topic_partition_t {
    var topicPartition: TopicPartition { TopicPartition(topic.map { String(cString: $0) } ?? "", partition) }

    /// The offset and its metadata; nil if there is no offset.
    var commit: OffsetCommit? {
        guard offset >= 0 else { return nil }
        var text: String?
        if let metadata, metadata_size > 0 {
            text = String(decoding: UnsafeRawBufferPointer(start: metadata, count: metadata_size), as: UTF8.self)
        }
        return OffsetCommit(topicPartition, offset: offset, metadata: text)
    }
}
