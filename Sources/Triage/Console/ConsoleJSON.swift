internal import HTTPTypes
internal import TriageEvents
internal import TriageIngress
internal import TriageProcessing
internal import TriageTelemetry

extension ConsoleRouter {
    /// What the pages show, for scripts.
    func json(_ request: ConsoleRequest) async throws(ConsoleFieldError) -> ConsoleAnswer {
        let path = request.path.dropFirst()
        let lists = ["groups": ConsoleFields.filters, "dead-letters": ConsoleFields.filters + ["from", "limit"]]
        let names = path.count == 1 ? path.first.flatMap { lists[$0] } ?? [] : []
        let fields = try ConsoleFields(request.query, names)
        switch (path.first, path.count) {
        case ("overview"?, 1): return ConsoleAnswer(.json(OverviewFigures(source.figures).json))
        case ("groups"?, 1):
            let query = try fields.query(topics: source.topics, now: source.now)
            let snapshot = await source.letters()
            let groups = snapshot.index.groups(query)
            return ConsoleAnswer(.json(ConsoleRouter.json(snapshot, "groups", groups.map(ConsoleRouter.json))))
        case ("dead-letters"?, 1):
            let query = try fields.query(topics: source.topics, now: source.now)
            let limit = try fields.number("limit", 1...1000) ?? 50
            let from = try fields.number("from", 0...LetterIndex.capacity) ?? 0
            let snapshot = await source.letters()
            let (rows, count) = snapshot.index.list(query, from: from, limit: limit)
            let texts = rows.map { ConsoleRouter.json($0, snapshot.index) }
            return ConsoleAnswer(.json(ConsoleRouter.json(snapshot, "dead_letters", texts, more: "\"count\":\(count),")))
        case ("traces"?, 1):
            return ConsoleAnswer(
                .json("{\"traces\":[\(source.failures(limit: 100).map(ConsoleRouter.json).joined(separator: ","))]}"))
        case ("traces"?, 2):
            guard let trace = path.last.flatMap({ TraceID($0) }), trace.isValid else { return missing("no trace id") }
            return ConsoleAnswer(.json(TraceSpan.document(source.spans(of: trace)).utf8Text ?? "{\"spans\":[]}"))
        case ("actions"?, 2):
            guard let task = await source.tasks().first(where: { $0.id == path.last }) else { return missing("no such action") }
            return ConsoleAnswer(.json(ConsoleRouter.json(task)))
        default: return missing("no such path")
        }
    }

    /// Which field says what it shouldn't.
    static func json(_ error: ConsoleFieldError) -> ConsoleAnswer {
        let text = """
            {"error":\(JSONText("\(error)").quoted),"key":\(JSONText(error.name).quoted),\
            "value":\(JSONText(error.value).quoted),"expected":\(JSONText(error.expected).quoted)}
            """
        return ConsoleAnswer(.json(text), status: .badRequest)
    }

    private func missing(_ text: StaticString) -> ConsoleAnswer {
        ConsoleAnswer(.json("{\"error\":\(JSONText(text.description).quoted)}"), status: .notFound)
    }

    private static func json(_ snapshot: LetterSnapshot, _ name: StaticString, _ items: [String], more: String = "") -> String {
        let readAt = snapshot.readAt.map { JSONText($0.iso8601).quoted } ?? "null"
        return """
            {"read_at":\(readAt),"is_cut":\(snapshot.index.isCut),\(more)"\(name)":[\(items.joined(separator: ","))]}
            """
    }

    private static func json(_ group: LetterGroup) -> String {
        let cause = group.cause
        return """
            {"fingerprint":\(JSONText(cause.fingerprint).quoted),"error":\(text(cause.error)),"class":\(text(cause.errorClass?.rawValue)),\
            "count":\(group.count),"patients":\(group.patients.count),"first_seen":\(text(time(group.first)?.iso8601)),\
            "last_seen":\(text(time(group.last)?.iso8601)),"example":\(JSONText(group.example.description).quoted)}
            """
    }

    private static func json(_ row: LetterIndex.Row, _ index: LetterIndex) -> String {
        let cause = index.cause(row)
        let trace = TraceID(high: row.traceHigh, low: row.traceLow)
        return """
            {"id":\(JSONText(index.position(row).description).quoted),"written":\(text(time(row.written)?.iso8601)),\
            "error":\(text(cause.error)),"class":\(text(cause.errorClass?.rawValue)),"fingerprint":\(JSONText(cause.fingerprint).quoted),\
            "group":\(JSONText(index.group(row)).quoted),"retries":\(row.retries),"status":"\(row.status.rawValue)",\
            "trace_id":\(trace.isValid ? "\"\(trace)\"" : "null")}
            """
    }

    private static func json(_ failure: SpanStore.FailedTrace) -> String {
        """
        {"trace_id":"\(failure.traceID)","failed_at":"\(failure.failedAt.iso8601)","spans":\(failure.spans),\
        "record":\(text(failure.record?.description)),"error":\(text(failure.errorType)),"class":\(text(failure.errorClass)),\
        "fingerprint":\(text(failure.fingerprint)),"outcome":\(text(failure.outcome)),"failed_attempts":\(failure.failedAttempts)}
        """
    }

    private static func json(_ task: ConsoleTask) -> String {
        let progress = if case .running(let text) = task.state { text } else { "" }
        return """
            {"id":\(JSONText(task.id).quoted),"running":\(task.isRunning),"reload":\(!task.isRunning),\
            "fields":{"progress":\(JSONText(progress).quoted)},"tones":{}}
            """
    }

    private static func text(_ text: String?) -> String { text.map { JSONText($0).quoted } ?? "null" }
}
