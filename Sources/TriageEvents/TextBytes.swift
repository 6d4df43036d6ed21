/// Text that is put together as the bytes it is sent as: numbers and ids are written where they belong, without strings of
/// their own in between.
public struct TextBytes: Sendable {
    var bytes: [UInt8]

    /// No text, with room for `capacity` bytes.
    public init(capacity: Int = 0) {
        bytes = []
        bytes.reserveCapacity(capacity)
    }

    /// Bytes so far.
    public var count: Int { bytes.count }
    /// The text as bytes.
    public var slice: ByteSlice { ByteSlice(bytes) }
    /// The text.
    public var text: String { String(decoding: bytes, as: UTF8.self) }

    /// Appends text in UTF-8.
    public mutating func append(_ text: String) {
        let isDone: Void? = text.utf8.withContiguousStorageIfAvailable { bytes.append(contentsOf: $0) }
        if isDone == nil { bytes.append(contentsOf: text.utf8) }
    }

    /// Appends a literal.
    public mutating func append(_ text: StaticString) {
        bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// Appends bytes as they are.
    public mutating func append(_ slice: ByteSlice) { slice.withUnsafeBytes { bytes.append(contentsOf: $0) } }

    /// Calls `body` with the bytes so far; the pointer must not leave it.
    public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result { bytes.withUnsafeBytes(body) }

    /// Appends a number as eight bytes, the highest first.
    package mutating func append(bigEndian number: UInt64) {
        Swift.withUnsafeBytes(of: number.bigEndian) { bytes.append(contentsOf: $0) }
    }

    /// Appends one byte.
    @inline(__always)
    public mutating func append(byte: UInt8) { bytes.append(byte) }

    /// Appends a number in decimal.
    public mutating func append(_ number: Int64) {
        var magnitude = number.magnitude
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 20) { digits in
            var start = 20
            repeat {
                start -= 1
                digits.initializeElement(at: start, to: 0x30 &+ UInt8(truncatingIfNeeded: magnitude % 10))
                magnitude /= 10
            } while magnitude > 0
            if number < 0 {
                start -= 1
                digits.initializeElement(at: start, to: UInt8(ascii: "-"))
            }
            bytes.append(contentsOf: UnsafeBufferPointer(rebasing: digits[start...]))
        }
    }

    /// How many bytes a number takes in decimal.
    public static func count(of number: Int64) -> Int {
        var count = number < 0 ? 2 : 1
        var magnitude = number.magnitude
        while magnitude > 9 {
            magnitude /= 10
            count += 1
        }
        return count
    }

    /// Appends sixteen lower-case hexadecimal digits.
    public mutating func append(hexadecimal number: UInt64) {
        withUnsafeTemporaryAllocation(byteCount: 16, alignment: 1) { digits in
            Hex.write(number, to: digits, at: 0, digits: 16)
            bytes.append(contentsOf: digits)
        }
    }

    /// Appends `topic/partition/offset`.
    public mutating func append(_ position: RecordPosition) {
        append(position.topic)
        append(byte: UInt8(ascii: "/"))
        append(Int64(position.partition))
        append(byte: UInt8(ascii: "/"))
        append(position.offset)
    }

    /// Appends a `traceparent` value.
    public mutating func append(_ context: TraceContext) {
        append("00-" as StaticString)
        append(hexadecimal: context.traceID.high)
        append(hexadecimal: context.traceID.low)
        append(byte: UInt8(ascii: "-"))
        append(hexadecimal: context.spanID.value)
        append(byte: UInt8(ascii: "-"))
        append(byte: UInt8(ascii: "0"))
        append(byte: UInt8(ascii: "0") + context.flags.rawValue)
    }

    /// Appends ISO 8601 in UTC with milliseconds, such as `2026-11-22T10:00:00.123Z`.
    public mutating func append(iso8601 time: Timestamp) {
        let milliseconds = time.milliseconds
        var seconds = milliseconds / 1000
        var rest = milliseconds % 1000
        if rest < 0 {
            rest += 1000
            seconds -= 1
        }
        var days = seconds / 86_400
        var second = seconds % 86_400
        if second < 0 {
            second += 86_400
            days -= 1
        }
        let (year, month, day) = Timestamp.civil(days: days)
        pad(year, to: 4)
        append(byte: UInt8(ascii: "-"))
        pad(month, to: 2)
        append(byte: UInt8(ascii: "-"))
        pad(day, to: 2)
        append(byte: UInt8(ascii: "T"))
        pad(second / 3600, to: 2)
        append(byte: UInt8(ascii: ":"))
        pad(second / 60 % 60, to: 2)
        append(byte: UInt8(ascii: ":"))
        pad(second % 60, to: 2)
        append(byte: UInt8(ascii: "."))
        pad(rest, to: 3)
        append(byte: UInt8(ascii: "Z"))
    }

    /// With zeros before it, as many as it takes to be `width` wide.
    private mutating func pad(_ number: Int64, to width: Int) {
        var missing = width - TextBytes.count(of: number)
        while missing > 0 {
            append(byte: UInt8(ascii: "0"))
            missing -= 1
        }
        append(number)
    }
}

extension TextBytes {
    /// The number that `bytes` say in decimal, with or without a sign, as `Int64` reads text; nil if they say none.
    package static func decimal(_ bytes: UnsafeRawBufferPointer) -> Int64? {
        var index = 0
        let isNegative = bytes.first == UInt8(ascii: "-")
        if isNegative || bytes.first == UInt8(ascii: "+") { index = 1 }
        guard index < bytes.count else { return nil }
        var value: Int64 = 0
        while index < bytes.count {
            let digit = bytes[index] &- 0x30
            guard digit <= 9 else { return nil }
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            // Towards the sign, so that the least number is read as well.
            let (sum, overflowed) =
                isNegative ? product.subtractingReportingOverflow(Int64(digit)) : product.addingReportingOverflow(Int64(digit))
            guard !overflow, !overflowed else { return nil }
            value = sum
            index += 1
        }
        return value
    }
}

extension ByteSlice {
    /// The number that the bytes say in decimal, with or without a sign, as `Int64` reads text; nil if they say none.
    public var decimal: Int64? { withUnsafeBytes { TextBytes.decimal($0) } }

    /// Whether the bytes are exactly the UTF-8 of `text`.
    public func equals(_ text: String) -> Bool {
        guard text.utf8.count == count else { return false }
        let isEqual = text.utf8.withContiguousStorageIfAvailable { other in
            withUnsafeBytes { bytes in
                guard let a = bytes.baseAddress, let b = other.baseAddress else { return true }
                return triageEqualBytes(a, UnsafeRawPointer(b), bytes.count)
            }
        }
        return isEqual ?? elementsEqual(text.utf8)
    }

    /// Whether the bytes are text: valid UTF-8.
    public var isText: Bool {
        withUnsafeBytes { bytes in bytes.allSatisfy { $0 < 0x80 } } || utf8Text != nil
    }
}

extension RecordPosition {
    /// Parses the form that ``description`` writes; nil for anything else.
    ///
    /// - Parameter topic: a name that is likely to stand there: if it does, no other copy of it is made.
    public init?(_ bytes: ByteSlice, likely topic: String? = nil) {
        let parsed: (slash: Int, partition: Int32, offset: Int64)? = bytes.withUnsafeBytes { raw in
            guard let slash = raw.firstIndex(of: UInt8(ascii: "/")), slash > 0,
                let second = raw[(slash + 1)...].firstIndex(of: UInt8(ascii: "/")),
                let partition = RecordPosition.canonical(raw[(slash + 1)..<second]).flatMap({ Int32(exactly: $0) }),
                let offset = RecordPosition.canonical(raw[(second + 1)...])
            else { return nil }
            return (slash, partition, offset)
        }
        guard let parsed else { return nil }
        let name = bytes.subslice(0..<parsed.slash)
        if let topic, name.equals(topic) {
            self.init(topic: topic, partition: parsed.partition, offset: parsed.offset)
        } else if let topic = name.utf8Text {
            self.init(topic: topic, partition: parsed.partition, offset: parsed.offset)
        } else {
            return nil
        }
    }

    /// A number as it is written: digits only, and no zero before others, which would give one position two names.
    private static func canonical(_ digits: Slice<UnsafeRawBufferPointer>) -> Int64? {
        guard let first = digits.first, first != UInt8(ascii: "0") || digits.count == 1 else { return nil }
        var value: Int64 = 0
        for byte in digits {
            let digit = byte &- 0x30
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, overflowed) = product.addingReportingOverflow(Int64(digit))
            guard digit <= 9, !overflow, !overflowed else { return nil }
            value = sum
        }
        return value
    }
}

extension TraceID {
    /// Parses 32 lower-case hexadecimal digits at `offset`; nil for anything else. All-zero is let through.
    package init?(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        guard offset >= 0, offset + 32 <= bytes.count, let high = Hex.parse(bytes, offset, 16),
            let low = Hex.parse(bytes, offset + 16, 16)
        else { return nil }
        self.init(high: high, low: low)
    }
}

extension UInt64 {
    /// Parses sixteen lower-case hexadecimal digits at `offset` of `bytes`; nil for anything else.
    package init?(hexadecimal bytes: UnsafeRawBufferPointer, at offset: Int) {
        guard offset >= 0, offset + 16 <= bytes.count, let value = Hex.parse(bytes, offset, 16) else { return nil }
        self = value
    }
}
