internal import HTTPTypes
internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing

extension ConsoleRouter {
    /// What a page of the console says of a kind of action.
    struct Words {
        let verb: StaticString
        let meaning: StaticString

        init(_ kind: ConsoleOrder.Kind) {
            switch kind {
            case .replay:
                verb = "Replay"
                meaning = """
                    Each event is written anew, and takes its place among its patient's events. What was replayed or completed \
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

    /// How many can be named at once.
    private static let maximumIDs = 200
    private static let choiceFields = ["fingerprint", "class"]

    /// The dead letters that an address or a form means: those it names, or all of a fingerprint; nil if it names none.
    ///
    /// - Parameter status: of which state; nil for any.
    func choice(
        _ fields: ConsoleFields, status: DeadLetterState.Status?
    ) throws(ConsoleFieldError) -> ConsoleOrder.Choice? {
        let ids = try fields.ids(atMost: ConsoleRouter.maximumIDs)
        var query = LetterQuery()
        query.status = status
        query.fingerprint = try fields.fingerprint(atLeast: 16)
        query.errorClass = try fields.choice("class")
        guard ids.isEmpty else {
            guard query.fingerprint == nil, query.errorClass == nil else {
                throw ConsoleFieldError("id", ids[0].description, expected: "either ids, or a fingerprint")
            }
            return .some(ids)
        }
        guard query.fingerprint == nil, query.errorClass != nil else { return query.fingerprint == nil ? nil : .query(query) }
        throw ConsoleFieldError("fingerprint", "", expected: "one beside the class")
    }

    /// How many an order is about, as far as is known here.
    struct Extent {
        let count: Int
        /// Whether there may be more.
        let isAtLeast: Bool

        init(_ choice: ConsoleOrder.Choice, _ snapshot: LetterSnapshot) {
            switch choice {
            case .some(let ids):
                count = ids.count
                isAtLeast = false
            case .query(let query):
                count = snapshot.index.list(query, from: 0, limit: 0).count
                isAtLeast = snapshot.index.isCut || snapshot.readAt == nil
            }
        }

        var text: String { ConsoleTexts.count(count, "dead letter", isAtLeast: isAtLeast) }
    }

    /// What is meant, in words.
    func told(_ choice: ConsoleOrder.Choice, _ extent: Extent, _ snapshot: LetterSnapshot) -> HTML {
        switch choice {
        case .some(let ids):
            return
                "<ul>\(ids.map { "<li><a href=\"\(address: ConsolePath.letter($0))\">\($0.description)</a></li>" as HTML })</ul>"
        case .query(let query):
            let index = snapshot.index
            let known: HTML =
                snapshot.readAt == nil
                ? "how many isn't known yet, since they are being read"
                : "\(extent.text) as of \(ConsoleTexts.ago(snapshot.readAt, now: source.now)), and what came since"
            let cut: HTML =
                index.isCut
                ? """
                <p class="notice warn">Only the newest \(ConsoleTexts.grouped(index.rows.count)) of \
                about \(ConsoleTexts.grouped(index.total)) dead letters were looked at for this page. What is done is done to all.</p>
                """ : ""
            return """
                <p>All that are \(query.status.map(ConsoleTexts.word) ?? "there") and have the fingerprint \
                <code>\(query.fingerprint ?? "")</code>\
                \(query.errorClass.map { " and the class \($0.rawValue)" } ?? ""): \(known).</p>
                \(cut)
                """
        }
    }

    /// Tells what would be done, and asks.
    func confirm(_ request: ConsoleRequest) async throws(ConsoleFieldError) -> ConsoleAnswer {
        let fields = try ConsoleFields(request.query, ["do"] + ConsoleRouter.choiceFields, lists: ["id"])
        guard let kind: ConsoleOrder.Kind = try fields.choice("do") else {
            throw ConsoleFieldError("do", "", expected: "replay, discard or reopen")
        }
        guard let choice = try choice(fields, status: kind == .reopen ? .discarded : .open) else { return nothingChosen() }
        return await confirm(kind, choice, request, values: FormFields())
    }

    func nothingChosen() -> ConsoleAnswer {
        ConsoleAnswer(
            .page(
                title: "Nothing chosen",
                """
                <h1>Nothing chosen</h1>
                <p>Choose dead letters in the list, by the boxes beside them.</p>
                <p><a href="/console/dead-letters">Dead letters</a></p>
                """), status: .badRequest)
    }

    private func confirm(
        _ kind: ConsoleOrder.Kind, _ choice: ConsoleOrder.Choice, _ request: ConsoleRequest, values: FormFields,
        preview: HTML = ""
    ) async -> ConsoleAnswer {
        let words = Words(kind)
        let snapshot = await source.letters()
        let extent = Extent(choice, snapshot)
        let title = "\(words.verb) \(extent.text)"
        let body: HTML = """
            <h1>\(title)</h1>
            \(told(choice, extent, snapshot))
            <p>\(SafeText(stringLiteral: words.meaning))</p>
            \(preview)
            \(form(kind, choice, extent, request, values))
            """
        return ConsoleAnswer(.page(title: title, body))
    }

    // MARK: Doing it

    private static let replayFields = ["to", "canary", "canary-timeout", "rate", "limit", "force", "patch", "preview"]

    /// Does it, or shows how a patched event would look.
    func act(_ request: ConsoleRequest) async throws(ConsoleFieldError) -> ConsoleAnswer {
        let fields = try ConsoleFields(
            request.form, ["form-token", "do", "reason"] + ConsoleRouter.choiceFields + ConsoleRouter.replayFields, lists: ["id"])
        guard let visitor = request.visitor, let kind: ConsoleOrder.Kind = try fields.choice("do") else {
            throw ConsoleFieldError("do", "", expected: "replay, discard or reopen")
        }
        guard let choice = try choice(fields, status: kind == .reopen ? .discarded : .open) else {
            throw ConsoleFieldError("id", "", expected: "dead letters, or a fingerprint")
        }
        var order = ConsoleOrder(kind: kind, choice: choice)
        order.reason = fields.text("reason").map { String($0.prefix(500)) }
        if kind == .discard, order.reason == nil { throw ConsoleFieldError("reason", "", expected: "why, for a discard") }
        if kind == .replay { try ConsoleRouter.read(fields, into: &order) }
        let name = ConsoleRouter.name(visitor)
        let isPreview = kind == .replay ? try fields.isOn("preview") : false
        if let patch = order.patch, case .some(let ids) = choice {
            do {
                let preview = try await source.preview(patch, of: ids[0], by: name)
                if isPreview {
                    return await confirm(kind, choice, request, values: request.form, preview: ConsoleRouter.changes(preview))
                }
            } catch LetterRepair.Fault.isElsewhere where !isPreview {
                // Found out when it is replayed.
            } catch {
                let said = "<p class=\"alert\" role=\"alert\">\(ConsoleRouter.safe(error)). Nothing was done.</p>" as HTML
                var answer = await confirm(kind, choice, request, values: request.form, preview: said)
                let isTheirs = error is LetterRepair.Fault || error is JSONPatchError || error is NoSuchDeadLetter
                answer.status = isTheirs ? .badRequest : .serviceUnavailable
                return answer
            }
        } else if isPreview {
            throw ConsoleFieldError("patch", "", expected: "a JSON patch (RFC 6902)")
        }
        do {
            let id = try await source.start(order, by: name)
            await source.settle(id)
            return ConsoleAnswer(.redirect(to: "\(ConsolePath.actions)/\(id)"))
        } catch {
            return problem("Not done", ConsoleRouter.safe(error), status: error is ConsoleBusy ? .conflict : .serviceUnavailable)
        }
    }

    private static func read(_ fields: ConsoleFields, into order: inout ConsoleOrder) throws(ConsoleFieldError) {
        let target: DeadLetterReplay.Target? = try fields.choice("to")
        order.target = target ?? .retry
        // An empty field is none; one that can't be read must not become "without canaries".
        order.canary = try fields.number("canary", 0...1000) ?? 0
        if let seconds = try fields.number("canary-timeout", 1...3600) { order.canaryTimeout = .seconds(seconds) }
        order.rate = try fields.rate("rate", within: ReplayOptions.rates)
        order.limit = try fields.number("limit", 1...10_000_000)
        order.force = try fields.isOn("force")
        var isOne = false
        if case .some(let ids) = order.choice {
            isOne = ids.count == 1
            if let limit = order.limit {
                throw ConsoleFieldError("limit", "\(limit)", expected: "a fingerprint beside it, and no ids")
            }
        } else if order.force {
            throw ConsoleFieldError("force", "on", expected: "dead letters that are named beside it, and no fingerprint")
        }
        guard let text = fields.text("patch") else { return }
        guard isOne else { throw ConsoleFieldError("patch", "…", expected: "one dead letter beside it") }
        do {
            order.patch = try JSONPatch(ByteSlice(text))
        } catch {
            // The patch may hold patient data; its error tells only of its form.
            throw ConsoleFieldError("patch", "…", expected: "a JSON patch (RFC 6902): \(error)")
        }
    }

    private static func changes(_ preview: LetterPreview) -> HTML {
        let lines = preview.changes
        let cut = preview.before.isCut || preview.after.isCut ? "; there is more than was looked at" : ""
        guard !lines.isEmpty else {
            return """
                <p class="notice" role="status">Paths and types would stay as they are; values may be others\(cut). \
                Nothing was done yet.</p>
                """
        }
        return """
            <p class="notice" role="status">It can be done, and what it would be is an event. Nothing was done yet.</p>
            <div class="scroll"><table><caption>What would be otherwise, by path and type\(cut)</caption>
            <thead><tr><th scope="col">Path</th><th scope="col">Type</th><th scope="col" class="number">Now</th>\
            <th scope="col" class="number">Then</th></tr></thead>
            <tbody>\(lines.map { line in
                """
                <tr><th scope="row"><code>\(line.path.isEmpty ? "(the whole)" : line.path)</code></th><td>\("\(line.kind)")</td>
                <td class="number">\(line.before)</td><td class="number">\(line.after)</td></tr>
                """ as HTML
            })</tbody></table></div>
            """
    }
}
