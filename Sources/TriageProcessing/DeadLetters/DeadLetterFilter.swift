public import TriageEvents

/// Which dead letters an operator means.
public struct DeadLetterFilter: Sendable, Hashable {
    /// Only those of this class.
    public var errorClass: ErrorClass?
    /// Only those of fingerprints that begin so: as many digits as tell them apart.
    public var fingerprint: String?
    /// Only those written at this time or later.
    public var since: Timestamp?
    /// Only those written before this time.
    public var until: Timestamp?
    /// Only those of this patient, which is the record's key.
    public var patient: ByteSlice?
    /// Only those of this group; those that name none are anybody's.
    public var group: String?
    /// Only those whose state is among these; nil for any.
    public var statuses: Set<DeadLetterState.Status>?

    /// Every dead letter.
    public init() {}

    /// Whether it lets a dead letter through, apart from its state.
    public func matches(_ letter: DeadLetter) -> Bool {
        if let errorClass, letter.errorClass != errorClass { return false }
        if let fingerprint, !letter.fingerprint.hasPrefix(fingerprint) { return false }
        if since != nil || until != nil {
            guard let written = letter.written else { return false }
            if let since, written < since { return false }
            if let until, written >= until { return false }
        }
        if let patient, letter.key != patient { return false }
        if let group, let own = letter.group, own != group { return false }
        return true
    }

    /// Whether it lets a state through; nil is that of a dead letter that nobody did anything about.
    public func matches(_ state: DeadLetterState?) -> Bool { statuses?.contains(state?.status ?? .open) ?? true }
}
