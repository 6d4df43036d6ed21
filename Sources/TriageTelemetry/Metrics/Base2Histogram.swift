internal import Glibc

/// A histogram whose buckets grow with the value: bucket *i* holds (base^i, base^(i+1)] with base = 2^(2^-scale)
/// (specification, metrics/sdk, base2 exponential bucket histogram).
///
/// It begins with the finest scale. When the values need more buckets than there are, neighbours are joined two by two and
/// the scale goes down by one, until they fit. A plain value type: who shares one guards it.
struct Base2Histogram: Sendable {
    /// The finest resolution (specification: MaxScale).
    static let maximumScale = 20
    /// Buckets for each sign (specification: MaxSize).
    static let maximumSize = 160

    private(set) var scale = Base2Histogram.maximumScale
    private let size: Int
    private var zeroCount: UInt64 = 0
    private(set) var count: UInt64 = 0
    private var sum = 0.0
    private var minimum = Double.infinity
    private var maximum = -Double.infinity
    private var positive: Buckets
    private var negative: Buckets

    /// A histogram without values; at most `size` buckets for each sign, at least 4.
    init(size: Int = Base2Histogram.maximumSize) {
        self.size = max(4, size)
        positive = Buckets(size: self.size)
        negative = Buckets(size: self.size)
    }

    /// The bucket of a magnitude, which must be finite and above 0.
    ///
    /// The exponent and the significand are looked at apart, so that the bounds which are powers of two are exact at each
    /// scale; near other bounds a value can fall beside its bucket by the last bit of a logarithm.
    static func index(of magnitude: Double, scale: Int) -> Int {
        let exponent = Int(magnitude.exponent)
        let significand = magnitude.significand
        if scale <= 0 { return (significand == 1 ? exponent - 1 : exponent) >> -scale }
        return exponent << scale + Int((log2(significand) * Double(1 << scale)).rounded(.up)) - 1
    }

    /// Counts a value. Infinite ones and NaN are ignored.
    mutating func record(_ value: Double) {
        guard value.isFinite else { return }
        count += 1
        sum += value
        minimum = min(minimum, value)
        maximum = max(maximum, value)
        if value == 0 {
            zeroCount += 1
            return
        }
        var index = Base2Histogram.index(of: value.magnitude, scale: scale)
        let change = (value > 0 ? positive : negative).scaleChange(for: index)
        if change > 0 {
            positive.downscale(by: change)
            negative.downscale(by: change)
            scale -= change
            index >>= change
        }
        if value > 0 { positive.add(index) } else { negative.add(index) }
    }

    /// Forgets all values and goes back to the finest scale; keeps the memory.
    mutating func reset() {
        scale = Base2Histogram.maximumScale
        zeroCount = 0
        count = 0
        sum = 0
        minimum = .infinity
        maximum = -.infinity
        positive.reset()
        negative.reset()
    }

    /// What is exported.
    var data: ExponentialHistogramData {
        ExponentialHistogramData(
            scale: Int32(scale), zeroCount: zeroCount, positive: positive.data, negative: negative.data, sum: sum, count: count,
            minimum: count > 0 ? minimum : 0, maximum: count > 0 ? maximum : 0)
    }

    /// The counts from bucket `low` to bucket `high`, in a ring: bucket *i* lies at *i* modulo the size.
    private struct Buckets: Sendable {
        private let size: Int
        private var ring: [UInt64] = []
        private var low = 0
        /// Below ``low`` if there is none.
        private var high = -1

        init(size: Int) { self.size = size }

        /// By how many steps the scale must go down for `index` to fit.
        func scaleChange(for index: Int) -> Int {
            guard low <= high else { return 0 }
            var (low, high, change) = (min(low, index), max(high, index), 0)
            while high - low + 1 > size {
                low >>= 1
                high >>= 1
                change += 1
            }
            return change
        }

        mutating func add(_ index: Int) {
            if ring.isEmpty { ring = [UInt64](repeating: 0, count: size) }
            (low, high) = low > high ? (index, index) : (min(low, index), max(high, index))
            ring[place(index)] += 1
        }

        mutating func downscale(by change: Int) {
            guard low <= high else { return }
            let first = low >> change
            let count = high >> change - first + 1
            withUnsafeTemporaryAllocation(of: UInt64.self, capacity: count) { joined in
                joined.initialize(repeating: 0)
                for index in low...high {
                    joined[index >> change - first] += ring[place(index)]
                    ring[place(index)] = 0
                }
                for offset in 0..<count { ring[place(first + offset)] = joined[offset] }
            }
            (low, high) = (first, first + count - 1)
        }

        mutating func reset() {
            if low <= high { for index in low...high { ring[place(index)] = 0 } }
            (low, high) = (0, -1)
        }

        var data: ExponentialHistogramData.Buckets {
            guard low <= high else { return ExponentialHistogramData.Buckets(offset: 0, counts: []) }
            return ExponentialHistogramData.Buckets(offset: Int32(low), counts: (low...high).map { ring[place($0)] })
        }

        @inline(__always)
        private func place(_ index: Int) -> Int {
            let remainder = index % size
            return remainder < 0 ? remainder + size : remainder
        }
    }
}
