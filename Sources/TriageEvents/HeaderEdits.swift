/// What is to be changed in a record's headers: values to be set, names to be removed. Packed in one block.
///
/// Whatever it names is removed first and what it sets is then added behind the others, in the order in which it was set: see
/// ``Headers/replacing(_:_:)``.
public struct HeaderEdits: Sendable {
    /// Entries as ``Headers`` packs them; one with a null value only removes.
    private var edits: TextBytes
    /// No change, with room for `capacity` bytes of names, values and eight bytes for each header.
    public init(capacity: Int = 0) { edits = TextBytes(capacity: capacity) }

    /// These headers set; those with a null value removed.
    public init(_ headers: [Header]) {
        self.init(capacity: headers.reduce(0) { $0 + 8 + $1.name.utf8.count + ($1.value?.count ?? 0) })
        for header in headers {
            appendLengths(header.name.utf8.count, header.value?.count)
            edits.append(header.name)
            if let value = header.value { edits.append(value) }
        }
    }

    /// Removes every header of this name.
    public mutating func remove(_ name: StaticString) {
        appendLengths(name.utf8CodeUnitCount, nil)
        edits.append(name)
    }

    /// Sets a header to these bytes; nil removes it.
    public mutating func set(_ name: StaticString, _ value: ByteSlice?) {
        guard let value else { return remove(name) }
        set(name) { $0.append(value) }
    }

    /// Sets a header to text in UTF-8.
    public mutating func set(_ name: StaticString, text: String) { set(name) { $0.append(text) } }

    /// Sets a header to a number in decimal.
    public mutating func set(_ name: StaticString, number: Int64) { set(name) { $0.append(number) } }

    /// Sets a header to what `write` appends.
    @inline(__always)
    public mutating func set(_ name: StaticString, _ write: (inout TextBytes) -> Void) {
        let start = edits.count
        appendLengths(name.utf8CodeUnitCount, 0)
        edits.append(name)
        let valueStart = edits.count
        write(&edits)
        let length = Int32(truncatingIfNeeded: edits.count - valueStart)
        edits.bytes.withUnsafeMutableBytes { $0.storeBytes(of: length, toByteOffset: start + 4, as: Int32.self) }
    }

    /// The same without what it says about these names.
    public func without(_ names: [StaticString]) -> HeaderEdits {
        var kept = HeaderEdits(capacity: edits.count)
        edits.bytes.withUnsafeBytes { all in
            Headers.forEachRange(of: all) { name, _, range in
                let name = UnsafeRawBufferPointer(rebasing: all[name])
                let isNamed = names.contains { wanted in
                    name.elementsEqual(UnsafeBufferPointer(start: wanted.utf8Start, count: wanted.utf8CodeUnitCount))
                }
                guard !isNamed else { return }
                kept.edits.bytes.append(contentsOf: UnsafeRawBufferPointer(rebasing: all[range]))
            }
        }
        return kept
    }

    private mutating func appendLengths(_ name: Int, _ value: Int?) {
        let lengths = (Int32(truncatingIfNeeded: name), value.map { Int32(truncatingIfNeeded: $0) } ?? -1)
        withUnsafeBytes(of: lengths) { edits.bytes.append(contentsOf: $0) }
    }

    /// `headers` with these edits made and then `others`.
    func applied(to headers: Headers, and others: HeaderEdits) -> Headers {
        edits.bytes.withUnsafeBytes { first in
            others.edits.bytes.withUnsafeBytes { second in
                headers.packed.withUnsafeBytes { all in
                    HeaderEdits.apply(first, second, to: all)
                }
            }
        }
    }

    private static func apply(
        _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer, to all: UnsafeRawBufferPointer
    ) -> Headers {
        // What is kept and what is added, counted first, so that one block is made and filled.
        var kept = 0
        var added = 0
        var count = 0
        @inline(__always)
        func isKept(_ name: Range<Int>) -> Bool {
            let name = UnsafeRawBufferPointer(rebasing: all[name])
            return !names(first, name) && !names(second, name)
        }
        @inline(__always)
        func isAdded(_ name: Range<Int>) -> Bool { !names(second, UnsafeRawBufferPointer(rebasing: first[name])) }
        Headers.forEachRange(of: all) { name, _, range in
            guard isKept(name) else { return }
            kept += range.count
            count += 1
        }
        Headers.forEachRange(of: first) { name, value, range in
            guard value != nil, isAdded(name) else { return }
            added += range.count
            count += 1
        }
        Headers.forEachRange(of: second) { _, value, range in
            guard value != nil else { return }
            added += range.count
            count += 1
        }
        let packed = ByteSlice(count: kept + added) { target in
            var at = 0
            func add(_ source: UnsafeRawBufferPointer, _ range: Range<Int>) {
                UnsafeMutableRawBufferPointer(rebasing: target[at..<at + range.count])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[range]))
                at += range.count
            }
            if kept == all.count {
                if kept > 0 { add(all, 0..<kept) }
            } else {
                Headers.forEachRange(of: all) { name, _, range in if isKept(name) { add(all, range) } }
            }
            Headers.forEachRange(of: first) { name, value, range in if value != nil, isAdded(name) { add(first, range) } }
            Headers.forEachRange(of: second) { _, value, range in if value != nil { add(second, range) } }
        }
        return Headers(packed: packed, count: count)
    }

    /// Whether the packed edits say something about the header `name`.
    private static func names(_ edits: UnsafeRawBufferPointer, _ name: UnsafeRawBufferPointer) -> Bool {
        guard let base = edits.baseAddress else { return false }
        var at = 0
        while at + 8 <= edits.count {
            let nameCount = Int(edits.loadUnaligned(fromByteOffset: at, as: Int32.self))
            let valueCount = Int(edits.loadUnaligned(fromByteOffset: at + 4, as: Int32.self))
            if nameCount == name.count {
                guard nameCount > 0, let wanted = name.baseAddress else { return true }
                if triageEqualBytes(base + at + 8, wanted, nameCount) { return true }
            }
            at += 8 + nameCount + max(0, valueCount)
        }
        return false
    }
}

extension Headers {
    /// A copy in which every header that `edits` names is removed and then those it sets are added, in the order given; the
    /// others keep their bytes and order.
    ///
    /// - Parameter others: made after `edits`.
    public func replacing(_ edits: HeaderEdits, _ others: HeaderEdits = HeaderEdits()) -> Headers {
        edits.applied(to: self, and: others)
    }

    /// Calls `body` with where each packed entry's name and value lie (nil for a null value), and the whole of it.
    @inline(__always)
    static func forEachRange(
        of packed: UnsafeRawBufferPointer, _ body: (_ name: Range<Int>, _ value: Range<Int>?, _ entry: Range<Int>) -> Void
    ) {
        var at = 0
        while at + 8 <= packed.count {
            let nameCount = Int(packed.loadUnaligned(fromByteOffset: at, as: Int32.self))
            let valueCount = Int(packed.loadUnaligned(fromByteOffset: at + 4, as: Int32.self))
            let nameEnd = at + 8 + nameCount
            let end = nameEnd + Swift.max(0, valueCount)
            body(at + 8..<nameEnd, valueCount < 0 ? nil : nameEnd..<end, at..<end)
            at = end
        }
    }
}

extension TraceContext {
    /// Injects this context: `traceparent`, and `tracestate` (removed where there is none). An invalid context injects nothing.
    public func inject(into edits: inout HeaderEdits) {
        guard isValid else { return }
        edits.set(HeaderName.traceparent) { $0.append(self) }
        if let traceState { edits.set(HeaderName.tracestate, text: traceState.text) } else { edits.remove(HeaderName.tracestate) }
    }
}
