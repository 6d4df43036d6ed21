import Testing

@testable import TriageIngress

@Suite("Markup")
struct HTMLTests {
    @Test("Text is escaped, markup isn't twice, numbers are numbers")
    func escaping() {
        let name = "<img src=x onerror='a'>\"&`"
        let inner: HTML = "<b>\(name)</b>"
        let html: HTML = "<p title=\"\(name)\">\(inner) \(7) \([inner, "<i></i>"])</p>"
        let escaped = "&lt;img src=x onerror=&#39;a&#39;&gt;&quot;&amp;&#96;"
        #expect(html.text == "<p title=\"\(escaped)\"><b>\(escaped)</b> 7 <b>\(escaped)</b><i></i></p>")
    }

    @Test("What could hide or turn text is replaced, other scripts aren't")
    func controls() {
        let html: HTML = "\("a\u{0}b\u{1B}[31m\u{202E}c\u{2028}\u{85}é漢😀\u{2066}\n\t")"
        #expect(html.text == "a\u{FFFD}b\u{FFFD}[31m\u{FFFD}c\u{FFFD}\u{FFFD}é漢😀\u{FFFD}\n\t")
    }

    @Test("An address is a path of this site or one of http and https")
    func addresses() {
        for good in ["/console/a?b=c", "#span", "http://jaeger:16686/trace/1", "HTTPS://g.example.org/"] {
            let html: HTML = "\(address: good)"
            #expect(html.text == good)
        }
        for bad in [
            "javascript:alert(1)", " javascript:alert(1)", "data:text/html,x", "//evil.org", "/\\evil.org", "vbscript:x", "evil",
        ] {
            let html: HTML = "\(address: bad)"
            #expect(html.text == "#")
        }
        let quoted: HTML = "\(address: "https://g/?a=\"b\"&c")"
        #expect(quoted.text == "https://g/?a=&quot;b&quot;&amp;c")
    }

    @Test("Whatever the text, no markup comes of it")
    func random() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var state = seed
        func next(_ below: UInt64) -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state >> 33) % below
        }
        let pieces = ["<", ">", "\"", "'", "&", "`", "\u{0}", "\u{202E}", "é", "a", "=", "/", "&amp;", "]]>", "<!--", "\n"]
        for _ in 0..<2000 {
            let text = (0..<next(12)).map { _ in pieces[Int(next(UInt64(pieces.count)))] }.joined()
            let html: HTML = "\(text)"
            #expect(!html.text.contains { "<>\"'`".contains($0) }, "seed \(seed): \(text.debugDescription)")
            #expect(!html.text.unicodeScalars.contains("\u{202E}"), "seed \(seed)")
        }
    }
}
