import Glibc
import Synchronization
import Testing
import TriageEvents
import TriageProcessing
import TriageTestKit

@testable import Triage

@Suite("Browsing dead letters")
struct DeadLetterBrowserTests {
    @Test("the newest of many are read backwards from the ends, and little more than them")
    func newest() async throws {
        let world = DeskWorld()
        var all: [RecordPosition] = []
        for number in 0..<30_000 { all.append(world.deadLetter(Int64(number), partition: Int32(number * 7 % 3))) }
        let browser = DeadLetterBrowser(world.access())
        let listing = try await browser.list(limit: 20)
        #expect(listing.entries.map(\.letter.position) == all.suffix(20).reversed())
        #expect(listing.isCut && listing.read < 500, "\(listing.read)")
        // One partition has all of the newest: only that one is read further.
        for number in 30_000..<30_500 { all.append(world.deadLetter(Int64(number), partition: 1)) }
        let many = try await browser.list(limit: 400)
        #expect(many.entries.map(\.letter.position) == all.suffix(400).reversed())
        #expect(many.read < 6000, "\(many.read)")
        #expect(try await browser.list(limit: 0).entries.isEmpty)
    }

    @Test("any listing is what sorting all of them gives", arguments: 0..<40)
    func againstAll(round: Int) async throws {
        let seed = UInt64(round) &* 7919 &+ 11
        var random = Seeded(seed)
        let partitions = Int.random(in: 1...4, using: &random)
        let world = DeskWorld(partitions: partitions)
        var first: [DeadLetter.Identity: RecordPosition] = [:]
        var order: [RecordPosition] = []
        for _ in 0..<Int.random(in: 0...3000, using: &random) {
            let origin = Int64.random(in: 0..<4000, using: &random)
            let partition = Int32(origin % Int64(partitions))
            let position = world.deadLetter(
                origin, partition: partition, key: "p\(origin % 50)", fingerprint: "000000000000000\(origin % 3)")
            let identity = DeadLetter.Identity(
                group: "care", origin: RecordPosition(topic: DeskWorld.topic, partition: partition, offset: origin), replay: nil)
            if first[identity] == nil {
                first[identity] = position
                order.append(position)
            }
        }
        var filter = DeadLetterFilter()
        if Bool.random(using: &random) { filter.fingerprint = "0000000000000001" }
        if Bool.random(using: &random) { filter.patient = ByteSlice("p\(Int.random(in: 0..<60, using: &random))") }
        let limit = Int.random(in: 1...300, using: &random)
        let letters = world.broker.records(in: DeskWorld.dlq).map { DeadLetter($0) }
        let wanted = Dictionary(uniqueKeysWithValues: letters.map { ($0.position, $0) })
        let matching = order.filter { filter.matches(wanted[$0]!) }
        let browser = DeadLetterBrowser(world.access())
        // A copy that lies before what was read stands for the others only where it is read: so places are told by identity.
        let listing = try await browser.list(filter, limit: limit, everywhere: true)
        let last = Dictionary(grouping: letters.filter { filter.matches($0) }, by: \.identity)
        #expect(Set(listing.entries.map(\.letter.identity)).count == listing.entries.count, "seed \(seed)")
        #expect(listing.entries.count == min(limit, last.count), "seed \(seed)")
        #expect(listing.isCut == (last.count > limit) || listing.isCut, "seed \(seed)")
        let times = listing.entries.compactMap { $0.letter.written?.nanoseconds }
        #expect(times == times.sorted(by: >), "seed \(seed)")
        if limit >= matching.count {
            #expect(listing.entries.map(\.letter.position) == matching.reversed(), "seed \(seed)")
        }
        let selection = try await browser.select(filter, everywhere: true)
        #expect(selection.positions == matching, "seed \(seed)")
        #expect(try await browser.groups(filter, everywhere: true).total == matching.count, "seed \(seed)")
        let each = Mutex<[RecordPosition]>([])
        try await browser.each(filter, everywhere: true) { entry, record in
            each.withLock { $0.append(record.position) }
            return entry.letter.position == record.position
        }
        #expect(each.withLock { $0.sorted() } == matching.sorted(), "seed \(seed)")
    }

    @Test("a patient's are looked for where Java puts them, unless everywhere")
    func patient() async throws {
        let world = DeskWorld(partitions: 6)
        let right = JavaPartitioner.partition(of: ByteSlice("pat"), count: 6)
        let wrong = (right + 1) % 6
        for number in 0..<60 { world.deadLetter(Int64(number), partition: Int32(number % 6)) }
        let expected = world.deadLetter(100, partition: right, key: "pat")
        let elsewhere = world.deadLetter(101, partition: wrong, key: "pat")
        var filter = DeadLetterFilter()
        filter.patient = ByteSlice("pat")
        let browser = DeadLetterBrowser(world.access())
        let listing = try await browser.list(filter)
        #expect(listing.entries.map(\.letter.position) == [expected] && listing.read == 11 && !listing.isCut)
        let all = try await browser.list(filter, everywhere: true)
        #expect(all.entries.map(\.letter.position) == [elsewhere, expected] && all.read == 62)
    }

    @Test("states are told and filtered by, those of copies too")
    func states() async throws {
        let world = DeskWorld()
        let (first, second) = (world.deadLetter(1), world.deadLetter(2))
        let copy = world.deadLetter(1)
        let state = DeadLetterState(
            .discarded, time: world.clock.now(), by: "ann", origin: RecordPosition("\(DeskWorld.topic)/0/1"))
        world.write(TopicName.deadLetterState, key: "care/\(first)", value: state.json.utf8Text)
        world.write(TopicName.deadLetterState, key: "nonsense", value: "{}")
        let browser = DeadLetterBrowser(world.access())
        var filter = DeadLetterFilter()
        filter.statuses = [.open]
        let open = try await browser.list(filter)
        #expect(open.entries.map(\.letter.position) == [second])
        #expect(open.notes == ["1 record of triage.dead-letters can't be read"])
        filter.statuses = [.discarded]
        let discarded = try await browser.list(filter).entries
        #expect(discarded.map(\.letter.position) == [first] && discarded.first?.copies == [copy])
        #expect(discarded.first?.state?.by == "ann")
        #expect(try await browser.groups(filter).total == 1)
        #expect(try await browser.select(filter).copies(of: first) == [copy])
        let found = try await browser.find(copy).entry
        #expect(found.status == .discarded && found.copies == [first])
    }

    @Test("states behind a transaction that is still open are read when it has ended, and none is missed")
    func openTransactions() async throws {
        let world = DeskWorld()
        let letters = (0..<2).map { world.deadLetter(Int64($0)) }
        let other = world.broker.transactions(id: "other")
        try await other.initialise()
        try await other.begin()
        let state = DeadLetterState(.discarded, time: world.clock.now(), by: "ann")
        func record(_ index: Int) -> OutboundRecord {
            DeadLetterOperator.record(DeadLetterKey(group: "care", position: letters[index]), state)
        }
        try other.produce(record(0)) { _ in }
        try world.broker.producer().produce(record(1)) { _ in }
        var read = ReadStates()
        // As brokers do that tell where the log ends, and not how far it may be read.
        let scanner = HighWatermarks(scanner: world.broker.scanner(), broker: world.broker)
        try await read.read(scanner)
        #expect(read.exists && read.states.closed == 0)
        try await other.commit()
        try await read.read(scanner)
        #expect(read.states.closed == 2)
    }

    @Test("what isn't there is told with its reason, and with what there is")
    func nothing() async throws {
        let world = DeskWorld()
        for number in 0..<10 { world.deadLetter(Int64(number)) }
        world.broker.trim(TopicPartition(DeskWorld.dlq, 0), before: 4)
        world.broker.compact(TopicPartition(DeskWorld.dlq, 0), removing: [6])
        let browser = DeadLetterBrowser(world.access())
        func reason(_ text: String) async -> NoSuchDeadLetter? {
            do {
                _ = try await browser.find(RecordPosition(text)!)
                return nil
            } catch {
                return error as? NoSuchDeadLetter
            }
        }
        #expect(await reason("x.dlq/0/1")?.reason == .noTopic)
        #expect(await reason("\(DeskWorld.topic)/0/1")?.reason == .notDeadLetters)
        #expect(await reason("\(DeskWorld.dlq)/9/1")?.reason == .noPartition(count: 3))
        #expect(await reason("\(DeskWorld.dlq)/0/3")?.reason == .beforeStart(4))
        #expect(await reason("\(DeskWorld.dlq)/0/10")?.reason == .behindEnd(10))
        #expect(await reason("\(DeskWorld.dlq)/0/6")?.reason == .noRecord)
        #expect(await reason("\(DeskWorld.dlq)/0/4") == nil)
        #expect(
            await reason("\(DeskWorld.dlq)/0/3")?.description
                == "\(DeskWorld.dlq)/0/3: the partition begins at offset 4: retention took what was before")
        #expect(
            await reason("\(DeskWorld.dlq)/1/0")?.description == "\(DeskWorld.dlq)/1/0: the partition is empty")
        // A topic of another name is one of dead letters if somebody says so.
        world.broker.createTopic("orders.DLT", partitions: 1)
        world.write("orders.DLT", [Header("kafka_dlt-original-topic", text: "orders")])
        let named = DeadLetterBrowser(world.access(topics: ["orders.DLT", "gone"], isNamed: true))
        #expect(try await named.find(RecordPosition("orders.DLT/0/0")!).entry.letter.dialect == .spring)
        #expect(try await named.list().notes == ["gone: no such topic"])
        let missing = DeadLetterBrowser(world.access(topics: ["a.dlq", "b.dlq"]))
        #expect(try await missing.list().notes == ["none of the dead letter topics exists (a.dlq, b.dlq)"])
    }

    @Test("progress is told while many are counted, and brokers that fail are told")
    func progress() async throws {
        let world = DeskWorld()
        for number in 0..<12_000 { world.deadLetter(Int64(number), partition: Int32(number % 3)) }
        let told = Mutex<[String]>([])
        let browser = DeadLetterBrowser(world.access()) { topic, read, total in
            told.withLock { $0.append("\(topic) \(read) \(total)") }
        }
        let groups = try await browser.groups()
        #expect(groups.total == 12_000 && groups.groups.count == 1)
        #expect(told.withLock { $0 } == ["\(DeskWorld.dlq) 5000 12000", "\(DeskWorld.dlq) 10000 12000"])
        world.broker.failInspections(with: BrokerError("_ALL_BROKERS_DOWN", operation: "watermarks"))
        await #expect(throws: BrokerError.self) { try await browser.groups() }
    }

    /// How many the next test browses; none, and it isn't run, unless `TRIAGE_TEST_DEAD_LETTERS` says so.
    static let many = getenv("TRIAGE_TEST_DEAD_LETTERS").flatMap { Int(String(cString: $0)) }

    /// Prints what it took; the broker's own records are there before.
    @Test("a great many take bounded memory", .enabled(if: many != nil))
    func aGreatMany() async throws {
        let count = Self.many ?? 0
        let world = DeskWorld(partitions: 6)
        for number in 0..<count {
            world.deadLetter(
                Int64(number), partition: Int32(number % 6), key: "p\(number % 200_000)",
                fingerprint: "00000000000000a\(number % 5)")
        }
        let browser = DeadLetterBrowser(world.access())
        func measure<Result>(_ what: String, _ body: () async throws -> Result) async throws -> Result {
            let (start, before) = (ContinuousClock.now, Self.residentBytes)
            let result = try await body()
            print("\(what): \(ContinuousClock.now - start), +\((Self.residentBytes - before) / 1_048_576) MiB")
            return result
        }
        let listing = try await measure("list 20 of \(count)") { try await browser.list(limit: 20) }
        #expect(listing.read < 1000)
        let groups = try await measure("groups of \(count)") { try await browser.groups() }
        #expect(groups.total == count && groups.groups.count == 5)
        let selection = try await measure("select \(count)") { try await browser.select(DeadLetterFilter()) }
        #expect(selection.count == count)
    }

    private static var residentBytes: Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 200)
        guard fgets(&line, 200, file) != nil else { return 0 }
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let numbers = text.split(separator: " ")
        return numbers.count > 1 ? (Int(numbers[1]) ?? 0) * 4096 : 0
    }

    @Test("copies are known within the window, and memory stays bounded")
    func window() {
        var copies = DeadLetterCopies(partitions: 500)
        #expect(copies.window == 1000)
        func letter(_ offset: Int64, origin: Int64?) -> DeadLetter {
            let headers = origin.map { [Header("triage-origin", text: "t/0/\($0)")] } ?? []
            return DeadLetter(
                Record(
                    topic: "t.dlq", partition: 0, offset: offset, timestamp: nil, key: nil, value: nil, headers: Headers(headers))
            )
        }
        #expect(copies.first(of: letter(0, origin: 7)) == nil && copies.first(of: letter(1, origin: 7)) == 0)
        #expect(copies.first(of: letter(2, origin: nil)) == nil && copies.first(of: letter(3, origin: nil)) == nil)
        for number in 0..<999 { #expect(copies.first(of: letter(Int64(10 + number), origin: Int64(100 + number))) == nil) }
        #expect(copies.first(of: letter(2000, origin: 7)) == 0)
        #expect(copies.first(of: letter(2001, origin: 5000)) == nil)
        #expect(copies.first(of: letter(2002, origin: 7)) == nil, "the window has gone on")
        #expect(copies.first(of: letter(2003, origin: 101)) == 11)
    }
}

/// Tells the ends of logs, open transactions included.
private struct HighWatermarks: RecordScanner {
    let scanner: any RecordScanner
    let broker: InMemoryBroker

    func watermarks(of topics: [String]) async throws(BrokerError) -> [TopicPartition: Range<Int64>] {
        var marks = try await scanner.watermarks(of: topics)
        for (partition, range) in marks { marks[partition] = range.lowerBound..<broker.end(of: partition) }
        return marks
    }
    func scan<Result: Sendable>(
        _ ranges: [TopicPartition: Range<Int64>], into initial: Result,
        _ body: @escaping @Sendable (inout Result, Record) -> Bool
    ) async throws(BrokerError) -> Result {
        try await scanner.scan(ranges, into: initial, body)
    }
    func close() {}
}
