/// The tag in `Patient.meta.tag` that says which command wrote a version: how a command is found again that was delivered twice, and
/// how the event that it causes gets its `correlationId`.
///
/// Servers keep the tags of earlier versions (FHIR R4 §3.1.0.8.1, `meta` operations), so a tag speaks only of the version that brought
/// it: whoever correlates by it must compare versions.
public enum RequestTag {
    /// The tag's `system`.
    public static let system = "urn:triage:request-id"
    /// Bytes that a request id may have, since it stands in a search and in a tag.
    public static let maximumLength = 128

    /// Whether `id` can be a request id: 1 to 128 letters, digits, `-`, `.`, `_`, `~` or `:`; nothing that has a meaning in a
    /// search (FHIR R4 §3.1.1.4, `|`, `,`, `$`) or in a URL.
    public static func isRequestID(_ id: some Collection<UInt8>) -> Bool {
        (1...maximumLength).contains(id.count)
            && id.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
                case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"), UInt8(ascii: ":"): true
                default: false
                }
            }
    }

    /// The search that finds what the command `requestID` made: the value of `If-None-Exist` (FHIR R4 §3.1.0.8.1, conditional create).
    public static func search(_ requestID: String) -> String { "_tag=\(system)|\(requestID)" }

    /// The request id that a resource's tags name; nil if they name none, or none that is well formed.
    public static func requestID(in resource: JSONValue) -> String? {
        guard let tags = resource["meta"]?["tag"] else { return nil }
        for tag in tags.elements where isOurs(tag) {
            guard let code = tag["code"]?.stringBytes, isRequestID(code) else { continue }
            return code.utf8Text
        }
        return nil
    }

    /// Whether a resource can take a tag: its `meta`, if there is one, is an object, and `meta.tag`, if there is one, an array.
    public static func isStampable(_ resource: JSONValue) -> Bool {
        guard let meta = resource["meta"] else { return !has("meta", in: resource) }
        guard meta.kind == .object else { return false }
        guard let tags = meta["tag"] else { return !has("tag", in: meta) }
        return tags.kind == .array
    }

    /// The resource with the tag of `requestID` and with no other of this system; all other bytes stay.
    ///
    /// - Parameters:
    ///   - resource: one JSON object, as ``EventDecoder/checkObject(_:)`` wants it.
    ///   - requestID: see ``isRequestID(_:)``.
    /// - Returns: nil if `meta` is no object or `meta.tag` is no array.
    public static func stamp(_ resource: ByteSlice, _ requestID: String) -> ByteSlice? {
        guard let resource = JSONValue(resource), resource.kind == .object, isStampable(resource) else { return nil }
        let tag = #"{"system":"\#(system)","code":"\#(requestID)"}"#
        guard let meta = JSONScanner.range(of: "meta", in: resource.text) else {
            return inserting(#""meta":{"tag":[\#(tag)]}"#, intoObject: 0..<resource.text.count, of: resource)
        }
        guard let metaValue = resource["meta"] else { return nil }
        guard let tags = JSONScanner.range(of: "tag", in: metaValue.text) else {
            return inserting(#""tag":[\#(tag)]"#, intoObject: meta, of: resource)
        }
        guard let tagsValue = metaValue["tag"] else { return nil }
        var array: [UInt8] = [UInt8(ascii: "[")]
        for element in tagsValue.elements where !isOurs(element) {
            array += element.text
            array.append(UInt8(ascii: ","))
        }
        array += tag.utf8
        array.append(UInt8(ascii: "]"))
        let place = meta.lowerBound + tags.lowerBound..<meta.lowerBound + tags.upperBound
        return replacing(place, of: resource.text, with: array)
    }

    private static func isOurs(_ tag: JSONValue) -> Bool {
        tag["system"]?.stringBytes.map { $0.elementsEqual(system.utf8) } ?? false
    }

    private static func has(_ name: String, in object: JSONValue) -> Bool {
        var found = false
        object.forEachMember { member, _ in
            found = member.elementsEqual(name.utf8)
            return !found
        }
        return found
    }

    /// Puts a member first into the object at `range`.
    private static func inserting(_ member: String, intoObject range: Range<Int>, of resource: JSONValue) -> ByteSlice {
        let object = resource.text.subslice(range)
        let isEmpty = object.dropFirst().first { $0 > 0x20 } == UInt8(ascii: "}")
        let place = range.lowerBound + 1..<range.lowerBound + 1
        return replacing(place, of: resource.text, with: Array((member + (isEmpty ? "" : ",")).utf8))
    }

    private static func replacing(_ range: Range<Int>, of text: ByteSlice, with bytes: [UInt8]) -> ByteSlice {
        var all: [UInt8] = []
        all.reserveCapacity(text.count - range.count + bytes.count)
        all += text.subslice(0..<range.lowerBound)
        all += bytes
        all += text.subslice(range.upperBound..<text.count)
        return ByteSlice(all)
    }
}
