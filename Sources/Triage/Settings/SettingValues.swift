internal import Foundation

extension ConfigurationLoader {
    /// A key that is true or false; nil if it isn't set.
    func truth(_ key: String) throws(ConfigurationError) -> Bool? {
        switch text(key) {
        case nil: nil
        case "true", "yes", "on", "1": true
        case "false", "no", "off", "0": false
        case let other?: throw ConfigurationError(key: key, value: other, expected: "true or false")
        }
    }

    /// The secret in the file that a key names, without the line break at its end; nil if the key isn't set.
    ///
    /// - Throws: ``ConfigurationError`` with the file's name, never its content, if it can't be read or can't stand in a header: 1 to
    ///   4,096 visible ASCII characters.
    func secret(_ key: String) throws(ConfigurationError) -> String? {
        guard let path = text(key) else { return nil }
        guard let bytes = try secretBytes(key, atLeast: 1), bytes.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw ConfigurationError(
                key: key, value: path, expected: "a file with up to 4096 visible ASCII characters in one line")
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The bytes in the file that a key names, without a line break at their end; nil if the key isn't set.
    func secretBytes(_ key: String, atLeast minimum: Int) throws(ConfigurationError) -> [UInt8]? {
        guard let path = text(key) else { return nil }
        guard let data = FileManager.default.contents(atPath: path) else {
            throw ConfigurationError(key: key, value: path, expected: "a readable file")
        }
        var bytes = [UInt8](data.prefix(8192))
        while let last = bytes.last, last == 0x0A || last == 0x0D { bytes.removeLast() }
        guard (minimum...4096).contains(bytes.count) else {
            throw ConfigurationError(key: key, value: path, expected: "a file with \(minimum) to 4096 bytes")
        }
        return bytes
    }

    /// The path of a file that can be read; nil if the key isn't set.
    func readableFile(_ key: String) throws(ConfigurationError) -> String? {
        guard let path = text(key) else { return nil }
        guard FileManager.default.isReadableFile(atPath: path) else {
            throw ConfigurationError(key: key, value: path, expected: "a readable file")
        }
        return path
    }

    /// A file with certificates in PEM (RFC 7468 §5), as libcurl wants authorities: found out before the first call fails by it.
    func certificatesFile(_ key: String) throws(ConfigurationError) -> String? {
        guard let path = try readableFile(key) else { return nil }
        let text = FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
        guard text.contains("-----BEGIN CERTIFICATE-----") || text.contains("-----BEGIN TRUSTED CERTIFICATE-----") else {
            throw ConfigurationError(key: key, value: path, expected: "a PEM file with at least one certificate")
        }
        return path
    }
}
