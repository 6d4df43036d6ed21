internal import HTTPTypes
internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing

/// Dead letters as lines of JSON, to be kept as a file. That is patient data: only for those who have signed in, and written down.
extension ConsoleRouter {
    private static let exportFields = ["fingerprint", "class", "status"]

    private func exported(_ fields: ConsoleFields) throws(ConsoleFieldError) -> (choice: ConsoleOrder.Choice, status: String)? {
        let text = fields.text("status") ?? "any"
        let status: DeadLetterState.Status? = text == "any" ? nil : try fields.choice("status")
        return try choice(fields, status: status).map { ($0, text) }
    }

    /// Tells what would be exported, and asks.
    func confirmExport(_ request: ConsoleRequest) async throws(ConsoleFieldError) -> ConsoleAnswer {
        let fields = try ConsoleFields(request.query, ConsoleRouter.exportFields, lists: ["id"])
        guard let (choice, status) = try exported(fields) else { return nothingChosen() }
        let snapshot = await source.letters()
        let extent = Extent(choice, snapshot)
        let title = "Export \(extent.text)"
        var pairs = ConsoleRouter.pairs(choice)
        if case .query = choice { pairs.append(("status", status)) }
        let form: HTML =
            request.visitor.map { visitor in
                """
                <form method="post" action="\(address: ConsolePath.export)" class="card narrow">\(ConsoleRouter.hidden(pairs, visitor))
                <p class="field"><label for="reason">Reason <span class="quiet">(optional)</span></label>
                <input type="text" id="reason" name="reason" maxlength="500" autocomplete="off">
                <span class="hint">Stands beside your name in <code>triage.dead-letters</code>. No patient data, please.</span></p>
                <div class="actions"><button type="submit" class="danger">\(title)</button>
                <a href="/console/dead-letters">Cancel</a></div>
                </form>
                """
            } ?? signIn(request, ConsolePath.export, pairs)
        return ConsoleAnswer(
            .page(
                title: title,
                """
                <h1>\(title)</h1>
                \(told(choice, extent, snapshot))
                <p class="notice warn">The file holds patient data: key, content and headers of each, byte for byte. It is written \
                down that you took it. What is encrypted stays so.</p>
                \(form)
                """))
    }

    /// Hands them over.
    func export(_ request: ConsoleRequest) async throws(ConsoleFieldError) -> ConsoleAnswer {
        let fields = try ConsoleFields(request.form, ["form-token", "reason"] + ConsoleRouter.exportFields, lists: ["id"])
        guard let visitor = request.visitor, let (choice, _) = try exported(fields) else {
            throw ConsoleFieldError("id", "", expected: "dead letters, or a fingerprint")
        }
        do {
            let reason = fields.text("reason").map { String($0.prefix(500)) }
            let lines = try await source.export(choice, by: ConsoleRouter.name(visitor), reason: reason)
            return ConsoleAnswer(.lines(name: "dead-letters.ndjson", lines))
        } catch {
            let status: HTTPResponse.Status =
                switch error {
                case is NoSuchDeadLetter: .notFound
                case is ConsoleTooMuch: .contentTooLarge
                default: .serviceUnavailable
                }
            return problem("Not exported", ConsoleRouter.safe(error), status: status)
        }
    }
}
