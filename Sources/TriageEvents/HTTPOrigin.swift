/// The parts of an absolute `http` or `https` URL that say which server it means (RFC 6454 §4), for calling and for telemetry.
public struct HTTPOrigin: Sendable, Hashable, CustomStringConvertible {
    /// `http` or `https`.
    public let scheme: String
    /// The host in lower case, an IPv6 address without its brackets.
    public let host: String
    /// The port, the scheme's own where the URL names none.
    public let port: Int
    /// What follows the authority: path, query and fragment; may be empty. Possibly patient data or a secret.
    public let rest: String

    /// The origin of `url`; nil if it is no absolute `http` or `https` URL, names a user, or has a byte that a URL can't have
    /// (RFC 3986 §2: white space, controls, anything but ASCII).
    public init?(_ url: String) {
        guard url.utf8.count <= 8192, url.utf8.allSatisfy({ (0x21...0x7E).contains($0) && !"\"<>\\^`{|}".utf8.contains($0) })
        else { return nil }
        guard let colon = url.firstIndex(of: ":"), url[colon...].hasPrefix("://") else { return nil }
        scheme = url[..<colon].lowercased()
        guard scheme == "http" || scheme == "https" else { return nil }
        let behind = url[url.index(colon, offsetBy: 3)...]
        let end = behind.firstIndex { "/?#".contains($0) } ?? behind.endIndex
        let authority = behind[..<end]
        guard !authority.contains("@") else { return nil }
        var name = authority
        var number: Substring?
        if authority.hasPrefix("[") {
            guard let bracket = authority.firstIndex(of: "]") else { return nil }
            name = authority[authority.index(after: authority.startIndex)..<bracket]
            let tail = authority[authority.index(after: bracket)...]
            guard tail.isEmpty || tail.first == ":" else { return nil }
            if !tail.isEmpty { number = tail.dropFirst() }
        } else if let colon = authority.firstIndex(of: ":") {
            name = authority[..<colon]
            number = authority[authority.index(after: colon)...]
        }
        guard !name.isEmpty, !name.contains("[") else { return nil }
        host = name.lowercased()
        if let number {
            guard let port = Int(number), (1...65535).contains(port), number.utf8.allSatisfy({ (0x30...0x39).contains($0) })
            else { return nil }
            self.port = port
        } else {
            port = scheme == "https" ? 443 : 80
        }
        rest = String(behind[end...])
    }

    /// Whether the two name the same server, whatever their paths.
    public func isSameServer(as other: HTTPOrigin) -> Bool { (scheme, host, port) == (other.scheme, other.host, other.port) }

    /// Scheme, host and, unless it is the scheme's own, port; never the path.
    public var description: String {
        let host = host.contains(":") ? "[\(host)]" : host
        return port == (scheme == "https" ? 443 : 80) ? "\(scheme)://\(host)" : "\(scheme)://\(host):\(port)"
    }
}
