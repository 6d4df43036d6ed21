import Foundation
import Glibc
import Triage
import TriageEvents
import UnixSignals

/// Lets the operator change bytes in his editor, by a file that only he can read and that is gone afterwards, whatever happens.
struct EditorSession {
    /// The editor as a shell takes it: `vi`, `code --wait`.
    let command: String

    /// The editor of VISUAL or EDITOR; `vi` without either, as POSIX has it.
    init(environment: [String: String]) {
        command = ["VISUAL", "EDITOR"].lazy.compactMap { environment[$0] }.first { !$0.isEmpty } ?? "vi"
    }

    /// What became of the bytes; nil if they weren't changed.
    ///
    /// - Throws: ``EditorError``; ``ExitCode`` isn't thrown: a signal that ends the program ends the editor, removes the file
    ///   and ends.
    func edit(_ bytes: ByteSlice, suffix: String) async throws -> ByteSlice? {
        let file = try PrivateFile(bytes, suffix: suffix)
        defer { file.remove() }
        let child = try spawn(file.path)
        let watcher = Task {
            // Ctrl-C is the editor's; what asks this program to end ends the editor.
            for await signal in await UnixSignalsSequence(trapping: .sigterm, .sighup, .sigint, .sigquit) {
                guard signal == .sigterm || signal == .sighup else { continue }
                kill(child, SIGTERM)
                file.remove()
                _exit(signal == .sigterm ? 128 + SIGTERM : 128 + SIGHUP)
            }
        }
        defer { watcher.cancel() }
        let status = await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                var status: Int32 = 0
                while waitpid(child, &status, 0) < 0, errno == EINTR {}
                continuation.resume(returning: status)
            }
        }
        guard status == 0 else { throw EditorError("the editor (\(command)) ended with \(Self.text(status)); nothing was done") }
        var edited = try file.read()
        // Editors end the last line of a file that they write.
        if edited.last == UInt8(ascii: "\n"), bytes.last != UInt8(ascii: "\n") { edited = edited.subslice(0..<edited.count - 1) }
        return edited == bytes ? nil : edited
    }

    private static func text(_ status: Int32) -> String {
        status & 0x7F == 0 ? "status \(status >> 8 & 0xFF)" : "signal \(status & 0x7F)"
    }

    /// Starts the editor in this process's group, so that it has the terminal, with the signals as a shell would give them to it.
    private func spawn(_ path: String) throws -> pid_t {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        for signal in [SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE, SIGUSR1] { sigaddset(&signals, signal) }
        posix_spawnattr_setsigdefault(&attributes, &signals)
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))
        // The shell takes the editor's own arguments apart; the file's name is no part of the text.
        let words = ["/bin/sh", "-c", "\(command) \"$1\"", "sh", path]
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var child: pid_t = 0
        let result = posix_spawn(&child, "/bin/sh", nil, &attributes, &arguments, environ)
        guard result == 0 else { throw EditorError("the editor can't be started: \(String(cString: strerror(result)))") }
        return child
    }
}

/// A file in a directory of its own, which nobody else can read or enter.
private final class PrivateFile: Sendable {
    let path: String
    private let directory: String

    /// Memory before disk: what the session's own directory holds is never written to one.
    private static var parents: [String] {
        let environment = ProcessInfo.processInfo.environment
        return ["XDG_RUNTIME_DIR", "TMPDIR"].compactMap { environment[$0] }.filter { $0.hasPrefix("/") } + ["/tmp"]
    }

    init(_ bytes: ByteSlice, suffix: String) throws {
        var made: String?
        for parent in Self.parents where made == nil {
            var template = Array("\(parent)/triage-edit-XXXXXX".utf8CString)
            // mkdtemp(3): mode 0700.
            if mkdtemp(&template) != nil {
                made = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
            }
        }
        guard let made else { throw EditorError("no private directory can be made: \(String(cString: strerror(errno)))") }
        directory = made
        path = "\(made)/dead-letter\(suffix)"
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        let text = descriptor < 0 ? errno : Output.write(bytes, to: descriptor) ?? 0
        if descriptor >= 0 { close(descriptor) }
        guard text == 0 else {
            remove()
            throw EditorError("the file to be edited can't be written: \(String(cString: strerror(text)))")
        }
    }

    func read() throws -> ByteSlice {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw EditorError("the edited file is gone; nothing was done")
        }
        return ByteSlice(data)
    }

    /// Removes the file, what the editor put beside it, and the directory.
    func remove() { try? FileManager.default.removeItem(atPath: directory) }
}

/// Why nothing was edited.
struct EditorError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

extension Output {
    /// Writes all of some bytes; the `errno` if that failed.
    static func write(_ bytes: ByteSlice, to descriptor: Int32) -> Int32? {
        bytes.withUnsafeBytes { bytes in
            var rest = bytes
            while let base = rest.baseAddress, !rest.isEmpty {
                let written = Glibc.write(descriptor, base, rest.count)
                if written < 0 {
                    if errno == EINTR { continue }
                    return errno
                }
                rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(written))
            }
            return nil
        }
    }
}
