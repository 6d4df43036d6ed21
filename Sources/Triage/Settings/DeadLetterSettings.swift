extension ConfigurationLoader {
    /// The keys of dead letters, each with what it means.
    static let deadLetterKeys: [(key: String, meaning: String)] = [
        (
            "dead-letter-key-file",
            "file with at least 32 bytes that dead letters are sealed with; behind a comma, those of before, which only open"
        )
    ]

    /// The cipher of the files that `dead-letter-key-file` names; nil if it isn't set.
    ///
    /// - Throws: ``ConfigurationError`` with the file's name if it can't be read, or has too few bytes.
    func deadLetterCipher() throws(ConfigurationError) -> DeadLetterCipher? {
        guard let files = text("dead-letter-key-file") else { return nil }
        return try DeadLetterCipher(
            keys: ConfigurationLoader.topics(files).map { (path) throws(ConfigurationError) in
                try ConfigurationLoader.deadLetterKey(path, key: "dead-letter-key-file")
            })
    }

    /// The key in a file; `key` is where it was named.
    package static func deadLetterKey(_ path: String, key: String) throws(ConfigurationError) -> DeadLetterSealKey {
        do throws(DeadLetterSealKeyError) { return try DeadLetterSealKey(contentsOfFile: path) } catch {
            throw ConfigurationError(
                key: key, value: path, expected: "a file with \(DeadLetterSealKey.minimumByteCount) bytes to 64 KiB: \(error)")
        }
    }
}
