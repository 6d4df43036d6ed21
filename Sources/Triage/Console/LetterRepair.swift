package import TriageEvents
internal import TriageProcessing

/// A change of one dead letter's value by a JSON patch; what comes of it must be an event.
package struct LetterRepair: Sendable {
    let patch: JSONPatch
    /// What the topics carry.
    let roles: TopicRoles

    /// The new value.
    ///
    /// - Parameters:
    ///   - value: what is changed.
    ///   - record: the dead letter that it is of.
    /// - Throws: ``Fault``, a `JSONPatchError`: neither tells anything of the event.
    func applied(to value: ByteSlice?, of record: Record) throws -> ByteSlice {
        guard let value else { throw Fault.noValue }
        let new = try patch.applied(to: value)
        let candidate = Record(
            topic: record.topic, partition: record.partition, offset: record.offset, timestamp: record.timestamp, key: record.key,
            value: new, headers: record.headers)
        do {
            let event = try EventDecoder(roles: roles).decode(candidate)
            if let fault = LetterRepair.strangeness(of: event, in: record, roles) { throw fault }
        } catch let error as InvalidEvent {
            guard error.isNothing else { throw Fault.noEvent(rule: error.rule.rawValue, path: "\(error.path)") }
        }
        return new
    }

    /// What is wrong with an event that was made of a dead letter's, if it is another patient's: it would be handled in the order of the
    /// patient whose id the key is.
    package static func strangeness(of event: PatientEvent, in record: Record, _ roles: TopicRoles) -> Fault? {
        guard let key = record.key, let id = event.resourceIDBytes, id != key else { return nil }
        // Whoever keys records by something else may go on.
        guard let before = try? EventDecoder(roles: roles).decode(record), before.resourceIDBytes == key else { return nil }
        return .isAnothers
    }

    /// Why a dead letter can't be changed.
    package enum Fault: Error, Hashable, CustomStringConvertible {
        /// There is nothing to be changed.
        case noValue
        /// Its bytes stand where the event was first delivered, and are looked for when it is replayed.
        case isElsewhere
        /// What it would be is no event: the rule that it breaks, and where.
        case noEvent(rule: String, path: String)
        /// It is encrypted, and there is no key, or not the one.
        case isSealed
        /// It would be about another patient than its key says.
        case isAnothers

        package var description: String {
            switch self {
            case .noValue: "it has no value that could be changed"
            case .isElsewhere: "its bytes stand where the event was first delivered, so how it would look can't be told before"
            case .noEvent(let rule, let path): "what it would be is no event: \(rule)\(path.isEmpty ? "" : " at \(path)")"
            case .isAnothers:
                "what it would be is another patient's, and its key stays what it is: publish that as an event of its own"
            case .isSealed: "it is encrypted, and this service can't open it"
            }
        }
    }
}

/// What a patch would make of a dead letter, as far as that tells nothing of the patient.
struct LetterPreview: Sendable {
    let before: PayloadShape
    let after: PayloadShape

    /// A path of one type, and how many values have it.
    struct Line: Sendable, Hashable {
        let path: String
        let kind: JSONValue.Kind
        var before = 0
        var after = 0
    }

    /// What would be otherwise, in the order of the paths as they are.
    var changes: [Line] {
        var lines: [Line] = []
        var numbers: [String: Int] = [:]
        func number(_ line: PayloadShape.Line) -> Int {
            let name = "\(line.path) \(line.kind)"
            if let known = numbers[name] { return known }
            lines.append(Line(path: line.path, kind: line.kind))
            numbers[name] = lines.count - 1
            return lines.count - 1
        }
        for line in before.lines { lines[number(line)].before = line.count }
        for line in after.lines { lines[number(line)].after = line.count }
        return lines.filter { $0.before != $0.after }
    }
}
