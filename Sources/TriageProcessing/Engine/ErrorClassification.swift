public import TriageEvents
public import TriageTelemetry

/// An error that says itself what kind of failure it is. What a handler throws and does not classify is *system*.
public protocol ClassifiedError: Error {
    /// What kind of failure it is.
    var errorClass: ErrorClass { get }
    /// A code that may leave the process; part of the fingerprint.
    var code: SafeText? { get }
    /// When to try again, if the error knows; goes before the policy's delay.
    var retryAt: Timestamp? { get }
    /// What else there is to say, patient data included. It is asked for only where dead letters are sealed, and stands nowhere but in
    /// those; nil has them say how the error prints.
    var detail: String? { get }
}

extension ClassifiedError {
    /// No code.
    public var code: SafeText? { nil }
    /// No time.
    public var retryAt: Timestamp? { nil }
    /// Nothing but how it prints.
    public var detail: String? { nil }
}

/// An attempt took longer than its time-out: transient.
public struct AttemptTimeout: ClassifiedError {
    /// Transient.
    public var errorClass: ErrorClass { .transient }
    /// A time-out.
    public init() {}
}

/// Turns an error into what may be said about it.
public enum ErrorClassification {
    /// The failure that `error` stands for.
    public static func failure(_ error: any Error, step: StaticString) -> Failure {
        switch error {
        case let invalid as InvalidEvent:
            return Failure(
                .persistent, type: "InvalidEvent", code: SafeText(invalid.rule), step: step, path: safePath(invalid.path)
            )
        case let classified as any ClassifiedError:
            return Failure(
                classified.errorClass, type: typeName(error), code: classified.code ?? caseName(error), step: step,
                retryAt: classified.retryAt
            )
        case let broker as BrokerError:
            return Failure(
                broker.isRetriable ? .transient : .system, type: typeName(error), code: SafeText(codeName(broker.name)),
                step: step
            )
        default:
            return Failure(.system, type: typeName(error), code: caseName(error), step: step)
        }
    }

    /// The unqualified type name, cut to letters, digits, `_`, `.`, `<`, `>`: no private context, no address, no payload.
    static func typeName(_ error: any Error) -> SafeText {
        let name = String(describing: type(of: error))
        let kept = name.utf8.prefix { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "(") }.filter { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "<"),
                UInt8(ascii: ">"):
                true
            default: false
            }
        }
        let text = String(decoding: kept.prefix(80), as: UTF8.self)
        return text.isEmpty ? "_OTHER" : SafeText(vetted: text)
    }

    /// An enum's case: its name where the reflection has it, else the number the runtime gives it. Never a payload, which
    /// printing the error might show.
    static func caseName(_ error: any Error) -> SafeText? {
        // A mirror of the error's own making may name its children as it likes, after a patient even.
        if error is any CustomReflectable { return nil }
        let mirror = Mirror(reflecting: error)
        guard mirror.displayStyle == .enum else { return nil }
        if let label = mirror.children.first?.label { return SafeText(codeName(label)) }
        return "case \(error._code)"
    }

    /// Whether every error of this one's type stands for the same failure: it says nothing itself, and has no cases.
    static func isPlain(_ error: any Error) -> Bool {
        if error is InvalidEvent || error is any ClassifiedError || error is BrokerError { return false }
        return error is any CustomReflectable || Mirror(reflecting: error).displayStyle != .enum
    }

    private static func safePath(_ path: String) -> SafeText { SafeText(codeName(path)) }

    private static func codeName(_ text: String) -> String {
        String(
            text.utf8.prefix(120).compactMap { byte -> Character? in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x5F, 0x2E, 0x2D, 0x5B, 0x5D: Character(Unicode.Scalar(byte))
                default: nil
                }
            }
        )
    }
}

extension SafeText {
    fileprivate init(_ code: String) { self.init(vetted: code) }
}
