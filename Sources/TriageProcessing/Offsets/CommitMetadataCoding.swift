// How commit metadata is written.
//
//     t1.CCCCCCCC.BODY
//
// `t1` names the format, C… is the FNV-1a checksum of the committed offset (8 bytes, least significant first) and the body's
// bytes as 8 hexadecimal digits, and BODY is base64url without padding (RFC 4648 §5). The body is
//
//     flags      1 byte
//     layout     1 byte: bits 0 and 1 say what the completed offsets are (0 none, 1 runs, 2 bitmap), bit 2 that crashes
//                follow, bit 3 that an offset is handled alone; the others are 0
//     crashes    count − 1, base and, if bit 3 says so, alone; the offsets as signed distances from the committed one
//     completed  to the end of the body:
//                runs: gap and length − 1 for each range, the gap from the committed offset, then from the range before, less 1
//                bitmap: bit i of byte n stands for the committed offset + 8 n + i; the last byte isn't 0
//
// with numbers as LEB128, signed ones in zigzag order. Whichever of runs and bitmap is shorter is taken: runs are long where
// completions are scattered, a bitmap where they lie far away. Since the checksum covers the offset, metadata that a tool copied
// to another offset is refused instead of marking the wrong records as done.
//
// A value has one text only, and everything else is refused: a text that was read is either right or an error.

/// Why a commit's metadata can't be used; the records behind the offset are then taken as not handled.
public enum CommitMetadataError: Error, Sendable, Hashable {
    /// Not written by Triage, or by a version with another format.
    case foreign
    /// The checksum or the structure is wrong: it was cut, or copied from another offset.
    case damaged
}

extension CommitMetadata {
    /// The longest text: the default of `offset.metadata.max.bytes` (Kafka, broker configuration).
    public static let maximumBytes = 4096
    /// Completed offsets that lie less than this beyond the committed one always fit, whichever they are.
    public static let maximumSpan: Int64 = 16_000

    /// Crashes are counted up to here, so that whoever counts on never overflows.
    static let maximumCrashes = 1_000_000

    private static let version = "t1."
    private static let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    private static let values: [UInt8] = {
        var values = [UInt8](repeating: .max, count: 256)
        for (value, digit) in digits.enumerated() { values[Int(digit)] = UInt8(value) }
        return values
    }()
    /// `t1.`, the checksum, and the dot behind it.
    private static let headBytes = 12
    /// Bytes that fit into ``maximumBytes`` together with the head.
    private static let maximumBody = (maximumBytes - headBytes) * 3 / 4

    /// Whether there is nothing to tell.
    public var isEmpty: Bool { flags.isEmpty && crashes == nil && completed.isEmpty }

    /// The text that rides with a commit of `offset`, at most ``maximumBytes`` long; empty if there is nothing to tell.
    ///
    /// - Returns: nil if it would be longer, which takes completed offsets ``maximumSpan`` or more beyond `offset`.
    public func encoded(at offset: Int64) -> String? {
        let completed = normalCompleted(from: offset)
        guard !flags.isEmpty || crashes != nil || !completed.isEmpty else { return "" }
        var body: [UInt8] = []
        body.reserveCapacity(64)
        body.append(flags.rawValue)
        let runs = CommitMetadata.runBytes(completed, from: offset)
        let bitmap = CommitMetadata.bitmapBytes(completed, offset)
        guard min(UInt64(runs), bitmap) <= UInt64(CommitMetadata.maximumBody) else { return nil }
        let usesBitmap = bitmap < UInt64(runs)
        var layout: UInt8 = completed.isEmpty ? 0 : usesBitmap ? 2 : 1
        if let crashes { layout |= crashes.alone == nil ? 4 : 12 }
        body.append(layout)
        if let crashes {
            let count = min(max(1, crashes.count), CommitMetadata.maximumCrashes)
            CommitMetadata.append(UInt64(count - 1), to: &body)
            CommitMetadata.append(CommitMetadata.zigzag(max(0, crashes.base) &- offset), to: &body)
            if let alone = crashes.alone { CommitMetadata.append(CommitMetadata.zigzag(max(0, alone) &- offset), to: &body) }
        }
        if usesBitmap {
            CommitMetadata.appendBitmap(completed, from: offset, count: Int(bitmap), to: &body)
        } else {
            CommitMetadata.forEachRun(completed, from: offset) { CommitMetadata.append($0, to: &body) }
        }
        guard body.count <= CommitMetadata.maximumBody else { return nil }
        return CommitMetadata.text(body, at: offset)
    }

    /// Reads what rode with a commit of `offset`; an empty text has nothing in it.
    ///
    /// A range may be as long as the text says: ask by ranges, don't count offsets.
    public init(_ text: String, at offset: Int64) throws(CommitMetadataError) {
        self.init()
        let text = Array(text.utf8.prefix(CommitMetadata.maximumBytes + 1))
        guard !text.isEmpty else { return }
        guard text.starts(with: CommitMetadata.version.utf8) else { throw .foreign }
        guard offset >= 0, text.count <= CommitMetadata.maximumBytes, text.count > CommitMetadata.headBytes,
            text[CommitMetadata.headBytes - 1] == UInt8(ascii: "."),
            let body = CommitMetadata.bytes(text[CommitMetadata.headBytes...]),
            text[3..<11].elementsEqual(CommitMetadata.hexadecimal(CommitMetadata.checksum(body, offset)))
        else { throw .damaged }
        guard let value = CommitMetadata(body: body, at: offset) else { throw .damaged }
        self = value
    }

    private init?(body: [UInt8], at offset: Int64) {
        guard body.count >= 2, body[1] & 0xF0 == 0, body[1] & 3 != 3, body[1] & 12 != 8 else { return nil }
        self.init(flags: Flags(rawValue: body[0]))
        var rest = body[2...]
        if body[1] & 4 != 0 {
            guard let count = CommitMetadata.number(&rest), count < CommitMetadata.maximumCrashes,
                let base = CommitMetadata.position(&rest, offset)
            else { return nil }
            crashes = Crashes(count: Int(count) + 1, base: base)
            if body[1] & 8 != 0 {
                guard let alone = CommitMetadata.position(&rest, offset) else { return nil }
                crashes?.alone = alone
            }
        }
        switch body[1] & 3 {
        case 1:
            guard let runs = CommitMetadata.runs(rest, from: offset) else { return nil }
            completed = runs
        case 2:
            guard let ranges = CommitMetadata.bitmap(rest, from: offset) else { return nil }
            completed = ranges
        default:
            guard rest.isEmpty, !isEmpty else { return nil }
        }
        // The other form would have been shorter: nobody writes that.
        let runs = CommitMetadata.runBytes(completed, from: offset)
        guard body[1] & 3 == 0 || (body[1] & 3 == 2 ? rest.count < runs : runs <= CommitMetadata.bitmapBytes(completed, offset))
        else { return nil }
    }

    /// The completed ranges as they must be: none empty or before `offset`, in order, merged where they touch.
    private func normalCompleted(from offset: Int64) -> [Range<Int64>] {
        var end = offset
        var isFirst = true
        let isNormal = completed.allSatisfy { range in
            defer {
                end = range.upperBound
                isFirst = false
            }
            return !range.isEmpty && (isFirst ? range.lowerBound >= end : range.lowerBound > end)
        }
        if isNormal { return completed }
        var normal: [Range<Int64>] = []
        for range in completed.sorted(by: { $0.lowerBound < $1.lowerBound }) where range.upperBound > offset && !range.isEmpty {
            let range = max(range.lowerBound, offset)..<range.upperBound
            if let last = normal.last, range.lowerBound <= last.upperBound {
                normal[normal.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
            } else {
                normal.append(range)
            }
        }
        return normal
    }
}

// MARK: - Runs and bitmap

extension CommitMetadata {
    private static func forEachRun(_ ranges: [Range<Int64>], from offset: Int64, _ body: (UInt64) -> Void) {
        var end = offset
        for (index, range) in ranges.enumerated() {
            body(UInt64(bitPattern: range.lowerBound &- end) &- (index == 0 ? 0 : 1))
            body(UInt64(bitPattern: range.upperBound &- range.lowerBound) &- 1)
            end = range.upperBound
        }
    }

    private static func runBytes(_ ranges: [Range<Int64>], from offset: Int64) -> Int {
        var count = 0
        forEachRun(ranges, from: offset) { count += max(1, (70 - $0.leadingZeroBitCount) / 7) }
        return count
    }

    private static func bitmapBytes(_ ranges: [Range<Int64>], _ offset: Int64) -> UInt64 {
        ranges.last.map { UInt64(bitPattern: ($0.upperBound - 1) &- offset) / 8 + 1 } ?? 0
    }

    /// The ranges; nil if they aren't in order, touch, or pass the largest offset.
    private static func runs(_ bytes: ArraySlice<UInt8>, from offset: Int64) -> [Range<Int64>]? {
        var rest = bytes
        var ranges: [Range<Int64>] = []
        var end = offset
        while !rest.isEmpty {
            guard let gap = number(&rest), let length = number(&rest) else { return nil }
            let room = UInt64(bitPattern: Int64.max &- end)
            let (skipped, overflow) = gap.addingReportingOverflow(ranges.isEmpty ? 0 : 1)
            guard !overflow, skipped < room, length < room - skipped else { return nil }
            let start = end + Int64(skipped)
            end = start + Int64(length) + 1
            ranges.append(start..<end)
        }
        return ranges.isEmpty ? nil : ranges
    }

    private static func appendBitmap(_ ranges: [Range<Int64>], from offset: Int64, count: Int, to body: inout [UInt8]) {
        let start = body.count
        body.append(contentsOf: repeatElement(0, count: count))
        for range in ranges {
            var bit = Int(range.lowerBound - offset)
            let end = Int(range.upperBound - offset)
            while bit < end {
                let bits = min(8 - bit % 8, end - bit)
                body[start + bit / 8] |= UInt8(truncatingIfNeeded: ((1 << bits) - 1) << (bit % 8))
                bit += bits
            }
        }
    }

    /// The ranges; nil if the bitmap is empty, ends with nothing, or passes the largest offset.
    private static func bitmap(_ bytes: ArraySlice<UInt8>, from offset: Int64) -> [Range<Int64>]? {
        guard let last = bytes.last, last != 0, offset <= Int64.max - Int64(bytes.count) * 8 else { return nil }
        var ranges: [Range<Int64>] = []
        var start: Int64?
        var position = offset
        for byte in bytes {
            if byte == (start == nil ? 0 : 0xFF) {
                position += 8
                continue
            }
            for bit in 0..<8 {
                let isSet = byte >> bit & 1 == 1
                if isSet, start == nil {
                    start = position
                } else if !isSet, let begin = start {
                    ranges.append(begin..<position)
                    start = nil
                }
                position += 1
            }
        }
        if let start { ranges.append(start..<position) }
        return ranges
    }
}

// MARK: - Numbers and text

extension CommitMetadata {
    private static func zigzag(_ value: Int64) -> UInt64 { UInt64(bitPattern: value << 1 ^ value >> 63) }

    private static func append(_ value: UInt64, to body: inout [UInt8]) {
        var value = value
        while value >= 0x80 {
            body.append(UInt8(truncatingIfNeeded: value) | 0x80)
            value >>= 7
        }
        body.append(UInt8(truncatingIfNeeded: value))
    }

    /// Takes a number off the front; nil if it is cut, too large, or longer than it need be.
    private static func number(_ rest: inout ArraySlice<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while let byte = rest.popFirst() {
            guard shift < 63 || byte <= 1 else { return nil }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return byte == 0 && shift > 0 ? nil : value }
            shift += 7
        }
        return nil
    }

    private static func position(_ rest: inout ArraySlice<UInt8>, _ offset: Int64) -> Int64? {
        guard let value = number(&rest) else { return nil }
        let position = offset &+ (Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1))
        return position < 0 ? nil : position
    }

    /// FNV-1a with 32 bits (Fowler, Noll, Vo; RFC 9923).
    private static func checksum(_ body: [UInt8], _ offset: Int64) -> UInt32 {
        var hash: UInt32 = 0x811C_9DC5
        for shift in stride(from: 0, to: 64, by: 8) {
            hash = (hash ^ UInt32(truncatingIfNeeded: UInt64(bitPattern: offset) >> shift & 0xFF)) &* 0x0100_0193
        }
        for byte in body { hash = (hash ^ UInt32(byte)) &* 0x0100_0193 }
        return hash
    }

    private static func hexadecimal(_ hash: UInt32) -> [UInt8] {
        let digits = Array("0123456789abcdef".utf8)
        return stride(from: 28, through: 0, by: -4).map { digits[Int(hash >> UInt32($0) & 0xF)] }
    }

    static func text(_ body: [UInt8], at offset: Int64) -> String {
        let hash = hexadecimal(checksum(body, offset))
        let count = headBytes + (body.count * 4 + 2) / 3
        return String(unsafeUninitializedCapacity: count) { target in
            var at = 0
            func put(_ byte: UInt8) {
                target[at] = byte
                at += 1
            }
            for byte in version.utf8 { put(byte) }
            for byte in hash { put(byte) }
            put(UInt8(ascii: "."))
            digits.withUnsafeBufferPointer { digits in
                var bits: UInt32 = 0
                var held: UInt32 = 0
                for byte in body {
                    bits = bits << 8 | UInt32(byte)
                    held += 8
                    while held >= 6 {
                        held -= 6
                        put(digits[Int(bits >> held & 63)])
                    }
                }
                if held > 0 { put(digits[Int(bits << (6 - held) & 63)]) }
            }
            return at
        }
    }

    /// What base64url text stands for; nil if it is none, or its last digit says more than there is room for.
    private static func bytes(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        guard text.count % 4 != 1 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count * 3 / 4)
        var bits: UInt32 = 0
        var held: UInt32 = 0
        for digit in text {
            let value = values[Int(digit)]
            guard value < 64 else { return nil }
            bits = bits << 6 | UInt32(value)
            held += 6
            if held >= 8 {
                held -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> held))
            }
        }
        return bits & ((1 << held) - 1) == 0 ? bytes : nil
    }
}
