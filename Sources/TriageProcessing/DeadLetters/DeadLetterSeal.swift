public import TriageEvents
internal import TriageTelemetry

/// Makes what a dead letter says of a patient unreadable to whoever has no key: a port, so that the workshop needs no cryptography.
///
/// Dead letters are kept without limit, which retry records and main topics mostly aren't. Called on the engine's thread, once for
/// each part of each dead letter.
public protocol DeadLetterSeal: Sendable {
    /// Algorithm and key, as the header `triage-encryption` says them: `A256GCM 1f0c8a53`.
    var name: String { get }

    /// Seals bytes so that they can only be opened as the same part of a dead letter of the same origin.
    ///
    /// - Returns: nil if that isn't possible; the bytes are left out then, never written as they are.
    func seal(_ clear: ByteSlice, as part: DeadLetterPart, of origin: RecordPosition) -> ByteSlice?
}

/// What is sealed of a dead letter, each on its own.
public enum DeadLetterPart: String, Sendable, Hashable, CaseIterable {
    /// The value.
    case body
    /// The text of the error that the handler threw.
    case detail
    /// The headers that are the producer's.
    case headers
}

/// What a dead letter is written as when it is sealed.
struct SealedDeadLetter {
    /// Bytes that are kept of an error's text.
    static let maximumDetailBytes = 8192

    let record: OutboundRecord
    let headers: HeaderEdits

    /// Seals value, error text and the headers that aren't ours; nil if that isn't possible. A null value stays null.
    ///
    /// - Parameters:
    ///   - record: the dead letter as it would be written without a seal.
    ///   - headers: what tells of the failure, which holds no patient data.
    ///   - shape: what the value looks like; nil if it is none that has a shape.
    init?(
        _ record: OutboundRecord, headers: HeaderEdits, of origin: RecordPosition, detail: String?, shape: PayloadShape?,
        by seal: any DeadLetterSeal
    ) {
        var sealed = record
        if let value = record.value {
            guard let body = seal.seal(value, as: .body, of: origin) else { return nil }
            sealed.value = body
        }
        // What the failure's headers say instead of the producer's isn't there any more.
        let all = record.headers.replacing(headers, HeaderEdits())
        let ours = Set(Headers().replacing(headers, HeaderEdits()).map(\.name))
        var theirs: [Header] = []
        for header in all where header.name != "traceparent" && (!ours.contains(header.name) || header.name == "content-type") {
            theirs.append(header)
        }
        // Without tracing the context that the record came with travels on, if it is one.
        let context = record.headers.last(HeaderName.traceparent).flatMap { TraceContext(traceparent: $0) }
        sealed.headers = Headers(context.map { [Header("traceparent", $0.traceparent)] } ?? [])
        // Of sealed bytes there is no such type to be told.
        var edits = headers.without([HeaderName.contentType] + HeaderName.ofSeals)
        edits.set(HeaderName.encryption, text: seal.name)
        if let shape { edits.set(HeaderName.shape, text: shape.text()) }
        if let detail, let text = seal.seal(ByteSlice(detail), as: .detail, of: origin) {
            edits.set(HeaderName.errorDetail) { $0.append(base64: text) }
        }
        if !theirs.isEmpty {
            guard let block = seal.seal(HeaderBlock.bytes(theirs), as: .headers, of: origin) else { return nil }
            edits.set(HeaderName.sealedHeaders) { $0.append(base64: block) }
        }
        self.record = sealed
        self.headers = edits
    }

    /// The text of an error as a sealed dead letter keeps it: what it says itself, else how it prints.
    static func text(of error: any Error) -> String {
        let text = (error as? any ClassifiedError)?.detail ?? String(describing: error)
        guard text.utf8.count > maximumDetailBytes else { return text }
        var bytes = Array(text.utf8.prefix(maximumDetailBytes))
        // A character has at most four bytes, of which the last may be missing now.
        for _ in 0..<4 {
            if let whole = String(validating: bytes, as: UTF8.self) { return whole }
            bytes.removeLast()
        }
        return ""
    }
}

extension Engine {
    /// A dead letter as it is written: sealed, if there is a seal.
    ///
    /// One that can't be sealed becomes a pointer: nothing is written in the clear instead.
    ///
    /// - Parameter thrown: what the handler threw, if it did.
    func sealed(
        _ record: OutboundRecord, _ headers: HeaderEdits, of delivery: Delivery, thrown: (any Error)?
    ) -> (record: OutboundRecord, headers: HeaderEdits, isPointer: Bool) {
        guard let seal = configuration.deadLetterSeal else { return (record, headers, false) }
        var shape: PayloadShape?
        if let value = record.value, (try? decoder.checkObject(value)) != nil {
            shape = JSONValue(value).map { PayloadShape(of: $0) }
        }
        let sealed = SealedDeadLetter(
            record, headers: headers, of: delivery.history.origin, detail: thrown.map(SealedDeadLetter.text), shape: shape,
            by: seal)
        if let sealed { return (sealed.record, sealed.headers, false) }
        var pointer = record
        pointer.value = nil
        pointer.headers = Headers()
        return (pointer, FailureHeaders.pointer(headers, refusal: "SEAL_FAILED", bytes: record.value?.count ?? 0), true)
    }
}

/// Headers in one block of bytes, so that they are sealed together: for each the length of its name and its name, the length of
/// its value (-1 for a null value) and its value; lengths are signed and have four bytes, the highest first.
package enum HeaderBlock {
    /// The block of these headers.
    package static func bytes(_ headers: [Header]) -> ByteSlice {
        var bytes: [UInt8] = []
        func append(_ number: Int) {
            Swift.withUnsafeBytes(of: Int32(truncatingIfNeeded: number).bigEndian) { bytes.append(contentsOf: $0) }
        }
        for header in headers {
            append(header.name.utf8.count)
            bytes.append(contentsOf: header.name.utf8)
            append(header.value?.count ?? -1)
            if let value = header.value { value.withUnsafeBytes { bytes.append(contentsOf: $0) } }
        }
        return ByteSlice(bytes)
    }

    /// The headers in a block; nil if it is none.
    package static func headers(_ block: ByteSlice) -> [Header]? {
        var headers: [Header] = []
        var at = 0
        func number() -> Int? {
            guard at + 4 <= block.count else { return nil }
            defer { at += 4 }
            return Int(Int32(bitPattern: block.subslice(at..<at + 4).reduce(0) { $0 << 8 | UInt32($1) }))
        }
        func part(_ count: Int) -> ByteSlice? {
            guard count >= 0, count <= block.count - at else { return nil }
            defer { at += count }
            return block.subslice(at..<at + count)
        }
        while at < block.count {
            guard let name = number().flatMap(part)?.utf8Text, let count = number(), count >= -1 else { return nil }
            guard count >= 0 else {
                headers.append(Header(name, nil))
                continue
            }
            guard let value = part(count) else { return nil }
            headers.append(Header(name, value))
        }
        return headers
    }
}
