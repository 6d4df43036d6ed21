internal import TriageEvents

/// One change of a history on its way to be published.
struct HistoryEntry: Sendable {
    /// What the server told; nil if it is known already.
    var event: Notification.Event?
    /// The id that its event has.
    let id: String?
    /// When it happened, if that is told.
    let time: Timestamp?
    /// The time as the server wrote it.
    let text: String?

    init(event: Notification.Event, id: String?, time: Timestamp?) {
        (self.event, self.id, self.time) = (event, id, time)
        text = event.timestamp
    }

    /// The same without what it told.
    var emptied: HistoryEntry {
        var entry = self
        entry.event = nil
        return entry
    }
}

/// How far a history has been read. A pure machine.
struct HistoryCursor: Sendable {
    /// Changes that happened at one instant, or at no time that is told, are known by their ids. More than so many can't be read.
    static let maximumIDs = 100_000

    /// The time as the server wrote it, for `_since`.
    private(set) var text: String
    /// What happened earlier has been dealt with.
    private(set) var time: Timestamp
    /// What happened at just that time and has been dealt with: the server tells it again with each look.
    private var atTime: Set<String> = []
    /// What has been dealt with and has no time: the same.
    private var timeless: Set<String> = []

    init(_ time: Timestamp) {
        self.time = time
        text = time.iso8601
    }

    var hasRoom: Bool { atTime.count + timeless.count <= HistoryCursor.maximumIDs }

    /// Whether a change has been dealt with, or isn't asked for.
    func isBehind(_ entry: HistoryEntry) -> Bool {
        if let time = entry.time, time < self.time { return true }
        return entry.id.map { atTime.contains($0) || timeless.contains($0) } ?? false
    }

    /// How far ahead of this machine's clock a server's may be: offsets from UTC reach 14 h (FHIR R4 §2.24.0.1, `instant`), and a clock
    /// may be set to local time as if it were UTC.
    static let tolerance: Duration = .seconds(15 * 3600)

    /// A change has been dealt with. One whose time is yet to come doesn't move the place: nothing that happens until then would be
    /// asked for.
    mutating func pass(_ entry: HistoryEntry, at now: Timestamp) {
        guard let time = entry.time, let text = entry.text, time <= now + HistoryCursor.tolerance else {
            if let id = entry.id { timeless.insert(id) }
            return
        }
        if time > self.time {
            (self.text, self.time) = (text, time)
            atTime.removeAll()
        }
        if time == self.time, let id = entry.id { atTime.insert(id) }
    }
}

/// The pages of one look, of which the oldest are held. A pure machine.
struct HistoryPages: Sendable {
    /// Changes that are held at once, at most one page more.
    static let maximumEvents = 10_000
    /// Bytes of pages that are held at once, at most one page more.
    static let maximumBytes = 32 << 20
    /// Pages that one look goes through at most.
    static let maximumPages = 10_000

    /// What is to be done after a page.
    enum Step: Sendable, Hashable {
        /// This link leads to the next one.
        case next(String)
        /// It was the last one.
        case end
        /// There are more than ``maximumPages``, or one that came before comes again.
        case endless
    }

    private struct Held {
        let entries: [HistoryEntry]
        let bytes: Int
    }

    /// Whether all that there is is held.
    private(set) var isWhole = true
    /// The newest first.
    private var held: ArraySlice<Held> = []
    private var events = 0
    private var bytes = 0
    private var links: Set<String> = []

    /// What is held, the oldest first.
    var entries: [HistoryEntry] { held.reversed().flatMap(\.entries) }

    /// Adds the next page.
    ///
    /// - Parameters:
    ///   - entries: what of it hasn't been dealt with.
    ///   - bytes: how long it was.
    mutating func add(_ entries: [HistoryEntry], of page: HistoryPage, from place: HistoryCursor, bytes: Int) -> Step {
        if !entries.isEmpty {
            held.append(Held(entries: entries, bytes: bytes))
            events += entries.count
            self.bytes += bytes
            while held.count > 1, events > HistoryPages.maximumEvents || self.bytes > HistoryPages.maximumBytes,
                let newest = held.popFirst()
            {
                events -= newest.entries.count
                self.bytes -= newest.bytes
                isWhole = false
            }
        }
        // Some servers forget `_since` in their links: what is older shows that all that was asked for has come.
        guard let link = page.next, !page.isEmpty, !page.events.contains(where: { ($0.happened ?? place.time) < place.time })
        else { return .end }
        guard links.insert(link).inserted, links.count < HistoryPages.maximumPages else { return .endless }
        return .next(link)
    }
}
