internal import CZlib

/// Compresses bodies with gzip, keeping zlib's 256 KiB of state from one to the next. For one thread at a time.
public final class GzipCompressor {
    private let stream: UnsafeMutablePointer<z_stream>
    private let isReady: Bool

    /// A compressor of zlib's `level`, 1 (fast) to 9 (small).
    ///
    /// Level 1 by default: of seven to eight times smaller, more would cost twice the time for a tenth of the bytes.
    public init(level: Int32 = 1) {
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        isReady = triage_deflate_init_gzip(stream, level) == Z_OK
    }

    deinit {
        if isReady { deflateEnd(stream) }
        stream.deallocate()
    }

    /// `body` compressed; nil if zlib fails, for want of memory.
    public func compress(_ body: [UInt8]) -> [UInt8]? {
        guard isReady, deflateReset(stream) == Z_OK, let length = UInt32(exactly: body.count) else { return nil }
        let bound = Int(deflateBound(stream, UInt(body.count)))
        guard let capacity = UInt32(exactly: bound) else { return nil }
        return body.withUnsafeBufferPointer { source -> [UInt8]? in
            var isComplete = false
            let result = [UInt8](unsafeUninitializedCapacity: bound) { target, count in
                stream.pointee.next_in = UnsafeMutablePointer(mutating: source.baseAddress)
                stream.pointee.avail_in = length
                stream.pointee.next_out = target.baseAddress
                stream.pointee.avail_out = capacity
                isComplete = deflate(stream, Z_FINISH) == Z_STREAM_END
                count = bound - Int(stream.pointee.avail_out)
            }
            return isComplete ? result : nil
        }
    }
}
