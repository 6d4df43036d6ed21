public import TriageEvents

/// A header of a dead letter as it may be shown to anybody: its name, and its value only where that is a number, a time, an
/// id or a name of our own or of those whose dead letters are understood.
public struct ShownHeader: Sendable, Hashable {
    /// The header's name; `(not shown)` for one that may be anything.
    public let name: String
    /// Bytes of its value; nil for a null value.
    public let bytes: Int?
    /// What it says; nil if that may be anything, patient data among it.
    public let value: String?

    /// What stands where something may be anything.
    public static let notShown = VettedText.notShown

    /// The headers of a record of a dead letter topic, in their order.
    public static func all(of headers: Headers) -> [ShownHeader] {
        let dialect = DeadLetterDialect(headers)
        return headers.map { header in
            ShownHeader(
                name: VettedText.headerName(header.name) ?? notShown, bytes: header.value?.count,
                value: header.value.flatMap { shown($0, of: header.name, dialect: dialect) })
        }
    }

    private static func shown(_ value: ByteSlice, of name: String, dialect: DeadLetterDialect) -> String? {
        if let names = dialect.names, let text = foreign(value, of: name, names) { return text }
        return value.utf8Text.flatMap { ours($0, of: ByteSlice(name), isOurs: dialect == .triage) }
    }

    /// What is believed of headers that Triage writes: only texts of the form that it writes.
    private static func ours(_ text: String, of name: ByteSlice, isOurs: Bool) -> String? {
        func isOne(of names: StaticString...) -> Bool { names.contains { name.equals($0) } }
        if isOne(of: HeaderName.retryCount, HeaderName.dueAt, HeaderName.originTimestamp) {
            return Int64(text).flatMap { String($0) == text ? text : nil }
        }
        if isOne(of: HeaderName.origin, HeaderName.parkedBehind) {
            return DeadLetter.place(text).map { "\($0)" }
        }
        if isOne(of: HeaderName.traceparent, HeaderName.originTraceparent) {
            // Beyond the first four parts a version yet to come may say anything (W3C Trace Context §3.2.4).
            return text.utf8.count == 55 && TraceContext(traceparent: ByteSlice(text)) != nil ? text : nil
        }
        if isOne(of: HeaderName.failedAt) { return Timestamp(instant: ByteSlice(text))?.iso8601 }
        if isOne(of: HeaderName.errorClass) { return ErrorClass(rawValue: text)?.rawValue }
        if isOne(of: HeaderName.errorFingerprint) { return text.isFingerprint ? text : nil }
        // Their form alone doesn't tell that they are ours.
        if isOne(of: HeaderName.error) {
            return isOurs ? VettedText.error(text).flatMap { $0 == notShown ? nil : $0 } : nil
        }
        if isOne(of: HeaderName.pointer) { return isOurs ? VettedText.pointer(text) : nil }
        if isOne(of: HeaderName.attempts) { return attempts(AttemptLedger(text)) }
        if isOne(of: HeaderName.group) { return DeadLetter.name(text) }
        if isOne(of: HeaderName.writer) { return isIdentifier(text) ? text : nil }
        if isOne(of: HeaderName.replay) { return ReplayMark(text)?.description }
        if isOne(of: HeaderName.encryption) { return DeadLetter.keyID(text).map { "\(DeadLetter.sealAlgorithm) \($0)" } }
        if isOne(of: HeaderName.waitReason) { return text == "scheduled" ? text : nil }
        if isOne(of: HeaderName.contentType) { return mediaTypes.contains(text) ? text : nil }
        return nil
    }

    private static func isIdentifier(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count) && text.utf8.allSatisfy { ($0 | 0x20).isHexadecimal || $0 == UInt8(ascii: "-") }
    }

    private static func attempts(_ ledger: AttemptLedger) -> String {
        let count = ledger.entries.count + ledger.dropped
        return "\(count) attempt\(count == 1 ? "" : "s")"
    }

    private static let mediaTypes: Set<String> = [
        "application/fhir+json", "application/json", "application/cloudevents+json", "application/octet-stream",
        "application/fhir+json; charset=utf-8", "application/json; charset=utf-8",
    ]

    /// The numbers and names of another's headers, as they are understood; nil for any other header.
    private static func foreign(_ value: ByteSlice, of name: String, _ names: DeadLetterDialect.Names) -> String? {
        func isOne(of candidates: StaticString?...) -> Bool {
            candidates.contains { $0.map { $0.description == name } ?? false }
        }
        if isOne(of: names.partition, names.offset, names.timestamp, names.attempts) {
            let headers = Headers([Header("n", value)])
            return ForeignHeaders(headers: headers, names: names).number("n").map { String($0) }
        }
        guard let text = value.utf8Text else { return nil }
        if isOne(of: names.topic, names.group) { return DeadLetter.name(text) }
        if isOne(of: names.type, names.cause, names.stage) { return VettedText.typeName(text) }
        return nil
    }
}

extension UInt8 {
    fileprivate var isHexadecimal: Bool { (0x30...0x39).contains(self) || (0x61...0x66).contains(self) }
}
