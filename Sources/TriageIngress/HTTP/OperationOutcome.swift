public import HTTPTypes
internal import TriageEvents
public import TriageTelemetry

/// What a FHIR client is told of a request that failed: one issue of a code and a literal text (FHIR R4, OperationOutcome).
///
/// Nothing of the request is in it.
public struct OperationOutcome: Sendable, Hashable {
    /// Codes of `http://hl7.org/fhir/issue-type` that are used.
    public enum Code: String, Sendable, CaseIterable {
        /// The content is invalid in its structure.
        case structure
        /// A required element is missing.
        case required
        /// An element's value isn't allowed.
        case value
        /// The content is invalid against the specification or a profile.
        case invalid
        /// A rule of the service doesn't allow it.
        case businessRule = "business-rule"
        /// Who asks isn't known.
        case login
        /// The method or the media type isn't supported.
        case notSupported = "not-supported"
        /// There is nothing of that name.
        case notFound = "not-found"
        /// The content is too long.
        case tooLong = "too-long"
        /// The time was up.
        case timeout
        /// More is asked for than can be done now.
        case throttled
        /// Something that may pass, such as another server that is away.
        case transient
        /// The request was about something that has changed meanwhile.
        case conflict
        /// Anything else.
        case processing
    }

    /// Which kind of issue.
    public var code: Code
    /// What happened, in our own words.
    public var diagnostics: SafeText
    /// Where in the resource, as a FHIRPath made of element names and indices of ours; nil for nowhere.
    public var expression: String?

    /// An issue with this text.
    public init(_ code: Code, _ diagnostics: StaticString, expression: String? = nil) {
        self.init(code, text: SafeText(stringLiteral: diagnostics), expression: expression)
    }

    /// The same with a text that names a rule of ours.
    public init(_ code: Code, text: SafeText, expression: String? = nil) {
        self.code = code
        diagnostics = text
        self.expression = expression
    }

    /// Whether two outcomes say the same.
    public static func == (left: OperationOutcome, right: OperationOutcome) -> Bool {
        left.code == right.code && left.expression == right.expression
            && left.diagnostics.description == right.diagnostics.description
    }

    /// Feeds what it says.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(code)
        hasher.combine(expression)
        hasher.combine(diagnostics.description)
    }

    /// The resource as JSON.
    public var json: String {
        let place = expression.map { #","expression":[\#(JSONText($0).quoted)]"# } ?? ""
        return """
            {"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"\(code.rawValue)",\
            "diagnostics":\(JSONText(diagnostics.description).quoted)\(place)}]}
            """
    }

    /// An answer with this outcome as its body.
    public func answer(_ status: HTTPResponse.Status, _ headers: HTTPFields = [:]) -> IngressAnswer {
        var headers = headers
        headers[.contentType] = "application/fhir+json"
        return IngressAnswer(status: status, headers: headers, body: ByteSlice(json))
    }
}
