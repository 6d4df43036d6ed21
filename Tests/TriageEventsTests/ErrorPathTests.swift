import Foundation
import Testing
import TriageEvents

@Suite("Paths in errors")
struct ErrorPathTests {
    @Test("every path that the decoder names is believed when it comes back in a header")
    func all() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let folder = root.appending(path: "Sources/TriageEvents")
        var paths: Set<String> = []
        for file in try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        where file.pathExtension == "swift" {
            let source = try String(contentsOf: file, encoding: .utf8)
            paths.formUnion(source.matches(of: #/at: "([^"]+)"/#).map { String($0.1) })
        }
        #expect(paths.contains("Patient.birthDate") && paths.count > 30)
        #expect(paths.filter { !PayloadShape.isPath($0) } == [])
    }

    @Test(
        "a resource's name stands first or not at all",
        arguments: ["name.Patient", "Geheimhuber.name", "patient", "Patient..id", ""])
    func others(path: String) { #expect(!PayloadShape.isPath(path)) }
}
