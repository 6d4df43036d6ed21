import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageProcessing

private struct PrivateError: Error, CustomStringConvertible {
    let name: String
    var description: String { "patient \(name)" }
}
private enum PayloadError: Error, CustomStringConvertible, CustomDebugStringConvertible {
    case unknownRecord(name: String, Int)
    case offline
    var description: String { "patient Meier" }
    var debugDescription: String { "patient Meier" }
}
private enum MirroredError: Error, CustomReflectable {
    case wrapped(String)
    var customMirror: Mirror { Mirror(self, children: ["patient Meier": "x"], displayStyle: .enum) }
}
private enum ClassifiedCases: ClassifiedError {
    case throttled(patient: String)
    case broken(patient: String)
    var errorClass: ErrorClass { if case .throttled = self { .transient } else { .persistent } }
    var retryAt: Timestamp? { Timestamp(milliseconds: 5) }
}
private struct Coded: ClassifiedError {
    var errorClass: ErrorClass { .transient }
    var code: SafeText? { "HTTP \(503)" }
}
private struct Generic<Value: Sendable>: Error { let value: Value }
private final class ClassError: Error, Sendable {}
private enum Übersetzungsfehler: Error { case ungültig(String) }

@Suite("Error classification")
struct ErrorClassificationTests {
    private func failure(_ error: any Error) -> Failure { ErrorClassification.failure(error, step: "handle") }

    private func leaks(_ failure: Failure) -> Bool {
        let texts = [
            failure.message.text, failure.type.text, failure.code?.text ?? "", failure.path?.text ?? "", failure.fingerprint,
        ]
        return texts.contains { text in
            ["patient", "meier", "0x", "unknown context", "$"].contains { text.lowercased().contains($0) }
        }
    }

    @Test("what isn't classified is system, and says its type and case but nothing of its payload")
    func unclassified() {
        let plain = failure(PrivateError(name: "Meier"))
        #expect(plain.errorClass == .system)
        #expect(plain.message.text == "PrivateError")
        let payload = failure(PayloadError.unknownRecord(name: "Meier", 7))
        #expect(payload.message.text == "PayloadError unknownRecord")
        #expect(payload.code?.text == "unknownRecord")
        #expect(failure(PayloadError.offline).code?.text.hasPrefix("case ") == true)
        #expect(failure(ClassError()).message.text == "ClassError")
        #expect(failure(Generic(value: "Meier")).message.text == "Generic<String>")
        #expect(failure(Generic(value: ("patient Meier", 1))).type.text == "Generic<")
        for error in [PrivateError(name: "Meier"), PayloadError.offline, MirroredError.wrapped("Meier"), ClassError()]
            as [any Error]
        {
            #expect(!leaks(failure(error)), "\(failure(error).message)")
        }
    }

    @Test("the types of functions and names beyond ASCII stay safe")
    func localTypes() {
        struct Local: Error { let patient = "Meier" }
        let local = failure(Local())
        #expect(local.message.text == "Local")
        let umlaut = failure(Übersetzungsfehler.ungültig("Meier"))
        #expect(umlaut.type.text == "bersetzungsfehler")
        #expect(umlaut.code?.text == "ungltig")
        #expect(!leaks(umlaut))
    }

    @Test("two payloads have one fingerprint; two cases, types, classes or steps have two")
    func fingerprints() {
        #expect(
            failure(PayloadError.unknownRecord(name: "Meier", 1)).fingerprint
                == failure(PayloadError.unknownRecord(name: "Schulze", 2)).fingerprint
        )
        #expect(failure(PrivateError(name: "a")).fingerprint == failure(PrivateError(name: "b")).fingerprint)
        #expect(failure(PayloadError.unknownRecord(name: "", 1)).fingerprint != failure(PayloadError.offline).fingerprint)
        #expect(
            failure(ClassifiedCases.throttled(patient: "a")).fingerprint
                != failure(ClassifiedCases.broken(patient: "a")).fingerprint
        )
        #expect(
            ErrorClassification.failure(PayloadError.offline, step: "decode").fingerprint
                != failure(PayloadError.offline).fingerprint
        )
    }

    @Test("a classified error says its class, code and time itself")
    func classified() {
        let throttled = failure(ClassifiedCases.throttled(patient: "Meier"))
        #expect(throttled.errorClass == .transient)
        #expect(throttled.retryAt == Timestamp(milliseconds: 5))
        #expect(throttled.message.text == "ClassifiedCases throttled")
        #expect(!leaks(throttled))
        #expect(failure(ClassifiedCases.broken(patient: "Meier")).errorClass == .persistent)
        #expect(failure(Coded()).message.text == "Coded HTTP 503")
        #expect(failure(AttemptTimeout()).errorClass == .transient)
        #expect(failure(AttemptTimeout()).message.text == "AttemptTimeout")
    }

    @Test("an invalid event is persistent, with its rule and path")
    func invalid() {
        let failure = ErrorClassification.failure(InvalidEvent(.birthDate, at: "Patient.birthDate"), step: "decode")
        #expect(failure.errorClass == .persistent)
        #expect(failure.message.text == "InvalidEvent invalid_birth_date at Patient.birthDate")
        #expect(
            ErrorClassification.failure(InvalidEvent(.json, at: ""), step: "decode").message.text.hasPrefix(
                "InvalidEvent invalid_json"))
    }

    @Test("a broker's error is transient if it can be retried")
    func broker() {
        #expect(failure(BrokerError("_TIMED_OUT", operation: "x", isRetriable: true)).errorClass == .transient)
        #expect(failure(BrokerError("INVALID_TOPIC", operation: "x")).errorClass == .system)
        #expect(failure(BrokerError("_TIMED_OUT", operation: "patient")).code?.text == "_TIMED_OUT")
        #expect(failure(CancellationError()).errorClass == .system)
    }

    @Test("the fingerprint is the same in every process and build")
    func stability() {
        let failure = Failure(.transient, type: "HTTPError", code: "503", step: "handle", path: "Patient.id")
        // FNV-1a, 64 bits, over "transient", "HTTPError", "503", "handle", "Patient.id" joined by U+001F; computed elsewhere.
        #expect(failure.fingerprint == "7e80358bb06009e1")
        #expect(Failure(.system, type: "E", step: "decode").fingerprint == "4e55c46a4bc65979")
        let later = Failure(
            .transient, type: "HTTPError", code: "503", step: "handle", path: "Patient.id", retryAt: Timestamp(milliseconds: 1)
        )
        #expect(later.fingerprint == failure.fingerprint)
    }
}
