import HTTPTypes
import Testing
import TriageEvents

@testable import TriageIngress

@Suite struct HealthTests {
    private func at(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: seconds * 1000) }

    @Test func readyOnceAssignedAndAsLongAsPollsComeBack() {
        var health = Health(start: at(0))
        #expect(health.readiness(at: at(1)) == .failing([.notAssigned]))
        health.polled(at: at(2))
        health.assignmentChanged(hasPartitions: true)
        #expect(health.readiness(at: at(62)) == .ok)
        #expect(health.readiness(at: at(63)) == .failing([.notPolling]))
        health.polled(at: at(63))
        #expect(health.readiness(at: at(63)) == .ok)
        health.assignmentChanged(hasPartitions: false)
        #expect(health.readiness(at: at(63)) == .failing([.notAssigned]))
    }

    @Test func aliveUntilNoPollComesBackForTooLong() {
        var health = Health(start: at(0), maxPollSilence: .seconds(10))
        #expect(health.liveness(at: at(10)) == .ok)
        #expect(health.liveness(at: at(11)) == .failing([.notPolling]))
        health.polled(at: at(11))
        #expect(health.liveness(at: at(21)) == .ok)
    }

    @Test func aProcessWithoutPartitionsIsAliveThoughNotReady() {
        var health = Health(start: at(0))
        health.polled(at: at(100))
        #expect(health.liveness(at: at(101)) == .ok)
        #expect(health.readiness(at: at(101)) == .failing([.notAssigned]))
    }

    @Test func stoppingIsNotReadyButAlive() {
        var health = Health(start: at(0))
        health.assignmentChanged(hasPartitions: true)
        health.polled(at: at(1))
        health.stopping()
        #expect(health.readiness(at: at(2)) == .failing([.stopping]))
        #expect(health.liveness(at: at(2)) == .ok)
    }

    @Test func whereRequestsAreTakenInPartitionsAreNotNeeded() {
        var health = Health(start: at(0))
        health.needsAssignment = false
        health.polled(at: at(1))
        #expect(health.readiness(at: at(2)) == .ok)
        #expect(health.readiness(at: at(62)) == .failing([.notPolling]))
    }

    @Test func aClockThatGoesBackTakesNoSignAway() {
        var health = Health(start: at(100))
        health.polled(at: at(50))
        #expect(health.liveness(at: at(160)) == .ok)
    }
}

@Suite struct IntakeHealthTests {
    private func at(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: seconds * 1000) }

    private func listening() -> IntakeHealth {
        var health = IntakeHealth()
        health.listens(true)
        health.reached(at: at(0))
        return health
    }

    @Test func readyOnceItListensAndABrokerAnswered() {
        var health = IntakeHealth()
        #expect(health.readiness(at: at(0)) == .failing([.notListening, .notProducing]))
        health.listens(true)
        #expect(health.readiness(at: at(1)) == .failing([.notProducing]))
        health.reached(at: at(1))
        #expect(health.readiness(at: at(1)) == .ok)
        health.stopping()
        #expect(health.readiness(at: at(1)) == .failing([.stopping]))
        health.listens(false)
        #expect(health.readiness(at: at(1)) == .failing([.stopping, .notListening]))
        #expect(health.liveness(at: at(1000)) == .ok)
    }

    @Test func notReadyWhileNoBrokerAnswers() {
        var health = listening()
        #expect(health.readiness(at: at(15)) == .ok)
        #expect(health.readiness(at: at(16)) == .failing([.notProducing]))
        health.reached(at: at(16))
        health.reached(at: at(3))
        #expect(health.readiness(at: at(31)) == .ok)
    }

    @Test func failuresCountOnceTheyLastAndAsLongAsTheyAreFresh() {
        var health = listening()
        health.reached(at: at(100))
        health.sendsFail(at(98)...at(99))
        #expect(health.readiness(at: at(100)) == .ok)
        health.sendsFail(at(80)...at(99))
        #expect(health.readiness(at: at(100)) == .failing([.notProducing]))
        health.reached(at: at(130))
        #expect(health.readiness(at: at(130)) == .ok)
        health.sendsFail(nil)
        #expect(health.readiness(at: at(101)) == .ok)
    }

    @Test func troubleIsFromTheFirstFailureToTheLastUntilSomethingIsTaken() {
        let trouble = SendTrouble()
        let refused: Result<Acknowledgement, BrokerError> = .failure(BrokerError("NOT_ENOUGH_REPLICAS", operation: "produce"))
        #expect(trouble.times == nil)
        trouble.note(.failure(BrokerError("MSG_SIZE_TOO_LARGE", operation: "produce")), at: at(1))
        #expect(trouble.times == nil)
        trouble.note(refused, at: at(2))
        trouble.note(refused, at: at(5))
        #expect(trouble.times == at(2)...at(5))
        trouble.note(.success(Acknowledgement(partition: 0, offset: 0)), at: at(6))
        #expect(trouble.times == nil)
        trouble.note(refused, at: at(7))
        #expect(trouble.times == at(7)...at(7))
    }
}

@Suite struct EndpointTableTests {
    private let table = EndpointTable(endpoints: [Endpoint(path: "/a") { _ in .json(.ok, "ok") }])

    @Test func pathsMustBeEqual() {
        #expect(table.answer(method: .get, path: "/a", hasBody: false) == .json(.ok, "ok"))
        for path in ["/", "/a/", "/A", "/ab", "", "*"] {
            #expect(table.answer(method: .get, path: path, hasBody: false).status == .notFound, "\(path)")
        }
    }

    @Test func onlyGetAndHeadAreAllowed() {
        #expect(table.answer(method: .head, path: "/a", hasBody: false).status == .ok)
        for method in [.post, .put, .delete, .options, .trace] as [HTTPRequest.Method] {
            let answer = table.answer(method: method, path: "/a", hasBody: false)
            #expect(answer.status == .methodNotAllowed && answer.allow == "GET, HEAD")
        }
    }

    @Test func aBodyEndsTheConnection() {
        let answer = table.answer(method: .get, path: "/a", hasBody: true)
        #expect(answer.status == .contentTooLarge && answer.closes)
    }

    @Test func reasonsAreListed() {
        let answer = Answer.json(.serviceUnavailable, "unavailable", reasons: ["a", "b"])
        #expect(String(decoding: answer.body, as: UTF8.self) == "{\"status\":\"unavailable\",\"reasons\":[\"a\",\"b\"]}\n")
    }
}
