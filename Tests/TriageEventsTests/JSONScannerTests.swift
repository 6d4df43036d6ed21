import Testing

@testable import TriageEvents

@Suite("Members of a JSON object")
struct JSONScannerTests {
    func member(_ name: StaticString, _ text: String) -> String? {
        let slice = ByteSlice(text)
        return JSONScanner.range(of: name, in: slice).flatMap { slice.subslice($0).utf8Text }
    }

    @Test("values of every type are found with exactly their bytes")
    func values() {
        for value in [
            #""x""#, #""a\"b\\""#, "1", "-1.5E+3", "true", "false", "{}", "[]", #"{"data":{"data":"}"}}"#,
            #"["]",{"a":[1]}]"#, #""""#,
        ] {
            #expect(member("data", #"{"data":\#(value)}"#) == value)
            let before = " {\n\"x\" : \"data\" ,\"y\":[\"data\",{\"data\":0}],\t"
            #expect(member("data", before + "\"data\" :  \(value)  , \"z\":1 } ") == value)
        }
    }

    @Test("no member, a null one, the first of several")
    func absent() {
        #expect(member("data", "{}") == nil && member("data", "[]") == nil && member("data", "") == nil)
        #expect(member("data", #"{"Data":1,"datas":2,"dat":3,"":4,"dat\\a":5}"#) == nil)
        #expect(member("data", #"{"data":null}"#) == nil && member("data", #"{"data":null,"data":1}"#) == nil)
        #expect(member("data", #"{"data":1,"data":2}"#) == "1")
    }

    @Test("names with escapes are read as what they mean")
    func escapedNames() {
        #expect(member("data", #"{"\u0064ata":1}"#) == "1")
        #expect(member("data", #"{"d\u0061t\u0061":1}"#) == "1")
        for name in [#"\u0065ata"#, #"\u0064at"#, #"\u0064ata\u0061"#, #"\u0164ata"#, #"d\nta"#, #"data\u0000"#] {
            #expect(member("data", #"{"\#(name)":1}"#) == nil)
        }
    }

    @Test("text that is no JSON ends the search without a crash")
    func malformed() {
        let whole = #"{"a":{"b":["\""]},"data":"x\\"}"#
        for count in 0..<whole.utf8.count { _ = member("data", String(whole.prefix(count))) }
        for text in [
            "{\"", "{\"data", "{\"data\"", "{\"data\":", "{\"a\\", "{\"a\\\"", "{\"a\":\"\\", "{\"\\u00", "{{",
            "{\"data\":[",
        ] { _ = member("data", text) }
    }
}
