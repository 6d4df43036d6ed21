import Testing
import TriageEvents

@testable import TriageProcessing

@Suite("Intake control")
struct IntakeControlTests {
    private let main = TopicPartition("t", 0)
    private let retry = TopicPartition("t.retry", 0)
    private let other = TopicPartition("t", 1)

    private func load(_ records: Int, bytes: Int = 0, waiting: Int = 0) -> IntakeControl.Load {
        IntakeControl.Load(records: records, bytes: bytes, waitingBytes: waiting)
    }

    @Test("two watermarks: paused at the maximum, resumed at half of it")
    func watermarks() {
        var intake = IntakeControl(maximumRecords: 10, maximumBytes: 1000)
        let both = [main, retry]
        #expect(intake.balance(load(9), assigned: both) == nil)
        #expect(intake.balance(load(10), assigned: both) == IntakeControl.Change(pause: both))
        #expect(intake.balance(load(6), assigned: both) == nil)
        #expect(intake.balance(load(5), assigned: both) == IntakeControl.Change(resume: both))
        #expect(intake.balance(load(0, bytes: 1000), assigned: both) == IntakeControl.Change(pause: both))
        #expect(intake.balance(load(10, bytes: 500), assigned: both) == nil)
        #expect(intake.balance(load(5, bytes: 501), assigned: both) == nil)
        #expect(intake.balance(load(5, bytes: 500), assigned: both) == IntakeControl.Change(resume: both))
    }

    @Test("what waits for its time pauses nothing; a partition that is held back is paused alone, until it isn't any more")
    func heldBack() {
        var intake = IntakeControl(maximumRecords: 10, maximumBytes: 1000)
        let both = [main, retry]
        #expect(intake.balance(load(0), assigned: both) == nil)
        #expect(intake.balance(load(0, waiting: 10_000), assigned: both) == nil)
        intake.hold(back: main, true)
        #expect(intake.balance(load(0), assigned: both) == IntakeControl.Change(pause: [main]))
        #expect(intake.balance(load(10), assigned: both) == IntakeControl.Change(pause: [retry]))
        #expect(intake.balance(load(0), assigned: both) == IntakeControl.Change(resume: [retry]))
        intake.hold(back: main, false)
        #expect(intake.balance(load(0), assigned: both) == IntakeControl.Change(resume: [main]))
    }

    @Test("partitions that come while it is paused are paused too; those that go are forgotten")
    func assignment() {
        var intake = IntakeControl(maximumRecords: 10, maximumBytes: 1000)
        _ = intake.balance(load(10), assigned: [main])
        intake.invalidate()
        #expect(intake.balance(load(10), assigned: [main, other]) == IntakeControl.Change(pause: [other]))
        intake.forget([main])
        #expect(intake.balance(load(10), assigned: [other]) == nil)
        #expect(intake.paused == [other])
        // Given back and taken again: the client has forgotten, so it is told again.
        intake.forget([other])
        intake.invalidate()
        #expect(intake.balance(load(10), assigned: [main, other]) == IntakeControl.Change(pause: [main, other].sorted()))
        #expect(intake.balance(load(0), assigned: [main, other]) == IntakeControl.Change(resume: [main, other].sorted()))
    }

    @Test("what the client refused is asked for again")
    func refusal() {
        var intake = IntakeControl(maximumRecords: 10, maximumBytes: 1000)
        #expect(intake.balance(load(10), assigned: [main]) == IntakeControl.Change(pause: [main]))
        intake.refused(paused: [main])
        #expect(intake.balance(load(10), assigned: [main]) == IntakeControl.Change(pause: [main]))
        #expect(intake.balance(load(0), assigned: [main]) == IntakeControl.Change(resume: [main]))
        intake.refused(resumed: [main])
        #expect(intake.balance(load(0), assigned: [main]) == IntakeControl.Change(resume: [main]))
    }

    @Test("closed: everything is paused for good, what comes later included")
    func closing() {
        var intake = IntakeControl(maximumRecords: 10, maximumBytes: 1000)
        intake.close()
        #expect(intake.balance(load(0), assigned: [main]) == IntakeControl.Change(pause: [main]))
        intake.invalidate()
        #expect(intake.balance(load(0), assigned: [main, other]) == IntakeControl.Change(pause: [other]))
    }

    @Test("while it is held everything is paused, and nothing else resumes it")
    func held() {
        var intake = IntakeControl(maximumRecords: 10, maximumBytes: 1000)
        let both = [main, retry]
        intake.hold(true)
        #expect(intake.balance(load(1), assigned: both) == IntakeControl.Change(pause: both))
        intake.hold(true)
        #expect(intake.balance(load(10), assigned: both) == nil)
        #expect(intake.balance(load(0), assigned: both) == nil)
        intake.hold(false)
        #expect(intake.balance(load(0), assigned: both) == IntakeControl.Change(resume: both))
    }
}
