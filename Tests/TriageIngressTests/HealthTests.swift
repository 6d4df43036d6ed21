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

    @Test func aClockThatGoesBackTakesNoSignAway() {
        var health = Health(start: at(100))
        health.polled(at: at(50))
        #expect(health.liveness(at: at(160)) == .ok)
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
