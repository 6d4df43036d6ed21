// What a handler's author needs, so that `import Triage` is enough.
@_exported public import struct TriageEvents.ByteSlice
@_exported public import enum TriageEvents.ChangeAction
@_exported public import enum TriageEvents.ErrorClass
@_exported public import struct TriageEvents.PatientEvent
@_exported public import struct TriageEvents.Record
@_exported public import struct TriageEvents.RecordPosition
@_exported public import struct TriageEvents.Timestamp
@_exported public import enum TriageEvents.TopicPattern
@_exported public import struct TriageKafka.KafkaConfiguration
@_exported public import protocol TriageProcessing.ClassifiedError
@_exported public import struct TriageProcessing.EngineSummary
@_exported public import struct TriageProcessing.HandlerContext
@_exported public import struct TriageProcessing.RetryPolicy
@_exported public import struct TriageTelemetry.Attribute
@_exported public import enum TriageTelemetry.AttributeValue
@_exported public import struct TriageTelemetry.SafeText
@_exported public import class TriageTelemetry.Span
