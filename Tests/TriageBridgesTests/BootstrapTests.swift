import Glibc
import Logging
import Metrics
import Testing
import Tracing
import Triage
import TriageBridges
import TriageTelemetry
import TriageTestKit

@Suite("Installing the bridges")
struct BootstrapTests {
    @Test("installed once for the process; a second time it leaves alone what is there and doesn't trap")
    func once() async {
        await #expect(processExitsWith: .success) {
            let recorder = SpanRecorder()
            let telemetry = Telemetry(TelemetryConfiguration(environment: [:], exportsByDefault: false), processors: [recorder])
            let bridges = Bridges(telemetry)
            guard bridges.bootstrap() == [.tracing, .metrics], Bridges(telemetry).bootstrap() == [] else { exit(1) }
            withSpan("work") { _ in
                guard currentTraceContext()?.isValid == true, !Logger.MetadataProvider.triage.get().isEmpty else { exit(2) }
            }
            Counter(label: "clinic.indexed").increment(by: 2)
            guard recorder.spans.map(\.template.name) == ["work"] else { exit(3) }
            let lines = String(decoding: telemetry.scrape(), as: UTF8.self).split(separator: "\n")
            guard lines.contains(where: { $0.hasPrefix("clinic_indexed_total{") && $0.hasSuffix(" 2") }) else { exit(4) }
            bridges.tracer.forceFlush()
            exit(0)
        }
    }
}
