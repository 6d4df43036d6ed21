import Testing

@testable import TriageEvents

@Suite("Byte slices")
struct ByteSliceTests {
    @Test("equal if the bytes are, wherever they lie")
    func equality() {
        let long = ByteSlice("xxhello, world, hello, world")
        let one = long.subslice(2..<14)
        let other = long.subslice(16..<28)
        #expect(one == ByteSlice("hello, world") && one == other)
        #expect(one.hashValue == other.hashValue)
        #expect(one != long.subslice(2..<13))
        for count in 0..<40 {
            let bytes = (0..<count).map { UInt8($0) }
            #expect(ByteSlice(bytes) == ByteSlice(bytes))
            for index in 0..<count {
                var changed = bytes
                changed[index] ^= 0x80
                #expect(ByteSlice(bytes) != ByteSlice(changed))
            }
        }
        #expect(ByteSlice("") == ByteSlice(storage: nil, start: 0, count: 0))
        #expect(ByteSlice("abc").equals("abc") && !ByteSlice("abc").equals("abd") && !ByteSlice("abc").equals("ab"))
        #expect(ByteSlice("").equals(""))
    }

    @Test("subslices of subslices count from their own start")
    func subslices() {
        let whole = ByteSlice(Array(0..<100))
        let inner = whole.subslice(10..<50).subslice(5..<15)
        #expect(Array(inner) == Array(15..<25))
        #expect(inner[0] == 15 && inner.first == 15 && inner.last == 24 && inner.count == 10)
        #expect(Array(inner.dropFirst(8)) == [23, 24])
        #expect(inner.subslice(3..<3).isEmpty)
        #expect(inner.withContiguousStorageIfAvailable { Array($0) } == Array(15..<25))
    }

    @Test("64 bytes behind the end can be read")
    func padding() {
        let slice = ByteSlice("x")
        // Address sanitizer sees to it that this can fail.
        slice.withUnsafeBytes { bytes in
            let behind = UnsafeRawBufferPointer(start: bytes.baseAddress, count: bytes.count + ByteStorage.padding)
            #expect(behind.reduce(into: 0) { $0 += Int($1) } >= Int(UInt8(ascii: "x")))
        }
    }

    @Test("text, if the bytes are UTF-8")
    func text() {
        #expect(ByteSlice("aé😀\0").utf8Text == "aé😀\0")
        #expect(ByteSlice([0xFF]).utf8Text == nil)
        #expect(ByteSlice([0xED, 0xA0, 0x80]).utf8Text == nil)
        #expect(ByteSlice("").utf8Text == "")
    }

    @Test("the hash depends on every byte, the count and the seed, and on nothing else")
    func hash64() {
        var seen: Set<UInt64> = []
        var count = 0
        for length in 0..<40 {
            seen.insert(ByteSlice([UInt8](repeating: 0, count: length)).hash64(seed: 1))
            count += 1
            for index in 0..<length {
                var bytes = [UInt8](repeating: 0, count: length)
                bytes[index] = 1
                seen.insert(ByteSlice(bytes).hash64(seed: 1))
                count += 1
            }
        }
        #expect(seen.count == count)
        let shifted = ByteSlice("xxxpatient-1").subslice(3..<12)
        #expect(shifted.hash64(seed: 7) == ByteSlice("patient-1").hash64(seed: 7))
        #expect(shifted.hash64(seed: 7) != shifted.hash64(seed: 8))
    }
}

@Suite("Headers")
struct HeadersTests {
    let headers: Headers = [
        Header("a", text: "1"), Header("b", nil), Header("a", text: "2"), Header("c", text: ""),
        Header(
            "é",
            ByteSlice([0xFF, 0])),
    ]

    @Test("the last header of a name counts; null is not empty")
    func last() {
        #expect(headers.count == 5 && !headers.isEmpty)
        #expect(headers.last("a") == ByteSlice("2"))
        #expect(headers.text("a") == "2")
        #expect(headers.last("b") == nil)
        #expect(headers.last("c") == ByteSlice(""))
        #expect(headers.last("é") == ByteSlice([0xFF, 0]) && headers.text("é") == nil)
        #expect(headers.last("A") == nil && headers.last("") == nil)
        #expect(headers.count(of: "a") == 2 && headers.count(of: "b") == 1 && headers.count(of: "z") == 0)
        #expect(Headers([Header("a", text: "1"), Header("a", nil)]).last("a") == nil)
        #expect(Headers().isEmpty && Headers().last("a") == nil)
    }

    @Test("iteration gives names and bytes in order")
    func iteration() {
        #expect(Array(headers).map(\.name) == ["a", "b", "a", "c", "é"])
        #expect(Array(headers).map(\.value) == [ByteSlice("1"), nil, ByteSlice("2"), ByteSlice(""), ByteSlice([0xFF, 0])])
        #expect(Headers(Array(headers)) == headers)
        #expect(Headers(Array(headers).reversed()) != headers)
        #expect(Headers([Header("a", nil)]) != Headers([Header("a", text: "")]))
    }

    @Test("replacing removes every header of the name and adds one; others keep bytes and order")
    func replacing() {
        let replaced = headers.replacing([Header("a", text: "new"), Header("d", text: "4"), Header("é", nil), Header("z", nil)])
        #expect(
            replaced
                == [Header("b", nil), Header("c", text: ""), Header("a", text: "new"), Header("d", text: "4")]
        )
        #expect(headers.replacing([]) == headers)
        #expect(headers.count(of: "a") == 2, "the original stays")
        #expect(Headers().replacing([Header("a", text: "1")]) == [Header("a", text: "1")])
    }

    @Test("raw memory, packing and a record's own block give the same headers")
    func packing() {
        var names: [String] = []
        var size = 0
        headers.forEachRaw { name, value in
            names.append(String(decoding: name, as: UTF8.self))
            size += Headers.packedSize(name: name.count, value: value?.count)
        }
        #expect(names == ["a", "b", "a", "c", "é"] && size == headers.packed.count)
        let record = Record(
            topic: "t", partition: 1, offset: 2, timestamp: nil, keyCount: 1, valueCount: nil, headerCount: headers.count,
            headerBytes: size
        ) { target, key, value in
            var at = 0
            headers.forEachRaw { at = Headers.pack(name: $0, value: $1, into: target, at: at) }
            key[0] = 0x6B
            #expect(value.isEmpty && at == size)
        }
        #expect(record.headers == headers && record.key == ByteSlice("k") && record.value == nil)
        #expect(record.size == size + 1)
    }
}

@Suite("Records")
struct RecordTests {
    @Test("null and empty parts are kept apart")
    func parts() {
        for key in [ByteSlice?.none, ByteSlice(""), ByteSlice("key")] {
            for value in [ByteSlice?.none, ByteSlice(""), ByteSlice("value")] {
                for headers in [Headers(), [Header("h", text: "v")]] as [Headers] {
                    let record = Record(
                        topic: "t", partition: 3, offset: 9, timestamp: Timestamp(milliseconds: 5), key: key, value: value,
                        headers: headers
                    )
                    #expect(record.key == key && record.value == value && record.headers == headers)
                    #expect(record.position == RecordPosition(topic: "t", partition: 3, offset: 9))
                    #expect(record.topicPartition == TopicPartition("t", 3))
                }
            }
        }
    }

    @Test("positions are read back as they are written, and only so")
    func positions() {
        let position = RecordPosition(topic: "fhir.Patient.created.dlq", partition: 11, offset: Int64.max)
        #expect(RecordPosition(position.description) == position)
        #expect(RecordPosition("t/0/0") == RecordPosition(topic: "t", partition: 0, offset: 0))
        for text in [
            "", "t", "t/0", "t/0/0/0", "/0/0", "t//0", "t/0/", "t/-1/0", "t/0/-1", "t/+1/0", "t/1/+2", "t/01/0", "t/0/00",
            "t/a/0",
            "t/0/9223372036854775808", "t/2147483648/0", "t/0/1 ", "t/ 0/1", "t/0x1/0",
        ] {
            #expect(RecordPosition(text) == nil, "\(text)")
        }
        #expect(RecordPosition("t/2/9")! < RecordPosition("t/10/1")!)
        #expect(RecordPosition("a/2/9")! < RecordPosition("b/0/0")!)
        #expect(TopicPartition("t", 2) < TopicPartition("t", 10) && TopicPartition("t", 2).description == "t/2")
    }
}

@Suite("Topic names")
struct TopicNameTests {
    @Test("the three patterns")
    func patterns() {
        #expect(TopicPattern.hybrid.topic(resourceType: "Patient", action: .created) == "fhir.Patient.created")
        #expect(TopicPattern.resource.topic(resourceType: "Patient", action: .created) == "fhir.Patient")
        #expect(TopicPattern.action.topic(resourceType: "Patient", action: .deleted) == "fhir.deleted")
        #expect(TopicPattern.hybrid.patientTopics == ["fhir.Patient.created", "fhir.Patient.updated", "fhir.Patient.deleted"])
        #expect(TopicPattern.action.patientTopics == ["fhir.created", "fhir.updated", "fhir.deleted"])
        #expect(TopicPattern.resource.patientTopics == ["fhir.Patient"])
    }

    @Test("retry and dead letter topics stand beside their topic")
    func suffixes() {
        #expect(TopicName.retry(of: "a.b") == "a.b.retry" && TopicName.deadLetter(of: "a.b") == "a.b.dlq")
        #expect(TopicName.isRetry("a.retry") && !TopicName.isRetry("a.dlq") && !TopicName.isRetry("retry"))
        #expect(TopicName.isDeadLetter("a.dlq") && !TopicName.isDeadLetter("a.retry"))
        #expect(
            TopicName.main(of: "a.b.retry") == "a.b" && TopicName.main(of: "a.b.dlq") == "a.b"
                && TopicName.main(of: "a.b") == "a.b")
    }

    @Test("the action that a name implies")
    func actions() {
        for action in ChangeAction.allCases {
            for name in ["fhir.Patient.\(action.rawValue)", "fhir.\(action.rawValue)", action.rawValue] {
                #expect(TopicName.action(of: name) == action)
                #expect(TopicName.action(of: TopicName.retry(of: name)) == action)
                #expect(TopicName.action(of: TopicName.deadLetter(of: name)) == action)
            }
        }
        for name in [
            "fhir.Patient", "fhir.created.Patient", "fhir.Created", "fhir.Patient.", "", ".", "fhir.xcreated",
            "created.x",
        ] {
            #expect(TopicName.action(of: name) == nil, "\(name)")
        }
    }
}
