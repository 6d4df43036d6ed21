internal import CoreMetrics
internal import Synchronization
internal import TriageTelemetry

/// A handler, and the series it counts into.
protocol Bridge: AnyObject, Sendable {
    var membership: Membership { get }
}

/// Where a handler belongs; it leaves once, however often it is destroyed.
final class Membership: Sendable {
    struct Place: Sendable {
        let id: String
        let attributes: MetricAttributes
    }

    private let place = Mutex<Place?>(nil)

    func join(_ new: Place) { place.withLock { $0 = new } }

    func leave() -> Place? {
        place.withLock { place in
            let left = place
            place = nil
            return left
        }
    }
}

/// A floating-point value that is set and changed without a lock, and reported when asked for.
final class Cell: Sendable {
    private let value = Atomic<Double>(.nan)

    /// The value; nil until there is one.
    var current: Double? {
        let value = value.load(ordering: .relaxed)
        return value.isNaN ? nil : value
    }

    /// Sets it. NaN takes it away.
    func set(_ new: Double) { value.store(new, ordering: .relaxed) }

    /// Sets it if nothing was set before.
    func begin(at start: Double) {
        if current == nil { add(start) }
    }

    /// Adds to it; to nothing as to 0. What isn't finite is ignored.
    func add(_ amount: Double) {
        guard amount.isFinite else { return }
        var before = value.load(ordering: .relaxed)
        while true {
            let (exchanged, original) = value.weakCompareExchange(
                expected: before, desired: (before.isNaN ? 0 : before) + amount, ordering: .relaxed)
            if exchanged { return }
            before = original
        }
    }
}

final class CounterBridge: CounterHandler, Bridge {
    let membership = Membership()
    private let counter: TriageTelemetry.Counter?

    init(_ counter: TriageTelemetry.Counter?) { self.counter = counter }

    func increment(by amount: Int64) {
        if amount > 0 { counter?.add(amount) }
    }

    func reset() {}
}

/// A floating-point counter or a gauge.
final class CellBridge: FloatingPointCounterHandler, MeterHandler, RecorderHandler, Bridge {
    let membership = Membership()
    private let cell: Cell?

    init(_ cell: Cell?, startingAt start: Double? = nil) {
        self.cell = cell
        if let start { cell?.begin(at: start) }
    }

    func increment(by amount: Double) {
        if amount > 0 { cell?.add(amount) }
    }

    func decrement(by amount: Double) {
        if amount > 0 { cell?.add(-amount) }
    }

    func set(_ value: Int64) { cell?.set(Double(value)) }
    func set(_ value: Double) { cell?.set(value) }
    func record(_ value: Int64) { cell?.set(Double(value)) }
    func record(_ value: Double) { cell?.set(value) }
    func reset() {}
}

/// A recorder or a timer.
final class HistogramBridge: RecorderHandler, TimerHandler, Bridge {
    let membership = Membership()
    private let histogram: TriageTelemetry.Histogram?

    init(_ histogram: TriageTelemetry.Histogram?) { self.histogram = histogram }

    func record(_ value: Int64) { histogram?.record(Double(value)) }
    func record(_ value: Double) { histogram?.record(value) }
    func recordNanoseconds(_ duration: Int64) { histogram?.record(Double(duration) / 1e9) }
}
