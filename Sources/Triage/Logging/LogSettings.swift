public import Logging

/// How a process logs: format, level, and what of it may be exported.
public struct LogSettings: Sendable, Hashable {
    /// How lines are written. Default text; `TRIAGE_LOG_FORMAT`.
    public var format = LogFormat.text
    /// Lines below it are left out. Default notice; `TRIAGE_LOG_LEVEL`.
    public var level = Logger.Level.notice
    /// What of other people's lines may be exported. Default nothing; `TRIAGE_LOG_EXPORT_LABELS`, `TRIAGE_LOG_EXPORT_METADATA`.
    public var exported = LogExportRules()

    /// The defaults.
    public init() {}
}

extension ConfigurationLoader {
    /// How to log, as `log-format`, `log-level`, `log-export-labels` and `log-export-metadata` say.
    ///
    /// - Parameter level: the level if none is named.
    /// - Throws: ``ConfigurationError`` naming the first key that can't be used.
    public func logSettings(level: Logger.Level = .notice) throws(ConfigurationError) -> LogSettings {
        var settings = LogSettings()
        settings.level = level
        if let text = text("log-format") {
            guard let format = LogFormat(rawValue: text) else {
                throw ConfigurationError(key: "log-format", value: text, expected: "text or json")
            }
            settings.format = format
        }
        if let text = text("log-level") {
            guard let level = Logger.Level(rawValue: text.lowercased()) else {
                let levels = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
                throw ConfigurationError(key: "log-level", value: text, expected: "one of \(levels)")
            }
            settings.level = level
        }
        settings.exported.labels = list("log-export-labels")
        settings.exported.metadata = list("log-export-metadata")
        return settings
    }

    private func list(_ key: String) -> Set<String> {
        let parts = text(key)?.split(separator: ",") ?? []
        return Set(
            parts.map { $0.drop { $0 == " " } }.map { part in
                var part = part
                while part.last == " " { part = part.dropLast() }
                return String(part)
            }.filter { !$0.isEmpty })
    }
}
