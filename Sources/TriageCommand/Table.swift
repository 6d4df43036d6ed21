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

    static func seconds(_ seconds: Double) -> String { String(format: "%.2f s", seconds) }
}
