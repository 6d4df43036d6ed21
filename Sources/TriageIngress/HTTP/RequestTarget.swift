/// What the target of a request names, taken apart before anything is decoded (RFC 9112 §3.2, RFC 3986 §2.1).
///
/// A target that could mean different things to a proxy and to us is nil: dot segments, encoded or not, an encoded slash or
/// backslash, control characters, percent signs that begin no octet, bytes that aren't UTF-8.
struct RequestTarget: Sendable, Equatable {
    /// A name and its value in the query.
    struct Pair: Sendable, Equatable {
        let name: String
        let value: String
    }

    /// The decoded segments of the path, none for `/`; an empty one for each empty stretch between slashes.
    let segments: [String]
    /// The decoded pairs of the query, in order.
    let query: [Pair]

    /// Takes apart an origin-form target, or an absolute one of `http` or `https`, whose authority is passed over.
    init?(_ target: String) {
        // By bytes, since characters of a text take long to find and all of these are ASCII.
        guard target.utf8.allSatisfy({ (0x21...0x7E).contains($0) }), var rest = RequestTarget.origin(target) else { return nil }
        // A fragment is never sent (RFC 9112 §3.2.1).
        guard !rest.contains(UInt8(ascii: "#")) else { return nil }
        var pairs: Substring.UTF8View?
        if let mark = rest.firstIndex(of: UInt8(ascii: "?")) {
            pairs = rest[rest.index(after: mark)...]
            rest = rest[..<mark]
        }
        var segments: [String] = []
        // The first byte is the slash; behind it there may be nothing.
        rest = rest.dropFirst()
        if !rest.isEmpty {
            for raw in rest.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
                guard let segment = RequestTarget.decoded(raw, plusIsSpace: false), segment != ".", segment != "..",
                    !segment.utf8.contains(where: { $0 == 0x2F || $0 == 0x5C })
                else { return nil }
                segments.append(segment)
            }
        }
        var query: [Pair] = []
        for raw in pairs?.split(separator: UInt8(ascii: "&")) ?? [] {
            let halves = raw.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = RequestTarget.decoded(halves[0], plusIsSpace: true),
                let value = RequestTarget.decoded(halves.count == 2 ? halves[1] : ""[...].utf8, plusIsSpace: true)
            else { return nil }
            query.append(Pair(name: name, value: value))
        }
        self.segments = segments
        self.query = query
    }

    /// The target from its path on; nil if it has neither of the two forms.
    private static func origin(_ target: String) -> Substring.UTF8View? {
        guard target.utf8.first != UInt8(ascii: "/") else { return target.utf8[...] }
        let lower = target.prefix(8).lowercased()
        guard lower.hasPrefix("http://") || lower.hasPrefix("https://") else { return nil }
        let rest = target.utf8.dropFirst(lower.hasPrefix("https://") ? 8 : 7)
        return rest.firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") }.map { rest[$0...] } ?? ""[...].utf8
    }

    /// Percent-decodes; nil for what isn't decodable, isn't UTF-8, or holds control characters.
    private static func decoded(_ text: Substring.UTF8View, plusIsSpace: Bool) -> String? {
        guard text.contains(where: { $0 == UInt8(ascii: "%") || $0 == UInt8(ascii: "+") }) else { return String(Substring(text)) }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count)
        var rest = text
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "%"):
                guard let high = rest.popFirst().flatMap(hexValue), let low = rest.popFirst().flatMap(hexValue) else {
                    return nil
                }
                bytes.append(high << 4 | low)
            case UInt8(ascii: "+") where plusIsSpace: bytes.append(0x20)
            default: bytes.append(byte)
            }
        }
        guard bytes.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func hexValue(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x41 + 10
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }
}
