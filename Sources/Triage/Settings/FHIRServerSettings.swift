internal import TriageEvents
internal import TriageIngress

extension Configuration {
    /// The FHIR server that commands are carried out on, and that webhooks fetch from.
    public struct FHIR: Sendable, Hashable {
        /// How we say who we are.
        public enum Authorization: Sendable, Hashable {
            /// Not at all.
            case none
            /// HTTP Basic (RFC 7617).
            case basic(user: String, password: String)
            /// A bearer token (RFC 6750).
            case bearer(String)
        }

        /// The base URL, absolute http or https, without user, query and fragment; `TRIAGE_FHIR_SERVER`.
        public var base: String
        /// How we say who we are. Default not at all; `TRIAGE_FHIR_TOKEN_FILE`, or `TRIAGE_FHIR_USER` and `TRIAGE_FHIR_PASSWORD_FILE`.
        public var authorization = Authorization.none
        /// A PEM file with the authorities that are trusted instead of the system's; `TRIAGE_FHIR_CA_FILE`.
        public var caFile: String?
        /// How long one call may take. Default 30 s; `TRIAGE_FHIR_TIMEOUT`.
        public var timeout: Duration = .seconds(30)

        /// The server at `base`, with the defaults.
        public init(_ base: String) { self.base = base }

        /// The same for the room that calls it; nil if the base can't be used.
        var server: FHIRServer? {
            let authorization: FHIRServer.Authorization =
                switch authorization {
                case .none: .none
                case .basic(let user, let password): .basic(user: user, password: password)
                case .bearer(let token): .bearer(token)
                }
            return FHIRServer(base, authorization: authorization, timeout: timeout)
        }
    }
}

extension ConfigurationLoader {
    /// The keys of ``Configuration/FHIR``.
    static let fhirKeys: [(key: String, meaning: String)] = [
        ("fhir-server", "base URL of the FHIR server that commands are carried out on and webhooks fetch from"),
        ("fhir-token-file", "file with the bearer token for that server"),
        ("fhir-user", "user for that server, by HTTP Basic"),
        ("fhir-password-file", "file with that user's password"),
        ("fhir-ca-file", "PEM file with the authorities trusted for that server, instead of the system's"),
        ("fhir-timeout", "time for one call of that server, such as 30s"),
    ]

    /// The FHIR server that the keys name; nil if they name none.
    func fhirServer() throws(ConfigurationError) -> Configuration.FHIR? {
        guard let base = text("fhir-server") else {
            for (key, _) in ConfigurationLoader.fhirKeys where text(key) != nil {
                throw ConfigurationError(key: key, value: "…", expected: "fhir-server beside it")
            }
            return nil
        }
        var fhir = Configuration.FHIR(base)
        guard fhir.server != nil else {
            // Someone may have written a password into it.
            throw ConfigurationError(
                key: "fhir-server", value: "…",
                expected: "an http or https URL such as https://fhir.example.org/r4, without a user")
        }
        let token = try secret("fhir-token-file")
        let password = try secretBytes("fhir-password-file", atLeast: 1).map { String(decoding: $0, as: UTF8.self) }
        let user = text("fhir-user")
        if let token {
            guard user == nil, password == nil else {
                throw ConfigurationError(key: "fhir-user", value: user ?? "", expected: "a user or a token, not both")
            }
            fhir.authorization = .bearer(token)
        } else if user != nil || password != nil {
            guard let user, !user.contains(":"), let password else {
                throw ConfigurationError(
                    key: "fhir-user", value: user ?? "", expected: "a user without a colon, and fhir-password-file beside it")
            }
            fhir.authorization = .basic(user: user, password: password)
        }
        fhir.caFile = try certificatesFile("fhir-ca-file")
        if let timeout = try duration("fhir-timeout") {
            guard timeout > .zero else {
                throw ConfigurationError(key: "fhir-timeout", value: text("fhir-timeout") ?? "", expected: "more than 0")
            }
            fhir.timeout = timeout
        }
        return fhir
    }
}
