public import TriageEvents

/// Decides whether a version of a resource was written by the command whose tag it has.
///
/// A server keeps the tags of earlier versions, so the tag of a command also stands on what others write later. The rule: a tag
/// speaks of the lowest version number that was seen with it; versions without a number count in the order in which they come. Of
/// several tags the last one that speaks of this version counts. After a restart the first version that is seen again is taken for
/// the command's, as nothing better is known.
///
/// A pure machine, bounded: of more than ``capacity`` requests the oldest are forgotten.
public struct RequestAttribution: Sendable {
    /// Requests that are remembered.
    public let capacity: Int
    private var versions: [String: String] = [:]
    private var order: [String] = []
    private var oldest = 0

    /// A memory for this many requests, at least one.
    public init(capacity: Int = 10_000) { self.capacity = max(1, capacity) }

    /// The request that wrote this version of a resource; nil if none of its tags speaks of it.
    ///
    /// - Parameter version: `meta.versionId`; without one every tag counts.
    public mutating func request(in resource: JSONValue, version: String?) -> String? {
        guard let tags = resource["meta"]?["tag"] else { return nil }
        var found: String?
        for tag in tags.elements where tag["system"]?.stringBytes?.elementsEqual(RequestTag.system.utf8) == true {
            guard let code = tag["code"]?.stringBytes, RequestTag.isRequestID(code), let request = code.utf8Text else { continue }
            if speaks(request, of: version) { found = request }
        }
        return found
    }

    private mutating func speaks(_ request: String, of version: String?) -> Bool {
        guard let version else { return true }
        guard let known = versions[request] else {
            remember(request, version)
            return true
        }
        if known == version { return true }
        guard let number = UInt64(version), let knownNumber = UInt64(known), number < knownNumber else { return false }
        versions[request] = version
        return true
    }

    private mutating func remember(_ request: String, _ version: String) {
        versions[request] = version
        if order.count < capacity {
            order.append(request)
        } else {
            versions[order[oldest]] = nil
            order[oldest] = request
            oldest = (oldest + 1) % capacity
        }
    }
}
