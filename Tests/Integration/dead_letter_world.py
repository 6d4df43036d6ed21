"""A service that delivers to a receiver which refuses some events, and what operators see and do of those."""

import collections
import json

from check_privacy import marker
from collector import Collector
from fhir_server import Receiver
from harness import Failed, parsed
from parts import Kcat, real_broker

TOPIC = "fhir.Patient.created"
DLQ = f"{TOPIC}.dlq"
RETRY = f"{TOPIC}.retry"
STATES = "triage.dead-letters"
GROUP = "clinic"
EVENTS = 2000
# What the receiver answers, and to how many of the events.
CAUSES = {400: 80, 404: 50, 410: 40, 422: 20, 503: 10}
FAILURES = sum(CAUSES.values())


class JudgingReceiver(Receiver):
    """Answers each event by what is wrong with it, until that is mended."""

    def __init__(self):
        self.causes = {}
        self.mended = set()
        self.deliveries = collections.Counter()
        self.accepted_ids = collections.Counter()
        super().__init__()

    def serve(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        identifier = request.headers.get("Triage-Resource", "").removeprefix("Patient/")
        with self.lock:
            status = self.causes.get(identifier)
            if status in self.mended or (status == 422 and b"REPAIRED" in body):
                status = None
            self.deliveries[identifier] += 1
            self.accepted_ids[identifier] += status is None
        request.send_response(status or 200)
        request.send_header("Content-Length", "0")
        request.end_headers()


class World:
    """A service that delivers 2,000 events, of which 200 fail."""

    def __init__(self, room):
        self.room = room
        self.outputs = []
        self.brokers = real_broker(room)
        self.kcat = Kcat(self.brokers)
        self.collector = Collector()
        self.receiver = JudgingReceiver()
        room.closers += [self.collector.close, self.receiver.close]
        made = room.finish("topics", "create", "-b", self.brokers, "--partitions", "3")
        if made.process.returncode != 0:
            raise Failed(f"topics create: {made.err()}")
        self.key = room.path("identifier-key")
        self.key.write_bytes(bytes(range(32)))

    def environment(self, **more):
        return self.collector.environment(
            OTEL_BSP_SCHEDULE_DELAY="100", TRIAGE_BROKERS=self.brokers, TRIAGE_IDENTIFIER_KEY_FILE=str(self.key),
            TRIAGE_JAEGER_URL="http://jaeger.example.org", **more)

    def serve(self):
        self.run = self.room.triage(
            "run", "--group", GROUP, "-t", TOPIC, "-o", "json", "--http", "off", "--handler", "http", "--deliver-to", self.receiver.url,
            "--retry", "none", "--outage-gate", "off", "--storm-breaker", "off", environment=self.environment())

    def publish(self):
        """2,000 events of 1,960 patients: of each of the first 40 with the first cause there are two, one after the other."""
        bad = [status for status, count in CAUSES.items() for _ in range(count)]
        lines, last = [], None
        for number in range(EVENTS):
            status = bad[number // 10] if number % 10 == 0 else None
            twin = status == 400 and (number // 10) % 2 == 1
            identifier = last if twin else f"CANARY-id-{number}"
            last = identifier if status == 400 else last
            if status:
                self.receiver.causes[identifier] = status
            lines.append(json.dumps({
                "type": "PatientCreated", "metadata": {
                    "eventId": f"CANARY-event-{number}", "timestamp": "2026-01-02T03:04:05.678Z", "source": "check"},
                "data": {
                    "resourceType": "Patient", "id": identifier, "name": [{"family": marker("family"), "given": [marker("given")]}],
                    "birthDate": "1801-02-03", "telecom": [{"system": "phone", "value": marker("phone")}], "multipleBirthInteger": 2}}))
        file = self.room.path("events.ndjson")
        file.write_text("\n".join(lines) + "\n")
        done = self.room.finish("publish", str(file), environment=self.environment())
        if done.process.returncode != 0:
            raise Failed(f"publish: {done.err()}")

    def dlq(self, *arguments, expect=0, environment=None, keep=True, seconds=120):
        """Runs `triage dlq` to its end; what it prints is searched for markers at the end."""
        child = self.room.finish(
            "dlq", *arguments, name=f"dlq-{arguments[0]}", environment=self.environment(**(environment or {})), seconds=seconds)
        if keep:
            self.outputs += [(" ".join(arguments[:2]), child.out().encode()), (" ".join(arguments[:2]), child.err().encode())]
        if expect is not None and child.process.returncode != expect:
            raise Failed(f"dlq {arguments} ends with {child.process.returncode}: {child.out()[-1500:]} {child.err()[-1500:]}")
        return child

    def explain(self, what):
        """The page of an event; nobody is asked for spans."""
        child = self.room.finish("explain", what, "-g", GROUP, environment={"TRIAGE_BROKERS": self.brokers})
        self.outputs += [("explain", child.out().encode()), ("explain", child.err().encode())]
        return child

    def json(self, *arguments, **options):
        return parsed(self.dlq(*arguments, "-o", "json", **options))

    def groups(self, *arguments):
        """Fingerprint by what the error is, and how many there are."""
        return {status_of(group): group for group in self.json("groups", *arguments)}

    def replays(self):
        """The records in the retry topic by the dead letter that they replay."""
        marks = collections.defaultdict(list)
        for message in self.kcat.read(RETRY):
            mark = message.text("triage-replay")
            if mark:
                marks[mark.split(" ")[1]].append(message)
        return marks

    def letters(self):
        return self.kcat.read(DLQ)


def status_of(group):
    return int(group["error"].split("http_")[1][:3])


def states_of(world, *arguments):
    return collections.Counter(letter["status"] for letter in world.json("list", "--limit", "5000", *arguments))


def open_counts(world):
    return {status: group["count"] for status, group in world.groups().items()}
