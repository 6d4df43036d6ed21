internal import HTTPTypes
internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing
internal import TriageTelemetry

/// The pages of a console, by path.
///
/// | path | page |
/// | --- | --- |
/// | `/console` | what happens now |
/// | `/console/failures` | open dead letters by cause |
/// | `/console/dead-letters` | dead letters, newest first, with filters |
/// | `/console/dead-letters/patient` | POST: those of one patient, whose id stands in no address |
/// | `/console/dead-letters/TOPIC/PARTITION/OFFSET` | one of them; POST to `…/reveal` shows what it says |
/// | `/console/act` | what a replay, discard or reopening would do; POST does it |
/// | `/console/export` | what would be exported; POST gives it as lines of JSON |
/// | `/console/actions` | what was done, and how that ended |
/// | `/console/traces`, `/console/traces/ID` | recent failed events, and one's trace |
/// | `/console/api/…` | the same as JSON: `overview`, `groups`, `dead-letters`, `traces`, `traces/ID`, `actions/ID` |
struct ConsoleRouter: ConsolePages {
    let source: any ConsoleSource

    let navigation = [
        (path: ConsolePath.overview, title: "Overview"), (path: ConsolePath.failures, title: "Failures"),
        (path: ConsolePath.letters, title: "Dead letters"), (path: ConsolePath.traces, title: "Traces"),
        (path: ConsolePath.actions, title: "Actions"),
    ]

    func answer(_ request: ConsoleRequest) async -> ConsoleAnswer {
        do {
            return request.isPost ? try await post(request) : try await page(request)
        } catch {
            guard request.path.first != "api" else { return ConsoleRouter.json(error) }
            let title = request.isPost ? "Not done" : "Not understood"
            return problem(title, "\(error).\(request.isPost ? " Nothing was done." : "")", status: .badRequest)
        }
    }

    private func post(_ request: ConsoleRequest) async throws(ConsoleFieldError) -> ConsoleAnswer {
        let path = request.path
        switch path.first {
        case "act"? where path.count == 1: return try await act(request)
        case "export"? where path.count == 1: return try await export(request)
        case "dead-letters"? where path == ConsolePath.patientSegments: return try await patient(request)
        case "dead-letters"? where path.count == 5 && path[4] == "reveal": return await reveal(request)
        default: return notFound()
        }
    }

    private func page(_ request: ConsoleRequest) async throws(ConsoleFieldError) -> ConsoleAnswer {
        let path = request.path
        switch path.first {
        case nil: return await overview()
        case "failures"? where path.count == 1: return try await failures(request)
        case "dead-letters"? where path.count == 1: return try await letters(request)
        case "dead-letters"? where path == ConsolePath.patientSegments:
            // Who comes here by GET has loaded the page anew, and the id isn't there any more.
            return ConsoleAnswer(.redirect(to: ConsolePath.letters))
        case "dead-letters"? where path.count == 4: return await letter(request)
        case "dead-letters"? where path.count == 5 && path[4] == "reveal":
            // Who comes here by GET has loaded the page anew: nothing is revealed twice without being asked for.
            return ConsoleAnswer(.redirect(to: ConsolePath.letters + "/" + path[1...3].joined(separator: "/")))
        case "act"? where path.count == 1: return try await confirm(request)
        case "export"? where path.count == 1: return try await confirmExport(request)
        case "actions"? where path.count == 1: return await actions(request)
        case "actions"? where path.count == 2: return await action(path[1], request)
        case "traces"? where path.count == 1: return traces()
        case "traces"? where path.count == 2: return trace(path[1])
        case "api"?: return try await json(request)
        default: return notFound()
        }
    }

    func notFound(_ text: String = "There is no such page.") -> ConsoleAnswer {
        ConsoleAnswer(
            .page(
                title: "Not found",
                """
                <h1>Not found</h1>
                <p>\(text)</p>
                <p><a href="/console">Overview</a></p>
                """), status: .notFound)
    }

    func problem(_ title: String, _ text: String, status: HTTPResponse.Status) -> ConsoleAnswer {
        ConsoleAnswer(
            .page(
                title: title,
                """
                <h1>\(title)</h1>
                <p class="alert" role="alert">\(text)</p>
                <p><a href="\(address: ConsolePath.letters)">Dead letters</a></p>
                """), status: status)
    }

    /// The dead letter that a path names.
    static func position(_ path: some Collection<String>) -> RecordPosition? {
        RecordPosition(path.joined(separator: "/")).flatMap { $0.topic.utf8.count <= 249 ? $0 : nil }
    }

    /// What a page says about how far its list can be trusted.
    func age(_ snapshot: LetterSnapshot) -> HTML {
        let now = source.now
        var html: HTML = ""
        if let problem = snapshot.problem {
            html += "<p class=\"alert\" role=\"alert\">The brokers could not be read: \(problem)</p>"
        }
        guard let readAt = snapshot.readAt else {
            return snapshot.problem == nil
                ? "<p class=\"notice\">The dead letters are being read for the first time. Load the page again in a moment.</p>"
                : html
        }
        let index = snapshot.index
        html += """
            <p class="lead">Read \(ConsoleTexts.ago(readAt, now: now)); what is older than 10 s is read again when a page is \
            loaded.
            """
        if index.isCut {
            html += """
                 Only the newest \(ConsoleTexts.grouped(index.rows.count)) of about \(ConsoleTexts.grouped(index.total)) are \
                looked at here; <code>triage dead-letters</code> looks at all.
                """
        }
        return html + "</p>"
    }
}
