import Testing

@testable import TriageProcessing

@Suite("What a commit carries")
struct CommitMetadataTests {
    struct Golden: Sendable {
        let offset: Int64
        let value: CommitMetadata
        let text: String
    }

    /// Texts that an independent implementation of the format wrote.
    static let goldens = [
        Golden(offset: 0, value: CommitMetadata(flags: .isOpen), text: "t1.1a492a04.AQA"),
        Golden(offset: 1_234_567, value: CommitMetadata(flags: [.isOpen, .isPaused]), text: "t1.ebd527cf.BQA"),
        Golden(offset: 100, value: CommitMetadata(flags: .isOpen, completed: [101..<102]), text: "t1.3e5019ec.AQIC"),
        Golden(offset: 100, value: CommitMetadata(completed: [101..<105, 110..<4000]), text: "t1.5fa15b25.AAEBAwSxHg"),
        Golden(
            offset: 100, value: CommitMetadata(completed: (0..<12).map { 101 + 2 * $0..<102 + 2 * $0 }),
            text: "t1.efdd689b.AAKqqqo"),
        Golden(
            offset: 5000,
            value: CommitMetadata(
                flags: [.isOpen, .isStormy], crashes: .init(count: 3, base: 4321, alone: 5000),
                completed: [5001..<5003, 5010..<5011]),
            text: "t1.07306572.CQ4CzQoABgQ"),
        Golden(offset: 5000, value: CommitMetadata(crashes: .init(count: 1, base: 5000)), text: "t1.9dab0ee0.AAQAAA"),
        Golden(
            offset: 1 << 62,
            value: CommitMetadata(
                flags: [.isOpen, .isGateClosed, .isPaused, .isStormy],
                crashes: .init(count: 1_000_000, base: 0, alone: .max), completed: [(1 << 62) + 1 ..< .max]),
            text: "t1.765afb0a.Dw2_hD3__________3_-_________38B_f________8_"),
    ]

    @Test("golden texts, both ways", arguments: goldens)
    func golden(_ golden: Golden) throws {
        #expect(golden.value.encoded(at: golden.offset) == golden.text)
        #expect(try CommitMetadata(golden.text, at: golden.offset) == golden.value)
    }

    @Test("nothing to tell is the empty text, which Kafka can't tell from none")
    func nothing() throws {
        #expect(CommitMetadata().encoded(at: 7) == "")
        #expect(CommitMetadata().isEmpty && !CommitMetadata(flags: .isOpen).isEmpty)
        #expect(try CommitMetadata("", at: 7) == CommitMetadata())
    }

    @Test(
        "what others wrote is foreign, also a later version of ours",
        arguments: ["x", "t", "t1", "t2.1a492a04.AQA", "{\"offset\":1}", "T1.1a492a04.AQA", " t1.1a492a04.AQA", "\u{0}", "ｔ1."])
    func foreign(text: String) {
        #expect(throws: CommitMetadataError.foreign) { try CommitMetadata(text, at: 0) }
    }

    @Test(
        "what was cut, changed, or copied to another offset is damaged",
        arguments: [
            "t1.", "t1.1a492a04", "t1.1a492a04.", "t1.1a492a04.A", "t1.1a492a04.AQ", "t1.1a492a04.AQA=", "t1.1A492A04.AQA",
            "t1.1a492a04.AQB", "t1.1a492a05.AQA", "t1.1a492a04.AQAA", "t1.1a492a04-AQA", "t1.1a492a04.AQ/", "t1.1a492a04.Aä",
            "t1.1a492a04.AQA\n", "t1.ebd527cf.BQA", "t1.00000000." + String(repeating: "A", count: 10_000),
        ])
    func damaged(text: String) {
        #expect(throws: CommitMetadataError.damaged) { try CommitMetadata(text, at: 0) }
    }

    @Test("the text of one offset is refused at every other")
    func otherOffset() {
        let text = CommitMetadata(completed: [1001..<1002]).encoded(at: 1000) ?? ""
        for offset in Int64(0)..<2000 where offset != 1000 {
            #expect(throws: CommitMetadataError.damaged) { try CommitMetadata(text, at: offset) }
        }
        #expect(throws: CommitMetadataError.damaged) { try CommitMetadata(text, at: -1) }
        #expect(throws: CommitMetadataError.damaged) { try CommitMetadata(text, at: .min) }
    }

    @Test("any value of completed offsets within the span fits, with the longest flags and crashes")
    func fits() throws {
        let crashes = CommitMetadata.Crashes(count: 1_000_000, base: 0, alone: .max)
        let offset: Int64 = 1 << 62
        let last = offset + CommitMetadata.maximumSpan
        // The longest runs: nothing but single offsets; and each of the shapes at which one form gives way to the other.
        for step in [2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 129, 1000, 15_999] as [Int64] {
            let completed = stride(from: offset + 1, to: last, by: Int(step)).map { $0..<min($0 + max(1, step / 2), last) }
            let value = CommitMetadata(flags: Flags(rawValue: 0xFF), crashes: crashes, completed: completed)
            let text = try #require(value.encoded(at: offset))
            #expect(text.utf8.count <= CommitMetadata.maximumBytes)
            #expect(try CommitMetadata(text, at: offset) == value)
        }
        // A bitmap is never longer than its span, whatever is in it: this is the bound that the rest relies on.
        let alternating = CommitMetadata(
            flags: Flags(rawValue: 0xFF), crashes: crashes,
            completed: stride(from: offset + 1, to: last, by: 2).map { $0..<$0 + 1 })
        #expect(alternating.encoded(at: offset)?.utf8.count == 2710)
    }
    typealias Flags = CommitMetadata.Flags

    @Test("too much is told by nil, not by a text that a broker refuses")
    func tooMuch() {
        func alternating(_ span: Int64) -> CommitMetadata {
            CommitMetadata(completed: stride(from: 1, to: span, by: 2).map { $0..<$0 + 1 })
        }
        #expect(alternating(24_000).encoded(at: 0)?.utf8.count ?? .max <= CommitMetadata.maximumBytes)
        #expect(alternating(25_000).encoded(at: 0) == nil)
        // Far is no matter, many are.
        #expect(CommitMetadata(completed: [1 << 61..<1 << 62]).encoded(at: 0) != nil)
        let far = (0..<1000).map { (Int64($0) + 1) << 40 }.map { $0..<$0 + 1 }
        #expect(CommitMetadata(completed: far).encoded(at: 0) == nil)
    }

    @Test("ranges that aren't as they must be are put right")
    func normal() throws {
        let untidy = CommitMetadata(completed: [30..<35, 5..<12, 20..<20, 12..<13, 32..<33, 14..<15, 35..<36])
        let text = try #require(untidy.encoded(at: 10))
        #expect(try CommitMetadata(text, at: 10).completed == [10..<13, 14..<15, 30..<36])
        #expect(CommitMetadata(completed: [3..<3, 1..<9]).encoded(at: 10) == "")
        let crashes = CommitMetadata(crashes: .init(count: 0, base: -5, alone: .min))
        let read = try CommitMetadata(#require(crashes.encoded(at: 3)), at: 3)
        #expect(read.crashes == .init(count: 1, base: 0, alone: 0))
        let many = CommitMetadata(crashes: .init(count: .max, base: .max))
        #expect(try CommitMetadata(#require(many.encoded(at: 3)), at: 3).crashes == .init(count: 1_000_000, base: .max))
    }

    @Test("bodies whose checksum is right and whose content isn't are damaged: nothing traps, nothing is counted on")
    func hostile() {
        let bodies: [[UInt8]] = [
            [0, 0], [1, 3], [1, 8], [1, 16], [1, 1], [1, 2], [1, 0, 0], [1], [],
            // A bitmap that ends with nothing, or that runs would be shorter than; runs that a bitmap would be shorter than.
            [1, 2, 1, 0], [1, 2, 0xFF, 0xFF, 0xFF], [1, 1, 1, 0],
            // A run that is cut, longer than need be, longer than 64 bits, or beyond the last offset.
            [1, 1, 5], [1, 1, 0x80, 0, 5], [1, 1, 0x85], [1, 1] + [UInt8](repeating: 0xFF, count: 9) + [2, 0],
            [1, 1] + [UInt8](repeating: 0xFF, count: 9) + [1, 0], [1, 1, 5] + [UInt8](repeating: 0xFF, count: 8) + [0x7F],
            // Crashes: none given, too many, an offset below zero, alone missing.
            [1, 4], [1, 4, 0], [1, 4, 0xC0, 0x84, 0x3D, 0], [1, 4, 0, 0x7F], [1, 12, 0, 0],
        ]
        for body in bodies {
            #expect(throws: CommitMetadataError.damaged, "\(body)") {
                try CommitMetadata(CommitMetadata.text(body, at: 3), at: 3)
            }
        }
        // At the very end of what an offset can be.
        for body in [[0, 2, 1], [1, 1, 0, 0], [1, 1, 0, 1], [1, 1, 1, 0]] as [[UInt8]] {
            #expect(throws: CommitMetadataError.damaged) { try CommitMetadata(CommitMetadata.text(body, at: .max), at: .max) }
        }
    }

    /// A value with completed offsets of many shapes within the span beyond `offset`.
    static func random(at offset: Int64, _ random: inout SeededGenerator) -> CommitMetadata {
        var completed: [Range<Int64>] = []
        let end = offset + Int64.random(in: 1...CommitMetadata.maximumSpan, using: &random)
        let longest = [1, 2, 10, 300, 8000].randomElement(using: &random) ?? 1
        let furthest = [1, 2, 10, 300, 8000].randomElement(using: &random) ?? 1
        var at = offset + Int64.random(in: 0...Int64(furthest), using: &random)
        while at < end, Bool.random(using: &random) || completed.count < 5000 {
            let upper = min(end, at + Int64.random(in: 1...Int64(longest), using: &random))
            completed.append(at..<upper)
            at = upper + Int64.random(in: 1...Int64(furthest), using: &random)
        }
        var crashes: CommitMetadata.Crashes?
        if Bool.random(using: &random) {
            crashes = .init(count: .random(in: 1...5, using: &random), base: .random(in: 0...offset, using: &random))
            if Bool.random(using: &random) { crashes?.alone = offset + .random(in: 0...16_000, using: &random) }
        }
        return CommitMetadata(
            flags: Flags(rawValue: .random(in: 0...255, using: &random)), crashes: crashes, completed: completed)
    }

    @Test("what is written is read back, and fits: 3,000 values")
    func roundTrip() throws {
        for seed in UInt64(0)..<3000 {
            var random = SeededGenerator(seed)
            let offset = Int64.random(in: 0...(Bool.random(using: &random) ? 1000 : 1 << 62), using: &random)
            let value = Self.random(at: offset, &random)
            let text = try #require(value.encoded(at: offset), "seed \(seed)")
            #expect(text.utf8.count <= CommitMetadata.maximumBytes, "seed \(seed)")
            let read = try? CommitMetadata(text, at: offset)
            #expect(read == value, "seed \(seed)")
        }
    }

    @Test("changed texts are refused or, with the same content, read as the same value: 20,000 changes")
    func mutated() throws {
        for seed in UInt64(0)..<20_000 {
            var random = SeededGenerator(seed)
            let offset = Int64.random(in: 0...100_000, using: &random)
            var value = Self.random(at: offset, &random)
            value.completed = Array(value.completed.prefix(40))
            var bytes = Array(try #require(value.encoded(at: offset)).utf8)
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let place = Int.random(in: 0..<max(1, bytes.count), using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0 where !bytes.isEmpty: bytes[place] = .random(in: 0...255, using: &random)
                case 1 where !bytes.isEmpty: bytes.remove(at: place)
                case 2: bytes.insert(.random(in: 0...255, using: &random), at: place)
                default: bytes.removeLast(bytes.count - place)
                }
            }
            let text = String(decoding: bytes, as: UTF8.self)
            guard let read = try? CommitMetadata(text, at: offset) else { continue }
            #expect(read == value || text.isEmpty, "seed \(seed): \(text)")
        }
    }

    @Test("bodies of random bytes under a right checksum never trap, and what they are read as is written the same: 20,000")
    func randomBodies() throws {
        var accepted = 0
        for seed in UInt64(0)..<20_000 {
            var random = SeededGenerator(seed)
            let offset =
                Bool.random(using: &random)
                ? Int64.random(in: 0...1000, using: &random) : .max - .random(in: 0...99, using: &random)
            let most: UInt8 = Bool.random(using: &random) ? 255 : 7
            var body = (0..<Int.random(in: 0...24, using: &random)).map { _ in UInt8.random(in: 0...most, using: &random) }
            if body.count > 1, Bool.random(using: &random) {
                body[1] = [0, 1, 2, 4, 5, 6, 12, 13, 14].randomElement(using: &random) ?? 0
            }
            let text = CommitMetadata.text(body, at: offset)
            guard let read = try? CommitMetadata(text, at: offset) else { continue }
            accepted += 1
            #expect(read.encoded(at: offset) == text, "seed \(seed)")
        }
        #expect(accepted > 1000)
    }
}
