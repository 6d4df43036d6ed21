public import TriageEvents

/// Dead letters by fingerprint: how many, since when, of how many patients. Values in, figures out, in bounded memory.
public struct DeadLetterGroups: Sendable {
    /// Dead letters of one fingerprint.
    public struct Group: Sendable {
        /// Sixteen hexadecimal digits.
        public let fingerprint: String
        /// Whose headers they carry.
        public let dialect: DeadLetterDialect
        /// The failures' class; nil if they don't say.
        public let errorClass: ErrorClass?
        /// What the error is called; nil if nothing safe is said.
        public let error: String?
        /// How many there are.
        public internal(set) var count = 0
        /// When the first one was written.
        public internal(set) var firstSeen: Timestamp?
        /// When the last one was written.
        public internal(set) var lastSeen: Timestamp?
        /// How many by the topic that the events came from.
        public internal(set) var topics: [String: Int] = [:]
        /// The newest one.
        public internal(set) var example: RecordPosition
        var patients = DistinctCount()

        /// How many different keys they have: exact up to ``DistinctCount/exactLimit``, else within some per cent.
        public var distinctPatients: Int { patients.count }
        /// Whether ``distinctPatients`` is an estimate.
        public var isEstimated: Bool { patients.isEstimated }
    }

    /// Fingerprints that are told apart; what comes beyond counts in ``others``.
    public static let maximumGroups = 10_000

    private var byFingerprint: [String: Group] = [:]
    /// Dead letters of fingerprints beyond the first ``maximumGroups``.
    public private(set) var others = 0
    /// All that was counted.
    public private(set) var total = 0

    /// Nothing counted yet.
    public init() {}

    /// Counts a dead letter.
    public mutating func add(_ letter: DeadLetter) {
        total += 1
        if byFingerprint[letter.fingerprint] == nil {
            guard byFingerprint.count < DeadLetterGroups.maximumGroups else {
                others += 1
                return
            }
            byFingerprint[letter.fingerprint] = Group(
                fingerprint: letter.fingerprint, dialect: letter.dialect, errorClass: letter.errorClass, error: letter.error,
                example: letter.position)
        }
        byFingerprint[letter.fingerprint]?.add(letter)
    }

    /// The groups, the largest first; of equal ones the one that was seen last.
    public var groups: [Group] {
        byFingerprint.values.sorted { left, right in
            if left.count != right.count { return left.count > right.count }
            if left.lastSeen != right.lastSeen { return left.lastSeen ?? .distantPast > right.lastSeen ?? .distantPast }
            return left.fingerprint < right.fingerprint
        }
    }
}

extension DeadLetterGroups.Group {
    mutating func add(_ letter: DeadLetter) {
        count += 1
        if let written = letter.written {
            firstSeen = min(firstSeen ?? written, written)
            if written >= lastSeen ?? .distantPast {
                lastSeen = written
                example = letter.position
            }
        }
        let topic = letter.origin?.topic ?? TopicName.main(of: letter.position.topic)
        // A header names it: more than a handful are made up.
        if topics[topic] != nil || topics.count < 20 { topics[topic, default: 0] += 1 }
        if let key = letter.key { patients.insert(key.hash64(seed: 0x9E37_79B9_7F4A_7C15)) }
    }
}

extension Timestamp {
    fileprivate static var distantPast: Timestamp { Timestamp(nanoseconds: .min) }
}

/// How many different hashes were inserted: exact while there are few, then estimated.
///
/// HyperLogLog with 4,096 registers, whose standard error is 1.04 / √4096 = 1.6 % (Flajolet, Fusy, Gandouet, Meunier:
/// HyperLogLog, 2007, §1); below 2.5 registers' worth linear counting, as there (§4).
public struct DistinctCount: Sendable {
    /// Up to here each hash is kept.
    public static let exactLimit = 4096
    private static let bits = 12

    private var exact: Set<UInt64> = []
    private var registers: [UInt8] = []

    /// Nothing inserted.
    public init() {}

    /// Whether ``count`` is an estimate.
    public var isEstimated: Bool { !registers.isEmpty }

    /// Counts a hash, whose 64 bits are as good as random.
    public mutating func insert(_ hash: UInt64) {
        guard registers.isEmpty else {
            note(hash)
            return
        }
        exact.insert(hash)
        guard exact.count > DistinctCount.exactLimit else { return }
        registers = Array(repeating: 0, count: 1 << DistinctCount.bits)
        for hash in exact { note(hash) }
        exact = []
    }

    private mutating func note(_ hash: UInt64) {
        let index = Int(hash >> UInt64(64 - DistinctCount.bits))
        let rank = UInt8(min(64 - DistinctCount.bits, (hash << UInt64(DistinctCount.bits)).leadingZeroBitCount) + 1)
        registers[index] = max(registers[index], rank)
    }

    /// How many different ones there were.
    public var count: Int {
        guard isEstimated else { return exact.count }
        let size = Double(registers.count)
        var sum = 0.0
        var zeros = 0
        for register in registers {
            sum += 1 / Double(1 << UInt64(register))
            if register == 0 { zeros += 1 }
        }
        let estimate = 0.7213 / (1 + 1.079 / size) * size * size / sum
        if estimate <= 2.5 * size, zeros > 0 { return Int((size * logarithm(size / Double(zeros))).rounded()) }
        return Int(estimate.rounded())
    }

    /// The natural logarithm of a number from 1 to 4,096, by its series for the mantissa: this room has no C library.
    private func logarithm(_ value: Double) -> Double {
        let mantissa = value.significand
        let ratio = (mantissa - 1) / (mantissa + 1)
        var term = ratio
        var sum = 0.0
        for power in stride(from: 1, through: 41, by: 2) {
            sum += term / Double(power)
            term *= ratio * ratio
        }
        return 2 * sum + Double(value.exponent) * 0.693_147_180_559_945_3
    }
}
