internal import NIOSSL

/// The certificate that an ingress server shows, and its key. TLS 1.2 and 1.3, no client certificates.
public struct IngressTLS: Sendable {
    let configuration: TLSConfiguration

    /// Reads both files and checks that they belong together.
    ///
    /// They are read once: a renewed certificate is shown after a restart.
    ///
    /// - Parameters:
    ///   - certificateFile: PEM, the server's own certificate first, then those that lead to the authority.
    ///   - keyFile: PEM, without a passphrase.
    /// - Throws: an ``IngressTLSError`` that says which of them can't be used.
    public init(certificateFile: String, keyFile: String) throws(IngressTLSError) {
        let chain: [NIOSSLCertificate]
        do { chain = try NIOSSLCertificate.fromPEMFile(certificateFile) } catch { throw .certificate }
        guard !chain.isEmpty else { throw .certificate }
        let key: NIOSSLPrivateKey
        do { key = try NIOSSLPrivateKey(file: keyFile, format: .pem) } catch { throw .key }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        do { _ = try NIOSSLContext(configuration: configuration) } catch { throw .mismatch }
        self.configuration = configuration
    }
}

/// Why a server can't speak TLS.
public enum IngressTLSError: Error, Sendable, Hashable, CaseIterable {
    /// The certificate's file can't be read, or holds no PEM certificate.
    case certificate
    /// The key's file can't be read, or holds no PEM key without a passphrase.
    case key
    /// The key doesn't belong to the certificate, or neither can be used for TLS.
    case mismatch
}
