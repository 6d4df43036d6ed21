import ArgumentParser
import Logging
import Testing
import Triage

@testable import TriageCommand

@Suite("What is typed")
struct ParsingTests {
    func parse<Command: ParsableCommand>(_ type: Command.Type, _ words: String) throws -> Command {
        let parsed = try TriageCommand.parseAsRoot(words.split(separator: " ").map(String.init))
        return try #require(parsed as? Command)
    }

    func refusal(_ words: String) -> String? {
        do {
            _ = try TriageCommand.parseAsRoot(words.split(separator: " ").map(String.init))
            return nil
        } catch {
            #expect(TriageCommand.exitCode(for: error).rawValue == 64)
            return TriageCommand.message(for: error)
        }
    }

    @Test("demo: defaults")
    func demoDefaults() throws {
        let demo = try parse(DemoCommand.self, "demo")
        #expect(demo.events == 1000 && demo.rate == nil && demo.seed == 1 && demo.transient == 0.05 && demo.persistent == nil)
        #expect(demo.output == .text && !demo.serve && demo.http == nil && demo.log.logLevel == nil)
    }

    @Test("demo: flags")
    func demoFlags() throws {
        let demo = try parse(
            DemoCommand.self,
            "demo --events 7 --seed 18446744073709551615 --transient 0 --persistent 1 -o json --serve --http :0 --log-level debug "
                + "--rate 2.5"
        )
        #expect(demo.rate == 2.5 && demo.events == 7 && demo.seed == .max && demo.transient == 0 && demo.persistent == 1)
        #expect(demo.output == .json && demo.serve && demo.http == ":0" && demo.log.logLevel == .debug)
    }

    @Test(
        "demo: what it refuses, and the flag is named",
        arguments: [
            ("--events 0", "--events"), ("--events 100000001", "--events"), ("--events many", "events"),
            ("--transient 1.1", "--transient"),
            ("--persistent nan", "--persistent"), ("--transient -0.1", "transient"),
            ("--transient 0.6 --persistent 0.6", "at most 1 together"), ("--http 127.0.0.1:1", "--serve"),
            ("--rate 0", "--rate"), ("--rate nan", "--rate"), ("--http 9464", "--http"), ("-o xml", "xml"), ("--seed -1", "seed"),
            ("--sed 1", "--sed"), ("extra", "extra"),
        ])
    func demoRefuses(words: String, part: String) { #expect(refusal("demo \(words)")?.contains(part) == true) }

    @Test("run: defaults leave everything to the layers below")
    func runDefaults() throws {
        let run = try parse(RunCommand.self, "run")
        #expect(
            run.broker.brokers == nil && run.broker.properties == [] && run.broker.config == nil && run.broker.log.logLevel == nil
        )
        #expect(
            run.group == nil && run.instanceID == nil && run.topics == [] && run.handler == nil && run.retry == nil
                && run.concurrency == nil)
        #expect(run.attemptTimeout == nil && run.gracePeriod == nil && run.commitInterval == nil && run.http == nil)
        #expect(run.identifiers == nil && run.identifierKeyFile == nil && !run.exitAtEnd && run.output == .text)
    }

    @Test("run: flags, short and long")
    func runFlags() throws {
        let run = try parse(
            RunCommand.self,
            """
            run -b a:1,b:2 -g clinic -t one --topic two --handler none --retry immediate:2 --outage-gate off --concurrency 8 \
            --attempt-timeout 5s --instance-id pod-0 \
            --grace-period 1m --commit-interval 100ms --http off --identifiers plain --identifier-key-file k -e -o json \
            -X security.protocol=SSL -X client.id=x --config triage.yaml --log-level info
            """
        )
        #expect(
            run.broker.brokers == "a:1,b:2" && run.group == "clinic" && run.topics == ["one", "two"]
                && run.handler == BuiltInHandler.none)
        #expect(run.instanceID == "pod-0" && run.retry == "immediate:2" && run.outageGate == "off" && run.concurrency == "8")
        #expect(run.attemptTimeout == "5s" && run.gracePeriod == "1m")
        #expect(run.commitInterval == "100ms" && run.http == "off" && run.identifiers == "plain" && run.identifierKeyFile == "k")
        #expect(run.exitAtEnd && run.output == .json && run.broker.config == "triage.yaml" && run.broker.log.logLevel == .info)
        #expect(run.broker.properties == ["security.protocol=SSL", "client.id=x"])
        #expect(try run.broker.parsedProperties() == ["security.protocol": "SSL", "client.id": "x"])
        #expect(try parse(RunCommand.self, "run --brokers a:1 --group g --exit-at-end --output json").exitAtEnd)
    }

    @Test("publish")
    func publish() throws {
        let publish = try parse(
            PublishCommand.self, "publish -b a:1 --action created --pattern resource --source here --keep-going -o json -")
        #expect(publish.file == "-" && publish.action == .created && publish.pattern == .resource && publish.source == "here")
        #expect(publish.keepGoing && publish.output == .json)
        let plain = try parse(PublishCommand.self, "publish file.ndjson")
        #expect(plain.action == nil && plain.pattern == .hybrid && plain.source == "triage-publish" && !plain.keepGoing)
        #expect(refusal("publish")?.contains("file") == true)
        #expect(refusal("publish --action removed file")?.contains("removed") == true)
    }

    @Test("topics: the flags go before the pattern, that before the configuration")
    func topics() throws {
        var configuration = Configuration(kafka: KafkaConfiguration(bootstrapServers: "a:1"))
        configuration.topics = ["own.topic"]
        func mains(_ words: String) throws -> [String] {
            try parse(TopicsCommand.Create.self, "topics create \(words)").options.plan(for: configuration).topics.map(\.name)
                .filter { !$0.hasSuffix(".retry") && !$0.hasSuffix(".dlq") }
                .filter { !$0.hasPrefix("fhir.commands") && $0 != "triage.dead-letters" }
        }
        #expect(try mains("") == ["own.topic"])
        #expect(try mains("--pattern resource") == ["fhir.Patient"])
        #expect(try mains("--pattern action") == ["fhir.created", "fhir.updated", "fhir.deleted"])
        #expect(try mains("--pattern hybrid -t a --topic b -t a") == ["a", "b"])
        #expect(throws: ConfigurationError.self) { try mains("-t a.retry") }
        let check = try parse(TopicsCommand.Check.self, "topics check -o json")
        #expect(check.options.output == .json && refusal("topics check --partitions 12")?.contains("--partitions") == true)
        #expect(refusal("topics create --partitions 0")?.contains("--partitions") == true)
        #expect(refusal("topics create --replication-factor 0")?.contains("--replication-factor") == true)
    }

    @Test("Properties of librdkafka: the first = divides, @ reads a file, the last one counts")
    func properties() throws {
        var options = BrokerOptions()
        options.properties = ["a=b=c", "empty=", "twice=1", "twice=2"]
        #expect(try options.parsedProperties() == ["a": "b=c", "empty": "", "twice": "2"])
        try withFile(Array("secret\r\n".utf8)) { path in
            options.properties = ["sasl.password=@\(path)"]
            let parsed = try options.parsedProperties()
            #expect(parsed == ["sasl.password": "secret"])
        }
    }

    @Test(
        "Properties that can't be read are named without their content",
        arguments: [
            ("noequals", "-X"), ("=value", "-X"), ("", "-X"), ("sasl.password=@/nowhere/secret", "-X sasl.password"),
        ])
    func badProperties(text: String, key: String) {
        var options = BrokerOptions()
        options.properties = [text]
        let error = #expect(throws: ConfigurationError.self) { try options.parsedProperties() }
        #expect(error?.key == key)
    }

    @Test("A value without a name may be a secret: it is not shown")
    func secretWithoutName() {
        var options = BrokerOptions()
        options.properties = ["=hunter2"]
        let error = #expect(throws: ConfigurationError.self) { try options.parsedProperties() }
        #expect(error.map { "\($0)".contains("hunter2") } == false)
    }

    @Test("Version and help")
    func versionAndHelp() {
        #expect(TriageCommand.configuration.version == TriageVersion.current)
        let help = TriageCommand.helpMessage()
        for word in ["demo", "run", "publish", "topics", "EXAMPLES"] { #expect(help.contains(word)) }
        #expect(!help.contains("embedded-broker"))
        for command in [DemoCommand.self, RunCommand.self, PublishCommand.self, TopicsCommand.self] as [any ParsableCommand.Type]
        {
            #expect(TriageCommand.helpMessage(for: command).contains("EXAMPLES"))
        }
    }

    @Test("hash-id: ids, keys of today and before, and where they are read from")
    func hashID() throws {
        let one = try parse(HashIDCommand.self, "hash-id --identifier-key-file a --old-identifier-key-file b example -o json")
        #expect(
            one.ids == ["example"] && one.identifierKeyFile == "a" && one.oldIdentifierKeyFile == ["b"] && one.output == .json)
        let none = try parse(HashIDCommand.self, "hash-id")
        #expect(none.ids.isEmpty && none.identifierKeyFile == nil && none.output == .text)
    }
}
