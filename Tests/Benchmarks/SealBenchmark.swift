import Glibc
import Triage
import TriageEvents

/// What sealing one dead letter costs beside writing it: its value, its error's text, and the producer's headers.
func sealBenchmark(bytes: Int) -> (Int) -> Void {
    guard let key = try? DeadLetterSealKey(0..<32) else { exit(1) }
    let origin = RecordPosition(topic: "fhir.Patient.created", partition: 3, offset: 123_456)
    let value = ByteSlice([UInt8](repeating: UInt8(ascii: "a"), count: bytes))
    let detail = ByteSlice("HTTP 422: the receiver's answer")
    let headers = ByteSlice([UInt8](repeating: 0, count: 100))
    return { count in
        for _ in 0..<count {
            guard key.seal(value, as: .body, of: origin) != nil, key.seal(detail, as: .detail, of: origin) != nil,
                key.seal(headers, as: .headers, of: origin) != nil
            else { exit(1) }
        }
    }
}

/// What telling the shape of an event of 1 KiB costs.
func shapeBenchmark() -> (Int) -> Void {
    let decoder = EventDecoder()
    return { count in
        for _ in 0..<count {
            guard (try? decoder.checkObject(Benchmarks.event)) != nil, let json = JSONValue(Benchmarks.event),
                !PayloadShape(of: json).text().isEmpty
            else { exit(1) }
        }
    }
}
