internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// Hands requests of the admin server to a ``ConsoleSite``: the one place of that server where a body is read, within bounds of size
/// and time.
struct ConsoleResponder: Sendable {
    /// How long a form may take to come.
    private static let bodyTimeout: Duration = .seconds(10)

    let site: ConsoleSite

    func respond(to request: Request) async -> Response {
        var closes = false
        let reply: ConsoleReply
        switch await body(of: request) {
        case .success(let body):
            // The server's library takes the first `Host` out of the fields: one that is still there is a second one.
            let isSingle = HTTPField.Name("Host").map { request.headers[$0] == nil } ?? false
            reply = await site.answer(
                ConsoleCall(
                    method: request.method, target: request.head.path ?? "", authority: isSingle ? request.head.authority : nil,
                    headers: request.headers, body: body))
        case .failure(let refusal):
            closes = true
            reply =
                refusal == .tooLate
                ? ConsoleSite.plain(.requestTimeout, "The form did not come in time. Nothing was done.\n")
                : ConsoleSite.plain(.contentTooLarge, "This is longer than any form here. Nothing was done.\n")
        }
        var headers = reply.headers
        if closes { headers[.connection] = "close" }
        let response = Response(status: reply.status, headers: headers, body: .bytes(reply.body, closes: closes))
        return request.method == .head && !closes ? response.createHeadResponse() : response
    }

    private enum Refusal: Error { case tooLong, tooLate }

    /// The body of a POST; that of any other request is none of ours, and not read.
    private func body(of request: Request) async -> Result<[UInt8], Refusal> {
        let isChunked = request.headers[.transferEncoding] != nil
        let length = request.headers[.contentLength].map { Int($0) ?? .max } ?? 0
        guard isChunked || length > 0 else { return .success([]) }
        guard request.method == .post, length <= ConsoleSite.maximumBodyBytes else { return .failure(.tooLong) }
        return await withTaskGroup(of: Result<[UInt8], Refusal>.self) { group in
            group.addTask {
                do {
                    let buffer = try await request.body.collect(upTo: ConsoleSite.maximumBodyBytes)
                    return .success(Array(buffer.readableBytesView))
                } catch is CancellationError {
                    return .failure(.tooLate)
                } catch {
                    return .failure(.tooLong)
                }
            }
            group.addTask {
                try? await Task.sleep(for: ConsoleResponder.bodyTimeout)
                return .failure(.tooLate)
            }
            let first = await group.next() ?? .failure(.tooLate)
            group.cancelAll()
            return first
        }
    }
}
