internal import COTLP
internal import CProtobufC
internal import Glibc
internal import TriageEvents
internal import TriageTelemetry

typealias AnyValueMessage = Opentelemetry__Proto__Common__V1__AnyValue
typealias KeyValueMessage = Opentelemetry__Proto__Common__V1__KeyValue
typealias MessagePointers<Message> = UnsafeMutablePointer<UnsafeMutablePointer<Message>?>

/// Builds protobuf-c structs in an arena and keeps an upper bound of what they pack to.
///
/// The bound saves a walk over the message to size it (protobuf-c's own costs half as much as packing): text counts its
/// bytes, and everything else a generous constant.
///
/// Strings of protobuf-c end at a NUL. Literals of the source are used where they lie: the compiler ends them with one, and
/// a debug build asserts that they hold no other. Other text is copied, and each NUL in it becomes U+FFFD, so that nothing
/// behind it is lost.
struct MessageBuilder {
    /// More than tags, lengths and a number take: an attribute has four tags, three lengths of at most five bytes, and a
    /// number of at most ten.
    static let attributeOverhead = 48

    let arena: Arena
    /// How texts of attributes are cut, in Unicode scalars; nil is unlimited.
    var valueLength: Int?
    /// The packed size is at most this.
    private(set) var bound = 0

    init(_ arena: Arena, valueLength: Int? = nil) {
        self.arena = arena
        self.valueLength = valueLength
    }

    /// Adds room for what isn't text.
    @inline(__always)
    mutating func reserve(_ bytes: Int) { bound += bytes }

    /// A literal, where it lies.
    @inline(__always)
    mutating func cString(_ text: StaticText) -> UnsafeMutablePointer<CChar> {
        assert(memchr(text.literal.utf8Start, 0, text.literal.utf8CodeUnitCount) == nil, "a literal with a NUL would end there")
        bound += text.literal.utf8CodeUnitCount
        return UnsafeMutableRawPointer(mutating: text.literal.utf8Start).assumingMemoryBound(to: CChar.self)
    }

    /// A copy of `text`.
    mutating func cString(_ text: String) -> UnsafeMutablePointer<CChar> {
        var text = text
        return text.withUTF8 { copy($0) }
    }

    /// A copy of `text` that is cut to the length for attribute values.
    mutating func limitedCString(_ text: String) -> UnsafeMutablePointer<CChar> {
        var text = text
        return text.withUTF8 { copy(limited($0)) }
    }

    /// A literal that is cut to the length for attribute values.
    @inline(__always)
    mutating func limitedCString(_ text: StaticText) -> UnsafeMutablePointer<CChar> {
        if let valueLength, text.literal.utf8CodeUnitCount > valueLength { return limitedCString(text.description) }
        return cString(text)
    }

    /// An array of pointers to `count` messages that lie one behind the other, still to be initialised.
    @inline(__always)
    func messages<Message>(_ type: Message.Type, _ count: Int) -> MessagePointers<Message> {
        let pointers = arena.allocate(UnsafeMutablePointer<Message>?.self, count)
        let messages = arena.allocate(type, count)
        for index in 0..<count { pointers[index] = messages + index }
        return pointers
    }

    /// The attributes, without the identifiers that `identifiers` omits. At most `limit` of them.
    @inline(__always)
    mutating func keyValues(
        _ attributes: [Attribute], identifiers: IdentifierPolicy, limit: Int = .max
    ) -> (pointers: MessagePointers<KeyValueMessage>?, count: Int) {
        let available = min(attributes.count, max(0, limit))
        guard available > 0 else { return (nil, 0) }
        let pointers = messages(KeyValueMessage.self, available)
        let values = arena.allocate(AnyValueMessage.self, available)
        var count = 0
        for index in 0..<available {
            let value = values + count
            opentelemetry__proto__common__v1__any_value__init(value)
            guard set(attributes[index].value, in: value, identifiers) else { continue }
            let pair = pointers[count].unsafelyUnwrapped
            opentelemetry__proto__common__v1__key_value__init(pair)
            pair.pointee.key = cString(attributes[index].key)
            pair.pointee.value = value
            bound += MessageBuilder.attributeOverhead
            count += 1
        }
        return (pointers, count)
    }

    /// The attributes of metric points: text, but for the overflow's, which is a truth value.
    mutating func keyValues(_ attributes: MetricAttributes) -> (pointers: MessagePointers<KeyValueMessage>?, count: Int) {
        let isOverflow = attributes.isOverflow
        return keyValues(attributes.pairs.count) { builder, index, value in
            if isOverflow {
                value.pointee.value_case = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_BOOL_VALUE
                value.pointee.bool_value = 1
                return attributes.pairs[index].key
            }
            builder.set(text: builder.cString(attributes.pairs[index].value), in: value)
            return attributes.pairs[index].key
        }
    }

    /// `count` attributes, whose values `fill` sets and whose keys it returns.
    mutating func keyValues(
        _ count: Int, _ fill: (inout MessageBuilder, Int, UnsafeMutablePointer<AnyValueMessage>) -> String
    ) -> (pointers: MessagePointers<KeyValueMessage>?, count: Int) {
        guard count > 0 else { return (nil, 0) }
        let pointers = messages(KeyValueMessage.self, count)
        let values = arena.allocate(AnyValueMessage.self, count)
        for index in 0..<count {
            let pair = pointers[index].unsafelyUnwrapped
            opentelemetry__proto__common__v1__any_value__init(values + index)
            opentelemetry__proto__common__v1__key_value__init(pair)
            pair.pointee.key = cString(fill(&self, index, values + index))
            pair.pointee.value = values + index
            bound += MessageBuilder.attributeOverhead
        }
        return (pointers, count)
    }

    /// 16 bytes, big-endian.
    @inline(__always)
    func bytes(_ id: TraceID) -> ProtobufCBinaryData {
        let target = arena.raw(16)
        target.storeBytes(of: id.high.bigEndian, as: UInt64.self)
        target.storeBytes(of: id.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        return ProtobufCBinaryData(len: 16, data: target.assumingMemoryBound(to: UInt8.self))
    }

    /// 8 bytes, big-endian.
    @inline(__always)
    func bytes(_ id: SpanID) -> ProtobufCBinaryData {
        let target = arena.raw(8)
        target.storeBytes(of: id.value.bigEndian, as: UInt64.self)
        return ProtobufCBinaryData(len: 8, data: target.assumingMemoryBound(to: UInt8.self))
    }

    /// Packs a message that was built with this builder, so that it fits in ``bound``.
    ///
    /// - Parameter headroom: bytes that stay free in front of the result.
    @inline(__always)
    func pack<Message>(_ message: UnsafeMutablePointer<Message>, headroom: Int = 0) -> UnsafeRawBufferPointer {
        let target = arena.raw(headroom + bound) + headroom
        let count = message.withMemoryRebound(to: ProtobufCMessage.self, capacity: 1) { message in
            assert(protobuf_c_message_get_packed_size(message) <= bound, "a message is larger than its bound")
            return protobuf_c_message_pack(message, target.assumingMemoryBound(to: UInt8.self))
        }
        return UnsafeRawBufferPointer(start: target, count: count)
    }

    /// Makes `value` a text.
    @inline(__always)
    func set(text: UnsafeMutablePointer<CChar>, in value: UnsafeMutablePointer<AnyValueMessage>) {
        value.pointee.value_case = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_STRING_VALUE
        value.pointee.string_value = text
    }

    /// Makes `value` an integer.
    @inline(__always)
    func set(int: Int64, in value: UnsafeMutablePointer<AnyValueMessage>) {
        value.pointee.value_case = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_INT_VALUE
        value.pointee.int_value = int
    }

    /// False if the attribute is to be left out.
    @inline(__always)
    private mutating func set(
        _ content: AttributeValue, in value: UnsafeMutablePointer<AnyValueMessage>, _ identifiers: IdentifierPolicy
    ) -> Bool {
        switch content {
        case .literal(let text):
            set(text: limitedCString(text), in: value)
        case .text(let text):
            set(text: limitedCString(text.text), in: value)
        case .int(let number):
            set(int: number, in: value)
        case .double(let number):
            value.pointee.value_case = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_DOUBLE_VALUE
            value.pointee.double_value = number
        case .bool(let truth):
            value.pointee.value_case = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_BOOL_VALUE
            value.pointee.bool_value = truth ? 1 : 0
        case .uuid(let high, let low):
            set(text: uuid(high, low), in: value)
        case .identifier(let identifier):
            guard let text = identifiers.text(for: identifier) else { return false }
            set(text: limitedCString(text), in: value)
        }
        return true
    }

    /// 36 lower-case characters, 8-4-4-4-12 (RFC 9562 §4), cut like any text.
    private mutating func uuid(_ high: UInt64, _ low: UInt64) -> UnsafeMutablePointer<CChar> {
        let text = arena.allocate(CChar.self, 37)
        var index = 0
        for (half, isHigh) in [(high, true), (low, false)] {
            for digit in 0..<16 {
                if isHigh ? digit == 8 || digit == 12 : digit == 0 || digit == 4 {
                    text[index] = 0x2D
                    index += 1
                }
                let nibble = CChar(truncatingIfNeeded: half >> UInt64(60 - 4 * digit) & 0xF)
                text[index] = nibble < 10 ? 0x30 + nibble : 0x57 + nibble
                index += 1
            }
        }
        let length = min(36, max(0, valueLength ?? 36))
        text[length] = 0
        bound += length
        return text
    }

    /// As many bytes as hold the first ``valueLength`` scalars.
    private func limited(_ bytes: UnsafeBufferPointer<UInt8>) -> UnsafeBufferPointer<UInt8> {
        guard let valueLength, bytes.count > valueLength else { return bytes }
        var scalars = 0
        for index in bytes.indices where bytes[index] & 0xC0 != 0x80 {
            if scalars >= valueLength { return UnsafeBufferPointer(rebasing: bytes[..<index]) }
            scalars += 1
        }
        return bytes
    }

    @inline(__always)
    private mutating func copy(_ bytes: UnsafeBufferPointer<UInt8>) -> UnsafeMutablePointer<CChar> {
        guard let source = bytes.baseAddress, bytes.count > 0 else {
            let empty = arena.allocate(CChar.self, 1)
            empty[0] = 0
            return empty
        }
        if memchr(source, 0, bytes.count) != nil { return copyReplacingNUL(bytes) }
        let target = arena.raw(bytes.count + 1)
        target.copyMemory(from: source, byteCount: bytes.count)
        target.storeBytes(of: 0, toByteOffset: bytes.count, as: UInt8.self)
        bound += bytes.count
        return target.assumingMemoryBound(to: CChar.self)
    }

    private mutating func copyReplacingNUL(_ bytes: UnsafeBufferPointer<UInt8>) -> UnsafeMutablePointer<CChar> {
        let target = arena.allocate(UInt8.self, bytes.count * 3 + 1)
        var count = 0
        for byte in bytes {
            if byte == 0 {
                (target[count], target[count + 1], target[count + 2]) = (0xEF, 0xBF, 0xBD)
                count += 3
            } else {
                target[count] = byte
                count += 1
            }
        }
        target[count] = 0
        bound += count
        return UnsafeMutableRawPointer(target).assumingMemoryBound(to: CChar.self)
    }
}

/// Varints, as they stand before a message in a message (protobuf encoding, "Base 128 Varints").
enum Varint {
    /// How many bytes `value` takes.
    @inline(__always)
    static func size(_ value: Int) -> Int {
        let bits = Int.bitWidth - (value | 1).leadingZeroBitCount
        return (bits + 6) / 7
    }

    /// Writes `value`, at most ten bytes, and returns how many.
    @inline(__always)
    static func write(_ value: Int, to target: UnsafeMutableRawPointer) -> Int {
        var value = UInt64(truncatingIfNeeded: value)
        var count = 0
        while value >= 0x80 {
            target.storeBytes(of: UInt8(truncatingIfNeeded: value) | 0x80, toByteOffset: count, as: UInt8.self)
            value >>= 7
            count += 1
        }
        target.storeBytes(of: UInt8(truncatingIfNeeded: value), toByteOffset: count, as: UInt8.self)
        return count + 1
    }
}

/// The tag byte of a field with a length in front, for field numbers below 16.
@inline(__always)
func lengthDelimitedTag(_ field: UInt8) -> UInt8 { field << 3 | 2 }
