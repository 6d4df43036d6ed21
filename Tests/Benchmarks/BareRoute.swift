import Glibc
import Hummingbird
import Logging

/// What the server of Triage is measured against: a route of Hummingbird that reads the body and answers 200, nothing else.
///
///     Benchmarks bare-route PORT
enum BareRoute {
    static func run(_ arguments: [String]) async throws {
        guard arguments.count == 1, let port = Int(arguments[0]) else {
            print("usage: Benchmarks bare-route PORT")
            exit(64)
        }
        let router = Router()
        router.post("**") { request, _ in
            _ = try await request.body.collect(upTo: 1 << 20)
            return HTTPResponse.Status.ok
        }
        var logger = Logger(label: "bare")
        logger.logLevel = .error
        try await Application(
            router: router, configuration: .init(address: .hostname("127.0.0.1", port: port)), logger: logger
        ).runService()
    }
}
