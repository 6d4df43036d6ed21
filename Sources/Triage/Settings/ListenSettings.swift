extension Configuration {
    /// The server that others send to, as soon as there is something to send: webhooks or accepted commands.
    public struct Listen: Sendable, Hashable {
        /// Where it listens. Default 127.0.0.1:8088; `TRIAGE_LISTEN`.
        public var address = HTTPAddress(host: "127.0.0.1", port: 8088)
        /// PEM file with the certificate to show and those that lead to its authority; nil, the default, serves without TLS.
        /// `TRIAGE_LISTEN_CERTIFICATE`.
        public var certificateFile: String?
        /// PEM file with the certificate's key. `TRIAGE_LISTEN_KEY`.
        public var keyFile: String?
        /// Connections at a time; further ones wait. Default 1,024; `TRIAGE_LISTEN_MAX_CONNECTIONS`.
        public var maximumConnections = 1024
        /// How long a request's head may take. Default 10 s; `TRIAGE_LISTEN_HEADER_TIMEOUT`.
        public var headerTimeout: Duration = .seconds(10)
        /// How long a request's body may take as a whole. Default 30 s; `TRIAGE_LISTEN_BODY_TIMEOUT`.
        public var bodyTimeout: Duration = .seconds(30)
        /// Whether each request is logged, at the level info. Default true; `TRIAGE_ACCESS_LOG`.
        public var accessLog = true

        /// The defaults.
        public init() {}

        /// Whether only this machine can reach the address.
        public var isLoopback: Bool { address.isLoopback }
    }
}

extension Configuration.HTTPAddress {
    /// Whether only this machine can reach the address.
    public var isLoopback: Bool {
        guard host != "localhost", host != "::1" else { return true }
        // 127.0.0.0/8 (RFC 1122 §3.2.1.3); a name such as 127.example.org may lead anywhere.
        let numbers = host.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        return numbers.count == 4 && !numbers.contains(nil) && numbers[0] == 127
    }
}

extension ConfigurationLoader {
    static let listenKeys: [(key: String, meaning: String)] = [
        ("listen", "where webhooks and commands are taken in, host:port"),
        ("listen-certificate", "PEM file with the certificate to show there, for TLS"),
        ("listen-key", "PEM file with that certificate's key"),
        ("listen-max-connections", "connections at a time, 1 to 100000; further ones wait"),
        ("listen-header-timeout", "time for a request's head, such as 10s; at least 10ms"),
        ("listen-body-timeout", "time for a request's body as a whole, such as 30s; at least 10ms"),
        ("access-log", "on or off: whether each request is logged, at the level info"),
    ]

    func listen() throws(ConfigurationError) -> Configuration.Listen {
        var listen = Configuration.Listen()
        if let address = text("listen") {
            guard let parsed = Configuration.HTTPAddress(address) else {
                throw ConfigurationError(key: "listen", value: address, expected: "host:port with a port from 0 to 65535")
            }
            listen.address = parsed
        }
        listen.certificateFile = text("listen-certificate")
        listen.keyFile = text("listen-key")
        guard (listen.certificateFile == nil) == (listen.keyFile == nil) else {
            let missing = listen.keyFile == nil ? "listen-key" : "listen-certificate"
            throw ConfigurationError(key: missing, value: "", expected: "a PEM file: certificate and key belong together")
        }
        if let connections = text("listen-max-connections") {
            guard let number = Int(connections), (1...100_000).contains(number) else {
                throw ConfigurationError(
                    key: "listen-max-connections", value: connections, expected: "a number from 1 to 100000")
            }
            listen.maximumConnections = number
        }
        if let timeout = try requestTimeout("listen-header-timeout") { listen.headerTimeout = timeout }
        if let timeout = try requestTimeout("listen-body-timeout") { listen.bodyTimeout = timeout }
        if let logs = try truth("access-log") { listen.accessLog = logs }
        return listen
    }

    private func requestTimeout(_ key: String) throws(ConfigurationError) -> Duration? {
        guard let timeout = try duration(key) else { return nil }
        guard timeout >= .milliseconds(10) else {
            throw ConfigurationError(key: key, value: text(key) ?? "", expected: "at least 10ms")
        }
        return timeout
    }
}
