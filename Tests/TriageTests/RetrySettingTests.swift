import Testing
import Triage
import TriageProcessing

@Suite("Settings of retries, storms and duplicates")
struct RetrySettingTests {
    private let created = "fhir.Patient.created"

    private func load(_ environment: [String: String] = [:], file: String? = nil) async throws -> Configuration {
        try await ConfigurationLoader(environment: environment, file: file).configuration()
    }

    private var expected: RetryPolicies {
        var policies = RetryPolicies(
            RetryPolicy(retries: 5, immediate: 1, base: .seconds(2), cap: .seconds(300), jitter: 0.1, limit: .seconds(7200)))
        policies.byClass[.system] = RetryPolicy.none
        policies.byClass[.transient] = RetryPolicy(retries: 10, base: .milliseconds(500))
        policies.byTopic["fhir.Patient.deleted"] = RetryPolicy(.immediate, retries: 2)
        policies.byTopic[created] = RetryPolicy(retries: 1)
        policies.byPlace[.init(topic: created, errorClass: .system)] = RetryPolicy(retries: 7, limit: .seconds(60))
        return policies
    }

    @Test("Policies for classes and topics, in one line each")
    func lines() async throws {
        let configuration = try await load([
            "TRIAGE_RETRY": "exponential:5,immediate=1,base=2s,cap=5m,jitter=0.1,limit=2h",
            "TRIAGE_RETRY_BY_CLASS": "system=none; transient=exponential:10,base=500ms",
            "TRIAGE_RETRY_BY_TOPIC":
                "fhir.Patient.deleted=immediate:2;\(created)=exponential:1;\(created)/system=exponential:7,limit=60s;",
        ])
        #expect(configuration.retries == expected)
        #expect(configuration.retry == expected.standard)
    }

    @Test("The same as a mapping in the file, as lines in the file, and mixed; the environment goes before either")
    func files() async throws {
        let mapping = """
            retry:
              strategy: exponential
              retries: 5
              immediate: 1
              base: 2s
              cap: 5m
              jitter: 0.1
              limit: 2h
            retry-by-class:
              system: none
              transient: {retries: 10, base: 500ms}
            retry-by-topic:
              fhir.Patient.deleted: immediate:2
              fhir.Patient.created:
                strategy: exponential
                retries: 1
              fhir.Patient.created/system: {retries: 7, limit: 60s}

            """
        try await withFile(mapping) { path in
            #expect(try await load(file: path).retries == expected)
            let environment = ["TRIAGE_RETRY": "none", "TRIAGE_RETRY_BY_TOPIC": "\(created)=none"]
            let policies = try await load(environment, file: path).retries
            #expect(policies.standard == .none && policies.byTopic == [created: .none] && policies.byPlace.isEmpty)
            #expect(policies.byClass == expected.byClass)
        }
        try await withFile("retry: none\nretry-by-class: system=none;transient=immediate:1\n") { path in
            let policies = try await load(file: path).retries
            #expect(policies.standard == .none)
            #expect(policies.byClass == [.system: .none, .transient: RetryPolicy(.immediate, retries: 1)])
        }
    }

    @Test(
        "What can't be used in a mapping is named",
        arguments: [
            ("retry:\n  bse: 1s\n", "retry.bse", ""), ("retry:\n  base: soon\n", "retry", "base=soon"),
            ("retry:\n  strategy: linear\n", "retry", "linear"), ("retry:\n  retries: many\n", "retry", "many"),
            ("retry:\n  base: [1s]\n", "retry.base", ""), ("retry:\n  base: 1s;x=none\n", "retry.base", "1s;x=none"),
            ("retry-by-class:\n  persistent: none\n", "retry-by-class", "persistent"),
            ("retry-by-class:\n  system: {base: 0}\n", "retry-by-class.system", "base=0"),
            ("retry-by-topic:\n  a.topic: none\n", "retry-by-topic", "a.topic"),
            ("retry-by-topic:\n  retries: 3\n", "retry-by-topic.retries", ""),
            ("retry-by-class:\n  system: {bases: 1s}\n", "retry-by-class.system.bases", "1s"),
            ("retry-by-topic:\n  fhir.Patient.created: {base: soon}\n", "retry-by-topic.fhir.Patient.created", "base=soon"),
            ("retry-by-topic:\n  fhir.Patient.created: {bases: 1s}\n", "retry-by-topic.fhir.Patient.created.bases", "1s"),
            ("retry: {base: null}\n", "retry.base", "null"), ("group: null\n", "group", "null"), ("group: ~\n", "group", "~"),
            ("topics: [a, ~]\n", "topics", "~"), ("outage-gate: {row: 3}\n", "outage-gate.row", ""),
        ])
    func refused(content: String, key: String, value: String) async throws {
        try await withFile(content) { path in
            let error = await refusal { _ = try await load(file: path) }
            #expect(error?.key == key)
            if !value.isEmpty { #expect(error?.value == value) }
            #expect(error?.expected.isEmpty == false)
        }
    }

    @Test(
        "Policies that contradict themselves are refused, with the part and what was expected",
        arguments: [
            ("retry", "exponential:3,base=1s,base=2s", "base=2s", "once"),
            ("retry", "exponential:3,base=2s,cap=1s", "exponential:3,base=2s,cap=1s", "cap 1 s is below base 2 s"),
            ("retry", "exponential:3,base=2m", "exponential:3,base=2m", "cap 1 min, the default, is below base 2 min"),
            ("retry", "exponential:3,immediate=4", "immediate=4", "at most the 3 retries"),
            ("retry-by-class", "system=none;system=immediate:1", "system=immediate:1", "system stands there twice"),
            ("storm-breaker", "pause=10m", "pause=10m", "pause-cap is 5 min, pause 10 min"),
            ("storm-breaker", "pause=2s,pause-cap=1s", "pause=2s,pause-cap=1s", "pause-cap is 1 s, pause 2 s"),
            ("storm-breaker", "share=0.2,share=0.3", "share=0.3", "share stands there twice"),
            ("outage-gate", "probe=31s", "probe=31s", "probe-cap is 30 s, probe 31 s"),
            ("outage-gate", "row=1,row=2", "row=2", "row stands there twice"),
        ])
    func contradictions(key: String, text: String, value: String, expected: String) async throws {
        let error = await refusal { _ = try await load(["TRIAGE_" + key.uppercased().replacing("-", with: "_"): text]) }
        #expect(error?.key == key && error?.value == value)
        #expect(error?.expected.contains(expected) == true, "\(error?.expected ?? "")")
    }

    @Test("What is just within the bounds of one another is taken")
    func bounds() async throws {
        #expect(try ConfigurationLoader.retryPolicy("exponential:3,immediate=3,base=1m").immediate == 3)
        #expect(try ConfigurationLoader.stormPolicy("pause=5m")?.pause == .seconds(300))
        #expect(try ConfigurationLoader.outagePolicy("probe=30s")?.probeDelay == .seconds(30))
    }

    @Test(
        "A file that holds nothing sets nothing",
        arguments: ["", "\n", "# a comment\n\n  # another\n", "---\n...\n", "--- # none\n"])
    func empty(content: String) async throws {
        try await withFile(content) { path in
            let configuration = try await load(file: path)
            #expect(configuration.group == "triage" && configuration.retries == RetryPolicies())
        }
    }

    @Test("A key that stands in a file twice is named", arguments: ["group: a\ngroup: b\n", "retry: {group: 1, group: 2}\n"])
    func twice(content: String) async throws {
        try await withFile(content) { path in
            let error = await refusal { _ = try await load(file: path) }
            #expect(error?.key == "--config" && error?.expected == "YAML with each key once: group stands there more than once")
        }
    }

    @Test("The storm breaker's grammar: what isn't named is the default, off is off")
    func stormBreaker() async throws {
        #expect(try await load().storm == StormPolicy())
        #expect(try await load(["TRIAGE_STORM_BREAKER": "off"]).storm == nil)
        #expect(try await load(["TRIAGE_STORM_BREAKER": "share=0.2"]).storm == StormPolicy(share: 0.2))
        let all = "share=0.25,events=40,window=2m,pause=250ms,pause-cap=10s"
        #expect(
            try ConfigurationLoader.stormPolicy(all)
                == StormPolicy(
                    share: 0.25, minimumEvents: 40, window: .seconds(120), pause: .milliseconds(250), maximumPause: .seconds(10)))
        // What the documents say the defaults are.
        #expect(try ConfigurationLoader.stormPolicy("share=0.5,events=200,window=60s,pause=10s,pause-cap=5m") == StormPolicy())
    }

    @Test("New traces and the window of duplicates: 0 switches them off")
    func rest() async throws {
        let none = try await load()
        #expect(none.newTraceAfter == .seconds(3600) && none.dedupeWindow == 0 && none.retries == RetryPolicies())
        let set = try await load(["TRIAGE_NEW_TRACE_AFTER": "90m", "TRIAGE_DEDUPE_WINDOW": "10000000"])
        #expect(set.newTraceAfter == .seconds(5400) && set.dedupeWindow == 10_000_000)
        #expect(try await load(["TRIAGE_NEW_TRACE_AFTER": "0"]).newTraceAfter == nil)
    }
}
