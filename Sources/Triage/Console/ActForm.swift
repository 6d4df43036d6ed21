internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing

extension ConsoleRouter {
    /// The form that does what its page tells; a link to sign in for whoever hasn't.
    ///
    /// - Parameter values: what was filled in before.
    func form(
        _ kind: ConsoleOrder.Kind, _ choice: ConsoleOrder.Choice, _ extent: Extent, _ request: ConsoleRequest,
        _ values: FormFields
    ) -> HTML {
        let pairs = [("do", kind.rawValue)] + ConsoleRouter.pairs(choice)
        guard let visitor = request.visitor else { return signIn(request, ConsolePath.act, pairs) }
        let words = Words(kind)
        let isDiscard = kind == .discard
        let reason: HTML = isDiscard ? " required" : ""
        let optional: HTML = isDiscard ? "" : " <span class=\"quiet\">(optional)</span>"
        let isOne = if case .some(let ids) = choice { ids.count == 1 } else { false }
        let preview: HTML =
            kind == .replay && isOne ? "<button type=\"submit\" name=\"preview\" value=\"on\">Preview the change</button>" : ""
        return """
            <form method="post" action="/console/act" class="card narrow">\(ConsoleRouter.hidden(pairs, visitor))
            \(kind == .replay ? ConsoleRouter.replayFields(choice, extent, values) : "")
            <p class="field"><label for="reason">Reason\(optional)</label>
            <input type="text" id="reason" name="reason" maxlength="500" autocomplete="off" value="\(values["reason"] ?? "")"\(reason)>
            <span class="hint">Stands beside your name in <code>triage.dead-letters</code>. No patient data, please.</span></p>
            <div class="actions">\
            <button type="submit" class="primary">\(SafeText(stringLiteral: words.verb)) \(extent.text)</button>
            \(preview)
            <a href="/console/dead-letters">Cancel</a></div>
            </form>
            """
    }

    /// What tells again which dead letters are meant.
    static func pairs(_ choice: ConsoleOrder.Choice) -> [(String, String?)] {
        switch choice {
        case .some(let ids): ids.map { ("id", $0.description) }
        case .query(let query): [("fingerprint", query.fingerprint), ("class", query.errorClass?.rawValue)]
        }
    }

    static func hidden(_ pairs: [(String, String?)], _ visitor: ConsoleVisitor) -> HTML {
        let all = [("form-token", visitor.formToken)] + pairs.compactMap { name, value in value.map { (name, $0) } }
        return .all(all.map { "<input type=\"hidden\" name=\"\($0.0)\" value=\"\($0.1)\">" })
    }

    /// For whoever hasn't signed in: how to, and that the same page comes next.
    func signIn(_ request: ConsoleRequest, _ path: String, _ pairs: [(String, String?)]) -> HTML {
        guard request.canSignIn else {
            return
                "<p class=\"notice\">This console only shows: it has no token. <code>triage dead-letters</code> does it from a terminal.</p>"
        }
        let next = ConsolePath.with("/console/login", [("next", ConsolePath.with(path, pairs))])
        return """
            <p class="notice">For this you have to be signed in. <a href="\(address: next)">Sign in with the token</a></p>
            """
    }

    private static func replayFields(_ choice: ConsoleOrder.Choice, _ extent: Extent, _ values: FormFields) -> HTML {
        let isOrigin = values["to"] == DeadLetterReplay.Target.origin.rawValue
        var html: HTML = """
            <fieldset><legend>Where to</legend>
            <p class="choice"><input type="radio" id="to-retry" name="to" value="retry"\(isOrigin ? "" : " checked" as HTML)>
            <label for="to-retry">To the retry topic \
            <span class="hint">Only the group that failed gets them, in their patients' order.</span></label></p>
            <p class="choice"><input type="radio" id="to-origin" name="to" value="origin"\(isOrigin ? " checked" as HTML : "")>
            <label for="to-origin">To the main topic <span class="hint">Every group that reads it sees them again, at its end.\
            </span></label></p>
            </fieldset>
            """
        if extent.count > 1 || extent.isAtLeast {
            html += """
                <div class="side"><p class="field"><label for="canary">Try first</label>
                <input type="number" id="canary" name="canary" min="0" max="1000" value="\(values["canary"] ?? "1")">
                <span class="hint">So many are replayed first; the others only if all of these are completed. 0 replays all at \
                once.</span></p>
                <p class="field"><label for="canary-timeout">Within seconds</label>
                <input type="number" id="canary-timeout" name="canary-timeout" min="1" max="3600" \
                value="\(values["canary-timeout"] ?? "120")"></p></div>
                <p class="field"><label for="rate">In a second at most <span class="quiet">(optional)</span></label>
                <input type="number" id="rate" name="rate" min="0.001" max="100000" step="any" value="\(values["rate"] ?? "")">
                <span class="hint">Empty for as fast as it goes.</span></p>
                """
        }
        switch choice {
        case .query:
            return html + """
                <p class="field"><label for="limit">No more than <span class="quiet">(optional)</span></label>
                <input type="number" id="limit" name="limit" min="1" max="10000000" value="\(values["limit"] ?? "")">
                <span class="hint">The oldest. Empty for all.</span></p>
                """
        case .some(let ids):
            html += """
                <p class="choice"><input type="checkbox" id="force" name="force" value="on"\
                \(values["force"] == "on" ? " checked" as HTML : "")>
                <label for="force">Also what isn't open <span class="hint">What was replayed or completed before is handled once \
                more.</span></label></p>
                """
            guard ids.count == 1 else { return html }
            return html + """
                <details\(values["patch"] == nil ? "" : " open" as HTML)><summary>Change it first</summary>
                <p class="field"><label for="patch">JSON patch (RFC 6902)</label>
                <textarea id="patch" name="patch" rows="5" spellcheck="false" autocomplete="off" \
                placeholder="[{&quot;op&quot;:&quot;remove&quot;,&quot;path&quot;:&quot;/data/gender&quot;}]">\(values["patch"] ?? "")</textarea>
                <span class="hint">What it said before is kept in <code>triage.dead-letters</code>. The preview tells paths and \
                types only.</span></p></details>
                """
        }
    }
}
