import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageProcessing

@Suite("Failure headers")
struct FailureHeadersTests {
    private let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    private let process = ByteSlice("00-11111111111111112222222222222222-3333333333333333-01")
    private let now = Timestamp(milliseconds: 1_732_270_800_123)
    private let failure = Failure(.transient, type: "HTTPError", code: "503", step: "handle")

    private func record(_ headers: Headers, topic: String = "fhir.Patient.created", offset: Int64 = 42) -> Record {
        Record(
            topic: topic, partition: 3, offset: offset, timestamp: Timestamp(milliseconds: 1000), key: ByteSlice("p1"),
            value: nil,
            headers: headers
        )
    }

    private func attempts(_ count: Int) -> AttemptLedger {
        var ledger = AttemptLedger()
        for number in 1...count {
            ledger.append(
                AttemptLedger.Entry(
                    time: Timestamp(milliseconds: Int64(number)), errorClass: .transient, fingerprint: failure.fingerprint,
                    traceID: TraceID(high: 1, low: 1), spanID: SpanID(UInt64(number))
                )
            )
        }
        return ledger
    }

    private func retryHeaders(_ record: Record, count: Int) -> Headers {
        record.headers.replacing(
            FailureHeaders.retry(
                EventHistory(of: record), failure: failure, attempts: attempts(min(count, 5)), count: count,
                dueAt: now + .seconds(2),
                at: now, group: "g", writer: "w\(count)", processTraceparent: process
            )
        )
    }

    private func deadLetterHeaders(_ record: Record, count: Int) -> Headers {
        record.headers.replacing(
            FailureHeaders.deadLetter(
                EventHistory(of: record), failure: failure, attempts: attempts(count + 1), count: count, at: now, group: "g",
                processTraceparent: process
            )
        )
    }

    private func texts(_ headers: Headers) -> [String: String] {
        Dictionary(headers.map { ($0.name, $0.value?.utf8Text ?? "null") }) { "\($0)|\($1)" }
    }

    @Test("a retry record carries every header of the table, each once")
    func retry() {
        let headers = retryHeaders(record(["traceparent": parent, "content-type": "application/fhir+json"].headers), count: 1)
        #expect(
            texts(headers) == [
                "traceparent": parent, "content-type": "application/fhir+json",
                "retryCount": "1", "error": "HTTPError 503", "failedAt": "2024-11-22T10:20:00.123Z",
                "triage-due-at": "1732270802123", "triage-origin": "fhir.Patient.created/3/42", "triage-origin-timestamp": "1000",
                "triage-origin-traceparent": parent, "triage-error-class": "transient",
                "triage-error-fingerprint": failure.fingerprint, "triage-attempts": attempts(1).text, "triage-group": "g",
                "triage-writer": "w1",
            ]
        )
    }

    @Test("a replay's header is kept if it is one", arguments: ["r1", "Jane Doe", "5f0c1e52-0d0c-4dbd-9d4a-0c1b4a3a2f10", ""])
    func foreignReplay(_ text: String) {
        #expect(texts(retryHeaders(record(["triage-replay": text].headers), count: 1))["triage-replay"] == nil)
    }

    @Test("times that can't be are not believed")
    func times() {
        let position = "fhir.Patient.created/3/42"
        func history(_ headers: [String: String]) -> EventHistory {
            var headers = headers
            headers["triage-origin"] = position
            return EventHistory(
                of: Record(
                    topic: "fhir.Patient.created.retry", partition: 3, offset: 7,
                    timestamp: Timestamp(milliseconds: 1_732_270_000_000),
                    key: nil, value: nil, headers: headers.headers))
        }
        for time in ["-9223372036854775808", "0", "999999999999", "9223372036854775807", "soon"] {
            let found = history(["triage-origin-timestamp": time, "triage-due-at": time])
            #expect(found.originTimestamp == Timestamp(milliseconds: 1_732_270_000_000) && found.dueAt == nil, "\(time)")
        }
        let past = history(["triage-origin-timestamp": "1700000000000", "triage-due-at": "1700000000000"])
        #expect(past.originTimestamp == Timestamp(milliseconds: 1_700_000_000_000))
        #expect(past.dueAt == Timestamp(milliseconds: 1_732_270_000_000))
    }

    private let replay = "5f0c1e52-0d0c-4dbd-9d4a-0c1b4a3a2f10 fhir.Patient.created.dlq/0/7"

    @Test("a dead letter carries them too, but for what only concerns a retry")
    func deadLetter() {
        let headers = deadLetterHeaders(
            record(
                [
                    "triage-due-at": "1", "triage-writer": "x", "triage-parked-behind": "t/0/1", "triage-replay": replay,
                    "triage-wait-reason": "scheduled",
                    "retryCount": "9",
                ].headers),
            count: 0
        )
        #expect(
            texts(headers) == [
                "triage-replay": replay,
                "retryCount": "0", "error": "HTTPError 503", "failedAt": "2024-11-22T10:20:00.123Z",
                "triage-origin": "fhir.Patient.created/3/42", "triage-origin-timestamp": "1000",
                "triage-origin-traceparent": process.utf8Text, "triage-error-class": "transient",
                "triage-error-fingerprint": failure.fingerprint, "triage-attempts": attempts(1).text, "triage-group": "g",
            ]
        )
    }

    @Test("over four deliveries ours are replaced and never doubled, foreign ones kept byte for byte, immutable ones kept")
    func fourDeliveries() throws {
        let foreign = [
            Header("X-Binary", ByteSlice([0, 0xFF, 0x80, 10])), Header("X-Null", nil), Header("X-Empty", ByteSlice("")),
            Header("twice", text: "a"), Header("twice", text: "b"), Header("", text: "nameless"),
            Header("Retrycount", text: "not ours: the case differs"), Header("errör", text: "ü"),
        ]
        var current = record(Headers(foreign + [Header("traceparent", text: parent), Header("retryCount", text: "7")]))
        for count in 1...3 {
            let headers = retryHeaders(current, count: count)
            #expect(Array(headers.prefix(foreign.count)) == foreign)
            current = record(headers, topic: "fhir.Patient.created.retry", offset: Int64(count))
            let history = EventHistory(of: current)
            #expect(history.retries == count)
            #expect(history.attempts == attempts(count))
            #expect(history.dueAt == Timestamp(milliseconds: (now + .seconds(2)).milliseconds))
            #expect(history.group == "g")
            #expect(history.parkedBehind == nil)
        }
        let last = deadLetterHeaders(current, count: 3)
        for headers in [current.headers, last] {
            #expect(Array(headers.prefix(foreign.count)) == foreign)
            let names = headers.dropFirst(foreign.count).map(\.name)
            #expect(Set(names).count == names.count)
            #expect(headers.text(HeaderName.origin) == "fhir.Patient.created/3/42")
            #expect(headers.text(HeaderName.originTimestamp) == "1000")
            #expect(headers.text(HeaderName.originTraceparent) == parent)
            #expect(headers.text(HeaderName.retryCount) == "3")
        }
        #expect(last.count(of: HeaderName.writer) == 0)
        #expect(last.count(of: HeaderName.dueAt) == 0)
    }

    @Test("headers of an event that came without a timestamp or context")
    func bare() {
        let bare = Record(topic: "t", partition: 0, offset: 0, timestamp: nil, key: nil, value: nil)
        let headers = retryHeaders(bare, count: 1)
        #expect(headers.count(of: HeaderName.originTimestamp) == 0)
        #expect(headers.text(HeaderName.originTraceparent) == process.utf8Text)
        let untraced = FailureHeaders.deadLetter(
            EventHistory(of: bare), failure: failure, attempts: attempts(1), count: 0, at: now, group: "g",
            processTraceparent: nil
        )
        // No value of ours: a foreign one that stands there is removed.
        let written = Headers([
            Header("triage-origin-traceparent", text: "Meier"), Header("triage-origin-timestamp", text: "Meier"),
        ])
        .replacing(untraced)
        #expect(written.count(of: HeaderName.originTraceparent) == 0)
        #expect(written.count(of: HeaderName.originTimestamp) == 0)
    }

    @Test(
        "a traceparent that is none is foreign text and not carried on as the origin's",
        arguments: ["", "patient Meier", "00-0-0-0", String(repeating: "x", count: 100_000)]
    )
    func foreignTraceparent(value: String) {
        let headers = deadLetterHeaders(record(["traceparent": value].headers), count: 0)
        #expect(headers.text(HeaderName.originTraceparent) == process.utf8Text)
        #expect(headers.text(HeaderName.traceparent) == value)
        let retried = record(["triage-origin-traceparent": value].headers, topic: "t.retry")
        #expect(EventHistory(of: retried).originTraceparent == nil)
    }

    @Test("a later version's tail isn't carried on either")
    func laterVersion() {
        let history = EventHistory(of: record(["traceparent": "01\(parent.dropFirst(2))-patient Meier"].headers))
        #expect(history.originTraceparent?.utf8Text == parent)
    }

    @Test("a first delivery's history is itself, whatever its headers pretend")
    func firstDelivery() {
        let pretended: [String: String] = [
            "triage-origin": "other/0/1", "retryCount": "9", "triage-attempts": attempts(2).text, "triage-group": "other",
            "triage-due-at": "99999999999999", "triage-origin-timestamp": "5",
        ]
        let history = EventHistory(of: record(pretended.headers))
        #expect(history.origin == RecordPosition(topic: "fhir.Patient.created", partition: 3, offset: 42))
        #expect(history.originTimestamp == Timestamp(milliseconds: 1000))
        #expect(history.retries == 0)
        #expect(history.attempts == AttemptLedger())
        #expect(history.group == nil)
        #expect(history.dueAt == nil)
    }

    @Test("damaged headers: a history all the same, and never a trap in what is counted on from it")
    func damaged() {
        let names = [
            "triage-origin", "triage-origin-timestamp", "triage-origin-traceparent", "retryCount", "triage-attempts",
            "triage-due-at",
            "triage-parked-behind", "triage-group", "triage-writer", "failedAt", "error",
        ]
        let values: [ByteSlice?] = [
            nil, ByteSlice(""), ByteSlice([0xFF, 0xFE]), ByteSlice("-1"), ByteSlice("9223372036854775807"),
            ByteSlice("-9223372036854775808"), ByteSlice("99999999999999999999"), ByteSlice("1.5"), ByteSlice(" 1"),
            ByteSlice("a/b/c"),
            ByteSlice("t/0/-1"), ByteSlice("t/99999999999/1"), ByteSlice(String(repeating: "9", count: 100_000)),
            ByteSlice(String(repeating: ";", count: 100_000)),
        ]
        for value in values {
            for name in names {
                check(Headers([Header(name, value)]))
            }
            check(Headers(names.map { Header($0, value) }))
        }
        check(Headers(names.flatMap { name in values.map { Header(name, $0) } }))
    }

    private func check(_ headers: Headers) {
        let retried = record(headers, topic: "t.retry")
        let history = EventHistory(of: retried)
        #expect(history.retries >= 0)
        #expect(history.retries <= 1_000_000)
        _ = RetryPlan(RetryPolicy(retries: .max)).failed(.system, retries: history.retries, now: now, unit: 0.5)
        let next = record(retryHeaders(retried, count: history.retries + 1), topic: "t.retry")
        #expect(EventHistory(of: next).retries == min(history.retries + 1, 1_000_000))
        #expect(EventHistory(of: next).origin == history.origin)
    }
}

extension [String: String] {
    /// As headers, by name.
    var headers: Headers { Headers(sorted { $0.key < $1.key }.map { Header($0.key, text: $0.value) }) }
}
