import ArgumentParser
import Triage

/// The keys of sealed dead letters, for the commands that show or replay them.
struct DeadLetterKeyOptions: ParsableArguments {
    @Option(
        name: .customLong("dead-letter-key"),
        help: ArgumentHelp(
            "File with the key that dead letters are sealed with, or were before; may be repeated (TRIAGE_DEAD_LETTER_KEY_FILE).",
            valueName: "file"))
    var deadLetterKeys: [String] = []

    /// What opens them: with the files that were given, and the configured ones behind them.
    ///
    /// - Throws: `ConfigurationError` naming the file that is no key.
    func cipher(_ configuration: Configuration) throws -> DeadLetterCipher {
        let given = try deadLetterKeys.map { try ConfigurationLoader.deadLetterKey($0, key: "--dead-letter-key") }
        return DeadLetterCipher(keys: given + (configuration.deadLetterCipher?.keys ?? []))
    }
}
