internal import HTTPTypes
internal import HummingbirdCore
internal import Logging
internal import NIOCore
internal import NIOHTTP1
internal import TriageEvents
internal import TriageTelemetry

/// One connection: its pipeline, and the task that answers what comes, one after the other.
struct IngressChannel: ServerChildChannel {
    let shared: IngressShared
    let maximumHeadBytes: Int
    let maximumHeaders: Int
    let isTLS: Bool
    let durations: RequestDurations
    let dates = HTTPDates()
    let accessLog: (@Sendable (AccessEntry) -> Void)?

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<NIOAsyncChannel<ReceivedRequest, ReplyToSend>> {
        channel.eventLoop.makeCompletedFuture {
            let connection = IngressConnection(shared, isTLS: isTLS)
            var limits = NIOHTTPDecoderLimitConfiguration()
            limits.maxHeaderFieldSize = maximumHeadBytes
            limits.maxHeaderListSize = maximumHeadBytes
            limits.maxHeaderFieldCount = maximumHeaders
            let pipeline = channel.pipeline.syncOperations
            // Nothing that could end a header field early gets into `HTTPFields`, which answers are made of.
            try pipeline.addHandler(ByteWatch(connection))
            try pipeline.configureHTTPServerPipeline(
                withPipeliningAssistance: false, withErrorHandling: false, withOutboundHeaderValidation: false,
                withEncoderConfiguration: .init(), withDecoderLimitConfiguration: limits)
            try pipeline.addHandler(connection)
            return try NIOAsyncChannel(
                wrappingChannelSynchronously: channel,
                // Pipelined requests wait in the socket while the one before them is answered.
                configuration: .init(
                    backPressureStrategy: .init(lowWatermark: 1, highWatermark: 2), isOutboundHalfClosureEnabled: false))
        }
    }

    func handle(value channel: NIOAsyncChannel<ReceivedRequest, ReplyToSend>, logger: Logger) async {
        // On the connection's own loop, so that a request changes threads for the brokers' answer only.
        await withTaskExecutorPreference(LoopExecutor(channel.channel.eventLoop)) { await answerAll(channel) }
    }

    private func answerAll(_ channel: NIOAsyncChannel<ReceivedRequest, ReplyToSend>) async {
        await withTaskCancellationHandler {
            // What is thrown is a connection that broke: nobody is left to be told, and its requests have been logged.
            try? await channel.executeThenClose { inbound, outbound in
                for try await received in inbound {
                    let reply = await answer(received)
                    record(received.facts, reply.answer, isHead: reply.isHead)
                    try await outbound.write(reply)
                    if received.facts.closes {
                        // The connection ends itself once the client has had time to see the answer.
                        try await channel.channel.closeFuture.get()
                        break
                    }
                }
            }
        } onCancel: {
            channel.channel.close(promise: nil)
        }
    }

    /// Bytes of a body that is read on the event loop: some 100 µs. Longer ones would keep other connections of the loop waiting.
    private static let quickBodyBytes = 64 * 1024

    private func answer(_ received: ReceivedRequest) async -> ReplyToSend {
        let answer: IngressAnswer
        switch received.answerer {
        case .route(let route, let request) where request.body.count <= IngressChannel.quickBodyBytes:
            answer = await route.answer(request)
        case .route(let route, let request):
            answer = await withTaskExecutorPreference(globalConcurrentExecutor) { await route.answer(request) }
        case .server(let refusal):
            answer =
                refusal.outcome?.answer(refusal.status, refusal.headers)
                ?? IngressAnswer(status: refusal.status, headers: refusal.headers)
        }
        return ReplyToSend(
            answer: answer, isHead: received.facts.method == .head, closes: received.facts.closes,
            date: dates.text(at: shared.clock.now()))
    }

    private func record(_ facts: RequestFacts, _ answer: IngressAnswer, isHead: Bool) {
        let now = NIODeadline.now().uptimeNanoseconds
        let entry = AccessEntry(
            method: AccessEntry.name(facts.method),
            route: facts.route.map { SafeText(vetted: shared.routes[$0].template) }, status: answer.status.code,
            requestBytes: facts.bodyBytes, answerBytes: isHead ? 0 : answer.body.count,
            duration: .nanoseconds(Int64(clamping: now &- facts.startedAt)), context: answer.context)
        durations.record(entry, version: facts.version)
        accessLog?(entry)
    }
}
