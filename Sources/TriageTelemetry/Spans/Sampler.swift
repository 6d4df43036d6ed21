public import TriageEvents

/// Decides at a span's start whether it is recorded and exported.
public indirect enum Sampler: Sendable, Hashable, CustomStringConvertible {
    /// Every span.
    case alwaysOn
    /// No span.
    case alwaysOff
    /// A share of the traces, from 0 to 1, chosen by the trace id.
    ///
    /// The rule of OpenTelemetry's Go and Python SDKs: the low eight bytes of the id, shifted right by one, below
    /// ratio · 2⁶³. The specification fixes none, so it belongs at roots, below ``parentBased(root:)``.
    case traceIDRatio(Double)
    /// As the parent was sampled; a root as `root` decides.
    case parentBased(root: Sampler)

    /// Whether a span of this trace with this parent is sampled.
    public func isSampled(parent: TraceContext?, traceID: TraceID) -> Bool {
        switch self {
        case .alwaysOn: return true
        case .alwaysOff: return false
        case .traceIDRatio(let ratio):
            if ratio >= 1 { return true }
            guard ratio > 0 else { return false }
            return traceID.low >> 1 < UInt64(ratio * 0x1p63)
        case .parentBased(let root):
            if let parent, parent.isValid { return parent.isSampled }
            return root.isSampled(parent: nil, traceID: traceID)
        }
    }

    /// As the SDKs print it, such as `ParentBased{root:AlwaysOnSampler}`; a ratio as a decimal number, without an exponent.
    public var description: String {
        switch self {
        case .alwaysOn: "AlwaysOnSampler"
        case .alwaysOff: "AlwaysOffSampler"
        case .traceIDRatio(let ratio): "TraceIdRatioBased{\(Sampler.decimal(ratio))}"
        case .parentBased(let root): "ParentBased{root:\(root)}"
        }
    }

    /// The shortest digits that tell the number from its neighbours, as Swift finds them, with their point in place.
    private static func decimal(_ number: Double) -> String {
        let parts = "\(number)".split(separator: "e", maxSplits: 1)
        guard parts.count == 2, let exponent = Int(parts[1]), exponent < 0, !parts[0].hasPrefix("-") else { return "\(number)" }
        let digits: String = parts[0].filter { $0 != "." }
        let zeros = String(repeating: "0", count: -exponent - 1)
        return "0.\(zeros)\(digits)"
    }
}
