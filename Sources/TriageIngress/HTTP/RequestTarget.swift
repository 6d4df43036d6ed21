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
        guard target.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else { return nil }
        var rest = target[...]
        if !rest.hasPrefix("/") {
            let lower = rest.prefix(8).lowercased()
            guard lower.hasPrefix("http://") || lower.hasPrefix("https://") else { return nil }
            rest = rest.dropFirst(lower.hasPrefix("https://") ? 8 : 7)
            rest = rest.firstIndex { $0 == "/" || $0 == "?" }.map { rest[$0...] } ?? ""
        }
        // A fragment is never sent (RFC 9112 §3.2.1).
        guard !rest.contains("#") else { return nil }
        let mark = rest.firstIndex(of: "?")
        let path = rest[..<(mark ?? rest.endIndex)]
        var segments: [String] = []
        if !path.isEmpty, path != "/" {
            for raw in path.dropFirst().split(separator: "/", omittingEmptySubsequences: false) {
                guard let segment = RequestTarget.decoded(raw, plusIsSpace: false), segment != ".", segment != "..",
                    !segment.utf8.contains(where: { $0 == 0x2F || $0 == 0x5C })
                else { return nil }
                segments.append(segment)
            }
        }
        var query: [Pair] = []
        if let mark {
            for raw in rest[rest.index(after: mark)...].split(separator: "&") {
                let halves = raw.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                guard let name = RequestTarget.decoded(halves[0], plusIsSpace: true),
                    let value = RequestTarget.decoded(halves.count == 2 ? halves[1] : "", plusIsSpace: true)
                else { return nil }
                query.append(Pair(name: name, value: value))
            }
        }
        self.segments = segments
        self.query = query
    }

    /// Percent-decodes; nil for what isn't decodable, isn't UTF-8, or holds control characters.
    private static func decoded(_ text: Substring, plusIsSpace: Bool) -> String? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        var rest = text.utf8[...]
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
