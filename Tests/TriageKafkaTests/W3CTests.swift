import TestSupport
import Testing
import TriageEvents

/// Each vector is read directly, from headers, and from headers that a broker carried; what is sent on is read back likewise.
@Suite(.blocking, .serialized, .timeLimit(.minutes(3)))
struct W3CTests {
    /// What a record had before a context is injected: everything that is ours twice, and what is not.
    private static func withForeign(_ headers: Headers) -> Headers {
        Headers(
            [Header("k", nil), Header("twice", text: "1")] + Array(headers) + [
                Header("twice", text: "2"), Header("empty", ByteSlice([])),
            ])
    }

    /// What is neither `traceparent` nor `tracestate`, in order.
    private static func foreign(_ headers: Headers) -> [Header] {
        headers.filter { $0.name != "traceparent" && $0.name != "tracestate" }
    }

    private static func check(_ vector: W3CVector, _ carried: Headers) {
        let context = TraceContext(headers: carried)
        #expect(context?.traceparent.utf8Text == vector.traceparent, "\(vector)")
        #expect(context?.traceState?.text == vector.tracestate, "\(vector)")
        #expect(context?.isRemote != false && context?.isValid != false, "\(vector)")
        #expect(context?.isSampled != ["00", "02"].contains(vector.traceparent?.suffix(2) ?? ""), "\(vector)")
    }

    /// A child's context, as a send span would have it: the flags and the state go on, the span is another.
    private static func child(of context: TraceContext) -> TraceContext {
        TraceContext(
            traceID: context.traceID, spanID: SpanID(0xB7AD_6B71_6920_3331), flags: context.flags, traceState: context.traceState)
    }

    private static func checkInjected(_ vector: W3CVector, _ carried: Headers, from original: Headers) throws {
        guard let expected = vector.traceparent else { return }
        #expect(carried.count(of: "traceparent") == 1, "\(vector)")
        #expect(carried.count(of: "tracestate") == (vector.tracestate == nil ? 0 : 1), "\(vector)")
        #expect(carried.text("traceparent") == expected.prefix(36) + "b7ad6b7169203331" + expected.suffix(3), "\(vector)")
        #expect(carried.text("tracestate") == vector.tracestate, "\(vector)")
        #expect(foreign(carried) == foreign(original), "\(vector): what is not ours stays as it is")
        let back = try #require(TraceContext(headers: carried), "\(vector)")
        #expect(back.traceState?.text == vector.tracestate && back.isRemote, "\(vector)")
    }

    @Test(arguments: W3CVector.all) func readDirectly(_ vector: W3CVector) throws {
        W3CTests.check(vector, vector.headers)
        let original = W3CTests.withForeign(vector.headers)
        W3CTests.check(vector, original)
        // The value alone, where the header rules don't come in.
        if vector.headers.count == 1, let value = vector.headers.last(HeaderName.traceparent) {
            #expect(TraceContext(traceparent: value)?.traceparent.utf8Text == vector.traceparent)
        }
        guard let context = TraceContext(headers: original) else { return }
        let injected = original.replacing(W3CTests.child(of: context).injectedHeaders)
        try W3CTests.checkInjected(vector, injected, from: original)
        // Once more on top: still once each.
        try W3CTests.checkInjected(vector, injected.replacing(W3CTests.child(of: context).injectedHeaders), from: original)
    }

    @Test("an invalid context injects nothing, and takes nothing away")
    func invalidInjection() {
        let original = W3CTests.withForeign([Header("traceparent", text: "x"), Header("tracestate", text: "a=1")])
        for (trace, span) in [(TraceID(high: 0, low: 0), SpanID(1)), (TraceID(high: 0, low: 1), SpanID(0))] {
            let context = TraceContext(traceID: trace, spanID: span, flags: .sampled)
            #expect(original.replacing(context.injectedHeaders) == original)
        }
    }

    @Test(arguments: BaggageVector.all) func baggageDirectly(_ vector: BaggageVector) {
        let baggage = Baggage(parsing: vector.values)
        #expect(baggage.members.map { [$0.name, $0.value] } == vector.members)
        let sent = Baggage(parsing: baggage.text.map { [ByteSlice($0)] } ?? [])
        // U+FFFD comes back as itself; what was 8,192 bytes stays so.
        #expect(sent == baggage)
    }

    // MARK: Through brokers

    /// Sends one record with each of these headers and gives what came back.
    private func carried(_ all: [Headers], by broker: BrokerUnderTest) async throws -> [Headers] {
        let topic = try await broker.createTopic(1)
        let producer = try broker.producer()
        defer { producer.close() }
        try producer.produceAll(
            all.map { OutboundRecord(topic: topic, partition: 0, key: nil, value: ByteSlice("v"), headers: $0) })
        let reader = Reader(try broker.consumer(unique("group")))
        defer { reader.consumer.close() }
        try reader.subscribe(topic)
        try reader.poll("\(all.count) records") { reader.records.count == all.count }
        return reader.records.map(\.headers)
    }

    @Test(arguments: TestBroker.available) func carriedByABroker(_ kind: TestBroker) async throws {
        let originals = W3CVector.all.map { W3CTests.withForeign($0.headers) }
        let arrived = try await carried(originals, by: kind.broker())
        var forwarded: [Headers] = []
        for (vector, (headers, original)) in zip(W3CVector.all, zip(arrived, originals)) {
            #expect(Array(headers) == Array(original), "\(vector): byte for byte")
            W3CTests.check(vector, headers)
            forwarded.append(
                headers.replacing(TraceContext(headers: headers).map { W3CTests.child(of: $0).injectedHeaders } ?? []))
        }
        for (vector, (headers, original)) in zip(W3CVector.all, zip(try await carried(forwarded, by: kind.broker()), originals)) {
            try W3CTests.checkInjected(vector, headers, from: original)
        }
    }

    @Test(arguments: TestBroker.available) func baggageCarriedByABroker(_ kind: TestBroker) async throws {
        // A forwarded record keeps its baggage byte for byte, however often a context is injected.
        let context = try #require(TraceContext(traceparent: ByteSlice(W3CVector.parent)))
        let originals = BaggageVector.all.map { vector in
            Headers(vector.values.map { Header("baggage", $0) } + [Header("baggage", nil)]).replacing(context.injectedHeaders)
        }
        for (vector, headers) in zip(BaggageVector.all, try await carried(originals, by: kind.broker())) {
            let values = headers.filter { $0.name == "baggage" }.compactMap(\.value)
            #expect(values == vector.values, "\(vector)")
            #expect(Baggage(parsing: values).members.map { [$0.name, $0.value] } == vector.members, "\(vector)")
        }
    }
}
