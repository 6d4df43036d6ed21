extension ConfigurationLoader {
    /// Settings, and the ones of which one has to be on for them to do anything.
    private static let parts: [(settings: [String], switches: [String])] = [
        (webhookKeys.map(\.key).filter { $0 != "webhooks" }, ["webhooks"]),
        (acceptedCommandKeys.map(\.key).filter { $0 != "accept-commands" }, ["accept-commands"]),
        (commandKeys.map(\.key).filter { $0 != "commands" }, ["commands"]),
        (listenKeys.map(\.key), ["webhooks", "accept-commands"]),
        (["fhir-server"], ["commands", "webhooks"]),
        (["pattern", "source", "cloud-events"], ["webhooks", "change-data-topics", "command-events"]),
        (["grafana-tempo-uid"], ["grafana-url"]),
        (["trace-headers-file", "trace-ca-file"], ["jaeger-url", "tempo-url"]),
    ]

    /// Refuses a setting that would silently do nothing, since what it belongs to isn't switched on: a token file of webhooks without
    /// `webhooks`.
    ///
    /// Who says in so many words that a part is off (`webhooks: false`) may keep its settings: several services can share one file.
    ///
    /// - Throws: ``ConfigurationError`` naming the setting and what it needs.
    public func checkParts() throws(ConfigurationError) {
        for part in ConfigurationLoader.parts where !part.switches.contains(where: { text($0) != nil }) {
            for setting in part.settings where text(setting) != nil {
                // The value may be a secret, or lead to one.
                throw ConfigurationError(
                    key: setting, value: "…",
                    expected: "\(part.switches.joined(separator: " or ")) beside it: it does nothing alone")
            }
        }
    }
}

/// A variable that looks like a setting and is none.
public struct UnknownVariable: Sendable, Hashable, CustomStringConvertible {
    /// Its name; its value may be a secret.
    public let name: String
    /// The variable that may have been meant.
    public let suggestion: String?

    /// `TRIAGE_WEBHOKS (TRIAGE_WEBHOOKS?)`.
    public var description: String { suggestion.map { "\(name) (\($0)?)" } ?? name }
}

extension ConfigurationLoader {
    /// The variables that begin with `TRIAGE_`, say something, and belong to no setting, in order.
    ///
    /// What Kubernetes sets in each container for a service called `triage` (`TRIAGE_SERVICE_HOST`, `TRIAGE_PORT_9464_TCP_ADDR`) isn't
    /// among them (its documentation, Services, "Environment variables").
    public static func unknownVariables(in environment: [String: String]) -> [UnknownVariable] {
        let known = keys.map { "TRIAGE_" + $0.key.uppercased().replacing("-", with: "_") }
        return environment.filter { $0.key.hasPrefix("TRIAGE_") && !$0.value.isEmpty && !known.contains($0.key) }.keys.sorted()
            .filter {
                $0.firstMatch(of: /_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/) == nil
            }
            .map { name in
                let near = known.map { (name: $0, distance: distance(name, $0)) }.min { $0.distance < $1.distance }
                return UnknownVariable(name: name, suggestion: near.flatMap { $0.distance <= 3 ? $0.name : nil })
            }
    }

    /// Levenshtein's: how many letters must be put in, taken out or exchanged to make one of the other.
    private static func distance(_ one: String, _ other: String) -> Int {
        let (one, other) = (Array(one.utf8.prefix(100)), Array(other.utf8.prefix(100)))
        var row = Array(0...other.count)
        for (index, letter) in one.enumerated() {
            var diagonal = row[0]
            row[0] = index + 1
            for (place, second) in other.enumerated() {
                let exchanged = diagonal + (letter == second ? 0 : 1)
                diagonal = row[place + 1]
                row[place + 1] = min(exchanged, row[place] + 1, diagonal + 1)
            }
        }
        return row[other.count]
    }
}
