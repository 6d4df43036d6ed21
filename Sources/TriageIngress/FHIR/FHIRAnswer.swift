public import TriageEvents
public import TriageTelemetry

/// What a FHIR server answered.
public struct FHIRAnswer: Sendable {
    /// The status, 200 to 599.
    public let status: Int
    /// The resource's version, by `ETag` (`W/"3"`) or else by `Location`; nil if neither tells it.
    public let versionID: String?
    /// The Patient's id, by `Location`; nil if that doesn't tell it. Patient data.
    public let resourceID: String?
    /// The body as it came. Patient data.
    public let body: ByteSlice
    /// Of an answer that tells of a failure, the first known `issue.code` of its OperationOutcome. Nothing else of it is read.
    public let issue: FHIRIssueType?
    /// When to ask again, if the server says so.
    public let retryAt: Timestamp?

    /// What `answer` says, by its headers and, if it tells of a failure, its body.
    public init(_ answer: HTTPAnswer, now: Timestamp) {
        status = answer.status
        body = answer.body
        let location = (answer.header("location") ?? answer.header("content-location")).flatMap(FHIRAnswer.location)
        resourceID = location?.id
        versionID = answer.header("etag").flatMap(FHIRAnswer.version) ?? location?.version
        issue = answer.status >= 400 ? FHIRIssueType(outcome: answer.body) : nil
        retryAt = answer.header("retry-after").flatMap { RetryAfter.time($0, now: now) }
    }

    /// Whether there is no body.
    public var isEmpty: Bool { body.allSatisfy { $0 <= 0x20 } }
    /// Whether it was done.
    public var isSuccess: Bool { (200...299).contains(status) }
    /// The class of failure; nil if it was done.
    public var errorClass: ErrorClass? { HTTPStatus.errorClass(status) }
    /// The failure in a word: `http_422`, or `http_422_business-rule` with the server's issue.
    public var code: SafeText { issue.map { "http_\(status)_\($0)" } ?? "http_\(status)" }

    /// The body as a resource that may be looked into; nil if it is no JSON object.
    public func resource() -> JSONValue? {
        guard (try? EventDecoder().checkObject(body)) != nil else { return nil }
        return JSONValue(body)
    }

    /// The version in an entity tag, weak or strong, whose text is a FHIR id.
    static func version(_ tag: String) -> String? {
        var text = Substring(tag)
        if text.hasPrefix("W/") { text = text.dropFirst(2) }
        guard text.count > 2, text.hasPrefix("\""), text.hasSuffix("\"") else { return nil }
        text = text.dropFirst().dropLast()
        return FHIRGrammar.isID(ByteSlice(String(text))) ? String(text) : nil
    }

    /// Id and version of `[base]/Patient/[id]` or `[base]/Patient/[id]/_history/[version]`, absolute or not.
    static func location(_ url: String) -> (id: String, version: String?)? {
        let parts = url.prefix { $0 != "?" && $0 != "#" }.split(separator: "/", omittingEmptySubsequences: false)
        guard let type = parts.lastIndex(of: "Patient"), type + 1 < parts.count else { return nil }
        let id = String(parts[type + 1])
        guard FHIRGrammar.isID(ByteSlice(id)) else { return nil }
        guard type + 3 < parts.count, parts[type + 2] == "_history" else { return (id, nil) }
        let version = String(parts[type + 3])
        return (id, FHIRGrammar.isID(ByteSlice(version)) ? version : nil)
    }
}

/// The codes of an OperationOutcome's issues (FHIR R4, value set issue-type; R5's additions at the end): the only part of one that may
/// leave the process.
public enum FHIRIssueType: String, Sendable, CaseIterable {
    case invalid, structure, required, value, invariant, security, login, unknown, expired, forbidden, suppressed, processing
    case notSupported = "not-supported"
    case duplicate
    case multipleMatches = "multiple-matches"
    case notFound = "not-found"
    case deleted
    case tooLong = "too-long"
    case codeInvalid = "code-invalid"
    case `extension`
    case tooCostly = "too-costly"
    case businessRule = "business-rule"
    case conflict, transient
    case lockError = "lock-error"
    case noStore = "no-store"
    case exception, timeout, incomplete, throttled, informational, success, limitedFilter = "limited-filter"

    /// The first known code of the issues of the OperationOutcome that `body` is; nil if it is none, or has none.
    public init?(outcome body: ByteSlice) {
        guard body.count <= 1_048_576, (try? EventDecoder().checkObject(body)) != nil, let outcome = JSONValue(body),
            outcome["resourceType"]?.says("OperationOutcome") == true, let issues = outcome["issue"]
        else { return nil }
        for issue in issues.elements {
            if let code = issue["code"]?.string, let known = FHIRIssueType(rawValue: code) {
                self = known
                return
            }
        }
        return nil
    }
}
