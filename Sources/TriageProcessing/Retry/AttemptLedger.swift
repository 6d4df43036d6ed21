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

        /// Bytes of its text.
        var count: Int { TextBytes.count(of: time.milliseconds) + errorClass.rawValue.utf8.count + fingerprint.utf8.count + 52 }

        func write(to text: inout TextBytes) {
            let comma = UInt8(ascii: ",")
            text.append(time.milliseconds)
            text.append(byte: comma)
            text.append(errorClass.rawValue)
            text.append(byte: comma)
            text.append(fingerprint)
            text.append(byte: comma)
            text.append(hexadecimal: traceID.high)
            text.append(hexadecimal: traceID.low)
            text.append(byte: comma)
            text.append(hexadecimal: spanID.value)
        }

        var text: String {
            var text = TextBytes(capacity: count)
            write(to: &text)
            return text.text
        }

        /// The all-zero ids are written where nothing is traced.
        init?(_ bytes: UnsafeRawBufferPointer) {
            let comma = UInt8(ascii: ",")
            // What stands behind the class has a fixed length: fingerprint, trace and span id, and two commas between.
            let tail = bytes.count - 66
            guard tail > 2, let first = bytes.prefix(21).firstIndex(of: comma), first < tail - 1,
                bytes[tail - 1] == comma, bytes[tail + 16] == comma, bytes[tail + 49] == comma,
                let time = TextBytes.decimal(UnsafeRawBufferPointer(rebasing: bytes[..<first])),
                let errorClass = Entry.errorClass(UnsafeRawBufferPointer(rebasing: bytes[(first + 1)..<(tail - 1)])),
                UInt64(hexadecimal: bytes, at: tail) != nil, let trace = TraceID(bytes, at: tail + 17),
                let span = UInt64(hexadecimal: bytes, at: tail + 50)
            else { return nil }
            self.init(
                time: Timestamp(milliseconds: time), errorClass: errorClass,
                fingerprint: String(decoding: bytes[tail..<(tail + 16)], as: UTF8.self), traceID: trace, spanID: SpanID(span))
        }

        private static func errorClass(_ name: UnsafeRawBufferPointer) -> ErrorClass? {
            switch name.count {
            case 6: name.elementsEqual("system".utf8) ? .system : nil
            case 9: name.elementsEqual("transient".utf8) ? .transient : nil
            case 10: name.elementsEqual("persistent".utf8) ? .persistent : nil
            default: nil
            }
        }
    }

    /// The entries that are kept, in order.
    public private(set) var entries: [Entry] = []
    private static let maximumDropped = Int(EventHistory.maximumRetries)

    /// Entries dropped behind the first; what a header says beyond 1,000,000 counts as that, so that it can be added to.
    public private(set) var dropped = 0

    /// No attempts.
    public init() {}

    /// Reads the header's text; what can't be read is left out, since the header may come from anywhere, and what is beyond
    /// the bound is dropped as it would have been when it was written.
    public init(_ text: String) { self.init(ByteSlice(text)) }

    /// The same from the header's bytes.
    public init(_ bytes: ByteSlice) {
        bytes.withUnsafeBytes { all in
            AttemptLedger.forEachPart(of: all) { part in
                if part.first == UInt8(ascii: "~") {
                    let said = max(0, TextBytes.decimal(UnsafeRawBufferPointer(rebasing: part[1...])) ?? 0)
                    dropped = min(AttemptLedger.maximumDropped, dropped + min(AttemptLedger.maximumDropped, Int(clamping: said)))
                } else if let entry = Entry(part) {
                    append(entry)
                }
                return true
            }
        }
        trim()
    }

    /// Whether the header's bytes tell of an attempt.
    static func hasEntry(_ bytes: ByteSlice) -> Bool {
        var isFound = false
        bytes.withUnsafeBytes { all in
            forEachPart(of: all) { part in
                isFound = Entry(part) != nil
                return !isFound
            }
        }
        return isFound
    }

    /// Calls `body` with what stands between semicolons, until it says false.
    private static func forEachPart(of bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Bool) {
        var start = 0
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: UInt8(ascii: ";")) ?? bytes.count
            guard body(UnsafeRawBufferPointer(rebasing: bytes[start..<end])) else { return }
            start = end + 1
        }
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
        guard entries.count > 2 else { return }
        var size = count
        while entries.count > 2, size > AttemptLedger.maximumBytes {
            size -= droppedCount + entries[1].count + 1
            entries.remove(at: 1)
            dropped = min(AttemptLedger.maximumDropped, dropped + 1)
            size += droppedCount
        }
    }

    /// Bytes of the header's text.
    private var count: Int { entries.reduce(max(0, entries.count - 1)) { $0 + $1.count } + (entries.isEmpty ? 0 : droppedCount) }

    /// Bytes of what tells how many were dropped.
    private var droppedCount: Int { dropped > 0 ? 2 + TextBytes.count(of: Int64(dropped)) : 0 }

    /// Appends the header's text.
    public func write(to text: inout TextBytes) {
        for (index, entry) in entries.enumerated() {
            if index > 0 { text.append(byte: UInt8(ascii: ";")) }
            entry.write(to: &text)
            guard index == 0, dropped > 0 else { continue }
            text.append(";~" as StaticString)
            text.append(Int64(dropped))
        }
    }

    /// The header's text.
    public var text: String {
        var text = TextBytes(capacity: count)
        write(to: &text)
        return text.text
    }
}
