internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing

extension ConsoleRouter {
    private static let pageSize = 50
    /// One patient's that are shown: their names fit into an address, in which the next page is told those that are chosen.
    private static let patientSize = 100

    func letters(_ request: ConsoleRequest) async throws(ConsoleFieldError) -> ConsoleAnswer {
        let fields = try ConsoleFields(request.query, ConsoleFields.filters + ["from"])
        let query = try fields.query(topics: source.topics, now: source.now)
        let from = try fields.number("from", 0...LetterIndex.capacity) ?? 0
        let snapshot = await source.letters()
        let (rows, count) = snapshot.index.list(query, from: from, limit: ConsoleRouter.pageSize)
        let body: HTML = """
            <h1>Dead letters</h1>
            \(age(snapshot))
            \(filters(request.query, query))
            \(patientForm(request.visitor))
            \(rows.isEmpty ? ConsoleRouter.noRows(count) : list(rows, snapshot.index, count: count, from: from))
            \(pages(request.query, from: from, count: count))
            \(exportLink(query))
            """
        return ConsoleAnswer(.page(title: "Dead letters", body))
    }

    private static func noRows(_ count: Int) -> HTML {
        count == 0
            ? "<p class=\"card empty\">No dead letter fits.</p>"
            : """
            <p class="card empty">The list has only \(ConsoleTexts.count(count, "dead letter")).</p>
            """
    }

    /// The whole of a cause in one piece; the chosen ones are by the button below the list.
    private func exportLink(_ query: LetterQuery) -> HTML {
        guard let fingerprint = query.fingerprint, fingerprint.utf8.count == 16, query.topic == nil, query.since == nil else {
            return ""
        }
        let path = ConsolePath.with(
            ConsolePath.export,
            [
                ("fingerprint", fingerprint), ("class", query.errorClass?.rawValue),
                ("status", query.status?.rawValue ?? "any"),
            ])
        return "<p><a href=\"\(address: path)\">Export all of this fingerprint…</a></p>"
    }

    // MARK: One patient's

    private func patientForm(_ visitor: ConsoleVisitor?) -> HTML {
        guard let visitor else { return "" }
        return """
            <form method="post" action="\(address: ConsolePath.patient)" class="filters" aria-label="Find a patient's dead letters">
            <input type="hidden" name="form-token" value="\(visitor.formToken)">
            <p class="field"><label for="patient">Patient</label>\
            <input type="text" id="patient" name="patient" maxlength="200" autocomplete="off" spellcheck="false" \
            placeholder="resource id"></p>
            <p class="field"><button type="submit">Find the patient's</button></p>
            </form>
            """
    }

    /// The dead letters of a patient, in every state. The id comes in a form, so that it stands in no address, and is on no page.
    func patient(_ request: ConsoleRequest) async throws(ConsoleFieldError) -> ConsoleAnswer {
        let fields = try ConsoleFields(request.form, ["form-token", "patient"])
        var id = fields.text("patient") ?? ""
        if id.hasPrefix("Patient/") { id.removeFirst("Patient/".count) }
        guard !id.isEmpty, id.utf8.count <= 1024 else {
            // What was typed may be anything.
            throw ConsoleFieldError("patient", id.isEmpty ? "" : "…", expected: "a resource id")
        }
        var query = LetterQuery()
        query.status = nil
        query.patient = LetterIndex.patient(ByteSlice(id))
        let snapshot = await source.letters()
        let (rows, count) = snapshot.index.list(query, from: 0, limit: ConsoleRouter.patientSize)
        let body: HTML = """
            <p class="quiet"><a href="/console/dead-letters">Dead letters</a></p>
            <h1>One patient's dead letters</h1>
            \(age(snapshot))
            \(patientForm(request.visitor))
            \(rows.isEmpty
                ? "<p class=\"card empty\">No dead letter that is known here is this patient's.</p>"
                : list(rows, snapshot.index, count: count, from: 0))
            """
        return ConsoleAnswer(.page(title: "One patient's dead letters", body))
    }

    private func filters(_ fields: FormFields, _ query: LetterQuery) -> HTML {
        func options(_ values: [(value: String, text: String)], _ chosen: String) -> [HTML] {
            values.map { value, text in
                value == chosen
                    ? "<option value=\"\(value)\" selected>\(text)</option>" : "<option value=\"\(value)\">\(text)</option>"
            }
        }
        let statuses = DeadLetterState.Status.allCases.map { ($0.rawValue, ConsoleTexts.word($0)) } + [("any", "any")]
        let classes = [("", "any")] + ErrorClass.allCases.map { ($0.rawValue, $0.rawValue) }
        let topics = [("", "any")] + source.topics.map { ($0, $0) }
        var times = [("", "any time"), ("1h", "last hour"), ("24h", "last day"), ("168h", "last week")]
        if let since = fields["since"], !times.contains(where: { $0.0 == since }) { times.append((since, "since \(since)")) }
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
        <button type="submit" formaction="\(address: ConsolePath.export)">Export the chosen…</button>
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
