internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing
internal import TriageTelemetry

/// What happens now: the figures that are renewed every two seconds, as texts by name.
struct OverviewFigures: Sendable {
    private(set) var fields: [(name: String, text: String)] = []
    private(set) var tones: [(name: String, tone: String)] = []
    /// Heights of the bars, 0 to 20, the oldest first.
    private(set) var bars: [Int] = []
    private(set) var barsText = ""

    subscript(_ name: String) -> String { fields.first { $0.name == name }?.text ?? "" }
    func tone(_ name: String) -> String { tones.first { $0.name == name }?.tone ?? "" }

    init(_ figures: ConsoleFigures) {
        let last = figures.last
        let rate = figures.rate { $0.completed + $0.deadLettered }
        set("rate", rate.map(ConsoleTexts.number) ?? "–")
        set("handled", last.map { "\(ConsoleTexts.grouped($0.completed)) completed since the start" } ?? "nothing measured yet")
        for (name, buckets) in OverviewFigures.histograms {
            for (label, share) in OverviewFigures.quantiles {
                set("\(name)-\(label)", ConsoleTexts.seconds(figures.recent(share, buckets)))
                set("\(name)-\(label)-all", ConsoleTexts.seconds(last.flatMap { buckets($0).quantile(share) }))
            }
        }
        // Unknown isn't none.
        set("dead", last?.openDeadLetters.map { ConsoleTexts.grouped($0) } ?? "–")
        let dead = figures.rate { $0.deadLettered }
        set(
            "dead-sub",
            "\(dead.map(ConsoleTexts.number) ?? "–") /s; \(ConsoleTexts.grouped(last?.deadLettered ?? 0)) since the start")
        set("retries", ConsoleTexts.grouped(last?.waiting ?? 0))
        let retries = figures.rate { $0.retries }
        set(
            "retries-sub",
            "\(retries.map(ConsoleTexts.number) ?? "–") /s; oldest \(ConsoleTexts.seconds(last?.oldestRetrySeconds)), "
                + "\(ConsoleTexts.grouped(last?.parked ?? 0)) parked")
        set("lag", ConsoleTexts.grouped(last?.lag ?? 0))
        set("lag-sub", "records; the oldest is \(ConsoleTexts.seconds(last?.lagSeconds)) old")
        set("keys", ConsoleTexts.grouped(last?.keysBlocked ?? 0))
        set("keys-sub", "\(ConsoleTexts.grouped(last?.inFlight ?? 0)) records in flight")
        gate(last)
        let throughput = figures.throughput
        let most = throughput.max() ?? 0
        let heights = throughput.map { most > 0 ? max($0 > 0 ? 1 : 0, Int(($0 / most * 20).rounded())) : 0 }
        bars = Array(repeating: 0, count: max(0, ConsoleFigures.bars - heights.count)) + heights
        barsText =
            "Events a second in the last \(ConsoleFigures.bars * 2) seconds: at most \(ConsoleTexts.number(most)), "
            + "at last \(throughput.last.map(ConsoleTexts.number) ?? "none")"
    }

    static let quantiles = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]
    static let histograms: [(name: String, buckets: @Sendable (FiguresSample) -> FiguresSample.Buckets)] = [
        ("handling", { $0.handling }), ("whole", { $0.endToEnd }),
    ]

    private mutating func gate(_ last: FiguresSample?) {
        let paused = last?.paused ?? 0
        switch (last?.gate, last?.storm) {
        case (nil, nil): set("gate", "–", tone: "")
        case (.closed?, _): set("gate", "closed", tone: "bad")
        case (_, .stopped?): set("gate", "storm", tone: "bad")
        case (.probing?, _), (_, .probing?): set("gate", "probing", tone: "warn")
        default: set("gate", "open", tone: "good")
        }
        let meaning =
            switch self["gate"] {
            case "closed": "what the handler calls is away"
            case "storm": "too many dead letters: intake stopped"
            case "probing": "one event at a time is tried"
            case "open": "events are handed to the handler"
            default: "nothing is processed here"
            }
        set("gate-sub", paused == 0 ? meaning : "\(meaning); \(ConsoleTexts.count(Int(paused), "partition")) paused")
        let open =
            last?.openDeadLetters.map { ConsoleTexts.count(Int(clamping: $0), "open dead letter") }
            ?? "How many dead letters are open isn't known"
        set(
            "summary",
            "Gate \(self["gate"]). \(open). "
                + "\(ConsoleTexts.count(Int(clamping: last?.keysBlocked ?? 0), "patient")) waiting for a retry.")
    }

    private mutating func set(_ name: String, _ text: String) { fields.append((name, text)) }
    private mutating func set(_ name: String, _ text: String, tone: String) {
        fields.append((name, text))
        tones.append((name, tone))
    }

    var json: String {
        func object(_ pairs: [(String, String)]) -> String {
            "{" + pairs.map { "\(JSONText($0.0).quoted):\(JSONText($0.1).quoted)" }.joined(separator: ",") + "}"
        }
        return """
            {"fields":\(object(fields.map { ($0.name, $0.text) })),"tones":\(object(tones.map { ($0.name, $0.tone) })),\
            "bars":[\(bars.map(String.init).joined(separator: ","))],"barsText":\(JSONText(barsText).quoted)}
            """
    }
}

extension ConsoleRouter {
    func overview() async -> ConsoleAnswer {
        let snapshot = await source.letters()
        let figures = OverviewFigures(source.figures)
        let groups = snapshot.index.groups(LetterQuery())
        let failures = source.failures(limit: 5)
        let body: HTML = """
            <h1>Overview</h1>
            <div data-live="/console/api/overview">
            <p class="lead"><span role="status" data-field="summary">\(figures["summary"])</span>
            <span class="nowrap"><span data-note></span></span></p>
            <dl class="tiles">
            \(ConsoleRouter.tile("Throughput", "rate", figures, unit: " /s", sub: "handled"))
            \(ConsoleRouter.tile("Open dead letters", "dead", figures, sub: "dead-sub"))
            \(ConsoleRouter.tile("Waiting for a retry", "retries", figures, sub: "retries-sub"))
            \(ConsoleRouter.tile("Lag", "lag", figures, sub: "lag-sub"))
            \(ConsoleRouter.tile("Patients blocked", "keys", figures, sub: "keys-sub"))
            <div class="tile"><dt>Outage gate</dt>
            <dd class="big"><span class="pill" data-field="gate" data-tone-of="gate" \
            data-tone="\(figures.tone("gate"))">\(figures["gate"])</span></dd>
            <dd class="sub" data-field="gate-sub">\(figures["gate-sub"])</dd></div>
            </dl>
            <div class="columns">
            <section aria-labelledby="throughput">
            <h2 id="throughput">Events a second, last two minutes</h2>
            <div class="card"><div class="bars" role="img" aria-label="\(figures.barsText)" \
            data-bars>\(figures.bars.map { height in "<i class=\"h\(height)\"></i>" as HTML })</div></div>
            </section>
            <section aria-labelledby="latency">
            <h2 id="latency">Latency</h2>
            \(ConsoleRouter.latency(figures))
            </section>
            </div>
            </div>
            <h2>Failing now</h2>
            \(age(snapshot))
            \(ConsoleRouter.table(groups.prefix(5), of: groups, now: source.now))
            \(groups.count > 5 ? "<p><a href=\"/console/failures\">All \(groups.count) causes</a></p>" : "" as HTML)
            <h2>Events that failed last</h2>
            \(failureTable(failures))
            """
        return ConsoleAnswer(.page(title: "Overview", body))
    }

    private static func tile(
        _ title: StaticString, _ name: String, _ figures: OverviewFigures, unit: StaticString = "", sub: String
    ) -> HTML {
        """
        <div class="tile"><dt>\(SafeText(stringLiteral: title))</dt>
        <dd class="big"><span data-field="\(name)">\(figures[name])</span>\(SafeText(stringLiteral: unit))</dd>
        <dd class="sub" data-field="\(sub)">\(figures[sub])</dd></div>
        """
    }

    private static func latency(_ figures: OverviewFigures) -> HTML {
        let shares = OverviewFigures.quantiles.map { "<th scope=\"col\" class=\"number\">\($0.0)</th>" as HTML }
        func row(_ title: StaticString, _ name: String) -> HTML {
            let recent = OverviewFigures.quantiles.map { quantile in
                "<td class=\"number\" data-field=\"\(name)-\(quantile.0)\">\(figures["\(name)-\(quantile.0)"])</td>" as HTML
            }
            let whole = OverviewFigures.quantiles.map { quantile in
                "<td class=\"number\" data-field=\"\(name)-\(quantile.0)-all\">\(figures["\(name)-\(quantile.0)-all"])</td>"
                    as HTML
            }
            return "<tr><th scope=\"row\">\(SafeText(stringLiteral: title))</th>\(recent)\(whole)</tr>"
        }
        return """
            <div class="scroll"><table>
            <caption>Half, 95 % and 99 % of events took no longer; end to end is from the first produce to the outcome</caption>
            <thead><tr><th scope="col" rowspan="2"><span class="quiet">Time</span></th>\
            <th scope="colgroup" colspan="3">last minute</th>
            <th scope="colgroup" colspan="3">since the start</th></tr>
            <tr>\(shares)\(shares)</tr></thead>
            <tbody>\(row("one delivery", "handling"))\(row("end to end", "whole"))</tbody>
            </table></div>
            """
    }
}
