internal import TriageTelemetry

/// What the bridges let through of the names and attributes that code hands to swift-distributed-tracing and swift-metrics.
///
/// Triage's own interfaces take literals and vetted text, so patient data can't get in. The bridged ones take any string; all
/// that isn't on a list, or doesn't look like code, is kept back and counted in `triage.bridge.refusals`.
public struct BridgePolicy: Sendable {
    /// Which names of spans, span events and metrics show; a span with another one shows as `_OTHER`, such a metric not at all.
    public enum NameRule: Sendable, Hashable {
        /// Those of ``BridgePolicy/names``, and those that look like code: up to six words of ASCII letters that begin in lower
        /// case, also joined by `.`, `/`, `:`, `-` or `_`, route templates, and well-known words such as `GET`; at most 100
        /// bytes. A net, not a proof.
        case codeLike
        /// Those of ``BridgePolicy/names`` alone: nothing else can get in.
        case listed
    }

    /// Which names show; ``NameRule/codeLike`` by default.
    public var nameRule = NameRule.codeLike
    /// Names that show whatever they look like, such as `"S3.GetObject 2006"`.
    public var names: [StaticString] = []
    /// Keys of attributes and dimensions that show, each with what its values must be; of several for a key the last counts.
    ///
    /// By default the keys of the semantic conventions whose values are numbers or of a closed set.
    public var attributes = AllowedAttribute.standard
    /// Names of spans, and of metrics, that a process may have; what comes later is refused. 500, so that no flood of them
    /// fills memory.
    public var maximumNames = 500
    /// Upper bounds, ascending, of the buckets of a swift-metrics recorder; the specification's default (metrics/sdk,
    /// explicit bucket histogram aggregation).
    public var recorderBoundaries: [Double] = [0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000]
    /// Upper bounds in seconds, ascending, of the buckets of a timer; those that the messaging and HTTP conventions advise.
    public var timerBoundaries: [Double] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

    /// The default policy.
    public init() {}

    /// Lets one more attribute or dimension through.
    public mutating func allow(_ key: StaticString, _ values: AllowedAttribute.Values) {
        attributes.append(AllowedAttribute(key, values))
    }
}

/// An attribute key that the bridges let through, and which values.
public struct AllowedAttribute: Sendable {
    /// What values a key may have.
    public enum Values: Sendable {
        /// Any number or truth value.
        case number
        /// Whole numbers of a range, also written as text.
        case integer(ClosedRange<Int64>)
        /// These texts; another one shows as `_OTHER`.
        case oneOf([StaticString])
        /// A text that looks like code, as ``BridgePolicy/NameRule/codeLike`` has it.
        case code
        /// The name of an error's type, such as `ConnectionError`, or an HTTP status from 100 to 599.
        case errorType
        /// Any text, cut to 256 characters. Only for what is never taken from a record: whoever allows it vouches for that.
        case text
    }

    /// The key.
    public let key: StaticString
    /// Its values.
    public let values: Values

    /// Lets `key` through with these values.
    public init(_ key: StaticString, _ values: Values) {
        self.key = key
        self.values = values
    }

    private static let port = Values.integer(0...65_535)
    private static let status = Values.integer(100...599)
    private static let httpMethods: [StaticString] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
    ]
    private static let databases: [StaticString] = [
        "postgresql", "mysql", "mariadb", "sqlite", "redis", "valkey", "mongodb", "cassandra", "memcached", "neo4j", "clickhouse",
        "cockroachdb", "couchdb", "elasticsearch", "opensearch", "influxdb", "microsoft.sql_server", "oracle.db", "ibm.db2",
        "aws.dynamodb", "other_sql",
    ]

    /// Keys of OpenTelemetry's semantic conventions (http, network, rpc, db, messaging, code, exception), as far as their
    /// values are numbers, of a closed set, or names from the source. No addresses, paths, queries, statements or messages.
    public static let standard: [AllowedAttribute] = [
        AllowedAttribute("error.type", .errorType), AllowedAttribute("exception.type", .errorType),
        AllowedAttribute("exception.escaped", .number),
        AllowedAttribute("http.request.method", .oneOf(httpMethods)), AllowedAttribute("http.method", .oneOf(httpMethods)),
        AllowedAttribute("http.response.status_code", status), AllowedAttribute("http.status_code", status),
        AllowedAttribute("http.route", .code), AllowedAttribute("http.request.resend_count", .number),
        AllowedAttribute("http.request.body.size", .number), AllowedAttribute("http.request.size", .number),
        AllowedAttribute("http.response.body.size", .number), AllowedAttribute("http.response.size", .number),
        AllowedAttribute("http.connection.state", .oneOf(["active", "idle"])),
        AllowedAttribute("url.scheme", .oneOf(["http", "https", "ws", "wss"])),
        AllowedAttribute("network.protocol.name", .oneOf(["http", "kafka", "amqp", "mqtt", "grpc"])),
        AllowedAttribute("network.protocol.version", .oneOf(["1.0", "1.1", "2", "3"])),
        AllowedAttribute("network.transport", .oneOf(["tcp", "udp", "unix", "pipe", "quic"])),
        AllowedAttribute("network.type", .oneOf(["ipv4", "ipv6"])),
        AllowedAttribute("server.port", port), AllowedAttribute("client.port", port), AllowedAttribute("network.peer.port", port),
        AllowedAttribute("network.local.port", port),
        AllowedAttribute("rpc.system", .oneOf(["grpc", "jsonrpc", "connect_rpc", "apache_dubbo", "aws-api"])),
        AllowedAttribute("rpc.system.name", .oneOf(["grpc", "jsonrpc", "connectrpc", "dubbo"])),
        AllowedAttribute("rpc.service", .code), AllowedAttribute("rpc.method", .code),
        AllowedAttribute("rpc.grpc.status_code", .integer(0...16)),
        AllowedAttribute("db.system", .oneOf(databases)), AllowedAttribute("db.system.name", .oneOf(databases)),
        AllowedAttribute("db.operation", .code), AllowedAttribute("db.operation.name", .code),
        AllowedAttribute("db.operation.batch.size", .number), AllowedAttribute("db.response.returned_rows", .number),
        AllowedAttribute("db.client.connection.state", .oneOf(["idle", "used"])),
        AllowedAttribute("messaging.system", .oneOf(["kafka", "rabbitmq", "aws_sqs", "jms", "pulsar", "activemq", "nats"])),
        AllowedAttribute("messaging.operation.type", .oneOf(["create", "send", "receive", "process", "settle"])),
        AllowedAttribute("messaging.operation.name", .code), AllowedAttribute("messaging.batch.message_count", .number),
        AllowedAttribute("messaging.message.body.size", .number), AllowedAttribute("messaging.message.envelope.size", .number),
        AllowedAttribute("code.function.name", .code), AllowedAttribute("code.line.number", .number),
        AllowedAttribute("cpu.mode", .oneOf(["user", "system", "idle", "iowait", "interrupt", "nice", "steal", "kernel"])),
        AllowedAttribute("thread.id", .number),
    ]
}
