internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing

extension ConsoleRouter {
    func reveal(_ request: ConsoleRequest) async -> ConsoleAnswer {
        guard let id = ConsoleRouter.position(request.path[1...3]), let visitor = request.visitor else { return notFound() }
        let revealed: RevealedLetter
        do { revealed = try await source.reveal(id, by: ConsoleRouter.name(visitor)) } catch { return unread(error) }
        let value: HTML =
            if let problem = revealed.problem {
                "<p class=\"alert\" role=\"alert\">\(problem)</p>"
            } else if let value = revealed.value.map(ConsoleTexts.indented) {
                "<pre tabindex=\"0\" aria-label=\"Value\">\(value)</pre>"
                    + (revealed.isCut ? "<p class=\"quiet\">It is cut here.</p>" : "")
            } else {
                "<p>It has no value.</p>"
            }
        let texts = revealed.texts.map { text in
            "<h2><code>\(text.name)</code></h2><pre tabindex=\"0\" aria-label=\"\(text.name)\">\(text.text)</pre>" as HTML
        }
        let body: HTML = """
            <p class="quiet"><a href="\(address: ConsolePath.letter(id))">Back to \(id.description)</a></p>
            <h1>Revealed: \(id.description)</h1>
            <p class="notice warn" role="status">This is patient data. It was written down that you looked at it; looking again \
            is written down again.</p>
            <h2>Key</h2>
            <p>\(revealed.key.map { "<code>\($0)</code>" } ?? "It has none." as HTML)</p>
            <h2>Value</h2>
            \(value)
            \(texts)
            \(ConsoleRouter.revealed(revealed.headers))
            """
        return ConsoleAnswer(.page(title: "Revealed", body))
    }

    private static func revealed(_ headers: [(name: String, value: String?)]) -> HTML {
        guard !headers.isEmpty else { return "" }
        return """
            <h2>Headers</h2>
            <div class="scroll"><table><caption>All headers as they stand, the producer's among them</caption>
            <thead><tr><th scope="col">Header</th><th scope="col">Value</th></tr></thead>
            <tbody>\(headers.map { header in
                """
                <tr><th scope="row"><code>\(header.name)</code></th>
                <td class="break">\(header.value.map { "<code>\($0)</code>" } ?? "<span class=\"quiet\">null</span>" as HTML)</td></tr>
                """ as HTML
            })</tbody></table></div>
            """
    }

    /// Who does something, for the states and the log.
    static func name(_ visitor: ConsoleVisitor) -> String { visitor.name.map { "\($0) (console)" } ?? "console" }
}
