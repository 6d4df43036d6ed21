internal import Crypto
internal import TriageEvents

/// The header `Triage-Signature`: `t=SECONDS,v1=HEX`.
///
/// SECONDS is the time of the attempt since the Unix epoch, and HEX the HMAC-SHA-256 (RFC 2104, FIPS 180-4) with the shared key over the ASCII
/// digits of SECONDS, a full stop and the body's bytes, in 64 lower-case hexadecimal digits. The time is signed so that what was
/// recorded can't be played again later; the docs say how a receiver checks both.
enum DeliverySignature {
    /// The header's name.
    static let header = "Triage-Signature"

    /// The header's value for a body that is sent at `time`.
    static func value(key: [UInt8], body: ByteSlice, at time: Timestamp) -> String {
        let seconds = "\(time.milliseconds / 1000)"
        var hmac = HMAC<SHA256>(key: SymmetricKey(data: key))
        hmac.update(data: Array((seconds + ".").utf8))
        hmac.update(data: Array(body))
        var text = TextBytes(capacity: 64)
        let code = Array(hmac.finalize())
        for start in stride(from: 0, to: code.count, by: 8) {
            text.append(hexadecimal: code[start..<min(start + 8, code.count)].reduce(0) { $0 << 8 | UInt64($1) })
        }
        return "t=\(seconds),v1=\(text.text)"
    }
}
