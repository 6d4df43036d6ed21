public import TriageEvents
internal import TriageHTTPClient
public import TriageTelemetry

/// Asks where traces are kept for the spans of one: a running process's console, Jaeger, Tempo, in this order.
///
/// Nothing that goes wrong there is thrown: who asked goes on without the spans, and is told why.
public struct TraceFetcher: Sendable {
    /// Where to ask.
    public enum Place: Sendable, Hashable {
        /// A running process's console at this base URL: `GET BASE/console/api/traces/ID`.
        case console(String)
        /// Jaeger's query API at this base URL: `GET BASE/api/traces/ID`.
        case jaeger(String)
        /// Tempo's API at this base URL: `GET BASE/api/v2/traces/ID`, and `BASE/api/traces/ID` where that isn't known.
        case tempo(String)

        /// What a person calls it.
        public var name: String {
            switch self {
            case .console: "the console"
            case .jaeger: "Jaeger"
            case .tempo: "Tempo"
            }
        }
    }

    /// What came of asking.
    public struct Answer: Sendable, Hashable {
        /// The spans of the trace; empty if nobody has it.
        public var spans: [TraceSpan] = []
        /// Who had them; nil if nobody had.
        public var source: String?
        /// What kept places from answering, in words that have nothing of what they said.
        public var problems: [String] = []
    }

    private let places: [Place]
    private let headers: [(name: String, value: String)]
    private let caller: any HTTPCaller
    private let timeout: Duration

    /// Bytes that an answer may have: some 30,000 spans.
    static let maximumAnswerBytes = 32 * 1_048_576

    /// A fetcher over these places.
    ///
    /// - Parameters:
    ///   - console: the base URL of a running process's console; nil for none.
    ///   - traces: Jaeger's and Tempo's URLs, headers and authorities. The headers don't go to the console.
    ///   - timeout: for each question.
    /// - Throws: ``ConfigurationError`` if a URL or the file with headers can't be used.
    public init(console: String? = nil, traces: Configuration.Traces, timeout: Duration = .seconds(10)) throws(ConfigurationError)
    {
        var options = CurlCaller.Options()
        options.caFile = traces.caFile
        options.maximumAnswerBytes = TraceFetcher.maximumAnswerBytes
        options.connectTimeout = min(timeout, .seconds(5))
        var places: [Place] = []
        if let console {
            guard let origin = HTTPOrigin(console), !origin.rest.contains("?"), !origin.rest.contains("#") else {
                throw ConfigurationError(
                    key: "--console", value: "…", expected: "an absolute http or https URL such as http://127.0.0.1:9464")
            }
            var base = console[...]
            while base.last == "/" { base = base.dropLast() }
            if base.hasSuffix("/console") { base = base.dropLast("/console".count) }
            places.append(.console(String(base)))
        }
        if let jaeger = traces.jaeger { places.append(.jaeger(jaeger)) }
        if let tempo = traces.tempo { places.append(.tempo(tempo)) }
        let headers = places.contains { if case .console = $0 { false } else { true } } ? try traces.headers() : []
        self.init(places: places, headers: headers, caller: CurlCaller(options), timeout: timeout)
    }

    init(places: [Place], headers: [(name: String, value: String)] = [], caller: any HTTPCaller, timeout: Duration = .seconds(10))
    {
        self.places = places
        self.headers = headers
        self.caller = caller
        self.timeout = timeout
    }

    /// Whether there is anywhere to ask.
    public var isEmpty: Bool { places.isEmpty }
    /// Where it asks, in words: `Jaeger and Tempo`.
    public var names: String { places.map(\.name).joined(separator: " and ") }

    /// The spans of a trace, from the first place that has any.
    public func spans(of trace: TraceID) async -> Answer {
        var answer = Answer()
        for place in places {
            switch await ask(place, trace) {
            case .success(let spans) where !spans.isEmpty:
                answer.spans = spans
                answer.source = place.name
                return answer
            case .success: continue
            case .failure(let problem): answer.problems.append("\(place.name): \(problem.text)")
            }
        }
        return answer
    }

    private struct Problem: Error { let text: String }

    private func ask(_ place: Place, _ trace: TraceID) async -> Result<[TraceSpan], Problem> {
        switch place {
        case .console(let base):
            await get("\(base)/console/api/traces/\(trace)", withHeaders: false) { TraceSpan.spans(ofDocument: $0) }
        case .jaeger(let base): await get("\(base)/api/traces/\(trace)") { TraceDocument.jaeger($0) }
        case .tempo(let base):
            switch await get("\(base)/api/v2/traces/\(trace)", { TraceDocument.otlp($0) }) {
            // Older ones don't know the path, and say the same of a trace.
            case .success(let spans) where spans.isEmpty:
                await get("\(base)/api/traces/\(trace)") { TraceDocument.otlp($0) }
            case let result: result
            }
        }
    }

    /// What a URL answers; nothing where it says 404.
    private func get(
        _ url: String, withHeaders: Bool = true, _ parse: (JSONValue) -> [TraceSpan]?
    ) async -> Result<[TraceSpan], Problem> {
        let fields = [(name: "Accept", value: "application/json")] + (withHeaders ? headers : [])
        let answer: HTTPAnswer
        do throws(HTTPCallError) {
            answer = try await caller.send(HTTPCall(.get, url, headers: fields, timeout: timeout))
        } catch {
            return .failure(Problem(text: TraceFetcher.text(of: error)))
        }
        switch answer.status {
        case 200: break
        case 404: return .success([])
        case 401, 403:
            return .failure(Problem(text: "answered \(answer.status): it wants credentials (trace-headers-file)"))
        default: return .failure(Problem(text: "answered \(answer.status)"))
        }
        // Whatever is served in its place, a login page or half of an answer, must not look like a trace without spans.
        guard (try? EventDecoder().checkObject(answer.body)) != nil, let value = JSONValue(answer.body), let spans = parse(value)
        else { return .failure(Problem(text: "its answer is no trace as JSON")) }
        return .success(spans)
    }

    private static func text(of error: HTTPCallError) -> String {
        switch error.code {
        case .nameNotResolved: "its name has no address"
        case .connectionFailed: "nobody listens there"
        case .connectionLost: "the connection was lost"
        case .timeout: "no answer in time"
        case .tls: "its certificate isn't trusted (trace-ca-file), or TLS failed"
        case .answerTooLarge: "its answer has more than \(maximumAnswerBytes >> 20) MiB"
        case .invalidAnswer: "what answers is no HTTP server"
        case .invalidCall: "its URL or a header can't be sent"
        case .cancelled, .closed, .other: "the call failed (\(error))"
        }
    }
}
