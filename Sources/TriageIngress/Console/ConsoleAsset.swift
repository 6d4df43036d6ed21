internal import Crypto
internal import HTTPTypes

/// A file that pages load: part of the program, so that nothing has to lie beside it.
struct ConsoleAsset: Sendable {
    private let name: String
    private let type: String
    private let text: String
    /// Changes with the content, so that browsers may keep it.
    private let version: String

    private init(_ name: String, _ type: String, _ text: String) {
        self.name = name
        self.type = type
        self.text = text
        version = String(ConsoleSessions.hex(SHA256.hash(data: Array(text.utf8))).prefix(12))
    }

    static let style = ConsoleAsset("style.css", "text/css; charset=utf-8", styleText)
    static let script = ConsoleAsset("script.js", "text/javascript; charset=utf-8", scriptText)
    static let icon = ConsoleAsset(
        "icon.svg", "image/svg+xml",
        """
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#0a4fb8"/>\
        <path d="M2 8h2.5l1.7-4 3.4 8 1.7-4H14" fill="none" stroke="#fff" stroke-width="1.7" stroke-linecap="round" \
        stroke-linejoin="round"/></svg>
        """)

    /// By name.
    static let all = Dictionary(uniqueKeysWithValues: [style, script, icon].map { ($0.name, $0) })

    /// Where pages load it from.
    var address: String { "\(ConsoleSite.path)/\(name)?v=\(version)" }

    /// What is answered.
    var reply: ConsoleReply {
        var headers = ConsoleSite.protection
        headers[.contentType] = type
        headers[.cacheControl] = "private, max-age=86400"
        return ConsoleReply(status: .ok, headers: headers, body: Array(text.utf8))
    }
}
