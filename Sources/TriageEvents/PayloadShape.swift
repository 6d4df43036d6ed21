/// What a payload looks like without what it says: the paths of its values and their JSON types.
///
/// A path is made of element names of FHIR R4's Patient and its data types and of the members of the event forms that are
/// understood here; any other name shows as `_OTHER`, since a name in a document of foreign making may be anything, a patient's
/// own among it. Array indexes are left out, so a shape of five telephone numbers is the shape of one with a count.
public struct PayloadShape: Sendable, Equatable {
    /// One path.
    public struct Line: Sendable, Hashable {
        /// `data.name[].family`; empty for the payload itself.
        public let path: String
        /// The value's JSON type; `number` and `string` say no more than that.
        public let kind: JSONValue.Kind
        /// How many values have this path and type.
        public var count: Int
    }
    /// The paths, in the order in which they first occur.
    public private(set) var lines: [Line] = []
    /// Whether there is more than was looked at.
    public private(set) var isCut = false
    private var index: [String: Int] = [:]

    /// Two shapes are the same if they show the same.
    public static func == (left: PayloadShape, right: PayloadShape) -> Bool {
        left.lines == right.lines && left.isCut == right.isCut
    }

    /// The shape of a JSON value.
    ///
    /// - Parameters:
    ///   - value: part of a text that was found to be JSON.
    ///   - maximumLines: paths that are told, the first ones.
    ///   - maximumDepth: containers within containers that are entered.
    public init(of value: JSONValue, maximumLines: Int = 200, maximumDepth: Int = 24) {
        var left = 20_000
        visit(value, path: "", depth: 0, maximumLines, maximumDepth, &left)
    }

    private mutating func visit(
        _ value: JSONValue, path: String, depth: Int, _ maximumLines: Int, _ maximumDepth: Int, _ left: inout Int
    ) {
        guard left > 0 else {
            isCut = true
            return
        }
        left -= 1
        let kind = value.kind
        let name = "\(path) \(kind)"
        if let known = index[name] {
            lines[known].count += 1
        } else if lines.count < maximumLines {
            index[name] = lines.count
            lines.append(Line(path: path, kind: kind, count: 1))
        } else {
            isCut = true
            return
        }
        guard kind == .object || kind == .array else { return }
        guard depth < maximumDepth else {
            isCut = true
            return
        }
        if kind == .array {
            for element in value.elements {
                visit(element, path: path + "[]", depth: depth + 1, maximumLines, maximumDepth, &left)
            }
            return
        }
        value.forEachMember { name, value in
            let shown = FHIRElementNames.shown(name)
            visit(value, path: path.isEmpty ? shown : "\(path).\(shown)", depth: depth + 1, maximumLines, maximumDepth, &left)
            return true
        }
    }
}

extension PayloadShape {
    /// The shape in one line, as it travels in a header: `object; name[] object x2; name[].family string x2`.
    ///
    /// - Parameter maximumBytes: paths that don't fit any more are left out, and `...` says that there are some.
    public func text(maximumBytes: Int = 2048) -> String {
        var text = ""
        var isCut = isCut
        for line in lines {
            var item = text.isEmpty ? "" : "; "
            if !line.path.isEmpty { item += "\(line.path) " }
            item += "\(line.kind)"
            if line.count > 1 { item += " x\(line.count)" }
            guard text.utf8.count + item.utf8.count + PayloadShape.cutMark.utf8.count <= maximumBytes else {
                isCut = true
                break
            }
            text += item
        }
        return isCut ? text + PayloadShape.cutMark : text
    }

    private static let cutMark = "; ..."

    /// What ``text(maximumBytes:)`` wrote; nil for anything else, which is foreign text: only names of the vocabulary are taken.
    public init?(text: String) {
        var lines: [Line] = []
        var isCut = false
        for item in text.split(separator: "; ", omittingEmptySubsequences: false) {
            guard !isCut else { return nil }
            if item == "..." {
                isCut = true
                continue
            }
            var words = item.split(separator: " ", omittingEmptySubsequences: false)
            var count = 1
            if let last = words.last, last.first == "x", let number = Int(last.dropFirst()), number > 1, words.count > 1 {
                count = number
                words.removeLast()
            }
            guard let word = words.popLast(), let kind = JSONValue.Kind.allCases.first(where: { "\($0)" == word }),
                words.count <= 1
            else { return nil }
            let path = words.first ?? ""
            guard path.isEmpty || PayloadShape.isPath(path) else { return nil }
            lines.append(Line(path: String(path), kind: kind, count: count))
        }
        self.lines = lines
        self.isCut = isCut
    }

    /// Whether a text is a path of names of the vocabulary: `name[].family`. It may begin with the resource, as the paths in the
    /// decoder's errors do: `Patient.birthDate`.
    public static func isPath(_ text: some StringProtocol) -> Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        return parts.indices.allSatisfy { index in
            isShown(Substring(parts[index])) || others.contains(String(parts[index]))
                || index == 0 && resources.contains(String(parts[index]))
        }
    }

    /// The resources that the decoder's paths begin with.
    private static let resources: Set = ["Bundle", "Parameters", "Patient", "SubscriptionStatus"]
    /// What they name that is no element: a parameter's name (R4 Backport), and the record's key.
    private static let others: Set = ["event-number", "key"]

    /// Whether a part of a path is a name of the vocabulary, with the brackets of the arrays behind it.
    private static func isShown(_ part: Substring) -> Bool {
        var name = part
        while name.hasSuffix("[]") { name = name.dropLast(2) }
        return name.isEmpty ? name != part : FHIRElementNames.shown(ByteSlice(String(name))) == name || name == "_OTHER"
    }
}

/// Names of members that may be shown: the vocabulary is closed.
enum FHIRElementNames {
    /// The name if it is in the vocabulary, with the `_` before it that FHIR's JSON gives to what extends a primitive value
    /// (FHIR R4 §2.6.2.3); else `_OTHER`.
    static func shown(_ name: ByteSlice) -> String {
        guard (1...48).contains(name.count), let text = name.utf8Text else { return "_OTHER" }
        let bare = text.first == "_" ? String(text.dropFirst()) : text
        return names.contains(bare) ? text : "_OTHER"
    }

    private static let names: Set<String> = {
        var names: Set<String> = []
        for list in [patient, types, events, change] { names.formUnion(list.split(separator: " ").map(String.init)) }
        // Extension.value[x] (FHIR R4 §2.24.2): `value` and the name of a data type.
        names.formUnion(valueTypes.split(separator: " ").map { "value\($0)" })
        return names
    }()

    /// Patient, DomainResource and Resource (FHIR R4 §8.1, §2.1.2, §2.1.1).
    private static let patient = """
        resourceType id meta implicitRules language text contained extension modifierExtension identifier active name telecom \
        gender birthDate deceasedBoolean deceasedDateTime address maritalStatus multipleBirthBoolean multipleBirthInteger photo \
        contact communication generalPractitioner managingOrganization link relationship organization period preferred other type
        """

    /// Elements of the data types that a Patient is made of (FHIR R4 §2.24).
    private static let types = """
        versionId lastUpdated source profile security tag use system value assigner family given prefix suffix rank line city \
        district state postalCode country coding code display userSelected version reference contentType data url size hash \
        title creation start end status div unit comparator numerator denominator low high origin dimensions
        """

    /// The event forms, Bundle and what tells notifications (FHIR R4 §2.36, R4 Backport, R5).
    private static let events = """
        metadata eventId timestamp correlationId requestId action resource entry fullUrl request response method ifNoneMatch \
        ifModifiedSince ifMatch ifNoneExist location etag lastModified outcome parameter part topic subscription events \
        eventNumber focus notificationEvent additionalContext eventsSinceSubscriptionStart error specversion datacontenttype \
        dataschema subject time data_base64 traceparent tracestate event total search issue severity details diagnostics expression
        """

    /// Debezium's change records.
    private static let change =
        "schema payload before after op ts_ms ts_us ts_ns transaction txid ts resource_type fields field optional"

    private static let valueTypes = """
        Base64Binary Boolean Canonical Code Date DateTime Decimal Id Instant Integer Markdown Oid PositiveInt String Time \
        UnsignedInt Uri Url Uuid Address Age Annotation Attachment CodeableConcept Coding ContactPoint Count Distance Duration \
        HumanName Identifier Money Period Quantity Range Ratio Reference SampledData Signature Timing ContactDetail Contributor \
        DataRequirement Expression ParameterDefinition RelatedArtifact TriggerDefinition UsageContext Dosage Meta
        """
}
