import Testing

@testable import TriageEvents

@Suite("The tag of a command")
struct RequestTagTests {
    static let tag = #"{"system":"urn:triage:request-id","code":"r-1"}"#

    @Test(
        "It is put in, and nothing else changes",
        arguments: [
            (#"{}"#, #"{"meta":{"tag":[TAG]}}"#),
            (#" { } "#, #"{"meta":{"tag":[TAG]} }"#),
            (#"{"resourceType":"Patient"}"#, #"{"meta":{"tag":[TAG]},"resourceType":"Patient"}"#),
            (#"{"a":1,"meta":{},"b":2}"#, #"{"a":1,"meta":{"tag":[TAG]},"b":2}"#),
            (#"{"meta" : {"versionId":"3"}}"#, #"{"meta" : {"tag":[TAG],"versionId":"3"}}"#),
            (#"{"meta":{"tag":[]}}"#, #"{"meta":{"tag":[TAG]}}"#),
            (#"{"meta":{"tag":[ {"code":"x"} ],"a":1}}"#, #"{"meta":{"tag":[{"code":"x"},TAG],"a":1}}"#),
            (
                #"{"meta":{"tag":[{"system":"urn:triage:request-id","code":"old"},{"system":"s","code":"r-1"}]}}"#,
                #"{"meta":{"tag":[{"system":"s","code":"r-1"},TAG]}}"#
            ),
            (#"{"contained":[{"meta":{"tag":[]}}]}"#, #"{"meta":{"tag":[TAG]},"contained":[{"meta":{"tag":[]}}]}"#),
        ])
    func stamps(before: String, after: String) throws {
        let stamped = try #require(RequestTag.stamp(ByteSlice(before), "r-1"))
        #expect(stamped.utf8Text == after.replacing("TAG", with: Self.tag))
        try EventDecoder().checkObject(stamped)
        #expect(RequestTag.requestID(in: try #require(JSONValue(stamped))) == "r-1")
        #expect(RequestTag.stamp(stamped, "r-1") == stamped)
    }

    @Test(
        "What can't be tagged isn't",
        arguments: [#"{"meta":null}"#, #"{"meta":[]}"#, #"{"meta":{"tag":null}}"#, #"{"meta":{"tag":{}}}"#, "[]", ""])
    func refuses(text: String) { #expect(RequestTag.stamp(ByteSlice(text), "r-1") == nil) }

    @Test("Only a well-formed id of our system is read")
    func reads() throws {
        func read(_ tags: String) throws -> String? {
            RequestTag.requestID(in: try #require(JSONValue(ByteSlice(#"{"meta":{"tag":\#(tags)}}"#))))
        }
        #expect(try read("[]") == nil && read("{}") == nil && read(#"[{"system":"s","code":"a"}]"#) == nil)
        #expect(try read(#"[{"system":"urn:triage:request-id"}]"#) == nil)
        #expect(try read(#"[{"system":"urn:triage:request-id","code":"a|b"},\#(Self.tag)]"#) == "r-1")
    }

    @Test("What a request id may be")
    func ids() {
        for id in ["a", "A-1._~:z", String(repeating: "x", count: 128)] { #expect(RequestTag.isRequestID(ByteSlice(id))) }
        for id in ["", "a b", "a|b", "a,b", "a&b", "ä", "a\"", "a\n", String(repeating: "x", count: 129)] {
            #expect(!RequestTag.isRequestID(ByteSlice(id)))
        }
        #expect(RequestTag.search("r-1") == "_tag=urn:triage:request-id|r-1")
    }
}
