/// The first entry of a notification: what it says about the subscription and its events.
struct NotificationStatus {
    struct Event {
        var number: Int64?
        var timestamp: String?
        var focus: String?
    }
    var shape: Notification.Shape
    var kind: Notification.Kind
    var subscription: String?
    var topic: String?
    var eventsSinceStart: Int64?
    var events: [Event] = []

    /// A `SubscriptionStatus` of R4B or R5, or Aidbox's.
    init(status: JSONValue, shape: Notification.Shape) throws(InvalidEvent) {
        self.shape = shape
        kind = try NotificationStatus.kind(status["type"], at: "SubscriptionStatus.type")
        subscription = (status["subscription"] ?? status["topic-destination"])?["reference"]?.string
        topic = status["topic"]?.string
        eventsSinceStart = status["eventsSinceSubscriptionStart"]?.integer
        let path: StaticString = "SubscriptionStatus.notificationEvent"
        guard let told = status["notificationEvent"] else { return }
        guard told.kind == .array else { throw InvalidEvent(.elementType, at: path) }
        for event in told.elements {
            guard event.kind == .object else { throw InvalidEvent(.elementType, at: path) }
            events.append(
                Event(
                    number: try NotificationStatus.number(
                        event["eventNumber"], at: "SubscriptionStatus.notificationEvent.eventNumber"),
                    timestamp: try NotificationStatus.instant(
                        event["timestamp"], at: "SubscriptionStatus.notificationEvent.timestamp"),
                    focus: event["focus"]?["reference"]?.string))
        }
    }

    /// The `Parameters` of the backport; names in kebab case, or in camel case as some write them.
    init(parameters: JSONValue) throws(InvalidEvent) {
        shape = .backport
        var type: JSONValue?
        for parameter in parameters["parameter"]?.elements ?? [] {
            guard let name = parameter["name"] else { continue }
            if name.says("type") {
                type = NotificationStatus.value(parameter)
            } else if name.says("subscription") {
                subscription = NotificationStatus.value(parameter)?["reference"]?.string
            } else if name.says("topic") {
                topic = NotificationStatus.value(parameter)?.string
            } else if name.says("events-since-subscription-start") || name.says("eventsSinceSubscriptionStart") {
                eventsSinceStart = NotificationStatus.value(parameter)?.integer
            } else if name.says("notification-event") || name.says("notificationEvent") {
                events.append(try NotificationStatus.event(parameter["part"]?.elements ?? []))
            }
        }
        kind = try NotificationStatus.kind(type, at: "Parameters.parameter.type")
    }

    private static func event(_ parts: [JSONValue]) throws(InvalidEvent) -> Event {
        var event = Event()
        for part in parts {
            guard let name = part["name"] else { continue }
            if name.says("event-number") || name.says("eventNumber") {
                event.number = try number(value(part), at: "Parameters.parameter.part.event-number")
            } else if name.says("timestamp") {
                event.timestamp = try instant(value(part), at: "Parameters.parameter.part.timestamp")
            } else if name.says("focus") {
                event.focus = value(part)?["reference"]?.string
            }
        }
        return event
    }

    /// The member of a parameter whose name begins with `value`, whatever type it names.
    private static func value(_ parameter: JSONValue) -> JSONValue? {
        var found: JSONValue?
        parameter.forEachMember { name, value in
            guard name.starts(with: "value".utf8) else { return true }
            found = value
            return false
        }
        return found
    }

    private static func kind(_ type: JSONValue?, at path: StaticString) throws(InvalidEvent) -> Notification.Kind {
        guard let text = type?.string else { throw InvalidEvent(.elementType, at: path) }
        if text == "query-event" { return .events }
        guard let kind = Notification.Kind(rawValue: text) else { throw InvalidEvent(.action, at: path) }
        return kind
    }

    /// The largest number of an event that is taken for one: 2⁵³ − 1, which is exact in every reader of JSON (RFC 8259 §6).
    private static let largestNumber: Int64 = (1 << 53) - 1

    /// A number, which is sent as one or as a string; nil if there is none.
    private static func number(_ value: JSONValue?, at path: StaticString) throws(InvalidEvent) -> Int64? {
        guard let value else { return nil }
        guard let number = value.integer, (0...largestNumber).contains(number) else {
            throw InvalidEvent(.elementType, at: path)
        }
        return number
    }

    private static func instant(_ value: JSONValue?, at path: StaticString) throws(InvalidEvent) -> String? {
        guard let value else { return nil }
        guard let bytes = value.stringBytes, FHIRGrammar.isInstant(bytes) else { throw InvalidEvent(.timestamp, at: path) }
        return bytes.utf8Text
    }
}

/// A reference to a resource by type and id, relative or absolute, possibly to one version of it.
struct FHIRReference: Equatable {
    let type: String
    let id: String
    let version: String?

    /// `Type/id`.
    var name: String { "\(type)/\(id)" }

    /// Reads `Patient/p1`, `http://server/fhir/Patient/p1/_history/2` and the like; nil for anything else.
    init?(_ text: String) {
        let path = text.prefix { $0 != "?" && $0 != "#" }
        var parts = path.split(separator: "/", omittingEmptySubsequences: true)
        var version: String?
        if parts.count >= 4, parts[parts.count - 2] == "_history" {
            version = String(parts[parts.count - 1])
            parts.removeLast(2)
        }
        guard parts.count >= 2, let id = parts.last, let type = parts.dropLast().last,
            let first = type.utf8.first, (0x41...0x5A).contains(first),
            type.utf8.allSatisfy({ (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) })
        else { return nil }
        self.type = String(type)
        self.id = String(id)
        self.version = version.flatMap { FHIRGrammar.isID(ByteSlice($0)) ? $0 : nil }
    }
}
