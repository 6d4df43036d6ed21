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
            ("retry-by-class:\n  system: {base: 0}\n", "retry-by-class", "base=0"),
            ("retry-by-topic:\n  a.topic: none\n", "retry-by-topic", "a.topic"),
            ("retry-by-topic:\n  retries: 3\n", "retry-by-topic.retries", ""),
        ])
    func refused(content: String, key: String, value: String) async throws {
        try await withFile(content) { path in
            let error = await refusal { _ = try await load(file: path) }
            #expect(error?.key == key)
            if !value.isEmpty { #expect(error?.value == value) }
            #expect(error?.expected.isEmpty == false)
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
