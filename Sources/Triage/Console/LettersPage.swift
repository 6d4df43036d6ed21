internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing

extension ConsoleRouter {
    private static let pageSize = 50

    func letters(_ request: ConsoleRequest) async -> ConsoleAnswer {
        let snapshot = await source.letters()
        let query = query(request.query)
        let from = max(0, request.query["from"].flatMap { Int($0) } ?? 0)
        let (rows, count) = snapshot.index.list(query, from: from, limit: ConsoleRouter.pageSize)
        let body: HTML = """
            <h1>Dead letters</h1>
            \(age(snapshot))
            \(filters(request.query, query, snapshot.index))
            \(rows.isEmpty ? "<p class=\"card empty\">No dead letter fits.</p>" : list(rows, snapshot.index, count: count, from: from))
            \(pages(request.query, from: from, count: count))
            """
        return ConsoleAnswer(.page(title: "Dead letters", body))
    }

    private func filters(_ fields: FormFields, _ query: LetterQuery, _ index: LetterIndex) -> HTML {
        func options(_ values: [(value: String, text: String)], _ chosen: String) -> [HTML] {
            values.map { value, text in
                value == chosen
                    ? "<option value=\"\(value)\" selected>\(text)</option>" : "<option value=\"\(value)\">\(text)</option>"
            }
        }
        let statuses = DeadLetterState.Status.allCases.map { ($0.rawValue, ConsoleTexts.word($0)) } + [("any", "any")]
        let classes = [("", "any")] + ErrorClass.allCases.map { ($0.rawValue, $0.rawValue) }
        let topics = [("", "any")] + index.topicNames.map { ($0, $0) }
        let times = [("", "any time"), ("1h", "last hour"), ("24h", "last day"), ("168h", "last week")]
        return """
            <form method="get" action="/console/dead-letters" class="filters" role="search" aria-label="Filter dead letters">
            <p class="field"><label for="status">State</label>\
            <select id="status" name="status">\(options(statuses, query.status?.rawValue ?? "any"))</select></p>
            <p class="field"><label for="class">Class</label>\
            <select id="class" name="class">\(options(classes, query.errorClass?.rawValue ?? ""))</select></p>
            <p class="field"><label for="topic">Topic</label>\
            <select id="topic" name="topic">\(options(topics, query.topic ?? ""))</select></p>
            <p class="field"><label for="since">Written</label>\
            <select id="since" name="since">\(options(times, fields["since"] ?? ""))</select></p>
            <p class="field"><label for="fingerprint">Fingerprint</label>\
            <input type="text" id="fingerprint" name="fingerprint" value="\(query.fingerprint ?? "")" maxlength="16" \
            pattern="[0-9a-f]*" spellcheck="false"></p>
            <p class="field"><button type="submit">Filter</button></p>
            </form>
            """
    }

    private func list(_ rows: [LetterIndex.Row], _ index: LetterIndex, count: Int, from: Int) -> HTML {
        """
        <form method="get" action="/console/act">
        <div class="scroll"><table>
        <caption>\(ConsoleTexts.grouped(from + 1)) to \(ConsoleTexts.grouped(from + rows.count)) \
        of \(ConsoleTexts.count(count, "dead letter")), newest first</caption>
        <thead><tr><th scope="col"><span class="quiet">Choose</span></th><th scope="col">Dead letter</th><th scope="col">Written\
        </th>
        <th scope="col">Error</th><th scope="col">Class</th><th scope="col" class="number">Retries</th><th scope="col">Group</th>
        <th scope="col">State</th><th scope="col">Trace</th></tr></thead>
        <tbody>\(rows.map { row($0, index) })</tbody>
        </table></div>
        <div class="actions"><button type="submit" name="do" value="replay">Replay the chosen…</button>
        <button type="submit" name="do" value="discard">Discard the chosen…</button>
        <button type="submit" name="do" value="reopen">Open the chosen again…</button>
        <span class="hint">The next page tells what would be done, and asks.</span></div>
        </form>
        """
    }

    private func row(_ row: LetterIndex.Row, _ index: LetterIndex) -> HTML {
        let id = index.position(row)
        let cause = index.cause(row)
        let trace = TraceID(high: row.traceHigh, low: row.traceLow)
        let link: HTML =
            trace.isValid
            ? "<a href=\"\(address: ConsolePath.trace(trace))\" aria-label=\"Trace of \(id.description)\">Trace</a>" : "–"
        let written = row.written == .min ? nil : Timestamp(milliseconds: row.written)
        let copies: HTML =
            row.copies == 0 ? "" : "<br><span class=\"hint\">and \(ConsoleTexts.count(Int(row.copies), "copy"))</span>"
        return """
            <tr><td><input type="checkbox" name="id" value="\(id.description)" aria-label="Choose \(id.description)"></td>
            <th scope="row"><a href="\(address: ConsolePath.letter(id))">\(id.description)</a>\(copies)</th>
            <td class="nowrap">\(ConsoleTexts.time(written, now: source.now))</td>
            <td>\(cause.error ?? "–")<br><code class="quiet">\(cause.fingerprint)</code></td>
            <td>\(cause.errorClass?.rawValue ?? "–")</td><td class="number">\(row.retries)</td><td>\(index.group(row))</td>
            <td>\(ConsoleTexts.status(row.status))</td>
            <td>\(link)</td></tr>
            """
    }

    private func pages(_ fields: FormFields, from: Int, count: Int) -> HTML {
        guard count > ConsoleRouter.pageSize else { return "" }
        func link(_ from: Int, _ title: StaticString) -> HTML {
            let names = ["status", "class", "topic", "since", "fingerprint"]
            let path = ConsolePath.with(
                ConsolePath.letters, names.map { ($0, fields[$0]) } + [("from", from == 0 ? nil : "\(from)")])
            return "<a href=\"\(address: path)\">\(SafeText(stringLiteral: title))</a>"
        }
        let size = ConsoleRouter.pageSize
        return """
            <nav class="pages" aria-label="Pages of the list">\(from > 0 ? link(max(0, from - size), "Newer") : "" as HTML)
            <span class="quiet">Page \(from / size + 1) of \((count + size - 1) / size)</span>
            \(from + size < count ? link(from + size, "Older") : "" as HTML)</nav>
            """
    }
}
