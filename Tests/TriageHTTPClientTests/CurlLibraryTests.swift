import Testing

@testable import TriageHTTPClient

@Suite("libcurl")
struct CurlLibraryTests {
    @Test("Its global set-up works")
    func isReady() { #expect(CurlLibrary.isReady) }
}
