import Testing

@testable import TriageBridges

@Suite("What looks like a name from the source")
struct CodeNameTests {
    @Test(
        "passes",
        arguments: [
            "load", "index.update", "reindexPatient", "process orders", "GET", "GET /patients/{id}", "POST /v1/fhir/:id",
            "handle(_:_:)", "directory.handle(_:_:)", "db:query", "cache_miss", "cache-miss",
            "http_requests_total", "http.server.p99", "SELECT patients", "pg.query", "lowerCamelCase", "/*",
        ])
    func passes(name: String) { #expect(CodeName.isCodeLike(name)) }

    @Test(
        "is kept back",
        arguments: [
            "", " ", "load ", "Doe", "Jane Doe", "jane doe", "load Patient", "DOE", "Müller", "load patient 4711", "p-4711",
            "1970-01-01", "load Doe",
            "Doe.Jane", "load.Doe", "Doe.load", "load/Doe",
            "jane@example.org", "+49 170 1234567", "GET /patients/4711", "GET /patients/Doe", "/patients?name=doe", "a\nb",
            "a\0b",
            "5f0c8a53-9b1d-4f3e-8d9a-0a1b2c3d4e5f", "name: jane", "a b c d e f g", "{\"id\":1}", "load\u{200B}x", "x..y", "ab1",
            String(repeating: "a", count: 101),
        ])
    func isKeptBack(name: String) { #expect(!CodeName.isCodeLike(name)) }

    @Test("an error's type may be capitalised if it says that it is one")
    func errorTypes() {
        for type in ["ConnectionError", "timeout", "IOException", "NIO.ChannelError"] {
            #expect(CodeName.isErrorType(type), "\(type)")
        }
        for type in ["Doe", "No patient 4711 Error", "404 Error", ""] { #expect(!CodeName.isErrorType(type), "\(type)") }
    }

    @Test("random text of other alphabets, digits and signs never passes; whatever passes is short ASCII")
    func random() {
        let seed = UInt64.random(in: .min ... .max)
        var state = seed
        func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
        let alphabet = Array("abzAZ019 ._-/:{}()*@#%\"\n\u{0}äß漢")
        for _ in 0..<20_000 {
            let text = String((0..<(1 + next(12))).map { _ in alphabet[next(alphabet.count)] })
            guard CodeName.isCodeLike(text) else { continue }
            #expect(text.utf8.allSatisfy { (0x20...0x7E).contains($0) }, "seed \(seed): \(text)")
            #expect(!text.contains { $0 == "0" || $0 == "1" || $0 == "9" || $0 == "@" || $0 == "%" }, "seed \(seed): \(text)")
        }
    }
}
