import Glibc
import Logging
import Triage

/// A logger that says nothing.
func quiet() -> Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

/// A file that lives as long as `body` runs.
func withFile<Result>(_ content: String, _ body: (_ path: String) async throws -> Result) async throws -> Result {
    var template = Array("/tmp/triage-test-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    let path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    defer { unlink(path) }
    var content = content
    content.withUTF8 { _ = write(descriptor, $0.baseAddress, $0.count) }
    close(descriptor)
    return try await body(path)
}

/// The error that `body` throws, if it is one about a setting.
func refusal(_ body: () async throws -> Void) async -> ConfigurationError? {
    do { try await body() } catch { return error as? ConfigurationError }
    return nil
}

/// Waits until something is so, at most `deadline`; only for tests with real parts.
func eventually(within deadline: Duration = .seconds(30), _ isSo: () async throws -> Bool) async throws -> Bool {
    let end = ContinuousClock.now + deadline
    while ContinuousClock.now < end {
        if try await isSo() { return true }
        try await Task.sleep(for: .milliseconds(20))
    }
    return try await isSo()
}
