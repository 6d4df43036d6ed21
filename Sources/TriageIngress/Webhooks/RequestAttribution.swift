public import TriageEvents

/// Decides which command wrote a version of a resource, or deleted it.
///
/// Of a version its tags tell. A server keeps the tags of earlier versions, so the tag of a command also stands on what others write
/// later. The rule: a tag speaks of the version that the command's result names, or of the lowest version number that was seen with
/// it if that is lower or nothing was told; versions without a number count in the order in which they come. It speaks of no other
/// Patient than that one. Of several tags the last one that speaks of this version counts.
///
/// A deleted Patient has no tags: its deletion is the command's that asks for it. One whose result names the version counts before
/// others; else the first that isn't known to have failed, or to have made another deletion, and that was heard of in the last
/// ``window``.
///
/// A pure machine, bounded: of more than ``capacity`` requests the oldest are forgotten.
public struct RequestAttribution: Sendable {
    /// Requests that are remembered, those that write and those that delete apart.
    public let capacity: Int
    /// How long after the last news of it a command may be what deleted its Patient.
    public static let window: Duration = .seconds(600)
    /// Tags of one resource that are looked at.
    public static let maximumTags = 50

    private struct Write {
        var patient: String?
        var version: String?
    }
    private struct Deletion {
        let request: String
        var until: Timestamp
        /// The version that its result names.
        var version: String?
        /// What tells the deletion that it made from others, once an event was taken for it.
        var event: String?
    }

    private var writes: [String: Write] = [:]
    private var writeOrder = Ring<String>()
    private var deletions: [String: [Deletion]] = [:]
    private var deletionOrder = Ring<(request: String, patient: String)>()

    /// A memory for this many requests, at least one.
    public init(capacity: Int = 10_000) { self.capacity = max(1, capacity) }

    /// Takes in what is told of a command.
    ///
    /// - Parameter time: when; of what is older than ``window`` no deletion is taken for the command's without its version.
    public mutating func learn(_ news: CommandNews, at time: Timestamp) {
        guard let patient = news.resourceID, let action = news.action else { return }
        switch (news.status.state, action) {
        case (.completed, .created), (.completed, .updated): learn(news.requestID, wrote: news.versionID, of: patient)
        case (.pending, .deleted), (.completed, .deleted):
            learn(news.requestID, deletes: patient, version: news.versionID, until: time + RequestAttribution.window)
        case (.failed, .deleted): forget(news.requestID, deleting: patient)
        default: return
        }
    }

    /// The request that wrote this version of a resource; nil if none of its tags speaks of it.
    ///
    /// Only the first ``maximumTags`` tags are looked at.
    ///
    /// - Parameter version: `meta.versionId`; without one every tag counts.
    public mutating func request(in resource: JSONValue, version: String?) -> String? {
        guard let tags = resource["meta"]?["tag"] else { return nil }
        let patient = resource["id"]?.string
        var found: String?
        // The server's own are few; who sends thousands would have all others forgotten.
        for tag in tags.elements.prefix(RequestAttribution.maximumTags)
        where tag["system"]?.stringBytes?.elementsEqual(RequestTag.system.utf8) == true {
            guard let code = tag["code"]?.stringBytes, RequestTag.isRequestID(code), let request = code.utf8Text else { continue }
            if speaks(request, of: version, patient) { found = request }
        }
        return found
    }

    /// The request that deleted a Patient; nil if no command is known that did.
    ///
    /// - Parameters:
    ///   - version: the version that the deletion made; nil if the server didn't tell.
    ///   - time: when it happened as the server tells it, which tells deletions without a version apart.
    ///   - now: what commands' ages are measured by.
    public mutating func request(
        deleting patient: String, version: String?, toldAt time: String?, at now: Timestamp
    ) -> String? {
        guard var candidates = deletions[patient] else { return nil }
        let event = version.map { "version \($0)" } ?? time.map { "time \($0)" }
        let found =
            (version == nil ? nil : candidates.firstIndex { $0.version == version })
            ?? (event == nil ? nil : candidates.firstIndex { $0.event == event })
            ?? candidates.firstIndex { candidate in
                candidate.until >= now && (candidate.event == nil || event == nil)
                    && (candidate.version == nil || version == nil)
            }
        guard let found else { return nil }
        candidates[found].event = candidates[found].event ?? event
        deletions[patient] = candidates
        return candidates[found].request
    }

    private mutating func speaks(_ request: String, of version: String?, _ patient: String?) -> Bool {
        guard let known = writes[request] else {
            if version != nil { remember(request, Write(patient: patient, version: version)) }
            return true
        }
        if let patient, let own = known.patient, own != patient { return false }
        guard let version, let own = known.version else {
            if version != nil { writes[request]?.version = version }
            return true
        }
        if own == version { return true }
        guard RequestAttribution.isLower(version, than: own) else { return false }
        writes[request]?.version = version
        return true
    }

    private mutating func learn(_ request: String, wrote version: String?, of patient: String) {
        guard let known = writes[request], known.patient == patient || known.patient == nil else {
            remember(request, Write(patient: patient, version: version))
            return
        }
        writes[request]?.patient = patient
        // A command that was found done by its tag names the current version, which others may have written since.
        if let version, known.version.map({ !RequestAttribution.isLower($0, than: version) }) ?? true {
            writes[request]?.version = version
        }
    }

    private mutating func remember(_ request: String, _ write: Write) {
        let isKnown = writes.updateValue(write, forKey: request) != nil
        if !isKnown, let oldest = writeOrder.append(request, capacity: capacity) { writes[oldest] = nil }
    }

    private mutating func learn(_ request: String, deletes patient: String, version: String?, until: Timestamp) {
        var candidates = deletions[patient] ?? []
        if let index = candidates.firstIndex(where: { $0.request == request }) {
            candidates[index].until = max(until, candidates[index].until)
            candidates[index].version = version ?? candidates[index].version
            deletions[patient] = candidates
            return
        }
        candidates.append(Deletion(request: request, until: until, version: version))
        deletions[patient] = candidates
        if let oldest = deletionOrder.append((request, patient), capacity: capacity) {
            forget(oldest.request, deleting: oldest.patient)
        }
    }

    private mutating func forget(_ request: String, deleting patient: String) {
        deletions[patient]?.removeAll { $0.request == request }
        if deletions[patient]?.isEmpty == true { deletions[patient] = nil }
    }

    private static func isLower(_ version: String, than other: String) -> Bool {
        guard let number = UInt64(version), let otherNumber = UInt64(other) else { return false }
        return number < otherNumber
    }
}

/// Elements in the order in which they came, the oldest of which makes room.
private struct Ring<Element: Sendable>: Sendable {
    private var elements: [Element] = []
    private var oldest = 0

    /// Adds an element; the one that it displaces where there are `capacity` already.
    mutating func append(_ element: Element, capacity: Int) -> Element? {
        guard elements.count >= capacity else {
            elements.append(element)
            return nil
        }
        let displaced = elements[oldest]
        elements[oldest] = element
        oldest = (oldest + 1) % capacity
        return displaced
    }
}
