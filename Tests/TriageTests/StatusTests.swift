import Testing
import TriageEvents
import TriageKafka
import TriageProcessing

@testable import Triage

@Suite("How a group's work stands")
struct StatusTests {
    static let now = Timestamp(milliseconds: 1_700_000_000_000)
    static let one = ConsumerGroup.Member(id: "triage-1", clientID: "triage", host: "/10.0.0.7", instanceID: "one")
    static let nameless = ConsumerGroup.Member(id: "triage-2", clientID: "triage", host: "")

    static func partition(
        _ number: Int32 = 0, committed: Int64? = 5, offsets: Range<Int64> = 0..<9, metadata: CommitMetadata = CommitMetadata(),
        error: CommitMetadataError? = nil, firstOpen: Timestamp? = nil, owner: PartitionOwner = .unknown,
        retries: StatusReport.Backlog? = nil, letters: StatusReport.DeadLetters = .init(), standstill: Duration? = nil
    ) -> StatusReport.Partition {
        StatusReport.Partition(
            main: TopicPartition("t", number), committed: committed, offsets: offsets, metadata: metadata, metadataError: error,
            firstOpen: firstOpen, owner: owner, retries: retries, deadLetters: letters, standstill: standstill)
    }

    func status(
        _ partitions: StatusReport.Partition..., missing: [String] = [], state: String = "Stable",
        members: [ConsumerGroup.Member] = [Self.one]
    ) -> StatusReport {
        StatusReport(
            group: "g", description: GroupDescription(.success(ConsumerGroup(name: "g", state: state, members: members))),
            now: Self.now, partitions: partitions, missing: missing, differences: [])
    }

    private let open = CommitMetadata(flags: .isOpen)

    @Test("what is wrong comes first; nothing wrong is said as well")
    func problems() {
        #expect(
            status(Self.partition(committed: 9)).summary
                == "nothing is wrong: everything is read, no retry waits, no open dead letters")
        #expect(
            status(Self.partition(letters: .init(count: 2))).summary
                == "nothing is wrong: 4 records behind, no retry waits, 2 open dead letters")
        #expect(status(Self.partition(letters: .init(count: 1, older: 7))).summary.hasSuffix("at least 1 open dead letter"))
        #expect(
            status(missing: ["a", "b"]).summary
                == "2 topics are missing (a, b): `triage topics create` makes what is missing")
        #expect(status(Self.partition(owner: .nobody)).problems == ["nobody reads t/0: 4 events wait for `triage run`"])
        #expect(
            status(Self.partition(committed: 8, owner: .nobody)).problems
                == ["nobody reads t/0: 1 event waits for `triage run`"])
        #expect(
            status(Self.partition(offsets: 7..<9)).problems == ["t/0: retention deleted 2 offsets before they were read"])
        #expect(status(Self.partition(offsets: 6..<9)).problems == ["t/0: retention deleted 1 offset before it was read"])
        var backlog = StatusReport.Backlog(read: 0..<3)
        backlog.due = 2
        backlog.dueSince = Self.now + .seconds(-61)
        #expect(
            status(Self.partition(committed: 9, error: .damaged, retries: backlog)).problems == [
                "2 retries are overdue, the first by 1 min 1 s",
                "t/0: what rides with its commit is damaged, so records may be handled again",
            ])
        backlog.dueSince = Self.now + .seconds(-10)
        #expect(status(Self.partition(committed: 9, retries: backlog)).problems.isEmpty)
    }

    @Test("what stops most is said before what is merely remarkable")
    func order() {
        let bad = CommitMetadata(flags: [.isOpen, .isGateClosed], crashes: .init(count: 3, base: 3))
        #expect(
            status(Self.partition(metadata: bad, owner: .nobody)).problems == [
                "nobody reads t/0: 4 events wait for `triage run`",
                "the outage gate is closed: nothing but probes is handled (t/0)",
                "the process crashed 3 times in a row (t/0)",
                "the last owner of t/0 ended without finishing: what it had in flight is handled again",
            ])
    }

    @Test("one crash is a note while somebody is at work; more are a problem, told once for all partitions")
    func crashes() {
        func crashed(_ number: Int32, _ count: Int, alone: Int64? = nil) -> StatusReport.Partition {
            Self.partition(
                number, committed: 9,
                metadata: CommitMetadata(flags: .isOpen, crashes: .init(count: count, base: 3, alone: alone)),
                owner: .member(Self.one))
        }
        let once = status(crashed(0, 1), crashed(1, 1))
        #expect(once.problems.isEmpty && once.summary.hasPrefix("nothing is wrong"))
        #expect(
            once.notes
                == [
                    "an earlier owner of every partition ended without a clean stop, once: what it had in flight was handled again"
                ])
        #expect(
            status(crashed(0, 2), crashed(1, 3, alone: 9), crashed(2, 1)).problems
                == ["the process crashed 3 times in a row (t/0, t/1); now t/1/9 runs alone"])
    }

    @Test("a static member that has stopped keeps its partitions; one that is at work, or no static one, is not said to have")
    func left() {
        let left = status(Self.partition(owner: .member(Self.one)), Self.partition(1, metadata: open, owner: .nobody))
        #expect(
            left.summary.hasPrefix(
                "nobody reads t/1: 4 events wait for `triage run` (and "))
        #expect(
            left.problems[1]
                == "instance one@10.0.0.7 has stopped and keeps t/0, which nobody handles: 4 events wait until it is started again "
                + "or its session times out")
        let idle = status(Self.partition(committed: 9, owner: .member(Self.one)))
        #expect(idle.problems.isEmpty)
        #expect(
            idle.notes == [
                "instance one@10.0.0.7 has stopped and keeps t/0: what comes waits until it is started again or its session times out"
            ])
        for partition in [
            Self.partition(metadata: open, owner: .member(Self.one)), Self.partition(error: .foreign, owner: .member(Self.one)),
            Self.partition(committed: nil, owner: .member(Self.one)),
        ] {
            #expect(!partition.isLeft)
        }
        let other = status(Self.partition(owner: .member(Self.nameless)))
        #expect(other.problems.isEmpty)
        #expect(
            other.notes == ["the owner of t/0 hasn't committed yet that it is at work: it is starting, or isn't Triage"])
    }

    @Test("records that wait while nothing is committed")
    func standing() {
        let still = Self.partition(
            metadata: open, firstOpen: Self.now + .seconds(-300), owner: .member(Self.one), standstill: .seconds(3))
        #expect(
            status(still).problems == [
                "nothing of t/0 was committed in 3 s, though one@10.0.0.7 has it: 4 events wait, the first for 5 min; "
                    + "the instance was killed, hangs, or is just starting"
            ])
        let unknown = Self.partition(metadata: open, standstill: .seconds(3))
        #expect(status(unknown).summary.contains("though its last commit says that somebody is at work: 4 events wait;"))
    }

    @Test("a group without commits and members is not well; one that is just starting isn't called unknown")
    func unknown() {
        #expect(
            status(Self.partition(committed: nil, owner: .nobody), state: "Dead", members: []).problems
                == [
                    "group g has never worked on these topics (no members, no commits): 9 events wait for `triage run`; -g names another group"
                ])
        #expect(
            status(Self.partition(committed: nil, offsets: 0..<0, owner: .nobody), state: "Dead", members: []).problems
                == ["group g has never worked on these topics (no members, no commits); -g names another group"])
        #expect(!status(Self.partition(committed: nil, owner: .member(Self.one))).isUnknownGroup)
        #expect(!status(Self.partition(committed: 0, owner: .nobody), members: []).isUnknownGroup)
        #expect(!status(members: []).isUnknownGroup)
    }

    @Test("while the group rebalances nobody is missing")
    func rebalancing() {
        let report = status(Self.partition(metadata: open, owner: .nobody), state: "PreparingRebalance")
        #expect(report.problems.isEmpty)
        #expect(report.notes == ["the group is rebalancing: who reads what is settled in a moment"])
    }

    @Test("lag: from the committed offset, from the first where there is none or the topic was made anew")
    func lag() {
        #expect(Self.partition(committed: nil, offsets: 2..<9).lag == 7)
        #expect(Self.partition(committed: 9).lag == 0 && Self.partition(committed: 9).lost == 0)
        #expect(Self.partition(committed: 40).lag == 9 && Self.partition(committed: 40).lost == 0)
        #expect(Self.partition(committed: 1, offsets: 3..<9).lag == 6 && Self.partition(committed: 1, offsets: 3..<9).lost == 2)
    }
}
