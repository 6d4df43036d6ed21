import HTTPTypes
import Synchronization
import TriageEvents
import TriageHTTPClient
import TriageIngress
import TriageKafka
import TriageTelemetry
import TriageTestKit

@testable import Triage

/// A FHIR server over HTTP that keeps Patients in memory: versions, If-None-Exist, If-Match, update as create, deletes; answers that a
/// test plants go before its own for everything but reading.
final class PatientServer: Sendable {
    struct State {
        var patients: [String: (version: Int, text: ByteSlice, isDeleted: Bool)] = [:]
        var calls: [String] = []
        var planted: [(status: Int, headers: [(String, String)], body: String)] = []
    }
    let state = Mutex(State())
    /// What is done when a Patient was deleted, before that is answered.
    private let onDelete = Mutex<(@Sendable (String) async -> Void)?>(nil)

    /// The routes of `/r4`.
    var routes: [any IngressRoute] { [PatientRoute(self, hasID: false), PatientRoute(self, hasID: true)] }
    var calls: [String] { state.withLock { $0.calls } }

    func notify(_ body: @escaping @Sendable (String) async -> Void) { onDelete.withLock { $0 = body } }
    func plant(_ status: Int, _ headers: [(String, String)] = [], body: String = "") {
        state.withLock { $0.planted.append((status, headers, body)) }
    }

    func answer(_ request: IngressRequest) async -> IngressAnswer {
        let answer = state.withLock { state in
            state.calls.append("\(request.method.rawValue) \(request.parameters["id"] ?? "")")
            guard request.method != .get, !state.planted.isEmpty else { return PatientServer.answer(request, &state) }
            let planted = state.planted.removeFirst()
            return PatientServer.made(planted.status, planted.headers, ByteSlice(planted.body))
        }
        if request.method == .delete, answer.status.code < 300, let notify = onDelete.withLock({ $0 }) {
            await notify(request.parameters["id"] ?? "")
        }
        return answer
    }

    private static func answer(_ request: IngressRequest, _ state: inout State) -> IngressAnswer {
        let header = { (name: String) in HTTPField.Name(name).flatMap { request.headers[$0] } }
        guard let id = request.parameters["id"] else {
            let code = header("If-None-Exist")?.split(separator: "|").last.map(String.init)
            let found = state.patients.first { entry in
                !entry.value.isDeleted && code != nil
                    && JSONValue(entry.value.text).flatMap { RequestTag.requestID(in: $0) } == code
            }
            if let found { return told(200, found.key, found.value.version) }
            let id = "p\(state.patients.count)"
            state.patients[id] = (1, request.body, false)
            return told(201, id, 1)
        }
        guard var patient = state.patients[id] else {
            guard request.method == .put else { return made(404) }
            state.patients[id] = (1, request.body, false)
            return told(201, id, 1)
        }
        if patient.isDeleted { return made(410) }
        if request.method == .get { return made(200, [("ETag", "W/\"\(patient.version)\"")], patient.text) }
        if let match = header("If-Match"), match != "W/\"\(patient.version)\"" { return made(412) }
        patient.version += 1
        if request.method == .delete { patient.isDeleted = true } else { patient.text = request.body }
        state.patients[id] = patient
        return request.method == .delete ? made(204) : told(200, id, patient.version)
    }

    private static func told(_ status: Int, _ id: String, _ version: Int) -> IngressAnswer {
        made(status, [("Location", "/r4/Patient/\(id)/_history/\(version)"), ("ETag", "W/\"\(version)\"")])
    }

    private static func made(
        _ status: Int, _ headers: [(String, String)] = [], _ body: ByteSlice = ByteSlice("")
    ) -> IngressAnswer {
        var fields = HTTPFields()
        for (name, value) in headers { if let name = HTTPField.Name(name) { fields[name] = value } }
        return IngressAnswer(status: HTTPResponse.Status(code: status), headers: fields, body: body)
    }
}

private struct PatientRoute: IngressRoute {
    let template: String
    let methods: [HTTPRequest.Method]
    let maximumBodyBytes = 1 << 20
    private let server: PatientServer

    init(_ server: PatientServer, hasID: Bool) {
        self.server = server
        template = hasID ? "/r4/Patient/{id}" : "/r4/Patient"
        methods = hasID ? [.get, .put, .delete] : [.post]
    }

    func admits(_ headers: HTTPFields) -> Bool { true }
    func answer(_ request: IngressRequest) async -> IngressAnswer { await server.answer(request) }
}

/// A service that takes commands in over HTTP and carries them out on a FHIR server, all over an embedded cluster.
final class CommandWorld: Sendable {
    let cluster: EmbeddedCluster
    let server: PatientServer
    let service: TriageService
    let telemetry: Telemetry
    private let caller = CurlCaller()
    private let written: Collected<Record>
    private let base: String

    private init(
        _ cluster: EmbeddedCluster, _ server: PatientServer, _ service: TriageService, _ telemetry: Telemetry,
        _ written: Collected<Record>, port: Int
    ) {
        self.cluster = cluster
        self.server = server
        self.service = service
        self.telemetry = telemetry
        self.written = written
        base = "http://127.0.0.1:\(port)"
    }

    /// Runs `body` in a world that ends with it.
    static func run(
        _ change: (inout Configuration) -> Void = { _ in }, _ body: (CommandWorld) async throws -> Void
    ) async throws {
        let cluster = try makeCluster(partitions: 1, topics: TopicPattern.hybrid.patientTopics + [TopicName.commands])
        defer { cluster.close() }
        try cluster.createTopic(TopicName.commandResults, partitions: 1)
        let patients = PatientServer()
        let telemetry = makeTelemetry()
        let (ports, port) = AsyncStream.makeStream(of: Int.self)
        var settings = IngressServer.Configuration()
        settings.port = 0
        let fhir = IngressServer(
            patients.routes, configuration: settings, logger: quiet(), meter: telemetry.meter, onListening: { port.yield($0) })
        let serving = Task { try await fhir.run() }
        defer { serving.cancel() }
        var configuration = makeConfiguration(cluster)
        configuration.handlesEvents = false
        configuration.commands = Configuration.Commands()
        configuration.acceptedCommands = Configuration.AcceptedCommands()
        configuration.listen.address = Configuration.HTTPAddress(host: "127.0.0.1", port: 0)
        configuration.gracePeriod = .seconds(5)
        var listening = ports.makeAsyncIterator()
        configuration.fhir = Configuration.FHIR("http://127.0.0.1:\(await listening.next() ?? 0)/r4")
        change(&configuration)
        let service = try TriageService(
            configuration, telemetry: telemetry, logger: quiet(), onListening: { if $0 == .ingress { port.yield($1) } },
            handler: nil)
        let running = Task { try await service.run() }
        let written = Collected<Record>()
        // Quicker than a group's reader for each look.
        let tail = try KafkaTail(
            KafkaConfiguration(bootstrapServers: cluster.bootstrapServers),
            topics: TopicPattern.hybrid.patientTopics + CommandNews.topics + [TopicName.retry(of: TopicName.commands)], last: 1000
        ) { record, _ in written.append(record) }
        defer { tail.close() }
        let world = CommandWorld(cluster, patients, service, telemetry, written, port: await listening.next() ?? 0)
        do { try await body(world) } catch {
            service.stop()
            try? await running.value
            throw error
        }
        service.stop()
        try await running.value
    }

    /// Asks the service; status and body.
    func ask(_ method: HTTPCall.Method, _ path: String, _ body: String? = nil) async throws -> (status: Int, body: String) {
        let answer = try await caller.send(
            HTTPCall(
                method, base + path, headers: [("Content-Type", "application/fhir+json")], body: body.map { ByteSlice($0) },
                timeout: .seconds(60)))
        return (answer.status, answer.body.utf8Text ?? "")
    }

    /// Sends a command and waits for what becomes of it.
    func command(_ type: String, _ data: String, _ request: String, wait: String = "30s") async throws -> JSONValue? {
        let answer = try await ask(.post, "/commands?wait=\(wait)", CommandWorld.text(type, data, request))
        return answer.status == 200 ? JSONValue(ByteSlice(answer.body)) : nil
    }

    /// Puts the record of a command into its topic, without asking whether there was one of that id.
    func send(_ type: String, _ data: String, _ request: String) async throws {
        let producer = try KafkaProducer(KafkaConfiguration(bootstrapServers: cluster.bootstrapServers))
        defer { producer.close() }
        try producer.produce(
            OutboundRecord(
                topic: TopicName.commands, key: JSONValue(ByteSlice(data))?["id"]?.stringBytes ?? ByteSlice(request),
                value: ByteSlice(CommandWorld.text(type, data, request)))
        ) { _ in }
        _ = await producer.flush(timeout: .seconds(30))
    }

    /// What stands in a topic, waited for until there are so many records.
    func records(in topic: String, _ count: Int) async throws -> [Record] {
        _ = try await eventually { written.all.count { $0.topic == topic } >= count }
        return written.all.filter { $0.topic == topic }
    }

    /// The results there are, waited for until there are so many.
    func results(_ count: Int) async throws -> [JSONValue] {
        try await records(in: TopicName.commandResults, count).compactMap { $0.value.flatMap { JSONValue($0) } }
    }

    static func text(_ type: String, _ data: String, _ request: String) -> String {
        #"{"type":"\#(type)","data":\#(data),"metadata":{"requestId":"\#(request)"}}"#
    }
}
