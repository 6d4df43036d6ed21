import Testing
import Triage
import TriageProcessing

@Suite("Loading the configuration")
struct ConfigurationLoaderTests {
    func load(
        flags: [String: String] = [:], environment: [String: String] = [:], file: String? = nil
    ) async throws -> Configuration {
        try await ConfigurationLoader(flags: flags, environment: environment, file: file).configuration()
    }

    @Test("A file of authorities without a certificate is refused before anything connects")
    func authorities() async {
        for (environment, key) in [
            (["TRIAGE_FHIR_SERVER": "https://fhir.test", "TRIAGE_FHIR_CA_FILE": "/etc/passwd"], "fhir-ca-file"),
            (["TRIAGE_DELIVER_TO": "https://receiver.test", "TRIAGE_DELIVER_CA_FILE": "/etc/passwd"], "deliver-ca-file"),
        ] {
            let error = await refusal { _ = try await load(environment: environment) }
            #expect(error?.key == key && error?.expected == "a PEM file with at least one certificate")
        }
    }

    @Test("Nothing said: the defaults")
    func defaults() async throws {
        let configuration = try await load()
        #expect(configuration.kafka.bootstrapServers == "localhost:9092")
        #expect(configuration.group == "triage")
        #expect(configuration.topics == ["fhir.Patient.created", "fhir.Patient.updated", "fhir.Patient.deleted"])
        #expect(configuration.retry == RetryPolicy(.exponential, retries: 3, base: .seconds(1), cap: .seconds(60), jitter: 0.2))
        #expect(configuration.concurrency == 64)
        #expect(configuration.attemptTimeout == .seconds(60))
        #expect(configuration.gracePeriod == .seconds(30))
        #expect(configuration.commitInterval == .seconds(1))
        #expect(configuration.http == Configuration.HTTPAddress(host: "127.0.0.1", port: 9464))
        #expect(!configuration.endsWhenIdle)
    }

    @Test("Flags go over the environment, that over the file, that over the defaults")
    func layers() async throws {
        try await withFile("group: file\nconcurrency: 5\nhttp: off\nretry: none\n") { path in
            let configuration = try await load(
                flags: ["group": "flag"], environment: ["TRIAGE_GROUP": "variable", "TRIAGE_CONCURRENCY": "7"], file: path
            )
            #expect(configuration.group == "flag")
            #expect(configuration.concurrency == 7)
            #expect(configuration.http == nil)
            #expect(configuration.retry == .none)
            #expect(configuration.attemptTimeout == .seconds(60))
        }
    }

    @Test("The instance's name makes the member static; without it the group gives a name")
    func instance() async throws {
        #expect(try await load().kafka.groupInstanceID == nil)
        #expect(try await load(environment: ["TRIAGE_INSTANCE_ID": "triage-0"]).kafka.groupInstanceID == "triage-0")
    }

    @Test("What is empty counts as not set in every layer, so the next one is asked")
    func empty() async throws {
        try await withFile("group: file\n") { path in
            let configuration = try await load(flags: ["group": ""], environment: ["TRIAGE_GROUP": ""], file: path)
            #expect(configuration.group == "file")
        }
    }

    @Test(
        "Every key of the list is understood in the environment and in the file",
        arguments: [
            ("brokers", "a:1,b:2"), ("group", "g"), ("instance-id", "pod-0"), ("topics", "t.one,t.two"), ("retry", "immediate:2"),
            ("ordering", "none"), ("dead-letters", "sequence"),
            ("outage-gate", "row=5"),
            ("retry-by-class", "system=none;transient=immediate:2"), ("retry-by-topic", "fhir.Patient.created=none"),
            ("new-trace-after", "2h"), ("storm-breaker", "share=0.2"), ("dedupe-window", "1000"),
            ("concurrency", "9"),
            ("attempt-timeout", "0"), ("grace-period", "5m"), ("commit-interval", "250ms"), ("http", "127.0.0.1:0"),
            ("log-format", "json"), ("log-level", "debug"), ("log-export-labels", "a,b"), ("log-export-metadata", "k"),
            ("identifiers", "plain"), ("identifier-key-file", "key.bin"), ("failure-trace-limit", "0"),
            ("fhir-server", "https://fhir.test/r4"), ("fhir-token-file", "t"), ("fhir-user", "u"), ("fhir-password-file", "p"),
            ("fhir-ca-file", "ca.pem"), ("fhir-timeout", "5s"), ("commands", "true"), ("command-events", "publish"),
            ("deliver-to", "https://receiver.test/in"), ("deliver-timeout", "5s"), ("deliver-concurrency", "8"),
            ("deliver-rate", "50"), ("deliver-signature-key-file", "k"), ("deliver-ca-file", "ca.pem"),
            ("deliver-token-file", "t"),
            ("listen", "127.0.0.1:0"), ("listen-certificate", "a.pem"), ("listen-key", "a.key"), ("listen-max-connections", "5"),
            ("listen-header-timeout", "2s"), ("listen-body-timeout", "3s"), ("access-log", "off"), ("accept-commands", "true"),
            ("command-token-file", "token"), ("command-trust", "link"),
            ("webhooks", "true"), ("webhook-token-file", "t"), ("webhook-header", "X-Key=@k"), ("webhook-max-body", "4096"),
            ("webhook-trust", "link"), ("webhook-timeout", "5s"), ("webhook-history", "1s"), ("webhook-commands", "true"),
            ("jaeger-url", "http://jaeger.test:16686"), ("tempo-url", "http://tempo.test:3200"),
            ("grafana-url", "https://g.test"),
            ("grafana-tempo-uid", "t1"), ("trace-headers-file", "h"), ("trace-ca-file", "ca.pem"),
            ("console", "on"), ("console-hosts", "triage.example.org"), ("console-token-file", "t"),
        ])
    func everyKey(key: String, value: String) async throws {
        let name = "TRIAGE_" + key.uppercased().replacing("-", with: "_")
        #expect(try await ConfigurationLoader(environment: [name: value]).text(key) == value)
        try await withFile("\(key): \"\(value)\"\n") { path in
            let text = try await ConfigurationLoader(environment: [:], file: path).text(key)
            #expect(text == value)
        }
        #expect(ConfigurationLoader.keys.map(\.key).contains(key))
    }

    @Test("The list of keys has no other")
    func keyCount() { #expect(ConfigurationLoader.keys.count == 74) }

    @Test("A list in the file is one too, spaces and repetitions don't matter")
    func lists() async throws {
        try await withFile("topics:\n  - a.one\n  - a.two\n  - a.one\n") { path in
            let topics = try await load(file: path).topics
            #expect(topics == ["a.one", "a.two"])
        }
        #expect(try await load(environment: ["TRIAGE_TOPICS": " a.one , a.two,,a.one"]).topics == ["a.one", "a.two"])
    }

    @Test("A key that nobody knows is refused, nested ones too")
    func unknownKey() async throws {
        try await withFile("group: g\nconcurency: 5\n") { path in
            let error = await refusal { _ = try await load(file: path) }
            #expect(error?.key == "concurency")
            #expect(error?.expected.hasPrefix("one of the keys brokers, group, instance-id, topics") == true)
        }
        try await withFile("outage-gate:\n  row: 5\n") { path in
            #expect(await refusal { _ = try await load(file: path) }?.key == "outage-gate.row")
        }
    }

    @Test("A file that can't be used is named", arguments: ["- a\n- b\n", "just text", "a: [1", "a: 1\na: 2\n"])
    func badFile(content: String) async throws {
        try await withFile(content) { path in
            let error = await refusal { _ = try await load(file: path) }
            #expect(error?.key == "--config" && error?.value == path)
        }
        let missing = await refusal { _ = try await load(file: "/nowhere/triage.yaml") }
        #expect(missing?.description == "--config=/nowhere/triage.yaml: expected a file that exists and can be read")
        let broken = await refusal {
            try await withFile("group: a\nbrokers: [secret\n") { _ = try await load(file: $0) }
        }
        #expect(broken?.expected.hasPrefix("YAML with a mapping at the top (line 3, column ") == true)
        #expect(broken?.description.contains("secret") == false)
    }

    @Test(
        "Every rejected value names key, value and what was expected",
        arguments: [
            ("brokers", "localhost:notaport"), ("brokers", "a:9092,b:0"), ("brokers", ","), ("brokers", "http://a:9092"),
            ("brokers", "a b:1"),
            ("topics", "a/b"), ("topics", "fhir.Patient.created.retry"), ("topics", "a.dlq"), ("topics", ".."), ("topics", ","),
            ("outage-gate", "on"), ("outage-gate", "row=-1"), ("outage-gate", "ratio=1.5"), ("outage-gate", "attempts=0"),
            ("outage-gate", "window=10ms"), ("outage-gate", "probe=0"), ("outage-gate", "probe-cap=soon"),
            ("outage-gate", "rows=3"), ("outage-gate", "row=3,,ratio=1"), ("retry", "sometimes"), ("ordering", "some"),
            ("dead-letters", "hold"),
            ("retry", "scheduled:3"),
            ("retry-by-class", "none"), ("retry-by-class", "persistent=none"), ("retry-by-class", "system=linear"),
            ("retry-by-class", "system=none;system=none"), ("retry-by-topic", "a.topic=none"),
            ("retry-by-topic", "fhir.Patient.created/persistent=none"), ("retry-by-topic", "fhir.Patient.created/=none"),
            ("retry-by-topic", "fhir.Patient.created=exponential:3,base=soon"), ("new-trace-after", "soon"),
            ("storm-breaker", "on"), ("storm-breaker", "share=0"), ("storm-breaker", "share=1.1"),
            ("storm-breaker", "events=0"), ("storm-breaker", "window=10ms"), ("storm-breaker", "pause=0"),
            ("storm-breaker", "pause-cap=x"), ("storm-breaker", "shares=1"), ("storm-breaker", "share=1,"),
            ("dedupe-window", "-1"), ("dedupe-window", "10000001"), ("dedupe-window", "1k"),
            ("instance-id", "pod 0"), ("instance-id", ".."), ("instance-id", String(repeating: "p", count: 250)),
            ("concurrency", "0"), ("concurrency", "10001"),
            ("concurrency", "many"),
            ("attempt-timeout", "60"), ("attempt-timeout", "-1s"), ("grace-period", "soon"), ("commit-interval", "1ms"),
            ("commit-interval", "0"), ("http", "localhost"), ("http", "127.0.0.1:65536"), ("http", "127.0.0.1:-1"), ("http", ""),
        ])
    func rejected(key: String, value: String) async throws {
        let name = "TRIAGE_" + key.uppercased().replacing("-", with: "_")
        let error = await refusal { _ = try await load(environment: [name: value]) }
        if value.isEmpty {
            #expect(error == nil)
        } else {
            // Of policies by name the key says whose.
            #expect(error?.key == key || error?.key.hasPrefix("\(key).") == true)
            #expect(error.map { value.contains($0.value) || $0.value.isEmpty } == true)
            #expect(error?.expected.isEmpty == false)
        }
    }

    @Test("The outage gate's grammar: what isn't named is the default, off is off")
    func outageGate() async throws {
        #expect(try await load().outage == OutagePolicy())
        #expect(try await load(environment: ["TRIAGE_OUTAGE_GATE": "off"]).outage == nil)
        #expect(try await load(environment: ["TRIAGE_OUTAGE_GATE": "row=0"]).outage == OutagePolicy(failuresInRow: 0))
        let all = "row=5,ratio=0.25,attempts=40,window=2m,probe=250ms,probe-cap=10s"
        #expect(
            try await load(flags: ["outage-gate": all], environment: ["TRIAGE_OUTAGE_GATE": "off"]).outage
                == OutagePolicy(
                    failuresInRow: 5, failureRatio: 0.25, minimumAttempts: 40, window: .seconds(120),
                    probeDelay: .milliseconds(250), maximumProbeDelay: .seconds(10)))
        // What the documents say the defaults are.
        let said = "row=20,ratio=0.5,attempts=100,window=60s,probe=1s,probe-cap=30s"
        #expect(try ConfigurationLoader.outagePolicy(said) == OutagePolicy())
    }

    @Test("A topic's name is as long as Kafka allows with `.retry` behind it")
    func topicLength() async throws {
        let longest = String(repeating: "t", count: 243)
        #expect(try await load(environment: ["TRIAGE_TOPICS": longest]).topics == [longest])
        #expect(await refusal { _ = try await load(environment: ["TRIAGE_TOPICS": longest + "t"]) }?.key == "topics")
    }

    @Test(
        "The retry policy's grammar",
        arguments: [
            ("none", RetryPolicy.none), ("immediate", RetryPolicy(.immediate)),
            ("immediate:0", RetryPolicy(.immediate, retries: 0)),
            ("immediate:5", RetryPolicy(.immediate, retries: 5)), ("exponential", RetryPolicy()),
            ("exponential:7", RetryPolicy(retries: 7)),
            ("exponential:2,base=250ms", RetryPolicy(retries: 2, base: .milliseconds(250))),
            (
                "exponential:100,base=2s,cap=5m,jitter=0",
                RetryPolicy(retries: 100, base: .seconds(2), cap: .seconds(300), jitter: 0)
            ),
            ("exponential,jitter=1", RetryPolicy(jitter: 1)),
            ("exponential:5,immediate=2,limit=1h", RetryPolicy(retries: 5, immediate: 2, limit: .seconds(3600))),
            ("immediate:3,limit=10s", RetryPolicy(.immediate, retries: 3, limit: .seconds(10))),
        ])
    func retryPolicy(text: String, policy: RetryPolicy) throws {
        #expect(try ConfigurationLoader.retryPolicy(text) == policy)
    }

    @Test(
        "What the retry policy's grammar refuses, by the part that is wrong",
        arguments: [
            ("", ""), ("exponential:", "exponential:"), ("linear:3", "linear:3"), ("scheduled", "scheduled"),
            ("immediate:-1", "-1"),
            ("immediate:101", "101"), ("exponential:3.5", "3.5"), ("immediate:3,base=1s", "base=1s"),
            ("exponential:3,base", "base"),
            ("exponential:3,base=0", "base=0"), ("exponential:3,base=1", "base=1"), ("exponential:3,cap=x", "cap=x"),
            ("exponential:3,jitter=1.5", "jitter=1.5"), ("exponential:3,jitter=nan", "jitter=nan"),
            ("exponential:3,factor=2", "factor=2"), ("exponential:3,immediate=-1", "immediate=-1"),
            ("exponential:3,limit=0", "limit=0"), ("immediate:3,immediate=1", "immediate=1"),
        ])
    func badRetryPolicy(text: String, part: String) async {
        let error = await refusal { _ = try ConfigurationLoader.retryPolicy(text) }
        if text == "exponential:" {
            // A colon without a number is read as the name alone.
            #expect(error == nil)
        } else {
            #expect(error?.key == "retry")
            #expect(error?.value == part)
        }
    }

    @Test(
        "Durations",
        arguments: [
            ("0", Duration.zero), ("0s", .zero), ("250ms", .milliseconds(250)), ("1.5s", .milliseconds(1500)),
            ("5m", .seconds(300)),
            ("0.5h", .seconds(1800)), ("2h", .seconds(7200)), ("0.001ms", .microseconds(1)), ("8784h", .seconds(8784 * 3600)),
        ])
    func durations(text: String, duration: Duration) { #expect(Duration(triage: text) == duration) }

    @Test(
        "What is no duration, or one that no setting can mean",
        arguments: [
            "", "1", "s", "ms", "-1s", "+1s", "1 s", "1S", "1d", "1.2.3s", ".", ".s", "1e3s", "infs", "nans", "٣s", "½s", "8785h",
            "999999999m",
            "99999999999999999999999999h", "9223372036854775807s", "1s2",
        ])
    func badDurations(text: String) { #expect(Duration(triage: text) == nil) }

    @Test(
        "Addresses",
        arguments: [
            ("127.0.0.1:9464", "127.0.0.1", 9464), (":80", "127.0.0.1", 80), ("[::1]:0", "::1", 0), ("host:65535", "host", 65535),
        ])
    func addresses(text: String, host: String, port: Int) {
        let address = Configuration.HTTPAddress(text)
        #expect(address == Configuration.HTTPAddress(host: host, port: port))
        #expect(address.map { "\($0)" } == (text.hasPrefix(":") ? "127.0.0.1\(text)" : text))
    }

    @Test("The limit of failure traces: a number from 0 to 1,000,000, or what it is by default")
    func failureTraceLimit() async throws {
        func limit(_ text: String) async throws -> Int? {
            try await ConfigurationLoader(environment: ["TRIAGE_FAILURE_TRACE_LIMIT": text]).failureTraceLimit()
        }
        #expect(try await limit("") == nil)
        #expect(try await limit("0") == 0)
        #expect(try await limit("1000000") == 1_000_000)
        for text in ["-1", "1000001", "many", "1.5"] {
            #expect(await refusal { _ = try await limit(text) }?.key == "failure-trace-limit")
        }
    }

    @Test("Identifiers: a key hashes, without one the caller decides, and hears why")
    func identifiers() async throws {
        func policy(_ values: [String: String]) async throws -> (String, [String]) {
            var warnings: [String] = []
            let found = try await ConfigurationLoader(flags: values, environment: [:]).identifierPolicy { warnings.append($0) }
            let name =
                switch found {
                case nil: "nothing"
                case .omitted: "omitted"
                case .plain: "plain"
                case .hashed: "hashed"
                }
            return (name, warnings)
        }
        try await withFile(String(repeating: "k", count: 32)) { path in
            for (word, expected) in [(nil, "hashed"), ("hashed", "hashed"), ("plain", "plain")] {
                let found = try await policy(["identifiers": word ?? "", "identifier-key-file": path])
                #expect(found == (expected, []))
            }
        }
        #expect(try await policy([:]) == ("nothing", []))
        #expect(try await policy(["identifiers": "omitted"]) == ("omitted", []))
        let (name, warnings) = try await policy(["identifiers": "hashed"])
        #expect(name == "nothing" && warnings.count == 1)
        #expect(await refusal { _ = try await policy(["identifiers": "masked"]) }?.key == "identifiers")
        await #expect(throws: (any Error).self) { try await policy(["identifier-key-file": "/nowhere/key"]) }
    }
}
