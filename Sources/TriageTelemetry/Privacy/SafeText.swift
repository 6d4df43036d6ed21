/// Text that may leave the process: made of literals, numbers and enum cases only, so that no payload can be in it (design §6).
///
/// Write `"attempt \(3) failed: \(code)"` as with any string; only integers, floating-point numbers, static strings, other
/// safe texts and cases of string enums can be interpolated. Anything else doesn't compile.
public struct SafeText: Sendable, Hashable, ExpressibleByStringInterpolation, CustomStringConvertible {
    /// The text.
    public let text: String

    /// Text that the caller has vetted: a name from the configuration, a code of a closed vocabulary. Never from a record.
    package init(vetted text: String) { self.text = text }

    /// A literal.
    public init(stringLiteral value: StaticString) { text = value.description }

    /// A literal with safe parts in it.
    public init(stringInterpolation: Interpolation) { text = stringInterpolation.text }

    /// A string enum's case: the vocabulary is closed, so its raw values are literals of the source.
    public init<Case: RawRepresentable & CaseIterable>(_ value: Case) where Case.RawValue == String { text = value.rawValue }

    /// The text.
    public var description: String { text }

    /// Collects the parts of an interpolated literal.
    public struct Interpolation: StringInterpolationProtocol {
        var text = ""

        /// Begins an interpolation.
        public init(literalCapacity: Int, interpolationCount: Int) {
            text.reserveCapacity(literalCapacity + interpolationCount * 4)
        }
        /// Appends a literal part.
        public mutating func appendLiteral(_ literal: StaticString) { text += literal.description }
        /// Appends an integer.
        public mutating func appendInterpolation(_ value: some BinaryInteger) { text += String(value) }
        /// Appends a floating-point number.
        public mutating func appendInterpolation(_ value: Double) { text += String(value) }
        /// Appends a static string.
        public mutating func appendInterpolation(_ value: StaticString) { text += value.description }
        /// Appends a safe text.
        public mutating func appendInterpolation(_ value: SafeText) { text += value.text }
        /// Appends the raw value of a string enum's case.
        public mutating func appendInterpolation<Case: RawRepresentable & CaseIterable>(_ value: Case)
        where Case.RawValue == String {
            text += value.rawValue
        }
    }
}
