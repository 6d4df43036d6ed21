public import TriageEvents

extension DeadLetter {
    /// What two copies share, under the group that their states are kept under.
    public func identity(keptUnder key: DeadLetterKey) -> Identity { identity(in: key.group) }
}

/// ``DeadLetterStates/state(of:group:)`` for whoever keeps so many dead letters that of each only these parts are kept.
extension DeadLetterStates {
    /// What became of the dead letter of a key, or of a copy of it; nil if nothing was done about it that is known under its group.
    ///
    /// - Parameters:
    ///   - key: ``DeadLetterKey/init(_:group:)``.
    ///   - identity: ``DeadLetter/identity(keptUnder:)``.
    public func state(_ key: DeadLetterKey, copies identity: DeadLetter.Identity) -> DeadLetterState? {
        let own = self[key]
        if let own, own.status != .replayed { return own }
        let copy = copy(of: identity).flatMap { self[$0] }
        guard let own else { return copy }
        // How a replay ended is told of the copy that was replayed.
        if let copy, own.isOvertaken(by: copy) { return copy }
        return own
    }

    /// What became of dead letters that others wrote, under any group: they may have been replayed to another one than is given now.
    /// Of several states of one place the one that was set last. One pass over all states.
    public func states(at places: Set<RecordPosition>) -> [RecordPosition: DeadLetterState] {
        guard !places.isEmpty else { return [:] }
        var found: [RecordPosition: DeadLetterState] = [:]
        forEach { key, state in
            if places.contains(key.position), found[key.position].map({ $0.time < state.time }) ?? true {
                found[key.position] = state
            }
            return true
        }
        return found
    }
}
