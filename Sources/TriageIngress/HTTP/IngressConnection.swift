internal import HTTPTypes
internal import NIOCore
internal import NIOHTTP1
internal import TriageEvents

/// What is known of a request apart from what it says: for its answer, the access log and the metric.
struct RequestFacts: Sendable {
    /// The method, if a head was read.
    var method: HTTPRequest.Method?
    /// The place of the route, if the path led to one.
    var route: Int?
    /// When its head was complete, or when it was refused before that; monotonic.
    let startedAt: ConnectionClock.Instant
    /// HTTP's version.
    var version: StaticString = "1.1"
    /// Bytes of the body that were read.
    var bodyBytes = 0
    /// Whether the connection ends with the answer.
    var closes = false
    /// Keeps the body's bytes counted until the answer is out.
    var share: BodyShare?
}

/// A request that is to be answered: whole, or refused.
struct ReceivedRequest: Sendable {
    /// Who answers.
    enum Answerer: Sendable {
        case route(any IngressRoute, IngressRequest)
        case server(Refusal)
    }

    let facts: RequestFacts
    let answerer: Answerer
}

/// An answer on its way to the socket.
struct ReplyToSend: Sendable {
    var answer: IngressAnswer
    /// Without its body: the answer to HEAD.
    var isHead: Bool
    var closes: Bool
    var date: String
}

/// What all connections of a server share.
final class IngressShared: Sendable {
    let routes: [any IngressRoute]
    let table: RouteTable
    let limits: ConnectionLimits
    let maximumRequests: Int
    let memory: BodyMemory
    let clock: any EventClock

    init(_ routes: [any IngressRoute], _ configuration: IngressServer.Configuration, clock: any EventClock) {
        self.routes = routes
        table = RouteTable(routes.map { (template: $0.template, methods: $0.methods) })
        limits = ConnectionLimits(
            head: configuration.headTimeout, body: configuration.bodyTimeout, idle: configuration.idleTimeout)
        maximumRequests = configuration.maximumRequestsPerConnection
        memory = BodyMemory(limit: configuration.maximumBodyBytesInMemory)
        self.clock = clock
    }
}

/// The end of a connection's pipeline: makes whole requests of what the parser reads, within all limits, and bytes of answers.
///
/// What is refused never reaches a task of its own route, and its rest is not read. Everything handed on, refusals too, is answered
/// in order by one task. All of it runs on the connection's event loop.
final class IngressConnection: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = ReceivedRequest
    typealias OutboundIn = ReplyToSend
    typealias OutboundOut = HTTPServerResponsePart

    /// A request that isn't at its end yet.
    private enum Current {
        case taken(Taken)
        /// One without a body that is refused when it is at its end, so that the connection stays.
        case refused(Refusal, RequestFacts)

        var facts: RequestFacts {
            switch self {
            case .taken(let taken): taken.facts
            case .refused(_, let facts): facts
            }
        }
    }

    /// A request that a route will answer.
    private struct Taken {
        var facts: RequestFacts
        let route: any IngressRoute
        var request: IngressRequest
        var body: [UInt8] = []
    }

    private let shared: IngressShared
    private let isTLS: Bool
    private var clock: ConnectionClock
    private var current: Current?
    private var requests = 0
    private var owesContinue = false
    private var isDropping = false
    private var isQuiescing = false
    private var dropped = 0
    private var timer: (due: ConnectionClock.Instant, task: Scheduled<Void>)?
    private var context: ChannelHandlerContext?

    /// Bytes that are read and dropped behind a refusal, so that a client which sends first and reads later finds the answer.
    private static let droppedBytes = 16 << 20

    init(_ shared: IngressShared, isTLS: Bool) {
        self.shared = shared
        self.isTLS = isTLS
        clock = ConnectionClock(limits: shared.limits, now: NIODeadline.now().uptimeNanoseconds)
    }

    private var now: ConnectionClock.Instant { NIODeadline.now().uptimeNanoseconds }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        arm()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        timer?.task.cancel()
        timer = nil
        self.context = nil
        current = nil
    }

    // MARK: In

    /// Bytes came; tells whether they are to be parsed.
    func received(_ bytes: Int) -> Bool {
        guard !isDropping else {
            dropped += bytes
            if dropped > IngressConnection.droppedBytes { context?.close(promise: nil) }
            return false
        }
        clock.received(at: now)
        arm()
        return true
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isDropping else { return }
        switch unwrapInboundIn(data) {
        case .head(let head): read(head, context)
        case .body(let buffer): read(buffer, context)
        case .end: finish(context)
        }
    }

    private func read(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        let now = now
        clock.headEnded(at: now)
        requests += 1
        var facts = RequestFacts(
            method: HTTPRequest.Method(head.method.rawValue), startedAt: now, version: head.version.minor == 0 ? "1.0" : "1.1")
        facts.closes = requests >= shared.maximumRequests || isQuiescing
        do throws(RefusalError) {
            let fields = try head.headers.fields()
            let verdict = try RequestRules.judge(fields, minor: head.version.minor, keepsAlive: head.isKeepAlive).get()
            facts.closes = facts.closes || verdict.closes
            guard let target = RequestTarget(head.uri), let method = facts.method else {
                throw RefusalError(refusal: .bad("the request's target is malformed"))
            }
            try look(up: method, target, fields, &facts, verdict.framing)
            if verdict.expectsContinue {
                owesContinue = true
                payContinue(context)
            }
        } catch {
            facts.route = facts.route ?? shared.table.place(of: head.uri, facts.method)
            refuse(error.refusal, facts, context)
        }
        arm()
    }

    /// Finds who answers; a refusal that lets the connection stay waits for the request's end.
    private func look(
        up method: HTTPRequest.Method, _ target: RequestTarget, _ fields: HTTPFields, _ facts: inout RequestFacts,
        _ framing: RequestRules.Framing
    ) throws(RefusalError) {
        let refusal: Refusal
        switch shared.table.match(method, target.segments) {
        case .route(let index, let parameters):
            facts.route = index
            let route = shared.routes[index]
            if framing != .none, !route.admits(fields) { throw RefusalError(refusal: .stranger) }
            if case .length(let length) = framing, length > route.maximumBodyBytes {
                throw RefusalError(refusal: .bodyTooLarge)
            }
            let request = IngressRequest(
                method: method, parameters: parameters, query: target.query.map { (name: $0.name, value: $0.value) },
                headers: fields, receivedAt: shared.clock.now())
            current = .taken(Taken(facts: facts, route: route, request: request))
            return
        case .options(let index, let allow):
            facts.route = index
            refusal = Refusal(.noContent, nil, headers: [.allow: allow], closes: false)
        case .otherMethod(let index, let allow):
            facts.route = index
            refusal = Refusal(
                .methodNotAllowed, OperationOutcome(.notSupported, "this path doesn't take the method"),
                headers: [.allow: allow], closes: false)
        case .none:
            refusal = Refusal(.notFound, OperationOutcome(.notFound, "there is no such path"), closes: false)
        }
        // A body that nobody wants isn't read, not even to keep the connection.
        guard framing == .none else { throw RefusalError(refusal: refusal) }
        current = .refused(refusal, facts)
    }

    private func read(_ buffer: ByteBuffer, _ context: ChannelHandlerContext) {
        guard case .taken(var taken) = current else { return }
        current = nil
        let count = buffer.readableBytes
        guard taken.body.count + count <= taken.route.maximumBodyBytes else {
            return refuse(.bodyTooLarge, taken.facts, context)
        }
        let share = taken.facts.share ?? BodyShare(shared.memory)
        taken.facts.share = share
        guard share.take(count) else { return refuse(.noMemory, taken.facts, context) }
        taken.body += buffer.readableBytesView
        current = .taken(taken)
    }

    /// The most that a chunked body may have of which nothing has come yet; nil while no such body is awaited.
    var limitOfUntouchedChunks: Int? {
        guard case .taken(let taken) = current, taken.body.isEmpty, taken.request.headers[.transferEncoding] != nil else {
            return nil
        }
        return taken.route.maximumBodyBytes
    }

    /// Refuses the body that is on its way, as too long.
    func refuseBody() {
        guard let context, let facts = current?.facts else { return }
        refuse(.bodyTooLarge, facts, context)
    }

    private func finish(_ context: ChannelHandlerContext) {
        switch current {
        case .taken(var taken):
            taken.request.body = ByteSlice(taken.body)
            taken.facts.bodyBytes = taken.body.count
            handOn(ReceivedRequest(facts: taken.facts, answerer: .route(taken.route, taken.request)), context)
        case .refused(let refusal, let facts):
            handOn(ReceivedRequest(facts: facts, answerer: .server(refusal)), context)
        case nil: break
        }
    }

    /// Has the server answer at once and end the connection, whatever more would come.
    private func refuse(_ refusal: Refusal, _ facts: RequestFacts, _ context: ChannelHandlerContext) {
        var facts = facts
        facts.closes = true
        facts.share = nil
        handOn(ReceivedRequest(facts: facts, answerer: .server(refusal)), context)
    }

    private func handOn(_ received: ReceivedRequest, _ context: ChannelHandlerContext) {
        current = nil
        owesContinue = false
        if received.facts.closes {
            isDropping = true
            clock.handedOnLast(at: now)
        } else {
            clock.handedOn(at: now)
        }
        context.fireChannelRead(wrapInboundOut(received))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard !isDropping else { return }
        guard let error = error as? HTTPParserError, error != .invalidEOFState, error != .closedConnection else {
            context.close(promise: nil)
            return
        }
        let facts = current?.facts ?? RequestFacts(startedAt: now)
        refuse(error == .headerOverflow ? .headTooLarge : .bad("this is no HTTP/1.1"), facts, context)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is ChannelShouldQuiesceEvent {
            isQuiescing = true
            if clock.isQuiet { context.close(promise: nil) }
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    // MARK: Out

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        var reply = unwrapOutboundIn(data)
        clock.answerBegan(at: now)
        if isQuiescing, clock.unanswered == 0, clock.phase == .idle {
            // Nobody has sent anything that would be lost.
            reply.closes = true
            isDropping = true
            clock.end()
        }
        let status = HTTPResponseStatus(statusCode: reply.answer.status.code)
        var headers = HTTPHeaders()
        headers.reserveCapacity(reply.answer.headers.count + 4)
        for field in reply.answer.headers { headers.add(name: field.name.rawName, value: field.value) }
        headers.replaceOrAdd(name: "Date", value: reply.date)
        if headers["Cache-Control"].isEmpty { headers.add(name: "Cache-Control", value: "no-store") }
        if status.mayHaveResponseBody { headers.replaceOrAdd(name: "Content-Length", value: "\(reply.answer.body.count)") }
        if reply.closes { headers.replaceOrAdd(name: "Connection", value: "close") }
        context.write(
            wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: status, headers: headers))), promise: nil)
        if !reply.isHead, status.mayHaveResponseBody, !reply.answer.body.isEmpty {
            let buffer = reply.answer.body.withUnsafeBytes { context.channel.allocator.buffer(bytes: $0) }
            context.write(wrapOutboundOut(.body(.byteBuffer(buffer))), promise: nil)
        }
        let written = context.eventLoop.makePromise(of: Void.self)
        let closes = reply.closes
        let this = NIOLoopBound(self, eventLoop: context.eventLoop)
        written.futureResult.whenComplete { result in
            switch result {
            case .success:
                promise?.succeed()
                this.value.answered(closing: closes)
            case .failure(let error):
                promise?.fail(error)
            }
        }
        context.write(wrapOutboundOut(.end(nil)), promise: written)
    }

    /// The socket has taken an answer.
    private func answered(closing: Bool) {
        guard let context else { return }
        clock.answerEnded(at: now)
        if closing {
            // A connection closed while the client still sends would be reset, and its answer lost with it.
            if isTLS { context.close(promise: nil) } else { context.close(mode: .output, promise: nil) }
        } else if isQuiescing, clock.isQuiet {
            context.close(promise: nil)
        } else {
            payContinue(context)
        }
        arm()
    }

    /// Tells a client that waits for it to send its body, once all before it is answered.
    private func payContinue(_ context: ChannelHandlerContext) {
        guard owesContinue, clock.unanswered == 0, clock.writing == 0 else { return }
        owesContinue = false
        context.write(
            wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: .continue))), promise: nil)
        context.flush()
    }

    // MARK: Time

    /// Looks at the clock when the present limit is reached.
    ///
    /// A timer that fires too early only looks and is set again, so that a connection in use moves its timer rarely.
    private func arm() {
        guard let context, let deadline = clock.deadline else { return }
        if let timer {
            guard deadline < timer.due else { return }
            timer.task.cancel()
        }
        let this = NIOLoopBound(self, eventLoop: context.eventLoop)
        timer = (deadline, context.eventLoop.scheduleTask(deadline: .uptimeNanoseconds(deadline)) { this.value.look() })
    }

    private func look() {
        timer = nil
        guard let context else { return }
        switch clock.expiry(at: now) {
        case .none: arm()
        case .close: context.close(promise: nil)
        case .refuse(let refusal):
            refuse(refusal, current?.facts ?? RequestFacts(startedAt: now), context)
            // No bytes came, so nobody else says that this was all: the task that answers would not be told.
            context.fireChannelReadComplete()
        }
    }
}
