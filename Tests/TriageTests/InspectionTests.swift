import Testing
import TriageEvents
import TriageKafka
import TriageProcessing
import TriageTelemetry

@testable import Triage

@Suite("See what is stuck")
struct InspectionTests {
    /// 2023-11-14T22:13:20Z.
    static let now = Timestamp(milliseconds: 1_700_000_000_000)
    static func main(_ offset: Int64, _ topic: String = "t") -> RecordPosition {
        RecordPosition(topic: topic, partition: 0, offset: offset)
    }

    /// An item made from the headers of a retry record.
    static func retry(
        _ origin: Int64, topic: String = "t", written: Int64 = -60, due: Int64? = nil, retries: Int = 2,
        parkedBehind: String? = nil
    ) -> PatientReport.Item {
        var headers = [
            Header("triage-origin", text: "\(topic)/0/\(origin)"), Header("retryCount", text: "\(retries)"),
            Header("triage-origin-timestamp", text: "\(now.milliseconds + written * 1000)"),
        ]
        if let due {
            headers += [
                Header("triage-due-at", text: "\(now.milliseconds + due * 1000)"),
                Header("triage-error-class", text: "transient"),
                Header("error", text: "ConnectionRefused"),
            ]
        }
        if let parkedBehind { headers.append(Header("triage-parked-behind", text: parkedBehind)) }
        let record = Record(
            topic: "\(topic).retry", partition: 0, offset: origin, timestamp: now + .seconds(-100), key: nil, value: nil,
            headers: Headers(headers))
        var open = OpenRetries(group: "g", commits: [:])
        open.add(record)
        let entry = open.entries { _ in true }[0]
        return PatientReport.Item(entry, note: FailureNote(record), now: now)
    }

    static let member = ConsumerGroup.Member(id: "m", clientID: "triage", host: "/h", instanceID: "one")

    func report(
        _ items: [PatientReport.Item], metadata: CommitMetadata = CommitMetadata(), owner: PartitionOwner = .unknown,
        isLeft: Bool = false
    ) -> PatientReport {
        PatientReport(
            id: "p", group: "g", now: Self.now, policies: RetryPolicies(), queue: PatientReport.ordered(items),
            unread: items.count { $0.state == .unread }, lastDeadLetter: nil,
            places: [
                PatientReport.Place(
                    main: TopicPartition("t", 0), committed: 5, metadata: metadata, end: 9, owner: owner, retries: 0..<0,
                    deadLetters: 0..<0, olderDeadLetters: 0, isLeft: isLeft)
            ], notes: [])
    }

    @Test("a patient that is held behind a dead letter: which one, since when, and the command that shows it")
    func held() {
        let letter = RecordPosition(topic: "t.dlq", partition: 0, offset: 3)
        let head = HeldPatients.Head(
            origin: RecordPosition(topic: "t", partition: 0, offset: 5), lane: 1, letter: letter, since: Self.now + .seconds(-90))
        var found = report([])
        found.held = head
        #expect(
            found.explanation.contains("nothing is open")
                && found.explanation.contains("what comes waits for dead letter t.dlq/0/3"))
        found = report([Self.retry(6, parkedBehind: "t/0/5"), Self.retry(7, parkedBehind: "t/0/5")])
        found.held = head
        #expect(found.explanation.hasPrefix("waits for dead letter t.dlq/0/3 (open since "))
        #expect(found.explanation.contains("`triage dead-letters show t.dlq/0/3`; 2 later events are parked behind it"))
        // Its replay is what is happening.
        found = report([Self.retry(5), Self.retry(6, parkedBehind: "t/0/5")])
        found.held = head
        #expect(!found.explanation.contains("waits for dead letter"))
    }

    @Test("why, in plain words")
    func explanations() {
        #expect(report([]).explanation == "nothing is open: no retry waits, nothing is parked, nothing is unread")
        let parked = (1...4).map { Self.retry(10 + $0, retries: 0, parkedBehind: "t/0/10") }
        #expect(
            report([Self.retry(10, due: 190)] + parked).explanation
                == "waits until 22:16:30Z (in 3 min 10 s) for retry 2 of 3 after transient ConnectionRefused; "
                + "4 later events are parked behind it")
        #expect(
            report([Self.retry(10, due: -5, retries: 7)], owner: .nobody).explanation
                == "retry 7 after transient ConnectionRefused has been due since 22:13:15Z (5 s). "
                + "No member of group g reads t/0: start `triage run`.")
        #expect(
            report([.init(unread: Self.main(6), at: Self.now + .seconds(-2)), .init(unread: Self.main(7), at: nil)]).explanation
                == "t/0/6 is unread or being handled, written 2 s ago; 1 later event is unread")
        let once = CommitMetadata(flags: .isOpen, crashes: .init(count: 1, base: 5))
        #expect(
            report([.init(unread: Self.main(6), at: nil)], metadata: once, owner: .member(Self.member), isLeft: true).explanation
                == "t/0/6 is unread or being handled. Instance one@h has stopped and keeps t/0 until its session times out: "
                + "start it again.")
        let crash = CommitMetadata(flags: .isGateClosed, crashes: .init(count: 3, base: 5, alone: 10))
        #expect(
            report([Self.retry(10, due: 86_400)], metadata: crash).explanation
                == "waits until 2023-11-15T22:13:20Z (in 1 d) for retry 2 of 3 after transient ConnectionRefused. The process "
                + "crashed 3 times in a row; it runs alone now, since it may be what ends the process. The outage gate is closed: "
                + "nothing but probes is handled until one succeeds.")
        #expect(
            report([Self.retry(11, retries: 0, parkedBehind: "t/0/10")]).explanation
                == "is next: what t/0/11 was parked behind is done")
    }

    @Test("within a partition by origin offset, whatever the times; between topics the heads by time")
    func order() {
        let items = [
            Self.retry(9, written: -100), Self.retry(3, written: -10, due: 5), Self.retry(4, topic: "u", written: -50),
            Self.retry(8, topic: "u", written: -5), .init(unread: Self.main(12), at: Self.now + .seconds(-200)),
        ]
        #expect(
            PatientReport.ordered(items).map { "\($0.origin)" } == ["u/0/4", "t/0/3", "t/0/9", "t/0/12", "u/0/8"])
        #expect(PatientReport.ordered(items.reversed()).map(\.origin) == PatientReport.ordered(items).map(\.origin))
    }

    @Test("times as they are read at night")
    func times() {
        #expect(PlainText.span(.milliseconds(999)) == "999 ms" && PlainText.span(.seconds(-3)) == "0 ms")
        #expect(PlainText.span(.seconds(59)) == "59 s" && PlainText.span(.seconds(245)) == "4 min 5 s")
        #expect(PlainText.span(.seconds(3600)) == "1 h" && PlainText.span(.seconds(187_200)) == "2 d 4 h")
        #expect(
            PlainText.printable("a\u{1B}[2Jé\n") == "a?[2J??"
                && PlainText.printable(String(repeating: "x", count: 999)).count == 200)
    }

    /// What became of dead letters is told: of the patient's last one, and those that are closed aren't counted.
    private func outcomes(
        _ cluster: EmbeddedCluster, _ configuration: Configuration, _ inspector: GroupInspector, _ number: Int32
    ) async throws {
        try cluster.createTopic(TopicName.deadLetterState, partitions: 1)
        let producer = try KafkaProducer(configuration.kafka)
        defer { producer.close() }
        // The first of the two copies and the patient's, which names no group; another group's state of it tells nothing.
        for (offset, group, status): (Int64, String, DeadLetterState.Status) in [
            (0, "g", .replayed), (3, "g", .discarded), (3, "h", .completed),
        ] {
            let key = DeadLetterKey(group: group, position: RecordPosition(topic: "t.dlq", partition: number, offset: offset))
            let record = OutboundRecord(
                topic: TopicName.deadLetterState, partition: 0, key: ByteSlice("\(key)"),
                value: DeadLetterState(status, time: Self.now, by: "ann").json)
            try producer.produce(record) { _ in }
        }
        #expect(await producer.flush(timeout: .seconds(30)))
        let found = try await inspector.patient("p", policies: RetryPolicies())
        #expect(found.lastDeadLetter?.status == .discarded && found.lastDeadLetter?.state?.by == "ann")
        let letters = try await inspector.status().partitions.first { $0.main.partition == number }?.deadLetters
        #expect(letters?.count == 0 && letters?.closed == 1 && letters?.newest == nil)
    }

    @Test("over an embedded cluster: a head that waits, one parked behind it, and its dead letter")
    func embedded() async throws {
        let cluster = try makeCluster(partitions: 2, topics: ["t"])
        defer { cluster.close() }
        var configuration = makeConfiguration(cluster, group: "g")
        configuration.topics = ["t"]
        let producer = try KafkaProducer(configuration.kafka)
        defer { producer.close() }
        let number = JavaPartitioner.partition(of: ByteSlice("p"), count: 2)
        let due = SystemClock().now().milliseconds + 3_600_000
        func write(_ topic: String, _ key: String, _ headers: [Header]) async {
            let record = OutboundRecord(
                topic: topic, partition: number, key: ByteSlice(key), value: ByteSlice("{}"), headers: Headers(headers))
            await withCheckedContinuation { done in
                do throws(BrokerError) {
                    try producer.produce(record) { _ in done.resume() }
                } catch {
                    Issue.record(error)
                    done.resume()
                }
            }
        }
        for key in ["p", "other", "p"] { await write("t", key, []) }
        // Beyond what stands in the main topic.
        let origin = { (offset: Int) in Header("triage-origin", text: "t/\(number)/\(100 + offset)") }
        await write(
            "t.retry", "p", [origin(2), Header("retryCount", text: "0"), Header("triage-parked-behind", text: "t/\(number)/101")])
        await write("t.retry", "other", [origin(7), Header("retryCount", text: "1")])
        await write(
            "t.retry", "p",
            [origin(1), Header("retryCount", text: "1"), Header("triage-due-at", text: "\(due)"), Header("error", text: "E")])
        // Two copies of one, as a crash between an acknowledgement and the commit leaves them; those behind name no group.
        for _ in 0..<2 { await write("t.dlq", "other", [origin(9), Header("triage-group", text: "g")]) }
        await write("t.dlq", "p", [origin(0), Header("error", text: "Old")])
        await write("t.dlq", "p", [origin(0), Header("error", text: "New")])
        await write("t.dlq", "p", [origin(0), Header("error", text: "Not ours"), Header("triage-group", text: "h")])

        let inspector = GroupInspector(configuration, logger: quiet())
        let found = try await inspector.patient("p", policies: RetryPolicies())
        #expect(found.queue.filter { $0.origin.offset > 100 }.map(\.state) == [.waiting, .parked])
        #expect(found.unread == 2 && found.queue.count == 4 && found.places.map(\.main.partition) == [number])
        #expect(found.lastDeadLetter?.failure.error == "New" && found.lastDeadLetter?.position.offset == 3)
        let without = try await inspector.patient("p", everywhere: true, deadLetters: 0, policies: RetryPolicies())
        #expect(without.lastDeadLetter == nil && without.queue.count == 4 && without.places.count == 2)
        #expect(without.places.map(\.olderDeadLetters).reduce(0, +) == 5)
        let status = try await inspector.status()
        #expect(status.lag == 3 && status.description.members == nil && status.missing.isEmpty)
        let backlog = try #require(status.partitions.first { $0.main.partition == number }?.retries)
        #expect(backlog.waiting == 1 && backlog.parked == 1 && backlog.due == 1 && backlog.nextDue?.milliseconds == due)
        let letters = try #require(status.partitions.first { $0.main.partition == number }?.deadLetters)
        #expect(letters.count == 1 && letters.others == 1 && letters.unnamed == 2 && letters.older == 0)
        #expect(letters.closed == 0 && found.lastDeadLetter?.status == .open)
        try await outcomes(cluster, configuration, inspector, number)
        let fewer = try await inspector.status(deadLetters: 3)
        let some = try #require(fewer.partitions.first { $0.main.partition == number }?.deadLetters)
        #expect(some.count == 0 && some.others == 1 && some.unnamed == 2 && some.older == 2)
        let none = try await inspector.status(deadLetters: 0).partitions.compactMap(\.deadLetters)
        #expect(none.allSatisfy { $0.count + $0.others + $0.unnamed == 0 } && none.reduce(0) { $0 + $1.older } == 5)
        #expect(status.isUnknownGroup && status.summary.contains("has never worked on these topics (no commits)"))

        configuration.topics = ["absent"]
        let nothing = GroupInspector(configuration, logger: quiet())
        await #expect(throws: NothingToInspect(topics: ["absent"])) { try await nothing.patient("p", policies: RetryPolicies()) }
        #expect(try await nothing.status().missing == ["absent", "absent.retry", "absent.dlq"])
    }
}
