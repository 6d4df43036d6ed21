import Triage

/// What happens to an event, by a function of (seed, origin, attempt) alone: every process and every run of the checks knows it.
///
/// `Tests/Integration/fault_verdict.py` has the same function.
struct FailurePlan: Sendable {
    /// A failure that nobody classified.
    struct Unclassified: Error {}

    let seed: UInt64

    /// FNV-1a over `seed/origin`, finished as splitmix64 does (both in the public domain).
    private func hash(_ origin: String) -> UInt64 {
        var state: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in "\(seed)/\(origin)".utf8 { state = (state ^ UInt64(byte)) &* 0x100_0000_01B3 }
        state = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
        state = (state ^ (state >> 27)) &* 0x94D0_49BB_1331_11EB
        return state ^ (state >> 31)
    }

    /// Succeeds by returning.
    func perform(origin: String, attempt: Int) async throws {
        let hash = hash(origin)
        let detail = Int(hash >> 32 & 0xFFFF)
        switch hash % 1000 {
        case 0..<10:
            if detail % 2 == 0 { try await Task.sleep(for: .milliseconds(detail % 20)) }
            throw RejectedError("refused")
        case 10..<20: throw RetryableError("always")
        case 20..<55: if attempt <= 1 + detail % 3 { throw RetryableError("again") }
        case 55..<60: if attempt == 1 { throw RetryableError("busy", after: .milliseconds(100 + detail % 400)) }
        case 60..<65: if attempt == 1 { throw Unclassified() }
        // Until its time-out, where there is one.
        case 65..<67: if attempt == 1 { try await Task.sleep(for: .seconds(5)) }
        case 67..<80: try await Task.sleep(for: .milliseconds(100 + detail % 200))
        case 80..<200: try await Task.sleep(for: .milliseconds(1 + detail % 10))
        default: break
        }
    }
}
