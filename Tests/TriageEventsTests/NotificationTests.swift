import Testing
import TriageEvents

@Suite("Notifications of FHIR servers")
struct NotificationTests {
    private func parse(_ text: String) throws -> TriageEvents.Notification {
        let body = ByteSlice(text)
        try EventDecoder().checkObject(body)
        return try TriageEvents.Notification(JSONValue(body))
    }

    private func rule(_ text: String) -> InvalidEvent? {
        do {
            _ = try parse(text)
            return nil
        } catch {
            return error as? InvalidEvent
        }
    }

    /// The bundle of the reference, with what `content` leaves of its entry.
    private func aidbox(_ entry: String, event: String = #"{"eventNumber":1,"focus":{"reference":"Patient/p1"}}"#) -> String {
        """
        {"resourceType":"Bundle","type":"history","timestamp":"2026-01-01T00:00:00Z","entry":[
         {"resource":{"resourceType":"AidboxSubscriptionStatus","status":"active","type":"event-notification",
          "notificationEvent":[\(event)],
          "topic":"http://example.org/patient","topic-destination":{"reference":"AidboxTopicDestination/k"}}}\(entry)]}
        """
    }
    private let full = """
        ,{"fullUrl":"http://aidbox/fhir/Patient/p1","request":{"method":"POST","url":"/fhir/Patient"},
         "resource":{"resourceType":"Patient","id":"p1","meta":{"versionId":"7"}}}
        """

    @Test func aidboxFullResource() throws {
        let told = try parse(aidbox(full))
        #expect(told.shape == .aidbox && told.kind == .events)
        #expect(told.subscription == "AidboxTopicDestination/k" && told.topic == "http://example.org/patient")
        let resource = #"{"resourceType":"Patient","id":"p1","meta":{"versionId":"7"}}"#
        #expect(
            told.events == [
                .init(number: 1, patientID: ByteSlice("p1"), action: .created, versionID: "7", resource: ByteSlice(resource))
            ])
        let wrapped = try parse(#"{"topic":"t","value":\#(aidbox(full))}"#)
        #expect(wrapped == told)
    }

    @Test func aidboxIDOnlyAndEmpty() throws {
        let idOnly = try parse(
            aidbox(#",{"fullUrl":"http://aidbox/fhir/Patient/p1","request":{"method":"PUT","url":"/fhir/Patient/p1"}}"#))
        #expect(idOnly.events == [.init(number: 1, patientID: ByteSlice("p1"), action: .updated)])
        #expect(idOnly.events[0].needsResource)
        let empty = try parse(aidbox(""))
        #expect(empty.events == [.init(number: 1, patientID: ByteSlice("p1"))])
        let nothing = try parse(aidbox("", event: #"{"eventNumber":4}"#))
        #expect(nothing.events == [.init(number: 4)] && !nothing.events[0].needsResource)
    }

    @Test func aidboxDelete() throws {
        for entry in [
            #",{"fullUrl":"http://aidbox/fhir/Patient/p1","request":{"method":"DELETE","url":"/fhir/Patient/p1"}}"#,
            #",{"request":{"method":"DELETE","url":"/fhir/Patient/p1"}}"#,
        ] {
            let told = try parse(aidbox(entry))
            #expect(told.events == [.init(number: 1, patientID: ByteSlice("p1"), action: .deleted)])
            #expect(!told.events[0].needsResource)
        }
    }

    private func backport(_ type: String, _ parts: String = "", entries: String = "") -> String {
        """
        {"resourceType":"Bundle","type":"history","entry":[{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Parameters",
         "parameter":[{"name":"subscription","valueReference":{"reference":"http://s/fhir/Subscription/s1"}},
          {"name":"topic","valueCanonical":"http://t"},{"name":"status","valueCode":"active"},{"name":"type","valueCode":"\(type)"},
          {"name":"events-since-subscription-start","valueString":"12"}\(parts)]}}\(entries)]}
        """
    }

    @Test func backportR4() throws {
        let part = """
            ,{"name":"notification-event","part":[{"name":"event-number","valueString":"12"},
             {"name":"timestamp","valueInstant":"2026-01-01T00:00:00.5Z"},
             {"name":"focus","valueReference":{"reference":"http://s/fhir/Patient/p1"}},
             {"name":"additional-context","valueReference":{"reference":"Practitioner/d"}}]}
            """
        let idOnly = try parse(backport("event-notification", part))
        #expect(idOnly.shape == .backport && idOnly.eventsSinceStart == 12)
        #expect(idOnly.subscription == "http://s/fhir/Subscription/s1" && idOnly.topic == "http://t")
        #expect(idOnly.events == [.init(number: 12, timestamp: "2026-01-01T00:00:00.5Z", patientID: ByteSlice("p1"))])
        for (version, action) in [("1", ChangeAction.created), ("2", .updated)] {
            let resource = #"{"resourceType":"Patient","id":"p1","meta":{"versionId":"\#(version)"}}"#
            let entry =
                #",{"fullUrl":"http://s/fhir/Patient/p1","resource":\#(resource),"request":{"method":"PUT","url":"Patient/p1"}}"#
            let told = try parse(backport("event-notification", part, entries: entry))
            #expect(told.events.map(\.action) == [action] && told.events.map(\.resource) == [ByteSlice(resource)])
        }
    }

    @Test(arguments: [("handshake", Notification.Kind.handshake), ("heartbeat", .heartbeat), ("query-status", .queryStatus)])
    func withoutEvents(type: String, kind: TriageEvents.Notification.Kind) throws {
        let told = try parse(backport(type))
        #expect(told.kind == kind && told.events.isEmpty && told.eventsSinceStart == 12)
    }

    @Test(arguments: [("history", "3"), ("subscription-notification", "\"3\"")])
    func subscriptionStatus(type: String, number: String) throws {
        let told = try parse(
            """
            {"resourceType":"Bundle","type":"\(type)","entry":[{"resource":{"resourceType":"SubscriptionStatus",
             "type":"event-notification","eventsSinceSubscriptionStart":\(number),"subscription":{"reference":"Subscription/s"},
             "topic":"http://t","notificationEvent":[{"eventNumber":\(number),"timestamp":"2026-01-01T00:00:00+01:00",
              "focus":{"reference":"Patient/p1"}},{"eventNumber":4,"focus":{"reference":"Observation/o"}},
              {"eventNumber":"5","focus":{"reference":"Patient/p1"}}]}},
             {"fullUrl":"http://s/Patient/p1","resource":{"resourceType":"Patient","id":"p1","meta":{"versionId":"1"}}},
             {"fullUrl":"http://s/Observation/o","resource":{"resourceType":"Observation","id":"o"}},
             {"fullUrl":"http://s/Patient/p1","resource":{"resourceType":"Patient","id":"p1","meta":{"versionId":"2"}}}]}
            """)
        #expect(told.shape == .subscriptionStatus && told.eventsSinceStart == 3)
        #expect(told.events.map(\.number) == [3, 5] && told.events.map(\.versionID) == ["1", "2"])
        #expect(told.events.map(\.action) == [.created, .updated] && told.ignored == 1)
    }

    @Test func restHook() throws {
        #expect(try TriageEvents.Notification(nil).shape == .empty)
        #expect(JSONValue(ByteSlice(" \n")) == nil)
        let told = try parse(
            #"{"resourceType":"Patient","id":"p1","meta":{"versionId":"1","lastUpdated":"2026-01-01T00:00:00Z"}}"#)
        #expect(told.shape == .resource && told.events.map(\.action) == [.created])
        #expect(told.events[0].timestamp == "2026-01-01T00:00:00Z")
        #expect(try parse(#"{"resourceType":"Patient","id":"p1"}"#).events[0].action == .updated)
        #expect(try parse(#"{"resourceType":"Patient"}"#).events[0].action == .created)
    }

    @Test func malformed() {
        #expect(rule("{}") == InvalidEvent(.resourceTypeMissing, at: "resourceType"))
        #expect(rule(#"{"resourceType":5}"#) == InvalidEvent(.resourceTypeMissing, at: "resourceType"))
        #expect(rule(#"{"resourceType":"Observation"}"#) == InvalidEvent(.resourceTypeForeign, at: "resourceType"))
        #expect(rule(#"{"resourceType":"Bundle","type":"batch"}"#) == InvalidEvent(.unknownForm, at: "Bundle.type"))
        #expect(
            rule(#"{"resourceType":"Bundle","type":"history"}"#) == InvalidEvent(.resourceMissing, at: "Bundle.entry.resource"))
        #expect(
            rule(#"{"resourceType":"Bundle","type":"history","entry":[{"resource":{"resourceType":"Patient"}}]}"#)?.rule
                == .unknownForm)
        #expect(rule(backport("party"))?.rule == .action)
        #expect(rule(aidbox("", event: #"{"eventNumber":"one"}"#))?.rule == .elementType)
        #expect(rule(aidbox("", event: #"{"eventNumber":-1}"#))?.rule == .elementType)
        #expect(rule(aidbox("", event: #"{"eventNumber":1,"timestamp":"yesterday"}"#))?.rule == .timestamp)
        #expect(rule(aidbox("", event: #"{"eventNumber":1,"focus":{"reference":"Patient/a b"}}"#))?.rule == .id)
        #expect(rule(aidbox("", event: "7"))?.rule == .elementType)
        #expect(rule(aidbox(",7"))?.rule == .elementType)
        #expect(rule(aidbox(#",{"resource":"text"}"#))?.rule == .elementType)
        #expect(rule(aidbox(full.replacing("POST", with: "GET")))?.rule == .action)
        #expect(rule(aidbox(full.replacing("\"7\"", with: "7")))?.rule == .id)
        #expect(rule(aidbox(#",{"request":{"method":"DELETE","url":"Patient"}}"#))?.rule == .idMissing)
    }

    @Test(
        "events of one resource take its entries in turn, the last one serves for the rest; thirty thousand take no minute",
        .timeLimit(.minutes(1)))
    func join() throws {
        // Of equal names each event would look at all entries that others took before: half a billion looks.
        let count = 30_000
        let told = Array(repeating: #"{"focus":{"reference":"Patient/p1"}}"#, count: count + 1).joined(separator: ",")
        let entries = (1...count).map { #",{"resource":{"resourceType":"Patient","id":"p1","meta":{"versionId":"\#($0)"}}}"# }
        let events = try parse(aidbox(entries.joined(), event: told)).events
        #expect(events.map(\.versionID) == (1...count).map(String.init) + ["\(count)"])
    }

    @Test("a bundle may tell of so many events")
    func maximumEvents() throws {
        func told(_ events: Int, _ entries: Int) -> String {
            aidbox(
                (0..<entries).map { #",{"resource":{"resourceType":"Patient","id":"p\#($0)"}}"# }.joined(),
                event: (0..<events).map { #"{"focus":{"reference":"Patient/p\#($0)"}}"# }.joined(separator: ","))
        }
        func rule(_ text: String) -> InvalidEvent? {
            do {
                _ = try TriageEvents.Notification(JSONValue(ByteSlice(text)), maximumEvents: 3)
                return nil
            } catch {
                return error
            }
        }
        #expect(rule(told(3, 39)) == nil && rule(told(0, 3)) == nil)
        let path: StaticString = "Bundle.entry.resource.notificationEvent"
        #expect(rule(told(4, 3)) == InvalidEvent(.tooManyEvents, at: path))
        #expect(rule(told(3, 40)) == InvalidEvent(.tooManyEvents, at: "Bundle.entry"))
        #expect(rule(told(0, 4)) == InvalidEvent(.tooManyEvents, at: "Bundle.entry"))
    }

    @Test func history() throws {
        let body = ByteSlice(
            """
            {"resourceType":"Bundle","type":"history","link":[{"relation":"self","url":"http://s/Patient/_history"},
             {"relation":"next","url":"http://s/Patient/_history?_offset=2"}],"entry":[
             {"fullUrl":"http://s/Patient/p1","request":{"method":"DELETE","url":"Patient/p1"},
              "response":{"status":"204","etag":"W/\\"3\\"","lastModified":"2026-01-01T00:00:03Z"}},
             {"fullUrl":"http://s/Patient/p1","resource":{"resourceType":"Patient","id":"p1","meta":{"versionId":"2"}},
              "request":{"method":"PUT","url":"Patient/p1"},"response":{"status":"200","etag":"W/\\"2\\""}},
             {"fullUrl":"http://s/Observation/o","resource":{"resourceType":"Observation","id":"o"},
              "request":{"method":"POST","url":"Observation"}}]}
            """)
        let page = try HistoryPage(#require(JSONValue(body)))
        #expect(page.next == "http://s/Patient/_history?_offset=2" && page.ignored == 1)
        #expect(page.events.map(\.action) == [.updated, .deleted] && page.events.map(\.versionID) == ["2", "3"])
        #expect(page.events.last?.timestamp == "2026-01-01T00:00:03Z")
    }

    @Test("one bad entry of a history doesn't hide the others")
    func badHistory() throws {
        let entries = [
            #"{"fullUrl":"http://s/Patient/p1","request":{"method":"DELETE","url":"Patient/p1"}}"#, "7",
            #"{"request":{"method":"PARTY","url":"Patient/p2"}}"#,
            #"{"resource":{"resourceType":"Patient","id":"a b"},"request":{"method":"PUT","url":"Patient/p3"}}"#,
        ]
        let text = #"{"resourceType":"Bundle","type":"history","entry":[\#(entries.joined(separator: ","))]}"#
        let page = try HistoryPage(#require(JSONValue(ByteSlice(text))))
        #expect(page.events.map(\.patientID) == [ByteSlice("p1")] && page.events[0].entry == ByteSlice(entries[0]))
        #expect(page.malformed == entries.dropFirst().map { ByteSlice($0) } && !page.isEmpty)
    }
}
