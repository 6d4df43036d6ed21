// swift-tools-version: 6.2
import PackageDescription

// Continuous integration sets this, so that a warning fails it. Everyone else can still build with a newer compiler that
// warns of more.
let warnings: [SwiftSetting] = Context.environment["TRIAGE_WARNINGS"] == "error" ? [.treatAllWarnings(as: .error)] : []

// Every module is written to the same rules: Swift 6 language mode, imports that stay private unless said
// otherwise, and members that are only visible through a module the file itself imports.
let strict: [SwiftSetting] =
    [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
    ] + warnings

let package = Package(
    name: "triage",
    products: [
        .library(name: "Triage", targets: ["Triage"]),
        .library(name: "TriageTestKit", targets: ["TriageTestKit"]),
        .library(name: "TriageBridges", targets: ["TriageBridges"]),
        .executable(name: "triage", targets: ["TriageCommand"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-configuration", from: "1.4.0", traits: [.defaults, "YAML"]),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
        .package(url: "https://github.com/apple/swift-distributed-tracing", from: "1.7.0"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.100.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // Stones: a module map and a shim.h each, nothing else.
        .systemLibrary(name: "CRdKafka", pkgConfig: "rdkafka", providers: [.apt(["librdkafka-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CProtobufC", pkgConfig: "libprotobuf-c", providers: [.apt(["libprotobuf-c-dev"])]),
        .systemLibrary(name: "CMalloc"),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .target(name: "COTLP", dependencies: ["CProtobufC"]),
        .target(name: "CSimdJSON", linkerSettings: [.linkedLibrary("simdjson")]),

        // The house, from the inside out.
        .target(name: "TriageEvents", dependencies: ["CSimdJSON"], swiftSettings: strict),
        .target(
            name: "TriageTelemetry",
            dependencies: ["TriageEvents", .product(name: "Crypto", package: "swift-crypto")],
            swiftSettings: strict
        ),
        .target(
            name: "TriageOTLP",
            dependencies: ["TriageEvents", "TriageTelemetry", "COTLP", "CProtobufC", "CCurl", "CZlib"],
            swiftSettings: strict
        ),
        .target(name: "TriageKafka", dependencies: ["TriageEvents", "CRdKafka"], swiftSettings: strict),
        .target(name: "TriageHTTPClient", dependencies: ["TriageEvents", "CCurl"], swiftSettings: strict),
        .target(
            name: "TriageProcessing",
            dependencies: [
                "TriageEvents", "TriageTelemetry",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
            ],
            swiftSettings: strict
        ),
        .target(
            name: "TriageIngress",
            dependencies: [
                "TriageEvents", "TriageTelemetry",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HummingbirdTLS", package: "hummingbird"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            swiftSettings: strict
        ),
        .target(
            name: "Triage",
            dependencies: [
                "TriageEvents", "TriageTelemetry", "TriageOTLP", "TriageKafka", "TriageHTTPClient", "TriageProcessing",
                "TriageIngress",
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
        .target(
            name: "TriageTestKit",
            dependencies: ["TriageEvents", "TriageTelemetry", .product(name: "DequeModule", package: "swift-collections")],
            swiftSettings: strict
        ),
        .target(
            name: "TriageBridges",
            dependencies: [
                "Triage", "TriageEvents", "TriageTelemetry", "TriageProcessing",
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ],
            swiftSettings: strict
        ),
        .executableTarget(
            name: "TriageCommand",
            dependencies: [
                "CMalloc",
                "Triage", "TriageEvents", "TriageTelemetry", "TriageKafka", "TriageProcessing", "TriageIngress",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),

        .executableTarget(
            name: "Benchmarks",
            dependencies: [
                "Triage", "TriageEvents", "TriageTelemetry", "TriageOTLP", "TriageKafka", "TriageProcessing", "TriageIngress",
                "TriageTestKit",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "Tests/Benchmarks",
            exclude: ["Fixtures", "counts.sh", "dead-letters.py", "ingress.sh", "memory.sh", "scale-out.py", "throughput.sh"],
            swiftSettings: strict
        ),

        // A service as a user would write it, to be killed and watched by Tests/Integration.
        .executableTarget(
            name: "FaultWorker",
            dependencies: [
                "Triage", .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            path: "Tests/FaultWorker", swiftSettings: strict
        ),

        // Tests, one target for each room, and what several of them need.
        .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: strict),
        .testTarget(
            name: "TriageEventsTests", dependencies: ["TriageEvents"], resources: [.copy("Fixtures")], swiftSettings: strict
        ),
        .testTarget(
            name: "TriageTelemetryTests", dependencies: ["TriageEvents", "TriageTelemetry"], swiftSettings: strict
        ),
        .testTarget(
            name: "TriageOTLPTests",
            dependencies: ["TriageEvents", "TriageTelemetry", "TriageOTLP", "COTLP", "CProtobufC", "CZlib"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "TriageKafkaTests", dependencies: ["TestSupport", "TriageEvents", "TriageKafka", "TriageTestKit"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "TriageHTTPClientTests", dependencies: ["TriageEvents", "TriageHTTPClient"],
            exclude: ["Fixtures"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "TriageProcessingTests",
            dependencies: ["TestSupport", "TriageEvents", "TriageTelemetry", "TriageProcessing", "TriageTestKit"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "TriageIngressTests",
            dependencies: [
                "TriageEvents", "TriageTelemetry", "TriageIngress", "TriageTestKit",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "TriageTests",
            dependencies: [
                "TestSupport", "Triage", "TriageEvents", "TriageTelemetry", "TriageOTLP", "TriageKafka", "TriageProcessing",
                "TriageIngress",
                "TriageHTTPClient", "TriageTestKit",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "TriageBridgesTests",
            dependencies: [
                "TriageBridges", "Triage", "TriageEvents", "TriageTelemetry", "TriageOTLP", "TriageProcessing", "TriageTestKit",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "TriageCommandTests",
            dependencies: [
                "TriageCommand", "Triage", "TriageEvents", "TriageTelemetry", "TriageKafka", "TriageProcessing", "TriageIngress",
                "TriageTestKit",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            exclude: ["Fixtures"],
            swiftSettings: strict
        ),
    ],
    swiftLanguageModes: [.v6],
    cxxLanguageStandard: .cxx17
)
