internal import TriageEvents

/// A JSON value that is being changed: raw bytes where nothing was touched, opened up where something was.
enum JSONDraft {
    case raw(JSONValue)
    case array([JSONDraft])
    case object([Member])

    /// A member of an object.
    struct Member {
        /// Between its quotation marks, as it was written.
        let written: ByteSlice
        /// As it is meant.
        let name: ByteSlice
        var value: JSONDraft

        init(written: ByteSlice, value: JSONDraft) {
            self.written = written
            name = written.contains(UInt8(ascii: "\\")) ? JSONValue(Member.quoted(written))?.stringBytes ?? written : written
            self.value = value
        }

        /// A new one.
        init(name: ByteSlice, value: JSONDraft) {
            let quoted = ByteSlice(JSONText(String(decoding: name, as: UTF8.self)).quoted)
            written = quoted.subslice(1..<quoted.count - 1)
            self.name = name
            self.value = value
        }

        private static func quoted(_ text: ByteSlice) -> ByteSlice {
            var bytes = TextBytes(capacity: text.count + 2)
            bytes.append(byte: UInt8(ascii: "\""))
            bytes.append(text)
            bytes.append(byte: UInt8(ascii: "\""))
            return bytes.slice
        }
    }

    typealias Problem = JSONPatchError.Problem

    /// The same, its own members or elements known.
    var opened: JSONDraft {
        guard case .raw(let value) = self else { return self }
        switch value.kind {
        case .array: return .array(value.elements.map { .raw($0) })
        case .object:
            var members: [Member] = []
            value.forEachMember { name, value in
                members.append(Member(written: name, value: .raw(value)))
                return true
            }
            return .object(members)
        default: return self
        }
    }

    // MARK: Operations

    /// What stands at `path`.
    func value(at path: JSONPointer) throws(Problem) -> JSONDraft {
        var here = self
        for token in path.tokens { here = try here.child(token) }
        return here
    }

    /// Puts a value there: a member in place of one of its name, an element before the one with its index, at the end for `-`.
    mutating func add(_ value: JSONDraft, at path: JSONPointer) throws(Problem) {
        try edit(path.tokens[...], whole: { $0 = value }) { (parent, token) throws(Problem) in
            switch parent {
            case .array(var elements):
                if token.equals("-") {
                    elements.append(value)
                } else {
                    guard let index = JSONPointer.index(token), index <= elements.count else { throw .noIndex }
                    elements.insert(value, at: index)
                }
                parent = .array(elements)
            case .object(var members):
                if let index = try JSONDraft.index(of: token, in: members) {
                    members[index].value = value
                } else {
                    members.append(Member(name: token, value: value))
                }
                parent = .object(members)
            case .raw: throw .isMissing
            }
        }
    }

    /// Puts a value in place of what is there.
    mutating func replace(_ path: JSONPointer, by value: JSONDraft) throws(Problem) {
        try edit(path.tokens[...], whole: { $0 = value }) { (parent, token) throws(Problem) in
            try parent.setChild(token, value)
        }
    }

    /// Takes out what is there, and gives it.
    mutating func remove(_ path: JSONPointer) throws(Problem) -> JSONDraft {
        guard !path.tokens.isEmpty else { throw .isWhole }
        let removed = try value(at: path)
        try edit(path.tokens[...], whole: { _ in }) { (parent, token) throws(Problem) in
            switch parent {
            case .array(var elements):
                guard let index = JSONPointer.index(token), index < elements.count else { throw .noIndex }
                elements.remove(at: index)
                parent = .array(elements)
            case .object(var members):
                guard let index = try JSONDraft.index(of: token, in: members) else { throw .isMissing }
                members.remove(at: index)
                parent = .object(members)
            case .raw: throw .isMissing
            }
        }
        return removed
    }

    /// Calls `body` with what holds the value at `path`, opened, and the last token; `whole` if the path is empty.
    private mutating func edit(
        _ path: ArraySlice<ByteSlice>, whole: (inout JSONDraft) -> Void,
        _ body: (inout JSONDraft, ByteSlice) throws(Problem) -> Void
    ) throws(Problem) {
        guard let token = path.first else { return whole(&self) }
        var here = opened
        if path.count == 1 {
            try body(&here, token)
        } else {
            var child = try here.child(token)
            try child.edit(path.dropFirst(), whole: whole, body)
            try here.setChild(token, child)
        }
        self = here
    }

    private func child(_ token: ByteSlice) throws(Problem) -> JSONDraft {
        switch opened {
        case .array(let elements):
            guard let index = JSONPointer.index(token), index < elements.count else { throw .noIndex }
            return elements[index]
        case .object(let members):
            guard let index = try JSONDraft.index(of: token, in: members) else { throw .isMissing }
            return members[index].value
        case .raw: throw .isMissing
        }
    }

    private mutating func setChild(_ token: ByteSlice, _ value: JSONDraft) throws(Problem) {
        switch opened {
        case .array(var elements):
            guard let index = JSONPointer.index(token), index < elements.count else { throw .noIndex }
            elements[index] = value
            self = .array(elements)
        case .object(var members):
            guard let index = try JSONDraft.index(of: token, in: members) else { throw .isMissing }
            members[index].value = value
            self = .object(members)
        case .raw: throw .isMissing
        }
    }

    private static func index(of name: ByteSlice, in members: [Member]) throws(Problem) -> Int? {
        guard let first = members.firstIndex(where: { $0.name == name }) else { return nil }
        guard !members[(first + 1)...].contains(where: { $0.name == name }) else { throw .isAmbiguous }
        return first
    }

    // MARK: Text

    /// Bytes of its text.
    var count: Int {
        switch self {
        case .raw(let value): value.text.count
        case .array(let elements): elements.reduce(2 + max(0, elements.count - 1)) { $0 + $1.count }
        case .object(let members):
            members.reduce(2 + max(0, members.count - 1)) { $0 + $1.written.count + 3 + $1.value.count }
        }
    }

    /// Its text.
    var bytes: ByteSlice {
        var text = TextBytes(capacity: count)
        write(to: &text)
        return text.slice
    }

    private func write(to text: inout TextBytes) {
        switch self {
        case .raw(let value): text.append(value.text)
        case .array(let elements):
            text.append(byte: UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { text.append(byte: UInt8(ascii: ",")) }
                element.write(to: &text)
            }
            text.append(byte: UInt8(ascii: "]"))
        case .object(let members):
            text.append(byte: UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                text.append((index > 0 ? ",\"" : "\"") as StaticString)
                text.append(member.written)
                text.append("\":" as StaticString)
                member.value.write(to: &text)
            }
            text.append(byte: UInt8(ascii: "}"))
        }
    }

    // MARK: Equality

    /// Whether two values are equal (RFC 6902 §4.6): numbers by what they amount to, strings by code points, objects whatever
    /// their members' order.
    func equals(_ other: JSONDraft) -> Bool {
        switch (opened, other.opened) {
        case (.array(let left), .array(let right)):
            return left.count == right.count && zip(left, right).allSatisfy { $0.equals($1) }
        case (.object(let left), .object(let right)):
            guard left.count == right.count else { return false }
            return left.allSatisfy { member in
                let same = right.filter { $0.name == member.name }
                return same.count == 1 && left.count { $0.name == member.name } == 1 && member.value.equals(same[0].value)
            }
        case (.raw(let left), .raw(let right)):
            guard left.kind == right.kind else { return false }
            switch left.kind {
            case .string: return left.stringBytes == right.stringBytes
            case .number: return left.text == right.text || JSONNumber(left.text) == JSONNumber(right.text)
            default: return left.text == right.text
            }
        default: return false
        }
    }
}

/// What a JSON number amounts to, whatever its length: a sign, digits without zeros at either end, and a power of ten.
struct JSONNumber: Equatable {
    private let isNegative: Bool
    private let digits: [UInt8]
    private let exponent: Int

    /// The number that a text says, which was found to be one.
    init(_ text: ByteSlice) {
        var digits: [UInt8] = []
        var exponent = 0
        var isFraction = false
        var rest = Array(text)[...]
        let isNegative = rest.first == UInt8(ascii: "-")
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "."): isFraction = true
            case UInt8(ascii: "e"), UInt8(ascii: "E"):
                let text = String(decoding: rest, as: UTF8.self)
                // What doesn't fit is a number that no reader takes; it only equals its like.
                exponent += (Int(text) ?? (text.first == "-" ? .min : .max)).clamped(to: -1_000_000_000...1_000_000_000)
                rest = []
            case 0x30...0x39:
                if isFraction { exponent -= 1 }
                digits.append(byte)
            default: break
            }
        }
        digits = Array(digits.drop { $0 == 0x30 })
        while digits.last == 0x30 {
            digits.removeLast()
            exponent += 1
        }
        self.digits = digits
        self.isNegative = !digits.isEmpty && isNegative
        self.exponent = digits.isEmpty ? 0 : exponent
    }
}

extension Int {
    fileprivate func clamped(to range: ClosedRange<Int>) -> Int { Swift.min(Swift.max(self, range.lowerBound), range.upperBound) }
}
