import ArgumentParser
import Logging
import Triage
import TriageIngress

/// The pages beside /metrics.
struct ConsoleOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Whether /console is served beside /metrics: on or off (default: on where only this machine can reach it).",
            valueName: "on|off"))
    var console: String?
    @Option(help: ArgumentHelp("Names that the console is reached by, such as https://triage.example.org.", valueName: "names"))
    var consoleHosts: String?
    @Option(help: ArgumentHelp("File with the token that replays and reveals on the console need.", valueName: "file"))
    var consoleTokenFile: String?

    /// The flags by key; nil where none was given.
    var flags: [String: String?] {
        ["console": console, "console-hosts": consoleHosts, "console-token-file": consoleTokenFile]
    }

    /// Says where the console is. A token that was made for this run stands behind `#`, which no browser sends; it is said on the
    /// terminal alone, and in no log.
    static func announce(
        _ console: Configuration.Console, at address: Configuration.HTTPAddress, logger: Logger? = nil
    ) {
        let page = "http://\(address)/console"
        if let token = console.token, console.isTokenMade {
            Narration.say("Console: \(page)#token=\(token)")
        } else if let logger {
            logger.log(
                level: .notice, safe: "serving the console",
                shown: "console: \(page)" + (console.token == nil ? " (read only: console-token-file names no token)" : ""))
        } else {
            Narration.say("Console: \(page)")
        }
    }
}
