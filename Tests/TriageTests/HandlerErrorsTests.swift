import Testing
import Triage
import TriageEvents
import TriageProcessing
import TriageTelemetry

@Suite("What a handler throws")
struct HandlerErrorsTests {
    @Test("Retryable is transient, rejected is persistent, anything else system")
    func classes() {
        let retryable = ErrorClassification.failure(RetryableError("http_503"), step: "handle")
        #expect(
            retryable.errorClass == .transient && retryable.message.text == "RetryableError http_503" && retryable.retryAt == nil)
        let rejected = ErrorClassification.failure(RejectedError("no_id"), step: "handle")
        #expect(rejected.errorClass == .persistent && rejected.message.text == "RejectedError no_id")
        struct Surprise: Error {}
        #expect(ErrorClassification.failure(Surprise(), step: "handle").errorClass == .system)
    }

    @Test("A time to try again: absolute, or from now on")
    func times() {
        let time = Timestamp(milliseconds: 1_800_000_000_000)
        #expect(RetryableError("x", at: time).retryAt == time)
        let before = SystemClock().now()
        let error = RetryableError("x", after: .seconds(30))
        let after = SystemClock().now()
        #expect(error.retryAt.map { before + .seconds(30) <= $0 && $0 <= after + .seconds(30) } == true)
        #expect(RetryableError("x", after: .seconds(Int64.max)).retryAt == Timestamp(nanoseconds: .max))
    }

    @Test("The code is part of the fingerprint, and equal codes have equal ones")
    func fingerprints() {
        func fingerprint(_ error: some Error) -> String { ErrorClassification.failure(error, step: "handle").fingerprint }
        #expect(fingerprint(RetryableError("a")) == fingerprint(RetryableError("a", after: .seconds(1))))
        #expect(fingerprint(RetryableError("a")) != fingerprint(RetryableError("b")))
        #expect(fingerprint(RetryableError("a")) != fingerprint(RejectedError("a")))
    }

    @Test("Descriptions hold the code and nothing else")
    func descriptions() {
        #expect("\(RetryableError("http_503", after: .seconds(3)))" == "retryable: http_503")
        #expect("\(RejectedError("no_id"))" == "rejected: no_id")
    }
}
