internal import HTTPTypes
internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing
internal import TriageTelemetry

extension ConsoleRouter {
    func letter(_ request: ConsoleRequest) async -> ConsoleAnswer {
        guard let id = ConsoleRouter.position(request.path[1...3]) else {
            return notFound("A dead letter is named TOPIC/PARTITION/OFFSET.")
        }
        let detail: LetterDetail
        do { detail = try await source.letter(id) } catch { return unread(error) }
        let letter = detail.entry.letter
        let now = source.now
        let body: HTML = """
            <p class="quiet"><a href="/console/dead-letters">Dead letters</a></p>
            <h1>\(id.description)</h1>
            <p class="lead">\(ConsoleTexts.status(detail.entry.status)) \(letter.error ?? "It names no error that may be shown.")</p>
            \(buttons(id, detail.entry.status, request))
            <div class="columns">
            <section class="card" aria-labelledby="what"><h2 id="what" class="first">What failed\
            </h2>\(facts(letter, detail.entry, now))</section>
            <section class="card" aria-labelledby="state"><h2 id="state" class="first">What became of it\
            </h2>\(state(detail.entry, request.visitor, now))</section>
            </div>
            \(attempts(letter, now))
            \(traceSection(letter))
            \(headers(detail))
            \(shape(detail))
            """
        return ConsoleAnswer(.page(title: id.description, body))
    }

    func unread(_ error: any Error) -> ConsoleAnswer {
        if let missing = error as? NoSuchDeadLetter { return notFound(missing.description) }
        return problem("Not readable", ConsoleRouter.safe(error), status: .serviceUnavailable)
    }

    /// What may be said of an error: the texts of ours and the brokers'.
    ///
    /// - Parameter withNames: whether operators are named.
    static func safe(_ error: any Error, withNames: Bool = true) -> String {
        switch error {
        case OperatorError.fenced(_, let since) where !withNames: OperatorError.fenced(by: nil, since: since).description
        case let error as BrokerError: "\(error)"
        case let error as OperatorError: error.description
        case let error as NoSuchDeadLetter: error.description
        case let error as DeadLetterReveal.NotRecorded: error.description
        case let error as LetterRepair.Fault: error.description
        case let error as JSONPatchError: error.description
        case let error as ConsoleTooMuch: error.description
        case let error as ConsoleBusy: error.description
        default: "\(type(of: error))"
        }
    }

    private func buttons(_ id: RecordPosition, _ status: DeadLetterState.Status, _ request: ConsoleRequest) -> HTML {
        func act(_ kind: ConsoleOrder.Kind, _ title: StaticString, isPrimary: Bool = false) -> HTML {
            let path = ConsolePath.with(ConsolePath.act, [("do", kind.rawValue), ("id", id.description)])
            return isPrimary
                ? "<a class=\"button primary\" href=\"\(address: path)\">\(SafeText(stringLiteral: title))</a>"
                : "<a class=\"button\" href=\"\(address: path)\">\(SafeText(stringLiteral: title))</a>"
        }
        var html: HTML = status == .open ? act(.replay, "Replay…", isPrimary: true) + act(.discard, "Discard…") : ""
        if status != .open { html += act(.replay, "Replay once more…") + act(.reopen, "Open again…") }
        if let visitor = request.visitor {
            html += """
                <form method="post" action="\(address: ConsolePath.letter(id) + "/reveal")">\
                <input type="hidden" name="form-token" value="\(visitor.formToken)">
                <button type="submit" class="danger" aria-describedby="reveal-hint">Reveal its content</button></form>
                <a class="button" href="\(address: ConsolePath.with(ConsolePath.export, [("id", id.description)]))">Export…</a>
                <span class="hint" id="reveal-hint">Shows patient data; it is written down that you looked.</span>
                """
        } else if request.canSignIn {
            let next = ConsolePath.with("/console/login", [("next", ConsolePath.letter(id))])
            html += "<a href=\"\(address: next)\">Sign in to reveal its content</a>"
        }
        return "<div class=\"actions\">\(html)</div>"
    }

    private func facts(_ letter: DeadLetter, _ entry: DeadLetterEntry, _ now: Timestamp) -> HTML {
        let list = ConsolePath.with(ConsolePath.letters, [("fingerprint", letter.fingerprint), ("status", "any")])
        var rows: [(StaticString, HTML)] = [
            ("Error", "\(letter.error ?? "–")"), ("Class", "\(letter.errorClass?.rawValue ?? "–")"),
            ("Fingerprint", "<a href=\"\(address: list)\"><code>\(letter.fingerprint)</code></a>"),
            ("Group", "\(letter.group ?? "–")"),
            ("Event", "\(letter.origin?.description ?? "–")"),
            ("First written", ConsoleTexts.time(letter.originTimestamp, now: now)),
            ("Failed", ConsoleTexts.time(letter.failedAt ?? letter.written, now: now)), ("Retries", "\(letter.retries)"),
            ("Size", letter.valueBytes.map { "\(ConsoleTexts.grouped($0)) bytes" } ?? "no value"),
        ]
        if letter.dialect != .triage { rows.append(("Written by", "\(ConsoleTexts.dialect(letter.dialect))")) }
        if let replay = letter.replay {
            rows.append(
                (
                    "Follows a replay of",
                    "<a href=\"\(address: ConsolePath.letter(replay.deadLetter))\">\(replay.deadLetter.description)</a>"
                ))
        }
        if !entry.copies.isEmpty { rows.append(("Copies", "\(entry.copies.map(\.description).joined(separator: ", "))")) }
        return ConsoleRouter.list(rows)
    }

    private func state(_ entry: DeadLetterEntry, _ visitor: ConsoleVisitor?, _ now: Timestamp) -> HTML {
        guard let state = entry.state else { return "<p>Nobody has done anything about it yet.</p>" }
        var rows: [(StaticString, HTML)] = [
            ("State", ConsoleTexts.status(state.status)), ("Since", ConsoleTexts.time(state.time, now: now)),
        ]
        // How a replay ended is said by a group, which is configuration.
        let isOutcome = state.status == .completed || state.status == .failedAgain
        let isGroup = isOutcome && DeadLetter.groupName(ByteSlice(state.by)) != nil
        rows.append(("By", isGroup ? "\(state.by)" : ConsoleRouter.words(state.by, visitor)))
        if let replay = state.replay {
            let isID = ReplayMark("\(replay) \(entry.letter.position)") != nil
            rows.append(("Replay", isID ? "<code>\(replay)</code>" : ConsoleRouter.words(replay, visitor)))
        }
        if state.status != .replayed {
            if let by = state.replayedBy { rows.append(("Replayed by", ConsoleRouter.words(by, visitor))) }
            if let time = state.replayedAt { rows.append(("Replayed", ConsoleTexts.time(time, now: now))) }
        }
        if let reason = state.reason { rows.append(("Reason", ConsoleRouter.words(reason, visitor))) }
        if let successor = state.successor {
            rows.append(
                TopicName.isDeadLetter(successor.topic)
                    ? ("Failed again as", "<a href=\"\(address: ConsolePath.letter(successor))\">\(successor.description)</a>")
                    : ("Written as", "\(successor.description)"))
        }
        return ConsoleRouter.list(rows)
    }

    static func list(_ rows: [(StaticString, HTML)]) -> HTML {
        "<dl class=\"facts\">\(rows.map { "<dt>\(SafeText(stringLiteral: $0.0))</dt><dd>\($0.1)</dd>" as HTML })</dl>"
    }

    private func attempts(_ letter: DeadLetter, _ now: Timestamp) -> HTML {
        let entries = letter.attempts.entries
        guard !entries.isEmpty else { return "" }
        let dropped = letter.attempts.dropped
        let note = dropped == 0 ? "" : "; \(ConsoleTexts.count(dropped, "attempt")) in the middle left out"
        return """
            <h2>Attempts</h2>
            <div class="scroll"><table>
            <caption>Each attempt that failed, the first one first\(note)</caption>
            <thead><tr><th scope="col" class="number">#</th><th scope="col">Failed</th><th scope="col">Class</th>
            <th scope="col">Fingerprint</th><th scope="col">Trace</th></tr></thead>
            <tbody>\(entries.enumerated().map { number, entry in
                """
                <tr><th scope="row" class="number">\(number + 1)</th><td class="nowrap">\(ConsoleTexts.time(entry.time, now: now))</td>
                <td>\(entry.errorClass.rawValue)</td><td><code>\(entry.fingerprint)</code></td>
                <td><a href="\(address: ConsolePath.trace(entry.traceID))"><code>\(entry.traceID.description)</code></a></td></tr>
                """ as HTML
            })</tbody></table></div>
            """
    }

    private func traceSection(_ letter: DeadLetter) -> HTML {
        guard let trace = letter.context?.traceID, trace.isValid else { return "" }
        let spans = source.spans(of: trace)
        let waterfall: HTML =
            spans.isEmpty
            ? "<p class=\"quiet\">No spans of it are kept here.</p>"
            : ConsoleRouter.waterfall(TraceWaterfall(spans: spans, maximumRows: 200))
        return """
            <h2>Trace</h2>
            <p><a href="\(address: ConsolePath.trace(trace))"><code>\(trace.description)</code></a> \(links(trace))</p>
            \(waterfall)
            """
    }

    /// Where else a trace can be looked at.
    func links(_ trace: TraceID) -> HTML {
        .all(
            source.links(for: trace).map { link in
                " · <a href=\"\(address: link.url)\" rel=\"noopener noreferrer\">\(link.name)<span class=\"quiet\"> ↗</span></a>"
            })
    }

    private func headers(_ detail: LetterDetail) -> HTML {
        guard !detail.headers.isEmpty else { return "" }
        return """
            <details><summary><h2 class="inline">Headers (\(detail.headers.count))</h2></summary>
            <div class="scroll"><table><caption>A value shows only where it can't be patient data</caption>
            <thead><tr><th scope="col">Header</th><th scope="col">Value</th><th scope="col" class="number">Bytes</th></tr></thead>
            <tbody>\(detail.headers.map { header in
                """
                <tr><th scope="row"><code>\(header.name)</code></th>
                <td class="break">\(header.value.map { "<code>\($0)</code>" } ?? "<span class=\"quiet\">not shown</span>" as HTML)</td>
                <td class="number">\(header.bytes.map { "\($0)" } ?? "null")</td></tr>
                """ as HTML
            })</tbody></table></div></details>
            """
    }

    private func shape(_ detail: LetterDetail) -> HTML {
        guard let shape = detail.shape else {
            return detail.shapeNote.map { "<h2>Shape of its content</h2><p>\($0)</p>" } ?? ""
        }
        let note = shape.isCut ? "; there is more than this" : ""
        return """
            <details><summary><h2 class="inline">Shape of its content (\(shape.lines.count) paths)</h2></summary>
            <div class="scroll"><table><caption>Paths and types, without what stands there\(note)</caption>
            <thead><tr><th scope="col">Path</th><th scope="col">Type</th><th scope="col" class="number">Count</th></tr></thead>
            <tbody>\(shape.lines.map { line in
                """
                <tr><th scope="row"><code>\(line.path.isEmpty ? "(the whole)" : line.path)</code></th><td>\("\(line.kind)")</td>
                <td class="number">\(line.count)</td></tr>
                """ as HTML
            })</tbody></table></div></details>
            """
    }
}
