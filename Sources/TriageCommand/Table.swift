import Foundation

/// Plain aligned text for terminals and logs.
enum Table {
    /// Names on the left, values right-aligned.
    static func rows(_ rows: [(String, String)]) -> String {
        let nameWidth = rows.map(\.0.count).max() ?? 0
        let valueWidth = rows.map(\.1.count).max() ?? 0
        return rows.map { name, value in
            "  " + name.padding(toLength: nameWidth + 2, withPad: " ", startingAt: 0)
                + String(repeating: " ", count: valueWidth - value.count) + value
        }.joined(separator: "\n")
    }

    /// A header and rows below it, each column as wide as its widest cell; numbers' columns are aligned on the right.
    static func columns(_ header: [String], _ rows: [[String]], right: Set<Int> = []) -> String {
        let lines = [header] + rows
        let widths = header.indices.map { column in lines.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
        return lines.map { line in
            let cells = line.enumerated().map { column, cell in
                let space = String(repeating: " ", count: widths[column] - cell.count)
                return right.contains(column) ? space + cell : cell + space
            }
            var text = cells.joined(separator: "   ")
            while text.last == " " { text.removeLast() }
            return text
        }.joined(separator: "\n")
    }

    static func seconds(_ seconds: Double) -> String { String(format: "%.2f s", seconds) }
}
