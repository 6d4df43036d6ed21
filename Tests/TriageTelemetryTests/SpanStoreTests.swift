import Testing
import TriageEvents

@testable import TriageTelemetry

@Suite("The spans of recent failed events")
struct SpanStoreTests {
    static let failure = Failure(.transient, type: "RetryableError", code: "http_503", step: "handle")

    static func span(
        trace: UInt64, _ number: UInt64, under parent: UInt64? = nil, _ name: String = "process t", kind: SpanKind = .consumer,
        at time: Int64 = 0, fails: Bool = false, _ change: (inout SpanData) -> Void = { _ in }
    ) -> SpanData {
        let traceID = TraceID(high: 0, low: trace)
        func context(_ id: UInt64) -> TraceContext { TraceContext(traceID: traceID, spanID: SpanID(id), flags: .sampled) }
        var span = SpanData(
            template: SpanTemplate(name: name, kind: kind, attributes: [], packed: ByteSlice("")), context: context(number),
            parent: parent.map(context), start: Timestamp(nanoseconds: time), isRecording: true)
        if fails { FailureAttributes.note(failure, on: &span, at: Timestamp(nanoseconds: time)) }
        change(&span)
        return span
    }

    @Test("what ended before the failure is there too, and what ends after it; a trace without a failure isn't among the failed")
    func failedTrace() throws {
        let store = SpanStore(service: "clinic")
        store.onEnd(Self.span(trace: 1, 1, "send t", kind: .producer, at: 1))
        store.onEnd(Self.span(trace: 2, 1, "send t", kind: .producer, at: 2))
        store.onEnd(
            Self.span(trace: 1, 3, under: 2, "attempt", kind: .internal, at: 5, fails: true) {
                $0.append("triage.attempt", .int(1))
            })
        store.onEnd(
            Self.span(trace: 1, 2, under: 1, at: 4, fails: true) {
                $0.append("messaging.destination.name", .literal("t"))
                $0.append("messaging.destination.partition.id", .text("\(3)"))
                $0.append("messaging.kafka.offset", .int(18))
                $0.append("triage.outcome", .literal("retry_scheduled"))
            })
        store.onEnd(Self.span(trace: 1, 4, under: 2, "send t.retry", kind: .producer, at: 6))
        #expect(store.spans(of: TraceID(high: 0, low: 1)).map(\.name) == ["send t", "process t", "attempt", "send t.retry"])
        let failures = store.recentFailures()
        #expect(failures.map(\.traceID.low) == [1])
        let failed = try #require(failures.first)
        #expect(
            failed.errorType == "RetryableError" && failed.errorClass == "transient"
                && failed.fingerprint == Self.failure.fingerprint)
        #expect(failed.outcome == "retry_scheduled" && failed.failedAttempts == 1 && failed.spans == 4)
        #expect(failed.record == RecordPosition(topic: "t", partition: 3, offset: 18) && failed.topic == "t")
        #expect(store.spans(of: TraceID(high: 0, low: 1)).allSatisfy { $0.service == "clinic" })
    }

    @Test("polls and commits aren't kept, and a failed call below an attempt alone makes no failed event")
    func others() {
        let store = SpanStore()
        store.onEnd(Self.span(trace: 1, 1, "poll t", kind: .client))
        store.onEnd(Self.span(trace: 2, 1, "commit", kind: .client, fails: true))
        store.onEnd(Self.span(trace: 3, 2, under: 1, "POST", kind: .client, fails: true))
        #expect(store.counts.spans == 1 && store.recentFailures().isEmpty)
    }

    @Test("keys show hashed or not at all, never plain, and don't keep their records")
    func identifiers() throws {
        let key = IdentifierKey.random()
        for (policy, shown) in [
            (IdentifierPolicy.plain, nil), (.omitted, nil), (.hashed(key), key.text(for: ByteSlice("patient-1"))),
        ] {
            let store = SpanStore(identifiers: policy)
            let record = Record(
                topic: "t", partition: 0, offset: 0, timestamp: nil, key: ByteSlice("patient-1"), value: ByteSlice("payload"))
            store.onEnd(
                Self.span(trace: 1, 1, fails: true) { span in
                    if let key = record.key { span.append("messaging.kafka.message.key", .identifier(key)) }
                    span.append("event.id", .uuid(0x1234_5678_9ABC_DEF0, 0x0F1E_2D3C_4B5A_6978))
                })
            let span = try #require(store.spans(of: TraceID(high: 0, low: 1)).first)
            #expect(span["messaging.kafka.message.key"] == shown)
            #expect(span["event.id"] == "12345678-9abc-def0-0f1e-2d3c4b5a6978")
            #expect(!String(reflecting: span).contains("patient-1"))
        }
        let slice = Record(topic: "t", partition: 0, offset: 0, timestamp: nil, key: ByteSlice("k"), value: ByteSlice("v")).key
        let kept = StoredSpan(Self.span(trace: 1, 1) { span in if let slice { span.append("key", .identifier(slice)) } })
        guard case .identifier(let copy)? = kept.attributes.first?.value else { return #expect(Bool(false)) }
        #expect(copy == ByteSlice("k"))
        let places = [copy.withUnsafeBytes { $0.baseAddress }, slice?.withUnsafeBytes { $0.baseAddress } ?? nil]
        #expect(places[0] != places[1])
    }

    @Test("bounded in bytes, in failed traces and in spans of one; the oldest go first, and what hasn't failed before what has")
    func bounds() {
        var limits = SpanStore.Limits()
        limits.bytes = 65_536
        limits.traces = 10
        limits.spansOfTrace = 5
        let store = SpanStore(limits: limits)
        for trace in UInt64(1)...1000 {
            store.onEnd(Self.span(trace: trace, 1, at: Int64(trace)))
            #expect(store.counts.bytes <= limits.bytes)
        }
        #expect(store.counts.spans < 40 && store.counts.bytes <= limits.bytes / 4)
        #expect(store.spans(of: TraceID(high: 0, low: 1)).isEmpty && !store.spans(of: TraceID(high: 0, low: 1000)).isEmpty)
        for trace in UInt64(2001)...2020 { store.onEnd(Self.span(trace: trace, 1, at: Int64(trace), fails: true)) }
        #expect(store.recentFailures().map(\.traceID.low) == (2011...2020).reversed())
        #expect(store.counts.failedTraces == 10 && store.counts.evictedTraces == 10)
        #expect(store.recentFailures(limit: 3).count == 3)
        for number in UInt64(2)...20 { store.onEnd(Self.span(trace: 2020, number, under: 1)) }
        #expect(store.spans(of: TraceID(high: 0, low: 2020)).count == 5 && store.counts.droppedSpans == 15)
        // A trace that comes again after it was evicted is another one to the queue.
        store.onEnd(Self.span(trace: 2001, 1, at: 9000, fails: true))
        #expect(store.recentFailures(limit: 1).map(\.traceID.low) == [2001] && store.counts.failedTraces == 10)
    }

    @Test("counts stay true whatever comes, in whatever order", arguments: 0..<50)
    func anything(seed: UInt64) {
        var generator = TestGenerator(seed: seed)
        var limits = SpanStore.Limits()
        limits.bytes = 65_536
        limits.traces = Int.random(in: 1...20, using: &generator)
        limits.spansOfTrace = Int.random(in: 1...6, using: &generator)
        let store = SpanStore(limits: limits)
        for _ in 0..<600 {
            store.onEnd(
                Self.span(
                    trace: .random(in: 1...60, using: &generator), .random(in: 1...9, using: &generator), under: 10,
                    kind: SpanKind.allCases.randomElement(using: &generator) ?? .client,
                    fails: Int.random(in: 0...5, using: &generator) == 0))
        }
        let counts = store.counts
        let spans = (UInt64(1)...60).map { store.spans(of: TraceID(high: 0, low: $0)).count }
        #expect(counts.spans == spans.reduce(0, +), "seed \(seed)")
        #expect(counts.bytes <= limits.bytes && counts.bytes >= 0 && counts.failedTraces <= limits.traces, "seed \(seed)")
        #expect(store.recentFailures(limit: .max).count == counts.failedTraces, "seed \(seed)")
        #expect(spans.allSatisfy { $0 <= limits.spansOfTrace }, "seed \(seed)")
    }

    @Test("many threads end spans while others look")
    func threads() async {
        let store = SpanStore()
        await withTaskGroup(of: Void.self) { group in
            for task in UInt64(0)..<8 {
                group.addTask {
                    for number in UInt64(1)...500 {
                        store.onEnd(Self.span(trace: task * 10 + number % 10 + 1, number, fails: number % 3 == 0))
                        if number % 50 == 0 { _ = store.recentFailures() }
                    }
                }
            }
        }
        #expect(store.counts.spans == 4000 && store.recentFailures().count == 80)
    }

    @Test("as JSON and back: the same spans; what is no span is left out, and nothing in it moves a cursor")
    func json() throws {
        let spans = [
            TraceSpan(
                traceID: TraceID(high: 1, low: 2), spanID: SpanID(3), parentSpanID: SpanID(4), name: "process \"t\"",
                kind: .consumer,
                service: "clinic", start: Timestamp(nanoseconds: 5), end: Timestamp(nanoseconds: 1_700_000_000_000_000_001),
                status: .error("a \\ b"), attributes: [.init("error.type", "E"), .init("n", "1")],
                links: [.init(TraceID(high: 9, low: 9), SpanID(8))],
                events: [.init("exception", at: Timestamp(nanoseconds: 6), [.init("exception.type", "E")])]),
            TraceSpan(
                traceID: TraceID(high: 1, low: 2), spanID: SpanID(4), name: "root", start: Timestamp(nanoseconds: -1),
                end: Timestamp(nanoseconds: 0), status: .ok),
        ]
        let document = TraceSpan.document(spans)
        let value = try #require(JSONValue(document))
        #expect(TraceSpan.spans(ofDocument: value) == spans)
        #expect(try TraceSpan.spans(ofDocument: #require(JSONValue(TraceSpan.document([])))) == [])
        let odd = try #require(
            JSONValue(
                ByteSlice(
                    #"{"spans":[1,{},{"traceId":"x"},{"traceId":"\#(spans[0].traceID)","spanId":"\#(spans[0].spanID)","name":"a\u001b[2Jb","startTimeUnixNano":"1","endTimeUnixNano":"0"}]}"#
                )))
        let read = TraceSpan.spans(ofDocument: odd)
        #expect(read?.map(\.name) == ["a?[2Jb"] && read?.first?.duration == .zero)
        #expect(try TraceSpan.spans(ofDocument: #require(JSONValue(ByteSlice("{}")))) == nil)
    }

    @Test(
        "of others' spans only names are shown",
        arguments: [
            ("GET /Patient/smith-4711", "GET"), ("send orders", "send orders"), ("process 4711", "_OTHER"),
            ("ListPatients", "ListPatients"),
            ("SELECT * FROM patient WHERE name='Smith'", "_OTHER"), ("Patient 4711", "_OTHER"), ("", "_OTHER"),
            ("Müller", "_OTHER"),
        ])
    func foreignNames(name: String, shown: String) { #expect(SafeName.span(name) == shown) }

    @Test("of attributes a closed list, identifiers only hashed")
    func foreignAttributes() {
        func shown(_ key: String, _ value: String, own: Bool) -> String? { SafeName.attribute(key, value, isOwn: own)?.value }
        #expect(shown("url.full", "http://x/Patient/1", own: true) == nil && shown("db.query.text", "x", own: true) == nil)
        #expect(shown("triage.outcome", "completed", own: true) == "completed" && shown("triage.outcome", "x", own: false) == nil)
        for own in [true, false] {
            #expect(shown("messaging.kafka.message.key", "smith", own: own) == nil)
            #expect(shown("event.resource.id", "3eb1bd43:d7817725322b0394", own: own) == "3eb1bd43:d7817725322b0394")
            #expect(shown("event.id", "smith", own: own) == nil)
            #expect(shown("error.type", "No patient Smith", own: own) == "_OTHER")
            #expect(shown("messaging.destination.name", "orders", own: own) == "orders")
        }
        #expect(shown("messaging.destination.name", "Mr Smith", own: false) == nil)
    }
}
