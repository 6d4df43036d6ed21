import Foundation
import Testing

@testable import TriageEvents

@Suite("Event decoder: what comes from outside")
struct EventRobustnessTests {
    static func patients() throws -> [ByteSlice] {
        let url = try #require(
            Bundle.module.url(
                forResource: "hl7-r4-patients", withExtension: "ndjson",
                subdirectory: "Fixtures"))
        return try Data(contentsOf: url).split(separator: UInt8(ascii: "\n")).map { ByteSlice($0) }
    }

    @Test("every example Patient of FHIR R4 is accepted, in every form")
    func examples() throws {
        let all = try EventRobustnessTests.patients()
        #expect(all.count == 51)
        let decoder = EventDecoder()
        for patient in all {
            let record = Record(topic: "fhir.Patient.created", partition: 0, offset: 0, timestamp: nil, key: nil, value: patient)
            let event = try decoder.decode(record)
            #expect(event.form == .resource && event.action == .created)
            #expect(event.resource == patient)
            let json = try #require(patient.utf8Text)
            let wrapped = try decoder.decode(
                value: ByteSlice(envelope("PatientCreated", data: json)), key: nil, topicAction: nil
            )
            #expect(wrapped.resource == patient)
            #expect(
                wrapped.resourceID == event.resourceID && wrapped.gender == event.gender
                    && wrapped.birthDate == event.birthDate)
            let object = try #require(try JSONSerialization.jsonObject(with: Data(patient)) as? [String: Any])
            #expect(event.resourceID == object["id"] as? String)
            #expect(event.gender == object["gender"] as? String)
            #expect(event.birthDate == object["birthDate"] as? String)
        }
    }

    @Test(
        "texts that RFC 8259 forbids",
        arguments: [
            "{", "}", "{}{}", "{} x", #"{"a":1,}"#, #"{"a":[1,]}"#, #"{,"a":1}"#, #"{"a" 1}"#, #"{a:1}"#, #"{'a':1}"#,
            #"{"a":01}"#,
            #"{"a":.5}"#, #"{"a":1.}"#, #"{"a":+1}"#, #"{"a":NaN}"#, #"{"a":tru}"#, #"{"a":nulll}"#, #"{"a":"\x"}"#,
            #"{"a":"\u12"}"#,
            "{\"a\":\"\u{1}\"}", "{\"a\":\"\0\"}", "{\"a\":\"\n\"}", #"{"a":"b}"#, "\u{FEFF}{}", "{\"a\":1}\0", "// c\n{}",
            #"{"a":/**/1}"#,
            #"{"a":"\ud800"}"#, #"{"a":"\ud800\u0041"}"#, #"{"a":"\ud800\ud800"}"#, #"{"a":"\udc00"}"#, #"{"a":1e999}"#,
            "{\"a\":1\u{C}}", "{\u{A0}}", #"{"a":123456789012345678901234567890}"#,
        ]
    )
    func malformed(text: String) {
        #expect(decode(text, topic: .created).broken == "invalid_json@")
    }

    @Test(
        "bytes that are not UTF-8, inside texts and out, and whatever else is wrong",
        arguments: [
            [0x80], [0xC0, 0x80], [0xC3], [0xC3, 0x28], [0xE2, 0x82], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xF8, 0x88],
            [0xFF], [0xFE],
        ] as [[UInt8]]
    )
    func notUTF8(bad: [UInt8]) {
        for (before, after) in [
            (#"{"resourceType":"Patient","id":""#, "\"}"), ("{", "}"), ("", ""), ("{\"a\":\"", ""),
            (
                "[[[",
                ""
            ),
        ] {
            #expect(decode(bytes: Array(before.utf8) + bad + Array(after.utf8), topic: .created).broken == "invalid_utf8@")
        }
    }

    @Test("depth: 1,024 is read, more is a clean error")
    func depth() {
        func nested(_ open: String, _ close: String, _ count: Int, closed: Bool = true) -> String {
            String(repeating: open, count: count) + (closed ? "1" + String(repeating: close, count: count) : "")
        }
        #expect(decode(patient(#""x":\#(nested("[", "]", 1023))"#), topic: .created).broken == nil)
        #expect(decode(patient(#""x":\#(nested("[", "]", 1024))"#), topic: .created).broken == "invalid_json@")
        #expect(decode(nested("[", "]", 100_000)).broken == "invalid_json@")
        #expect(decode(nested("[", "]", 100_000, closed: false)).broken == "invalid_json@")
        #expect(decode(patient(#""x":\#(nested(#"{"a":"#, "}", 100_000))"#)).broken == "invalid_json@")
    }

    @Test("a value of 2 MiB is read, and its memory given back")
    func large() throws {
        let decoder = EventDecoder()
        _ = try decoder.decode(value: ByteSlice(patient()), key: nil, topicAction: .created)
        let small = decoder.capacity
        let div = String(repeating: "é\\n", count: 2 << 18)
        let text = envelope(data: patient(#""text":{"div":"\#(div)"},"gender":"male""#))
        #expect(text.utf8.count > 2 << 20)
        let event = try decoder.decode(value: ByteSlice(text), key: nil, topicAction: nil)
        #expect(event.gender == "male")
        #expect(decoder.capacity == 0)
        #expect(throws: InvalidEvent(.json, at: "")) {
            try decoder.decode(value: ByteSlice(String(text.dropLast())), key: nil, topicAction: nil)
        }
        #expect(decoder.capacity == 0)
        // Up to 256 KiB it is kept, so that a stream of such events doesn't ask for memory each time.
        let middle = patient(#""text":{"div":"\#(String(repeating: "x", count: 200_000))"}"#)
        #expect(try decoder.decode(value: ByteSlice(middle), key: nil, topicAction: .updated).resourceID == "p1")
        #expect(decoder.capacity == 262_144)
        #expect(small <= 8192)
    }

    @Test("more than 64 MiB is refused before it is parsed")
    func tooLarge() {
        let decoder = EventDecoder()
        let value = ByteSlice(count: 64 << 20 + 1) { _ in }
        #expect(throws: InvalidEvent(.tooLarge, at: "")) { try decoder.decode(value: value, key: nil, topicAction: nil) }
        #expect(decoder.capacity == 0)
    }

    @Test("a value cut off anywhere is a clean error")
    func truncated() throws {
        let decoder = EventDecoder()
        let whole = ByteSlice(fullEnvelope)
        for count in 0..<whole.count {
            do throws(InvalidEvent) {
                _ = try decoder.decode(value: whole.subslice(0..<count), key: nil, topicAction: .created)
                Issue.record("\(count) bytes were accepted")
            } catch {
                #expect([.json, .utf8, .empty].contains(error.rule), "\(count)")
            }
        }
        // What stands behind the slice in the same block is never part of it.
        #expect(try decoder.decode(value: whole, key: nil, topicAction: .created).action == .updated)
    }

    @Test("mutated events are valid or refused, never a crash, and both readings of the bytes agree")
    func mutations() throws {
        let seed = ProcessInfo.processInfo.environment["TRIAGE_TEST_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0...(.max))
        var generator = SeededGenerator(state: seed)
        var samples = try EventRobustnessTests.patients().prefix(10).map { Array($0) }
        samples.append(Array(fullEnvelope.utf8))
        let inner = patient(#""gender":"male""#)
        let flat = #"{"resourceType":"Patient","action":"created","timestamp":"2024-01-02","resource":\#(inner)}"#
        samples.append(Array(flat.utf8))
        samples.append(Array(envelope("PatientDeleted", data: "null", metadata: #"{"eventId":"e"}"#).utf8))
        let interesting = Array(#"{}[]",:\u0eE+-. tfn"#.utf8) + [0, 0x0A, 0x7F, 0x80, 0xC3, 0xFF]
        let decoder = EventDecoder()
        var valid = 0
        for round in 0..<20_000 {
            var bytes = samples.randomElement(using: &generator) ?? []
            for _ in 0..<Int.random(in: 1...4, using: &generator) where !bytes.isEmpty {
                let at = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<6, using: &generator) {
                case 0: bytes[at] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes[at] = interesting.randomElement(using: &generator) ?? 0
                case 2: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                case 3: bytes.remove(at: at)
                case 4: bytes.insert(interesting.randomElement(using: &generator) ?? 0, at: at)
                default:
                    let end = min(bytes.count, at + Int.random(in: 1...40, using: &generator))
                    bytes.insert(contentsOf: Array(bytes[at..<end]), at: Int.random(in: 0...bytes.count, using: &generator))
                }
            }
            let value = ByteSlice(bytes)
            guard let event = try? decoder.decode(value: value, key: ByteSlice("key-1"), topicAction: .created) else { continue }
            valid += 1
            let context = "TRIAGE_TEST_SEED=\(seed), round \(round)"
            #expect(event.resourceIDBytes.map(FHIRGrammar.isID) ?? (event.action == .created), "\(context)")
            #expect(["male", "female", "other", "unknown", nil].contains(event.gender), "\(context)")
            #expect(value.utf8Text != nil, "\(context)")
            if event.form != .resource, let resource = event.resource {
                let inner = try? decoder.decode(value: resource, key: ByteSlice("key-1"), topicAction: event.action)
                // A resource with a member `action` or `resource` reads as the flat form when it stands alone.
                guard let inner, inner.form == .resource else { continue }
                #expect(inner.resourceID == event.resourceID && inner.gender == event.gender, "\(context)")
                #expect(inner.versionID == event.versionID && inner.birthDate == event.birthDate, "\(context)")
            }
        }
        #expect(valid > 1000, "TRIAGE_TEST_SEED=\(seed): too few of the mutations were valid to mean anything")
    }
}
