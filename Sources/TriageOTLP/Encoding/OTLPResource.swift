internal import COTLP
internal import CProtobufC
internal import TriageTelemetry

private typealias ResourceMessage = Opentelemetry__Proto__Resource__V1__Resource
private typealias ScopeMessage = Opentelemetry__Proto__Common__V1__InstrumentationScope

/// The value of a resource attribute.
public indirect enum ResourceValue: Sendable, Hashable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByArrayLiteral
{
    /// Text.
    case string(String)
    /// An integer, such as a process id.
    case int(Int64)
    /// A list, such as a command's arguments.
    case array([ResourceValue])

    /// Text.
    public init(stringLiteral value: String) { self = .string(value) }
    /// An integer.
    public init(integerLiteral value: Int64) { self = .int(value) }
    /// A list.
    public init(arrayLiteral elements: ResourceValue...) { self = .array(elements) }
}

/// What telemetry is about and who made it: the attributes of the service instance and this library as the scope.
public struct OTLPResource: Sendable, Hashable {
    /// The semantic conventions that names follow.
    public static let schemaURL: StaticString = "https://opentelemetry.io/schemas/1.44.0"
    /// The instrumentation scope of all spans and metrics.
    public static let scopeName: StaticString = "triage"

    /// The attributes in the order they are sent in, such as `service.name`; the last of several with one key counts.
    public let attributes: [Attribute]
    /// The scope's version.
    public let version: String

    /// A resource attribute.
    public struct Attribute: Sendable, Hashable {
        /// The key.
        public let key: String
        /// The value.
        public let value: ResourceValue
    }

    /// A resource.
    ///
    /// - Parameters:
    ///   - attributes: keys and values; empty keys are left out (specification, common/README §attribute).
    ///   - version: the version of Triage.
    public init(attributes: [(String, ResourceValue)], version: String) {
        var unique: [Attribute] = []
        for (key, value) in attributes where !key.isEmpty {
            if let index = unique.firstIndex(where: { $0.key == key }) {
                unique[index] = Attribute(key: key, value: value)
            } else {
                unique.append(Attribute(key: key, value: value))
            }
        }
        self.attributes = unique
        self.version = version
    }

    /// The protobuf structs of the resource and the scope, in the builder's arena.
    func build(
        _ builder: inout MessageBuilder
    ) -> (
        resource: UnsafeMutablePointer<Opentelemetry__Proto__Resource__V1__Resource>,
        scope: UnsafeMutablePointer<Opentelemetry__Proto__Common__V1__InstrumentationScope>,
        schemaURL: UnsafeMutablePointer<CChar>
    ) {
        let resource = builder.arena.allocate(ResourceMessage.self, 1)
        opentelemetry__proto__resource__v1__resource__init(resource)
        let pairs = builder.keyValues(attributes.count) { builder, index, value in
            OTLPResource.set(attributes[index].value, in: value, &builder)
            return attributes[index].key
        }
        resource.pointee.attributes = pairs.pointers
        resource.pointee.n_attributes = pairs.count
        let scope = builder.arena.allocate(ScopeMessage.self, 1)
        opentelemetry__proto__common__v1__instrumentation_scope__init(scope)
        scope.pointee.name = builder.cString(StaticText(OTLPResource.scopeName))
        scope.pointee.version = builder.cString(version)
        builder.reserve(64)
        return (resource, scope, builder.cString(StaticText(OTLPResource.schemaURL)))
    }

    private static func set(
        _ content: ResourceValue, in value: UnsafeMutablePointer<AnyValueMessage>, _ builder: inout MessageBuilder
    ) {
        switch content {
        case .string(let text):
            builder.set(text: builder.cString(text), in: value)
        case .int(let number):
            builder.set(int: number, in: value)
        case .array(let elements):
            let pointers = builder.messages(AnyValueMessage.self, elements.count)
            for (index, element) in elements.enumerated() {
                guard let target = pointers[index] else { continue }
                opentelemetry__proto__common__v1__any_value__init(target)
                set(element, in: target, &builder)
                builder.reserve(MessageBuilder.attributeOverhead)
            }
            let list = builder.arena.allocate(Opentelemetry__Proto__Common__V1__ArrayValue.self, 1)
            opentelemetry__proto__common__v1__array_value__init(list)
            list.pointee.values = pointers
            list.pointee.n_values = elements.count
            value.pointee.value_case = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_ARRAY_VALUE
            value.pointee.array_value = list
        }
    }
}
