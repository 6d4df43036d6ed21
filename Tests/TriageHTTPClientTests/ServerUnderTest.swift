import Foundation
import Testing

/// The server of Fixtures/server.py, as long as this object lives.
final class ServerUnderTest: Sendable {
    let port: Int
    let directory: URL
    let isSecure: Bool
    private let process = Process()
    private let input = Pipe()

    init(isSecure: Bool = false) throws {
        self.isSecure = isSecure
        directory = FileManager.default.temporaryDirectory.appending(path: "triage-http-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        let script = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures/server.py")
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", script.path] + (isSecure ? [directory.path] : [])
        process.standardInput = input
        let output = Pipe()
        process.standardOutput = output
        // What it says of connections that were cut off when it ends.
        process.standardError = FileHandle.nullDevice
        try process.run()
        var line = ""
        while !line.hasSuffix("\n") {
            let data = output.fileHandleForReading.availableData
            guard !data.isEmpty else { break }
            line += String(decoding: data, as: UTF8.self)
        }
        port = try #require(Int(line.trimmingCharacters(in: .whitespacesAndNewlines)))
    }

    deinit {
        // It ends with its standard input.
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
        try? FileManager.default.removeItem(at: directory)
    }

    func url(_ path: String) -> String { "\(isSecure ? "https" : "http")://127.0.0.1:\(port)\(path)" }

    static let isAvailable: Bool = {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", "-c", "import asyncio, ssl"]
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }()
}
