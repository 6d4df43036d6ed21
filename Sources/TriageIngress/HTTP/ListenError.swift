internal import NIOCore

#if canImport(Glibc)
    internal import Glibc
#endif

/// A server could not listen on its address.
public struct ListenError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What kind of failure it is.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        /// A name, such as `address_in_use`.
        public let description: String

        /// Another socket listens there.
        public static let addressInUse = Code(description: "address_in_use")
        /// The host names no address of this machine.
        public static let addressNotAvailable = Code(description: "address_not_available")
        /// The process may not listen there, as on ports below 1,024.
        public static let permissionDenied = Code(description: "permission_denied")
        /// Anything else.
        public static let failed = Code(description: "failed")
    }

    /// What kind of failure it is.
    public let code: Code
    /// The host asked for.
    public let host: String
    /// The port asked for.
    public let port: Int

    init(code: Code, host: String, port: Int) {
        self.code = code
        self.host = host
        self.port = port
    }

    /// The error for what the socket layer threw.
    init(_ error: any Error, host: String, port: Int) {
        let code: Code =
            switch (error as? IOError)?.errnoCode {
            case EADDRINUSE: .addressInUse
            case EADDRNOTAVAIL: .addressNotAvailable
            case EACCES, EPERM: .permissionDenied
            default: error is SocketAddressError ? .addressNotAvailable : .failed
            }
        self.init(code: code, host: host, port: port)
    }

    /// What happened, where, and what to do about it.
    public var description: String {
        let place = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        switch code {
        case .addressInUse:
            return "can't listen on \(place): the port is in use; end that process or choose another port, 0 for any free one"
        case .addressNotAvailable:
            return "can't listen on \(place): the host is no address of this machine; use 127.0.0.1, or 0.0.0.0 for all addresses"
        case .permissionDenied:
            return "can't listen on \(place): not permitted; choose a port of 1024 or above"
        default:
            return "can't listen on \(place); check the host and the port, which is 0 to 65535"
        }
    }
}
