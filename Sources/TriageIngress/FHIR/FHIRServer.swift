public import TriageEvents

/// A FHIR server and how it is called.
public struct FHIRServer: Sendable {
    /// How we say who we are.
    public enum Authorization: Sendable, Hashable {
        /// Not at all.
        case none
        /// HTTP Basic (RFC 7617); the user without a colon.
        case basic(user: String, password: String)
        /// A bearer token (RFC 6750).
        case bearer(String)

        /// The value of `Authorization`; nil for none.
        var header: String? {
            switch self {
            case .none: nil
            case .basic(let user, let password): "Basic \(Base64.text(Array("\(user):\(password)".utf8)))"
            case .bearer(let token): "Bearer \(token)"
            }
        }
    }

    /// The base URL without a slash at its end, such as `https://fhir.example.org/r4`.
    public let base: String
    /// Which server that is.
    public let origin: HTTPOrigin
    /// How we say who we are. A secret.
    public let authorization: Authorization
    /// How long one call may take.
    public let timeout: Duration

    /// A server; nil if `base` is no absolute http(s) URL without user, query and fragment.
    public init?(_ base: String, authorization: Authorization = .none, timeout: Duration = .seconds(30)) {
        var base = base
        while base.hasSuffix("/") { base.removeLast() }
        guard let origin = HTTPOrigin(base), !origin.rest.contains("?"), !origin.rest.contains("#") else { return nil }
        self.base = base
        self.origin = origin
        self.authorization = authorization
        self.timeout = timeout
    }
}

/// Base64 (RFC 4648 §4), of the few bytes of a header.
enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    /// The text of `bytes`, padded.
    static func text(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let rest = bytes[start..<min(start + 3, bytes.count)]
            let word = rest.reduce(0) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - rest.count))
            for index in 0..<4 {
                let digit = alphabet[Int(word >> (18 - 6 * UInt32(index)) & 63)]
                text.append(index <= rest.count ? digit : UInt8(ascii: "="))
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
