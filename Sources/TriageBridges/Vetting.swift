internal import TriageTelemetry

/// What was kept back; `triage.bridge.item` in the metric.
enum RefusedItem: String, CaseIterable, Sendable {
    case spanName = "span_name"
    case spanAttribute = "span_attribute"
    case spanEventName = "span_event_name"
    case spanLink = "span_link"
    case statusMessage = "status_message"
    case metricName = "metric_name"
    case metricAttribute = "metric_attribute"
}

/// Applies a ``BridgePolicy``: the one place where foreign text becomes safe text. Counts what it keeps back.
final class Vetting: Sendable {
    let policy: BridgePolicy
    /// Keys that metrics of bridges may have.
    let keys: [String]
    private let rules: [String: AllowedAttribute]
    private let sets: [String: Set<String>]
    private let names: Set<String>
    private let refusals: [RefusedItem: Counter]

    init(_ policy: BridgePolicy, meter: Meter) {
        self.policy = policy
        names = Set(policy.names.map(\.description))
        rules = Dictionary(policy.attributes.map { ($0.key.description, $0) }) { _, last in last }
        sets = rules.compactMapValues { rule in
            if case .oneOf(let values) = rule.values { Set(values.map(\.description)) } else { nil }
        }
        keys = rules.keys.sorted()
        refusals = Dictionary(
            uniqueKeysWithValues: RefusedItem.allCases.map { item in
                (item, meter.counter(.bridgeRefusals, ["triage.bridge.item": SafeText(item)]))
            })
    }

    /// Counts what was kept back.
    func refuse(_ item: RefusedItem, _ count: Int = 1) { refusals[item]?.add(Int64(count)) }

    /// A name that may show; nil, and counted, if it may not.
    func name(_ text: String, _ item: RefusedItem) -> SafeText? {
        if names.contains(text) || policy.nameRule == .codeLike && CodeName.isCodeLike(text) { return SafeText(vetted: text) }
        refuse(item)
        return nil
    }

    /// What a value of `key` may show as; nil if not at all. A text that is none of a closed set's is `_OTHER`, and counted.
    func attribute(_ key: String, _ value: ForeignValue, _ item: RefusedItem) -> Attribute? {
        guard let rule = rules[key], let vetted = vet(value, rule, key, item) else {
            refuse(item)
            return nil
        }
        return Attribute(rule.key, vetted)
    }

    /// A dimension that may show; nil, and counted, if it may not.
    func dimension(_ key: String, _ value: String) -> (StaticString, SafeText)? {
        guard let attribute = attribute(key, .text(value), .metricAttribute) else { return nil }
        switch attribute.value {
        case .text(let text): return (attribute.key.literal, text)
        case .int(let number): return (attribute.key.literal, "\(number)")
        case .double(let number): return (attribute.key.literal, "\(number)")
        case .bool(let truth): return (attribute.key.literal, truth ? "true" : "false")
        case .literal(let literal): return (attribute.key.literal, SafeText(stringLiteral: literal.literal))
        case .uuid, .identifier: return nil
        }
    }

    private func vet(_ value: ForeignValue, _ rule: AllowedAttribute, _ key: String, _ item: RefusedItem) -> AttributeValue? {
        switch (rule.values, value) {
        case (.number, .int(let number)): return .int(number)
        case (.number, .double(let number)): return .double(number)
        case (.number, .bool(let truth)): return .bool(truth)
        case (.number, .text(let text)):
            if let number = Int64(text) { return .int(number) }
            if text == "true" || text == "false" { return .bool(text == "true") }
            return nil
        case (.integer(let range), .int(let number)): return range.contains(number) ? .int(number) : nil
        case (.integer(let range), .text(let text)): return Int64(text).flatMap { range.contains($0) ? .int($0) : nil }
        case (.oneOf, .text(let text)):
            if sets[key]?.contains(text) == true { return .text(SafeText(vetted: text)) }
            if text != "_OTHER" { refuse(item) }
            return .literal("_OTHER")
        case (.code, .text(let text)): return CodeName.isCodeLike(text) ? .text(SafeText(vetted: text)) : nil
        case (.errorType, .text(let text)):
            let isStatus = Int64(text).map { (100...599).contains($0) } ?? false
            return isStatus || text == "_OTHER" || CodeName.isErrorType(text) ? .text(SafeText(vetted: text)) : nil
        case (.errorType, .int(let number)): return (100...599).contains(number) ? .text("\(number)") : nil
        case (.text, .text(let text)): return .text(SafeText(vetted: String(text.prefix(256))))
        case (.text, .int(let number)): return .int(number)
        case (.text, .double(let number)): return .double(number)
        case (.text, .bool(let truth)): return .bool(truth)
        default: return nil
        }
    }
}

/// A value as it comes in.
enum ForeignValue {
    case int(Int64)
    case double(Double)
    case bool(Bool)
    case text(String)
}
