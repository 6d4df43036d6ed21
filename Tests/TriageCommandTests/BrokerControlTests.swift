import Testing
import TriageEvents
import TriageKafka

@testable import TriageCommand

@Suite("What the embedded broker is told")
struct BrokerControlTests {
    @Test("Each line is what it says")
    func understood() {
        #expect(BrokerControl("broker-down 2") == .broker(2, isUp: false))
        #expect(BrokerControl("broker-up -1") == .broker(-1, isUp: true))
        #expect(BrokerControl("leader fhir.Patient.created 5 3") == .leader(TopicPartition("fhir.Patient.created", 5), broker: 3))
        #expect(BrokerControl("coordinator clinic 1") == .coordinator(group: "clinic", broker: 1))
        #expect(BrokerControl("commit-errors 16 3") == .errors(.offsetCommit, code: 16, count: 3))
        #expect(BrokerControl("produce-errors -195 1") == .errors(.produce, code: EmbeddedCluster.disconnect, count: 1))
        #expect(BrokerControl("heartbeat-errors 25 1") == .errors(.heartbeat, code: 25, count: 1))
        #expect(BrokerControl("clear-errors") == .clearErrors)
        #expect(BrokerControl("rtt 50") == .roundTripTime(.milliseconds(50)))
        #expect(BrokerControl("topic other 12") == .topic("other", partitions: 12))
    }

    @Test(
        "Anything else is refused",
        arguments: [
            "", "broker-down", "broker-down one", "broker-sideways 1", "leader t 0", "leader t x 1", "coordinator g", "rtt -1",
            "rtt",
            "commit-errors 16", "commit-errors 16 0", "nonsense-errors 1 1", "-errors 1 1", "topic t 0", "clear-errors now",
        ])
    func refused(line: String) { #expect(BrokerControl(line) == nil) }

    @Test("What it says is done: a partition that doesn't exist can't be led, a topic can be made once")
    func performed() throws {
        let cluster = try EmbeddedCluster(brokers: 2)
        defer { cluster.close() }
        try BrokerControl.topic("made", partitions: 2).perform(on: cluster)
        try BrokerControl.leader(TopicPartition("made", 1), broker: 2).perform(on: cluster)
        #expect(throws: BrokerError.self) { try BrokerControl.topic("made", partitions: 2).perform(on: cluster) }
        #expect(throws: BrokerError.self) { try BrokerControl.leader(TopicPartition("made", 2), broker: 2).perform(on: cluster) }
        #expect(throws: BrokerError.self) { try BrokerControl.broker(7, isUp: false).perform(on: cluster) }
    }
}
