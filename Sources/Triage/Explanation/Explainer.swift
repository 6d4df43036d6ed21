public import Logging
public import TriageEvents
internal import TriageKafka
internal import TriageProcessing
public import TriageTelemetry

/// Explains an event: reads its records, asks for its commits, states and spans, and puts them together.
///
/// From Kafka alone; it joins no group, commits nothing and produces nothing. What traces add is asked for last, and that nobody
/// answers there changes nothing else.
public struct Explainer: Sendable {
    /// How far to look, and as whom.
    public struct Options: Sendable {
        /// Whose work is explained; nil for the group that the event's own records name, else the configuration's.
        public var group: String?
        /// Main topics in which an event is looked for by its trace or its id. Default the configuration's.
        public var topics: [String]?
        /// Records of one partition that are read at most. Default 100,000.
        public var limit: Int64 = 100_000
        /// Events of the same patient that are shown before it, and as many behind it. Default 5.
        public var neighbours = 5

        /// The defaults.
        public init() {}
    }

    let source: ExplanationSource
    let configuration: Configuration
    let options: Options
    let identifiers: IdentifierPolicy
    let fetcher: TraceFetcher
    let clock: any EventClock
    let progress: GroupInspector.Progress

    /// Retries are looked for from this long before the event's own time on: its producer's clock may be ahead of ours.
    static let clockTolerance: Duration = .seconds(300)

    /// An explainer over a configuration's brokers.
    ///
    /// - Parameters:
    ///   - configuration: the brokers, the group and the main topics.
    ///   - identifiers: how the patient shows; plain ids don't.
    ///   - fetcher: where spans are asked for.
    ///   - logger: told by the Kafka client what keeps it from reaching the brokers.
    ///   - progress: told now and then how far it has come, from a thread of its own.
    public init(
        _ configuration: Configuration, options: Options = Options(), identifiers: IdentifierPolicy, fetcher: TraceFetcher,
        logger: Logger = Logger(label: "triage"), clock: any EventClock = SystemClock(),
        progress: @escaping GroupInspector.Progress = { _, _, _ in }
    ) throws {
        self.init(
            configuration, source: try ExplanationSource(configuration.kafka, logger: logger), options: options,
            identifiers: identifiers, fetcher: fetcher, clock: clock, progress: progress)
    }

    init(
        _ configuration: Configuration, source: ExplanationSource, options: Options = Options(), identifiers: IdentifierPolicy,
        fetcher: TraceFetcher, clock: any EventClock, progress: @escaping GroupInspector.Progress = { _, _, _ in }
    ) {
        self.configuration = configuration
        self.source = source
        self.options = options
        self.identifiers = identifiers
        self.fetcher = fetcher
        self.clock = clock
        self.progress = progress
    }

    /// Ends the connections; a second call does nothing.
    public func close() { source.scanner.close() }

    /// Explains what was asked for.
    ///
    /// - Throws: ``NothingToExplain`` with what is there instead; `BrokerError` if the brokers don't answer.
    public func explain(_ target: ExplanationTarget) async throws -> Explanation {
        switch target {
        case .record(let position): return try await explain(Found(position: position))
        case .trace(let id): return try await explain(try await find(trace: id))
        case .event(let id): return try await explain(try await find(event: id))
        }
    }

    /// A record to be explained, and how it was found.
    struct Found: Sendable {
        var position: RecordPosition
        var by: String?
        var trace: TraceID?
        var others: [RecordPosition] = []
        var notes: [String] = []
    }

    /// What is gathered on the way.
    struct Gathering {
        var marks: [TopicPartition: Range<Int64>] = [:]
        var looks: [Explanation.Look] = []
        var notes: [String] = []

        mutating func look(_ partition: TopicPartition, _ read: Range<Int64>) {
            guard let all = marks[partition], !read.isEmpty else { return }
            if let index = looks.firstIndex(where: { $0.partition == partition }) {
                let known = looks[index].read
                looks[index] = .init(
                    partition: partition,
                    read: min(known.lowerBound, read.lowerBound)..<max(known.upperBound, read.upperBound), all: all)
            } else {
                looks.append(.init(partition: partition, read: read, all: all))
            }
        }
    }

    private func explain(_ found: Found) async throws -> Explanation {
        var gathering = Gathering()
        gathering.notes = found.notes
        let main = TopicName.main(of: found.position.topic)
        gathering.marks = try await source.scanner.watermarks(
            of: Explainer.beside(main) + [found.position.topic, TopicName.deadLetterState])
        let asked = try await record(at: found.position, gathering.marks)
        let ask = EventNote(asked)
        let role = Explainer.role(of: asked)
        let origin = role == .main ? asked.position : ask?.origin
        if let origin, TopicName.main(of: origin.topic) != main {
            gathering.marks.merge(try await source.scanner.watermarks(of: Explainer.beside(origin.topic))) { $1 }
        }
        var first = role == .main ? asked : nil
        if first == nil, let origin, let marks = gathering.marks[origin.topicPartition], marks.contains(origin.offset) {
            first = try await scan([origin.topicPartition: origin.offset..<origin.offset + 1], into: nil as Record?) {
                found, record in
                found = record
                return false
            }
        }
        if role != .main, let other = first, !Explainer.isFirst(other, of: asked) {
            gathering.notes.append(
                "\(other.position) holds another event now: its topic was made anew, or it was never this one's")
            first = nil
        }
        let subject = subject(asked, role, origin: origin, first: first, note: ask)
        let key = first?.key ?? asked.key
        var events: [(position: RecordPosition, written: Timestamp?)] = []
        if let origin, let key { events = try await neighbours(of: origin, key: key, &gathering) }
        let since = ([subject.originWritten, events.first?.written].compactMap { $0 }).min()
        var records = EventRecords(
            wanted: Set(events.map(\.position) + (origin.map { [$0] } ?? [])), keys: Set(key.map { [$0] } ?? []))
        if role != .main { records.add(asked) }
        if let origin {
            records = try await read(origin, since: since, beside: asked.topicPartition, into: records, &gathering)
        }
        return try await put(
            together: gathering, found, subject, records: records, events: events, first: first, asked: asked)
    }

    static func beside(_ main: String) -> [String] { [main, TopicName.retry(of: main), TopicName.deadLetter(of: main)] }

    static func role(of record: Record) -> Explanation.Role {
        if TopicName.isRetry(record.topic) { return .retry }
        if TopicName.isDeadLetter(record.topic) { return .deadLetter }
        let letter = DeadLetter(record)
        // Others call their topics as they like; their headers tell. A main record of ours may have been through another's hands, or
        // been replayed: it has no origin of ours.
        guard letter.dialect != .unknown, letter.dialect != .triage else { return .main }
        return letter.isWaiting ? .retry : .deadLetter
    }

    // MARK: One record

    /// The record at a place.
    ///
    /// - Throws: ``NothingToExplain`` saying what is there instead.
    private func record(at position: RecordPosition, _ marks: [TopicPartition: Range<Int64>]) async throws -> Record {
        let partitions = marks.keys.filter { $0.topic == position.topic }.count
        // What was typed may be anything.
        guard partitions > 0 else {
            throw NothingToExplain("no topic \(PlainText.printable(position.topic)) on these brokers")
        }
        guard let range = marks[position.topicPartition] else {
            throw NothingToExplain(
                "topic \(position.topic) has \(PlainText.count(partitions, "partition")), numbered from 0: there is no partition \(position.partition)"
            )
        }
        guard position.offset < range.upperBound else {
            let end = range.isEmpty ? "it is empty" : "its last offset is \(range.upperBound - 1)"
            throw NothingToExplain("\(position.topicPartition) has no offset \(position.offset) yet: \(end)")
        }
        guard position.offset >= range.lowerBound else {
            throw NothingToExplain(
                "\(position) is gone: retention has deleted what was before offset \(range.lowerBound) of \(position.topicPartition)"
            )
        }
        let around = max(range.lowerBound, position.offset - 50)..<min(range.upperBound, position.offset + 50)
        let near = try await scan([position.topicPartition: around], into: [Record]()) { near, record in
            near.append(record)
            return true
        }
        if let record = near.first(where: { $0.offset == position.offset }) { return record }
        let before = near.last { $0.offset < position.offset }.map { "\($0.offset)" }
        let after = near.first { $0.offset > position.offset }.map { "\($0.offset)" }
        let nearest = [before, after].compactMap { $0 }.joined(separator: " and ")
        throw NothingToExplain(
            "there is no record at \(position): the offset is a transaction's marker, was aborted or compacted"
                + (nearest.isEmpty ? "" : "; the nearest are \(nearest)"))
    }

    func scan<Result: Sendable>(
        _ ranges: [TopicPartition: Range<Int64>], into initial: Result,
        _ body: @escaping @Sendable (inout Result, Record) -> Bool
    ) async throws -> Result {
        let ranges = ranges.filter { !$0.value.isEmpty }
        guard !ranges.isEmpty else { return initial }
        let total = ranges.values.reduce(0) { $0 + Int64($1.count) }
        let progress = progress
        return try await source.scanner.scan(ranges, into: (value: initial, count: 0)) { state, record in
            state.count += 1
            if state.count % 5000 == 0 { progress(record.topic, state.count, total) }
            return body(&state.value, record)
        }.value
    }

    private func subject(
        _ asked: Record, _ role: Explanation.Role, origin: RecordPosition?, first: Record?, note: EventNote?
    ) -> Explanation.Subject {
        let letter = DeadLetter(asked)
        // The first delivery's value is the event as it was; a dead letter may be without, repaired or encrypted.
        let isEncrypted = role != .main && asked.headers.last(HeaderName.encryption) != nil
        let readable = first ?? (isEncrypted || letter.isPointer ? nil : asked)
        var event: PatientEvent?
        var invalid: String?
        if let readable {
            do throws(InvalidEvent) {
                event = try EventDecoder(roles: configuration.roles).decode(readable)
            } catch {
                invalid = PlainText.printable("\(error.rule.rawValue)\(error.path.isEmpty ? "" : " at \(error.path)")")
            }
        }
        let identifier = event?.resourceIDBytes ?? readable?.key ?? asked.key
        var patient: String?
        if case .hashed = identifiers { patient = identifier.flatMap { identifiers.text(for: $0) } }
        let eventID = event?.eventIDBytes.flatMap { AttributeValue.uuid($0) != nil ? $0.utf8Text?.lowercased() : nil }
        return Explanation.Subject(
            position: asked.position, role: role, dialect: role == .main ? nil : letter.dialect, written: asked.timestamp,
            origin: origin, hasOrigin: first != nil, originWritten: first?.timestamp ?? letter.originTimestamp ?? asked.timestamp,
            valueBytes: asked.value?.count, eventType: event?.type, form: event?.form, invalid: invalid, eventID: eventID,
            patient: patient, isPointer: letter.isPointer, isEncrypted: isEncrypted, replay: letter.replay,
            failure: role == .main ? nil : letter)
    }

    // MARK: The patient's other events

    /// Records of the same key around one, in the order of their offsets, itself left out.
    private func neighbours(
        of origin: RecordPosition, key: ByteSlice, _ gathering: inout Gathering
    ) async throws -> [(position: RecordPosition, written: Timestamp?)] {
        let wanted = max(0, options.neighbours)
        let partition = origin.topicPartition
        guard wanted > 0, let all = gathering.marks[partition], TopicName.main(of: origin.topic) == origin.topic else {
            return []
        }
        typealias Event = (position: RecordPosition, written: Timestamp?)
        var before: [Event] = []
        // Backwards in windows that grow: most patients' events lie close together, or far apart.
        var end = min(origin.offset, all.upperBound)
        var window: Int64 = 1000
        let floor = max(all.lowerBound, end - min(options.limit, end))
        while before.count < wanted, end > floor {
            let range = max(floor, end - window)..<end
            let found = try await scan([partition: range], into: [Event]()) { events, record in
                if record.key == key {
                    events.append((record.position, record.timestamp))
                    if events.count > wanted { events.removeFirst() }
                }
                return true
            }
            before = found.suffix(wanted - before.count) + before
            gathering.look(partition, range)
            end = range.lowerBound
            window *= 4
        }
        let start = max(all.lowerBound, min(origin.offset, all.upperBound - 1) + 1)
        let behind = start..<max(start, min(all.upperBound, start + min(options.limit, all.upperBound - start)))
        let after = try await scan([partition: behind], into: (events: [Event](), last: start)) { state, record in
            if record.key == key { state.events.append((record.position, record.timestamp)) }
            state.last = record.offset + 1
            return state.events.count < wanted
        }
        gathering.look(partition, start..<(after.events.count < wanted ? behind.upperBound : after.last))
        return before + after.events
    }

    // MARK: Retries and dead letters

    /// Whether a record is the first delivery of the event of a retry record or dead letter, which tells its key and time.
    private static func isFirst(_ first: Record, of record: Record) -> Bool {
        if let key = record.key, let other = first.key, key != other { return false }
        guard let told = DeadLetter(record).originTimestamp, let time = first.timestamp else { return true }
        return told.milliseconds == time.milliseconds
    }

    /// Reads the partitions of the same number in the retry and dead letter topics, and the one that was asked about, from the
    /// time of the first event on.
    private func read(
        _ origin: RecordPosition, since: Timestamp?, beside asked: TopicPartition, into records: EventRecords,
        _ gathering: inout Gathering
    ) async throws -> EventRecords {
        var partitions: [TopicPartition] = []
        for topic in [TopicName.retry(of: origin.topic), TopicName.deadLetter(of: origin.topic), asked.topic] {
            let partition = TopicPartition(topic, topic == asked.topic ? asked.partition : origin.partition)
            guard partition.topic != origin.topic, !partitions.contains(partition) else { continue }
            if gathering.marks[partition] != nil {
                partitions.append(partition)
            } else if !gathering.marks.keys.contains(where: { $0.topic == topic }) {
                gathering.notes.append("there is no topic \(PlainText.printable(topic))")
            }
        }
        let starts = try await starts(partitions, since: since, gathering.marks)
        var ranges: [TopicPartition: Range<Int64>] = [:]
        for partition in partitions {
            guard let all = gathering.marks[partition] else { continue }
            let start = max(all.lowerBound, min(starts[partition] ?? all.lowerBound, all.upperBound))
            let range = start..<start + min(max(0, options.limit), all.upperBound - start)
            ranges[partition] = range
            gathering.look(partition, range)
        }
        let found = try await scan(ranges, into: records) { records, record in
            records.add(record)
            return true
        }
        for partition in partitions {
            guard let range = ranges[partition], let all = gathering.marks[partition], range.upperBound < all.upperBound else {
                continue
            }
            gathering.notes.append(
                "of \(partition) \(PlainText.count(range.count, "record")) from the event's time on were read, \(all.upperBound - range.upperBound) later ones not: --limit reads more"
            )
        }
        if found.isCut {
            gathering.notes.append(
                "more than \(EventRecords.maximumNotes) retry records and dead letters of these events: the rest was left aside")
        }
        return found
    }

    /// Where to begin in each partition: at the event's time, which brokers know.
    private func starts(
        _ partitions: [TopicPartition], since: Timestamp?, _ marks: [TopicPartition: Range<Int64>]
    ) async throws -> [TopicPartition: Int64] {
        let partitions = partitions.filter { marks[$0]?.isEmpty == false }
        guard let since, !partitions.isEmpty else { return [:] }
        let time = since + (.zero - Explainer.clockTolerance)
        var starts = (try? await source.offsets(time, partitions)) ?? [:]
        // That nothing is so new is also what a broker says that knows no times: then the last records are newer all the same.
        let silent = partitions.filter { starts[$0] == nil }
        for partition in silent {
            guard let all = marks[partition] else { continue }
            let tail = max(all.lowerBound, all.upperBound - 20)..<all.upperBound
            let newest = try await scan([partition: tail], into: nil as Timestamp?) { newest, record in
                newest = [newest, record.timestamp].compactMap { $0 }.max()
                return true
            }
            starts[partition] =
                newest.map { $0 >= time } ?? true
                ? max(all.lowerBound, all.upperBound - min(options.limit, all.upperBound)) : all.upperBound
        }
        return starts
    }
}
