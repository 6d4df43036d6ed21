internal import Crypto
public import HTTPTypes

/// Judges whether who asks knows a secret: a bearer token, or the value of a header field.
///
/// Any one of the secrets it was given lets in, so that one can be exchanged while both are good. The secrets themselves are not
/// kept, only their SHA-256; those of what came and of what is known are compared in constant time, so an answer's time tells
/// neither how much of a guess was right nor how long the secret is.
public struct Authenticator: Sendable {
    /// A header field and what its value hashes to.
    private struct KnownField: Sendable {
        let name: HTTPField.Name
        let digest: SHA256Digest
    }

    private let tokens: [SHA256Digest]
    private let fields: [KnownField]

    /// An authenticator of these secrets; without any it admits everyone.
    ///
    /// - Parameters:
    ///   - bearerTokens: what may stand behind `Authorization: Bearer` (RFC 6750 §2.1); empty ones are left out.
    ///   - fields: header fields and their values, such as `X-Webhook-Key`; those with an empty value are left out.
    public init(bearerTokens: [String] = [], fields: [(name: HTTPField.Name, value: String)] = []) {
        tokens = bearerTokens.filter { !$0.isEmpty }.map { SHA256.hash(data: Array($0.utf8)) }
        self.fields = fields.filter { !$0.value.isEmpty }
            .map { KnownField(name: $0.name, digest: SHA256.hash(data: Array($0.value.utf8))) }
    }

    /// Whether everyone is admitted, since there is no secret.
    public var isOpen: Bool { tokens.isEmpty && fields.isEmpty }

    /// Whether a request with these header fields is admitted.
    public func admits(_ headers: HTTPFields) -> Bool {
        guard !isOpen else { return true }
        var isAdmitted = false
        if !tokens.isEmpty, let token = Authenticator.bearerToken(headers.only(.authorization)) {
            let digest = SHA256.hash(data: Array(token))
            // All of them, whichever was right: the time must not tell which.
            for known in tokens where known == digest { isAdmitted = true }
        }
        for known in fields {
            if let value = headers.only(known.name), known.digest == SHA256.hash(data: Array(value.utf8)) { isAdmitted = true }
        }
        return isAdmitted
    }

    /// The token of the only `Authorization` field; nil for other schemes, and for several fields, of which proxies may see another.
    private static func bearerToken(_ value: String?) -> Substring.UTF8View? {
        guard var rest = value?.utf8[...] else { return nil }
        for letter in "bearer".utf8 { guard let byte = rest.popFirst(), byte | 0x20 == letter else { return nil } }
        guard rest.first == UInt8(ascii: " ") else { return nil }
        rest = rest.drop { $0 == UInt8(ascii: " ") }
        return rest.isEmpty ? nil : rest
    }
}
