import Synchronization
import Testing
import TriageEvents

@testable import TriageTelemetry

@Suite("When metrics are exported")
struct MetricReaderScheduleTests {
    @Test("Every interval from start to start; a missed start is left out")
    func interval() {
        var schedule = MetricReaderSchedule(interval: .seconds(60), at: .seconds(0))
        #expect(schedule.next(at: .seconds(1)) == .wait(until: .seconds(60)))
        #expect(schedule.next(at: .seconds(61)) == .collect(flushes: []))
        #expect(schedule.next(at: .seconds(62)) == .wait(until: .seconds(120)))
        #expect(schedule.next(at: .seconds(300)) == .collect(flushes: []))
        #expect(schedule.next(at: .seconds(301)) == .wait(until: .seconds(360)))
    }

    @Test("A flush is an export of its own and leaves the rhythm alone")
    func flush() {
        var schedule = MetricReaderSchedule(interval: .seconds(60), at: .seconds(0))
        let isAccepted = schedule.flush(id: 1) && schedule.flush(id: 2)
        #expect(isAccepted)
        #expect(schedule.next(at: .seconds(5)) == .collect(flushes: [1, 2]))
        #expect(schedule.next(at: .seconds(6)) == .wait(until: .seconds(60)))
    }

    @Test("A shutdown exports a last time")
    func shutdown() {
        var schedule = MetricReaderSchedule(interval: .seconds(60), at: .seconds(0))
        schedule.shutdown()
        let before = schedule.flush(id: 1)
        #expect(schedule.next(at: .seconds(5)) == .collect(flushes: [1]))
        let after = schedule.flush(id: 2)
        #expect(before && !after)
        schedule.shutdown()
        #expect(schedule.next(at: .seconds(5)) == .finish)
    }
}

/// Keeps snapshots, or hangs until cancelled.
final class FakeMetricExporter: MetricExporter {
    private let state: Mutex<(timestamps: [Timestamp], isCancelled: Bool, begun: Int)> = Mutex(([], false, 0))
    private let changed = TestCondition()
    private let result: ExportResult?

    /// - Parameter result: what each export gives; nil hangs.
    init(_ result: ExportResult?) { self.result = result }

    func export(_ snapshot: MetricSnapshot) -> ExportResult {
        state.withLock {
            $0.timestamps.append(snapshot.timestamp)
            $0.begun += 1
        }
        changed.signal()
        guard let result else {
            changed.wait { self.state.withLock { $0.isCancelled } }
            return .failed
        }
        return result
    }

    func cancel() {
        state.withLock { $0.isCancelled = true }
        changed.signal()
    }

    var timestamps: [Timestamp] { state.withLock { $0.timestamps } }
    func waitUntilBegun(_ count: Int) async { await onThread { self.changed.wait { self.timestamps.count >= count } } }
}

@Suite("The periodic metric reader", .timeLimit(.minutes(1)))
struct PeriodicMetricReaderTests {
    func reader(_ exporter: FakeMetricExporter, interval: Duration = .seconds(3600), isEmpty: Bool = false)
        -> PeriodicMetricReader
    {
        let metric = Metric("a", .counter, unit: "1", "Help.")
        let point = MetricData.Point(attributes: [:], start: Timestamp(nanoseconds: 0), value: .sum(1))
        let calls = Calls()
        return PeriodicMetricReader(interval: interval, exporter: exporter) {
            let timestamp = Timestamp(nanoseconds: calls.next())
            return MetricSnapshot(timestamp: timestamp, metrics: isEmpty ? [] : [MetricData(metric: metric, points: [point])])
        }
    }

    final class Calls: Sendable {
        private let count = Atomic<Int64>(0)
        func next() -> Int64 { count.add(1, ordering: .relaxed).newValue }
    }

    @Test("A flush collects and exports, and so does the shutdown")
    func flushAndShutdown() async {
        let exporter = FakeMetricExporter(.exported)
        let reader = reader(exporter)
        #expect(await reader.forceFlush(timeout: .seconds(30)))
        #expect(exporter.timestamps == [Timestamp(nanoseconds: 1)])
        await reader.shutdown(timeout: .seconds(30))
        #expect(exporter.timestamps.count == 2)
        #expect(await reader.forceFlush(timeout: .seconds(30)) == false)
        await reader.shutdown(timeout: .seconds(30))
        #expect(reader.exported == 2 && reader.failed == 0)
    }

    @Test("The interval alone exports")
    func interval() async {
        let exporter = FakeMetricExporter(.exported)
        let reader = reader(exporter, interval: .milliseconds(1))
        await exporter.waitUntilBegun(3)
        await reader.shutdown(timeout: .seconds(30))
        #expect(exporter.timestamps == (1...exporter.timestamps.count).map { Timestamp(nanoseconds: Int64($0)) })
    }

    @Test("A failed export fails the flush")
    func failure() async {
        let reader = reader(FakeMetricExporter(.failed))
        #expect(await reader.forceFlush(timeout: .seconds(30)) == false)
        #expect(reader.failed == 1)
    }

    @Test("An empty snapshot isn't sent")
    func empty() async {
        let exporter = FakeMetricExporter(.failed)
        let reader = reader(exporter, isEmpty: true)
        #expect(await reader.forceFlush(timeout: .seconds(30)))
        #expect(exporter.timestamps.isEmpty)
    }

    @Test("A shutdown whose time is up cancels the export")
    func hang() async {
        let exporter = FakeMetricExporter(nil)
        let reader = reader(exporter)
        await reader.shutdown(timeout: .milliseconds(1))
        #expect(exporter.timestamps.count <= 1)
        #expect(await reader.forceFlush(timeout: .milliseconds(1)) == false)
    }
}
