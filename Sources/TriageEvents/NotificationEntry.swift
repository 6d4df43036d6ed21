/// One entry of a bundle that tells of changes, a notification's or a history's.
struct NotificationEntry {
    /// What an event's focus may call it: its full URL, and `Type/id`.
    let names: [String]
    /// The change, if it is one of a Patient.
    let event: Notification.Event?

    init(_ entry: JSONValue) throws(InvalidEvent) {
        guard entry.kind == .object else { throw InvalidEvent(.elementType, at: "Bundle.entry") }
        let resource = entry["resource"]
        if let resource, resource.kind != .object { throw InvalidEvent(.elementType, at: "Bundle.entry.resource") }
        let fullURL = entry["fullUrl"]?.string
        let request = entry["request"]
        let method = request?["method"]
        let reference = fullURL.flatMap { FHIRReference($0) } ?? request?["url"]?.string.flatMap { FHIRReference($0) }
        let type = resource?["resourceType"]?.string ?? reference?.type ?? NotificationEntry.type(ofURL: request?["url"]?.string)
        let idBytes = resource?["id"]?.stringBytes ?? reference.map { ByteSlice($0.id) }

        var names: [String] = []
        if let fullURL { names.append(fullURL) }
        if let type, let id = idBytes?.utf8Text { names.append("\(type)/\(id)") }
        if let name = reference?.name, !names.contains(name) { names.append(name) }
        self.names = names

        guard type == "Patient" else {
            event = nil
            return
        }
        if let idBytes, !FHIRGrammar.isID(idBytes) { throw InvalidEvent(.id, at: "Bundle.entry") }
        if let reference, reference.type == "Patient", idBytes != ByteSlice(reference.id) {
            throw InvalidEvent(.id, at: "Bundle.entry.fullUrl")
        }
        let response = entry["response"]
        let version = try NotificationEntry.version(of: resource) ?? NotificationEntry.version(etag: response?["etag"])
        var event = Notification.Event(
            timestamp: NotificationEntry.instant(resource?["meta"]?["lastUpdated"] ?? response?["lastModified"]),
            patientID: idBytes, versionID: version, resource: resource?.text)
        if let method {
            let isFirst =
                NotificationEntry.isFirst(resource, version: version) || response?["status"]?.string?.hasPrefix("201") == true
            event.action = try NotificationEntry.action(method, isFirst: isFirst)
        } else if resource != nil {
            event.action = NotificationEntry.action(of: resource, version: version, hasID: idBytes != nil)
        }
        if event.action == .deleted {
            guard idBytes != nil else { throw InvalidEvent(.idMissing, at: "Bundle.entry.fullUrl") }
        }
        self.event = event
    }

    /// A Patient that came alone. A resource's first version was created, any other updated; without a version it was updated, or
    /// created if it has no id either.
    static func event(ofBare resource: JSONValue) throws(InvalidEvent) -> Notification.Event {
        let id = resource["id"]?.stringBytes
        if let id, !FHIRGrammar.isID(id) { throw InvalidEvent(.id, at: "Patient.id") }
        let version = try version(of: resource)
        return Notification.Event(
            timestamp: instant(resource["meta"]?["lastUpdated"]), patientID: id,
            action: action(of: resource, version: version, hasID: id != nil), versionID: version, resource: resource.text)
    }

    static func action(of resource: JSONValue?, version: String?, hasID: Bool) -> ChangeAction {
        if isFirst(resource, version: version) { return .created }
        return version != nil || hasID ? .updated : .created
    }

    /// Whether a resource is in its first version: number 1, or by an extension of `meta` created when it was last updated. Aidbox's
    /// versions are numbers of transactions, but it writes `createdAt` (its setting `BOX_FHIR_CREATEDAT_URL`); HL7's extension pack has
    /// `firstCreated`.
    private static func isFirst(_ resource: JSONValue?, version: String?) -> Bool {
        if version == "1" { return true }
        guard let meta = resource?["meta"], let updated = meta["lastUpdated"]?.stringBytes else { return false }
        return (meta["extension"]?.elements ?? []).contains { part in
            guard let url = part["url"]?.string, url.hasSuffix("createdAt") || url.hasSuffix("firstCreated") else { return false }
            return part["valueInstant"]?.stringBytes == updated
        }
    }

    /// What a request did. A PUT creates too, and several servers write PUT whatever it was, so a first version was created.
    private static func action(_ method: JSONValue, isFirst: Bool) throws(InvalidEvent) -> ChangeAction {
        if method.says("POST") { return .created }
        if method.says("DELETE") { return .deleted }
        if method.says("PUT") || method.says("PATCH") { return isFirst ? .created : .updated }
        throw InvalidEvent(.action, at: "Bundle.entry.request.method")
    }

    private static func version(of resource: JSONValue?) throws(InvalidEvent) -> String? {
        guard let version = resource?["meta"]?["versionId"] else { return nil }
        guard let bytes = version.stringBytes, FHIRGrammar.isID(bytes) else {
            throw InvalidEvent(.id, at: "Patient.meta.versionId")
        }
        return bytes.utf8Text
    }

    /// The version in `W/"3"` (FHIR R4 §3.1.0.1.1); nil if it says anything else.
    private static func version(etag: JSONValue?) -> String? {
        guard let text = etag?.string, let open = text.utf8.firstIndex(of: UInt8(ascii: "\"")) else { return nil }
        let inner = text[text.utf8.index(after: open)...].prefix { $0 != "\"" }
        return FHIRGrammar.isID(ByteSlice(inner.utf8)) ? String(inner) : nil
    }

    /// An instant, or nothing if it isn't one: a resource's own grammar is judged elsewhere.
    private static func instant(_ value: JSONValue?) -> String? {
        guard let bytes = value?.stringBytes, FHIRGrammar.isInstant(bytes) else { return nil }
        return bytes.utf8Text
    }

    /// The type in the URL of a create: `/fhir/Patient`.
    private static func type(ofURL url: String?) -> String? {
        url?.split(separator: "/").last.map(String.init)
    }
}

/// A page of `Patient/_history`: changes as the server keeps them, deletes included (FHIR R4 §3.1.0.10).
public struct HistoryPage: Sendable, Equatable {
    /// The changes, the oldest first; servers send the newest first.
    public var events: [Notification.Event]
    /// The URL of the next page, which has older changes.
    public var next: String?
    /// The resources that are no Patients.
    public var ignored: Int
    /// The entries that break a rule, where their bytes lie. Patient data.
    public var malformed: [ByteSlice]
    /// Whether it has no entries at all.
    public var isEmpty: Bool { events.isEmpty && ignored == 0 && malformed.isEmpty }

    /// Reads a page.
    ///
    /// - Parameter bundle: what ``EventDecoder/checkObject(_:)`` found to be an object.
    /// - Throws: ``InvalidEvent`` if it is no Bundle of type `history`. One bad entry doesn't hide the others.
    public init(_ bundle: JSONValue) throws(InvalidEvent) {
        guard bundle["resourceType"]?.says("Bundle") == true, bundle["type"]?.says("history") == true else {
            throw InvalidEvent(.unknownForm, at: "Bundle.type")
        }
        var events: [Notification.Event] = []
        var malformed: [ByteSlice] = []
        var ignored = 0
        for entry in bundle["entry"]?.elements ?? [] {
            do throws(InvalidEvent) {
                guard var event = try NotificationEntry(entry).event else {
                    ignored += 1
                    continue
                }
                event.entry = entry.text
                events.append(event)
            } catch {
                malformed.append(entry.text)
            }
        }
        self.events = events.reversed()
        self.ignored = ignored
        self.malformed = malformed
        next = bundle["link"]?.elements.first { $0["relation"]?.says("next") == true }?["url"]?.string
    }
}
