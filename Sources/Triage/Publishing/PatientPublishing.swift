internal import Synchronization
public import TriageEvents
internal import TriageIngress

/// A change that a program tells of.
public struct PatientChange: Sendable {
    /// What happened.
    public var action: ChangeAction
    /// The Patient resource as JSON, UTF-8; its bytes become the event's `data` untouched. A deleted one needs no more than
    /// `resourceType` and `id`. Patient data.
    public var patient: ByteSlice
    /// `metadata.eventId`; nil draws a UUID. A program that may publish the same change twice gives it the same id both times.
    public var eventID: String?
    /// `metadata.correlationId`: the request that caused it, such as the `correlationID` of the event that is being handled; nil
    /// draws one.
    public var correlationID: String?

    /// A change of a Patient given as bytes, such as what an encoder made.
    public init(
        _ action: ChangeAction, _ patient: some Collection<UInt8>, eventID: String? = nil, correlationID: String? = nil
    ) {
        self.action = action
        self.patient = patient as? ByteSlice ?? ByteSlice(patient)
        self.eventID = eventID
        self.correlationID = correlationID
    }

    /// A change of a Patient given as text.
    public init(_ action: ChangeAction, _ patient: String, eventID: String? = nil, correlationID: String? = nil) {
        self.init(action, ByteSlice(patient), eventID: eventID, correlationID: correlationID)
    }
}

/// Some changes of a batch were not published.
public struct PublishError: Error, CustomStringConvertible {
    /// Why not, by their places in the batch: an `InvalidEvent` or a `BrokerError`.
    public let failures: [Int: any Error]
    /// The others' acknowledgements, by their places; empty if an invalid one kept all from being sent.
    public let acknowledgements: [Int: Acknowledgement]

    /// How many failed and why the first one did.
    public var description: String {
        guard let first = failures.keys.min(), let error = failures[first] else { return "nothing failed" }
        return "\(failures.count) of \(failures.count + acknowledgements.count) not published; number \(first): \(error)"
    }
}

extension EventPublisher {
    /// Publishes a change and waits until the brokers have acknowledged it.
    ///
    /// The send is a child of the current span, such as the attempt of the handler that calls; else it begins a trace.
    ///
    /// - Parameters:
    ///   - action: what happened.
    ///   - patient: the Patient resource as JSON, UTF-8: `Data`, `[UInt8]`, ``ByteSlice``. There is no form for `Encodable`: a
    ///     FHIR model has an encoder of its own, which alone keeps its decimals and extensions.
    ///   - eventID: `metadata.eventId`; nil draws a UUID.
    ///   - correlationID: `metadata.correlationId`; nil draws one.
    /// - Returns: where it stands.
    /// - Throws: `InvalidEvent` if a FHIR server would refuse it, before anything is sent; `BrokerError` if it was not acknowledged.
    @discardableResult
    public func publish(
        _ action: ChangeAction, _ patient: some Collection<UInt8>, eventID: String? = nil, correlationID: String? = nil
    ) async throws -> Acknowledgement {
        let change = PatientChange(action, patient, eventID: eventID, correlationID: correlationID)
        let event = try validate(change)
        return try await publish([event], of: [change])[0].get()
    }

    /// The same for a text.
    @discardableResult
    public func publish(
        _ action: ChangeAction, _ patient: String, eventID: String? = nil, correlationID: String? = nil
    ) async throws -> Acknowledgement {
        try await publish(action, ByteSlice(patient), eventID: eventID, correlationID: correlationID)
    }

    /// Publishes several changes in one go and waits for all acknowledgements; they share the producer's batches.
    ///
    /// All are validated first: if one is invalid, none is sent.
    ///
    /// - Returns: where each stands, in the order given.
    /// - Throws: ``PublishError``, which names those that failed.
    @discardableResult
    public func publish(_ changes: [PatientChange]) async throws -> [Acknowledgement] {
        var events: [PatientEvent] = []
        var failures: [Int: any Error] = [:]
        for (index, change) in changes.enumerated() {
            do { events.append(try validate(change)) } catch { failures[index] = error }
        }
        guard failures.isEmpty else { throw PublishError(failures: failures, acknowledgements: [:]) }
        var acknowledgements: [Int: Acknowledgement] = [:]
        for (index, answer) in try await publish(events, of: changes).enumerated() {
            switch answer {
            case .success(let acknowledgement): acknowledgements[index] = acknowledgement
            case .failure(let error): failures[index] = error
            }
        }
        guard failures.isEmpty else { throw PublishError(failures: failures, acknowledgements: acknowledgements) }
        return changes.indices.compactMap { acknowledgements[$0] }
    }

    private func validate(_ change: PatientChange) throws(InvalidEvent) -> PatientEvent {
        let decoded = decoder.withLock { decoder in
            Result { () throws(InvalidEvent) in
                try decoder.decode(value: change.patient, key: nil, topicAction: change.action)
            }
        }
        let event = try decoded.get()
        // What says itself what happened is another way to publish.
        guard event.form == .resource else { throw InvalidEvent(.unknownForm, at: "") }
        return event
    }

    private func publish(
        _ events: [PatientEvent], of changes: [PatientChange]
    ) async throws -> [Result<Acknowledgement, BrokerError>] {
        let answers = Answers(count: events.count)
        for (index, event) in events.enumerated() {
            var made = CapturedEvent(event)
            made.eventID = changes[index].eventID
            made.correlationID = changes[index].correlationID
            do throws(BrokerError) {
                try await send(event, as: made) { answers.take($0, at: index) }
            } catch {
                answers.take(.failure(error), at: index)
            }
        }
        return await answers.all()
    }
}
