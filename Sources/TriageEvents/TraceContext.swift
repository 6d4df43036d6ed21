/// A W3C trace id: 16 bytes, valid if not all zero.
public struct TraceID: Hashable, Sendable, CustomStringConvertible {
    /// The first eight bytes, big-endian.
    public let high: UInt64
    /// The last eight bytes, big-endian.
    public let low: UInt64

    /// The id with these halves.
    @inlinable
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Parses 32 lower-case hexadecimal digits; nil for anything else and for the all-zero id.
    public init?(_ text: String) {
        let id: TraceID? = ByteSlice(text).withUnsafeBytes { bytes in
            guard bytes.count == 32, let high = Hex.parse(bytes, 0, 16), let low = Hex.parse(bytes, 16, 16) else { return nil }
            return TraceID(high: high, low: low)
        }
        guard let id, id.isValid else { return nil }
        self = id
    }

    /// Whether any byte is set.
    public var isValid: Bool { high | low != 0 }

    /// 32 lower-case hexadecimal digits.
    public var description: String { Hex.text(high) + Hex.text(low) }
}

/// A W3C parent id, OpenTelemetry's span id: 8 bytes, valid if not all zero.
public struct SpanID: Hashable, Sendable, CustomStringConvertible {
    /// The eight bytes, big-endian.
    public let value: UInt64

    /// The id with these bytes.
    @inlinable
    public init(_ value: UInt64) { self.value = value }

    /// Parses 16 lower-case hexadecimal digits; nil for anything else and for the all-zero id.
    public init?(_ text: String) {
        let value: UInt64? = ByteSlice(text).withUnsafeBytes { $0.count == 16 ? Hex.parse($0, 0, 16) : nil }
        guard let value, value != 0 else { return nil }
        self.init(value)
    }

    /// Whether any byte is set.
    public var isValid: Bool { value != 0 }

    /// 16 lower-case hexadecimal digits.
    public var description: String { Hex.text(value) }
}

/// The W3C trace flags that are defined; others are ignored on input and sent as 0 (Trace Context level 2, §3.2.2.5).
public struct TraceFlags: OptionSet, Hashable, Sendable {
    /// The flag byte.
    public let rawValue: UInt8

    /// The flags of this byte; bits beyond the two defined ones are dropped.
    public init(rawValue: UInt8) { self.rawValue = rawValue & 0x03 }

    /// The caller may have recorded the trace.
    public static let sampled = TraceFlags(rawValue: 0x01)
    /// The right-most seven bytes of the trace id are uniformly random.
    public static let random = TraceFlags(rawValue: 0x02)
}

/// What W3C Trace Context carries from one span to the next: ids, flags and the vendors' `tracestate`.
public struct TraceContext: Hashable, Sendable {
    /// The trace.
    public let traceID: TraceID
    /// The span whose context this is.
    public let spanID: SpanID
    /// Sampled and random flags.
    public let flags: TraceFlags
    /// The validated `tracestate`, nil if there is none.
    public let traceState: TraceState?
    /// Whether it came from another process.
    public let isRemote: Bool

    /// A context of these parts.
    @inline(__always)
    public init(traceID: TraceID, spanID: SpanID, flags: TraceFlags, traceState: TraceState? = nil, isRemote: Bool = false) {
        self.traceID = traceID
        self.spanID = spanID
        self.flags = flags
        self.traceState = traceState
        self.isRemote = isRemote
    }

    /// Whether both ids are valid.
    public var isValid: Bool { traceID.isValid && spanID.isValid }
    /// Whether the sampled flag is set.
    public var isSampled: Bool { flags.contains(.sampled) }

    /// Parses a `traceparent` value (W3C Trace Context §3.2); nil for what the specification says to ignore.
    ///
    /// Version 00 must be exactly 55 bytes; a higher version needs at least these and a `-` behind them if it is longer;
    /// version ff, upper-case digits and all-zero ids are invalid. Spaces and tabs around the value are tolerated.
    public init?(traceparent: ByteSlice, traceState: TraceState? = nil, isRemote: Bool = true) {
        let parsed: (UInt64, UInt64, UInt64, UInt8)? = traceparent.withUnsafeBytes { raw in
            var start = 0
            var end = raw.count
            while start < end, raw[start] == 0x20 || raw[start] == 0x09 { start += 1 }
            while end > start, raw[end - 1] == 0x20 || raw[end - 1] == 0x09 { end -= 1 }
            let bytes = UnsafeRawBufferPointer(rebasing: raw[start..<end])
            let dash = UInt8(ascii: "-")
            guard bytes.count >= 55, bytes[2] == dash, bytes[35] == dash, bytes[52] == dash,
                let version = Hex.parse(bytes, 0, 2), version != 0xFF,
                version == 0 ? bytes.count == 55 : bytes.count == 55 || bytes[55] == dash,
                let high = Hex.parse(bytes, 3, 16), let low = Hex.parse(bytes, 19, 16), high | low != 0,
                let span = Hex.parse(bytes, 36, 16), span != 0,
                let flags = Hex.parse(bytes, 53, 2)
            else { return nil }
            return (high, low, span, UInt8(truncatingIfNeeded: flags))
        }
        guard let (high, low, span, flags) = parsed else { return nil }
        self.init(
            traceID: TraceID(high: high, low: low), spanID: SpanID(span), flags: TraceFlags(rawValue: flags),
            traceState: traceState, isRemote: isRemote
        )
    }

    /// The context that a record's headers carry, or nil.
    ///
    /// The last `traceparent` counts (a writer that appends leaves the newest at the end); several `tracestate` headers
    /// are joined in order (RFC 9110 §5.3). A bad `tracestate` is dropped, the `traceparent` still used.
    public init?(headers: Headers) {
        guard let traceparent = headers.last(HeaderName.traceparent) else { return nil }
        var state: TraceState?
        // Null ones count as absent, the last as well as any other.
        if headers.contains(HeaderName.tracestate) {
            var states: [ByteSlice] = []
            headers.forEachEntry { entry in
                if entry.name.equals(HeaderName.tracestate), let value = entry.value { states.append(value) }
            }
            state = TraceState(joining: states)
        }
        self.init(traceparent: traceparent, traceState: state)
    }

    /// The `traceparent` value: always version 00, lower case, only the defined flag bits (55 bytes).
    public var traceparent: ByteSlice {
        ByteSlice(count: 55) { target in
            let dash = UInt8(ascii: "-")
            target[0] = UInt8(ascii: "0")
            target[1] = UInt8(ascii: "0")
            target[2] = dash
            Hex.write(traceID.high, to: target, at: 3, digits: 16)
            Hex.write(traceID.low, to: target, at: 19, digits: 16)
            target[35] = dash
            Hex.write(spanID.value, to: target, at: 36, digits: 16)
            target[52] = dash
            Hex.write(UInt64(flags.rawValue), to: target, at: 53, digits: 2)
        }
    }

    /// Whether `value`, which this context was read from, is what ``traceparent`` would say.
    package func isWritten(as value: ByteSlice) -> Bool {
        value.count == 55
            && value.withUnsafeBytes { bytes in
                bytes[0] == UInt8(ascii: "0") && bytes[1] == UInt8(ascii: "0") && bytes[53] == UInt8(ascii: "0")
                    && bytes[54] == UInt8(ascii: "0") + flags.rawValue
            }
    }

    /// The headers that inject this context: `traceparent`, and `tracestate` (nil removes a stale one).
    ///
    /// Empty for an invalid context, which injects nothing.
    public var injectedHeaders: [Header] {
        guard isValid else { return [] }
        return [
            Header("traceparent", traceparent),
            Header("tracestate", traceState.map { ByteSlice($0.text) }),
        ]
    }
}

/// A validated W3C `tracestate` list.
public struct TraceState: Hashable, Sendable {
    /// The list as it is sent on: members joined by `,` without spaces around them.
    public let text: String

    /// Parses a `tracestate` value; nil if it is empty or breaks the grammar (Trace Context §3.3), or has more than 32 members.
    public init?(_ text: String) { self.init(joining: [ByteSlice(text)]) }

    /// Parses several header values, joined in order.
    public init?(joining values: [ByteSlice]) {
        var members: [String] = []
        for value in values {
            let bytes = Array(value)
            for part in bytes.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: true) {
                var part = part
                while let first = part.first, first == 0x20 || first == 0x09 { part = part.dropFirst() }
                while let last = part.last, last == 0x20 || last == 0x09 { part = part.dropLast() }
                if part.isEmpty { continue }
                guard TraceState.isMember(part) else { return nil }
                members.append(String(decoding: part, as: UTF8.self))
            }
        }
        guard !members.isEmpty, members.count <= 32 else { return nil }
        text = members.joined(separator: ",")
    }

    /// The member of OpenTelemetry's own, `ot=…` (trace/tracestate-handling), if there is one: what is exported of the list. The
    /// members of other systems are sent on, but they are foreign text, which doesn't go into telemetry.
    public var openTelemetryMember: String? {
        text.split(separator: ",").first { $0.hasPrefix("ot=") }.map(String.init)
    }

    /// Key: `a-z0-9` first, then up to 255 of `a-z 0-9 _ - * / @` (level 2, §3.3.1.3.1). Value: 1–256 printable ASCII bytes
    /// without `,` and `=`, not ending in a space (§3.3.1.3.2).
    private static func isMember(_ bytes: ArraySlice<UInt8>) -> Bool {
        guard let equals = bytes.firstIndex(of: UInt8(ascii: "=")) else { return false }
        let key = bytes[..<equals]
        let value = bytes[(equals + 1)...]
        func isLowerOrDigit(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte) || (0x30...0x39).contains(byte) }
        guard let first = key.first, isLowerOrDigit(first), key.count <= 256,
            key.allSatisfy({ isLowerOrDigit($0) || "_-*/@".utf8.contains($0) }),
            (1...256).contains(value.count), value.last != 0x20,
            value.allSatisfy({ (0x20...0x7E).contains($0) && $0 != 0x2C && $0 != 0x3D })
        else { return false }
        return true
    }
}

enum Hex {
    /// Lower-case digits only, up to 16 of them: eight at a time in one register, since this is done for each record.
    @inline(__always)
    static func parse(_ bytes: UnsafeRawBufferPointer, _ offset: Int, _ count: Int) -> UInt64? {
        var value: UInt64 = 0
        var at = offset
        let end = offset &+ count
        while at &+ 8 <= end {
            guard let eight = parseEight(UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))) else {
                return nil
            }
            value = value << 32 | eight
            at &+= 8
        }
        while at < end {
            let byte = bytes[at]
            let decimal = byte &- 0x30
            let letter = byte &- 0x61
            guard decimal <= 9 || letter <= 5 else { return nil }
            value = value << 4 | UInt64(decimal <= 9 ? decimal : letter &+ 10)
            at &+= 1
        }
        return value
    }

    /// The value of eight digits, the first one in the highest byte.
    ///
    /// Additions that carry into a byte's highest bit compare all eight bytes at once, as none of them is above 127.
    @inline(__always)
    private static func parseEight(_ text: UInt64) -> UInt64? {
        let high: UInt64 = 0x8080_8080_8080_8080
        guard text & high == 0 else { return nil }
        let each: UInt64 = 0x0101_0101_0101_0101
        // Of each byte the highest bit: whether it is at least "0", above "9", at least "a", above "f".
        let isFrom0 = text &+ each &* (0x80 - 0x30)
        let isAbove9 = text &+ each &* (0x80 - 0x3A)
        let isFromA = text &+ each &* (0x80 - 0x61)
        let isAboveF = text &+ each &* (0x80 - 0x67)
        let isDecimal = isFrom0 & ~isAbove9
        let isLetter = isFromA & ~isAboveF
        guard (isDecimal | isLetter) & high == high else { return nil }
        // "a" is 0x61: its low four bits are 9 less than its value.
        let digits = (text & (each &* 0x0F)) &+ ((isLetter & high) >> 7) &* 9
        // Two digits to a byte, two bytes to a pair, two pairs to the whole.
        let pairs = (digits | digits >> 4) & 0x00FF_00FF_00FF_00FF
        let quads = (pairs | pairs >> 8) & 0x0000_FFFF_0000_FFFF
        return (quads | quads >> 16) & 0xFFFF_FFFF
    }

    @inline(__always)
    static func write(_ value: UInt64, to target: UnsafeMutableRawBufferPointer, at offset: Int, digits: Int) {
        var value = value
        var index = offset + digits
        while index > offset {
            index -= 1
            let digit = UInt8(truncatingIfNeeded: value & 0xF)
            target[index] = digit < 10 ? 0x30 &+ digit : 0x57 &+ digit
            value >>= 4
        }
    }

    static func text(_ value: UInt64) -> String {
        String(unsafeUninitializedCapacity: 16) { target in
            write(value, to: UnsafeMutableRawBufferPointer(target), at: 0, digits: 16)
            return 16
        }
    }
}

extension UInt64 {
    /// Sixteen lower-case hexadecimal digits.
    public var hexadecimal: String { Hex.text(self) }
}
