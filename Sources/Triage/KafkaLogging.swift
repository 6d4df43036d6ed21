internal import Logging
internal import TriageKafka

extension Logger {
    /// Takes librdkafka's log lines, by their syslog level (RFC 5424 §6.2.1): up to 3 they are errors, up to 5 warnings.
    var kafkaLog: KafkaLog {
        { level, facility, text in
            log(level: level <= 3 ? .error : level <= 5 ? .warning : .debug, "\(facility): \(text)")
        }
    }
}
