import Synchronization
import Testing
import TriageEvents
import TriageTelemetry
import TriageTestKit

@testable import TriageProcessing

/// Turns bytes around, which is no cipher but shows what went through it; refuses the parts that it is told to.
private struct Mirror: DeadLetterSeal {
    var refused: Set<DeadLetterPart> = []
    let name = "A256GCM 0123abcd"

    func seal(_ clear: ByteSlice, as part: DeadLetterPart, of origin: RecordPosition) -> ByteSlice? {
        refused.contains(part) ? nil : ByteSlice(Array("\(part.rawValue) \(origin) ".utf8) + clear.map { ~$0 })
    }

    static func opened(_ sealed: ByteSlice, as part: DeadLetterPart, of origin: String) -> ByteSlice? {
        let prefix = Array("\(part.rawValue) \(origin) ".utf8)
        guard sealed.starts(with: prefix) else { return nil }
        return ByteSlice(sealed.dropFirst(prefix.count).map { ~$0 })
    }
}

/// Says a text that must not be asked for without a seal.
private struct Talking: ClassifiedError, CustomStringConvertible {
    static let asked = Mutex(0)
    let errorClass: ErrorClass
    var isPersistent: Bool { errorClass == .persistent }
    var description: String {
        Talking.asked.withLock { $0 += 1 }
        return "the patient Zoë \(String(repeating: "ä", count: 6000))"
    }
}

@Suite("Engine: sealed dead letters", .serialized, .timeLimit(.minutes(1)))
struct DeadLetterSealTests {
    private func sealed(_ headers: Headers, _ name: StaticString, as part: DeadLetterPart, of origin: String) -> ByteSlice? {
        headers.last(name).flatMap { Base64.decode($0) }.flatMap { Mirror.opened($0, as: part, of: origin) }
    }

    @Test("value, error text and the producer's headers are sealed, what tells of the failure isn't; the retry record is as ever")
    func parts() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put(
            "p", version: 0,
            headers: [
                Header("theirs", text: "Zoë"), Header("theirs", nil), Header("baggage", text: "name=Zoe"),
                Header("triage-shape", text: "Zoë"), Header("triage-encryption", text: "A256GCM ffffffff"),
                Header("triage-error-detail", text: "Zoë"), Header("triage-sealed-headers", text: "Zoë"),
                Header("content-type", text: "application/json; of=Zoe"), Header("error", text: "Zoë"),
            ])
        try await bench.run {
            $0.deadLetterSeal = Mirror()
            $0.retry = RetryPolicy(retries: 1, base: .milliseconds(2), cap: .milliseconds(2))
        } handler: { _, _ in
            throw Talking(errorClass: .transient)
        }
        let retry = try #require(bench.retries.first)
        #expect(retry.value == EngineBench.event("p", version: 0))
        let dead = try #require(bench.deadLetters.first)
        let origin = "fhir.Patient/0/0"
        #expect(dead.key?.utf8Text == "p")
        #expect(dead.value.flatMap { Mirror.opened($0, as: .body, of: origin) } == EngineBench.event("p", version: 0))
        #expect(dead.headers.text(HeaderName.encryption) == "A256GCM 0123abcd")
        #expect(dead.headers.text(HeaderName.origin) == origin)
        #expect(dead.headers.text(HeaderName.error) == "Talking")
        #expect(dead.headers.text(HeaderName.shape)?.hasPrefix("object; type string; data object") == true)
        let detail = sealed(dead.headers, HeaderName.errorDetail, as: .detail, of: origin)?.utf8Text
        #expect(detail?.hasPrefix("the patient Zoë ää") == true)
        // As much as is kept, and no half of a character.
        #expect((8188...8192).contains(detail?.utf8.count ?? 0))
        let theirs = sealed(dead.headers, HeaderName.sealedHeaders, as: .headers, of: origin).flatMap { HeaderBlock.headers($0) }
        #expect(
            theirs == [
                Header("theirs", text: "Zoë"), Header("theirs", nil), Header("baggage", text: "name=Zoe"),
                Header("content-type", text: "application/json; of=Zoe"),
            ])
        let clear = dead.headers.filter { $0.name != "triage-error-detail" && $0.name != "triage-sealed-headers" }
        #expect(!clear.contains { String(decoding: $0.value ?? ByteSlice(""), as: UTF8.self).contains("Zo") })
        #expect(Set(dead.headers.map(\.name)).count == dead.headers.count, "each once")
        #expect(dead.headers.last(HeaderName.contentType) == nil)
        #expect(dead.headers.last(HeaderName.traceparent) != nil)
        let letter = DeadLetter(dead)
        #expect(letter.isSealed && letter.keyID == "0123abcd" && letter.group == "workers" && letter.attempts.entries.count == 2)
        #expect(DeadLetter.shape(of: dead.headers)?.lines.contains { $0.path == "data.resourceType" } == true)
    }

    @Test("a tombstone stays null, bytes that are no JSON are sealed as they are and have no shape")
    func values() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put(nil, key: ByteSlice("gone"))
        let broken = ByteSlice([0xFF, 0x00, 0x7B, 0x22])
        try bench.put(broken, key: ByteSlice("broken"))
        try await bench.run {
            $0.deadLetterSeal = Mirror()
            $0.retry = RetryPolicy(retries: 0)
        } handler: { _, _ in
            throw Talking(errorClass: .persistent)
        }
        let dead = Dictionary(uniqueKeysWithValues: bench.deadLetters.map { ($0.key?.utf8Text ?? "", $0) })
        let gone = try #require(dead["gone"])
        #expect(gone.value == nil && gone.headers.last(HeaderName.shape) == nil && DeadLetter(gone).isSealed)
        #expect(gone.headers.last(HeaderName.errorDetail) != nil && gone.headers.last(HeaderName.sealedHeaders) == nil)
        let sealed = try #require(dead["broken"])
        #expect(sealed.value.flatMap { Mirror.opened($0, as: .body, of: "fhir.Patient/0/1") } == broken)
        #expect(sealed.headers.last(HeaderName.shape) == nil)
        let detail = self.sealed(sealed.headers, HeaderName.errorDetail, as: .detail, of: "fhir.Patient/0/1")
        #expect(detail?.utf8Text?.contains("InvalidEvent") == true)
    }

    @Test("without a seal nobody asks how the error prints, and no header claims one")
    func none() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p", version: 0, headers: [Header("triage-encryption", text: "A256GCM ffffffff")])
        Talking.asked.withLock { $0 = 0 }
        try await bench.run {
            $0.retry = RetryPolicy(retries: 1, base: .milliseconds(2), cap: .milliseconds(2))
        } handler: { _, _ in
            throw Talking(errorClass: .transient)
        }
        #expect(Talking.asked.withLock { $0 } == 0)
        let dead = try #require(bench.deadLetters.first)
        #expect(dead.value == EngineBench.event("p", version: 0))
        #expect(HeaderName.ofSeals.allSatisfy { dead.headers.last($0) == nil })
        #expect(!DeadLetter(dead).isSealed)
    }

    @Test("what can't be sealed becomes a pointer and is never written in the clear", arguments: [DeadLetterPart.body, .headers])
    func refused(part: DeadLetterPart) async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p", version: 0, headers: [Header("theirs", text: "Zoë")])
        try await bench.run {
            $0.deadLetterSeal = Mirror(refused: [part])
        } handler: { _, _ in
            throw Persistent()
        }
        let dead = try #require(bench.deadLetters.first)
        #expect(dead.value == nil && dead.headers.last("theirs") == nil)
        let bytes = EngineBench.event("p", version: 0).count
        #expect(dead.headers.text(HeaderName.pointer) == "SEAL_FAILED \(bytes)")
        #expect(DeadLetter(dead).isPointer && !DeadLetter(dead).isSealed)
        #expect(bench.total(.deadLetterPointers) == 1)
        bench.expectAllCommitted()
    }

    @Test("a dead letter that only sealing makes too large becomes a pointer, with the error's text")
    func tooLarge() async throws {
        let bench = EngineBench(partitions: 1)
        let value = EngineBench.event("p", version: 0)
        try bench.put(value, key: ByteSlice("p"), headers: [Header("theirs", text: String(repeating: "h", count: 5000))])
        // More than the record has with plain headers, less than it has with them in base64.
        bench.broker.setMaximumRecordSize(6500, of: bench.deadLetterTopic)
        struct Refused: ClassifiedError {
            var errorClass: ErrorClass { .persistent }
            var detail: String? { "HTTP 422" }
        }
        let summary = try await bench.run {
            $0.deadLetterSeal = Mirror()
        } handler: { _, _ in
            throw Refused()
        }
        #expect(summary.deadLettered == 1)
        let dead = try #require(bench.deadLetters.first)
        #expect(dead.value == nil && dead.headers.last(HeaderName.sealedHeaders) == nil)
        #expect(dead.headers.text(HeaderName.pointer) == "MSG_SIZE_TOO_LARGE \(value.count)")
        #expect(sealed(dead.headers, HeaderName.errorDetail, as: .detail, of: "fhir.Patient/0/0")?.utf8Text == "HTTP 422")
        let plain = EngineBench(partitions: 1)
        try plain.put(value, key: ByteSlice("p"), headers: [Header("theirs", text: String(repeating: "h", count: 5000))])
        plain.broker.setMaximumRecordSize(6500, of: plain.deadLetterTopic)
        try await plain.run { _, _ in throw Refused() }
        #expect(plain.deadLetters.first?.value == value, "without a seal it fits")
    }

    @Test("a retry record that is refused becomes a sealed dead letter with the error's text")
    func refusedRetry() async throws {
        let bench = EngineBench(partitions: 1)
        bench.broker.setMaximumRecordSize(400, of: bench.retryTopic)
        try bench.put("p", version: 0)
        try await bench.run {
            $0.deadLetterSeal = Mirror()
        } handler: { _, _ in
            throw Talking(errorClass: .transient)
        }
        let dead = try #require(bench.deadLetters.first)
        #expect(dead.headers.text(HeaderName.error) == "Talking, retry refused: MSG_SIZE_TOO_LARGE")
        let detail = sealed(dead.headers, HeaderName.errorDetail, as: .detail, of: "fhir.Patient/0/0")
        #expect(detail?.utf8Text?.hasPrefix("the patient Zoë") == true)
    }

    @Test("a replay of one that wasn't opened is refused; of one that was, nothing of the seal stays")
    func replay() async throws {
        let bench = EngineBench(partitions: 1)
        try bench.put("p", version: 0)
        try await bench.run {
            $0.deadLetterSeal = Mirror()
        } handler: { _, _ in
            throw Persistent()
        }
        let dead = try #require(bench.deadLetters.first)
        let replay = DeadLetterReplay(to: .retry, id: "0190163d-8694-739b-aea5-966c26f8ad91")
        let now = Timestamp(milliseconds: 1_800_000_000_000)
        #expect(throws: DeadLetterReplay.Refusal.sealed(keyID: "0123abcd")) { try replay.outbound(dead, at: now) }
        let opened = try replay.outbound(dead, value: EngineBench.event("p", version: 0), at: now)
        #expect(HeaderName.ofSeals.allSatisfy { opened.headers.last($0) == nil })
    }

    @Test("blocks of headers are read as they were written; what is none is refused")
    func blocks() {
        let seed = UInt64.random(in: .min ... .max)
        var random = SeededGenerator(seed)
        for _ in 0..<500 {
            let headers = (0..<Int(random.next() % 4)).map { _ in
                Header(
                    String(repeating: "ä", count: Int(random.next() % 5)),
                    random.next() % 4 == 0
                        ? nil : ByteSlice((0..<random.next() % 9).map { _ in UInt8(truncatingIfNeeded: random.next()) })
                )
            }
            let block = HeaderBlock.bytes(headers)
            #expect(HeaderBlock.headers(block) == headers, "seed \(seed)")
            // Never a trap, whatever is cut off or changed.
            _ = HeaderBlock.headers(block.subslice(0..<Int(random.next() % UInt64(block.count + 1))))
            var bytes = Array(block)
            if !bytes.isEmpty { bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next()) }
            _ = HeaderBlock.headers(ByteSlice(bytes))
        }
        #expect(HeaderBlock.headers(ByteSlice([0, 0, 0, 1])) == nil)
        #expect(HeaderBlock.headers(ByteSlice([0x7F, 0xFF, 0xFF, 0xFF, 0])) == nil)
        #expect(HeaderBlock.headers(ByteSlice([0xFF, 0xFF, 0xFF, 0xFF])) == nil)
    }
}
