internal import HTTPTypes
internal import Synchronization
public import TriageEvents
public import TriageTelemetry

/// What the access log says of one request: nothing that could name a patient, or who asked.
///
/// Neither path nor query, no header field, no address: the template of the route stands for what was asked for.
public struct AccessEntry: Sendable, Hashable {
    /// The method, `_OTHER` for one that isn't known, or if there was no head to read.
    public let method: SafeText
    /// The route's template; nil if the path led to none.
    public let route: SafeText?
    /// The status of the answer.
    public let status: Int
    /// Bytes of the body that were read.
    public let requestBytes: Int
    /// Bytes of the answer's body.
    public let answerBytes: Int
    /// From the complete head to the answer.
    public let duration: Duration
    /// The SERVER span's context; nil if there was none.
    public let context: TraceContext?

    /// The line: `POST /webhooks/fhir 200 in 1042 out 0 3.1 ms`.
    public var text: SafeText {
        let tenths = duration.wholeNanoseconds / 100_000
        return """
            \(method) \(route ?? "-") \(status) in \(requestBytes) out \(answerBytes) \(tenths / 10).\(tenths % 10) ms
            """
    }

    /// The name of a method in telemetry (HTTP semantic conventions, `http.request.method`).
    static func name(_ method: HTTPRequest.Method?) -> SafeText {
        switch method {
        case .get?: "GET"
        case .head?: "HEAD"
        case .post?: "POST"
        case .put?: "PUT"
        case .delete?: "DELETE"
        case .options?: "OPTIONS"
        case .patch?: "PATCH"
        case .trace?: "TRACE"
        case .connect?: "CONNECT"
        default: "_OTHER"
        }
    }
}

/// Records `http.server.request.duration` (HTTP semantic conventions, metrics).
final class RequestDurations: Sendable {
    private struct Key: Hashable {
        let method: SafeText
        let route: SafeText?
        let status: Int
        let version: String
    }

    private let meter: Meter
    private let scheme: SafeText
    private let histograms = Mutex<[Key: Histogram]>([:])

    init(_ meter: Meter, isTLS: Bool) {
        self.meter = meter
        scheme = isTLS ? "https" : "http"
    }

    func record(_ entry: AccessEntry, version: StaticString) {
        let key = Key(method: entry.method, route: entry.route, status: entry.status, version: version.description)
        let histogram = histograms.withLock { histograms in
            if let known = histograms[key] { return known }
            var attributes: [(StaticString, SafeText)] = [
                ("http.request.method", entry.method), ("url.scheme", scheme),
                ("http.response.status_code", "\(entry.status)"), ("network.protocol.version", "\(version)"),
            ]
            if let route = entry.route { attributes.append(("http.route", route)) }
            if entry.status >= 500 { attributes.append(("error.type", "\(entry.status)")) }
            let made = meter.histogram(Metric.httpServerRequestDuration, MetricAttributes(attributes))
            histograms[key] = made
            return made
        }
        histogram.record(entry.duration.inSeconds, in: entry.context)
    }
}

/// The value of `Date` (RFC 9110 §5.6.7), made once a second.
final class HTTPDates: Sendable {
    private let latest = Mutex((second: Int64.min, text: ""))

    func text(at time: Timestamp) -> String {
        let second = time.nanoseconds / 1_000_000_000
        return latest.withLock { latest in
            if latest.second != second { latest = (second, HTTPDates.format(second)) }
            return latest.text
        }
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT`.
    static func format(_ second: Int64) -> String {
        // `2026-11-23T10:45:22.000Z`, whose parts stand where they always do.
        let iso = Array(Timestamp(nanoseconds: second * 1_000_000_000).iso8601)
        guard iso.count >= 19, let month = Int(String(iso[5..<7])), (1...12).contains(month) else { return "" }
        let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        // 1970-01-01 was a Thursday.
        let weekday = days[Int((second / 86_400) % 7 + 7) % 7]
        return """
            \(weekday), \(String(iso[8..<10])) \(months[month - 1]) \(String(iso[0..<4])) \(String(iso[11..<19])) GMT
            """
    }
}
