import Synchronization
import Testing
import TriageEvents
import TriageKafka

@Suite struct ConfigurationTests {
    private func configuration(_ additional: [String: String] = [:], group: String? = "group") -> KafkaConfiguration {
        KafkaConfiguration(bootstrapServers: "127.0.0.1:1", groupID: group, additional: additional)
    }

    @Test(arguments: [
        ("partition.assignment.strategy", "cooperative-sticky"), ("enable.auto.commit", "true"), ("auto.commit.enable", "true"),
        ("enable.auto.offset.store", "true"), ("acks", "1"), ("request.required.acks", "1"), ("topic.acks", "1"),
        ("enable.idempotence", "false"), ("partitioner", "random"), ("isolation.level", "read_uncommitted"),
        ("enable.partition.eof", "false"), ("delivery.report.only.error", "true"),
    ])
    func refusesWhatIsFixed(key: String, value: String) {
        let error = #expect(throws: KafkaConfigurationError.self) { try configuration([key: value]).validate() }
        #expect(error?.key == key)
        #expect(error?.value == value)
        #expect(error?.description.hasPrefix("\(key)=\(value): expected nothing: ") == true)
        #expect(throws: KafkaConfigurationError.self) { try KafkaConsumer(configuration([key: value])) }
        #expect(throws: KafkaConfigurationError.self) { try KafkaProducer(configuration([key: value])) }
    }

    @Test func namesUnknownPropertiesAndBadValues() {
        let unknown = #expect(throws: KafkaConfigurationError.self) { try configuration(["fetch.min.bites": "1"]).validate() }
        #expect(unknown?.key == "fetch.min.bites")
        #expect(unknown?.expected == "the name of a property of librdkafka")
        let bad = #expect(throws: KafkaConfigurationError.self) { try configuration(["compression.codec": "zap"]).validate() }
        #expect(bad?.key == "compression.codec")
        #expect(bad?.value == "zap")
        // Only the client as a whole finds that these don't go together.
        let together = #expect(throws: KafkaConfigurationError.self) {
            try KafkaProducer(configuration(["max.in.flight.requests.per.connection": "100"]))
        }
        #expect(together?.description.contains("max.in.flight") == true)
    }

    @Test func needsBrokersAndForAConsumerAGroup() throws {
        let brokers = #expect(throws: KafkaConfigurationError.self) {
            try KafkaConfiguration(bootstrapServers: "", groupID: "g").validate()
        }
        #expect(brokers?.key == "bootstrap.servers")
        let group = #expect(throws: KafkaConfigurationError.self) { try KafkaConsumer(configuration(group: nil)) }
        #expect(group?.key == "group.id")
        try configuration(group: nil).validate()
    }

    @Test func takesTopicLevelAndTypedProperties() throws {
        var all = configuration([
            "topic.message.timeout.ms": "1000", "linger.ms": "1", "topic.metadata.refresh.interval.ms": "500",
        ])
        all.groupInstanceID = "static"
        all.tls = KafkaConfiguration.TLS(caLocation: "ca.pem", keyPassword: "open sesame")
        all.sasl = KafkaConfiguration.SASL(mechanism: .scramSHA512, username: "jane", password: "hunter2")
        try all.validate()
        #expect(all.description.contains("security.protocol=sasl_ssl"))
        #expect(all.description.contains("session.timeout.ms=45000"))
    }

    @Test func showsNoSecret() throws {
        var all = configuration(["sasl.oauthbearer.config": "s3cret", "ssl.key.pem": "s3cret", "ssl.keystore.password": "s3cret"])
        all.tls = KafkaConfiguration.TLS(keyLocation: "key.pem", keyPassword: "s3cret")
        all.sasl = KafkaConfiguration.SASL(mechanism: .plain, username: "s3cret", password: "s3cret")
        var dumped = ""
        dump(all, to: &dumped)
        for text in [
            "\(all)", String(reflecting: all), dumped, "\(all.tls as Any)", String(reflecting: all.sasl),
            String(reflecting: all.tls),
        ] { #expect(!text.contains("s3cret")) }
        #expect("\(all)".contains("sasl.password=***"))
        #expect("\(all)".contains("ssl.key.location=key.pem"))
        #expect("\(all)".contains("sasl.mechanism=PLAIN"))
        let error = #expect(throws: KafkaConfigurationError.self) {
            try configuration(["sasl.pasword": "s3cret"]).validate()
        }
        #expect(error.map { "\($0)" } == "sasl.pasword=***: expected the name of a property of librdkafka")
    }

    @Test func handsLogLinesToTheClosureOnly() throws {
        let lines = Gathered<String>()
        let producer = try KafkaProducer(configuration(["reconnect.backoff.ms": "10"])) { level, facility, text in
            #expect((0...7).contains(level))
            lines.append("\(facility) \(text)")
        }
        defer { producer.close() }
        // Nothing listens on port 1, so a line about that comes.
        _ = try lines.wait(for: 1, "log lines")
        #expect(!lines.all.contains { $0.hasPrefix("CONFWARN") })
    }
}
