internal import Logging
internal import TriageKafka
internal import TriageTelemetry

extension Logger {
    /// Takes librdkafka's log lines, by their syslog level (RFC 5424 §6.2.1): up to 3 they are errors, up to 5 warnings.
    ///
    /// Their texts name brokers, topics and errors and never a record, so they are shown; but they are not of our making, so
    /// only the facility, a word of librdkafka's own vocabulary, is exported.
    var kafkaLog: KafkaLog {
        { level, facility, text in
            let isWord = facility.utf8.count <= 32 && facility.utf8.allSatisfy { (0x41...0x5A).contains($0) || $0 == 0x5F }
            log(
                level: level <= 3 ? .error : level <= 5 ? .warning : .debug,
                safe: isWord ? SafeText(vetted: "librdkafka \(facility)") : "librdkafka", shown: "\(facility): \(text)"
            )
        }
    }
}
