import Logging
import Testing
import Triage
import TriageTelemetry

@Suite("Settings and what they belong to")
struct SettingPartsTests {
    private func check(_ flags: [String: String], file: String? = nil) async -> ConfigurationError? {
        await refusal {
            if let file {
                try await withFile(file) { path in
                    try await ConfigurationLoader(flags: flags, environment: [:], file: path).checkParts()
                }
            } else {
                try await ConfigurationLoader(flags: flags, environment: [:]).checkParts()
            }
        }
    }

    @Test(
        "A setting without its part is refused by its name, and what it needs is told",
        arguments: [
            ("webhook-token-file", "webhooks"), ("webhook-header", "webhooks"), ("webhook-timeout", "webhooks"),
            ("command-token-file", "accept-commands"), ("command-trust", "accept-commands"), ("command-events", "commands"),
            ("listen", "webhooks or accept-commands"),
            ("access-log", "webhooks or accept-commands"), ("fhir-server", "commands or webhooks"),
            ("pattern", "webhooks or change-data-topics or command-events"), ("grafana-tempo-uid", "grafana-url"),
            ("trace-headers-file", "jaeger-url or tempo-url"),
        ])
    func alone(key: String, needed: String) async throws {
        let error = try #require(await check([key: "secret"]))
        #expect(error.key == key && error.expected == "\(needed) beside it: it does nothing alone")
        #expect(!error.description.contains("secret"))
        #expect(await check([:], file: "\(key): secret\n")?.key == key)
        let part = String(needed.prefix { $0 != " " })
        #expect(await check([key: "secret", part: "true"]) == nil)
    }

    @Test("Nothing said is fine; a part that is said to be off may keep its settings")
    func off() async {
        #expect(await check([:]) == nil)
        #expect(await check(["group": "clinic", "retry": "none"]) == nil)
        #expect(await check([:], file: "webhooks: false\nwebhook-token-file: t\n") == nil)
        #expect(await check([:], file: "webhooks: false\naccept-commands: false\nlisten: 127.0.0.1:0\n") == nil)
    }

    @Test("Variables that are no settings are named, with what may have been meant")
    func variables() {
        let found = ConfigurationLoader.unknownVariables(in: [
            "TRIAGE_WEBHOKS": "true", "TRIAGE_GROUP": "g", "TRIAGE_CONFIG": "/etc/triage.yaml", "TRIAGE_EMPTY": "",
            "PATH": "/bin",
            "TRIAGE_WEBHOOK_TOKENFILE": "t",
        ])
        #expect(
            found.map(\.description) == [
                "TRIAGE_CONFIG", "TRIAGE_WEBHOKS (TRIAGE_WEBHOOKS?)", "TRIAGE_WEBHOOK_TOKENFILE (TRIAGE_WEBHOOK_TOKEN_FILE?)",
            ])
    }

    @Test("What Kubernetes sets for services called triage, or triage-something, is none of them")
    func serviceLinks() {
        let links = [
            "TRIAGE_SERVICE_HOST", "TRIAGE_SERVICE_PORT", "TRIAGE_SERVICE_PORT_HTTP", "TRIAGE_PORT", "TRIAGE_PORT_9464_TCP",
            "TRIAGE_PORT_9464_TCP_PROTO", "TRIAGE_PORT_9464_TCP_PORT", "TRIAGE_PORT_9464_TCP_ADDR",
            "TRIAGE_WEBHOOKS_SERVICE_HOST",
            "TRIAGE_WEBHOOKS_PORT_8088_TCP_ADDR",
        ]
        let environment = Dictionary(uniqueKeysWithValues: links.map { ($0, "10.0.0.1") })
        #expect(ConfigurationLoader.unknownVariables(in: environment).isEmpty)
    }

    @Test("Beyond loopback webhooks need a token or a header, and both are named")
    func open() async throws {
        var configuration = try await ConfigurationLoader(
            flags: ["webhooks": "true", "listen": "0.0.0.0:0", "events": "false", "http": "off"], environment: [:]
        ).configuration()
        let telemetry = Telemetry(TelemetryConfiguration(environment: ["OTEL_SDK_DISABLED": "true"], exportsByDefault: false))
        let refused = await refusal { [configuration] in _ = try TriageService(configuration, telemetry: telemetry, handler: nil)
        }
        #expect(
            refused?.key == "webhook-token-file" && refused?.expected.contains("or webhook-header beside it or instead") == true)
        configuration.webhooks = nil
        configuration.acceptedCommands = Configuration.AcceptedCommands()
        let other = await refusal { [configuration] in _ = try TriageService(configuration, telemetry: telemetry, handler: nil) }
        #expect(other?.key == "command-token-file" && other?.expected.contains("webhook-header") == false)
    }
}
