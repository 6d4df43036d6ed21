internal import TriageEvents
internal import TriageIngress
internal import TriageTelemetry

extension ConsoleRouter {
    func traces() -> ConsoleAnswer {
        let failures = source.failures(limit: 100)
        let body: HTML = """
            <h1>Recent failed events</h1>
            <p class="lead">Of these the spans are kept in this process' memory, the newest up to a bound; older ones are in \
            the trace back end.</p>
            \(failureTable(failures))
            """
        return ConsoleAnswer(.page(title: "Traces", body))
    }

    func failureTable(_ failures: [SpanStore.FailedTrace]) -> HTML {
        guard source.keepsSpans else { return "<p class=\"card empty\">No spans are kept here.</p>" }
        guard !failures.isEmpty else { return "<p class=\"card empty\">No event has failed since the start.</p>" }
        let now = source.now
        return """
            <div class="scroll"><table class="failures">
            <caption>The event that failed last first</caption>
            <thead><tr><th scope="col">Failed</th><th scope="col">Event</th><th scope="col">Error</th><th scope="col">Class</th>
            <th scope="col" class="number">Failed attempts</th><th scope="col">Outcome</th><th scope="col">Trace</th></tr></thead>
            <tbody>\(failures.map { failure in
                """
                <tr><td class="nowrap">\(ConsoleTexts.time(failure.failedAt, now: now))</td>
                <th scope="row">\(failure.record?.description ?? failure.topic ?? "–")</th>
                <td>\(failure.errorType ?? "–")</td><td>\(failure.errorClass ?? "–")</td><td class="number">\(failure.failedAttempts)</td>
                <td>\(ConsoleRouter.outcome(failure.outcome))</td>
                <td class="nowrap"><a href="\(address: ConsolePath.trace(failure.traceID))" aria-label="Trace \(failure.traceID.description)">\
                Waterfall</a> <span class="quiet">(\(ConsoleTexts.count(failure.spans, "span")))</span></td></tr>
                """ as HTML
            })</tbody></table></div>
            """
    }

    private static func outcome(_ outcome: String?) -> HTML {
        let tone =
            switch outcome {
            case "completed"?: "good"
            case "dead_lettered"?: "bad"
            case "retry_scheduled"?, "parked"?, "deferred"?: "warn"
            default: ""
            }
        return "<span class=\"pill\" data-tone=\"\(tone)\">\((outcome ?? "under way").replacing("_", with: " "))</span>"
    }

    func trace(_ text: String) -> ConsoleAnswer {
        guard let trace = TraceID(text), trace.isValid else { return notFound("A trace id has 32 hexadecimal digits.") }
        let spans = source.spans(of: trace)
        let links = links(trace)
        guard !spans.isEmpty else {
            let elsewhere: HTML = links.isEmpty ? "" : "<p>Look at it elsewhere: \(links)</p>"
            var answer = notFound()
            answer.content = .page(
                title: "Trace",
                """
                <p class="quiet"><a href="/console/traces">Recent failed events</a></p>
                <h1>Trace <code>\(trace.description)</code></h1>
                <p>No spans of it are kept here: it didn't fail, was older than what is kept, or another process made it.</p>
                \(elsewhere)
                """)
            return answer
        }
        let waterfall = TraceWaterfall(spans: spans, maximumRows: 500)
        let failed = waterfall.rows.count { $0.flags.contains(.failed) }
        let others: HTML =
            waterfall.linkedTraces.isEmpty
            ? ""
            : """
            <p>It leads to other traces: \(waterfall.linkedTraces.prefix(20).map { other in
                "<a href=\"\(address: ConsolePath.trace(other))\"><code>\(other.description)</code></a> " as HTML
            })</p>
            """
        let body: HTML = """
            <p class="quiet"><a href="/console/traces">Recent failed events</a></p>
            <h1>Trace <code>\(trace.description)</code></h1>
            <p class="lead">\(ConsoleTexts.count(spans.count, "span")) in \(ConsoleTexts.seconds(waterfall.duration.inSeconds)), \
            \(failed == 0 ? "none failed" : "\(failed) failed"). \
            Began \(ConsoleTexts.time(waterfall.start, now: source.now)).\(links)</p>
            \(ConsoleRouter.waterfall(waterfall))
            \(waterfall.hidden > 0 ? "<p class=\"quiet\">\(waterfall.hidden) more spans aren't drawn.</p>" : "" as HTML)
            \(others)
            <h2>Each step</h2>
            \(waterfall.rows.prefix(200).map { ConsoleRouter.step($0, from: waterfall.start) })
            """
        return ConsoleAnswer(.page(title: "Trace \(trace)", body))
    }

    /// A trace as a table with bars: the bars say nothing that the cells beside them don't.
    static func waterfall(_ waterfall: TraceWaterfall) -> HTML {
        """
        <div class="scroll"><table class="waterfall">
        <caption>Steps in the order in which they began; a bar tells when, from 0 \
        to \(ConsoleTexts.seconds(waterfall.duration.inSeconds))</caption>
        <thead><tr><th scope="col">Step</th><th scope="col">Result</th><th scope="col" class="number">Began after</th>
        <th scope="col" class="number">Took</th><th scope="col" class="line">Time</th></tr></thead>
        <tbody>\(waterfall.rows.map { row($0, from: waterfall.start) })</tbody></table></div>
        """
    }

    private static func row(_ row: TraceWaterfall.Row, from start: Timestamp) -> HTML {
        let span = row.span
        let isFailed = row.flags.contains(.failed)
        let left = min(200, max(0, Int((row.offset * 200).rounded(.down))))
        let width = min(200 - left, max(1, Int((row.width * 200).rounded())))
        let kind = span.name.hasPrefix("wait ") ? "waiting" : "\(span.kind)"
        let result: HTML =
            isFailed
            ? "<span class=\"nowrap\"><span class=\"pill\" data-tone=\"bad\">failed</span> \(span.errorType ?? "")</span>"
            : span["triage.outcome"].map { "\($0.replacing("_", with: " "))" } ?? "<span class=\"quiet\">–</span>"
        let branch: HTML = row.depth == 0 ? "" : "<span class=\"branch\" aria-hidden=\"true\">└ </span>"
        let service: HTML =
            span.service.map {
                "<br><span class=\"hint\">\($0)\(row.flags.contains(.orphan) ? ", its parent isn't kept" : "")</span>"
            } ?? ""
        return """
            <tr><th scope="row"><span class="d\(min(12, row.depth))">\(branch)\
            <a href="#span-\(span.spanID.description)">\(span.name)</a></span>\(row.depth == 0 ? service : "")</th>
            <td>\(result)</td><td class="number">\(ConsoleTexts.seconds((span.start - start).inSeconds))</td>
            <td class="number">\(ConsoleTexts.seconds(span.duration.inSeconds))</td>
            <td class="line"><span class="track" aria-hidden="true"><i class="\(isFailed ? "failed" : kind) o\(left) w\(width)">\
            </i></span></td></tr>
            """
    }

    private static func step(_ row: TraceWaterfall.Row, from start: Timestamp) -> HTML {
        let span = row.span
        var rows: [HTML] = [
            "<dt>Kind</dt><dd>\("\(span.kind)")</dd>", "<dt>Span</dt><dd><code>\(span.spanID.description)</code></dd>",
        ]
        rows += span.attributes.map { "<dt>\($0.key)</dt><dd><code>\($0.value)</code></dd>" }
        if case .error(let text) = span.status, !text.isEmpty { rows.append("<dt>Status</dt><dd>\(text)</dd>") }
        for event in span.events {
            let said = event.attributes.map { "\($0.key)=\($0.value)" }.joined(separator: ", ")
            rows.append(
                "<dt>\(event.name)</dt><dd>after \(ConsoleTexts.seconds((event.time - start).inSeconds))\(said.isEmpty ? "" : ": \(said)")</dd>"
            )
        }
        for link in span.links where link.traceID != span.traceID {
            rows.append(
                "<dt>Link</dt><dd><a href=\"\(address: ConsolePath.trace(link.traceID))\"><code>\(link.traceID.description)</code></a></dd>"
            )
        }
        let mark: HTML = row.flags.contains(.failed) ? " <span class=\"pill\" data-tone=\"bad\">failed</span>" : ""
        return """
            <details id="span-\(span.spanID.description)"><summary>\(span.name)\(mark)</summary><dl class="facts card">\(rows)\
            </dl></details>
            """
    }
}
