internal import TriageEvents

/// Tells whether a delete was captured already under another event id: servers such as Aidbox notify deletes without a version, and
/// have one in their history.
///
/// The two are the same if they happened at the same time, as far as both say when, and nothing else of the Patient was captured in
/// between. In doubt they are two: told twice is better than not at all. A pure machine; of more than ``capacity`` Patients the oldest
/// are forgotten.
struct DeleteMemory: Sendable {
    /// A delete as one of the two told it.
    struct Delete: Sendable, Hashable {
        /// The Patient's id. Patient data.
        var patient: ByteSlice
        /// Whether the history told it; else a notification.
        var isHistory: Bool
        var hasVersion: Bool
        /// When it happened, if that is told.
        var happened: Timestamp?
        /// When it was taken in.
        var taken: Timestamp
    }

    /// How far the times of one delete may be apart, and clocks of two machines.
    static let tolerance: Duration = .seconds(5)

    /// Patients whose delete is remembered.
    let capacity: Int
    private var deletes: [ByteSlice: Delete] = [:]
    private var order: [ByteSlice] = []
    private var oldest = 0

    /// A memory for this many Patients, at least one.
    init(capacity: Int = 10_000) { self.capacity = max(1, capacity) }

    /// Whether the other of the two has told this delete, which is forgotten then: the next one is another.
    mutating func takes(_ delete: Delete) -> Bool {
        guard let known = deletes[delete.patient], known.isHistory != delete.isHistory,
            !(known.hasVersion && delete.hasVersion), DeleteMemory.areSame(known, delete)
        else { return false }
        deletes[delete.patient] = nil
        return true
    }

    private static func areSame(_ known: Delete, _ delete: Delete) -> Bool {
        if let first = known.happened, let second = delete.happened {
            return first <= second + tolerance && second <= first + tolerance
        }
        // A notification that doesn't say when may be of a later delete than the history told; the other way round it was before it came.
        guard delete.isHistory else { return false }
        return delete.happened.map { $0 <= known.taken + tolerance } ?? true
    }

    /// A delete was captured.
    mutating func captured(_ delete: Delete) {
        // The bytes lie in a request's body, which would be kept with them.
        let patient = ByteSlice(Array(delete.patient))
        var delete = delete
        delete.patient = patient
        guard deletes.updateValue(delete, forKey: patient) == nil else { return }
        if order.count < capacity {
            order.append(patient)
        } else {
            if order[oldest] != patient { deletes[order[oldest]] = nil }
            order[oldest] = patient
            oldest = (oldest + 1) % capacity
        }
    }

    /// The Patient was created or updated.
    mutating func changed(_ patient: ByteSlice) { deletes[patient] = nil }
}
