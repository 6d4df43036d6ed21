internal import Synchronization
internal import TriageTelemetry

/// The templates of bridged spans, by name and kind: each is packed once, and there are only so many.
final class SpanTemplates: Sendable {
    /// What stands for a name that may not show.
    static let other = "_OTHER"

    private struct Key: Hashable {
        let name: String
        let kind: SpanKind
    }

    private let tracer: TriageTelemetry.Tracer
    private let vetting: Vetting
    private let templates = Mutex<[Key: SpanTemplate]>([:])
    private let others: [SpanKind: SpanTemplate]

    init(tracer: TriageTelemetry.Tracer, vetting: Vetting) {
        self.tracer = tracer
        self.vetting = vetting
        others = Dictionary(
            uniqueKeysWithValues: SpanKind.allCases.map { ($0, tracer.template(SpanTemplates.other, kind: $0, [])) })
    }

    /// The template for spans of this name, or of `_OTHER` if it may not show or there are too many names already.
    func template(_ name: String, kind: SpanKind) -> SpanTemplate {
        let key = Key(name: name, kind: kind)
        if let known = templates.withLock({ $0[key] }) { return known }
        if let vetted = vetting.name(name, .spanName) {
            let made = tracer.template(vetted.text, kind: kind, [])
            let kept: SpanTemplate? = templates.withLock { templates in
                if let known = templates[key] { return known }
                guard templates.count < vetting.policy.maximumNames else { return nil }
                templates[key] = made
                return made
            }
            if let kept { return kept }
            vetting.refuse(.spanName)
        }
        return others[kind] ?? tracer.template(SpanTemplates.other, kind: kind, [])
    }
}

/// A file of the source as the compiler names it, `Module/File.swift`.
enum SourceFile {
    /// `fileID` if it looks like one.
    static func vetted(_ fileID: String) -> SafeText? {
        guard fileID.utf8.count <= 200, fileID.hasSuffix(".swift"), fileID.utf8.contains(UInt8(ascii: "/")),
            fileID.utf8.allSatisfy(isAllowed)
        else { return nil }
        return SafeText(vetted: fileID)
    }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: "_+-./".utf8.contains(byte)
        }
    }
}
