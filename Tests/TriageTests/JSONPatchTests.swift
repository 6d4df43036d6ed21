import Testing
import TriageEvents

@testable import Triage

@Suite("JSON patch")
struct JSONPatchTests {
    func patched(_ text: String, _ patch: String) throws -> String {
        let bytes = try JSONPatch(ByteSlice(patch)).applied(to: ByteSlice(text))
        return try #require(bytes.utf8Text)
    }

    func problem(_ text: String, _ patch: String) -> JSONPatchError? {
        do {
            _ = try JSONPatch(ByteSlice(patch)).applied(to: ByteSlice(text))
            return nil
        } catch {
            return error
        }
    }

    @Test(
        "each operation, as RFC 6902's appendix shows them",
        arguments: [
            // A.1, A.2: a member, an element before another, one at the end, one beyond the last.
            (#"{"id":"1"}"#, #"[{"op":"add","path":"/gender","value":"male"}]"#, #"{"id":"1","gender":"male"}"#),
            (#"{"name":["a","c"]}"#, #"[{"op":"add","path":"/name/1","value":"b"}]"#, #"{"name":["a","b","c"]}"#),
            (#"{"name":["a"]}"#, #"[{"op":"add","path":"/name/-","value":["b","c"]}]"#, #"{"name":["a",["b","c"]]}"#),
            (#"{"name":["a"]}"#, #"[{"op":"add","path":"/name/1","value":"b"}]"#, #"{"name":["a","b"]}"#),
            // A.3, A.4
            (#"{"a":1,"b":2}"#, #"[{"op":"remove","path":"/a"}]"#, #"{"b":2}"#),
            (#"{"a":[1,2,3]}"#, #"[{"op":"remove","path":"/a/1"}]"#, #"{"a":[1,3]}"#),
            // A.5
            (#"{"a":1,"b":2}"#, #"[{"op":"replace","path":"/a","value":{"c":null}}]"#, #"{"a":{"c":null},"b":2}"#),
            // A.6, A.7
            (
                #"{"a":{"x":1,"y":2},"b":{"z":3}}"#, #"[{"op":"move","from":"/a/x","path":"/b/x"}]"#,
                #"{"a":{"y":2},"b":{"z":3,"x":1}}"#
            ),
            (#"[1,2,3,4]"#, #"[{"op":"move","from":"/1","path":"/3"}]"#, #"[1,3,4,2]"#),
            // A.8: a test that holds changes nothing.
            (
                #"{"a":"x","b":[1,"two"]}"#,
                #"[{"op":"test","path":"/a","value":"x"},{"op":"test","path":"/b/1","value":"two"}]"#,
                #"{"a":"x","b":[1,"two"]}"#
            ),
            // A.10, A.11: an object in an object; members that aren't defined are passed over.
            (#"{"a":1}"#, #"[{"op":"add","path":"/b","value":{"c":{}},"xyz":1}]"#, #"{"a":1,"b":{"c":{}}}"#),
            // A.14: the escapes of a pointer.
            (#"{"/":9,"~1":10}"#, #"[{"op":"test","path":"/~01","value":10},{"op":"remove","path":"/~1"}]"#, #"{"~1":10}"#),
            // add in place of what is there; the whole text; null is a value; copies
            (#"{"a":1}"#, #"[{"op":"add","path":"/a","value":2}]"#, #"{"a":2}"#),
            (#"{"a":1}"#, #"[{"op":"replace","path":"","value":[7]}]"#, "[7]"),
            (#"{"a":1}"#, #"[{"op":"add","path":"","value":{"b":1}}]"#, #"{"b":1}"#),
            (
                #"{"a":null}"#, #"[{"op":"test","path":"/a","value":null},{"op":"add","path":"/b","value":null}]"#,
                #"{"a":null,"b":null}"#
            ),
            (
                #"{"a":{"b":1}}"#, #"[{"op":"copy","from":"/a","path":"/c"},{"op":"replace","path":"/c/b","value":2}]"#,
                #"{"a":{"b":1},"c":{"b":2}}"#
            ),
            (#"{"a":1}"#, #"[{"op":"copy","from":"","path":"/b"}]"#, #"{"a":1,"b":{"a":1}}"#),
            (#"{"a":1}"#, #"[{"op":"move","from":"/a","path":"/a"}]"#, #"{"a":1}"#),
            (#"{"":{"":1}}"#, #"[{"op":"replace","path":"//","value":2}]"#, #"{"":{"":2}}"#),
            (#"{"a":1}"#, "[]", #"{"a":1}"#),
            (" 5 ", #"[{"op":"test","path":"","value":5.0}]"#, "5"),
        ])
    func operations(text: String, patch: String, expected: String) throws { #expect(try patched(text, patch) == expected) }

    @Test("what isn't touched keeps its bytes: numbers, escapes, order, names that are written with escapes")
    func bytesStay() throws {
        let text =
            #"{"z": 1.10, "\u0061": {"n": [1e300, -0, 12345678901234567890.123, 1.0E+2], "s": "\u00fc \/ ü"},"m":{ "keep" :  1.50 }}"#
        #expect(
            try patched(text, #"[{"op":"add","path":"/a/new","value": 2.50}]"#)
                == #"{"z":1.10,"\u0061":{"n":[1e300, -0, 12345678901234567890.123, 1.0E+2],"s":"\u00fc \/ ü","new":2.50},"m":{ "keep" :  1.50 }}"#
        )
        // A new name is written as JSON wants it.
        #expect(try patched("{}", #"[{"op":"add","path":"/q\"\\\n","value":1}]"#) == #"{"q\"\\\u000a":1}"#)
    }

    @Test(
        "equal by what they mean",
        arguments: [
            ("1", "1.0", true), ("100", "1e2", true), ("0.1", "1E-1", true), ("-0", "0.00", true), ("1", "-1", false),
            ("12345678901234567890", "12345678901234567891", false), ("1.10", "1.1", true), ("10", "1", false),
            ("1", "\"1\"", false),
            (#""\u00e9""#, "\"é\"", true), ("\"é\"", "\"e\u{301}\"", false), ("[1,2]", "[2,1]", false),
            ("[1,[2]]", "[1.0,[2]]", true),
            (#"{"a":1,"b":2}"#, #"{ "b":2.0, "a":1 }"#, true), (#"{"a":1}"#, #"{"a":1,"b":2}"#, false), ("true", "false", false),
            ("null", "null", true), ("null", "false", false), ("{}", "[]", false), (#"{"a":1,"a":1}"#, #"{"a":1,"b":1}"#, false),
        ])
    func equality(left: String, right: String, isEqual: Bool) {
        let found = problem("{\"v\":\(left)}", "[{\"op\":\"test\",\"path\":\"/v\",\"value\":\(right)}]")
        #expect((found == nil) == isEqual)
    }

    @Test(
        "what can't be done is said, and which operation it was; nothing of the text",
        arguments: [
            ("/b/c", "remove", JSONPatchError.Problem.isMissing), ("/a/3", "remove", .noIndex), ("/a/-", "remove", .noIndex),
            ("/a/01", "remove", .noIndex), ("/a/1e0", "remove", .noIndex), ("/a/ 1", "remove", .noIndex),
            ("", "remove", .isWhole),
            ("/s/0", "remove", .isMissing), ("/twice", "remove", .isAmbiguous), ("/missing", "remove", .isMissing),
        ])
    func refusals(path: String, kind: String, expected: JSONPatchError.Problem) throws {
        let text = #"{"a":[1,2,3],"s":"secret","twice":1,"twice":2}"#
        let error = try #require(
            problem(text, "[{\"op\":\"test\",\"path\":\"/s\",\"value\":\"secret\"},{\"op\":\"\(kind)\",\"path\":\"\(path)\"}]"))
        guard case .failed(2, .remove, _, expected) = error else {
            Issue.record("\(error)")
            return
        }
        #expect(error.description.contains("operation 2") && !error.description.contains("secret"))
    }

    @Test("adding and moving where nothing can be; all or nothing")
    func addingNowhere() {
        func problem(_ patch: String) -> JSONPatchError.Problem? {
            guard case .failed(_, _, _, let problem) = self.problem(#"{"a":[1],"o":{"p":{}}}"#, patch) else { return nil }
            return problem
        }
        // A.12: what would hold it must be there.
        #expect(problem(#"[{"op":"add","path":"/x/y","value":1}]"#) == .isMissing)
        #expect(problem(#"[{"op":"add","path":"/a/2","value":1}]"#) == .noIndex)
        #expect(problem(#"[{"op":"replace","path":"/x","value":1}]"#) == .isMissing)
        #expect(problem(#"[{"op":"replace","path":"/a/1","value":1}]"#) == .noIndex)
        #expect(problem(#"[{"op":"move","from":"/o","path":"/o/p/q"}]"#) == .isInside)
        #expect(problem(#"[{"op":"move","from":"","path":"/o"}]"#) == .isInside)
        #expect(problem(#"[{"op":"copy","from":"/x","path":"/y"}]"#) == .isMissing)
        // A.9: a test that fails ends it.
        #expect(problem(#"[{"op":"test","path":"/a/0","value":2}]"#) == .isDifferent)
        let doubling = "[" + (0..<60).map { "{\"op\":\"copy\",\"from\":\"\",\"path\":\"/c\($0)\"}" }.joined(separator: ",") + "]"
        #expect(problem(doubling) == .isTooLarge)
    }

    @Test(
        "patches that are none, and how that is said",
        arguments: [
            ("", "no JSON"), ("[", "no JSON"), ("{}", "no array"), ("[1]", "operation 1 of the patch is no object"),
            ("[],[]", "no JSON"), (#"[],"x":[]"#, "no JSON"), ("[]}", "no JSON"),
            (#"[{"op":"spam","path":""}]"#, "no \"op\""), (#"[{"path":""}]"#, "no \"op\""),
            (#"[{"op":"remove"}]"#, "no \"path\""),
            (#"[{"op":"remove","path":"a"}]"#, "no JSON pointer"), (#"[{"op":"remove","path":"/~2"}]"#, "no JSON pointer"),
            (#"[{"op":"remove","path":"/~"}]"#, "no JSON pointer"), (#"[{"op":"add","path":"/a"}]"#, "no \"value\""),
            (#"[{"op":"move","path":"/a"}]"#, "no \"from\""), (#"[{"op":"move","from":"a","path":"/a"}]"#, "no JSON pointer"),
            (#"[{"op":1,"path":"/a"}]"#, "no string"),
            // A.13
            (#"[{"op":"add","path":"/a","value":1,"op":"remove"}]"#, "two members"),
        ])
    func malformed(patch: String, part: String) {
        let error = problem("{}", patch)
        #expect(error?.description.contains(part) == true, "\(error?.description ?? "taken")")
    }

    @Test("a text that is no JSON can't be patched")
    func brokenText() {
        #expect(problem(#"{"a":"#, "[]") == .documentNotJSON)
        #expect(problem(#"{"a":1} {"b":1}"#, "[]") == .documentNotJSON)
    }

    @Test("pointers are written as they are read")
    func pointers() throws {
        for text in ["", "/", "/a/b", "/a~1b/~0", "/ü/0/-"] { #expect(try #require(JSONPointer(text)).description == text) }
    }

    /// Random documents: what is added can be tested, copied, and removed again, after which the text is what it was.
    @Test("add, test, move there and back, remove: the same text as before")
    func thereAndBack() throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SplitMix64(state: seed)
        for _ in 0..<300 {
            let value = randomValue(&generator, depth: 0)
            let added = randomValue(&generator, depth: 2)
            let text = "{\"v\":\(value),\"w\":[\(value)]}"
            let patch = """
                [{"op":"add","path":"/w/0","value":\(added)},{"op":"test","path":"/w/0","value":\(added)},
                 {"op":"test","path":"/w/1","value":\(value)},{"op":"move","from":"/w/0","path":"/x"},
                 {"op":"copy","from":"/v","path":"/y"},{"op":"test","path":"/y","value":\(value)},
                 {"op":"remove","path":"/x"},{"op":"remove","path":"/y"}]
                """
            #expect(try patched(text, patch) == text, "seed \(seed)")
        }
    }

    private func randomValue(_ generator: inout SplitMix64, depth: Int) -> String {
        switch Int.random(in: 0..<(depth < 4 ? 7 : 5), using: &generator) {
        case 0: return "\(Int.random(in: -1000...1000, using: &generator)).\(Int.random(in: 0...99, using: &generator))"
        case 1: return #""a\u00fc\"\\ ~/""#
        case 2: return "true"
        case 3: return "null"
        case 4: return "\(UInt64.random(in: .min ... .max, using: &generator))"
        case 5:
            let elements = (0..<Int.random(in: 0...3, using: &generator)).map { _ in randomValue(&generator, depth: depth + 1) }
            return "[" + elements.joined(separator: ",") + "]"
        default:
            let members = (0..<Int.random(in: 0...3, using: &generator)).map {
                "\"k\($0)\":" + randomValue(&generator, depth: depth + 1)
            }
            return "{" + members.joined(separator: ",") + "}"
        }
    }
}
