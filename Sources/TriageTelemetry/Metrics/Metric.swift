/// The kinds of instruments (specification, metrics/api).
public enum Instrument: String, Sendable, CaseIterable {
    /// Only grows.
    case counter
    /// Grows and shrinks.
    case upDownCounter
    /// The last value counts.
    case gauge
    /// A distribution over explicit buckets.
    case histogram
}

/// The definition of a metric: one row of the catalogue.
public struct Metric: Sendable, Hashable {
    /// The OpenTelemetry name, such as `messaging.process.duration`.
    public let name: String
    /// The instrument.
    public let instrument: Instrument
    /// The unit in UCUM, such as `s` or `{event}`.
    public let unit: String
    /// One sentence on what it measures.
    public let help: String
    /// The keys that its points may have.
    public let attributes: [String]
    /// Upper bounds of the buckets of a histogram, ascending; empty for other instruments.
    public let boundaries: [Double]

    /// A row of the catalogue.
    public init(
        _ name: String, _ instrument: Instrument, unit: String, _ help: String, attributes: [String] = [],
        boundaries: [Double] = []
    ) {
        self.name = name
        self.instrument = instrument
        self.unit = unit
        self.help = help
        self.attributes = attributes
        self.boundaries = boundaries
    }
}

/// The attributes of a metric point, sorted by key; values are vetted text, so no payload gets in by accident.
public struct MetricAttributes: Sendable, Hashable, ExpressibleByDictionaryLiteral {
    /// Pairs in ascending order of their keys.
    public let pairs: [Pair]

    /// A key and a value.
    public struct Pair: Sendable, Hashable {
        /// The key, such as `messaging.destination.name`.
        public let key: String
        /// The value.
        public let value: String
    }

    /// These attributes; the last of several with one key counts.
    public init(_ pairs: [(StaticString, SafeText)]) {
        var byKey: [String: String] = [:]
        for (key, value) in pairs { byKey[key.description] = value.text }
        self.pairs = byKey.sorted { $0.key < $1.key }.map { Pair(key: $0.key, value: $0.value) }
    }

    /// These attributes.
    public init(dictionaryLiteral elements: (StaticString, SafeText)...) { self.init(elements) }
}
