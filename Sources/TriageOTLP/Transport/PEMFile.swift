internal import Glibc

/// Looks into PEM files (RFC 7468) before libcurl does, so that one that can't be used is named at the start.
enum PEMFile {
    /// What a file must hold.
    enum Content {
        /// One certificate or more.
        case certificates
        /// A private key that isn't encrypted, since there is no variable for its password.
        case privateKey

        /// What was expected, in words.
        var expected: String {
            switch self {
            case .certificates: "a readable PEM file with at least one certificate"
            case .privateKey: "a readable PEM file with an unencrypted private key"
            }
        }

        fileprivate func accepts(_ label: Substring) -> Bool {
            switch self {
            case .certificates: label == "CERTIFICATE" || label == "TRUSTED CERTIFICATE" || label == "X509 CERTIFICATE"
            case .privateKey: label == "PRIVATE KEY" || (label.hasSuffix(" PRIVATE KEY") && label != "ENCRYPTED PRIVATE KEY")
            }
        }
    }

    /// A system's bundle of authorities has a quarter of this.
    private static let maximumBytes = 4 * 1024 * 1024

    /// Whether `text` has a whole block of this content, and no broken one.
    static func holds(_ content: Content, _ text: String) -> Bool {
        var label: Substring?
        var base64 = ""
        var found = false
        for line in text.split(whereSeparator: \.isNewline) {
            if let current = label {
                if line == "-----END \(current)-----" {
                    if content.accepts(current) {
                        guard isDER(base64) else { return false }
                        found = true
                    }
                    label = nil
                } else {
                    base64 += line
                }
            } else if line.hasPrefix("-----BEGIN "), line.hasSuffix("-----") {
                label = line.dropFirst(11).dropLast(5)
                base64 = ""
            }
        }
        return found && label == nil
    }

    /// The text of a file; nil if it can't be read, is larger than any bundle, or isn't ASCII at heart.
    static func read(_ path: String) -> String? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes: [UInt8] = []
        while bytes.count <= maximumBytes {
            let chunk = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
                count = max(0, Glibc.read(file, buffer.baseAddress, buffer.count))
            }
            if chunk.isEmpty { return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self) }
            bytes += chunk
        }
        return nil
    }

    /// Whether the text decodes to one DER sequence, of exactly the length that it says.
    private static func isDER(_ text: String) -> Bool {
        guard let bytes = decoded(text), bytes.count > 2, bytes[0] == 0x30 else { return false }
        guard bytes[1] & 0x80 != 0 else { return bytes.count == 2 + Int(bytes[1]) }
        let size = Int(bytes[1] & 0x7F)
        guard (1...4).contains(size), bytes.count > 2 + size else { return false }
        return bytes.count == 2 + size + bytes[2..<(2 + size)].reduce(0) { $0 << 8 | Int($1) }
    }

    private static func decoded(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        var bits: UInt32 = 0
        var count = 0
        var padding = 0
        for byte in text.utf8 where byte != UInt8(ascii: " ") && byte != UInt8(ascii: "\t") {
            if byte == UInt8(ascii: "=") {
                padding += 1
                continue
            }
            guard padding == 0, let value = sextet(byte) else { return nil }
            bits = bits << 6 | value
            count += 1
            if count % 4 == 0 { bytes += [UInt8(bits >> 16 & 0xFF), UInt8(bits >> 8 & 0xFF), UInt8(bits & 0xFF)] }
        }
        switch (count % 4, padding) {
        case (0, 0): break
        case (2, 2): bytes.append(UInt8(bits >> 4 & 0xFF))
        case (3, 1): bytes += [UInt8(bits >> 10 & 0xFF), UInt8(bits >> 2 & 0xFF)]
        default: return nil
        }
        return bytes
    }

    private static func sextet(_ byte: UInt8) -> UInt32? {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(byte - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(byte - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
