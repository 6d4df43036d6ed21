public import TriageEvents
public import TriageProcessing

/// Opens sealed dead letters, with keys of now and of before; the first one seals new ones.
///
/// What isn't sealed is given back as it is, so that a reader needn't tell the two apart.
public struct DeadLetterCipher: DeadLetterOpening {
    /// The keys: the present one first.
    public let keys: [DeadLetterSealKey]

    /// A cipher of these keys; with none it opens only what isn't sealed.
    public init(keys: [DeadLetterSealKey]) { self.keys = keys }

    /// What the engine seals with: the first key; nil without one.
    public var seal: (any DeadLetterSeal)? { keys.first }

    /// The value of a dead letter in the clear; nil for a null value.
    ///
    /// - Throws: ``DeadLetterCipherError`` if it is sealed and can't be opened.
    public func open(_ record: Record) throws(DeadLetterCipherError) -> ByteSlice? {
        guard let value = record.value, record.headers.last(HeaderName.encryption) != nil else { return record.value }
        return try open(value, as: .body, headers: record.headers)
    }

    /// The text of the error that led to a sealed dead letter, as the handler's error printed; nil if it isn't sealed or has none.
    /// It may hold patient data.
    ///
    /// - Throws: ``DeadLetterCipherError`` if it can't be opened.
    public func openDetail(_ headers: Headers) throws(DeadLetterCipherError) -> String? {
        guard headers.last(HeaderName.encryption) != nil, let text = headers.last(HeaderName.errorDetail) else { return nil }
        return String(decoding: try open(base64: text, as: .detail, headers: headers), as: UTF8.self)
    }

    /// The dead letter as it would be if it had never been sealed: its value, and the headers that aren't ours. What is no sealed dead
    /// letter comes back as it is. For replays, exports, and whoever reads bodies.
    ///
    /// - Throws: ``DeadLetterCipherError`` if it can't be opened.
    public func opened(_ record: Record) throws(DeadLetterCipherError) -> Record {
        guard record.headers.last(HeaderName.encryption) != nil else { return record }
        var edits = HeaderEdits()
        for name in HeaderName.ofSeals { edits.remove(name) }
        let ours = record.headers.replacing(edits, HeaderEdits())
        var theirs: [Header] = []
        if let text = record.headers.last(HeaderName.sealedHeaders) {
            guard let headers = HeaderBlock.headers(try open(base64: text, as: .headers, headers: record.headers)) else {
                throw .damaged
            }
            // What is ours now, the context of the send among it, goes before what was theirs.
            let names = Set(ours.map(\.name))
            theirs = headers.filter { !names.contains($0.name) }
        }
        return Record(
            topic: record.topic, partition: record.partition, offset: record.offset, timestamp: record.timestamp, key: record.key,
            value: try open(record), headers: Headers(theirs + Array(ours)))
    }

    private func open(base64 text: ByteSlice, as part: DeadLetterPart, headers: Headers) throws(DeadLetterCipherError)
        -> ByteSlice
    {
        guard let sealed = Base64.decode(text) else { throw .damaged }
        return try open(sealed, as: part, headers: headers)
    }

    private func open(_ sealed: ByteSlice, as part: DeadLetterPart, headers: Headers) throws(DeadLetterCipherError) -> ByteSlice {
        guard let wanted = DeadLetter.keyID(of: headers) else { throw .damaged }
        guard !keys.isEmpty else { throw .noKey(wanted: wanted) }
        guard let key = keys.first(where: { $0.id == wanted }) else { throw .otherKey(wanted: wanted, known: keys.map(\.id)) }
        guard let origin = headers.text(HeaderName.origin), let clear = key.open(sealed, as: part, origin: origin) else {
            throw .damaged
        }
        return clear
    }
}

/// Why a sealed dead letter can't be opened.
public enum DeadLetterCipherError: Error, Sendable, Hashable, CustomStringConvertible {
    /// No key was given; it needs the one of this id.
    case noKey(wanted: String)
    /// It needs the key of this id, and others were given.
    case otherKey(wanted: String, known: [String])
    /// It isn't what was sealed: bytes or headers were changed, or taken from another dead letter.
    case damaged

    /// What is wrong and what to do.
    public var description: String {
        switch self {
        case .noKey(let wanted): "it is sealed: give the key \(wanted) by --dead-letter-key or TRIAGE_DEAD_LETTER_KEY_FILE"
        case .otherKey(let wanted, let known):
            "it is sealed with the key \(wanted); given: \(known.joined(separator: ", ")). Older keys are given by --dead-letter-key"
        case .damaged: "it can't be opened: its bytes or headers aren't those that were sealed"
        }
    }
}
