internal import HTTPTypes
internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing

extension ConsoleRouter {
    /// What a page of the console says of a kind of action.
    private struct Words {
        let verb: StaticString
        let meaning: StaticString

        init(_ kind: ConsoleOrder.Kind) {
            switch kind {
            case .replay:
                verb = "Replay"
                meaning = """
                    Each event is written anew as it stands, and takes its place among its patient's events. What was replayed \
                    or completed \
                    before is left alone.
                    """
            case .discard:
                verb = "Discard"
                meaning = "They count as not needed any more. The records stay in Kafka, and can be opened again."
            case .reopen:
                verb = "Open again"
                meaning = "They count as open: somebody still has to do something about them."
            }
        }
    }

    /// Tells what would be done, and asks.
    func confirm(_ request: ConsoleRequest) async -> ConsoleAnswer {
        guard let kind = request.query["do"].flatMap({ ConsoleOrder.Kind(rawValue: $0) }) else {
            return notFound("There is no such action.")
        }
        let words = Words(kind)
        let ids = request.query.all("id")
        let positions = ids.compactMap { RecordPosition($0) }
        guard positions.count == ids.count, ids.count <= 200 else {
            return notFound("A dead letter is named TOPIC/PARTITION/OFFSET.")
        }
        let snapshot = await source.letters()
        var query = query(request.query, status: kind == .reopen ? .discarded : .open)
        // A form sends no more than a fingerprint and a class.
        query.topic = nil
        query.since = nil
        let isQuery = query.fingerprint != nil
        guard isQuery || !positions.isEmpty else {
            return ConsoleAnswer(
                .page(
                    title: "Nothing chosen",
                    """
                    <h1>Nothing chosen</h1>
                    <p>Choose dead letters in the list, by the boxes beside them.</p>
                    <p><a href="/console/dead-letters">Dead letters</a></p>
                    """), status: .badRequest)
        }
        let count = isQuery && positions.isEmpty ? snapshot.index.list(query, from: 0, limit: 0).count : positions.count
        let title = "\(words.verb) \(ConsoleTexts.count(count, "dead letter"))"
        let what: HTML =
            positions.isEmpty
            ? """
            <p>All that are \(query.status.map(ConsoleTexts.word) ?? "there") and have the fingerprint \
            <code>\(query.fingerprint ?? "")</code>\
            \(query.errorClass.map { " and the class \($0.rawValue)" } ?? ""); \(ConsoleTexts.grouped(count)) as of \
            \(ConsoleTexts.ago(snapshot.readAt, now: source.now)), and what came since.</p>
            """
            : "<ul>\(positions.map { "<li><a href=\"\(address: ConsolePath.letter($0))\">\($0.description)</a></li>" as HTML })</ul>"
        let body: HTML = """
            <h1>\(title)</h1>
            \(what)
            <p>\(SafeText(stringLiteral: words.meaning))</p>
            \(form(kind, words, positions, query, count: count, request))
            """
        return ConsoleAnswer(.page(title: title, body))
    }

    private func form(
        _ kind: ConsoleOrder.Kind, _ words: Words, _ positions: [RecordPosition], _ query: LetterQuery, count: Int,
        _ request: ConsoleRequest
    ) -> HTML {
        guard let visitor = request.visitor else {
            guard request.canSignIn else {
                return
                    "<p class=\"notice\">This console only shows: it has no token. <code>triage dead-letters</code> does it from a terminal.</p>"
            }
            var pairs: [(String, String?)] = [("do", kind.rawValue)] + positions.map { ("id", $0.description) }
            if positions.isEmpty { pairs += [("fingerprint", query.fingerprint), ("class", query.errorClass?.rawValue)] }
            let next = ConsolePath.with("/console/login", [("next", ConsolePath.with(ConsolePath.act, pairs))])
            return """
                <p class="notice">For this you have to be signed in. <a href="\(address: next)">Sign in with the token</a></p>
                """
        }
        var hidden: HTML = """
            <input type="hidden" name="form-token" value="\(visitor.formToken)">\
            <input type="hidden" name="do" value="\(kind.rawValue)">
            """
        for position in positions { hidden += "<input type=\"hidden\" name=\"id\" value=\"\(position.description)\">" }
        if positions.isEmpty {
            hidden += "<input type=\"hidden\" name=\"fingerprint\" value=\"\(query.fingerprint ?? "")\">"
            if let errorClass = query.errorClass {
                hidden += "<input type=\"hidden\" name=\"class\" value=\"\(errorClass.rawValue)\">"
            }
        }
        let isDiscard = kind == .discard
        let reason: HTML = isDiscard ? " required" : ""
        let optional: HTML = isDiscard ? "" : " <span class=\"quiet\">(optional)</span>"
        return """
            <form method="post" action="/console/act" class="card narrow">\(hidden)
            \(kind == .replay ? ConsoleRouter.replayFields(count: count) : "")
            <p class="field"><label for="reason">Reason\(optional)</label>
            <input type="text" id="reason" name="reason" maxlength="500" autocomplete="off"\(reason)>
            <span class="hint">Stands beside your name in <code>triage.dead-letters</code>. No patient data, please.</span></p>
            <div class="actions">\
            <button type="submit" \
            class="primary">\(SafeText(stringLiteral: words.verb)) \(ConsoleTexts.count(count, "dead letter"))</button>
            <a href="/console/dead-letters">Cancel</a></div>
            </form>
            """
    }

    private static func replayFields(count: Int) -> HTML {
        let canary: HTML =
            count < 2
            ? ""
            : """
            <p class="field"><label for="canary">Try first</label>
            <input type="number" id="canary" name="canary" min="0" max="\(min(count, 1000))" value="1">
            <span class="hint">So many are replayed first; the others only if all of these are completed. 0 replays all at once.\
            </span></p>
            """
        return """
            <fieldset><legend>Where to</legend>
            <p class="choice"><input type="radio" id="to-retry" name="to" value="retry" checked>
            <label for="to-retry">To the retry topic \
            <span class="hint">Only the group that failed gets them, in their patients' order.</span></label></p>
            <p class="choice"><input type="radio" id="to-origin" name="to" value="origin">
            <label for="to-origin">To the main topic <span class="hint">Every group that reads it sees them again, at its end.\
            </span></label></p>
            </fieldset>
            \(canary)
            """
    }

    /// Does it.
    func act(_ request: ConsoleRequest) async -> ConsoleAnswer {
        guard let visitor = request.visitor, let kind = request.form["do"].flatMap({ ConsoleOrder.Kind(rawValue: $0) }) else {
            return problem("Not done", "The form names no action. Nothing was done.", status: .badRequest)
        }
        let ids = request.form.all("id")
        let positions = ids.compactMap { RecordPosition($0) }
        let query = query(request.form, status: kind == .reopen ? .discarded : .open)
        guard positions.count == ids.count, ids.count <= 200, !positions.isEmpty || query.fingerprint?.utf8.count == 16 else {
            return problem("Not done", "The form names no dead letters. Nothing was done.", status: .badRequest)
        }
        var order = ConsoleOrder(kind: kind, choice: positions.isEmpty ? .query(query) : .some(positions))
        order.reason = request.form["reason"].map { String($0.prefix(500)) }
        if kind == .discard, order.reason == nil {
            return problem("Not done", "A discard needs a reason. Nothing was done.", status: .badRequest)
        }
        if kind == .replay {
            let target = request.form["to"].map { DeadLetterReplay.Target(rawValue: $0) } ?? .retry
            // An empty field is none; one that can't be read must not become "without canaries".
            let canary = request.form["canary"].map { $0.isEmpty ? 0 : Int($0) } ?? 0
            guard let target, let canary, (0...1000).contains(canary) else {
                return problem(
                    "Not done", "Expected to: retry or origin; canary: a number from 0 to 1000. Nothing was done.",
                    status: .badRequest)
            }
            order.target = target
            order.canary = canary
        }
        do {
            let id = try await source.start(order, by: ConsoleRouter.name(visitor))
            await source.settle(id)
            return ConsoleAnswer(.redirect(to: "\(ConsolePath.actions)/\(id)"))
        } catch {
            return problem("Not done", ConsoleRouter.safe(error), status: error is ConsoleBusy ? .conflict : .serviceUnavailable)
        }
    }

    // MARK: What was done

    func actions() async -> ConsoleAnswer {
        let tasks = await source.tasks()
        let now = source.now
        let rows = tasks.map { task in
            """
            <tr><th scope="row"><a href="\(address: "\(ConsolePath.actions)/\(task.id)")">\(ConsoleRouter.title(task.order))</a>\
            </th>
            <td>\(task.by)</td><td class="nowrap">\(ConsoleTexts.time(task.begun, now: now))</td><td>\(ConsoleRouter.pill(task))\
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

    func action(_ id: String) async -> ConsoleAnswer {
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
        case .failed(let text): result = "<p class=\"alert\" role=\"alert\">\(text)</p>"
        }
        var rows: [(StaticString, HTML)] = [
            ("By", "\(task.by)"), ("Begun", ConsoleTexts.time(task.begun, now: now)),
        ]
        if let ended = task.ended { rows.append(("Took", "\(PlainText.span(ended - task.begun))")) }
        if let reason = task.order.reason { rows.append(("Reason", "\(reason)")) }
        if task.order.kind == .replay {
            rows.append(("To", task.order.target == .retry ? "the retry topic" : "the main topic"))
            if task.order.canary > 0 { rows.append(("Tried first", "\(task.order.canary)")) }
        }
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
