import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// A value that breaks a rule.
struct BadEvent: Sendable, CustomTestStringConvertible {
    let name: String
    let rule: InvalidEvent.Rule
    let value: ByteSlice?
    var key: ByteSlice? = ByteSlice("p1")
    var headers: Headers = [Header("X-Kept", ByteSlice([0, 1, 255])), Header("X-Null", nil)]

    var testDescription: String { name }

    init(_ name: String, _ rule: InvalidEvent.Rule, _ value: ByteSlice?, key: ByteSlice? = ByteSlice("p1")) {
        self.name = name
        self.rule = rule
        self.value = value
        self.key = key
    }

    init(_ name: String, _ rule: InvalidEvent.Rule, _ text: String, key: ByteSlice? = ByteSlice("p1")) {
        self.init(name, rule, ByteSlice(text), key: key)
    }

    private static func created(_ members: String) -> String {
        #"{"type":"PatientCreated","data":{"resourceType":"Patient",\#(members)}}"#
    }

    private static let severalEvents = #"""
        {"resourceType":"Bundle","type":"history","entry":[
        {"resource":{"resourceType":"SubscriptionStatus","type":"event-notification","notificationEvent":[
        {"eventNumber":"1","focus":{"reference":"Patient/p1"}},{"eventNumber":"2","focus":{"reference":"Patient/p2"}}]}},
        {"request":{"method":"DELETE","url":"Patient/p1"},"fullUrl":"Patient/p1"},
        {"request":{"method":"DELETE","url":"Patient/p2"},"fullUrl":"Patient/p2"}]}
        """#

    static let all: [BadEvent] = [
        BadEvent("null without a key", .nullValue, nil as ByteSlice?, key: nil),
        BadEvent("empty", .empty, ""), BadEvent("blank", .empty, " \n"),
        BadEvent("invalid UTF-8", .utf8, ByteSlice(Array(#"{"type":""#.utf8) + [0xFF, 0xFE] + Array(#""}"#.utf8))),
        BadEvent("truncated", .json, #"{"type":"PatientCreated","data":{"resourceType":"Pat"#),
        BadEvent("nested too deep", .json, #"{"type":"PatientCreated","data":"# + String(repeating: "[", count: 100_000)),
        BadEvent(
            "nested too deep but closed", .json,
            #"{"x":"# + String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000) + "}"
        ),
        BadEvent("2 MiB of nothing", .json, String(repeating: "x", count: 2 << 20)),
        BadEvent("2 MiB truncated", .json, created(#""note":""# + String(repeating: "y", count: 2 << 20))),
        BadEvent("binary", .json, ByteSlice([0, 1, 2, 3, 4, 5])),
        BadEvent("an array", .notAnObject, "[]"), BadEvent("a word", .notAnObject, #""patient Meier""#),
        BadEvent("unknown form", .unknownForm, #"{"foo":1}"#),
        BadEvent("no resource type", .resourceTypeMissing, #"{"type":"PatientCreated","data":{"id":"p1"}}"#),
        BadEvent("foreign resource", .resourceTypeForeign, #"{"type":"PatientCreated","data":{"resourceType":"Observation"}}"#),
        BadEvent("foreign type", .resourceTypeForeign, #"{"type":"ObservationCreated","data":{}}"#),
        BadEvent("no resource", .resourceMissing, #"{"type":"PatientCreated"}"#),
        BadEvent("id with a slash", .id, created(#""id":"a/b""#)),
        BadEvent("id too long", .id, created(#""id":"\#(String(repeating: "a", count: 65))""#)),
        BadEvent(
            "updated without id or key", .idMissing, #"{"type":"PatientUpdated","data":{"resourceType":"Patient"}}"#, key: nil),
        BadEvent("unknown action", .action, #"{"type":"PatientMerged","data":{"resourceType":"Patient"}}"#),
        BadEvent("unknown gender", .gender, created(#""gender":"patient Meier""#)),
        BadEvent("a row without a resource", .row, #"{"op":"c","after":{"id":"p1"},"source":{"table":"patient"}}"#),
        BadEvent("several events", .severalEvents, severalEvents),
        BadEvent("a CloudEvent without an id", .cloudEvent, #"{"specversion":"1.0","type":"PatientCreated","source":"s"}"#),
        BadEvent("birth date", .birthDate, created(#""birthDate":"31.12.1999""#)),
        BadEvent("timestamp", .timestamp, created(#""meta":{"lastUpdated":"yesterday"}"#)),
        BadEvent("element type", .elementType, created(#""name":"Meier""#)),
    ]
}

@Suite("Engine: what can't be understood", .timeLimit(.minutes(1)))
struct EngineRobustnessTests {
    private func bench() -> EngineBench {
        let bench = EngineBench(partitions: 2)
        bench.broker.setMaximumRecordSize(8 << 20)
        return bench
    }

    @Test("every rule has an example, but for the one that takes 64 MiB and those of other ways in than topics of events")
    func everyRule() {
        let elsewhere: Set<InvalidEvent.Rule> = [
            .tooLarge, .requestIDMissing, .requestID, .nothing, .tooManyEvents, .repeatedMember,
        ]
        #expect(Set(BadEvent.all.map(\.rule)) == Set(InvalidEvent.Rule.allCases).subtracting(elsewhere))
    }

    @Test(
        "goes to the dead letters with its bytes intact, without an attempt, and the next event is handled",
        arguments: BadEvent.all)
    func undecodable(bad: BadEvent) async throws {
        let bench = bench()
        try bench.put(bad.value, key: bad.key, headers: bad.headers, partition: 1)
        try bench.put("p1", version: 1, partition: 1)
        let journal = Journal()
        let summary = try await bench.run { journal.note($0, $1) }
        #expect(summary.deadLettered == 1)
        #expect(summary.completed == 1)
        #expect(summary.retries == 0)
        #expect(journal.all.map(\.version) == [1])
        let dead = try #require(bench.deadLetters.first)
        #expect(dead.value == bad.value)
        #expect((dead.value == nil) == (bad.value == nil))
        #expect(dead.key == bad.key)
        #expect((dead.key == nil) == (bad.key == nil))
        #expect(dead.partition == 1)
        #expect(Array(dead.headers.prefix(2)) == Array(bad.headers))
        #expect(dead.headers.text(HeaderName.errorClass) == "persistent")
        let error = try #require(dead.headers.text(HeaderName.error))
        #expect(error.hasPrefix("InvalidEvent \(bad.rule.rawValue)"))
        #expect(!error.contains("Meier"))
        #expect(error.utf8.count < 300)
        #expect(AttemptLedger(dead.headers.text(HeaderName.attempts) ?? "").entries.count == 1)
        let spans = bench.recorder.spans
        #expect(spans.filter { $0.template.name == "attempt" }.count == 1)
        #expect(spans.filter { $0.template.name == "process fhir.Patient" }.count == 2)
        bench.expectAllCommitted()
    }

    @Test("all of them at once, among good ones of the same keys")
    func mixture() async throws {
        let bench = bench()
        for (number, bad) in BadEvent.all.enumerated() {
            try bench.put("p1", version: number)
            try bench.put(bad.value, key: bad.key, headers: bad.headers)
        }
        let journal = Journal()
        let summary = try await bench.run { journal.note($0, $1) }
        #expect(summary.deadLettered == BadEvent.all.count)
        #expect(journal.byKey["p1"] == Array(0..<BadEvent.all.count))
        bench.expectAllCommitted()
    }

    static let traceHeaders: [(name: String, headers: Headers)] = {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        func headers(_ values: ByteSlice?...) -> Headers { Headers(values.map { Header("traceparent", $0) }) }
        return [
            ("malformed", headers(ByteSlice("patient Meier"))), ("empty", headers(ByteSlice(""))), ("null", headers(nil)),
            ("all zero", headers(ByteSlice("00-\(String(repeating: "0", count: 32))-b7ad6b7169203331-01"))),
            ("version ff", headers(ByteSlice("ff" + good.dropFirst(2)))),
            ("upper case", headers(ByteSlice(good.uppercased()))),
            ("oversized", headers(ByteSlice(String(repeating: "0", count: 1 << 20)))),
            ("binary", headers(ByteSlice([0, 255, 254]))), ("twice", headers(ByteSlice(good), ByteSlice(good))),
            ("good, then bad", headers(ByteSlice(good), ByteSlice("x"))),
            ("bad, then good", headers(ByteSlice("x"), ByteSlice(good))),
            (
                "tracestate and baggage of nonsense",
                [
                    Header("traceparent", text: good), Header("tracestate", ByteSlice([255])), Header("tracestate", text: "=,=,"),
                    Header("baggage", ByteSlice([0, 255])),
                ]
            ),
        ]
    }()

    @Test(
        "trace headers of any kind: a good event is handled, a bad one dead-lettered with one valid context",
        arguments: traceHeaders)
    func traceparents(name: String, headers: Headers) async throws {
        let bench = bench()
        try bench.put("p1", version: 1, headers: headers, partition: 0)
        try bench.put(ByteSlice("{"), key: ByteSlice("p2"), headers: headers, partition: 0)
        let summary = try await bench.run { _, _ in }
        #expect(summary.completed == 1)
        #expect(summary.deadLettered == 1)
        let dead = try #require(bench.deadLetters.first)
        #expect(dead.headers.count(of: HeaderName.traceparent) == 1)
        #expect(TraceContext(headers: dead.headers) != nil)
        #expect(dead.headers.last(HeaderName.originTraceparent)?.count == 55)
        #expect(dead.headers.last(HeaderName.baggage) == headers.last(HeaderName.baggage))
    }

    @Test("a large event is handled like any other")
    func large() async throws {
        let bench = bench()
        let text = String(repeating: "y", count: 2 << 20)
        let value = ByteSlice(#"{"type":"PatientCreated","data":{"resourceType":"Patient","id":"p1","note":"\#(text)"}}"#)
        try bench.put(value, key: ByteSlice("p1"))
        try bench.put("p1", version: 2)
        let sizes = Watched<[Int]>([])
        try await bench.run { event, _ in sizes.change { $0.append(event.value?.count ?? 0) } }
        #expect(sizes.value.first == value.count)
        #expect(sizes.value.count == 2)
    }

    @Test("intake by bytes: more than fits is worked off piece by piece")
    func bytes() async throws {
        let bench = bench()
        let text = String(repeating: "y", count: 50_000)
        for version in 0..<100 {
            let value = ByteSlice(
                #"{"type":"PatientCreated","data":{"resourceType":"Patient","id":"p1","meta":{"versionId":"\#(version)"},"note":"\#(text)"}}"#
            )
            try bench.put(value, key: ByteSlice("p\(version % 7)"))
        }
        let journal = Journal()
        let summary = try await bench.run { configuration in
            configuration.maximumBytesInFlight = 300_000
            configuration.pollSize = 3
        } handler: { event, context in
            await Task.yield()
            journal.note(event, context)
            if context.attempt == 1, context.record.offset.isMultiple(of: 3) { throw Transient() }
        }
        #expect(summary.completed == 100)
        bench.expectAllCommitted()
        #expect(bench.total(.partitionsPaused) == 0)
    }
}
