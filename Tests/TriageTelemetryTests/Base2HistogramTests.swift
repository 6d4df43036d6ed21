import Glibc
import Testing

@testable import TriageTelemetry

/// Base-2 exponential histograms against the specification's formulas and against exact arithmetic.
@Suite struct Base2HistogramTests {
    /// Bucket indexes by the specification's formula, worked out with the official rule for powers of two.
    private static let values = [0.001, 0.1, 0.5, 1, 1.5, 2, 3, 4, 10, 1000]
    private static let table: [(scale: Int, indexes: [Int])] = [
        (3, [-80, -27, -9, -1, 4, 7, 12, 15, 26, 79]), (0, [-10, -4, -2, -1, 0, 0, 1, 1, 3, 9]),
        (-1, [-5, -2, -1, -1, 0, 0, 0, 0, 1, 4]),
        (20, [-10_449_883, -3_483_295, -1_048_577, -1, 613_377, 1_048_575, 1_661_953, 2_097_151, 3_483_294, 10_449_882]),
    ]

    @Test func theTable() {
        for (scale, indexes) in Base2HistogramTests.table {
            #expect(Base2HistogramTests.values.map { Base2Histogram.index(of: $0, scale: scale) } == indexes, "scale \(scale)")
        }
    }

    @Test func powersOfTwoBelongBelowAndTheirNeighboursToTheirOwnSide() {
        for scale in -10...20 {
            for exponent in [-1074, -1073, -1023, -1022, -1021, -52, -1, 0, 1, 10, 1023] {
                let power = scalbn(1.0, Int32(exponent))
                let below = scale > 0 ? exponent << scale - 1 : (exponent - 1) >> -scale
                let above = scale > 0 ? exponent << scale : exponent >> -scale
                #expect(Base2Histogram.index(of: power, scale: scale) == below, "2^\(exponent) at \(scale)")
                if exponent > -1022, exponent < 1023 {
                    #expect(Base2Histogram.index(of: power.nextUp, scale: scale) == above, "2^\(exponent)+ at \(scale)")
                    #expect(Base2Histogram.index(of: power.nextDown, scale: scale) == below, "2^\(exponent)- at \(scale)")
                }
            }
        }
    }

    /// The bucket of `value` in whole numbers: value = m·2^e, so 2^scale·log2(value) is e·2^scale and the number of bits of
    /// m^(2^scale); squaring is exact.
    private func exactIndex(_ value: Double, _ scale: Int) -> Int {
        var mantissa = value.significandBitPattern | (value.isNormal ? 1 << 52 : 0)
        var exponent = Int(value.isNormal ? value.exponent : -1022) - 52
        exponent += mantissa.trailingZeroBitCount
        mantissa >>= UInt64(mantissa.trailingZeroBitCount)
        guard scale > 0 else {
            let bits = 63 - mantissa.leadingZeroBitCount
            return (bits + exponent - (mantissa == 1 ? 1 : 0)) >> -scale
        }
        var power = [UInt32(truncatingIfNeeded: mantissa), UInt32(mantissa >> 32)]
        for _ in 0..<scale { power = squared(power) }
        let top = power.lastIndex { $0 != 0 } ?? 0
        let bits = top * 32 + 31 - power[top].leadingZeroBitCount
        return bits + exponent << scale - (mantissa == 1 ? 1 : 0)
    }

    private func squared(_ number: [UInt32]) -> [UInt32] {
        var result = [UInt32](repeating: 0, count: number.count * 2)
        for (low, left) in number.enumerated() where left != 0 {
            var carry: UInt64 = 0
            for (high, right) in number.enumerated() {
                let sum = UInt64(left) * UInt64(right) + UInt64(result[low + high]) + carry
                result[low + high] = UInt32(truncatingIfNeeded: sum)
                carry = sum >> 32
            }
            result[low + number.count] = UInt32(carry)
        }
        return result
    }

    @Test(arguments: UInt64(1)...20) func indexesEqualExactArithmetic(seed: UInt64) {
        var random = SeededRandom(state: seed)
        for _ in 0..<10 {
            let bits = UInt64.random(in: 1..<Double.infinity.bitPattern, using: &random)
            for value in [Double(bitPattern: bits), Double.random(in: 0.0001...1000, using: &random)] {
                for scale in [-10, -3, -1, 0, 1, 3, 6] {
                    let exact = exactIndex(value, scale)
                    #expect(Base2Histogram.index(of: value, scale: scale) == exact, "\(value) at \(scale), seed \(seed)")
                    // What is counted at the finest scale and joined later falls into the same bucket.
                    #expect(Base2Histogram.index(of: value, scale: 20) >> (20 - scale) == exact, "\(value), seed \(seed)")
                }
            }
        }
    }

    @Test func valuesBesideABoundFallAtMostOneBucketOff() {
        for scale in 1...5 {
            for step in (-1 << scale)...(1 << scale) {
                let bound = exp2(Double(step) / Double(1 << scale))
                for value in [bound.nextDown, bound, bound.nextUp] {
                    let difference = Base2Histogram.index(of: value, scale: scale) - exactIndex(value, scale)
                    #expect(abs(difference) <= 1, "\(value) at \(scale)")
                }
            }
        }
    }

    @Test func itBeginsWithTheFinestScaleAndJoinsBucketsWhenTheyDoNotFit() {
        var histogram = Base2Histogram()
        histogram.record(1.5)
        #expect(histogram.data.scale == 20)
        #expect(histogram.data.positive == .init(offset: 613_377, counts: [1]))
        histogram.record(3)
        // From 1.5 to 3 is one doubling: 2^scale buckets apart, and 160 hold 128 of them.
        #expect(histogram.data.scale == 7)
        #expect(histogram.data.positive.counts.count == 129 && histogram.data.positive.counts.reduce(0, +) == 2)
        histogram.record(0)
        histogram.record(-4)
        histogram.record(.nan)
        histogram.record(.infinity)
        let data = histogram.data
        #expect(data.zeroCount == 1 && data.count == 4 && data.sum == 0.5 && data.minimum == -4 && data.maximum == 3)
        #expect(data.negative == .init(offset: (2 << 7) - 1, counts: [1]))
        histogram.reset()
        #expect(histogram.data.scale == 20 && histogram.data.count == 0 && histogram.data.positive.counts.isEmpty)
        #expect(histogram.data.minimum == 0 && histogram.data.maximum == 0)
    }

    @Test func theWholeRangeOfDoublesFits() {
        for size in [4, 160] {
            var histogram = Base2Histogram(size: size)
            for value in [Double.leastNonzeroMagnitude, 1, .greatestFiniteMagnitude] { histogram.record(value) }
            #expect(histogram.data.positive.counts.reduce(0, +) == 3)
            #expect(histogram.data.positive.counts.count <= size)
            #expect(histogram.scale >= -10)
        }
    }

    @Test(arguments: UInt64(1)...30) func countsEqualACountByHandAtTheFinestScaleThatFits(seed: UInt64) {
        var random = SeededRandom(state: seed)
        let size = Int.random(in: 4...160, using: &random)
        var histogram = Base2Histogram(size: size)
        let spread = Double.random(in: 0.001...60, using: &random)
        let values = (0..<200).map { _ in exp2(Double.random(in: -spread...spread, using: &random)) }
        for value in values { histogram.record(value) }
        let data = histogram.data
        func indexes(_ scale: Int) -> [Int] { values.map { Base2Histogram.index(of: $0, scale: 20) >> (20 - scale) } }
        func width(_ scale: Int) -> Int { (indexes(scale).max() ?? 0) - (indexes(scale).min() ?? 0) + 1 }
        let scale = Int(data.scale)
        #expect(width(scale) <= size, "seed \(seed)")
        #expect(scale == 20 || width(scale + 1) > size, "seed \(seed)")
        var expected: [Int: UInt64] = [:]
        for index in indexes(scale) { expected[index, default: 0] += 1 }
        for (place, count) in data.positive.counts.enumerated() {
            #expect(expected[Int(data.positive.offset) + place] ?? 0 == count, "seed \(seed)")
        }
        #expect(data.positive.counts.reduce(0, +) == 200 && data.count == 200, "seed \(seed)")
        #expect(data.minimum == values.min() && data.maximum == values.max())
    }
}
