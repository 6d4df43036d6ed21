internal import Glibc

/// Memory for one message at a time: handed out from the front of a block, given back all at once.
///
/// A message's structs, strings and packed bytes live in it, so that encoding a span calls the allocator not at all.
/// Each thread has its own, made at first use and freed when the thread ends; it never leaves its thread.
final class Arena {
    /// Blocks that grew beyond this are given back after the message.
    private static let keptBytes = 1024 * 1024
    private static let firstBlock = 16 * 1024

    private var blocks: [UnsafeMutableRawBufferPointer]
    private var cursor: UnsafeMutableRawPointer
    private var remaining: Int
    private var depth = 0

    private init() {
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: Arena.firstBlock, alignment: 16)
        blocks = [block]
        cursor = block.baseAddress.unsafelyUnwrapped
        remaining = block.count
    }

    deinit { blocks.forEach { $0.deallocate() } }

    /// Calls `body` with this thread's arena and gives back what it took.
    ///
    /// A call inside another one goes on behind it; only the outermost gives back.
    @inline(__always)
    static func with<Result>(_ body: (Arena) -> Result) -> Result {
        let arena = current
        arena.depth += 1
        defer {
            arena.depth -= 1
            if arena.depth == 0 { arena.reset() }
        }
        return body(arena)
    }

    /// `size` bytes at an address that any C type may have (16).
    @inline(__always)
    func raw(_ size: Int) -> UnsafeMutableRawPointer {
        let rounded = (size + 15) & ~15
        if rounded > remaining { addBlock(rounded) }
        let pointer = cursor
        cursor += rounded
        remaining -= rounded
        return pointer
    }

    /// Uninitialised room for `count` values; a C struct's `…__init` comes next.
    @inline(__always)
    func allocate<Value>(_ type: Value.Type, _ count: Int) -> UnsafeMutablePointer<Value> {
        raw(MemoryLayout<Value>.stride * count).bindMemory(to: type, capacity: count)
    }

    private func addBlock(_ needed: Int) {
        let size = max(needed, blocks[blocks.count - 1].count * 2)
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
        blocks.append(block)
        cursor = block.baseAddress.unsafelyUnwrapped
        remaining = size
    }

    /// Keeps the largest block, which the next message will fit in, unless it is exceptionally large.
    @inline(__always)
    private func reset() {
        if blocks.count > 1 { shrink() }
        cursor = blocks[0].baseAddress.unsafelyUnwrapped
        remaining = blocks[0].count
    }

    private func shrink() {
        let last = blocks.count - 1
        let kept = blocks[last].count <= Arena.keptBytes ? last : 0
        for index in blocks.indices where index != kept { blocks[index].deallocate() }
        blocks = [blocks[kept]]
    }

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key) { arena in
            if let arena { Unmanaged<Arena>.fromOpaque(arena).release() }
        }
        return key
    }()

    @inline(__always)
    private static var current: Arena {
        if let existing = pthread_getspecific(key) { return Unmanaged<Arena>.fromOpaque(existing).takeUnretainedValue() }
        return makeCurrent()
    }

    private static func makeCurrent() -> Arena {
        let arena = Arena()
        pthread_setspecific(key, Unmanaged.passRetained(arena).toOpaque())
        return arena
    }
}
