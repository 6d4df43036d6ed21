internal import Synchronization
public import TriageEvents

/// The only way to an HTTP caller: every call that goes through it is a CLIENT span whose context travels in its headers.
///
/// The attributes are those of the HTTP conventions, but of a URL's path only a template is told, and of its query nothing: both may name
/// patients or hold secrets (design §6). For servers that the configuration names: their host and port are exported.
public final class TracedHTTPCaller: Sendable {
    private let caller: any HTTPCaller
    private let tracer: Tracer
    private let meter: Meter
    private let templates = Mutex<[TemplateKey: SpanTemplate]>([:])
    private let durations = Mutex<[SeriesKey: Histogram]>([:])

    private struct TemplateKey: Hashable {
        let method: HTTPCall.Method
        let origin: String
        let path: StaticText
    }

    private struct SeriesKey: Hashable {
        let method: HTTPCall.Method
        let origin: String
        let result: String
    }

    /// A traced caller over `caller`.
    public init(_ caller: any HTTPCaller, tracer: Tracer, meter: Meter) {
        self.caller = caller
        self.tracer = tracer
        self.meter = meter
    }

    /// Sends the call once under a CLIENT span and waits for the answer, whatever its status.
    ///
    /// The span fails with a 4xx or 5xx, whose number is its `error.type`, and without an answer; a cancelled call is no error.
    ///
    /// - Parameters:
    ///   - call: its trace headers are replaced by the span's context.
    ///   - path: the path's template below the server's base, such as `/Patient/{id}`, which is also the span's name behind the method; nil
    ///     tells nothing of the path.
    ///   - resends: how many times the same was sent before: `http.request.resend_count`, left out if 0.
    ///   - parent: the span it belongs under; by default the current one. Nil begins a new trace.
    public func send(
        _ call: HTTPCall, path: StaticString? = nil, resends: Int = 0, parent: TraceContext? = currentTraceContext()
    ) async throws(HTTPCallError) -> HTTPAnswer {
        guard let origin = HTTPOrigin(call.url) else { throw HTTPCallError(.invalidCall) }
        let start = tracer.clock.now()
        var span = tracer.start(template(call.method, origin, path), parent: parent, at: start)
        if resends > 0 { span.append("http.request.resend_count", .int(Int64(resends))) }
        var traced = call
        traced.headers = injected(span.context, into: call.headers)
        let result: Result<HTTPAnswer, HTTPCallError>
        do throws(HTTPCallError) {
            result = .success(try await caller.send(traced))
        } catch {
            result = .failure(error)
        }
        let end = tracer.clock.now()
        duration(call.method, origin, result).record((end - start).inSeconds, in: span.context, at: end)
        TracedHTTPCaller.note(result, on: &span)
        tracer.end(span, at: end)
        return try result.get()
    }

    private static func note(_ result: Result<HTTPAnswer, HTTPCallError>, on span: inout SpanData) {
        switch result {
        case .success(let answer):
            span.append("http.response.status_code", .int(Int64(answer.status)))
            guard answer.status >= 400 else { return }
            span.append("error.type", .text("\(answer.status)"))
            span.set(.error(""))
        case .failure(let error) where error.code == .cancelled: break
        case .failure(let error):
            span.append("error.type", .text(SafeText(error.code)))
            span.set(.error(SafeText(error.code)))
        }
    }

    /// The headers with those of the span's context in place of any that were there.
    private func injected(
        _ context: TraceContext, into headers: [(name: String, value: String)]
    ) -> [(name: String, value: String)] {
        let own = tracer.propagators.inject(context)
        let names = Set(own.map(\.name))
        return headers.filter { !names.contains($0.name.lowercased()) }
            + own.compactMap { header in header.value?.utf8Text.map { (header.name, $0) } }
    }

    private func template(_ method: HTTPCall.Method, _ origin: HTTPOrigin, _ path: StaticString?) -> SpanTemplate {
        let server = origin.description
        let key = TemplateKey(method: method, origin: server, path: StaticText(path ?? ""))
        return templates.withLock { templates in
            if let known = templates[key] { return known }
            var attributes = [
                Attribute("http.request.method", .text(SafeText(vetted: method.rawValue))),
                Attribute("server.address", .text(SafeText(vetted: origin.host))),
                Attribute("server.port", .int(Int64(origin.port))),
                Attribute("url.full", .text(SafeText(vetted: server + (path?.description ?? "")))),
            ]
            var name = method.rawValue
            if let path {
                attributes.append(Attribute("url.template", .literal(StaticText(path))))
                name += " \(path)"
            }
            let made = tracer.template(name, kind: .client, attributes)
            templates[key] = made
            return made
        }
    }

    private func duration(
        _ method: HTTPCall.Method, _ origin: HTTPOrigin, _ result: Result<HTTPAnswer, HTTPCallError>
    ) -> Histogram {
        var status: Int?
        var error: String?
        switch result {
        case .success(let answer):
            status = answer.status
            if answer.status >= 400 { error = "\(answer.status)" }
        case .failure(let failure): error = failure.code.rawValue
        }
        let key = SeriesKey(method: method, origin: origin.description, result: error ?? "\(status ?? 0)")
        return durations.withLock { durations in
            if let known = durations[key] { return known }
            var attributes: [(StaticString, SafeText)] = [
                ("http.request.method", SafeText(vetted: method.rawValue)), ("server.address", SafeText(vetted: origin.host)),
                ("server.port", "\(origin.port)"),
            ]
            if let status { attributes.append(("http.response.status_code", "\(status)")) }
            if let error { attributes.append(("error.type", SafeText(vetted: error))) }
            let made = meter.histogram(Metric.httpClientRequestDuration, MetricAttributes(attributes))
            durations[key] = made
            return made
        }
    }
}
