import Testing
import Triage

@Suite("The console's settings")
struct ConsoleSettingsTests {
    private func load(_ flags: [String: String]) async throws -> Configuration {
        try await ConfigurationLoader(flags: flags.merging(["brokers": "b:9092"]) { first, _ in first }, environment: [:])
            .configuration()
    }

    @Test("It is served where only this machine can reach it, unless somebody says otherwise")
    func isServed() async throws {
        for (http, console, isServed) in [
            (nil, nil, true), ("localhost:1", nil, true), ("[::1]:1", nil, true), ("0.0.0.0:1", nil, false),
            ("10.0.0.1:1", nil, false),
            ("0.0.0.0:1", "on", true), ("127.0.0.1:1", "off", false), ("off", nil, false), ("off", "on", false),
        ] as [(String?, String?, Bool)] {
            var flags: [String: String] = [:]
            flags["http"] = http
            flags["console"] = console
            #expect(try await load(flags).servesConsole == isServed, "\(flags)")
        }
    }

    @Test("Values that can't be used are named with what was expected; a token isn't told")
    func refusals() async throws {
        #expect(await refusal { _ = try await load(["console": "maybe"]) }?.key == "console")
        for name in ["a b", "http://", "x/y", "a:b", "ftp://x"] {
            #expect(await refusal { _ = try await load(["console-hosts": name]) }?.key == "console-hosts", "\(name)")
        }
        try await withFile("short\n") { path in
            #expect(await refusal { _ = try await load(["console-token-file": path]) }?.key == "console-token-file")
        }
        try await withFile("0123456789abcdef\nfedcba9876543210\n") { path in
            let error = await refusal { _ = try await load(["console-token-file": path]) }
            #expect(error?.key == "console-token-file" && error?.description.contains("0123") == false)
        }
        #expect(
            await refusal { _ = try await load(["console-hosts": "a", "http": "0.0.0.0:1"]) }?.expected.hasPrefix("console=on")
                == true)
    }

    @Test("Names and token are taken; one that is made isn't the one of the file")
    func values() async throws {
        try await withFile("0123456789abcdef\n") { path in
            var console = try await load([
                "console-hosts": "a.example.org, https://b.example.org:8443", "console-token-file": path,
            ]).console
            #expect(console.hosts == ["a.example.org", "https://b.example.org:8443"] && console.token == "0123456789abcdef")
            console.makeToken(if: true)
            #expect(console.token == "0123456789abcdef" && !console.isTokenMade)
        }
        var made = try await load([:]).console
        made.makeToken(if: false)
        #expect(made.token == nil)
        made.makeToken(if: true)
        #expect(made.isTokenMade && made.token?.utf8.count == 48)
    }
}
