/// A name under which a console is reached from elsewhere, such as behind a proxy: `name`, `name:port` or `https://name:port`.
public struct ConsoleHostName: Sendable, Hashable, CustomStringConvertible {
    /// Whether a proxy before it speaks TLS.
    public let isSecure: Bool
    /// The name or address in lower case, with the port if it isn't the scheme's own.
    public let authority: String

    /// Reads an entry; nil for anything else than the three forms.
    public init?(_ text: String) {
        var rest = text.lowercased()[...]
        isSecure = rest.hasPrefix("https://")
        if isSecure { rest = rest.dropFirst(8) } else if rest.hasPrefix("http://") { rest = rest.dropFirst(7) }
        guard let parts = ConsoleHosts.parts(String(rest)) else { return nil }
        authority = ConsoleHosts.authority(parts.name, parts.port, isSecure: isSecure)
    }

    /// What browsers send as `Origin` from there.
    public var description: String { "\(isSecure ? "https" : "http")://\(authority)" }
}

/// Judges the header `Host`: whoever makes a name of his own lead to this machine's address (DNS rebinding) has his pages treated by
/// browsers as if they came from here, and only the name tells.
struct ConsoleHosts: Sendable, Hashable {
    private let names: [ConsoleHostName]

    /// The address that is listened on and this machine's own names, each with the port; beside them `further` names.
    init(host: String, port: Int, further: [ConsoleHostName]) {
        var own = ["localhost", "127.0.0.1", "[::1]"]
        let host = host.lowercased()
        let bound = host.contains(":") ? "[\(host)]" : host
        // A wildcard is no name, and any address of this machine may be meant by it: those are for `further`.
        if !["0.0.0.0", "[::]", "", "*"].contains(bound), !own.contains(bound) { own.append(bound) }
        names = own.compactMap { ConsoleHostName("\($0):\(port)") } + further
    }

    /// The name that a request was sent to; nil if it isn't an expected one.
    func match(_ authority: String?) -> ConsoleHostName? {
        guard let authority, let parts = ConsoleHosts.parts(authority.lowercased()) else { return nil }
        return names.first { known in
            known.authority == ConsoleHosts.authority(parts.name, parts.port, isSecure: known.isSecure)
        }
    }

    /// Name and port; nil for anything that isn't `name`, `name:port`, `[v6]` or `[v6]:port`.
    static func parts(_ text: String) -> (name: String, port: Int?)? {
        guard (1...255).contains(text.utf8.count) else { return nil }
        var name = text[...]
        var port: Int?
        let end = name.hasPrefix("[") ? name.firstIndex(of: "]") : name.startIndex
        guard let end else { return nil }
        if let colon = name[end...].firstIndex(of: ":") {
            let digits = name[name.index(after: colon)...]
            guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(digits),
                (0...65_535).contains(number)
            else { return nil }
            port = number
            name = name[..<colon]
        }
        let isName =
            name.hasPrefix("[")
            ? name.hasSuffix("]") && name.dropFirst().dropLast().utf8.allSatisfy { $0.isHexDigit || $0 == 0x3A || $0 == 0x2E }
            : name.utf8.allSatisfy { $0.isHexDigit || (0x67...0x7A).contains($0) || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F }
        guard isName, !name.isEmpty else { return nil }
        return (String(name), port)
    }

    fileprivate static func authority(_ name: String, _ port: Int?, isSecure: Bool) -> String {
        guard let port, port != (isSecure ? 443 : 80) else { return name }
        return "\(name):\(port)"
    }
}

extension ConsoleHostName {
    /// Whether a request that changes something comes from a page of this console.
    ///
    /// `Origin` must be this one (RFC 6454 §7). A browser that leaves it away says `Sec-Fetch-Site: same-origin` instead (Fetch
    /// Metadata §2.4); a request with neither is no browser's of today, and refused.
    func isOwn(origin: String?, site: String?) -> Bool {
        if let origin { return origin == description && (site == nil || site == "same-origin") }
        return site == "same-origin"
    }
}

extension UInt8 {
    fileprivate var isHexDigit: Bool { (0x30...0x39).contains(self) || (0x61...0x66).contains(self) }
}
