/// A row that changed, as Debezium tells of it: bare, or under `schema` and `payload`.
///
/// Understood are rows that are a FHIR resource themselves, and rows that hold one in a column, `resource` before others, as JSON or
/// as a string of JSON. What Aidbox keeps beside its jsonb (`id`, `txid`, `ts`, `resource_type`, `status`) is filled in where the
/// resource lacks it: `id`, `meta.versionId`, `meta.lastUpdated`, `resourceType`.
struct ChangeRecord {
    /// What happened. A snapshot's read (`r`) is an update: the row was there before, and is read again by the next snapshot. A row
    /// whose `status` says `deleted` was deleted.
    let action: ChangeAction
    /// The resource, complete; nil for a delete whose `before` has only the key.
    let resource: ByteSlice?
    /// The Patient's id where the resource doesn't say it: the row's, or the key's.
    let id: ByteSlice?
    /// When the database says that it happened, or else the connector: a FHIR instant.
    let timestamp: String?
    /// Where in the database's log it stands: the same however often the connector sends it. At most 256 bytes.
    let position: String?

    /// Debezium's stand-in for a large column that an update left alone (`unavailable.value.placeholder`).
    private static let unavailable: StaticString = "__debezium_unavailable_value"

    /// The change inside `value`; nil if that is none.
    static func envelope(in value: JSONValue) -> JSONValue? {
        let inner = value["payload"] ?? value
        guard inner.kind == .object, inner["op"]?.kind == .string else { return nil }
        return inner["before"] != nil || inner["after"] != nil || inner["source"] != nil ? inner : nil
    }

    /// Reads a change.
    ///
    /// - Parameters:
    ///   - envelope: what ``envelope(in:)`` found.
    ///   - key: the record's key: the id as JSON of its columns, or as it is.
    ///   - check: throws unless a text is a JSON object.
    /// - Throws: ``InvalidEvent``; with ``InvalidEvent/isNothing`` if it is no change of a Patient.
    init(
        _ envelope: JSONValue, key: ByteSlice?, check: (ByteSlice) throws(InvalidEvent) -> Void
    ) throws(InvalidEvent) {
        let source = envelope["source"]
        let table = (source?["table"] ?? source?["collection"])?.string
        var action = try ChangeRecord.action(envelope["op"])
        let path: StaticString = action == .deleted ? "before" : "after"
        let row = try ChangeRecord.object(action == .deleted ? envelope["before"] : envelope["after"], at: path, check: check)
        if action != .deleted, row == nil { throw InvalidEvent(.resourceMissing, at: path) }
        if row?["status"]?.says("deleted") == true { action = .deleted }

        let rowID = row?["id"].flatMap(ChangeRecord.plain) ?? key.flatMap(ChangeRecord.id(inKey:))
        let found = try row.map { row throws(InvalidEvent) in try ChangeRecord.resource(in: row, at: path, check: check) } ?? nil
        let type = (found?["resourceType"] ?? row?["resource_type"])?.string
        if let type {
            if type != "Patient" { throw InvalidEvent(.nothing, at: "resourceType") }
        } else if let table, !table.lowercased().contains("patient") {
            // Only the table could say that it is a Patient, and it doesn't.
            throw InvalidEvent(.resourceTypeMissing, at: path)
        }
        if found == nil, action != .deleted { throw InvalidEvent(.row, at: path) }
        self.action = action
        id = rowID
        resource = found.map { ChangeRecord.completed($0, id: rowID, row: row) }
        timestamp = (source?["ts_ms"]?.integer ?? envelope["ts_ms"]?.integer).flatMap { ChangeRecord.instant(milliseconds: $0) }
        position = source.flatMap(ChangeRecord.position)
    }

    private static func action(_ op: JSONValue?) throws(InvalidEvent) -> ChangeAction {
        guard let op else { throw InvalidEvent(.action, at: "op") }
        if op.says("c") { return .created }
        if op.says("u") || op.says("r") { return .updated }
        if op.says("d") { return .deleted }
        throw InvalidEvent(op.says("t") || op.says("m") ? .nothing : .action, at: "op")
    }

    /// An object, or a string that holds one.
    private static func object(
        _ value: JSONValue?, at path: StaticString, check: (ByteSlice) throws(InvalidEvent) -> Void
    ) throws(InvalidEvent) -> JSONValue? {
        guard let value else { return nil }
        if value.kind == .object { return value }
        guard value.kind == .string else { throw InvalidEvent(.row, at: path) }
        return try text(value, check: check)
    }

    /// The object that a string holds.
    private static func text(
        _ value: JSONValue, check: (ByteSlice) throws(InvalidEvent) -> Void
    ) throws(InvalidEvent) -> JSONValue? {
        guard let text = value.stringBytes else { throw InvalidEvent(.json, at: "") }
        try check(text)
        return JSONValue(text)
    }

    /// The row itself, its column `resource`, or the first column with a `resourceType`.
    private static func resource(
        in row: JSONValue, at path: StaticString, check: (ByteSlice) throws(InvalidEvent) -> Void
    ) throws(InvalidEvent) -> JSONValue? {
        if row["resourceType"]?.kind == .string { return row }
        if let column = row["resource"] {
            // Without REPLICA IDENTITY FULL, PostgreSQL's log doesn't have a large value that didn't change.
            if column.says(unavailable) { throw InvalidEvent(.row, at: path) }
            return try object(column, at: path, check: check)
        }
        var columns: [JSONValue] = []
        row.forEachMember { _, value in
            if value.kind == .object || value.kind == .string { columns.append(value) }
            return true
        }
        for column in columns {
            if column.kind == .object, column["resourceType"]?.kind == .string { return column }
            if column.kind == .string, let text = column.stringBytes, text.first == UInt8(ascii: "{"),
                let value = JSONValue(text), value["resourceType"]?.kind == .string
            {
                try check(text)
                return value
            }
        }
        return nil
    }

    /// A text or a whole number as text.
    private static func plain(_ value: JSONValue) -> ByteSlice? {
        switch value.kind {
        case .string: value.stringBytes
        case .number: value.integer == nil ? nil : value.text
        default: nil
        }
    }

    /// The id in a record's key: `{"id":"p1"}`, that under `payload`, a JSON string, or the key itself.
    static func id(inKey key: ByteSlice) -> ByteSlice? {
        guard let value = JSONValue(key) else { return nil }
        switch value.kind {
        case .object: return ((value["payload"] ?? value)["id"]).flatMap(plain)
        case .string: return value.stringBytes
        default: return key
        }
    }

    /// The resource with what only the row says of it; its own bytes if nothing is missing.
    private static func completed(_ resource: JSONValue, id: ByteSlice?, row: JSONValue?) -> ByteSlice {
        var members = MissingMembers()
        members.add("resourceType", resource["resourceType"] == nil ? "Patient" : nil)
        members.add("id", resource["id"] == nil ? id?.utf8Text : nil)
        let meta = resource["meta"]
        var inMeta = MissingMembers()
        if meta == nil || meta?.kind == .object {
            inMeta.add("versionId", meta?["versionId"] == nil ? row?["txid"].flatMap(plain)?.utf8Text : nil)
            inMeta.add("lastUpdated", meta?["lastUpdated"] == nil ? row?["ts"].flatMap(instant) : nil)
        }
        if !inMeta.isEmpty { members.add(object: "meta", inMeta.added(to: meta)) }
        return members.isEmpty ? resource.text : members.added(to: resource)
    }

    /// A time column as an instant: text as it is, a number as milliseconds or, if it is too large for those, microseconds.
    private static func instant(_ column: JSONValue) -> String? {
        if let text = column.stringBytes { return FHIRGrammar.isInstant(text) ? text.utf8Text : nil }
        guard let number = column.integer else { return nil }
        // Milliseconds reach this in the year 5138, microseconds did in 1973.
        return instant(milliseconds: number.magnitude < 100_000_000_000_000 ? number : number / 1000)
    }

    /// Nil outside of the years 1970 to 9999, which FHIR can't write or no row has.
    private static func instant(milliseconds: Int64) -> String? {
        guard (0..<253_402_300_800_000).contains(milliseconds) else { return nil }
        let (nanoseconds, overflow) = milliseconds.multipliedReportingOverflow(by: 1_000_000)
        return overflow ? nil : Timestamp(nanoseconds: nanoseconds).iso8601
    }

    /// The place in the log by the members that Debezium's connectors write; nil if none tells one change from the next.
    private static func position(_ source: JSONValue) -> String? {
        let places: [StaticString] = ["lsn", "gtid", "pos", "change_lsn", "scn", "ord"]
        guard places.contains(where: { source[$0] != nil }) else { return nil }
        let names: [StaticString] = [
            "connector", "name", "db", "schema", "table", "collection", "lsn", "txId", "gtid", "file", "pos", "row", "change_lsn",
            "event_serial_no", "commit_lsn", "scn", "ssn", "ord",
        ]
        let text = names.compactMap { source[$0].flatMap(plain)?.utf8Text }.joined(separator: "/")
        return text.utf8.count <= 256 ? text : nil
    }
}

/// Members that an object lacks.
private struct MissingMembers {
    private var members: [(name: StaticString, text: String)] = []

    var isEmpty: Bool { members.isEmpty }

    mutating func add(_ name: StaticString, _ text: String?) {
        if let text { members.append((name, JSONText(text).quoted)) }
    }

    mutating func add(object name: StaticString, _ text: ByteSlice) {
        members.append((name, String(decoding: text, as: UTF8.self)))
    }

    /// The object with these members first, instead of those of their names; `{}` with them if there is none.
    func added(to object: JSONValue?) -> ByteSlice {
        var bytes = TextBytes(capacity: (object?.text.count ?? 2) + 128)
        var isFirst = true
        func begin() {
            bytes.append(byte: isFirst ? UInt8(ascii: "{") : UInt8(ascii: ","))
            isFirst = false
        }
        for (name, text) in members {
            begin()
            bytes.append(byte: UInt8(ascii: "\""))
            bytes.append(name)
            bytes.append("\":")
            bytes.append(text)
        }
        object?.forEachMember { name, value in
            if members.contains(where: { name.equals($0.name) }) { return true }
            begin()
            bytes.append(byte: UInt8(ascii: "\""))
            bytes.append(name)
            bytes.append("\":")
            bytes.append(value.text)
            return true
        }
        if isFirst { bytes.append(byte: UInt8(ascii: "{")) }
        bytes.append(byte: UInt8(ascii: "}"))
        return bytes.slice
    }
}
