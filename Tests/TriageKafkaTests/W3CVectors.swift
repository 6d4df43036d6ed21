import TriageEvents

/// Every rule of W3C Trace Context (level 2) and Baggage that Triage meets, as values: what comes in a record's headers, what is
/// read from it, and what is sent on. Rules that bind only those who change a `tracestate`, which Triage never does, and HTTP's
/// rule on two `traceparent` lines, are not among them.
struct W3CVector: Sendable, CustomStringConvertible {
    let description: String
    /// As they come in.
    let headers: Headers
    /// The `traceparent` that is sent on; nil if a new trace begins.
    let traceparent: String?
    /// The `tracestate` that is sent on; nil for none.
    let tracestate: String?

    init(_ description: String, _ headers: Headers, _ traceparent: String?, _ tracestate: String? = nil) {
        self.description = description
        self.headers = headers
        self.traceparent = traceparent
        self.tracestate = tracestate
    }

    static let trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    static let span = "00f067aa0ba902b7"
    static let parent = value()

    static func value(_ version: String = "00", trace: String = trace, span: String = span, flags: String = "01") -> String {
        "\(version)-\(trace)-\(span)-\(flags)"
    }

    private static func parent(_ description: String, _ text: String, _ sent: String?) -> W3CVector {
        W3CVector(description, [Header("traceparent", text: text)], sent)
    }

    private static func state(_ description: String, _ texts: [String], _ sent: String?) -> W3CVector {
        W3CVector(
            description, Headers([Header("traceparent", text: parent)] + texts.map { Header("tracestate", text: $0) }), parent,
            sent)
    }

    static let all = traceparents + flags + states + headerRules

    // MARK: traceparent

    static let traceparents: [W3CVector] = [
        parent("version 00 of 55 bytes", parent, parent),
        parent("version 00, 54 bytes", String(parent.dropLast()), nil),
        parent("version 00, something behind", parent + "-00", nil),
        parent("version 00, a dash behind", parent + "-", nil),
        parent("version 00, a letter behind", parent + "x", nil),
        parent("version ff", value("ff"), nil),
        parent("version FF", value("FF"), nil),
        parent("version of one digit", value("0"), nil),
        parent("version of three digits", value("000"), nil),
        parent("version in upper case", value("0A"), nil),
        parent("version that is no number", value("0g"), nil),
        parent("version without its dash", "00_" + parent.dropFirst(3), nil),
        parent("higher version of 55 bytes", value("01"), parent),
        parent("higher version with something behind a dash", value("cc") + "-what-the-future-brings", parent),
        parent("higher version with a dash behind", value("fe") + "-", parent),
        parent("higher version with something else behind", value("01") + ".extra", nil),
        parent("higher version that is too short", String(value("01").dropLast()), nil),
        parent("higher version: only the known flags are read", value("01", flags: "ff"), value(flags: "03")),
        parent("trace id all zero", value(trace: String(repeating: "0", count: 32)), nil),
        parent("trace id in upper case", value(trace: trace.uppercased()), nil),
        parent("trace id with a letter beyond f", value(trace: "4bf92f3577b34da6a3ce929d0e0e473g"), nil),
        parent("trace id with a space", value(trace: " bf92f3577b34da6a3ce929d0e0e4736"), nil),
        parent("trace id too long", value(trace: trace + "0"), nil),
        parent("trace id too short", value(trace: String(trace.dropLast())), nil),
        parent(
            "trace id with its left half zero", value(trace: "0000000000000000a3ce929d0e0e4736"),
            value(trace: "0000000000000000a3ce929d0e0e4736")),
        parent(
            "trace id with its right half zero", value(trace: "4bf92f3577b34da60000000000000000"),
            value(trace: "4bf92f3577b34da60000000000000000")),
        parent("parent id all zero", value(span: String(repeating: "0", count: 16)), nil),
        parent("parent id in upper case", value(span: "00F067AA0BA902B7"), nil),
        parent("parent id with a sign", value(span: "+0f067aa0ba902b7"), nil),
        parent("parent id too short", value(span: String(span.dropLast())), nil),
        parent("parent id too long", value(span: span + "0"), nil),
        parent("wrong delimiters", parent.replacing("-", with: "_"), nil),
        parent("flags of one digit", value(flags: "1"), nil),
        parent("flags of three digits", value(flags: "001"), nil),
        parent("flags in upper case", value(flags: "0A"), nil),
        parent("flags that are no number", value(flags: ".1"), nil),
        parent("spaces and tabs around", " \t" + parent + "\t ", parent),
        parent("a line feed around", parent + "\n", nil),
        parent("empty", "", nil),
        parent("spaces only", "  ", nil),
        parent("two in one", parent + "," + parent, nil),
        W3CVector("bytes that are no text", [Header("traceparent", ByteSlice([0xFF, 0xFE, 0x00]))], nil),
        W3CVector("the 16 bytes of the binary form", [Header("traceparent", ByteSlice([UInt8](repeating: 7, count: 16)))], nil),
    ]

    /// Only the two known bits are read, copied unchanged, and sent.
    static let flags: [W3CVector] = (0...255).map { (byte: UInt8) in
        func two(_ value: UInt8) -> String { (value < 16 ? "0" : "") + String(value, radix: 16) }
        return parent("flags \(two(byte))", value(flags: two(byte)), value(flags: two(byte & 0x03)))
    }

    // MARK: tracestate

    private static func list(_ count: Int) -> String { (0..<count).map { "k\($0)=v" }.joined(separator: ",") }
    private static let key256 = String(repeating: "k", count: 256)
    private static let value256 = String(repeating: "v", count: 256)

    static let states: [W3CVector] = [
        state("one member", ["a=1"], "a=1"),
        state("several members keep their order", ["b=1,a=2"], "b=1,a=2"),
        state("spaces and tabs around members", [" a=1 ,\tb=2\t"], "a=1,b=2"),
        state("empty members", [",a=1,,b=2,"], "a=1,b=2"),
        state("a duplicate key is kept as it is", ["a=1,a=2"], "a=1,a=2"),
        state("leading spaces of a value count", ["a=  1"], "a=  1"),
        state("spaces within a value", ["a=1 2"], "a=1 2"),
        state("all octets of a value", ["a=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~"], "a=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~"),
        state("all characters of a key", ["a_-*/@z09=1"], "a_-*/@z09=1"),
        state("a key that begins with a digit", ["0a=1"], "0a=1"),
        state("a tenant's key", ["0tenant@system=1"], "0tenant@system=1"),
        state("OpenTelemetry's member", ["ot=th:8;rv:1234567890abcd"], "ot=th:8;rv:1234567890abcd"),
        state("a key of 256", [key256 + "=v"], key256 + "=v"),
        state("a key of 257", [key256 + "k=v"], nil),
        state("a value of 256", ["k=" + value256], "k=" + value256),
        state("a value of 257", ["k=" + value256 + "v"], nil),
        state("32 members", [list(32)], list(32)),
        state("33 members", [list(33)], nil),
        state("empty members don't count", [list(32) + ", ,"], list(32)),
        state("32 members in two headers", [list(20), (20..<32).map { "k\($0)=v" }.joined(separator: ",")], list(32)),
        state("33 members in two headers", [list(20), list(13)], nil),
        state(
            "well over 512 characters", [(0..<32).map { "k\($0)=\(value256)" }.joined(separator: ",")],
            (0..<32).map { "k\($0)=\(value256)" }.joined(separator: ",")),
        state("several headers are joined in order", ["a=1,b=2", "", "c=3"], "a=1,b=2,c=3"),
        state("a bad one among several headers", ["a=1", "b"], nil),
        state("empty", [""], nil), state("nothing but commas", [" , ,"], nil), state("no equals sign", ["a"], nil),
        state("no key", ["=1"], nil), state("no value", ["a="], nil), state("a key in upper case", ["A=1"], nil),
        state("a capital within a key", ["aB=1"], nil), state("a key that begins with _", ["_a=1"], nil),
        state("a key that begins with @", ["@a=1"], nil), state("a key with a dot", ["a.b=1"], nil),
        state("a space in a key", ["a b=1"], nil), state("a space before the equals sign", ["a =1"], nil),
        state("two equals signs", ["a=1=2"], nil), state("a control character", ["a=\u{1F}"], nil),
        state("a tab in a value", ["a=1\t2"], nil), state("DEL", ["a=\u{7F}"], nil), state("a value beyond ASCII", ["a=é"], nil),
        state("a key beyond ASCII", ["é=1"], nil),
        W3CVector(
            "bytes that are no text: the traceparent still counts",
            [Header("tracestate", ByteSlice([0x61, 0x3D, 0xFF])), Header("traceparent", text: parent)], parent),
    ]

    // MARK: Kafka headers

    static let headerRules: [W3CVector] = [
        W3CVector("no headers", [], nil),
        W3CVector("other headers only", [Header("k", text: "v"), Header("baggage", text: "a=b")], nil),
        W3CVector("a name in upper case is another", [Header("Traceparent", text: parent)], nil),
        W3CVector("a null value is no value", [Header("traceparent", nil)], nil),
        W3CVector(
            "of several the last counts",
            [
                Header("traceparent", text: value(span: "aaaaaaaaaaaaaaaa")), Header("k", nil),
                Header("traceparent", text: parent),
            ], parent),
        W3CVector(
            "of several the last counts, bad as well",
            [
                Header("traceparent", text: parent), Header("traceparent", text: "bad"),
            ], nil),
        W3CVector(
            "of several the last counts, null as well",
            [
                Header("traceparent", text: parent), Header("traceparent", nil),
            ], nil),
        W3CVector("null before the last", [Header("traceparent", nil), Header("traceparent", text: parent)], parent),
        W3CVector("a tracestate of null is none", [Header("traceparent", text: parent), Header("tracestate", nil)], parent),
        W3CVector(
            "a null among several tracestates is passed over",
            [
                Header("tracestate", text: "a=1"), Header("traceparent", text: parent), Header("tracestate", nil),
                Header("tracestate", text: "b=2"),
            ], parent, "a=1,b=2"),
        W3CVector(
            "the last tracestate null: those before it count",
            [
                Header("tracestate", text: "a=1"), Header("tracestate", nil), Header("traceparent", text: parent),
            ], parent, "a=1"),
        W3CVector("a tracestate without traceparent", [Header("tracestate", text: "a=1")], nil),
        W3CVector(
            "a tracestate with a bad traceparent", [Header("traceparent", text: "bad"), Header("tracestate", text: "a=1")], nil),
        W3CVector("a tracestate with a null traceparent", [Header("traceparent", nil), Header("tracestate", text: "a=1")], nil),
        W3CVector(
            "a bad tracestate leaves the traceparent",
            [
                Header("tracestate", text: "a=1,B=2"), Header("traceparent", text: parent),
            ], parent),
    ]
}

/// A `baggage` of one or several header values and the members that are read from it, in order.
struct BaggageVector: Sendable, CustomStringConvertible {
    let description: String
    let values: [ByteSlice]
    let members: [[String]]

    init(_ description: String, _ values: [String], _ members: [[String]]) {
        self.init(description, bytes: values.map { ByteSlice($0) }, members)
    }

    init(_ description: String, bytes values: [ByteSlice], _ members: [[String]]) {
        self.description = description
        self.values = values
        self.members = members
    }

    private static func list(_ range: Range<Int>) -> String { range.map { "k\($0)=v" }.joined(separator: ",") }
    private static func members(_ range: Range<Int>) -> [[String]] { range.map { ["k\($0)", "v"] } }

    static let all: [BaggageVector] = [
        BaggageVector("members, properties, spaces", ["k=v;prop;prop=x , k2=v2"], [["k", "v"], ["k2", "v2"]]),
        BaggageVector("spaces and tabs around names and values", [" \tk\t = v "], [["k", "v"]]),
        BaggageVector("equals signs in a value", ["k=a=b=="], [["k", "a=b=="]]),
        BaggageVector("percent-encoded text", ["k=%C3%A9%20%2c%25"], [["k", "é ,%"]]),
        BaggageVector("percent-encoded bytes that are no text", ["k=%FF"], [["k", "\u{FFFD}"]]),
        BaggageVector("percent signs that encode nothing", ["k=%,l=%4,m=%zz"], [["k", "%"], ["l", "%4"], ["m", "%zz"]]),
        BaggageVector("an empty value", ["k="], [["k", ""]]),
        BaggageVector("all characters of a name", ["!#$%&'*+-.^_`|~09azAZ=1"], [["!#$%&'*+-.^_`|~09azAZ", "1"]]),
        BaggageVector("names are case-sensitive, the last value of one counts", ["k=1,K=2,k=3"], [["K", "2"], ["k", "3"]]),
        BaggageVector("several headers are joined", ["k=1,a=1", "k=2"], [["a", "1"], ["k", "2"]]),
        BaggageVector(
            "members that break the grammar are dropped whole", ["a=1,=v,k,k k=v,k=\"v\",k=a b,k=a\\b,é=1,(k)=1,;k=v,,b=2"],
            [["a", "1"], ["b", "2"]]),
        BaggageVector("bytes beyond ASCII in a value", bytes: [ByteSlice([0x61, 0x3D, 0xFF]), ByteSlice("b=2")], [["b", "2"]]),
        BaggageVector("64 members", [list(0..<64)], members(0..<64)),
        BaggageVector("64 members over all headers, the rest is dropped", [list(0..<40), list(40..<80)], members(0..<64)),
        BaggageVector(
            "8,192 bytes", ["k=" + String(repeating: "v", count: 8190)], [["k", String(repeating: "v", count: 8190)]]),
        BaggageVector("what lies beyond is dropped whole", ["a=1,k=" + String(repeating: "v", count: 8190)], [["a", "1"]]),
        BaggageVector("empty", [""], []),
    ]
}
