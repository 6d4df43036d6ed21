public import TriageEvents

/// A repair of JSON texts: a list of operations that are done one after the other, all or none (RFC 6902).
///
/// What no operation touches keeps its bytes: numbers stay as they were written, members in their order. Only white space
/// between the members of what is changed, and of what holds it, is lost.
public struct JSONPatch: Sendable, Hashable {
    /// What an operation does (RFC 6902 §4).
    public enum Kind: String, Sendable, Hashable, CaseIterable {
        /// Puts a member or element there, in place of a member that is there already (§4.1).
        case add
        /// Takes it out (§4.2).
        case remove
        /// Puts something else in its place (§4.3).
        case replace
        /// Takes it out and adds it elsewhere (§4.4).
        case move
        /// Adds it elsewhere as well (§4.5).
        case copy
        /// Goes on only if what is there equals the given value (§4.6).
        case test
    }

    /// One step of a patch.
    public struct Operation: Sendable, Hashable {
        /// What it does.
        public let kind: Kind
        /// Where.
        public let path: JSONPointer
        /// Where from, of a move or copy.
        public let from: JSONPointer?
        /// The bytes of what is added, put in place or compared; of other kinds nil.
        public let value: ByteSlice?
    }

    /// What is done, in this order.
    public let operations: [Operation]

    /// Bytes that a patched text has at most: what an event may have.
    public static let maximumBytes = 64 << 20

    /// The patch that a text says: a JSON array of operations.
    ///
    /// - Throws: ``JSONPatchError`` which names the operation and what is wrong with it.
    public init(_ text: ByteSlice) throws(JSONPatchError) {
        let list = try JSONPatch.value(text, or: .notJSON)
        guard list.kind == .array else { throw .notAnArray }
        var operations: [Operation] = []
        for (index, element) in list.elements.enumerated() {
            do {
                operations.append(try JSONPatch.operation(element))
            } catch {
                throw .malformed(index + 1, error)
            }
        }
        self.operations = operations
    }

    /// The text after all operations.
    ///
    /// - Throws: ``JSONPatchError`` with the first operation that can't be done. Nothing of the text is in it.
    public func applied(to text: ByteSlice) throws(JSONPatchError) -> ByteSlice {
        var draft = JSONDraft.raw(try JSONPatch.value(text, or: .documentNotJSON))
        for (index, operation) in operations.enumerated() {
            do {
                try JSONPatch.apply(operation, to: &draft)
            } catch {
                throw .failed(index + 1, operation.kind, operation.path, error)
            }
        }
        return draft.bytes
    }

    /// A text that is one JSON value; of it ``JSONValue`` reads what is there.
    static func value(_ text: ByteSlice, or error: JSONPatchError) throws(JSONPatchError) -> JSONValue {
        // The parser checks objects. A text that closes this one and opens another would pass, but its first value isn't all
        // of it.
        var wrapped = TextBytes(capacity: text.count + 6)
        wrapped.append("{\"v\":" as StaticString)
        wrapped.append(text)
        wrapped.append(byte: UInt8(ascii: "}"))
        guard let value = JSONValue(text), (try? EventDecoder().checkObject(wrapped.slice)) != nil
        else { throw error }
        let first = text.firstIndex { $0 > 0x20 } ?? 0
        guard text.subslice(min(text.count, first + value.text.count)..<text.count).allSatisfy({ $0 <= 0x20 }) else {
            throw error
        }
        return value
    }

    private static func operation(_ element: JSONValue) throws(JSONPatchError.Fault) -> Operation {
        guard element.kind == .object else { throw .noObject }
        var texts: [String: String] = [:]
        var value: ByteSlice?
        var fault: JSONPatchError.Fault?
        element.forEachMember { name, member in
            // A member that isn't defined is passed over (§3); one that is there twice is an error (§4).
            guard let name = name.utf8Text, ["op", "path", "from", "value"].contains(name) else { return true }
            guard name == "value" ? value == nil : texts[name] == nil else {
                fault = .repeated(name)
                return false
            }
            if name == "value" {
                value = member.text
            } else if let text = member.string {
                texts[name] = text
            } else {
                fault = .noText(name)
                return false
            }
            return true
        }
        if let fault { throw fault }
        guard let kind = texts["op"].flatMap(Kind.init) else { throw .unknownKind }
        guard let path = texts["path"].map(JSONPointer.init) else { throw .missing("path") }
        guard let path else { throw .noPointer("path") }
        var from: JSONPointer?
        if kind == .move || kind == .copy {
            guard let text = texts["from"] else { throw .missing("from") }
            guard let pointer = JSONPointer(text) else { throw .noPointer("from") }
            from = pointer
        }
        let needsValue = kind == .add || kind == .replace || kind == .test
        guard !needsValue || value != nil else { throw .missing("value") }
        return Operation(kind: kind, path: path, from: from, value: needsValue ? value : nil)
    }

    private static func apply(_ operation: Operation, to draft: inout JSONDraft) throws(JSONPatchError.Problem) {
        let value = operation.value.flatMap { JSONValue($0) }.map { JSONDraft.raw($0) }
        switch operation.kind {
        case .add:
            if let value { try draft.add(value, at: operation.path) }
        case .replace:
            if let value { try draft.replace(operation.path, by: value) }
        case .remove:
            _ = try draft.remove(operation.path)
        case .test:
            let found = try draft.value(at: operation.path)
            guard let value, found.equals(value) else { throw .isDifferent }
        case .copy:
            guard let from = operation.from else { return }
            let copied = try draft.value(at: from)
            // A few copies of the whole into itself would make more than there is memory.
            guard draft.count + copied.count <= maximumBytes else { throw .isTooLarge }
            try draft.add(copied, at: operation.path)
        case .move:
            guard let from = operation.from else { return }
            guard from != operation.path else {
                _ = try draft.value(at: from)
                return
            }
            guard !from.isAbove(operation.path) else { throw .isInside }
            try draft.add(try draft.remove(from), at: operation.path)
        }
        guard operation.kind != .add || draft.count <= maximumBytes else { throw .isTooLarge }
    }
}

/// Why a patch can't be read or applied. Paths are the patch's own; of the patched text nothing is said.
public enum JSONPatchError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The patch is no JSON.
    case notJSON
    /// The patch is JSON, but no array.
    case notAnArray
    /// An operation, counted from 1, isn't one.
    case malformed(Int, Fault)
    /// What is to be patched is no JSON.
    case documentNotJSON
    /// An operation, counted from 1, can't be done.
    case failed(Int, JSONPatch.Kind, JSONPointer, Problem)

    /// What is wrong with the text of an operation.
    public enum Fault: Error, Sendable, Hashable {
        /// It is no object.
        case noObject
        /// `op` is missing or none of RFC 6902's.
        case unknownKind
        /// A member that it needs isn't there.
        case missing(String)
        /// A member must be a string.
        case noText(String)
        /// A member is there twice.
        case repeated(String)
        /// A member is no JSON pointer (RFC 6901).
        case noPointer(String)
    }

    /// Why an operation can't be done.
    public enum Problem: Error, Sendable, Hashable {
        /// There is nothing at the path, or nothing that could hold it.
        case isMissing
        /// The path names no element of the array that it leads to.
        case noIndex
        /// The object has two members of that name, and which is meant isn't known.
        case isAmbiguous
        /// What is there doesn't equal the value.
        case isDifferent
        /// The whole text would be taken out.
        case isWhole
        /// It would be moved into itself.
        case isInside
        /// The text would become longer than an event may be.
        case isTooLarge
    }

    /// Which operation, and what was expected.
    public var description: String {
        switch self {
        case .notJSON: "the patch is no JSON"
        case .notAnArray: "the patch is no array of operations, such as [{\"op\":\"remove\",\"path\":\"/data/gender\"}]"
        case .malformed(let number, let fault): "operation \(number) of the patch \(JSONPatchError.text(fault))"
        case .documentNotJSON: "what is to be patched is no JSON; it can be repaired by hand"
        case .failed(let number, let kind, let path, let problem):
            "operation \(number) of the patch (\(kind.rawValue) \(PlainText.printable(path.description))): "
                + JSONPatchError.text(problem)
        }
    }

    private static func text(_ fault: Fault) -> String {
        switch fault {
        case .noObject: "is no object"
        case .unknownKind: "has no \"op\" of add, remove, replace, move, copy, test"
        case .missing(let name): "has no \"\(name)\""
        case .noText(let name): "has a \"\(name)\" that is no string"
        case .repeated(let name): "has two members \"\(name)\""
        case .noPointer(let name): "has a \"\(name)\" that is no JSON pointer, such as /data/name/0"
        }
    }

    private static func text(_ problem: Problem) -> String {
        switch problem {
        case .isMissing: "there is nothing at that path"
        case .noIndex: "the array has no such element"
        case .isAmbiguous: "the object has two members of that name"
        case .isDifferent: "what is there doesn't equal the value"
        case .isWhole: "the whole event can't be taken out"
        case .isInside: "it can't be moved into itself"
        case .isTooLarge: "the event would become longer than 64 MiB"
        }
    }
}
