import Foundation
import Testing
import TriageEvents
import TriageIngress
import TriageKafka
import TriageProcessing

@testable import Triage

@Suite("Keys and ciphers of dead letters")
struct DeadLetterCipherTests {
    private let origin = RecordPosition(topic: "fhir.Patient", partition: 3, offset: 42)
    private let clear = ByteSlice(#"{"resourceType":"Patient","id":"p"}"#)

    private func letter(_ key: DeadLetterSealKey, origin: RecordPosition? = nil) throws -> Record {
        let origin = origin ?? self.origin
        let headers = HeaderBlock.bytes([Header("theirs", text: "x"), Header("traceparent", text: "old"), Header("null", nil)])
        func base64(_ bytes: ByteSlice, _ part: DeadLetterPart) throws -> String {
            Data(try #require(key.seal(bytes, as: part, of: origin))).base64EncodedString()
        }
        return Record(
            topic: "fhir.Patient.dlq", partition: 3, offset: 7, timestamp: nil, key: ByteSlice("p"),
            value: key.seal(clear, as: .body, of: origin),
            headers: [
                Header("traceparent", text: "new"), Header("triage-origin", text: "\(origin)"),
                Header("triage-encryption", text: key.name), Header("triage-shape", text: "object"),
                Header("triage-error-detail", text: try base64(ByteSlice("Zoë has no MRN"), .detail)),
                Header("triage-sealed-headers", text: try base64(headers, .headers)),
            ])
    }

    private func with(_ record: Record, _ name: StaticString, _ text: String) -> Record {
        Record(
            topic: record.topic, partition: record.partition, offset: record.offset, timestamp: nil, key: record.key,
            value: record.value, headers: record.headers.replacing([Header(name.description, text: text)]))
    }

    /// Made by Python's `cryptography` from the description in the article: HKDF, AESGCM.
    @Test("What another implementation sealed is opened")
    func vectors() throws {
        let key = try DeadLetterSealKey(0..<32)
        #expect(key.id == "630dcd29" && key.name == "A256GCM 630dcd29")
        let body = """
            000102030405060708090a0b5556048dd0635c1f79f8478681123f0187701f2cd003b144e3e7db14c2c589232f7cb8aef89d8513dc4e4db0e511719b\
            5fe4f9
            """
        let bytes = stride(from: 0, to: body.count, by: 2).map { at in
            UInt8(body.dropFirst(at).prefix(2), radix: 16) ?? 0
        }
        let record = Record(
            topic: "fhir.Patient.dlq", partition: 3, offset: 7, timestamp: nil, key: nil, value: ByteSlice(bytes),
            headers: [
                Header("triage-origin", text: "\(origin)"), Header("triage-encryption", text: "A256GCM 630dcd29"),
                Header("triage-error-detail", text: "DA0ODxAREhMUFRYXl9YUJFeoon4AtEwi4iP5piu/Nhtc8qI5XucJEMzLKA=="),
                Header(
                    "triage-sealed-headers",
                    text: "GBkaGxwdHh8gISIjY0TvgTbsGQiwAMTUhgLbIdtvB2AfTHcY6GMV446n/932C9fu7wS198WufrmbWsfFNruV"),
            ])
        let cipher = DeadLetterCipher(keys: [key])
        #expect(try cipher.open(record) == clear)
        #expect(try cipher.openDetail(record.headers) == "Zoë has no MRN")
        let opened = try cipher.opened(record)
        #expect(
            opened.headers == [
                Header("theirs", text: "x"), Header("null", nil), Header("", text: ""),
                Header("triage-origin", text: "\(origin)"),
            ])
    }

    @Test("Sealed and opened, by any of the keys; each sealing has its own nonce")
    func roundTrip() throws {
        let old = try DeadLetterSealKey(repeatElement(1, count: 32))
        let new = try DeadLetterSealKey(repeatElement(2, count: 40))
        let cipher = DeadLetterCipher(keys: [new, old])
        #expect(cipher.seal?.name == new.name)
        for key in [old, new] {
            let record = try letter(key)
            #expect(try cipher.open(record) == clear)
            #expect(try cipher.openDetail(record.headers) == "Zoë has no MRN")
            let opened = try cipher.opened(record)
            #expect(opened.value == clear && opened.position == record.position && opened.key == record.key)
            // The context is the dead letter's own; the seal's headers are gone.
            #expect(opened.headers.map { $0.name } == ["theirs", "null", "traceparent", "triage-origin"])
            #expect(opened.headers.text(HeaderName.traceparent) == "new")
        }
        let nonces = Set(try (0..<100).map { _ in Array(try #require(new.seal(clear, as: .body, of: origin)).prefix(12)) })
        #expect(nonces.count == 100)
        #expect(new.seal(clear, as: .body, of: origin)?.count == clear.count + 28)
        let empty = try #require(new.seal(ByteSlice(""), as: .body, of: origin))
        #expect(new.open(empty, as: .body, origin: "\(origin)") == ByteSlice(""))
    }

    @Test("What isn't sealed comes back as it is; a tombstone is nil")
    func plain() throws {
        let record = Record(
            topic: "t.dlq", partition: 0, offset: 0, timestamp: nil, key: nil, value: clear, headers: [Header("a", text: "b")])
        let cipher = DeadLetterCipher(keys: [])
        #expect(try cipher.open(record) == clear && cipher.openDetail(record.headers) == nil)
        #expect(try cipher.opened(record).headers == record.headers)
        #expect(cipher.seal == nil)
        let gone = Record(
            topic: "t.dlq", partition: 0, offset: 0, timestamp: nil, key: nil, value: nil,
            headers: [Header("triage-encryption", text: "A256GCM 0123abcd")])
        #expect(try cipher.open(gone) == nil)
    }

    @Test("Without the key the error says which one is needed")
    func keys() throws {
        let right = try DeadLetterSealKey(repeatElement(1, count: 32))
        let wrong = try DeadLetterSealKey(repeatElement(2, count: 32))
        let record = try letter(right)
        #expect(throws: DeadLetterCipherError.noKey(wanted: right.id)) { try DeadLetterCipher(keys: []).open(record) }
        let error = DeadLetterCipherError.otherKey(wanted: right.id, known: [wrong.id])
        let cipher = DeadLetterCipher(keys: [wrong])
        #expect(throws: error) { try cipher.open(record) }
        #expect(throws: error) { try cipher.openDetail(record.headers) }
        #expect(throws: error) { try cipher.opened(record) }
        #expect(error.description.contains(right.id) && error.description.contains(wrong.id))
        // The name of another key on it: the bytes tell.
        #expect(throws: DeadLetterCipherError.damaged) { try cipher.open(with(record, "triage-encryption", wrong.name)) }
    }

    @Test("What was changed, cut or put in another's place isn't opened")
    func damaged() throws {
        let key = try DeadLetterSealKey(repeatElement(1, count: 32))
        let cipher = DeadLetterCipher(keys: [key])
        let record = try letter(key)
        let value = try #require(record.value)
        func replaced(_ value: ByteSlice) -> Record {
            Record(
                topic: record.topic, partition: 3, offset: 7, timestamp: nil, key: nil, value: value, headers: record.headers)
        }
        for at in 0..<value.count {
            var bytes = Array(value)
            bytes[at] ^= 1
            #expect(throws: DeadLetterCipherError.damaged) { try cipher.open(replaced(ByteSlice(bytes))) }
        }
        for count in [0, 1, 12, 27, value.count - 1] {
            #expect(throws: DeadLetterCipherError.damaged) { try cipher.open(replaced(value.subslice(0..<count))) }
        }
        // Another event's, and another part's.
        let other = try letter(key, origin: RecordPosition(topic: "fhir.Patient", partition: 3, offset: 43))
        let otherValue = try #require(other.value)
        #expect(throws: DeadLetterCipherError.damaged) { try cipher.open(replaced(otherValue)) }
        let detail = try #require(record.headers.last(HeaderName.errorDetail).flatMap { Base64.decode($0) })
        #expect(throws: DeadLetterCipherError.damaged) { try cipher.open(replaced(detail)) }
        for name in [
            "", "A256GCM", "A128GCM \(key.id)", "A256GCM \(key.id.uppercased())", "A256GCM Zoe45678", "A256GCM  \(key.id)",
        ]
        where name != key.name {
            #expect(throws: DeadLetterCipherError.damaged) { try cipher.open(with(record, "triage-encryption", name)) }
        }
        for (header, text) in [("triage-error-detail", "!"), ("triage-error-detail", ""), ("triage-origin", "nowhere")] {
            let changed = Record(
                topic: record.topic, partition: 3, offset: 7, timestamp: nil, key: nil, value: nil,
                headers: record.headers.replacing([Header(header, text: text)]))
            #expect(throws: DeadLetterCipherError.damaged) { try cipher.openDetail(changed.headers) }
        }
    }

    @Test("A key file is read like that of identifiers: its id is the same, and what it can't be is said")
    func files() async throws {
        let text = "0123456789abcdef0123456789abcdef"
        let expected = try DeadLetterSealKey(Array(text.utf8)).id
        for content in [text, text + "\n", text + "\r\n"] {
            let id = try await withFile(content) { try DeadLetterSealKey(contentsOfFile: $0).id }
            #expect(id == expected)
        }
        #expect(throws: DeadLetterSealKeyError.tooShort(byteCount: 3)) { try DeadLetterSealKey([1, 2, 3]) }
        let short = await refusal {
            try await withFile("short secret") { path in
                _ = try await ConfigurationLoader(flags: ["dead-letter-key-file": path], environment: [:]).configuration()
            }
        }
        #expect(short?.key == "dead-letter-key-file" && short?.expected.contains("it has 12 bytes") == true)
        #expect(short?.description.contains("secret") == false)
        let missing = await refusal {
            _ = try await ConfigurationLoader(flags: [:], environment: ["TRIAGE_DEAD_LETTER_KEY_FILE": "/no/such"])
                .configuration()
        }
        #expect(missing?.expected.contains("can't be read") == true)
    }

    @Test("Several files are keys of now and of before, the first seals")
    func several() async throws {
        let ids = try await withFile(String(repeating: "a", count: 32)) { new in
            try await withFile(String(repeating: "b", count: 32)) { old in
                let loader = try await ConfigurationLoader(flags: ["dead-letter-key-file": "\(new), \(old)"], environment: [:])
                let cipher = try loader.configuration().deadLetterCipher
                #expect(cipher?.seal?.name == cipher?.keys.first?.name)
                return cipher?.keys.map(\.id)
            }
        }
        let expected = try ["a", "b"].map { try DeadLetterSealKey(Array(String(repeating: $0, count: 32).utf8)).id }
        #expect(ids == expected)
        #expect(try await ConfigurationLoader(environment: [:]).configuration().deadLetterCipher == nil)
    }

    @Test("A command whose dead letter is sealed is known to have failed to who has the key")
    func commands() throws {
        let key = try DeadLetterSealKey(repeatElement(1, count: 32))
        let value = ByteSlice(
            #"{"type":"UpdatePatient","data":{"resourceType":"Patient","id":"p"},"metadata":{"requestId":"r-1","source":"s"}}"#)
        let origin = RecordPosition(topic: TopicName.commands, partition: 0, offset: 1)
        let record = Record(
            topic: TopicName.deadLetter(of: TopicName.commands), partition: 0, offset: 0, timestamp: nil, key: nil,
            value: key.seal(value, as: .body, of: origin),
            headers: [
                Header("triage-origin", text: "\(origin)"), Header("triage-encryption", text: key.name),
                Header("triage-error-class", text: "persistent"), Header("error", text: "RejectedError http_422"),
            ])
        let decoder = EventDecoder()
        let opened = try #require(CommandFollower.opened(record, by: DeadLetterCipher(keys: [key])))
        let news = try #require(CommandNews(opened, decoder: decoder))
        #expect(news.requestID == "r-1" && news.status.state == .failed)
        #expect(CommandFollower.opened(record, by: DeadLetterCipher(keys: [])) == nil)
        #expect(CommandNews(record, decoder: decoder) == nil)
    }
}
