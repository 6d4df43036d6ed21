internal import Configuration
internal import Glibc
internal import Synchronization
internal import SystemPackage

/// The settings of a YAML file, each by its key; what stands there in several lines is in one line as in the environment.
enum ConfigurationFile {
    /// Reads the file; one that holds nothing, or nothing but comments, sets nothing.
    ///
    /// - Throws: ``ConfigurationError`` if it can't be read or is no YAML mapping; for a key that nobody asks for, which would be a
    ///   setting that silently does nothing; for `null`, which would be taken for a text.
    static func values(of file: String) async throws(ConfigurationError) -> [AbsoluteConfigKey: ConfigValue] {
        let found = FoundKeys()
        let provider: FileProvider<YAMLSnapshot>
        do {
            // A snapshot doesn't list its keys, but it asks for each of them whether it is a secret.
            let options = YAMLSnapshot.ParsingOptions(
                secretsSpecifier: .dynamic { key, _ in
                    found.all.withLock { $0.append(key) }
                    return false
                }
            )
            provider = try await FileProvider<YAMLSnapshot>(parsingOptions: options, filePath: FilePath(file))
        } catch {
            guard access(file, R_OK) == 0 else {
                throw ConfigurationError(key: "--config", value: file, expected: "a file that exists and can be read")
            }
            if holdsNothing(file) { return [:] }
            throw ConfigurationError(key: "--config", value: file, expected: expectation("\(error)"))
        }
        let known = Set(ConfigurationLoader.keys.map(\.key))
        var nested = NestedPolicies()
        var values: [AbsoluteConfigKey: ConfigValue] = [:]
        for key in found.all.withLock({ $0 }).sorted() {
            let path = key.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
            let text = value(provider, path)
            try refuseNull(key, text)
            if known.contains(key) {
                values[setting(key)] = text
            } else if case .string(let line)? = text?.content, try nested.take(key, line) {
                continue
            } else {
                throw unknown(key, path, in: file)
            }
        }
        for (key, text) in nested.texts { values[setting(key)] = ConfigValue(.string(text), isSecret: false) }
        return values
    }

    private final class FoundKeys: Sendable {
        let all = Mutex<[String]>([])
    }

    private static func setting(_ key: String) -> AbsoluteConfigKey { AbsoluteConfigKey(["triage", key]) }

    /// A text or a list of texts.
    private static func value(_ provider: FileProvider<YAMLSnapshot>, _ path: [String]) -> ConfigValue? {
        let key = AbsoluteConfigKey(path)
        for type in [ConfigType.string, .stringArray] {
            if let value = (try? provider.value(forKey: key, type: type))?.value { return value }
        }
        return nil
    }

    private static func refuseNull(_ key: String, _ value: ConfigValue?) throws(ConfigurationError) {
        let texts: [String]
        switch value?.content {
        case .string(let text)?: texts = [text]
        case .stringArray(let all)?: texts = all
        default: return
        }
        // YAML 1.2 §10.3.2; an empty value isn't refused: it counts as not set, as in the environment.
        guard let null = texts.first(where: { ["null", "Null", "NULL", "~"].contains($0) }) else { return }
        throw ConfigurationError(key: key, value: null, expected: "a value; leave the key out to have the default")
    }

    private static func unknown(_ key: String, _ path: [String], in file: String) -> ConfigurationError {
        if let setting = ConfigurationLoader.keys.first(where: { $0.key == path[0] }), path.count > 1 {
            return ConfigurationError(
                key: key, value: "(in \(file))", expected: "\(setting.key) in one line with it: \(setting.meaning)")
        }
        return ConfigurationError(
            key: key, value: "(in \(file))",
            expected: "one of the keys \(ConfigurationLoader.keys.map(\.key).joined(separator: ", "))")
    }

    /// What the file should have been. The parser's text may quote the file, which may hold secrets: only the place and the names of
    /// keys are taken from it.
    private static func expectation(_ text: String) -> String {
        if let match = text.firstMatch(of: /duplicated key\(s\): ([^\n]*)\./) {
            let keys = match.output.1.split(separator: ", ").map { $0.filter { $0 != "'" } }
                .filter { key in key.utf8.allSatisfy { (0x2D...0x39).contains($0) || (0x41...0x7A).contains($0) } }
            let named = keys.isEmpty ? "one stands" : keys.joined(separator: ", ") + (keys.count == 1 ? " stands" : " stand")
            return "YAML with each key once: \(named) there more than once"
        }
        let place = text.firstMatch(of: /([0-9]+):([0-9]+): error/).map { " (line \($0.output.1), column \($0.output.2))" }
        return "YAML with a mapping at the top\(place ?? "")"
    }

    /// Whether no line of the file says anything: comments and the marks of a document's begin and end don't.
    private static func holdsNothing(_ path: String) -> Bool {
        guard let file = fopen(path, "re") else { return false }
        defer { fclose(file) }
        var line: UnsafeMutablePointer<CChar>?
        var capacity = 0
        defer { free(line) }
        while getline(&line, &capacity, file) >= 0 {
            guard let line else { break }
            let text = String(cString: line).drop { $0.isWhitespace || $0 == "\u{FEFF}" }
            let word = text.prefix { !$0.isWhitespace }
            if !word.isEmpty, !word.hasPrefix("#"), word != "---", word != "..." { return false }
            // What follows the mark of a document's begin on its line is content.
            if word == "---", let rest = text.dropFirst(3).first(where: { !$0.isWhitespace }), rest != "#" { return false }
        }
        return ferror(file) == 0
    }
}
