import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageProcessing

@Suite("Texts of headers that are believed")
struct VettedTextTests {
    @Test(
        "errors as we write them are shown as they are",
        arguments: [
            "RejectedError http_400", "RetryableError http_503", "RejectedError http_422_business-rule", "RejectedError no_id",
            "RejectedError duplicate_medical_record_number", "Timeout http_503 at name[].family", "AttemptTimeout", "E", "_OTHER",
            "InvalidEvent element_type at data.contact[].telecom[].value", "BrokerError _MSG_TIMED_OUT",
            "Wrapper<Inner.Oops> case 3",
            "BrokerError UNKNOWN_TOPIC_OR_PART, retry refused: MSG_SIZE_TOO_LARGE", "MSG_SIZE_TOO_LARGE",
            "RejectedError sqlstate_23505",
            "DatabaseError connectionLost", "HTTP2Error streamClosed", "RejectedError 42",
        ])
    func ours(text: String) { #expect(VettedText.error(text) == text) }

    @Test(
        "what may be anything isn't shown; an error's type is",
        arguments: [
            ("RejectedError Geheimhuber_1931-07-19", "RejectedError (not shown)"),
            ("RejectedError Geheimhuber", "RejectedError (not shown)"),
            ("RejectedError jane doe", "RejectedError (not shown)"), ("RejectedError 19310719", "RejectedError (not shown)"),
            ("RejectedError x_31-07-1931", "RejectedError (not shown)"), ("RejectedError ", "RejectedError (not shown)"),
            ("RejectedError no_id at Geheimhuber", "RejectedError (not shown)"),
            ("RejectedError no_id at name.Geheimhuber", "RejectedError (not shown)"),
            ("RejectedError no_id, retry refused: Jane", "RejectedError (not shown)"),
            ("RejectedError case Jane", "RejectedError (not shown)"),
            ("RejectedError jane@example.org", "RejectedError (not shown)"),
            ("RejectedError no_id\u{1B}[2J", "RejectedError (not shown)"),
            ("Geheimhuber 1931", "Geheimhuber 1931"), ("Geheimhuber_1931-07-19", "(not shown)"),
            ("Geheimhuber1931", "(not shown)"),
            ("Jane Doe, 1980-01-02", "(not shown)"), ("Jane Doe", "(not shown)"), ("jane", "(not shown)"), ("é", "(not shown)"),
            ("RejectedError " + String(repeating: "a", count: 400), "(not shown)"),
        ])
    func anythingElse(text: String, shown: String) { #expect(VettedText.error(text) == shown) }

    @Test("every failure of the decoder, and every path that it can name, is shown as it is")
    func rules() {
        for rule in InvalidEvent.Rule.allCases {
            let failure = Failure(
                .persistent, type: "InvalidEvent", code: SafeText(rule), step: "decode", path: "data.name[].family")
            #expect(VettedText.error(failure.message.text) == failure.message.text, "\(failure.message)")
        }
    }

    @Test("names of classes, groups and headers; a mail address, a date and a sentence are none")
    func names() {
        for text in ["java.lang.IllegalStateException", "a.B$C", "System.Collections.List`1+Enumerator", "VALUE_CONVERTER"] {
            #expect(VettedText.typeName(text) == text)
        }
        #expect(VettedText.typeName("System.FormatException, mscorlib") == "System.FormatException")
        for text in ["Geheimhuber_1931-07-19", "Jane Doe", "", "jane@example.org"] {
            #expect(VettedText.typeName(text) == "_OTHER")
        }
        #expect(VettedText.isName("clinic-2.blue:a/b_c") && !VettedText.isName("jane@example.org") && !VettedText.isName("a b"))
        for text in ["traceparent", "__connect.errors.task.id", "X-B3-TraceId", "ce_id"] {
            #expect(VettedText.headerName(text) == text)
        }
        for text in ["Geheimhuber_1931-07-19", "Jane Doe", "a\u{1B}[2J"] { #expect(VettedText.headerName(text) == nil) }
        #expect(VettedText.pointer("MSG_SIZE_TOO_LARGE 1048576") != nil && VettedText.pointer("SEAL_FAILED 12") != nil)
        for text in ["Jane 12", "MSG_SIZE_TOO_LARGE", "X 012", "X 1 2"] { #expect(VettedText.pointer(text) == nil) }
    }

    @Test("a forged header shows in no field of a dead letter, nor among its headers")
    func forged() {
        let record = Record(
            topic: "t.dlq", partition: 0, offset: 0, timestamp: nil, key: nil, value: nil,
            headers: [
                Header("triage-origin", text: "t/0/1"), Header("triage-error-type", text: "Geheimhuber_1931-07-19"),
                Header("error", text: "RejectedError Geheimhuber_1931-07-19"),
                Header("triage-group", text: "geheimhuber@example.org"),
                Header("Geheimhuber_1931-07-19", text: "x"), Header("triage-pointer", text: "Geheimhuber 7"),
                Header("triage-encryption", text: "Geheimhuber 00000000"),
                Header("triage-parked-behind", text: "Geheim huber/0/1"),
            ])
        let letter = DeadLetter(record)
        #expect(letter.error == "RejectedError (not shown)" && letter.group == nil)
        #expect(!String(reflecting: letter).lowercased().contains("geheimhuber"))
        let shown = ShownHeader.all(of: record.headers)
        #expect(!String(reflecting: shown).lowercased().contains("geheimhuber"))
        #expect(shown.map(\.value) == ["t/0/1", nil, "RejectedError (not shown)", nil, nil, nil, nil, nil])
        #expect(shown.map(\.name)[4] == "(not shown)")
    }
}
