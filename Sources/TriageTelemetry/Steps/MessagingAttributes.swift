import TriageEvents

/// The attributes that all messaging spans share (messaging conventions; reference §2.2).
enum MessagingAttributes {
    /// System, operation and, where there is one, destination, partition, group and client.
    static func common(
        operation: SafeText, type: StaticString, destination: String?, partition: Int32? = nil, group: String? = nil,
        clientID: String?
    ) -> [Attribute] {
        var attributes = [
            Attribute("messaging.system", .literal("kafka")),
            Attribute("messaging.operation.name", .text(operation)),
            Attribute("messaging.operation.type", .literal(StaticText(type))),
        ]
        if let destination { attributes.append(Attribute("messaging.destination.name", .text(SafeText(vetted: destination)))) }
        if let partition { attributes.append(Attribute("messaging.destination.partition.id", .text("\(partition)"))) }
        if let group { attributes.append(Attribute("messaging.consumer.group.name", .text(SafeText(vetted: group)))) }
        if let clientID { attributes.append(Attribute("messaging.client.id", .text(SafeText(vetted: clientID)))) }
        return attributes
    }
}

/// Puts the guide's event attributes on a span.
enum EventAttributes {
    /// `event.id` and correlation id only as UUIDs, else not at all; ids of resources as the identifier policy says.
    static func describe(_ event: borrowing PatientEvent, on span: inout SpanData) {
        guard span.isRecording else { return }
        span.append("event.type", .literal(event.form == .command ? commandName(event.action) : typeName(event.action)))
        span.append("event.resource.type", .literal("Patient"))
        if let id = event.resourceIDBytes { span.append("event.resource.id", .identifier(id)) }
        if let id = event.eventIDBytes { span.append("event.id", AttributeValue.uuid(id) ?? .literal("_OTHER")) }
        if let id = event.correlationIDBytes {
            span.append("messaging.message.conversation_id", AttributeValue.uuid(id) ?? .literal("_OTHER"))
        }
    }

    private static func commandName(_ action: ChangeAction) -> StaticText {
        switch action {
        case .created: "CreatePatient"
        case .updated: "UpdatePatient"
        case .deleted: "DeletePatient"
        }
    }

    private static func typeName(_ action: ChangeAction) -> StaticText {
        switch action {
        case .created: "PatientCreated"
        case .updated: "PatientUpdated"
        case .deleted: "PatientDeleted"
        }
    }
}
