import Testing

@testable import TriageEvents

@Suite("Java's partitioner")
struct JavaPartitionerTests {
    @Test(
        "the hash values that Kafka's own tests hold (UtilsTest.testMurmur2)",
        arguments: [
            ("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971), ("abc", 479_470_107),
        ])
    func hash(key: String, expected: Int) {
        #expect(Int32(bitPattern: JavaPartitioner.murmur2(ByteSlice(key))) == Int32(expected))
    }

    @Test("the sign goes, the rest of the magnitude stays, and nothing traps")
    func partition() {
        // −973,932,308 without its sign bit is 1,173,551,340.
        #expect(JavaPartitioner.partition(of: ByteSlice("21"), count: 7) == 1_173_551_340 % 7)
        #expect(JavaPartitioner.partition(of: ByteSlice("abc"), count: 1) == 0)
        #expect(JavaPartitioner.partition(of: ByteSlice("abc"), count: 0) == 0)
        #expect(JavaPartitioner.partition(of: ByteSlice("abc"), count: -3) == 0)
        #expect((0..<6).contains(JavaPartitioner.partition(of: ByteSlice(""), count: 6)))
        #expect((0..<6).contains(JavaPartitioner.partition(of: ByteSlice([0xFF, 0xFE, 0xFD, 0x80, 0xFF]), count: 6)))
    }
}
