internal import TriageEvents
internal import TriageProcessing
internal import TriageTelemetry

extension Explainer {
    /// Whose stories are told: the group that was asked about, else the one that the record names, else those that records of the
    /// event name. Of an event that has left no record beside the first delivery the configuration's, and those that have left some of
    /// other events in the same partition.
    static func groups(
        _ asked: String?, record: String?, records: [EventNote], configured: String, seen: Set<String>
    ) -> [String] {
        if let asked { return [asked] }
        var groups: [String] = record.map { [$0] } ?? []
        for group in records.compactMap(\.letter.group) where !groups.contains(group) { groups.append(group) }
        if groups.isEmpty { groups = [configured] + seen.subtracting([configured]).sorted() }
        return Array(groups.prefix(4))
    }

    /// What the groups have committed of an event's partitions.
    func commits(
        _ groups: [String], of origin: RecordPosition, _ marks: [TopicPartition: Range<Int64>]
    ) async throws -> [String: EventStory.Commits] {
        let main = origin.topicPartition
        let retry = TopicPartition(TopicName.retry(of: main.topic), main.partition)
        let partitions = [main, retry].filter { marks[$0] != nil }
        guard !partitions.isEmpty else { return [:] }
        var commits: [String: EventStory.Commits] = [:]
        for group in groups {
            let found = try await source.commits(group, partitions)
            commits[group] = EventStory.Commits(
                main: CommittedPartition(found[main]), retry: marks[retry] == nil ? nil : CommittedPartition(found[retry]))
        }
        return commits
    }

    /// What operators did about the dead letters of these partitions.
    func states(of partitions: Set<TopicPartition>, _ marks: [TopicPartition: Range<Int64>]) async throws -> DeadLetterStates {
        let ranges = marks.filter { $0.key.topic == TopicName.deadLetterState }
        guard !partitions.isEmpty, !ranges.isEmpty else { return DeadLetterStates() }
        return try await scan(ranges, into: DeadLetterStates()) { states, record in
            // Of the others there may be a million.
            guard let key = record.key?.utf8Text.flatMap({ DeadLetterKey($0) }), partitions.contains(key.position.topicPartition)
            else { return true }
            states.add(record) { value in
                (try? EventDecoder().checkObject(value)) == nil ? nil : JSONValue(value)
            }
            return true
        }
    }

    /// The stories of the event, of the group that comes first those of its neighbours too.
    func put(
        together gathered: Gathering, _ found: Found, _ subject: Explanation.Subject, records: EventRecords,
        events: [(position: RecordPosition, written: Timestamp?)], first: Record?, asked: Record
    ) async throws -> Explanation {
        var notes = gathered.notes
        let now = clock.now()
        var stories: [EventStory] = []
        var neighbours: [Explanation.Neighbour] = []
        var committed: [String: CommittedPartition] = [:]
        if let origin = subject.origin {
            let own = records.notes[origin] ?? []
            let named = subject.role == .main ? nil : subject.failure?.group
            let groups = Explainer.groups(
                options.group, record: named, records: own, configured: configuration.group, seen: records.groups)
            let commits = try await commits(groups, of: origin, gathered.marks)
            committed = commits.compactMapValues(\.main)
            var letters: Set<TopicPartition> = []
            for note in records.notes.values.joined() {
                if !note.isRetry { letters.insert(note.position.topicPartition) }
                if let mark = note.letter.replay { letters.insert(mark.deadLetter.topicPartition) }
            }
            let states = try await states(of: letters, gathered.marks)
            let written = first?.timestamp ?? (subject.role == .main ? asked.timestamp : DeadLetter(asked).originTimestamp)
            stories = groups.map { group in
                EventStory(
                    origin: origin, notes: own, group: group, commits: commits[group] ?? EventStory.Commits(), states: states,
                    written: written, now: now)
            }
            // A group that only by the configuration's default has to do with it isn't said to have neglected it.
            if let first = stories.first { stories = stories.filter { !$0.runs.isEmpty || $0.fate != .unknown } + [first] }
            if stories.count > 1 { stories.removeLast() }
            if let group = stories.first?.group {
                neighbours = events.map { event in
                    Explanation.Neighbour(
                        position: event.position, written: event.written,
                        story: EventStory(
                            origin: event.position, notes: records.notes[event.position] ?? [], group: group,
                            commits: commits[group] ?? EventStory.Commits(), states: states, written: event.written, now: now),
                        isBefore: event.position < origin)
                }
            }
            for (group, commit) in commits.sorted(by: { $0.key < $1.key }) {
                guard let error = commit.main?.error else { continue }
                notes.append(
                    "what rides with group \(group)'s commit of \(origin.topicPartition) \(error == .foreign ? "is foreign" : "is damaged") and was left aside"
                )
            }
        }
        if subject.origin == nil, let note = EventNote(asked, standsForItself: true) {
            let states = try await states(of: [asked.topicPartition], gathered.marks)
            stories = [
                EventStory(
                    origin: asked.position, notes: [note], group: options.group ?? note.letter.group,
                    commits: EventStory.Commits(),
                    states: states, now: now)
            ]
        }
        var traces = EventTraces()
        if let trace = found.trace { traces.add(trace, "the one asked about") }
        let own = first ?? (subject.role == .main ? asked : nil)
        let context =
            own?.headers.last(HeaderName.traceparent).flatMap { TraceContext(traceparent: $0) } ?? subject.failure?.originContext
        traces.add(context?.traceID, "the event's own")
        for story in stories { traces.add(story) }
        traces.add(subject.failure?.context?.traceID, "the record's")
        var (views, problems) = await traces.fetch(from: fetcher)
        for index in stories.indices { stories[index].learn(from: views) }
        if !views.contains(where: { $0.waterfall != nil }), let story = stories.first,
            let waterfall = LedgerWaterfall.make(story, written: subject.originWritten, context: context, now: now)
        {
            views.insert(Explanation.Trace(id: nil, meaning: "", source: nil, waterfall: waterfall), at: 0)
        }
        return Explanation(
            now: now, foundBy: found.by, subject: subject, stories: stories, commits: committed, neighbours: neighbours,
            traces: views, links: configuration.traces.links, others: found.others, looks: gathered.looks,
            asksForSpans: !fetcher.isEmpty, traceProblems: problems, notes: notes)
    }
}
