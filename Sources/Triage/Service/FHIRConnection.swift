internal import TriageEvents
internal import TriageHTTPClient
internal import TriageIngress
internal import TriageTelemetry

/// The configured FHIR server, called by libcurl and traced: what commands and webhooks share.
final class FHIRConnection: Sendable {
    /// The client.
    let client: FHIRClient
    private let curl: CurlCaller

    /// A client that hasn't connected to anything yet.
    ///
    /// - Throws: ``ConfigurationError`` if the server's base can't be used.
    init(_ fhir: Configuration.FHIR, telemetry: Telemetry) throws(ConfigurationError) {
        guard let server = fhir.server else {
            throw ConfigurationError(
                key: "fhir-server", value: "…",
                expected: "an http or https URL such as https://fhir.example.org/r4, without a user")
        }
        var options = CurlCaller.Options()
        options.caFile = fhir.caFile
        options.userAgent = "triage/\(TriageVersion.current)"
        curl = CurlCaller(options)
        client = FHIRClient(
            server, caller: TracedHTTPCaller(curl, tracer: telemetry.tracer, meter: telemetry.meter),
            clock: telemetry.tracer.clock)
    }

    deinit { curl.close() }
}
