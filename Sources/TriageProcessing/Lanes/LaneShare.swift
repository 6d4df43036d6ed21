internal import TriageEvents

/// How much of what may be in flight one patient may take before its partition isn't fetched from (design §3: other patients
/// are not held up).
///
/// A quarter: a patient whose handler is slow or hangs leaves room for those of other partitions.
struct LaneShare: Equatable {
    /// The part of what may be in flight.
    static let part = 4

    /// Records that may wait in a lane.
    let records: Int
    /// Bytes that may.
    let bytes: Int

    init(maximumRecords: Int, maximumBytes: Int) {
        records = max(1, maximumRecords / LaneShare.part)
        bytes = max(1, maximumBytes / LaneShare.part)
    }

    /// Whether so many records are a lane's share. Its bytes aren't counted: as if all were as large as the one that came.
    @inline(__always)
    func isTaken(by count: Int, of size: Int) -> Bool { count >= records || count &* size >= bytes }
}

extension Engine {
    /// Lets partitions go on whose crowded lane has halved. Also when an outage's probe needs an event that hasn't failed yet:
    /// those that wait in the lane stand behind one that has.
    func easeCrowds() {
        for partition in partitions.values {
            guard let crowd = partition.crowd, wantsFresh || lanes.count(behind: crowd.lane) <= crowd.rest else { continue }
            partition.crowd = nil
            holdBack(partition)
        }
    }
}
