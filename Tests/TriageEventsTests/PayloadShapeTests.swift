import Testing

@testable import TriageEvents

@Suite("Payload shapes")
struct PayloadShapeTests {
    private func shape(_ text: String, lines: Int = 200, depth: Int = 24) throws -> PayloadShape {
        let value = try #require(JSONValue(ByteSlice(text)))
        return PayloadShape(of: value, maximumLines: lines, maximumDepth: depth)
    }

    @Test("paths and types, no values, no names that aren't FHIR's")
    func plain() throws {
        let shape = try shape(
            """
            {"type":"PatientCreated","data":{"resourceType":"Patient","name":[{"family":"MARKER","given":["MARKER","b"]},{"family":null}],
            "_birthDate":{"extension":[{"url":"u","valueDateTime":"1970"}]},"MARKER":{"MARKER":1},"active":true,"x":-1.5e3}}
            """)
        #expect(
            shape.lines.map { "\($0.path) \($0.kind) \($0.count)" } == [
                " object 1", "type string 1", "data object 1", "data.resourceType string 1", "data.name array 1",
                "data.name[] object 2", "data.name[].family string 1", "data.name[].given array 1",
                "data.name[].given[] string 2",
                "data.name[].family null 1", "data._birthDate object 1", "data._birthDate.extension array 1",
                "data._birthDate.extension[] object 1", "data._birthDate.extension[].url string 1",
                "data._birthDate.extension[].valueDateTime string 1", "data._OTHER object 1", "data._OTHER._OTHER number 1",
                "data.active boolean 1", "data._OTHER number 1",
            ])
        #expect(!shape.isCut)
    }

    @Test("an escaped name isn't a way around the vocabulary, and what is deep or wide is cut")
    func bounded() throws {
        #expect(try shape(#"{"\u006eame":1}"#).lines.last?.path == "_OTHER")
        let deep = String(repeating: "[", count: 5000) + String(repeating: "]", count: 5000)
        #expect(try shape(deep).isCut && shape(deep).lines.count == 25)
        let wide = "[" + (0..<50_000).map(String.init).joined(separator: ",") + "]"
        #expect(try shape(wide).isCut)
        #expect(try shape(#"{"id":1,"name":2,"active":3}"#, lines: 2).lines.count == 2)
    }

    @Test("A shape travels as text; foreign text is none")
    func text() throws {
        let value = try #require(
            JSONValue(
                ByteSlice(#"{"resourceType":"Patient","name":[{"family":"Z","_given":[null,"a"]},{"family":1,"Zoe":true}]}"#)))
        let shape = PayloadShape(of: value)
        let text = shape.text()
        #expect(
            text == """
                object; resourceType string; name array; name[] object x2; name[].family string; name[]._given array; \
                name[]._given[] null; name[]._given[] string; name[].family number; name[]._OTHER boolean
                """)
        #expect(PayloadShape(text: text) == shape)
        for limit in [60, 100, 150] {
            let short = shape.text(maximumBytes: limit)
            #expect(short.utf8.count <= limit && short.hasSuffix("; ..."))
            let read = try #require(PayloadShape(text: short))
            #expect(read.isCut && shape.lines.starts(with: read.lines))
        }
        let array = try #require(JSONValue(ByteSlice("[[1],2]")))
        #expect(PayloadShape(text: PayloadShape(of: array).text()) == PayloadShape(of: array))
        for foreign in [
            "", "Zoe", "Zoe string", "name.Zoe string", "name string x1", "name string x-2", "name  string",
            "object; ...; object",
            "name str", "name[]] string", "name string string", "object;",
        ] {
            #expect(PayloadShape(text: foreign) == nil, "\(foreign)")
        }
    }

    @Test("Base64 is written as it is read")
    func base64() {
        // RFC 4648 §10.
        let vectors = [
            "": "", "f": "Zg==", "fo": "Zm8=", "foo": "Zm9v", "foob": "Zm9vYg==", "fooba": "Zm9vYmE=", "foobar": "Zm9vYmFy",
        ]
        for (clear, encoded) in vectors {
            var text = TextBytes()
            text.append(base64: ByteSlice(clear))
            #expect(text.text == encoded)
            #expect(Base64.decode(ByteSlice(encoded)) == ByteSlice(clear))
        }
        let all = ByteSlice((0..<256).map { UInt8($0) })
        var text = TextBytes()
        text.append(base64: all)
        #expect(Base64.decode(text.slice) == all)
    }
}
