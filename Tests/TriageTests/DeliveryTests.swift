import Foundation
import Synchronization
import Testing
import TriageEvents
import TriageKafka
import TriageProcessing
import TriageTelemetry
import TriageTestKit

@testable import Triage

/// Answers by a script for each Idempotency-Key, then 200.
private final class StubReceiver: HTTPCaller {
    let calls = Mutex<[HTTPCall]>([])
    private let script: Mutex<[Result<HTTPAnswer, HTTPCallError>]>

    init(_ script: [Result<HTTPAnswer, HTTPCallError>] = []) { self.script = Mutex(script) }

    func send(_ call: HTTPCall) async throws(HTTPCallError) -> HTTPAnswer {
        calls.withLock { $0.append(call) }
        let next = script.withLock { $0.isEmpty ? .success(HTTPAnswer(status: 200)) : $0.removeFirst() }
        return try next.get()
    }
}

extension HTTPCall {
    fileprivate func header(_ name: String) -> String? { headers.first { $0.name.lowercased() == name.lowercased() }?.value }
}

@Suite("Delivery over HTTP")
struct DeliveryTests {
    let url = "https://receiver.test/in/secret-path?token=x"

    /// Publishes one Patient and processes it with the script's answers, until `isDone`.
    private func deliver(
        _ receiver: StubReceiver, until isDone: @escaping @Sendable (EngineSummary) -> Bool,
        recorder: SpanRecorder = SpanRecorder(),
        _ check: (EmbeddedCluster) async throws -> Void
    ) async throws {
        let cluster = try makeCluster()
        defer { cluster.close() }
        let telemetry = makeTelemetry([recorder])
        try await publish([#"{"resourceType":"Patient","id":"p1"}"#], action: .created, to: cluster, telemetry: telemetry)
        let delivery = HTTPDelivery(Configuration.Delivery(to: url), telemetry: telemetry, caller: receiver)
        let processor = try Processor(
            makeConfiguration(cluster), telemetry: telemetry, logger: quiet(), handler: delivery.handler)
        let running = Task { try await processor.run() }
        #expect(try await eventually { isDone(processor.summary) })
        processor.stop()
        try await running.value
        try await check(cluster)
    }

    @Test("503 with Retry-After is a scheduled retry at that very time")
    func scheduled() async throws {
        let due = Timestamp(milliseconds: (SystemClock().now().milliseconds / 1000 + 3600) * 1000)
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(identifier: "GMT")
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        let date = formatter.string(from: Date(timeIntervalSince1970: Double(due.milliseconds) / 1000))
        let receiver = StubReceiver([.success(HTTPAnswer(status: 503, headers: [("retry-after", date)]))])
        try await deliver(receiver, until: { $0.retries == 1 }) { cluster in
            let retries = try await records(of: ["fhir.Patient.created.retry"], in: cluster)
            #expect(retries.map { $0.headers.text("triage-due-at") } == ["\(due.milliseconds)"])
            #expect(retries.map { $0.headers.text("triage-wait-reason") } == ["scheduled"])
            #expect(retries.map { $0.headers.text("error") } == ["RetryableError http_503"])
        }
    }

    @Test("404 and a redirect are dead letters at once", arguments: [404, 302])
    func persistent(status: Int) async throws {
        let receiver = StubReceiver([.success(HTTPAnswer(status: status, headers: [("location", "http://else.test")]))])
        try await deliver(receiver, until: { $0.deadLettered == 1 }) { cluster in
            let dead = try await records(of: ["fhir.Patient.created.dlq"], in: cluster)
            #expect(dead.map { $0.headers.text("error") } == ["RejectedError http_\(status)"])
            #expect(receiver.calls.withLock { $0.count } == 1)
        }
    }

    @Test("Whatever answer doesn't come is tried again, an answer of too many fields as well; a call that can't be made is not")
    func noAnswer() {
        let retried: [HTTPCallError.Code] = [
            .nameNotResolved, .connectionFailed, .connectionLost, .timeout, .tls, .invalidAnswer, .answerTooLarge,
        ]
        for code in retried { #expect(DeliveryRequest.failure(HTTPCallError(code)) is RetryableError, "\(code)") }
        #expect(DeliveryRequest.failure(HTTPCallError(.invalidCall)) is RejectedError)
    }

    @Test("A network error is tried again, with the same key; spans count the resends and tell neither path nor query")
    func transient() async throws {
        let receiver = StubReceiver([.failure(HTTPCallError(.connectionFailed)), .success(HTTPAnswer(status: 429))])
        let recorder = SpanRecorder()
        try await deliver(receiver, until: { $0.completed == 1 }, recorder: recorder) { _ in
            let calls = receiver.calls.withLock { $0 }
            #expect(calls.count == 3 && Set(calls.map { $0.header("Idempotency-Key") }).count == 1)
            #expect(calls.map { $0.header("Triage-Attempt") } == ["1", "2", "3"])
            #expect(Set(calls.map { $0.body }).count == 1)
            let spans = recorder.spans.filter { $0.template.name == "POST" }
            #expect(
                spans.map { span in span.attributes.first { $0.key == "http.request.resend_count" }?.value } == [
                    nil, .int(1), .int(2),
                ])
            #expect(zip(calls, spans).allSatisfy { $0.header("traceparent")?.contains("\($1.context.spanID)") == true })
            let attempts = recorder.spans.filter { $0.template.name == "attempt" }
            #expect(spans.map(\.parentSpanID) == attempts.map(\.context.spanID))
            let text = spans.map { "\($0.template.attributes) \($0.attributes)" }.joined()
            #expect(!text.contains("secret-path") && !text.contains("token"))
        }
    }

    @Test("As CloudEvents, binary and structured, whatever form the record has; the key and the signature are of what is sent")
    func cloudEvents() throws {
        let resource = #"{"resourceType":"Patient","id":"p1"}"#
        let value = #"{"type":"PatientUpdated","data":\#(resource),"metadata":{"eventId":"e-1","source":"his"}}"#
        let event = try EventDecoder().decode(value: ByteSlice(value), key: nil, topicAction: nil)
        let origin = RecordPosition(topic: "fhir.Patient.updated", partition: 1, offset: 7)
        var delivery = Configuration.Delivery(to: url)
        delivery.cloudEvents = .binary
        let now = Timestamp(milliseconds: 1_767_225_600_000)
        let binary = DeliveryRequest(event, contentType: "application/json", origin: origin, attempt: 2, to: delivery, now: now)
        #expect(binary.call.body?.utf8Text == resource)
        #expect(binary.call.header("content-type") == "application/fhir+json")
        #expect(binary.call.header("ce-id") == "e-1" && binary.call.header("ce-type") == "PatientUpdated")
        #expect(binary.call.header("idempotency-key") == "\"e-1\"" && binary.call.header("triage-attempt") == "2")
        delivery.cloudEvents = .structured
        delivery.signatureKey = Array(repeating: 7, count: 32)
        let structured = DeliveryRequest(event, contentType: nil, origin: origin, attempt: 1, to: delivery, now: now)
        let body = try #require(structured.call.body)
        let json = try #require(JSONValue(body))
        #expect(json["specversion"]?.string == "1.0" && json["source"]?.string == "his")
        #expect(json["data"]?.text.utf8Text == resource)
        #expect(structured.call.header("content-type")?.hasPrefix("application/cloudevents+json") == true)
        let signature = DeliverySignature.value(key: Array(repeating: 7, count: 32), body: body, at: now)
        #expect(structured.call.header(DeliverySignature.header) == signature)
    }

    @Test("The signature is what Python's hmac makes of it")
    func signature() throws {
        let key = Array(0...31).map { UInt8($0) }
        let body = ByteSlice(#"{"a":"ä"}"#)
        let value = DeliverySignature.value(key: key, body: body, at: Timestamp(milliseconds: 1_732_358_218_999))
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        let program = """
            import hmac; print("t=1732358218,v1=" + hmac.new(bytes(range(32)), b'1732358218.{"a":"\\xc3\\xa4"}', "sha256").hexdigest())
            """
        process.arguments = ["python3", "-c", program]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let expected = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        #expect(value + "\n" == expected)
    }

    @Test("A bucket lets a second's worth go at once, then one for each interval")
    func bucket() {
        var bucket = TokenBucket(rate: 4)
        let start = Duration.seconds(100)
        #expect((0..<6).map { _ in bucket.take(at: start) } == [0, 0, 0, 0, 250, 500].map { .milliseconds($0) })
        #expect(bucket.take(at: start + .milliseconds(750)) == .zero)
        #expect(bucket.take(at: start + .milliseconds(750)) == .milliseconds(250))
        #expect((0..<5).map { _ in bucket.take(at: start + .seconds(60)) } == [0, 0, 0, 0, 250].map { .milliseconds($0) })
        var slow = TokenBucket(rate: 0.5)
        #expect((0..<3).map { _ in slow.take(at: start) } == [.zero, .seconds(2), .seconds(4)])
    }

    @Test("No more are under way than could have their turn within an attempt")
    func concurrency() {
        var delivery = Configuration.Delivery(to: url)
        #expect(delivery.concurrency(within: .seconds(60)) == 64)
        delivery.rate = 0.5
        #expect(delivery.concurrency(within: .seconds(60)) == 15)
        delivery.rate = 0.01
        #expect(delivery.concurrency(within: .seconds(60)) == 1 && delivery.concurrency(within: nil) == 64)
    }
}
