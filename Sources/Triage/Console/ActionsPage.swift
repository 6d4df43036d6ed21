internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing

/// What was done from the console. Who did it and why are people's words: they are for those who have signed in.
extension ConsoleRouter {
    func actions(_ request: ConsoleRequest) async -> ConsoleAnswer {
        let tasks = await source.tasks()
        let now = source.now
        let rows = tasks.map { task in
            """
            <tr><th scope="row"><a href="\(address: "\(ConsolePath.actions)/\(task.id)")">\(ConsoleRouter.title(task.order))</a>\
            </th>
            <td>\(ConsoleRouter.words(task.by, request.visitor))</td><td class="nowrap">\(ConsoleTexts.time(task.begun, now: now))</td><td>\(ConsoleRouter.pill(task))\
            </td></tr>
            """ as HTML
        }
        let table: HTML =
            tasks.isEmpty
            ? "<p class=\"card empty\">Nothing was done from this console since the start.</p>"
            : """
            <div class="scroll"><table><caption>The last \(tasks.count), newest first</caption>
            <thead><tr><th scope="col">Action</th><th scope="col">By</th><th scope="col">Begun</th><th scope="col">Result</th>\
            </tr></thead>
            <tbody>\(rows)</tbody></table></div>
            """
        return ConsoleAnswer(
            .page(
                title: "Actions",
                """
                <h1>Actions</h1>
                <p class="lead">What was done from this console since the service was started. What became of each dead letter \
                stands in \
                <code>triage.dead-letters</code>, and on its page.</p>
                \(table)
                """))
    }

    func action(_ id: String, _ request: ConsoleRequest) async -> ConsoleAnswer {
        guard let task = await source.tasks().first(where: { $0.id == id }) else {
            return notFound("There is no such action any more.")
        }
        let now = source.now
        let result: HTML
        switch task.state {
        case .running(let text):
            result = """
                <div data-live="\(address: "/console/api/actions/\(task.id)")">\
                <p class="notice" role="status" data-field="progress">\(text)</p>
                <p class="quiet"><span data-note>Load the page again to see how far it is.</span></p></div>
                """
        case .done(let lines, let isWell):
            result = """
                <div class="notice \(isWell ? "good" : "warn")" role="status">\(lines.map { "<p>\($0)</p>" as HTML })</div>
                """
        case .failed(let text, let nameless):
            result = "<p class=\"alert\" role=\"alert\">\(request.visitor == nil ? nameless : text)</p>"
        }
        var rows: [(StaticString, HTML)] = [
            ("By", ConsoleRouter.words(task.by, request.visitor)), ("Begun", ConsoleTexts.time(task.begun, now: now)),
        ]
        if let ended = task.ended { rows.append(("Took", "\(PlainText.span(ended - task.begun))")) }
        if let reason = task.order.reason { rows.append(("Reason", ConsoleRouter.words(reason, request.visitor))) }
        if task.order.kind == .replay { rows += ConsoleRouter.options(task) }
        switch task.order.choice {
        case .some(let ids):
            rows.append(
                (
                    "Dead letters",
                    "\(ids.map { "<a href=\"\(address: ConsolePath.letter($0))\">\($0.description)</a><br>" as HTML })"
                ))
        case .query(let query):
            let list = ConsolePath.with(ConsolePath.letters, [("fingerprint", query.fingerprint), ("status", "any")])
            rows.append(("Dead letters", "fingerprint <a href=\"\(address: list)\"><code>\(query.fingerprint ?? "")</code></a>"))
        }
        return ConsoleAnswer(
            .page(
                title: ConsoleRouter.title(task.order),
                """
                <p class="quiet"><a href="/console/actions">Actions</a></p>
                <h1>\(ConsoleRouter.title(task.order))</h1>
                \(result)
                <div class="card">\(ConsoleRouter.list(rows))</div>
                """))
    }

    /// How a replay was asked for.
    private static func options(_ task: ConsoleTask) -> [(StaticString, HTML)] {
        let order = task.order
        var rows: [(StaticString, HTML)] = [("To", order.target == .retry ? "the retry topic" : "the main topic")]
        if order.canary > 0 {
            rows.append(("Tried first", "\(order.canary), for at most \(PlainText.span(order.canaryTimeout))"))
        }
        if let rate = order.rate { rows.append(("Rate", "at most \("\(rate)") /s")) }
        if let limit = order.limit { rows.append(("Limit", "\(ConsoleTexts.grouped(limit)), the oldest")) }
        if order.force { rows.append(("Forced", "also what wasn't open")) }
        if task.isPatched { rows.append(("Changed", "by a patch; what it said before stands in triage.dead-letters")) }
        return rows
    }

    /// What a person said of himself, or as a reason: for those who have signed in.
    static func words(_ text: String, _ visitor: ConsoleVisitor?) -> HTML {
        visitor == nil ? "<span class=\"quiet\">shown to those who have signed in</span>" : "\(text)"
    }

    static func title(_ order: ConsoleOrder) -> String {
        let verb = Words(order.kind).verb
        switch order.choice {
        case .some(let ids): return ids.count == 1 ? "\(verb) \(ids[0])" : "\(verb) \(ids.count) dead letters"
        case .query(let query): return "\(verb) the dead letters of \(query.fingerprint ?? "")"
        }
    }

    private static func pill(_ task: ConsoleTask) -> HTML {
        switch task.state {
        case .running: "<span class=\"pill\" data-tone=\"warn\">under way</span>"
        case .done(_, let isWell):
            isWell
                ? "<span class=\"pill\" data-tone=\"good\">done</span>"
                : "<span class=\"pill\" data-tone=\"warn\">done in part</span>"
        case .failed: "<span class=\"pill\" data-tone=\"bad\">failed</span>"
        }
    }
}
