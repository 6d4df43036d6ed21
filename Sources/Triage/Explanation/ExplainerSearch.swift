internal import TriageEvents
internal import TriageProcessing
internal import TriageTelemetry

/// Finds the record that is meant by a trace id or an event id.
extension Explainer {
    private var mains: [String] { options.topics ?? configuration.topics }

    /// The events of a trace: as its spans tell, else as the headers of records do.
    ///
    /// - Throws: ``NothingToExplain`` if no record has to do with it.
    func find(trace: TraceID) async throws -> Found {
        var notes: [String] = []
        if !fetcher.isEmpty {
            let answer = await fetcher.spans(of: trace)
            notes = answer.problems.map { "no spans from \($0)" }
            let records = Explainer.records(of: answer.spans)
            if let teller = answer.source, let first = records.first {
                var others = Array(records.dropFirst())
                let marks = try await source.scanner.watermarks(of: Set(records.map(\.topic)).sorted())
                // Retention may have taken some of them since.
                guard let there = records.first(where: { marks[$0.topicPartition]?.contains($0.offset) == true }) else {
                    throw NothingToExplain(
                        "\(teller) has the trace, of \(first) among others, but none of its \(PlainText.count(records.count, "record")) is there any more"
                    )
                }
                others = others.filter { $0 != there }
                return Found(
                    position: there, by: "by its trace id, by the spans from \(teller)", trace: trace, others: others,
                    notes: notes)
            }
        }
        let isMatch: @Sendable (Record) -> Bool = { Explainer.mentions(trace, $0) }
        guard var found = try await newest(isMatch) else { throw nothing("trace", notes) }
        found.by = "by its trace id, in the headers of \(found.position)"
        found.trace = trace
        found.notes = notes
        return found
    }

    /// The event with an id.
    ///
    /// - Throws: ``NothingToExplain`` if none of the newest records has it.
    func find(event id: String) async throws -> Found {
        let wanted = ByteSlice(id)
        let roles = configuration.roles
        let isMatch: @Sendable (Record) -> Bool = { record in
            // Decoding every value would be most of the work: those that have the id nowhere aren't it.
            guard record.value?.contains(wanted) == true || record.headers.last("ce_id") == wanted else { return false }
            return (try? EventDecoder(roles: roles).decode(record))?.eventIDBytes == wanted
        }
        guard var found = try await newest(isMatch) else { throw nothing("event", []) }
        found.by = "by its event id, which \(found.position) has"
        return found
    }

    /// The records that a trace's spans are about: those that were processed first, main topics before the others.
    static func records(of spans: [TraceSpan]) -> [RecordPosition] {
        var records: [RecordPosition] = []
        let sorted = spans.sorted { $0.start < $1.start }
        func add(_ spans: [TraceSpan], _ isWanted: (String) -> Bool) {
            for record in spans.compactMap(\.record) where isWanted(record.topic) && !records.contains(record) {
                records.append(record)
            }
        }
        func isMain(_ topic: String) -> Bool { TopicName.main(of: topic) == topic }
        add(sorted.filter { $0.kind == .consumer }, isMain)
        if records.isEmpty { add(sorted.filter { $0.kind == .producer }, isMain) }
        if records.isEmpty { add(sorted.filter { $0.kind == .consumer || $0.kind == .producer }) { _ in true } }
        return records
    }

    /// Whether a record's headers name a trace.
    static func mentions(_ trace: TraceID, _ record: Record) -> Bool {
        let headers = record.headers
        for name in [HeaderName.traceparent, HeaderName.originTraceparent] {
            if let context = headers.last(name).flatMap({ TraceContext(traceparent: $0) }), context.traceID == trace {
                return true
            }
        }
        guard let attempts = headers.last(HeaderName.attempts) else { return false }
        return AttemptLedger(attempts).entries.contains { $0.traceID == trace }
    }

    /// The newest record that fits: among dead letters, then retries, then first deliveries.
    ///
    /// Partitions are read backwards in windows that grow, all of one kind at once, until some window has one.
    private func newest(_ isMatch: @escaping @Sendable (Record) -> Bool) async throws -> Found? {
        let kinds = [mains.map { TopicName.deadLetter(of: $0) }, mains.map { TopicName.retry(of: $0) }, mains]
        for topics in kinds {
            let marks = try await source.scanner.watermarks(of: topics)
            var ends = marks.mapValues(\.upperBound)
            var window: Int64 = 1000
            while true {
                var ranges: [TopicPartition: Range<Int64>] = [:]
                for (partition, all) in marks {
                    let floor = max(all.lowerBound, all.upperBound - min(options.limit, all.upperBound))
                    let end = ends[partition] ?? all.upperBound
                    if end > floor { ranges[partition] = max(floor, end - window)..<end }
                }
                if ranges.isEmpty { break }
                let matches = try await scan(ranges, into: [Match]()) { matches, record in
                    if matches.count < 1000, isMatch(record) { matches.append(Match(record)) }
                    return true
                }
                if let newest = matches.max(by: { $0.isBefore($1) }) {
                    let others = Set(matches.map(\.event)).subtracting([newest.event]).sorted()
                    return Found(position: newest.position, others: others)
                }
                for (partition, range) in ranges { ends[partition] = range.lowerBound }
                window *= 4
            }
        }
        return nil
    }

    /// A record that fits, and the event that it stands for.
    private struct Match: Sendable {
        let position: RecordPosition
        let event: RecordPosition
        let written: Timestamp?

        init(_ record: Record) {
            position = record.position
            event =
                TopicName.main(of: record.topic) == record.topic ? record.position : EventNote(record)?.origin ?? record.position
            written = record.timestamp
        }

        func isBefore(_ other: Match) -> Bool {
            (written?.nanoseconds ?? 0, position) < (other.written?.nanoseconds ?? 0, other.position)
        }
    }

    private func nothing(_ what: String, _ notes: [String]) -> NothingToExplain {
        let place = mains.count <= 3 ? mains.joined(separator: ", ") : "\(mains.count) topics"
        let limit = "the newest \(options.limit) records of each partition"
        let trouble = notes.isEmpty ? "" : "; \(notes.joined(separator: "; "))"
        return NothingToExplain(
            "no record of this \(what) in \(place) or the retry and dead letter topics beside, among \(limit): --limit looks further back, -t names other topics\(trouble)"
        )
    }
}

extension ByteSlice {
    /// Whether `part` occurs in it anywhere.
    func contains(_ part: ByteSlice) -> Bool {
        guard let first = part.first, part.count <= count else { return false }
        return withUnsafeBytes { all in
            part.withUnsafeBytes { part in
                var at = 0
                while at + part.count <= all.count {
                    guard let next = all[at...(all.count - part.count)].firstIndex(of: first) else { return false }
                    if all[next..<next + part.count].elementsEqual(part) { return true }
                    at = next + 1
                }
                return false
            }
        }
    }
}
