import Testing
import Triage

@Suite("The plan of topics")
struct TopicPlanTests {
    let plan = TopicPlan(mainTopics: ["a", "b", "a"], partitions: 6)

    /// What a broker tells when everything is as planned.
    var asPlanned: [String: TopicPlan.Found] {
        Dictionary(
            uniqueKeysWithValues: plan.topics.map {
                (
                    $0.name,
                    TopicPlan.Found(
                        partitions: 6, configuration: $0.configuration.merging(["min.insync.replicas": "1"]) { own, _ in own })
                )
            }
        )
    }

    func differences(_ topic: String, partitions: Int = 6, _ configuration: [String: String]) -> [TopicPlan.Difference] {
        var found = asPlanned
        found[topic] = TopicPlan.Found(partitions: partitions, configuration: configuration)
        return plan.differences(from: found)
    }

    @Test("Each topic once, with its retry and dead letter topic, and the commands")
    func topics() {
        let names = ["a", "b", "fhir.commands"].flatMap { [$0, "\($0).retry", "\($0).dlq"] }
        #expect(plan.topics.map(\.name) == names + ["fhir.commands.results", "triage.dead-letters"])
        #expect(plan.topics.dropLast().last?.configuration == ["cleanup.policy": "delete", "retention.ms": "86400000"])
        #expect(plan.topics.last?.configuration == ["cleanup.policy": "compact"] && plan.topics.last?.partitions == 1)
        #expect(plan.topics.dropLast().allSatisfy { $0.partitions == 6 })
        #expect(plan.topics[1].configuration == ["cleanup.policy": "delete", "retention.ms": "1209600000"])
        #expect(plan.topics[2].configuration == ["cleanup.policy": "delete", "retention.ms": "-1"])
        #expect(
            TopicPlan(mainTopics: ["a"], includesCommands: false).topics.map(\.name) == [
                "a", "a.retry", "a.dlq", "triage.dead-letters",
            ])
        #expect(
            TopicPlan(mainTopics: ["a"], includesCommands: false, includesState: false).topics.map(\.name) == [
                "a", "a.retry", "a.dlq",
            ])
    }

    @Test("What is made beside a topic that exists gets as many partitions as that has")
    func beside() {
        let partitions = plan.beside(["a": 12, "b.dlq": 3]).topics.map(\.partitions)
        #expect(partitions == [6, 12, 12, 6, 6, 6, 6, 6, 6, 6, 1])
    }

    @Test("Nothing differs from what was planned")
    func nothing() { #expect(plan.differences(from: asPlanned).isEmpty) }

    @Test("Without any topic all are missing, in the plan's order")
    func missing() {
        #expect(plan.differences(from: [:]) == plan.topics.map { .missing($0.name) })
        #expect("\(TopicPlan.Difference.missing("a"))" == "a is missing: `triage topics create` makes it")
    }

    @Test("Partitions are compared with the topic beside, not with the plan")
    func partitions() {
        let found = asPlanned.mapValues { TopicPlan.Found(partitions: 12, configuration: $0.configuration) }
        #expect(plan.differences(from: found).isEmpty)
        let difference = TopicPlan.Difference.partitions("a.dlq", found: 3, expected: 6, beside: "a")
        #expect(differences("a.dlq", partitions: 3, ["cleanup.policy": "delete", "retention.ms": "-1"]) == [difference])
        #expect("\(difference)" == "a.dlq has 3 partitions, a has 6: they need the same number")
        #expect(differences("a", partitions: 3, [:]).count == 2)
    }

    @Test("A retry topic may keep its records longer, not shorter; dead letters are kept without limit")
    func retention() {
        let retry = { (milliseconds: String) in
            differences("b.retry", ["cleanup.policy": "delete", "retention.ms": milliseconds])
        }
        #expect(retry("1209600001").isEmpty && retry("-1").isEmpty)
        #expect(retry("604800000") == [.property("b.retry", key: "retention.ms", found: "604800000", expected: "1209600000")])
        #expect(retry("soon").count == 1)
        #expect(
            differences("b.dlq", ["cleanup.policy": "delete", "retention.ms": "99999999999999"])
                == [.property("b.dlq", key: "retention.ms", found: "99999999999999", expected: "-1")]
        )
    }

    @Test("A compacted retry or dead letter topic would lose records; what a broker doesn't tell is not judged")
    func cleanup() {
        let difference = TopicPlan.Difference.property("a.retry", key: "cleanup.policy", found: "compact", expected: "delete")
        #expect(differences("a.retry", ["cleanup.policy": "compact", "retention.ms": "-1"]) == [difference])
        #expect("\(difference)" == "a.retry has cleanup.policy=compact, expected delete")
        #expect(differences("a.retry", [:]).isEmpty)
    }
}
