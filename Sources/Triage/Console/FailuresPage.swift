internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing

extension ConsoleRouter {
    func failures(_ request: ConsoleRequest) async throws(ConsoleFieldError) -> ConsoleAnswer {
        let query = try ConsoleFields(request.query, ConsoleFields.filters).query(topics: source.topics, now: source.now)
        let snapshot = await source.letters()
        let groups = snapshot.index.groups(query)
        let total = groups.reduce(0) { $0 + $1.count }
        let what = query.status.map { "\($0.rawValue.replacing("_", with: " ")) dead letter" } ?? "dead letter"
        let none = "no \(what)"
        let sum =
            total == 0
            ? snapshot.index.isCut ? "Of those that were looked at there is \(none)." : "There is \(none)."
            : "\(ConsoleTexts.count(total, what, isAtLeast: snapshot.index.isCut)) of \(ConsoleTexts.count(groups.count, "cause"))."
        let body: HTML = """
            <h1>Failures by cause</h1>
            \(age(snapshot))
            <p>\(sum)
            One fingerprint stands for one class, error, code and place: the same bug on two patients has the same.</p>
            \(ConsoleRouter.table(groups[...], of: groups, now: source.now))
            """
        return ConsoleAnswer(.page(title: "Failures", body))
    }

    static func table(
        _ shown: ArraySlice<LetterGroup>, of groups: [LetterGroup], now: Timestamp
    ) -> HTML {
        guard !shown.isEmpty else { return "<p class=\"card empty\">There is none of these.</p>" }
        let total = max(1, groups.reduce(0) { $0 + $1.count })
        return """
            <div class="scroll"><table class="groups">
            <caption>Dead letters by fingerprint, the largest group first</caption>
            <thead><tr><th scope="col">Error</th><th scope="col">Class</th><th scope="col" class="number">Count</th>
            <th scope="col">Share</th><th scope="col" class="number">Patients</th><th scope="col">First seen</th>
            <th scope="col">Last seen</th><th scope="col">Actions</th></tr></thead>
            <tbody>\(shown.map { row($0, total: total, now: now) })</tbody>
            </table></div>
            """
    }

    private static func row(_ group: LetterGroup, total: Int, now: Timestamp) -> HTML {
        let cause = group.cause
        let error =
            cause.error ?? (cause.dialect == .triage ? "no error named" : "written by \(ConsoleTexts.dialect(cause.dialect))")
        let share = group.count * 1000 / total
        let half = min(200, max(1, group.count * 200 / total))
        let list = ConsolePath.with(ConsolePath.letters, [("fingerprint", cause.fingerprint)])
        let act = { (kind: String) in
            ConsolePath.with(ConsolePath.act, [("do", kind), ("fingerprint", cause.fingerprint)])
        }
        let topics = group.topics.sorted { ($0.value, $1.key) > ($1.value, $0.key) }.prefix(4).map(\.key).joined(separator: ", ")
        return """
            <tr><th scope="row"><a href="\(address: list)">\(error)</a><br><code class="quiet">\(cause.fingerprint)</code>
            <span class="hint">\(topics)</span></th>
            <td>\(cause.errorClass?.rawValue ?? "–")</td>
            <td class="number">\(ConsoleTexts.grouped(group.count))</td>
            <td><span class="nowrap">\(share / 10).\(share % 10) %</span><span class="share" aria-hidden="true">\
            <i class="w\(half)"></i></span></td>
            <td class="number">\(ConsoleTexts.grouped(group.patients.count))</td>
            <td class="nowrap">\(ConsoleTexts.time(time(group.first), now: now))</td>
            <td class="nowrap">\(ConsoleTexts.time(time(group.last), now: now))</td>
            <td class="nowrap"><a href="\(address: ConsolePath.letter(group.example))">Example</a>
            · <a href="\(address: act("replay"))" aria-label="Replay \(error)">Replay</a>
            · <a href="\(address: act("discard"))" aria-label="Discard \(error)">Discard</a></td></tr>
            """
    }

    static func time(_ milliseconds: Int64) -> Timestamp? {
        milliseconds == .max || milliseconds == .min ? nil : Timestamp(milliseconds: milliseconds)
    }
}
