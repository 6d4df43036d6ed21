import Foundation
import Glibc

/// How a page is drawn: how wide, with which characters, and whether in colour.
struct PageStyle: Sendable, Hashable {
    /// Columns that a line has at most, but for what can't be broken.
    var width = 100
    /// Whether bars and lines are drawn with characters beyond ASCII.
    var isUnicode = true
    /// Whether headings and failures are coloured.
    var hasColour = false

    /// Widths that are drawn.
    static let widths = 60...400

    /// As stdout wants it: its width if it is a terminal, colour only there and without `NO_COLOR` (no-color.org), more than ASCII only if
    /// the locale's characters are UTF-8.
    ///
    /// - Parameter width: the width that was asked for; nil for the terminal's, 100 where there is none.
    static func standardOutput(width: Int?, environment: [String: String]) -> PageStyle {
        let isTerminal = isatty(STDOUT_FILENO) == 1
        var style = PageStyle()
        style.isUnicode = isUTF8(environment)
        style.hasColour = isTerminal && environment["NO_COLOR"]?.isEmpty != false && environment["TERM"] != "dumb"
        if let width {
            style.width = width
        } else if isTerminal {
            var size = winsize()
            if ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 { style.width = Int(size.ws_col) }
        }
        style.width = min(max(style.width, widths.lowerBound), widths.upperBound)
        return style
    }

    /// Whether the locale's characters are UTF-8: the first of the variables that is set says so (POSIX, "Environment Variables" §8.2).
    static func isUTF8(_ environment: [String: String]) -> Bool {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].compactMap { environment[$0] }.first { !$0.isEmpty } ?? ""
        let name = locale.lowercased()
        return name.hasSuffix("utf-8") || name.hasSuffix("utf8") || name.contains("utf-8@") || name.contains("utf8@")
    }

    enum Tone: String {
        case heading = "1"
        case failure = "31"
        case success = "32"
        case quiet = "2"
    }

    func coloured(_ text: String, _ tone: Tone?) -> String {
        guard hasColour, let tone, !text.isEmpty else { return text }
        return "\u{1B}[\(tone.rawValue)m\(text)\u{1B}[0m"
    }

    /// What stands for text that was left out.
    var ellipsis: String { isUnicode ? "…" : "~" }

    /// The text in as many columns as there are, its middle left out if it has more.
    func fitted(_ text: String, to columns: Int) -> String {
        guard text.count > columns else { return text }
        guard columns > 2 else { return String(text.prefix(max(0, columns))) }
        let tail = (columns - 1) / 2
        return text.prefix(columns - 1 - tail) + ellipsis + text.suffix(tail)
    }

    /// The text in lines of at most the style's width, broken at spaces.
    func wrapped(_ text: String, first: String = "", rest: String = "") -> [String] {
        var lines: [String] = []
        var line = first
        var isEmpty = true
        for word in text.split(separator: " ") {
            if !isEmpty, line.count + 1 + word.count > width {
                lines.append(line)
                line = rest + word
            } else {
                line += (isEmpty ? "" : " ") + word
            }
            isEmpty = false
        }
        lines.append(line)
        return lines
    }
}
