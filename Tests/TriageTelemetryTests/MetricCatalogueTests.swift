import Testing

@testable import TriageTelemetry

@Suite struct MetricCatalogueTests {
    @Test func namesAreUniqueAndFollowTheNamingRules() throws {
        #expect(Set(Metric.all.map(\.name)).count == Metric.all.count)
        #expect(Set(Metric.all.map { PrometheusNames.family(of: $0) }).count == Metric.all.count)
        for metric in Metric.all {
            #expect(metric.name.wholeMatch(of: /[a-z][a-z0-9]*([._][a-z0-9]+)*/) != nil, "\(metric.name)")
            #expect(!metric.name.hasSuffix("total") && !metric.name.hasSuffix("seconds"), "\(metric.name)")
            for key in metric.attributes { #expect(key.wholeMatch(of: /[a-z][a-z0-9]*([._][a-z0-9]+)*/) != nil, "\(key)") }
            #expect(Set(metric.attributes).count == metric.attributes.count, "\(metric.name)")
        }
    }

    @Test func unitsAreUCUM() {
        for metric in Metric.all {
            #expect(metric.unit.wholeMatch(of: /s|By|1|\{[a-z_]+\}/) != nil, "\(metric.name): \(metric.unit)")
        }
    }

    @Test func histogramsAndOnlyTheyHaveAscendingBoundaries() {
        for metric in Metric.all {
            // The SDK's own have none by the conventions: sum and count are all they tell.
            let hasBoundaries = metric.instrument == .histogram && !metric.name.hasPrefix("otel.sdk.")
            #expect(metric.boundaries.isEmpty == !hasBoundaries, "\(metric.name)")
            #expect(zip(metric.boundaries, metric.boundaries.dropFirst()).allSatisfy { $0 < $1 }, "\(metric.name)")
        }
        #expect(Metric.waitBoundaries.count == 22 && Metric.waitBoundaries.last == 86_400)
    }

    @Test func helpIsOneSentence() {
        for metric in Metric.all {
            #expect(metric.help.hasSuffix(".") && !metric.help.contains("\n") && metric.help.count <= 150, "\(metric.name)")
        }
    }

    @Test func onlyDeadLettersHaveTheFingerprint() {
        #expect(Metric.all.filter { $0.attributes.contains("triage.error.fingerprint") } == [.deadLetters])
    }
}
