internal import Synchronization
internal import TriageEvents
internal import TriageProcessing

/// Dead letters as lines of JSON, as `triage dead-letters export` writes them, as far as they fit into memory.
struct ConsoleExport: Sendable {
    private let access: DeadLetterAccess
    private let maximumBytes: Int

    init(_ access: DeadLetterAccess, maximumBytes: Int = ServiceConsole.maximumExportBytes) {
        self.access = access
        self.maximumBytes = maximumBytes
    }

    /// - Throws: ``ConsoleTooMuch``; ``NoSuchDeadLetter`` if one of those that are named isn't there.
    func lines(_ choice: ConsoleOrder.Choice) async throws -> [UInt8] {
        let browser = DeadLetterBrowser(access)
        let pages = Pages(maximumBytes)
        switch choice {
        case .some(let ids):
            try await browser.check(ids)
            let states = try await browser.states()
            var reader = SelectionReader(access.scanner, DeadLetterSelection(ids))
            while let (position, found) = try await reader.next() {
                guard let record = found?.record else { throw NoSuchDeadLetter(position, .noRecord) }
                let letter = DeadLetter(record)
                guard pages.add(record, letter, states.state(of: letter, group: access.group)) else { break }
            }
        case .query(let query):
            try await browser.each(query.filter) { pages.add($1, $0.letter, $0.state) }
        }
        guard let bytes = pages.bytes else { throw ConsoleTooMuch() }
        return bytes
    }

    /// What was written so far; filled from the thread that reads.
    private final class Pages: Sendable {
        private let written: Mutex<[UInt8]?> = Mutex([])
        private let maximumBytes: Int

        init(_ maximumBytes: Int) { self.maximumBytes = maximumBytes }

        /// Nil if it would be too much.
        var bytes: [UInt8]? { written.withLock { $0 } }

        /// - Returns: whether there is room for more.
        func add(_ record: Record, _ letter: DeadLetter, _ state: DeadLetterState?) -> Bool {
            let line = DeadLetterArchive.line(record, letter, state: state)
            return written.withLock { written in
                guard let count = written?.count, count + line.count < maximumBytes else {
                    written = nil
                    return false
                }
                written?.append(contentsOf: line)
                written?.append(UInt8(ascii: "\n"))
                return true
            }
        }
    }
}
