import Dispatch
import Glibc
import HTTPTypes
import Synchronization
import TriageEvents
import TriageIngress
import TriageTelemetry

extension Benchmarks {
    /// A request with one Patient of 1 KiB, from its head to its answer without a socket; the producer acknowledges at once.
    static func webhook(traced: Bool) -> (Int) -> Void {
        let parts = IngressParts(traced: traced)
        var settings = WebhookSettings()
        settings.authenticator = IngressParts.authenticator
        let intake = WebhookIntake(settings, sink: parts.sink, tracer: parts.tracer, meter: parts.meter)
        return answer(by: intake.routes[0], about: parts, .ok, before: "", after: "")
    }

    /// The same as a command to create it.
    static func command(traced: Bool) -> (Int) -> Void {
        let parts = IngressParts(traced: traced)
        let desk = CommandDesk(
            parts.sink, memory: CommandMemory(), authenticator: IngressParts.authenticator, source: "benchmark",
            tracer: parts.tracer, isSecure: false)
        return answer(by: desk.routes()[0], about: parts, .accepted, before: #"{"type":"CreatePatient","data":"#, after: "}")
    }

    private static func answer(
        by route: any IngressRoute, about parts: IngressParts, _ status: HTTPResponse.Status, before: String, after: String
    ) -> (Int) -> Void {
        // Each is about another Patient: what was captured before isn't published again.
        guard let patient = JSONValue(event)?["data"]?.text.utf8Text else { exit(1) }
        let text = before + patient + after
        guard let id = text.utf8.firstRange(of: "0d9a4c0e-5a37".utf8) else { exit(1) }
        let body = Array(text.utf8)
        let place = text.utf8.distance(from: text.utf8.startIndex, to: id.lowerBound)
        let headers: HTTPFields = [
            .accept: "*/*", .contentType: "application/fhir+json", .contentLength: "1024",
            .authorization: "Bearer benchmark-token-0123456789",
        ]
        return { count in
            let done = DispatchSemaphore(value: 0)
            Task { @Sendable in
                for _ in 0..<count {
                    let number = Benchmarks.requests.add(1, ordering: .relaxed).newValue
                    var own = body
                    own.replaceSubrange(place..<place + 8, with: String(0x1000_0000 | number & 0x0FFF_FFFF, radix: 16).utf8)
                    let request = IngressRequest(
                        method: .post, headers: headers, body: ByteSlice(own), receivedAt: parts.tracer.clock.now())
                    guard await route.answer(request).status == status else { exit(1) }
                }
                done.signal()
            }
            done.wait()
        }
    }

    private static let requests = Atomic<UInt64>(0)
}

/// What both have in common: a sink over a producer that forgets.
private struct IngressParts: Sendable {
    static let authenticator = Authenticator(bearerTokens: ["benchmark-token-0123456789"])

    private final class Producer: RecordProducer {
        func produce(
            _ record: OutboundRecord, completion: @escaping @Sendable (Result<Acknowledgement, BrokerError>) -> Void
        ) throws(BrokerError) { completion(.success(Acknowledgement(partition: 0, offset: 0))) }
        func whenWritable(_ body: @escaping @Sendable () -> Void) { body() }
        func flush(timeout: Duration) async -> Bool { true }
        func close() {}
    }
    private struct Discard: SpanProcessor {
        func onEnd(_ span: borrowing SpanData) {}
    }

    let tracer: Tracer
    let meter = Meter()
    let sink: CaptureSink

    init(traced: Bool) {
        tracer = Tracer(clock: SystemClock(), processors: [Discard()], isEnabled: traced)
        sink = CaptureSink(
            TracedSink(producer: Producer(), tracer: tracer, meter: meter, clientID: nil), tracer: tracer, meter: meter,
            pattern: .hybrid, format: EventFormat())
    }
}
