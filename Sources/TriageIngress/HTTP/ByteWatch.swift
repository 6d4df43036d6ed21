internal import NIOCore

/// Tells a connection that bytes came, before anything is made of them: what a time-out of heads counts from. Behind the parser it
/// looks what the first chunk of a body announces, which the parser doesn't tell.
final class ByteWatch: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private let connection: IngressConnection
    private var announcement: ChunkAnnouncement?

    init(_ connection: IngressConnection) { self.connection = connection }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        guard connection.received(buffer.readableBytes) else { return }
        context.fireChannelRead(data)
        guard let limit = connection.limitOfUntouchedChunks else {
            announcement = nil
            return
        }
        var announced = announcement ?? ChunkAnnouncement()
        announced.read(buffer.readableBytesView)
        announcement = announced
        if announced.size > limit { connection.refuseBody() }
    }
}

/// The size that the first chunk of a body announces, read from the bytes as they come from the head's end on (RFC 9112 §7.1).
///
/// The parser tells of a chunk only when its data comes, so that a body of a gigabyte would be awaited until its time is up. As long as
/// nothing of a body has come, what stands behind the head is the line with the first chunk's size, whole or in part, and nothing else: it
/// holds no blank line, so the last one is the head's end. What announces too much later, or together with data, is refused
/// by its bytes as they come.
struct ChunkAnnouncement: Sendable, Equatable {
    private enum Phase: Sendable, Equatable {
        case head
        case digits
        /// The number is complete, or where it begins isn't known.
        case over
    }

    private var phase = Phase.head
    /// What has been read of the number; a number that doesn't fit is the largest there is.
    private(set) var size = 0

    /// Bytes that came while nothing of the body had.
    mutating func read(_ bytes: some BidirectionalCollection<UInt8>) {
        var rest = bytes[...]
        if phase == .head {
            guard let end = ChunkAnnouncement.endOfHead(bytes) else {
                // The blank line came in two pieces.
                phase = .over
                return
            }
            rest = bytes[end...]
            phase = .digits
        }
        for byte in rest {
            guard phase == .digits else { return }
            guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                phase = .over
                return
            }
            let (product, overflows) = size.multipliedReportingOverflow(by: 16)
            size = overflows ? .max : product | digit
        }
    }

    /// Behind the last blank line.
    private static func endOfHead<Bytes: BidirectionalCollection<UInt8>>(_ bytes: Bytes) -> Bytes.Index? {
        let blank: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A]
        var end = bytes.endIndex
        var length = bytes.count
        while length >= blank.count {
            let start = bytes.index(end, offsetBy: -blank.count)
            if bytes[start..<end].elementsEqual(blank) { return end }
            end = bytes.index(before: end)
            length -= 1
        }
        return nil
    }
}
