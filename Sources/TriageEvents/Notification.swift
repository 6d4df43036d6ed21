/// What a FHIR server tells a subscriber: the shapes of the topic-based subscriptions of R4, R4B, R5 and Aidbox, and R4's rest-hook.
///
/// Made by ``init(_:)`` from a text that is known to be JSON. Ids and versions are checked, resources are not: that is the
/// ``EventDecoder``'s work.
public struct Notification: Sendable, Equatable {
    /// How it was written.
    public enum Shape: String, Sendable, CaseIterable {
        /// A Bundle that begins with an `AidboxSubscriptionStatus`, possibly under `{"topic", "value"}`.
        case aidbox
        /// A Bundle that begins with `Parameters` (Subscriptions R5 Backport, R4).
        case backport
        /// A Bundle that begins with a `SubscriptionStatus` (R4B: type `history`, R5: type `subscription-notification`).
        case subscriptionStatus = "subscription_status"
        /// A bare Patient (R4 rest-hook with a payload).
        case resource
        /// Nothing at all (R4 rest-hook without a payload).
        case empty
    }

    /// Why it was sent (R5 SubscriptionNotificationType).
    public enum Kind: String, Sendable, CaseIterable {
        /// The server tries the way. Carries no events.
        case handshake
        /// The server is still there. Carries no events.
        case heartbeat
        /// An answer to `$status`. Carries no events.
        case queryStatus = "query-status"
        /// Something happened; also the answer to `$events`. Without ``Notification/events`` it isn't said what.
        case events = "event-notification"
    }

    /// How it was written.
    public var shape: Shape
    /// Why it was sent.
    public var kind: Kind
    /// The reference of the Subscription, or of Aidbox's topic destination, as it was sent.
    public var subscription: String?
    /// The canonical URL of the topic.
    public var topic: String?
    /// The number of the last event, as handshakes, heartbeats and R5's notifications tell it.
    public var eventsSinceStart: Int64?
    /// What happened to Patients, in order.
    public var events: [Event] = []
    /// Events whose focus is another resource than a Patient.
    public var ignored = 0
    /// The numbers of all events that are told, the ignored ones included.
    public var numbers: [Int64] = []
    /// Of all events' resources together.
    private var resourceBytes = 0

    /// One change that a notification tells of.
    public struct Event: Sendable, Equatable {
        /// Its number in the subscription, from 1.
        public var number: Int64?
        /// When it happened, a FHIR instant.
        public var timestamp: String?
        /// The Patient's logical id; nil where a notification has no content. Patient data.
        public var patientID: ByteSlice?
        /// What happened; nil where neither a request nor a version tells.
        public var action: ChangeAction?
        /// `meta.versionId`, or what `response.etag` says.
        public var versionID: String?
        /// The Patient resource where its bytes lie; nil for a delete, and where only its id was sent. Patient data.
        public var resource: ByteSlice?
        /// The whole entry of a history, whose bytes tell it from others where it has neither version nor time. Patient data.
        public var entry: ByteSlice?

        /// An event of these parts.
        public init(
            number: Int64? = nil, timestamp: String? = nil, patientID: ByteSlice? = nil, action: ChangeAction? = nil,
            versionID: String? = nil, resource: ByteSlice? = nil
        ) {
            self.number = number
            self.timestamp = timestamp
            self.patientID = patientID
            self.action = action
            self.versionID = versionID
            self.resource = resource
        }

        /// Whether the resource has to be fetched: something happened to this Patient, and it wasn't deleted.
        public var needsResource: Bool { patientID != nil && resource == nil && action != .deleted }
    }

    init(shape: Shape, kind: Kind) {
        self.shape = shape
        self.kind = kind
    }

    /// Something happened to this Patient: what a rest-hook without payload says whose path names it.
    package init(patient: ByteSlice, action: ChangeAction?) {
        self.init(shape: .empty, kind: .events)
        events = [Event(patientID: patient, action: action)]
    }

    /// Understands a request's body.
    ///
    /// - Parameters:
    ///   - body: nil for an empty body; else what ``EventDecoder/checkObject(_:)`` found to be an object.
    ///   - maximum: events that it may tell of; of entries there may be ten times as many, as some belong to no event.
    /// - Throws: ``InvalidEvent`` with the rule that is broken and an index-free path.
    public init(_ body: JSONValue?, maximumEvents maximum: Int = .max) throws(InvalidEvent) {
        guard let body else {
            self.init(shape: .empty, kind: .events)
            return
        }
        guard let type = body["resourceType"] else {
            // Some of Aidbox's destinations wrap the bundle.
            guard let value = body["value"], value["resourceType"]?.says("Bundle") == true else {
                throw InvalidEvent(.resourceTypeMissing, at: "resourceType")
            }
            try self.init(bundle: value, maximum)
            return
        }
        guard type.kind == .string else { throw InvalidEvent(.resourceTypeMissing, at: "resourceType") }
        if type.says("Bundle") {
            try self.init(bundle: body, maximum)
        } else if type.says("Patient") {
            self.init(shape: .resource, kind: .events)
            events = [try NotificationEntry.event(ofBare: body)]
        } else {
            throw InvalidEvent(.resourceTypeForeign, at: "resourceType")
        }
    }

    private init(bundle: JSONValue, _ maximum: Int) throws(InvalidEvent) {
        guard let type = bundle["type"], type.says("history") || type.says("subscription-notification") else {
            throw InvalidEvent(.unknownForm, at: "Bundle.type")
        }
        let entries = bundle["entry"]?.elements ?? []
        guard let status = entries.first?["resource"] else { throw InvalidEvent(.resourceMissing, at: "Bundle.entry.resource") }
        let parsed: NotificationStatus
        if status["resourceType"]?.says("Parameters") == true {
            parsed = try NotificationStatus(parameters: status)
        } else if status["resourceType"]?.says("SubscriptionStatus") == true {
            parsed = try NotificationStatus(status: status, shape: .subscriptionStatus)
        } else if status["resourceType"]?.says("AidboxSubscriptionStatus") == true {
            parsed = try NotificationStatus(status: status, shape: .aidbox)
        } else {
            throw InvalidEvent(.unknownForm, at: "Bundle.entry.resource.resourceType")
        }
        self.init(shape: parsed.shape, kind: parsed.kind)
        subscription = parsed.subscription
        topic = parsed.topic
        eventsSinceStart = parsed.eventsSinceStart
        guard kind == .events else { return }
        guard parsed.events.count <= maximum else {
            throw InvalidEvent(.tooManyEvents, at: "Bundle.entry.resource.notificationEvent")
        }
        guard (entries.count - 1) / (parsed.events.isEmpty ? 1 : 10) <= maximum else {
            throw InvalidEvent(.tooManyEvents, at: "Bundle.entry")
        }
        var content: [NotificationEntry] = []
        for entry in entries.dropFirst() { content.append(try NotificationEntry(entry)) }
        if parsed.events.isEmpty {
            // Early drafts of the backport tell only the resources.
            for entry in content { try take(entry, number: nil, timestamp: nil) }
        } else {
            numbers = parsed.events.compactMap(\.number)
            try join(parsed.events, content)
        }
    }

    /// Puts each event together with the entry of its focus.
    private mutating func join(
        _ told: [NotificationStatus.Event], _ content: [NotificationEntry]
    ) throws(InvalidEvent) {
        // Several events of one resource take its entries in turn; if there are fewer, the last one serves for the rest.
        var places: [String: Places] = [:]
        for (index, entry) in content.enumerated() {
            for name in entry.names { places[name, default: Places()].all.append(index) }
        }
        var taken = [Bool](repeating: false, count: content.count)
        for event in told {
            guard let focus = event.focus else {
                // Without content nothing more is told, unless the one entry there is says what the one event is about.
                if told.count == 1, content.count == 1, let only = content.first {
                    try take(only, number: event.number, timestamp: event.timestamp)
                } else {
                    events.append(Event(number: event.number, timestamp: event.timestamp))
                }
                continue
            }
            let reference = FHIRReference(focus)
            if let index = places[reference?.name ?? focus]?.next(but: taken) {
                taken[index] = true
                try take(content[index], number: event.number, timestamp: event.timestamp)
            } else if let reference, reference.type == "Patient" {
                guard FHIRGrammar.isID(ByteSlice(reference.id)) else {
                    throw InvalidEvent(.id, at: "notificationEvent.focus.reference")
                }
                events.append(
                    Event(
                        number: event.number, timestamp: event.timestamp, patientID: ByteSlice(reference.id),
                        versionID: reference.version))
            } else {
                ignored += 1
            }
        }
    }

    /// The entries that one name stands for. Each is looked at once, however many events have the name.
    private struct Places {
        var all: [Int] = []
        private var passed = 0

        init() {}

        /// The first one that isn't taken; the last one if all are.
        mutating func next(but taken: [Bool]) -> Int? {
            while passed < all.count, taken[all[passed]] { passed += 1 }
            return passed < all.count ? all[passed] : all.last
        }
    }

    /// Bytes that the resources of one body's events may have together. An entry may serve for several events, so that a short body
    /// can tell of far more than it is long.
    public static let maximumResourceBytes = 32 << 20

    private mutating func take(_ entry: NotificationEntry, number: Int64?, timestamp: String?) throws(InvalidEvent) {
        guard var event = entry.event else {
            ignored += 1
            return
        }
        resourceBytes += event.resource?.count ?? 0
        guard resourceBytes <= Notification.maximumResourceBytes else { throw InvalidEvent(.tooManyEvents, at: "Bundle.entry") }
        event.number = number
        event.timestamp = timestamp ?? event.timestamp
        events.append(event)
    }
}
