import HTTPTypes
import Testing
import TriageEvents
import TriageTelemetry

@testable import TriageIngress

@Suite struct RequestTargetTests {
    @Test func segmentsAndQueryAreDecodedApart() {
        let target = RequestTarget("/webhooks/a%20b?wait=10s&x=%26+y&z")
        #expect(target?.segments == ["webhooks", "a b"])
        #expect(target?.query.map(\.name) == ["wait", "x", "z"])
        #expect(target?.query.map(\.value) == ["10s", "& y", ""])
        #expect(RequestTarget("/")?.segments == [])
        #expect(RequestTarget("/a/")?.segments == ["a", ""])
        #expect(RequestTarget("//a")?.segments == ["", "a"])
        #expect(RequestTarget("HTTP://host:80/a?b")?.segments == ["a"])
        #expect(RequestTarget("https://host")?.segments == [])
    }

    @Test(
        arguments: [
            "", "a", "*", "host:443", "/a/../b", "/%2e%2e/b", "/./b", "/a%2fb", "/a%5Cb", "/a%00", "/a%0d%0aX:1", "/%", "/%4",
            "/%zz",
            "/%ff", "/%c0%ae", "/a#b", "/a b", "/a\u{7f}", "/ä", "ftp://host/a", "/a?x=%0", "/a?x=%80",
        ])
    func whatCouldMeanTwoThingsIsNone(_ target: String) { #expect(RequestTarget(target) == nil) }
}

@Suite struct RouteTableTests {
    private let table = RouteTable([
        (template: "/webhooks/fhir", methods: [.post]), (template: "/webhooks/fhir/{type}/{id}", methods: [.put]),
        (template: "/commands", methods: [.post]), (template: "/commands/{requestId}", methods: [.get]),
        (template: "/commands/{requestId}", methods: [.delete]),
    ])

    @Test func pathsAndMethods() {
        #expect(table.match(.post, ["webhooks", "fhir"]) == .route(0, parameters: [:]))
        #expect(
            table.match(.put, ["webhooks", "fhir", "Patient", "p1"]) == .route(1, parameters: ["type": "Patient", "id": "p1"]))
        #expect(table.match(.head, ["commands", "x"]) == .route(3, parameters: ["requestId": "x"]))
        #expect(table.match(.delete, ["commands", "x"]) == .route(4, parameters: ["requestId": "x"]))
        #expect(table.match(.get, ["commands"]) == .otherMethod(2, allow: "OPTIONS, POST"))
        #expect(table.match(.options, ["commands", "x"]) == .options(3, allow: "GET, HEAD, OPTIONS"))
        #expect(table.match(.get, ["commands", ""]) == .none)
        #expect(table.match(.get, []) == .none)
        #expect(table.match(.post, ["Commands"]) == .none)
        #expect(table.match(.post, ["commands", ""]) == .none)
    }

    @Test func whatIsRefusedHasThePlaceThatItWasFor() {
        #expect(table.place(of: "/webhooks/fhir/Patient/p1?a=b", .put) == 1)
        #expect(table.place(of: "/commands", .get) == 2)
        #expect(table.place(of: "/commands/x", .options) == 3)
        #expect(table.place(of: "/nowhere", .get) == nil)
        #expect(table.place(of: "/commands/../x", .get) == nil)
        #expect(table.place(of: "/commands", nil) == nil)
    }
}

@Suite struct RequestRulesTests {
    private func judge(_ fields: [(String, String)], minor: Int = 1, keepsAlive: Bool = true) -> Result<
        RequestRules.Verdict, RefusalError
    > {
        var all = HTTPFields()
        for (name, value) in [("Host", "x")] + fields {
            if let name = HTTPField.Name(name) { all.append(HTTPField(name: name, value: value)) }
        }
        return RequestRules.judge(all, minor: minor, keepsAlive: keepsAlive)
    }

    private func status(_ fields: [(String, String)], minor: Int = 1) -> Int {
        switch judge(fields, minor: minor) {
        case .success: 0
        case .failure(let error): error.refusal.closes ? error.refusal.status.code : -1
        }
    }

    @Test func bodiesAreFramedInOneWayOnly() throws {
        #expect(try judge([]).get().framing == .none)
        #expect(try judge([("Content-Length", "0")]).get().framing == .none)
        #expect(try judge([("Content-Length", "12")]).get().framing == .length(12))
        #expect(try judge([("Content-Length", "99999999999999999999")]).get().framing == .length(.max))
        #expect(try judge([("Transfer-Encoding", "Chunked")]).get().framing == .chunked)
        #expect(status([("Content-Length", "5"), ("Transfer-Encoding", "chunked")]) == 400)
        #expect(status([("Content-Length", "5"), ("Content-Length", "5")]) == 400)
        #expect(status([("Content-Length", "5, 5")]) == 400)
        #expect(status([("Content-Length", "+5")]) == 400)
        #expect(status([("Content-Length", "-1")]) == 400)
        #expect(status([("Content-Length", "")]) == 400)
        #expect(status([("Transfer-Encoding", "gzip, chunked")]) == 501)
        #expect(status([("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")]) == 501)
        #expect(status([("Transfer-Encoding", "chunked")], minor: 0) == 400)
        #expect(status([("Host", "y")]) == 400)
    }

    @Test func whatIsNotOffered() throws {
        for coding in ["gzip", "deflate", "br", "zstd", "gzip, identity", "x-gzip"] {
            #expect(status([("Content-Length", "5"), ("Content-Encoding", coding)]) == 415)
        }
        #expect(status([("Content-Length", "5"), ("Content-Encoding", "Identity")]) == 0)
        #expect(status([("Content-Length", "5"), ("Expect", "a-miracle")]) == 417)
        #expect(try judge([("Content-Length", "5"), ("Expect", "100-Continue")]).get().expectsContinue)
        #expect(try !judge([("Expect", "100-continue")]).get().expectsContinue)
        #expect(try !judge([("Content-Length", "5"), ("Expect", "100-continue")], minor: 0).get().expectsContinue)
    }

    @Test func whenTheConnectionEnds() throws {
        #expect(try !judge([]).get().closes)
        #expect(try judge([], keepsAlive: false).get().closes)
        #expect(try judge([], minor: 0).get().closes)
        #expect(try judge([("Upgrade", "h2c")]).get().closes)
    }
}

@Suite struct ConnectionClockTests {
    private let limits = ConnectionLimits(head: .seconds(10), body: .seconds(30), idle: .seconds(60), linger: .seconds(1))
    private func at(_ seconds: UInt64) -> UInt64 { seconds * 1_000_000_000 }

    @Test func bytesDoNotExtendTheTimeOfAHead() {
        var clock = ConnectionClock(limits: limits, now: at(0))
        #expect(clock.deadline == at(10) && clock.expiry(at: at(10)) == .close, "nothing came: nobody waits for an answer")
        clock.received(at: at(4))
        clock.received(at: at(9))
        #expect(clock.expiry(at: at(9)) == .none)
        #expect(clock.expiry(at: at(10)) == .refuse(.headTimeout))
    }

    @Test func bytesDoNotExtendTheTimeOfABody() {
        var clock = ConnectionClock(limits: limits, now: at(0))
        clock.received(at: at(1))
        clock.headEnded(at: at(2))
        clock.received(at: at(31))
        #expect(clock.expiry(at: at(31)) == .none)
        #expect(clock.expiry(at: at(32)) == .refuse(.bodyTimeout))
    }

    @Test func noTimeRunsWhileWeAnswer() {
        var clock = ConnectionClock(limits: limits, now: at(0))
        clock.received(at: at(0))
        clock.headEnded(at: at(0))
        clock.handedOn(at: at(1))
        #expect(clock.deadline == nil && clock.expiry(at: at(1000)) == .none)
        clock.received(at: at(2))
        clock.headEnded(at: at(3))
        #expect(clock.deadline == nil)
        clock.answerBegan(at: at(500))
        #expect(clock.expiry(at: at(559)) == .none && clock.expiry(at: at(560)) == .close, "it doesn't take the answer")
        clock.answerEnded(at: at(501))
        #expect(clock.deadline == at(531), "the body counts from here")
    }

    @Test func idleConnectionsAndEndingOnesAreClosed() {
        var clock = ConnectionClock(limits: limits, now: at(0))
        clock.received(at: at(0))
        clock.headEnded(at: at(0))
        clock.handedOn(at: at(0))
        clock.answerBegan(at: at(5))
        clock.answerEnded(at: at(6))
        #expect(clock.isQuiet && clock.expiry(at: at(65)) == .none && clock.expiry(at: at(66)) == .close)
        clock.received(at: at(20))
        #expect(clock.deadline == at(30))
        clock.headEnded(at: at(21))
        clock.handedOnLast(at: at(22))
        clock.answerBegan(at: at(23))
        clock.answerEnded(at: at(24))
        #expect(clock.expiry(at: at(25)) == .close)
    }
}

@Suite struct BodyMemoryTests {
    @Test func sharesComeBackByThemselves() {
        let memory = BodyMemory(limit: 100)
        do {
            let first = BodyShare(memory)
            let second = BodyShare(memory)
            #expect(first.take(60) && !second.take(41) && second.take(40) && !first.take(1))
            #expect(memory.bytes == 100)
        }
        #expect(memory.bytes == 0)
    }
}

@Suite struct AuthenticatorTests {
    private func fields(_ pairs: [(String, String)]) -> HTTPFields {
        var all = HTTPFields()
        for (name, value) in pairs { if let name = HTTPField.Name(name) { all.append(HTTPField(name: name, value: value)) } }
        return all
    }

    @Test func tokensAndFields() throws {
        let name = try #require(HTTPField.Name("X-Key"))
        let judge = Authenticator(bearerTokens: ["first", "second", ""], fields: [(name, "secret"), (name, "")])
        #expect(judge.admits(fields([("Authorization", "Bearer second")])))
        #expect(judge.admits(fields([("authorization", "bearer  first")])))
        #expect(judge.admits(fields([("x-key", "secret")])))
        for refused in [
            [], [("Authorization", "Bearer third")], [("Authorization", "Basic first")], [("Authorization", "first")],
            [("Authorization", "Bearer ")], [("Authorization", "Bearer first"), ("Authorization", "Bearer first")],
            [("Authorization", "Bearer first2")], [("X-Key", "")], [("X-Key", "secre")],
            [("X-Key", "secret"), ("X-Key", "secret")],
        ] {
            #expect(!judge.admits(fields(refused)))
        }
        #expect(Authenticator().isOpen && Authenticator().admits([:]))
        #expect(Authenticator(bearerTokens: [""]).isOpen)
    }
}

@Suite struct AccessEntryTests {
    @Test func aLineNamesTheTemplateAlone() {
        let entry = AccessEntry(
            method: AccessEntry.name(.post), route: "/commands/{requestId}", status: 202, requestBytes: 12, answerBytes: 3,
            duration: .microseconds(1250), context: nil)
        #expect(entry.text.text == "POST /commands/{requestId} 202 in 12 out 3 1.2 ms")
        #expect(AccessEntry.name(HTTPRequest.Method("BREW")).text == "_OTHER")
        #expect(AccessEntry.name(nil).text == "_OTHER")
    }

    @Test func dates() {
        // The example of RFC 9110 §5.6.7.
        #expect(HTTPDates.format(784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT")
        #expect(HTTPDates.format(0) == "Thu, 01 Jan 1970 00:00:00 GMT")
    }
}

@Suite struct ChunkAnnouncementTests {
    private func size(_ pieces: String...) -> Int {
        var announcement = ChunkAnnouncement()
        for piece in pieces { announcement.read(Array(piece.utf8)) }
        return announcement.size
    }

    @Test func theFirstSizeBehindTheHeadIsReadHoweverItIsCut() {
        #expect(size("POST / HTTP/1.1\r\nHost: x\r\n\r\n1aF\r\n") == 0x1AF)
        #expect(size("\r\n\r\n", "1", "a", "F;name=ff\r\n") == 0x1AF)
        // Of two requests in one read the last head counts, whose body is awaited.
        #expect(size("GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\n\r\n2") == 2)
        #expect(size("\r\n\r\n" + String(repeating: "f", count: 16)) == .max)
        #expect(size("\r\n\r\n" + String(repeating: "f", count: 40)) == .max)
    }

    @Test func whatIsNoSizeAnnouncesNothing() {
        #expect(size("POST / HTTP/1.1\r\n\r\n") == 0)
        #expect(size("\r\n\r\n0\r\n", "ffff: trailer\r\n") == 0)
        #expect(size("\r\n\r\n;ffff\r\n") == 0)
        #expect(size("\r\n\r", "\nffff\r\n") == 0)
        #expect(size("\r\n", "\r\n\r\nffff") == 0)
    }
}
