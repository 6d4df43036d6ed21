internal import TriageEvents
internal import TriageProcessing
internal import TriageTelemetry

/// What the metrics say at one moment, added up over partitions, topics and groups.
struct FiguresSample: Sendable, Equatable {
    /// A histogram's counts, one more than its boundaries.
    struct Buckets: Sendable, Equatable {
        var boundaries: [Double] = []
        var counts: [UInt64] = []

        mutating func add(_ other: [UInt64], _ boundaries: [Double]) {
            guard other.count == boundaries.count + 1 else { return }
            if counts.isEmpty {
                self.boundaries = boundaries
                counts = other
            } else if counts.count == other.count {
                for index in counts.indices { counts[index] += other[index] }
            }
        }

        func minus(_ earlier: Buckets) -> Buckets {
            guard earlier.counts.count == counts.count else { return self }
            var difference = self
            for index in counts.indices { difference.counts[index] = counts[index] - min(counts[index], earlier.counts[index]) }
            return difference
        }

        var total: UInt64 { counts.reduce(0, +) }

        /// The value below which this share lies, as Prometheus' `histogram_quantile` estimates it: linear within a bucket, the last
        /// boundary beyond it. Nil if nothing was measured.
        func quantile(_ share: Double) -> Double? {
            let total = Double(total)
            guard total > 0 else { return nil }
            let rank = share * total
            var below = 0.0
            for (index, count) in counts.enumerated() where count > 0 {
                let here = Double(count)
                if below + here >= rank {
                    guard index < boundaries.count else { return boundaries.last }
                    let lower = index == 0 ? 0 : boundaries[index - 1]
                    return lower + (boundaries[index] - lower) * (rank - below) / here
                }
                below += here
            }
            return boundaries.last
        }
    }

    var time: Timestamp
    var completed: Int64 = 0
    var deadLettered: Int64 = 0
    var retries: Int64 = 0
    var handling = Buckets()
    var endToEnd = Buckets()
    var lag: Int64 = 0
    var lagSeconds = 0.0
    var inFlight: Int64 = 0
    var waiting: Int64 = 0
    var parked: Int64 = 0
    var oldestRetrySeconds = 0.0
    var keysBlocked: Int64 = 0
    var paused: Int64 = 0
    var openDeadLetters: Int64?
    /// The worst of the gates' states, and of the storm breakers'; nil if nothing is processed here.
    var gate: OutageGate.State?
    var storm: StormBreaker.State?

    init(time: Timestamp) { self.time = time }

    /// What a snapshot of the metrics says.
    init(_ snapshot: MetricSnapshot) {
        self.init(time: snapshot.timestamp)
        for data in snapshot.metrics {
            switch data.metric.name {
            case Metric.eventsProcessed.name:
                completed = FiguresSample.sum(data) { $0["triage.outcome"] == "completed" }
                deadLettered = FiguresSample.sum(data) { $0["triage.outcome"] == "dead_lettered" }
            case Metric.retries.name: retries = FiguresSample.sum(data)
            case Metric.processDuration.name: handling = FiguresSample.buckets(data)
            case Metric.endToEndDuration.name: endToEnd = FiguresSample.buckets(data)
            case Metric.consumerLag.name: lag = FiguresSample.sum(data)
            case Metric.consumerLagTime.name: lagSeconds = FiguresSample.maximum(data)
            case Metric.recordsInFlight.name: inFlight = FiguresSample.sum(data)
            case Metric.retryWaiting.name:
                waiting = FiguresSample.sum(data)
                parked = FiguresSample.sum(data) { $0["triage.wait.reason"] == "parked" }
            case Metric.retryOldestAge.name: oldestRetrySeconds = FiguresSample.maximum(data)
            case Metric.keysBlocked.name: keysBlocked = FiguresSample.sum(data)
            case Metric.partitionsPaused.name: paused = FiguresSample.sum(data)
            case Metric.deadLetterSize.name: openDeadLetters = FiguresSample.sum(data)
            case Metric.gateState.name:
                let states = FiguresSample.present(data, "triage.gate.state").compactMap { OutageGate.State(rawValue: $0) }
                gate = states.first { $0 == .closed } ?? states.first { $0 == .probing } ?? states.first
            case Metric.stormState.name:
                let states = FiguresSample.present(data, "triage.storm.state").compactMap { StormBreaker.State(rawValue: $0) }
                storm = states.first { $0 == .stopped } ?? states.first { $0 == .probing } ?? states.first
            default: break
            }
        }
    }

    private static func sum(_ data: MetricData, _ isWanted: (MetricAttributes) -> Bool = { _ in true }) -> Int64 {
        data.points.filter { isWanted($0.attributes) }.reduce(0) { sum, point in
            switch point.value {
            case .sum(let value), .intGauge(let value): sum + value
            case .doubleSum(let value), .gauge(let value): sum + Int64(value.rounded())
            case .histogram, .exponentialHistogram: sum
            }
        }
    }

    private static func maximum(_ data: MetricData) -> Double {
        data.points.reduce(0) { most, point in
            if case .gauge(let value) = point.value { max(most, value) } else { most }
        }
    }

    private static func buckets(_ data: MetricData) -> Buckets {
        var buckets = Buckets()
        for point in data.points {
            if case .histogram(let counts, _, _, _, _) = point.value { buckets.add(counts, data.metric.boundaries) }
        }
        return buckets
    }

    /// The values of a state attribute whose point is 1.
    private static func present(_ data: MetricData, _ key: String) -> [String] {
        data.points.compactMap { point in
            switch point.value {
            case .sum(1), .intGauge(1): point.attributes[key]
            default: nil
            }
        }
    }
}

extension MetricAttributes {
    fileprivate subscript(_ key: String) -> String? { pairs.first { $0.key == key }?.value }
}

/// The figures of the last minutes: samples in, what is shown out. A value; time is in the samples.
struct ConsoleFigures: Sendable {
    /// Between two samples.
    static let interval: Duration = .seconds(2)
    /// What "now" means for rates and quantiles.
    static let window: Duration = .seconds(60)
    /// Bars that are drawn, one for each interval.
    static let bars = 60

    private var samples: [FiguresSample] = []

    /// Nothing measured yet.
    init() {}

    /// Takes a sample in.
    mutating func add(_ sample: FiguresSample) {
        samples.append(sample)
        if samples.count > ConsoleFigures.bars + 1 { samples.removeFirst(samples.count - ConsoleFigures.bars - 1) }
    }

    /// The last sample; nil before the first.
    var last: FiguresSample? { samples.last }

    /// The sample from a minute ago, or the first there is.
    private var earlier: FiguresSample? {
        guard let last, samples.count > 1 else { return nil }
        return samples.dropLast().last { last.time - $0.time >= ConsoleFigures.window } ?? samples.first
    }

    /// What a counter grew by in a second within the last minute; nil before the second sample.
    func rate(_ count: (FiguresSample) -> Int64) -> Double? {
        guard let last, let earlier else { return nil }
        let seconds = (last.time - earlier.time).inSeconds
        return seconds > 0 ? Double(max(0, count(last) - count(earlier))) / seconds : nil
    }

    /// A histogram's quantile within the last minute; nil if nothing was measured in it.
    func recent(_ share: Double, _ buckets: (FiguresSample) -> FiguresSample.Buckets) -> Double? {
        guard let last, let earlier else { return nil }
        return buckets(last).minus(buckets(earlier)).quantile(share)
    }

    /// Events that reached an outcome, in a second, for each interval of the last two minutes, the oldest first.
    var throughput: [Double] {
        zip(samples, samples.dropFirst()).map { earlier, later in
            let seconds = (later.time - earlier.time).inSeconds
            let events = later.completed + later.deadLettered - earlier.completed - earlier.deadLettered
            return seconds > 0 ? Double(max(0, events)) / seconds : 0
        }
    }
}
