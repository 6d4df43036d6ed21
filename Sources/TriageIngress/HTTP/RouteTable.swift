internal import HTTPTypes

/// Finds the route for a path: pure, so that each rule can be tested without a socket.
struct RouteTable: Sendable {
    /// What a path and a method lead to.
    enum Match: Sendable, Equatable {
        /// The route at this place, with its parameters' values.
        case route(Int, parameters: [String: String])
        /// There is such a path, but it doesn't take the method: what it takes, for `Allow`.
        case otherMethod(Int, allow: String)
        /// `OPTIONS`: what the path takes.
        case options(Int, allow: String)
        /// There is no such path.
        case none
    }

    private enum Segment: Sendable, Equatable {
        case literal(String)
        case parameter(String)
    }

    private struct Entry: Sendable {
        let segments: [Segment]
        let methods: Set<HTTPRequest.Method>
        let allow: String
    }

    private let entries: [Entry]

    /// A table of routes by template and methods; of several that match a path, the first one that takes the method counts.
    init(_ routes: [(template: String, methods: [HTTPRequest.Method])]) {
        entries = routes.map { route in
            let segments = route.template.split(separator: "/").map { part in
                part.hasPrefix("{") && part.hasSuffix("}")
                    ? Segment.parameter(String(part.dropFirst().dropLast())) : .literal(String(part))
            }
            // Whoever answers GET answers HEAD (RFC 9110 §9.3.2); OPTIONS is answered by the server itself.
            var methods = Set(route.methods)
            if methods.contains(.get) { methods.insert(.head) }
            let allow = (methods.union([.options])).map(\.rawValue).sorted().joined(separator: ", ")
            return Entry(segments: segments, methods: methods, allow: allow)
        }
    }

    /// What this request leads to.
    func match(_ method: HTTPRequest.Method, _ segments: [String]) -> Match {
        var other: Match?
        for (index, entry) in entries.enumerated() {
            guard let parameters = RouteTable.parameters(entry.segments, segments) else { continue }
            if entry.methods.contains(method) { return .route(index, parameters: parameters) }
            if other == nil {
                other =
                    method == .options ? .options(index, allow: entry.allow) : .otherMethod(index, allow: entry.allow)
            }
        }
        return other ?? .none
    }

    /// The place of the route that a request was for which is refused all the same: for the access log and the metric.
    func place(of target: String, _ method: HTTPRequest.Method?) -> Int? {
        guard let method, let target = RequestTarget(target) else { return nil }
        switch match(method, target.segments) {
        case .route(let index, _), .otherMethod(let index, _), .options(let index, _): return index
        case .none: return nil
        }
    }

    private static func parameters(_ template: [Segment], _ segments: [String]) -> [String: String]? {
        guard template.count == segments.count else { return nil }
        var parameters: [String: String] = [:]
        for (expected, found) in zip(template, segments) {
            switch expected {
            case .literal(let text):
                guard text == found else { return nil }
            case .parameter(let name):
                guard !found.isEmpty else { return nil }
                parameters[name] = found
            }
        }
        return parameters
    }
}
