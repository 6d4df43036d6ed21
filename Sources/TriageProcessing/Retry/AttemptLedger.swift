public import TriageEvents

/// The header `triage-attempts`: one entry for each failed attempt of an event, bounded, first and last kept.
///
/// An entry is `time,class,fingerprint,trace,span` with the time in epoch milliseconds; entries are joined by `;`.
/// Where entries were dropped to stay within the bound, `~` and their number stand in their place.
public struct AttemptLedger: Sendable, Hashable {
    /// Bytes that the header's value has at most (design §2).
    public static let maximumBytes = 2048

    /// One failed attempt.
    public struct Entry: Sendable, Hashable {
        /// When it failed.
        public let time: Timestamp
        /// The failure's class.
        public let errorClass: ErrorClass
        /// The failure's fingerprint.
        public let fingerprint: String
        /// The attempt's span; of the process span where there was no attempt.
        public let traceID: TraceID
        /// The attempt's span; of the process span where there was no attempt.
        public let spanID: SpanID

        /// A failed attempt.
        public init(time: Timestamp, errorClass: ErrorClass, fingerprint: String, traceID: TraceID, spanID: SpanID) {
            self.time = time
            self.errorClass = errorClass
            self.fingerprint = fingerprint
            self.traceID = traceID
            self.spanID = spanID
        }

        var text: String { "\(time.milliseconds),\(errorClass.rawValue),\(fingerprint),\(traceID),\(spanID)" }

        init?(_ text: Substring) {
            let parts = text.split(separator: ",", omittingEmptySubsequences: false)
            guard parts.count == 5, let time = Int64(parts[0]), let errorClass = ErrorClass(rawValue: String(parts[1])),
                parts[2].utf8.count == 16, parts[2].utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }),
                let traceID = Entry.traceID(parts[3]), let spanID = Entry.spanID(parts[4])
            else { return nil }
            self.init(
                time: Timestamp(milliseconds: time), errorClass: errorClass, fingerprint: String(parts[2]), traceID: traceID,
                spanID: spanID
            )
        }

        /// The id, or the all-zero one, which is written where nothing is traced.
        private static func traceID(_ text: Substring) -> TraceID? {
            TraceID(String(text)) ?? (text == String(repeating: "0", count: 32) ? TraceID(high: 0, low: 0) : nil)
        }

        private static func spanID(_ text: Substring) -> SpanID? {
            SpanID(String(text)) ?? (text == String(repeating: "0", count: 16) ? SpanID(0) : nil)
        }
    }

    /// The entries that are kept, in order.
    public private(set) var entries: [Entry] = []
    /// Entries dropped behind the first.
    public private(set) var dropped = 0

    /// No attempts.
    public init() {}

    /// Reads the header's text; what can't be read is left out, since the header may come from anywhere, and what is beyond
    /// the bound is dropped as it would have been when it was written.
    public init(_ text: String) {
        for part in text.split(separator: ";") {
            if part.first == "~" {
                let count = max(0, Int(part.dropFirst()) ?? 0)
                dropped = dropped.addingReportingOverflow(count).overflow ? .max : dropped + count
            } else if let entry = Entry(part) {
                append(entry)
            }
        }
        trim()
    }

    /// The last attempt's context, to be linked to; nil if it wasn't traced.
    public var last: TraceContext? {
        guard let entry = entries.last, entry.traceID.isValid, entry.spanID.isValid else { return nil }
        return TraceContext(traceID: entry.traceID, spanID: entry.spanID, flags: .sampled, isRemote: true)
    }

    /// Adds an attempt; when the text would grow beyond the bound, the second entry goes.
    public mutating func append(_ entry: Entry) {
        entries.append(entry)
        trim()
    }

    private mutating func trim() {
        while entries.count > 2, text.utf8.count > AttemptLedger.maximumBytes {
            entries.remove(at: 1)
            if dropped < .max { dropped += 1 }
        }
    }

    /// The header's text.
    public var text: String {
        var parts = entries.map(\.text)
        if dropped > 0, !parts.isEmpty { parts.insert("~\(dropped)", at: 1) }
        return parts.joined(separator: ";")
    }
}
