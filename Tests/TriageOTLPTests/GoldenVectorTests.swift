import COTLP
import CProtobufC
import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageOTLP

/// Bytes that the official Python classes wrote.
enum Golden {
    static let trace = bytes(
        """
        0ab8020a160a140a0c736572766963652e6e616d6512040a02657012f4010a0f0a0865702e6b61666b611203312e3012e0010a10
        0af7651916cd43dd8448eb211c80319c1208b7ad6b7169203331220800f067aa0ba902b72a0970726f63657373205430053900002a
        36fe9c97174160e34036fe9c97174a1b0a106d6573736167696e672e73797374656d12070a056b61666b614a1c0a166d6573736167
        696e672e6b61666b612e6f66667365741202180c5a2b09e8032a36fe9c971712096578636570
        74696f6e1a150a0e657863657074696f6e2e7479706512030a01456a210a100af7651916cd43dd8448eb211c80319c120800f067aa
        0ba902b735010300007a081204626f6f6d18028501010300001a2768747470733a2f2f6f70656e74656c656d657472792e696f2f73
        6368656d61732f312e34342e30
        """)
    static let histogram = bytes(
        """
        0abf0112bc0112b9010a1a6d6573736167696e672e70726f636573732e6475726174696f6e1a01734a97010a92011100002a36fe9c
        97171900cac471fe9c971721030000000000000029000000000000e03f3218010000000000000002000000000000000000000000
        0000003a109a9999999999b93f000000000000d03f422e1105002a36fe9c9717199a9999999999c93f2208b7ad6b71692033312a10
        0af7651916cd43dd8448eb211c80319c599a9999999999a93f619a9999999999c93f1002
        """)
    static let exponential = bytes(
        "0a34123212300a0178522b0a27210400000000000000290000000000001c4030013901000000000000004208080312040100ac021001")
    static let sum = bytes("0a21121f121d0a01633a180a1219010000000000000031ffffffffffffffff10021801")
    static let log = bytes(
        """
        0a65126312610900002a36fe9c971710111a054552524f522a060a04626f6f6d45010000004a100af7651916cd43dd8448eb211c80
        319c5208b7ad6b71692033315900002a36fe9c9717621b6d6573736167696e672e70726f636573732e657863657074696f6e
        """)
}

@Suite("Golden vectors of the wire format")
struct GoldenVectorTests {
    @Test("All of them are read without unknown fields and written back byte for byte")
    func roundTrip() {
        let cases: [(String, [UInt8], UnsafePointer<ProtobufCMessageDescriptor>)] = [
            ("trace", Golden.trace, Descriptors.traceRequest), ("histogram", Golden.histogram, Descriptors.metricsRequest),
            ("exponential", Golden.exponential, Descriptors.metricsRequest), ("sum", Golden.sum, Descriptors.metricsRequest),
            ("log", Golden.log, Descriptors.logsRequest),
        ]
        for (name, golden, descriptor) in cases {
            let again = unpacked(golden, as: descriptor, ProtobufCMessage.self) { message in
                #expect(message.pointee.n_unknown_fields == 0, "\(name)")
                return packed(message)
            }
            #expect(again == golden, "\(name)")
        }
    }

    @Test("A span from the encoder is the golden span")
    func span() throws {
        let encoder = OTLPSpanEncoder(identifiers: .omitted)
        let constants = [Attribute("messaging.kafka.offset", .int(12))]
        let template = SpanTemplate(
            name: "process T", kind: .consumer, attributes: constants,
            packed: encoder.pack(name: "process T", kind: .consumer, attributes: constants)
        )
        let parent = context(0x00F0_67AA_0BA9_02B7, isRemote: true)
        let recorder = LastSpan()
        let tracer = Tracer(clock: FixedClock(), processors: [recorder])
        var span = SpanData(
            template: template, context: context(0xB7AD_6B71_6920_3331), parent: parent, start: t0, isRecording: true)
        span.append("messaging.system", .text("kafka"))
        span.add(
            SpanEvent("exception", at: Timestamp(nanoseconds: t0.nanoseconds + 1000), [Attribute("exception.type", .text("E"))]))
        span.add(SpanLink(parent))
        span.set(.error("boom"))
        tracer.end(span, at: Timestamp(nanoseconds: t0.nanoseconds + 1_500_000))

        let ended = try #require(recorder.span)
        let mine = try #require(spanBytes(entry(ended, encoder)))
        let golden = unpacked(Golden.trace, as: Descriptors.traceRequest, WireTraceRequest.self) { request in
            request.pointee.resource_spans[0]?.pointee.scope_spans[0]?.pointee.spans[0].map { packed($0) }
        }
        let canonical = unpacked(mine, as: Descriptors.span, WireSpan.self) { packed($0) }
        #expect(canonical != nil && canonical == golden ?? nil)
        #expect(mine.count == canonical?.count)
    }

    @Test("Structs of the generated code pack to the golden bytes")
    func structs() throws {
        Arena.with { arena in
            #expect(traceRequest(arena) == Golden.trace)
            #expect(metricsRequest(arena, histogram(arena)) == Golden.histogram)
            #expect(metricsRequest(arena, exponential(arena)) == Golden.exponential)
            #expect(metricsRequest(arena, sum(arena)) == Golden.sum)
            #expect(logsRequest(arena) == Golden.log)
        }
    }
}

/// A clock that stands still.
struct FixedClock: EventClock {
    func now() -> Timestamp { t0 }
}
