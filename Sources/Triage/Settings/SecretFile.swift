internal import Glibc
internal import TriageIngress

/// A small file that holds a secret, such as a token.
enum SecretFile {
    /// Bytes that such a file may have.
    static let maximumBytes = 64 * 1024

    /// The lines of a file without their ends and without empty ones; nil if it can't be read, is too large or is no UTF-8.
    static func lines(of path: String) -> [String]? {
        guard let file = fopen(path, "re") else { return nil }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: maximumBytes + 1)
        let count = fread(&bytes, 1, bytes.count, file)
        guard ferror(file) == 0, count <= maximumBytes, let text = String(validating: bytes[..<count], as: UTF8.self) else {
            return nil
        }
        return text.split(whereSeparator: \.isNewline).map(String.init)
    }

    /// The secrets in a file, one a line: two while one is exchanged for the next.
    ///
    /// - Throws: ``ConfigurationError`` naming `key` if the file can't be read, has none, or one that is short or not visible ASCII.
    static func secrets(of path: String, key: String) throws(ConfigurationError) -> [String] {
        guard let secrets = lines(of: path), !secrets.isEmpty,
            secrets.allSatisfy({ secret in
                secret.utf8.count >= Authenticator.minimumTokenLength && secret.utf8.allSatisfy { (0x21...0x7E).contains($0) }
            })
        else {
            throw ConfigurationError(
                key: key, value: path,
                expected:
                    "a readable file with a secret of at least \(Authenticator.minimumTokenLength) visible characters a line")
        }
        return secrets
    }
}

extension Authenticator {
    /// Characters that a token in a file must have at least, so that nobody guesses it.
    static let minimumTokenLength = 16
}
