internal import Synchronization
public import TriageEvents

/// Counts dead letters by class and fingerprint: the driver of ``FingerprintSlots`` for `triage.dead_letters`.
///
/// It takes a lock, which a dead letter's acknowledged write dwarfs.
public final class DeadLetterCounter: Sendable {
    private let meter: Meter
    private let slots: Mutex<FingerprintSlots<SafeText>>

    /// A counter with series of `meter`.
    public init(meter: Meter, slots: FingerprintSlots<SafeText> = FingerprintSlots()) {
        self.meter = meter
        self.slots = Mutex(slots)
    }

    /// Makes the series `_other` of each class, so that dead letters are exported as 0 before there are any.
    ///
    /// - Parameters:
    ///   - destination: the origin topic.
    ///   - group: the consumer group.
    public func prepare(destination: SafeText, group: SafeText) {
        for errorClass in ErrorClass.allCases { _ = counter(destination, group, errorClass, "_other") }
    }

    /// One event was dead-lettered.
    ///
    /// - Parameters:
    ///   - destination: the origin topic.
    ///   - group: the consumer group.
    ///   - fingerprint: the error's, as in the header `triage-error-fingerprint`.
    ///   - context: the process span's, for an exemplar.
    public func count(
        destination: SafeText, group: SafeText, class errorClass: ErrorClass, fingerprint: SafeText,
        in context: TraceContext? = nil, at now: Timestamp
    ) {
        // The meter is called inside the lock: else a series could be removed after it was given out anew.
        slots.withLock { slots in
            var shown = fingerprint
            switch slots.use(fingerprint, at: now) {
            case .held, .given(freed: nil): break
            case .given(let freed?):
                meter.remove(.deadLetters) { attributes in
                    attributes.pairs.contains { $0.key == "triage.error.fingerprint" && $0.value == freed.text }
                }
            case .other: shown = "_other"
            }
            counter(destination, group, errorClass, shown).add(1, in: context, at: now)
        }
    }

    private func counter(
        _ destination: SafeText, _ group: SafeText, _ errorClass: ErrorClass, _ fingerprint: SafeText
    ) -> Counter {
        meter.counter(
            .deadLetters,
            [
                "messaging.destination.name": destination, "messaging.consumer.group.name": group,
                "triage.error.class": SafeText(errorClass), "triage.error.fingerprint": fingerprint,
            ])
    }
}
