import TriageEvents
import TriageKafka

/// What a line on standard input tells the embedded broker to do: faults, from outside its process.
///
/// | line | effect |
/// | --- | --- |
/// | `broker-down ID`, `broker-up ID` | cuts a broker's connections and refuses new ones; −1 is all of them |
/// | `leader TOPIC PARTITION BROKER` | makes a broker lead a partition; −1 leaves it without a leader |
/// | `coordinator GROUP BROKER` | makes a broker the group's coordinator |
/// | `REQUEST-errors CODE COUNT` | the next COUNT such requests fail; REQUEST is commit, produce, fetch, heartbeat, join or sync |
/// | `clear-errors` | takes back what is left of these |
/// | `rtt MS` | delays each answer of each broker |
/// | `topic NAME PARTITIONS` | creates a topic |
enum BrokerControl: Equatable {
    case broker(Int, isUp: Bool)
    case leader(TopicPartition, broker: Int)
    case coordinator(group: String, broker: Int)
    case errors(EmbeddedCluster.Request, code: Int32, count: Int)
    case clearErrors
    case roundTripTime(Duration)
    case topic(String, partitions: Int)

    static let requests: [Substring: EmbeddedCluster.Request] = [
        "commit": .offsetCommit, "produce": .produce, "fetch": .fetch, "heartbeat": .heartbeat, "join": .joinGroup,
        "sync": .syncGroup,
    ]

    /// - Returns: nil for anything that isn't one of the lines above, or whose numbers are none.
    init?(_ line: some StringProtocol) {
        let words = line.split(separator: " ").map { Substring($0) }
        func number(_ index: Int) -> Int? { words.indices.contains(index) ? Int(words[index]) : nil }
        switch (words.first, words.count) {
        case ("broker-down", 2), ("broker-up", 2):
            guard let id = number(1) else { return nil }
            self = .broker(id, isUp: words[0] == "broker-up")
        case ("leader", 4):
            guard let partition = number(2).flatMap({ Int32(exactly: $0) }), let broker = number(3) else { return nil }
            self = .leader(TopicPartition(String(words[1]), partition), broker: broker)
        case ("coordinator", 3):
            guard let broker = number(2) else { return nil }
            self = .coordinator(group: String(words[1]), broker: broker)
        case ("clear-errors", 1): self = .clearErrors
        case ("rtt", 2):
            guard let milliseconds = number(1), (0...600_000).contains(milliseconds) else { return nil }
            self = .roundTripTime(.milliseconds(milliseconds))
        case ("topic", 3):
            guard let partitions = number(2), (1...10_000).contains(partitions) else { return nil }
            self = .topic(String(words[1]), partitions: partitions)
        case (let name?, 3) where name.hasSuffix("-errors"):
            guard let request = BrokerControl.requests[name.dropLast("-errors".count)],
                let code = number(1).flatMap({ Int32(exactly: $0) }), let count = number(2), (1...10_000).contains(count)
            else { return nil }
            self = .errors(request, code: code, count: count)
        default: return nil
        }
    }

    func perform(on cluster: EmbeddedCluster) throws(BrokerError) {
        switch self {
        case .broker(let id, let isUp): try cluster.setBroker(id, isUp: isUp)
        case .leader(let partition, let broker): try cluster.setLeader(of: partition, broker: broker)
        case .coordinator(let group, let broker): try cluster.setCoordinator(of: group, broker: broker)
        case .errors(let request, let code, let count):
            cluster.pushRequestErrors(request, Array(repeating: code, count: count))
        case .clearErrors: for request in BrokerControl.requests.values { cluster.clearRequestErrors(request) }
        case .roundTripTime(let time): try cluster.setRoundTripTime(time)
        case .topic(let name, let partitions): try cluster.createTopic(name, partitions: partitions)
        }
    }

    /// Performs the lines of standard input, each answered by `ok` or `error` and why, until its end.
    static func serve(_ cluster: EmbeddedCluster) throws {
        let lines = try LineReader("-")
        while let line = try lines.next() {
            let text = String(decoding: line, as: UTF8.self)
            var answer = "error: not understood"
            if let instruction = BrokerControl(text) {
                do throws(BrokerError) {
                    try instruction.perform(on: cluster)
                    answer = "ok"
                } catch {
                    answer = "error: \(error)"
                }
            }
            try Output.line(answer)
        }
    }
}
