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

    /// As the SDKs print it, such as `ParentBased{root:AlwaysOnSampler}`.
    public var description: String {
        switch self {
        case .alwaysOn: "AlwaysOnSampler"
        case .alwaysOff: "AlwaysOffSampler"
        case .traceIDRatio(let ratio): "TraceIdRatioBased{\(ratio)}"
        case .parentBased(let root): "ParentBased{root:\(root)}"
        }
    }
}
