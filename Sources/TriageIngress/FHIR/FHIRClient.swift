public import TriageEvents
public import TriageTelemetry

/// Talks to one FHIR server (FHIR R4 §3.1.0, RESTful API): each call once, traced, whatever comes of it told by ``FHIRAnswer``.
public struct FHIRClient: Sendable {
    /// Bytes that the answer to a call about one Patient may have: four times what Kafka takes of a record by default.
    public static let maximumResourceBytes = 4 << 20
    /// Bytes that a page of the history, or an answer to `$events`, may have.
    public static let maximumBundleBytes = 16 << 20

    /// The server.
    public let server: FHIRServer
    private let caller: TracedHTTPCaller
    private let clock: any EventClock

    /// A client of `server` that calls through `caller`.
    public init(_ server: FHIRServer, caller: TracedHTTPCaller, clock: any EventClock) {
        self.server = server
        self.caller = caller
        self.clock = clock
    }

    /// Reads the current version of a Patient.
    ///
    /// - Parameter id: by FHIR's grammar; anything else is an invalid call.
    public func read(_ id: String, resends: Int = 0) async throws(HTTPCallError) -> FHIRAnswer {
        try await send(.get, "/Patient/\(try checked(id))", as: "/Patient/{id}", resends: resends)
    }

    /// Creates a Patient.
    ///
    /// - Parameters:
    ///   - resource: the Patient's JSON.
    ///   - search: creates nothing if the search finds exactly one, which is answered by 200 (`If-None-Exist`).
    ///   - wantsResource: whether the answer shall bring the resource (`Prefer: return=representation`), which servers may ignore.
    public func create(
        _ resource: ByteSlice, ifNoneExist search: String? = nil, wantsResource: Bool = false, resends: Int = 0
    ) async throws(HTTPCallError) -> FHIRAnswer {
        var headers = FHIRClient.prefer(wantsResource)
        if let search { headers.append(("If-None-Exist", search)) }
        return try await send(.post, "/Patient", as: "/Patient", headers: headers, body: resource, resends: resends)
    }

    /// Replaces a Patient.
    ///
    /// - Parameter version: the version that it must have now (`If-Match`); nil replaces any.
    public func update(
        _ id: String, _ resource: ByteSlice, ifMatch version: String? = nil, wantsResource: Bool = false, resends: Int = 0
    ) async throws(HTTPCallError) -> FHIRAnswer {
        let headers = try FHIRClient.prefer(wantsResource) + ifMatch(version)
        return try await send(
            .put, "/Patient/\(try checked(id))", as: "/Patient/{id}", headers: headers, body: resource, resends: resends)
    }

    /// Deletes a Patient.
    ///
    /// - Parameter version: the version that it must have now (`If-Match`); nil deletes any.
    public func delete(_ id: String, ifMatch version: String? = nil, resends: Int = 0) async throws(HTTPCallError) -> FHIRAnswer {
        try await send(
            .delete, "/Patient/\(try checked(id))", as: "/Patient/{id}", headers: try ifMatch(version), resends: resends)
    }

    /// Reads what happened to Patients, newest first, one page of it.
    ///
    /// - Parameters:
    ///   - since: a FHIR instant; only what happened at or after it.
    ///   - count: entries of a page.
    public func history(since: String?, count: Int = 100) async throws(HTTPCallError) -> FHIRAnswer {
        var query = "?_count=\(count)"
        if let since { query += "&_since=\(FHIRClient.encoded(since))" }
        return try await send(
            .get, "/Patient/_history\(query)", as: "/Patient/_history", maximumBytes: FHIRClient.maximumBundleBytes)
    }

    /// Reads another page, by the `next` link of a bundle; refuses links to other servers, or out of the base.
    public func page(_ url: String) async throws(HTTPCallError) -> FHIRAnswer {
        guard let origin = HTTPOrigin(url), origin.isSameServer(as: server.origin), isBelowBase(origin.rest) else {
            throw HTTPCallError(.invalidCall)
        }
        return try await send(
            .get, "", as: "/{page}", whole: server.origin.description + origin.rest, maximumBytes: FHIRClient.maximumBundleBytes)
    }

    /// Asks for notifications of a subscription again (R4B and R5 subscriptions, operation `$events`).
    ///
    /// - Parameters:
    ///   - subscription: its id.
    ///   - numbers: the first and the last event wanted.
    ///   - content: `empty`, `id-only` or `full-resource`; nil leaves it to the server.
    public func events(
        of subscription: String, _ numbers: ClosedRange<Int64>, content: StaticString? = nil
    ) async throws(HTTPCallError) -> FHIRAnswer {
        var query = "?eventsSinceNumber=\(numbers.lowerBound)&eventsUntilNumber=\(numbers.upperBound)"
        if let content { query += "&content=\(content)" }
        return try await send(
            .get, "/Subscription/\(try checked(subscription))/$events\(query)", as: "/Subscription/{id}/$events",
            maximumBytes: FHIRClient.maximumBundleBytes)
    }

    private func isBelowBase(_ rest: String) -> Bool {
        let base = server.origin.rest
        guard rest.hasPrefix(base) else { return false }
        let behind = rest.dropFirst(base.count)
        guard behind.isEmpty || behind.hasPrefix("/") || behind.hasPrefix("?") else { return false }
        return !behind.prefix { $0 != "?" && $0 != "#" }.split(separator: "/").contains(where: FHIRClient.mayLeave)
    }

    /// Whether a segment of a path is `.` or `..`, as servers may read it: percent-encoded, before a parameter as in `..;x`; or hides a
    /// slash, or a percent sign that is decoded a second time.
    private static func mayLeave(_ segment: Substring) -> Bool {
        let text = segment.lowercased()
        if text.contains("%2f") || text.contains("%5c") || text.contains("%25") { return true }
        return [".", ".."].contains(text.replacing("%2e", with: ".").prefix { $0 != ";" })
    }

    private func send(
        _ method: HTTPCall.Method, _ path: String, as template: StaticString, headers: [(name: String, value: String)] = [],
        body: ByteSlice? = nil, resends: Int = 0, whole: String? = nil, maximumBytes: Int = FHIRClient.maximumResourceBytes
    ) async throws(HTTPCallError) -> FHIRAnswer {
        var all: [(name: String, value: String)] = [("Accept", "application/fhir+json")]
        if body != nil { all.append(("Content-Type", "application/fhir+json")) }
        if let authorization = server.authorization.header { all.append(("Authorization", authorization)) }
        all += headers
        var call = HTTPCall(method, whole ?? server.base + path, headers: all, body: body, timeout: server.timeout)
        call.maximumAnswerBytes = maximumBytes
        return FHIRAnswer(try await caller.send(call, path: template, resends: resends), now: clock.now())
    }

    private func checked(_ id: String) throws(HTTPCallError) -> String {
        guard FHIRGrammar.isID(ByteSlice(id)) else { throw HTTPCallError(.invalidCall) }
        return id
    }

    /// A weak entity tag, as FHIR has them (R4 §3.1.0.1.9).
    private func ifMatch(_ version: String?) throws(HTTPCallError) -> [(name: String, value: String)] {
        guard let version else { return [] }
        return [("If-Match", "W/\"\(try checked(version))\"")]
    }

    private static func prefer(_ wantsResource: Bool) -> [(name: String, value: String)] {
        [("Prefer", wantsResource ? "return=representation" : "return=minimal")]
    }

    /// Percent-encodes what isn't unreserved (RFC 3986 §2.3).
    private static func encoded(_ text: String) -> String {
        var encoded = ""
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                encoded.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                encoded += "%" + (digits.utf8.count < 2 ? "0" : "") + digits
            }
        }
        return encoded
    }
}
