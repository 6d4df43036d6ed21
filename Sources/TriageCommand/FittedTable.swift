import Foundation

/// A table that keeps within a terminal's width: one column gives way, then others go, and what is still too long is cut.
struct FittedTable {
    /// A column's name and how it behaves.
    struct Column {
        let name: String
        var isNumber = false
        /// Of the columns that may go, the lowest goes first; nil for one that stays.
        var rank: Int?
    }

    let columns: [Column]
    let rows: [[String]]
    /// The column whose cells may be cut, and to how many characters at least.
    let flexible: Int
    var least = 12

    /// The table's text; without a width it is as wide as its cells are.
    func text(width: Int?) -> String {
        let widths = columns.indices.map { column in
            rows.reduce(columns[column].name.count) { max($0, column < $1.count ? $1[column].count : 0) }
        }
        var shown = Array(columns.indices)
        var space = widths[flexible]
        if let width {
            var leaving = columns.indices.filter { columns[$0].rank != nil }
                .sorted { (columns[$0].rank ?? 0, $0) < (columns[$1].rank ?? 0, $1) }[...]
            while true {
                let others = shown.reduce(0) { $0 + ($1 == flexible ? 0 : widths[$1]) } + 3 * (shown.count - 1)
                space = shown.contains(flexible) ? min(widths[flexible], max(least, width - others)) : 0
                guard others + space > width, let gone = leaving.popFirst() else { break }
                shown.removeAll { $0 == gone }
            }
        }
        let text = Table.columns(
            shown.map { columns[$0].name },
            rows.map { row in shown.map { $0 == flexible ? Self.cut(row[$0], to: space) : row[$0] } },
            right: Set(shown.indices.filter { columns[shown[$0]].isNumber }))
        guard let width else { return text }
        return text.split(separator: "\n", omittingEmptySubsequences: false).map { Self.cut(String($0), to: width) }
            .joined(separator: "\n")
    }

    /// The text, with an ellipsis for what is too long.
    static func cut(_ text: String, to count: Int) -> String { text.count <= count ? text : text.prefix(count - 1) + "…" }

    /// The width of the terminal that stdout is; nil if it is none.
    static var terminalWidth: Int? {
        var size = winsize()
        guard isatty(STDOUT_FILENO) == 1 else { return nil }
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 20 else { return 80 }
        return Int(size.ws_col)
    }
}

/// A line that says how far something got.
enum ProgressBar {
    /// `fhir.Patient.created.dlq  [######··············]  31 %  311296 of 1000000`
    static func text(_ label: String, _ done: Int64, of total: Int64) -> String {
        let total = max(total, done, 1)
        let cells = Int(done * 20 / total)
        let bar = String(repeating: "#", count: cells) + String(repeating: ".", count: 20 - cells)
        return "\(label)  [\(bar)]  \(done * 100 / total) %  \(done) of \(total)"
    }
}
