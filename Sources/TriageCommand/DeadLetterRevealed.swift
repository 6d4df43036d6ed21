import Triage
import TriageEvents
import TriageProcessing

/// Bytes of a record that somebody asked to see.
struct RevealedBytes: Encodable {
    /// The bytes if they are text.
    let text: String?
    /// The bytes if they are none.
    let base64: String?

    init(_ bytes: ByteSlice) {
        text = bytes.utf8Text
        base64 = text == nil ? Base64.encode(bytes) : nil
    }

    /// For a terminal: text without anything that could move its cursor.
    var shown: String { text.map { HarmlessText.escaped($0) } ?? "base64 " + (base64 ?? "") }
}

/// What is shown with `--reveal` only.
struct DeadLetterRevealed: Encodable {
    struct Header: Encodable {
        let name: String
        let value: RevealedBytes?
    }

    let key: RevealedBytes?
    let value: RevealedBytes?
    let headers: [Header]
    /// The error's own text, of a sealed dead letter.
    let errorDetail: String?

    /// - Throws: if it is encrypted and can't be opened.
    init(_ sealed: Record, access: DeadLetterAccess) throws {
        let record: Record
        do throws(OperatorRefusal) {
            record = try access.opened(sealed)
        } catch {
            throw EditorError("\(sealed.position): \(error)")
        }
        key = record.key.map { RevealedBytes($0) }
        value = record.value.map { RevealedBytes($0) }
        headers = record.headers.map { Header(name: $0.name, value: $0.value.map { RevealedBytes($0) }) }
        errorDetail = try access.cipher?.openDetail(sealed.headers)
    }

    var text: [String] {
        var lines = ["", "REVEALED KEY", "  " + (key?.shown ?? "null"), "", "REVEALED HEADERS"]
        lines += headers.map { "  \(HarmlessText.escaped($0.name)): \($0.value?.shown ?? "null")" }
        if let errorDetail { lines += ["", "REVEALED ERROR", HarmlessText.escaped(errorDetail)] }
        lines += ["", "REVEALED PAYLOAD", value?.shown ?? "null"]
        return lines
    }
}

/// What an event said before an edit, as it is shown with `--original` only.
struct DeadLetterOriginal: Encodable {
    /// The dead letter that was replayed with another value.
    let deadLetter: String
    let replay: String
    let by: String
    let time: String
    let reason: String?
    /// What it said; nil for a null value, and for one that stands elsewhere.
    let value: RevealedBytes?
    /// Where it stands, if it was too large for a dead letter and is encrypted.
    let standsAt: String?

    /// - Throws: if it is encrypted and can't be opened.
    init(_ audit: DeadLetterAudit, cipher: (any DeadLetterOpening)?) throws {
        do throws(OperatorRefusal) {
            value = try audit.opened(cipher).map { RevealedBytes($0) }
        } catch {
            throw EditorError("what \(audit.mark.deadLetter) said before its edit: \(error)")
        }
        deadLetter = "\(audit.mark.deadLetter)"
        replay = audit.mark.id
        by = PlainText.printable(audit.by)
        time = audit.time.iso8601
        reason = audit.reason.map { PlainText.printable($0) }
        standsAt = audit.isElsewhere ? audit.event.map { PlainText.printable("\($0.origin)") } ?? "its origin" : nil
    }

    /// Each with what it was changed by: the first one is what the event said when it came.
    static func text(_ originals: [DeadLetterOriginal]) -> [String] {
        if originals.isEmpty {
            return ["", "ORIGINAL", "  No edit of this event is on record: it says what it said when it came."]
        }
        return originals.flatMap { original in
            [
                "", "ORIGINAL BEFORE THE EDIT of \(original.time) by \(original.by)" + (original.reason.map { ": \($0)" } ?? ""),
                "  replayed from \(original.deadLetter) by replay \(original.replay)",
                original.standsAt.map { "  It isn't kept here: it stands at \($0)." } ?? original.value?.shown ?? "null",
            ]
        }
    }
}
