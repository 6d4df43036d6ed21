import Foundation
import Testing

@testable import TriageEvents

@Suite("A value inside JSON text")
struct JSONValueTests {
    private func value(_ text: String) throws -> JSONValue { try #require(JSONValue(ByteSlice(text))) }

    @Test("kinds, texts and numbers")
    func scalars() throws {
        #expect(JSONValue(ByteSlice(" \n")) == nil && JSONValue(ByteSlice("")) == nil)
        let kinds: [(String, JSONValue.Kind)] = [
            ("{}", .object), (" [1] ", .array), (#""x""#, .string), ("-1.5e3", .number), ("true", .boolean), ("false", .boolean),
            ("null", .null),
        ]
        for (text, kind) in kinds { #expect(try value(text).kind == kind) }
        #expect(try value(#""a\u00e4\ud835\udd4f\n\/""#).string == "aä𝕏\n/")
        #expect(try value(#""\ud800""#).string == nil && value("1").string == nil)
        #expect(try value("12").integer == 12 && value(#""-7""#).integer == -7 && value("1.0").integer == nil)
        #expect(try value("9223372036854775808").integer == nil && value(#""x""#).integer == nil)
        #expect(try value("true").boolean == true && value("false").boolean == false && value(#""true""#).boolean == nil)
        #expect(try value(#""ab""#).says("ab") && !value(#""ab""#).says("a") && value(#""\u0061b""#).says("ab"))
    }

    @Test("members and elements")
    func containers() throws {
        let object = try value(#" { "a" : [ 1 , {"b":null} , "]" ] , "b\"" : null , "c":{} } "#)
        #expect(object["a"]?.elements.map { $0.text.utf8Text } == ["1", #"{"b":null}"#, #""]""#])
        #expect(object["b"] == nil && object["c"]?.elements.isEmpty == true)
        var names: [String?] = []
        object.forEachMember { name, _ in
            names.append(name.utf8Text)
            return true
        }
        #expect(names == ["a", #"b\""#, "c"])
        #expect(try value("[]").elements.isEmpty && value("{}").elements.isEmpty)
        var seen = 0
        object.forEachMember { _, _ in
            seen += 1
            return false
        }
        #expect(seen == 1)
    }

    /// Everything there is in a value, by its own account.
    private func walk(_ value: JSONValue, depth: Int = 0) -> Int {
        guard depth < 40 else { return 0 }
        var count = 1 + (value.string?.count ?? 0) + Int(truncatingIfNeeded: value.integer ?? 0) &* 0
        _ = value.boolean
        _ = value["a"]
        for element in value.elements { count += walk(element, depth: depth + 1) }
        value.forEachMember { _, value in
            count += walk(value, depth: depth + 1)
            return count < 100_000
        }
        return count
    }

    /// Whether a value says what Foundation reads.
    private func agrees(_ value: JSONValue, _ other: Any) -> Bool {
        switch value.kind {
        case .object:
            guard let object = other as? [String: Any] else { return false }
            var first: [String: JSONValue] = [:]
            value.forEachMember { name, member in
                // The bytes between the quotes are no text where they have escapes: as the string that they make.
                let quoted = ByteSlice(Array("\"".utf8) + Array(name) + Array("\"".utf8))
                if let name = JSONValue(quoted)?.string, first[name] == nil { first[name] = member }
                return true
            }
            // Of members with one name Foundation keeps another one: they are not compared.
            guard first.count == object.count else { return false }
            return object.allSatisfy { name, member in first[name].map { agrees($0, member) } ?? false }
        case .array:
            guard let array = other as? [Any] else { return false }
            let elements = value.elements
            return elements.count == array.count && zip(elements, array).allSatisfy { agrees($0, $1) }
        case .string: return value.string == other as? String
        case .number: return value.integer == nil || (other as? NSNumber)?.int64Value == value.integer
        case .boolean: return value.boolean == (other as? Bool)
        case .null: return other is NSNull
        }
    }

    private func random(_ generator: inout SeededGenerator, depth: Int = 0) -> String {
        let space = [" ", "", "", "\n", "\t"].randomElement(using: &generator) ?? ""
        let text =
            [#""""#, #""a""#, #""\"\\\u00e9\n""#, #""ü{[,]}:""#, #""\ud83d\ude00""#].randomElement(using: &generator) ?? ""
        switch Int.random(in: 0..<(depth > 4 ? 4 : 6), using: &generator) {
        case 0: return space + text
        case 1: return space + "\(Int.random(in: -1000...1000, using: &generator))"
        case 2: return ["true", "false", "null"].randomElement(using: &generator) ?? ""
        case 3: return "-1.25e2" + space
        case 4:
            let items = (0..<Int.random(in: 0...4, using: &generator)).map { _ in random(&generator, depth: depth + 1) }
            return "[\(space)" + items.joined(separator: "\(space),") + "]"
        default:
            let members = (0..<Int.random(in: 0...4, using: &generator)).map { index in
                #"\#(space)"k\#(index)\u0061" :\#(random(&generator, depth: depth + 1))"#
            }
            return "{" + members.joined(separator: ",") + "\(space)}"
        }
    }

    private func seeded() -> UInt64 {
        ProcessInfo.processInfo.environment["TRIAGE_TEST_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0...(.max))
    }

    @Test("random JSON reads as Foundation reads it; mutated, it reads as something, and never traps")
    func randomJSON() throws {
        let seed = seeded()
        var generator = SeededGenerator(state: seed)
        var compared = 0
        for round in 0..<1500 {
            let text = #"{"a":\#(random(&generator))}"#
            let value = try value(text)
            let other = try JSONSerialization.jsonObject(with: Data(text.utf8))
            #expect(agrees(value, other), "TRIAGE_TEST_SEED=\(seed), round \(round)")
            compared += 1
            var bytes = Array(text.utf8)
            for _ in 0..<3 {
                let at = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[at] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes[at] = Array(#"{}[]",:\u"#.utf8).randomElement(using: &generator) ?? 0
                default: bytes.removeSubrange(at...)
                }
                if bytes.isEmpty { bytes = [0x7B] }
            }
            if let mutated = JSONValue(ByteSlice(bytes)) { _ = walk(mutated) }
        }
        #expect(compared == 1500)
    }

    @Test("random bytes never trap")
    func randomBytes() {
        let seed = seeded()
        var generator = SeededGenerator(state: seed)
        let alphabet = Array(#"{}[]",:\u0 tfn1-"#.utf8) + [0, 0x80, 0xFF]
        for _ in 0..<5000 {
            let bytes = (0..<Int.random(in: 0...60, using: &generator)).map { _ in alphabet.randomElement(using: &generator) ?? 0
            }
            if let value = JSONValue(ByteSlice(bytes)) { _ = walk(value) }
        }
    }

    @Test("mutated change records, notifications and CloudEvents are read or refused, never a crash")
    func mutatedForms() throws {
        let seed = seeded()
        var generator = SeededGenerator(state: seed)
        let patient = #"{"resourceType":"Patient","id":"p1","meta":{"versionId":"7"}}"#
        let row = #"{"id":"p1","txid":1,"ts":5,"resource_type":"Patient","resource":\#(JSONText(patient).quoted)}"#
        let samples = [
            #"{"before":null,"after":\#(row),"op":"c","ts_ms":1,"source":{"table":"patient","lsn":1}}"#,
            #"{"schema":{},"payload":{"before":\#(row),"after":null,"op":"d"}}"#, JSONText(patient).quoted,
            #"{"specversion":"1.0","id":"1","source":"s","type":"PatientCreated","data":\#(patient)}"#,
            #"""
            {"resourceType":"Bundle","type":"history","entry":[{"resource":{"resourceType":"SubscriptionStatus","type":"event-notification",
            "notificationEvent":[{"eventNumber":"1","focus":{"reference":"Patient/p1"}}]}},
            {"fullUrl":"http://a/Patient/p1","request":{"method":"PUT","url":"Patient/p1"},"resource":\#(patient)}]}
            """#,
        ].map { Array($0.utf8) }
        let decoder = EventDecoder(roles: TopicRoles(changeData: ["t"]))
        var read = 0
        for round in 0..<8000 {
            var bytes = samples.randomElement(using: &generator) ?? []
            for _ in 0..<Int.random(in: 0...3, using: &generator) where !bytes.isEmpty {
                let at = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes[at] = UInt8.random(in: 32...126, using: &generator)
                case 1: bytes.remove(at: at)
                case 2: bytes.insert(Array(#"{}[]",:\u"#.utf8).randomElement(using: &generator) ?? 0, at: at)
                default: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                }
            }
            for topic in ["t", "fhir.Patient.created"] {
                let record = Record(
                    topic: topic, partition: 0, offset: 0, timestamp: nil, key: ByteSlice("k"), value: ByteSlice(bytes))
                guard let event = try? decoder.decode(record) else { continue }
                read += 1
                guard let resource = event.resource else {
                    #expect(event.action == .deleted, "TRIAGE_TEST_SEED=\(seed), round \(round)")
                    continue
                }
                // What is handed on as a resource is one, and says no other id than the event.
                let again = try? decoder.decode(value: resource, key: nil, topicAction: .created)
                #expect(again != nil, "TRIAGE_TEST_SEED=\(seed), round \(round)")
                #expect([nil, event.resourceID].contains(again?.resourceID), "TRIAGE_TEST_SEED=\(seed), round \(round)")
            }
        }
        #expect(read > 2000, "TRIAGE_TEST_SEED=\(seed)")
    }
}
