import Glibc
import Logging
import Synchronization
import Triage
import TriageEvents
import TriageKafka
import TriageProcessing
import TriageTestKit

/// Many dead letters: how long listing and grouping them takes, and how much memory beside what the broker itself takes.
///
///     Benchmarks dead-letters [COUNT]                 in the broker in memory
///     Benchmarks dead-letters load BROKERS [COUNT]    writes them to a real one, for `triage dead-letters` to be measured on
enum DeadLetterScale {
    static let topic = "fhir.Patient.created.dlq"
    static let partitions = 6

    static func run(_ arguments: [String]) async throws {
        if arguments.first == "load", arguments.count > 1 {
            return try await load(arguments[1], count: arguments.dropFirst(2).first.flatMap { Int($0) } ?? 1_000_000)
        }
        let count = arguments.first.flatMap { Int($0) } ?? 1_000_000
        let broker = InMemoryBroker()
        broker.createTopic(topic, partitions: partitions)
        broker.createTopic(TopicName.deadLetterState, partitions: 1)
        let producer = broker.producer()
        for number in 0..<count { try producer.produce(record(number)) { _ in } }
        let access = DeadLetterAccess(
            topics: [topic], group: "clinic", scanner: broker.scanner(), transactions: { broker.transactions(id: "bench") })
        let browser = DeadLetterBrowser(access)
        try await measured("groups of \(count)") {
            let groups = try await browser.groups()
            return
                "\(groups.groups.count) groups of \(groups.total), \(groups.groups.first?.distinctPatients ?? 0) patients in the largest"
        }
        try await measured("list of 100") { "\(try await browser.list(limit: 100).read) records read" }
        var filter = DeadLetterFilter()
        filter.fingerprint = fingerprint(4)
        let few = filter
        try await measured("list of 100 of one in 1000") { "\(try await browser.list(few, limit: 100).read) records read" }
        try await measured("selection of all") { "\(try await browser.select(DeadLetterFilter()).count) selected" }
    }

    private static func measured(_ name: String, _ body: () async throws -> String) async throws {
        // Peaks are told from here on: writing 5 resets the highest resident size (proc(5), clear_refs).
        if let file = fopen("/proc/self/clear_refs", "w") {
            fputs("5", file)
            fclose(file)
        }
        let before = kilobytes("VmRSS:")
        let used = processorSeconds()
        let start = ContinuousClock.now
        let result = try await body()
        let seconds = start.duration(to: .now)
        let more = kilobytes("VmHWM:") - before
        let times = "\(short(seconds.inSeconds)) s, \(short(processorSeconds() - used)) s CPU"
        print("\(name): \(times), at most \(more / 1024) MiB more than the \(before / 1024) MiB before; \(result)")
    }

    private static func short(_ seconds: Double) -> Double { (seconds * 100).rounded() / 100 }

    /// What clock(3) counts: the CPU time of this process, in millionths of a second (XSI's `CLOCKS_PER_SEC`).
    private static func processorSeconds() -> Double { Double(clock()) / 1_000_000 }

    private static func kilobytes(_ name: String) -> Int {
        guard let file = fopen("/proc/self/status", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, 256, file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if text.hasPrefix(name) { return Int(text.filter { $0.isNumber }) ?? 0 }
        }
        return 0
    }

    private static func load(_ brokers: String, count: Int) async throws {
        let producer = try KafkaProducer(KafkaConfiguration(bootstrapServers: brokers))
        let failures = Tally()
        for number in 0..<count {
            while try !isTaken(record(number), by: producer, failures) {
                await withCheckedContinuation { continuation in producer.whenWritable { continuation.resume() } }
            }
        }
        let isDone = await producer.flush(timeout: .seconds(600))
        producer.close()
        print("\(count) written, \(failures.count) failed\(isDone ? "" : ", not flushed")")
    }

    private static func isTaken(_ record: OutboundRecord, by producer: KafkaProducer, _ failures: Tally) throws -> Bool {
        do throws(BrokerError) {
            try producer.produce(record) { if case .failure = $0 { failures.add() } }
            return true
        } catch {
            guard error.isQueueFull else { throw error }
            return false
        }
    }

    /// A dead letter of some 900 bytes; five causes, the last one in a thousand; each patient has three.
    private static func record(_ number: Int) -> OutboundRecord {
        let cause = number % 1000 == 0 ? 4 : number % 4
        let digits = String(number / 3)
        let origin = "fhir.Patient.created/\(number % partitions)/\(number)"
        let trace = "00-4bf92f3577b34da6a3ce929d\(padded(number))-00f067aa0ba902b7-01"
        return OutboundRecord(
            topic: topic, partition: Int32(number % partitions), key: ByteSlice("patient-" + digits), value: value,
            headers: [
                Header("traceparent", text: trace), Header("content-type", text: "application/fhir+json"),
                Header("retryCount", text: "3"),
                Header("error", text: "RejectedError http_40\(cause)"), Header("failedAt", text: "2026-11-23T04:05:06.789Z"),
                Header("triage-origin", text: origin), Header("triage-origin-timestamp", text: "1764000000000"),
                Header("triage-error-class", text: "persistent"), Header("triage-error-fingerprint", text: fingerprint(cause)),
                Header("triage-group", text: "clinic"),
                Header(
                    "triage-attempts",
                    text:
                        "1764000000000,persistent,\(fingerprint(cause)),4bf92f3577b34da6a3ce929d\(padded(number)),00f067aa0ba902b7"
                ),
            ])
    }

    private static let value = ByteSlice(
        #"{"type":"PatientCreated","data":{"resourceType":"Patient","id":"x","active":true,"gender":"female","birthDate":"1974-12-25"}}"#
    )

    private static func fingerprint(_ cause: Int) -> String { "00000000000000a\(cause)" }

    private static func padded(_ number: Int) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }
}

/// Counts on any thread.
private final class Tally: Sendable {
    private let value = Atomic(0)
    var count: Int { value.load(ordering: .relaxed) }
    func add() { value.add(1, ordering: .relaxed) }
}
