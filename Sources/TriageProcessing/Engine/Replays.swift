internal import TriageEvents
internal import TriageTelemetry

/// Replays after a restart: those that operators wrote to the retry topic, and those that they wrote to main.
extension Engine {
    /// Main has brought a record: a retry of a replay that stands there itself, not in the retry topic, is void.
    func decideReplays(_ delivery: Delivery, _ now: Timestamp) {
        guard let partition = delivery.partition.twin else { return }
        let position = delivery.record.position
        for (identity, open) in partition.undecided.sorted(by: { $0.key < $1.key }) where identity.origin <= position {
            partition.undecided[identity] = nil
            guard identity == delivery.history.identity, open.offset != nil, !open.isRewriting else { continue }
            _ = leaveRest(open)
            counts.skipped += 1
            partition.metrics.deliveries(.skipped).add(1)
            partition.ledger.complete(open.ticket)
            if let next = queues.close(open.id), let item = queues[next] { freed(item, now) }
        }
        hasUndecided = partitions.values.contains { !$0.undecided.isEmpty }
    }
}
