import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageProcessing

@Suite("Error memory")
struct ErrorMemoryTests {
    private struct Plain: Error { let payload: Int }
    private enum Cases: Error, CaseIterable { case first, second }
    private enum Payloads: Error { case offline, refused(Int) }
    private struct Said: ClassifiedError {
        var errorClass: ErrorClass
        var code: SafeText?
        var retryAt: Timestamp?
    }
    private struct Mirrored: Error, CustomReflectable { var customMirror: Mirror { Mirror(self, children: ["patient": 1]) } }

    @Test("what is remembered is what would be found out anew, whatever came before")
    func same() {
        let seed = UInt64.random(in: .min ... .max)
        var random = SplitMix64(seed: seed)
        var memory = ErrorMemory()
        for _ in 0..<2000 {
            let number = Int(random.unit() * 1000)
            let error: any Error =
                switch Int(random.unit() * 8) {
                case 0: Plain(payload: number)
                case 1: number % 2 == 0 ? Cases.first : Cases.second
                case 2: number % 2 == 0 ? Payloads.offline : Payloads.refused(number)
                case 3:
                    Said(
                        errorClass: number % 3 == 0 ? .transient : .persistent,
                        code: number % 5 == 0 ? nil : SafeText("code \(number % 4)"),
                        retryAt: number % 2 == 0 ? nil : Timestamp(milliseconds: Int64(number)))
                case 4: Mirrored()
                case 5:
                    number % 2 == 0
                        ? BrokerError("_ALL_BROKERS_DOWN", operation: "x", isRetriable: number % 3 == 0) : AttemptTimeout()
                case 6: InvalidEvent(number % 2 == 0 ? .json : .birthDate, at: "Patient.birthDate")
                default: CancellationError()
                }
            #expect(memory.failure(error) == ErrorClassification.failure(error, step: "handle"), "seed \(seed)")
        }
    }
}
