import CRdKafka
import TriageEvents

extension BrokerError {
    /// An error with the name that librdkafka has for `code`.
    init(code: rd_kafka_resp_err_t, operation: String, isFatal: Bool = false) {
        self.init(
            code.kafkaName, operation: operation, isRetriable: !isFatal && code.isRetriable,
            isFatal: isFatal || code == RD_KAFKA_RESP_ERR__FATAL
        )
    }

    /// Reads an error object that something else of C's owns.
    init(borrowing error: OpaquePointer, operation: String) {
        let code = rd_kafka_error_code(error)
        self.init(
            code.kafkaName, operation: operation,
            isRetriable: rd_kafka_error_is_retriable(error) != 0 || code.isRetriable,
            isFatal: rd_kafka_error_is_fatal(error) != 0
        )
    }

    /// `code`, which is fatal if the client has a fatal error of that code, or if it only says that there is one
    /// (`_FATAL`): then the client's own error says what happened.
    init(code: rd_kafka_resp_err_t, client: OpaquePointer, operation: String) {
        let fatal = rd_kafka_fatal_error(client, nil, 0)
        if fatal != RD_KAFKA_RESP_ERR_NO_ERROR, code == RD_KAFKA_RESP_ERR__FATAL || code == fatal {
            self.init(code: fatal, operation: operation, isFatal: true)
        } else {
            self.init(code: code, operation: operation)
        }
    }

    /// What becomes of calls whose answers librdkafka refuses for their size.
    static func answerTooLarge(_ operation: String, isRetriable: Bool = false) -> BrokerError {
        BrokerError(
            "_BAD_MSG",
            operation: "\(operation): a broker's answer is larger than receive.message.max.bytes; "
                + "-X receive.message.max.bytes=2147483647 takes any",
            isRetriable: isRetriable)
    }

    /// What a closed client answers.
    static func closed(_ operation: String) -> BrokerError { BrokerError("_DESTROY", operation: operation) }
}

extension rd_kafka_resp_err_t {
    var kafkaName: String { rd_kafka_err2name(self).map { String(cString: $0) } ?? "UNKNOWN" }

    /// Whether the same call may succeed later.
    ///
    /// Positive codes: the column "retriable" of Kafka's table of error codes (protocol guide, "Error codes").
    /// Negative ones are librdkafka's own: those that a lost connection, a full queue or a missing answer cause.
    var isRetriable: Bool {
        switch rawValue {
        case 2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83, 88, 89: true
        case RD_KAFKA_RESP_ERR__TRANSPORT.rawValue, RD_KAFKA_RESP_ERR__RESOLVE.rawValue,
            RD_KAFKA_RESP_ERR__MSG_TIMED_OUT.rawValue, RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN.rawValue,
            RD_KAFKA_RESP_ERR__TIMED_OUT.rawValue, RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE.rawValue,
            RD_KAFKA_RESP_ERR__QUEUE_FULL.rawValue, RD_KAFKA_RESP_ERR__WAIT_COORD.rawValue,
            RD_KAFKA_RESP_ERR__WAIT_CACHE.rawValue, RD_KAFKA_RESP_ERR__RETRY.rawValue,
            RD_KAFKA_RESP_ERR__IN_PROGRESS.rawValue:
            true
        default: false
        }
    }
}
