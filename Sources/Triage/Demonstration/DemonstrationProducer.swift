internal import DequeModule
internal import Synchronization
internal import TriageEvents
internal import TriageTelemetry

/// Produces the generated events, never more than the embedded broker can keep ahead of the consumer.
final class DemonstrationProducer: Sendable {
    /// Unfinished bytes that may stand in one partition, those not acknowledged yet included: the embedded broker keeps
    /// 5 MiB of each partition and forgets the oldest.
    static let maximumAhead = 2 << 20

    private struct State {
        var ahead: [TopicPartition: Deque<(offset: Int64, bytes: Int)>] = [:]
        var bytesAhead: [TopicPartition: Int] = [:]
        var unacknowledged = 0
        var produced = 0
        var failure: BrokerError?
        var outstanding = 0
    }

    private let sink: TracedSink
    private let options: DemonstrationOptions
    private let handler: DemonstrationHandler
    private let recorder: TraceRecorder
    private let state = Mutex(State())

    init(sink: TracedSink, options: DemonstrationOptions, handler: DemonstrationHandler, recorder: TraceRecorder) {
        self.sink = sink
        self.options = options
        self.handler = handler
        self.recorder = recorder
    }

    /// Events that the broker has acknowledged.
    var produced: Int { state.withLock(\.produced) }

    /// Produces everything and waits for the last acknowledgement.
    ///
    /// - Parameter watermarks: how far the consumer is.
    func run(_ watermarks: @Sendable () -> [TopicPartition: Int64]) async throws {
        var generator = PatientGenerator(seed: options.seed, transient: options.transient, persistent: options.persistent)
        let begin = ContinuousClock.now
        for number in 0..<options.events {
            let event = generator.next()
            if let rate = options.rate {
                try await Task.sleep(until: begin + .seconds(Double(number) / rate), clock: .continuous)
            }
            while !hasRoom(for: event.value.count) {
                settle(watermarks())
                if hasRoom(for: event.value.count) { break }
                try await Task.sleep(for: .milliseconds(5))
            }
            handler.expect(event)
            try await send(event)
        }
        while state.withLock({ $0.outstanding > 0 }) { try await Task.sleep(for: .milliseconds(5)) }
        if let failure = state.withLock(\.failure) { throw failure }
    }

    func close() { sink.close() }

    private func send(_ event: GeneratedEvent) async throws {
        let topic = TopicPattern.hybrid.topic(resourceType: "Patient", action: event.action)
        let record = OutboundRecord(
            topic: topic, key: ByteSlice(event.key), value: ByteSlice(event.value),
            headers: [Header("content-type", text: "application/fhir+json")]
        )
        let bytes = event.value.count
        while true {
            do throws(BrokerError) {
                state.withLock { state in
                    state.outstanding += 1
                    state.unacknowledged += bytes
                }
                let context = try sink.send(record, parent: nil, attributes: []) { [self] result in
                    acknowledged(result, topic: topic, bytes: bytes)
                }
                recorder.sent(context, plan: event.plan)
                return
            } catch {
                state.withLock { state in
                    state.outstanding -= 1
                    state.unacknowledged -= bytes
                }
                guard error.isQueueFull else { throw error }
                await withCheckedContinuation { continuation in sink.whenWritable { continuation.resume() } }
            }
        }
    }

    private func acknowledged(_ result: Result<Acknowledgement, BrokerError>, topic: String, bytes: Int) {
        state.withLock { state in
            state.outstanding -= 1
            state.unacknowledged -= bytes
            switch result {
            case .success(let acknowledgement):
                let partition = TopicPartition(topic, acknowledgement.partition)
                state.produced += 1
                state.ahead[partition, default: []].append((acknowledgement.offset, bytes))
                state.bytesAhead[partition, default: 0] += bytes
            case .failure(let error): state.failure = error
            }
        }
    }

    private func hasRoom(for bytes: Int) -> Bool {
        state.withLock { state in
            (state.bytesAhead.values.max() ?? 0) + state.unacknowledged + bytes <= DemonstrationProducer.maximumAhead
        }
    }

    private func settle(_ watermarks: [TopicPartition: Int64]) {
        state.withLock { state in
            for (partition, watermark) in watermarks {
                while let first = state.ahead[partition]?.first, first.offset < watermark {
                    state.ahead[partition]?.removeFirst()
                    state.bytesAhead[partition, default: 0] -= first.bytes
                }
            }
        }
    }
}

/// The demonstration's handler: fails as the generator planned, and counts what it is done with.
final class DemonstrationHandler: Sendable {
    private struct State {
        var plans: [String: FailurePlan] = [:]
        var finished: Set<String> = []
        var duplicates = 0
    }
    private let state = Mutex(State())

    /// Distinct events that it is done with.
    var completed: Int { state.withLock { $0.finished.count } }
    /// Events that it was done with once more.
    var duplicates: Int { state.withLock(\.duplicates) }

    func expect(_ event: GeneratedEvent) {
        if event.plan != .none { state.withLock { $0.plans[event.eventID] = event.plan } }
    }

    func handle(_ event: PatientEvent, _ context: HandlerContext) throws {
        let id = event.eventID ?? ""
        // Whoever replays an event has seen to its cause before.
        let isReplayed = context.record.headers.last(HeaderName.replay) != nil
        switch isReplayed ? .none : state.withLock({ $0.plans[id] }) ?? .none {
        case .none, .invalid: break
        case .rejected: throw RejectedError("duplicate_medical_record_number")
        case .transient(let healsOnAttempt):
            if context.attempt < healsOnAttempt ?? .max {
                context.span.addEvent("injected failure")
                throw RetryableError("http_503")
            }
        }
        state.withLock { state in
            if !state.finished.insert(id).inserted { state.duplicates += 1 }
        }
    }
}
