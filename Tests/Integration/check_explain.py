"""`triage explain` on a real broker: a dead letter with others of its patient around it, with and without spans, by place, trace and id."""

import json
import re
import time
import uuid

from check_capture import CREATED, created_topics, secret
from check_privacy import found
from collector import Collector
from fhir_server import Receiver
from harness import Failed, free_port, wait_until
from parts import Kcat, real_broker
from spans import dead_letter_topic, retry_topic, spans_of
from trace_backend import TraceBackend

KEY = "identifier-key-0123456789-0123456789"
TOKEN = "trace-token-0123456789"
BUSY, REFUSED = (503, {}), (422, {})


class World:
    """A service that delivers to a receiver which answers by script, and back ends that serve what the collector was sent."""

    def __init__(self, room):
        self.room = room
        self.brokers = real_broker(room)
        created_topics(room, self.brokers)
        self.kcat = Kcat(self.brokers)
        self.collector = Collector()
        self.receiver = Receiver()
        self.jaeger = TraceBackend(self.collector, "jaeger", token=TOKEN)
        self.tempo = TraceBackend(self.collector, "tempo")
        self.old_tempo = TraceBackend(self.collector, "old-tempo")
        room.closers += [part.close for part in (self.collector, self.receiver, self.jaeger, self.tempo, self.old_tempo)]
        self.key = secret(room, "identifier-key", KEY)
        self.headers = secret(room, "trace-headers", f"Authorization: Bearer {TOKEN}")
        self.count = 0
        self.said = []
        self.console = f"http://127.0.0.1:{free_port()}"
        self.run = room.triage(
            "run", "-b", self.brokers, "--group", "clinic", "-o", "json", "--http", self.console.removeprefix("http://"), "--handler", "http",
            "--deliver-to", self.receiver.url, "--deliver-timeout", "5s", "--retry", "exponential:2,base=500ms,cap=1s,jitter=0",
            "--identifier-key-file", self.key, environment=self.environment())

    def environment(self):
        return self.collector.environment(OTEL_BSP_SCHEDULE_DELAY="100")

    def publish(self, identifier, script=()):
        """Publishes an event of a Patient; gives its event id. The receiver answers by `script` from now on."""
        self.receiver.script[:] = script
        self.count += 1
        event = str(uuid.uuid4())
        line = {
            "type": "PatientCreated", "metadata": {"eventId": event, "timestamp": "2026-01-02T03:04:05.678Z", "source": "CANARY-source"},
            "data": {"resourceType": "Patient", "id": identifier, "name": [{"family": "CANARY-family"}], "birthDate": "1801-02-03"},
        }
        file = self.room.path(f"event-{self.count}.ndjson")
        file.write_text(json.dumps(line) + "\n")
        done = self.room.finish("publish", "-b", self.brokers, "--action", "created", str(file), environment=self.environment())
        if done.process.returncode != 0:
            raise Failed(f"publish: {done.err()}")
        return event

    def delivered(self, count):
        wait_until(f"{count} deliveries", lambda: not self.run.is_running() or len(self.receiver.delivered()) >= count)
        if not self.run.is_running():
            raise Failed(f"it ends with {self.run.process.returncode}: {self.run.err()[-1500:]}")

    def letters(self, count):
        def read():
            letters = self.kcat.read(dead_letter_topic(CREATED))
            return letters if len(letters) >= count else None
        return wait_until(f"{count} dead letters", read)

    def explain(self, *arguments, status=0, **environment):
        done = self.room.finish("explain", "-b", self.brokers, *arguments, environment={"LANG": "C.UTF-8", **environment})
        self.said.append(done.out() + done.err())
        if done.process.returncode != status:
            raise Failed(f"explain {arguments} ends with {done.process.returncode}: {done.out()} {done.err()}")
        return done.out() if status == 0 else done.err()

    def explained(self, *arguments):
        return json.loads(self.explain(*arguments, "-o", "json"))


def explain(report, room):
    """One page an event: from the ledger alone, from Jaeger's and Tempo's spans, by place, by trace and by event id."""
    world = World(room)
    world.publish("CANARY-one")
    world.delivered(1)
    event = world.publish("CANARY-one", [BUSY, BUSY, BUSY])
    world.delivered(2)
    behind = world.publish("CANARY-one", list(world.receiver.script))
    letter = world.letters(1)[0]
    world.publish("CANARY-two", [REFUSED])
    world.letters(2)
    world.delivered(6)
    origin, trace = letter.text("triage-origin"), letter.text("triage-origin-traceparent").split("-")[1]
    wait_until("the spans are there", lambda: sum(span["traceId"] == trace for span in spans_of(world.collector.traces())) >= 15)

    from_ledger(report, world, letter, origin, event)
    with_spans(report, world, letter, origin, trace)
    by_name(report, world, letter, origin, trace, event)
    others(report, world, origin, behind)
    refusals(report, world, origin)
    leaks = found("".join(world.said).encode())
    report.none("marks of patients in all that explain said", leaks)
    report.none("secrets in it", [text for text in (TOKEN, KEY) if text in "".join(world.said)])


def from_ledger(report, world, letter, origin, event):
    page = world.explain(letter.position, "--identifier-key-file", world.key)
    for line in (
        f"{letter.position}: dead-lettered by group clinic at ", "transient RetryableError http_503. Nobody has acted on it.",
        f"event          {origin}", f"event id       {event}", "attempt 3 failed: transient RetryableError http_503",
        f"dead-lettered as {letter.position}", "TRACE, RECONSTRUCTED", "no place to ask for spans is named",
        f"triage dead-letters show -g clinic {letter.position}", "handled after it was parked behind",
    ):
        report.check(f"the page says {line[:60]!r}", line in re.sub(r"\n +", " ", page) or line in page, page)
    report.check("the patient is a hash", re.search(r"patient        [0-9a-f]{8}:[0-9a-f]{16} \(hashed\)", page), page)
    ascii_page = world.explain(letter.position, LANG="C")
    report.check("ASCII alone where the locale has no UTF-8", ascii_page.isascii() and "---" in ascii_page, ascii_page)
    narrow = world.explain(letter.position, "--width", "80")
    report.none("lines beyond 80 columns", [line for line in narrow.splitlines() if len(line) > 80])
    report.check("no colours where stdout is no terminal", "\x1b" not in page)
    facts = world.explained(origin)
    run = facts["groups"][0]["runs"][0]
    attempts = [entry.split(",") for entry in letter.text("triage-attempts").split(";")]
    report.equal(
        "the ledger's attempts", [(a["error_class"], a["fingerprint"], a["trace_id"], a["span_id"]) for a in run["attempts"]],
        [tuple(entry[1:]) for entry in attempts])
    retries = [m.position for m in world.kcat.read(retry_topic(CREATED)) if m.text("triage-origin") == origin]
    report.equal("its waits", [(wait["record"], wait["reason"], wait["until_is_measured"]) for wait in run["waits"]],
                 [(position, "backoff", False) for position in retries])
    report.equal("its dead letter", (run["dead_letter"]["record"], run["dead_letter"]["status"]), (letter.position, "open"))


def with_spans(report, world, letter, origin, trace):
    spans = sorted((s["spanId"], s["name"]) for s in spans_of(world.collector.traces()) if s["traceId"] == trace)
    backends = {
        "Jaeger": ["--jaeger-url", world.jaeger.url], "Tempo": ["--tempo-url", world.tempo.url],
        "Tempo of before v2": ["--tempo-url", world.old_tempo.url + "/"],
        "the console": ["--console", world.console],
    }
    pages = {}
    for name, arguments in backends.items():
        world_environment = {"TRIAGE_TRACE_HEADERS_FILE": world.headers}
        page = world.explain(letter.position, *arguments, **world_environment)
        report.check(f"{name}: its trace", f"TRACE {trace}" in page and f"from {name.removesuffix(' of before v2')}:" in page and "RECONSTRUCTED" not in page, page)
        facts = json.loads(world.explain(letter.position, *arguments, "-o", "json", **world_environment))
        told = facts["traces"][0]
        # What `publish` sent is another process's: the console has the spans of its own.
        own = [span for span in spans if name != "the console" or span[1] != f"send {CREATED}"]
        report.equal(f"{name}: every span", sorted((s["span_id"], s["name"]) for s in told["spans"]), own)
        report.equal(f"{name}: waits are measured", {w["until_is_measured"] for w in facts["groups"][0]["runs"][0]["waits"]}, {True})
        pages[name] = [(s["name"], s["depth"], s["status"]) for s in told["spans"]]
    del pages["the console"]
    report.equal("all draw the same tree", len(set(map(str, pages.values()))), 1)
    report.check("Jaeger's page is linked to", f"Jaeger: {world.jaeger.url}/trace/{trace}" in world.explain(
        letter.position, "--jaeger-url", world.jaeger.url, TRIAGE_TRACE_HEADERS_FILE=world.headers))
    for what, arguments, said in (
        ("refused", ["--jaeger-url", world.jaeger.url], "answered 401: it wants credentials"),
        ("down", ["--jaeger-url", "http://127.0.0.1:1"], "nobody listens there"),
        ("no name", ["--tempo-url", "http://nowhere.invalid"], "its name has no address"),
    ):
        page = world.explain(letter.position, *arguments)
        report.check(f"a back end that is {what} costs its spans only", said in " ".join(page.split()) and "RECONSTRUCTED" in page, page)
    for mode, said in (("500", "answered 500"), ("garbage", "its answer is no trace as JSON")):
        world.tempo.mode = mode
        page = world.explain(letter.position, "--tempo-url", world.tempo.url)
        report.check(f"a back end that answers {mode}", said in " ".join(page.split()) and "RECONSTRUCTED" in page, page)
    world.tempo.mode = "ok"


def by_name(report, world, letter, origin, trace, event):
    facts = world.explained(trace)
    report.equal("by trace, without spans", (facts["event"]["record"], facts["event"]["origin"]), (letter.position, origin))
    facts = world.explained(trace, "--tempo-url", world.tempo.url)
    report.equal("by trace, by its spans", (facts["event"]["record"], facts["found_by"]), (origin, "by its trace id, by the spans from Tempo"))
    facts = world.explained(letter.text("traceparent"))
    report.equal("by a traceparent", facts["event"]["origin"], origin)
    facts = world.explained(event)
    report.equal("by the event's id", (facts["event"]["record"], facts["event"]["event_id"]), (letter.position, event))
    retry = next(m for m in world.kcat.read(retry_topic(CREATED)) if m.text("triage-origin") == origin)
    facts = world.explained(retry.position)
    report.equal("by its retry", (facts["event"]["role"], facts["event"]["origin"]), ("retry", origin))


def others(report, world, origin, behind):
    facts = world.explained(behind)
    report.check("one that was parked and never failed", facts["headline"].startswith("handled by group clinic"), facts["headline"])
    report.equal("behind which", {wait["behind"] for wait in facts["groups"][0]["runs"][0]["waits"]}, {origin})
    first = next(m for m in world.kcat.read(CREATED) if m.key == b"CANARY-one")
    facts = world.explained(first.position)
    report.equal("one that never failed", facts["headline"], "handled by group clinic without a failure")
    report.equal("its neighbours", [n["state"] for n in facts["neighbours"]], ["dead_lettered", "completed"])
    report.equal("asked as another group", world.explained(first.position, "-g", "nobody")["groups"][0]["state"], "unknown")


def refusals(report, world, origin):
    partition = origin.rsplit("/", 1)[0]
    for what, status, said in (
        ("nowhere/0/1", 1, "no topic nowhere on these brokers"), (f"{CREATED}/77/0", 1, "has 3 partitions"),
        (f"{partition}/999999", 1, "its last offset is"), ("a/b/c", 64, "expected TOPIC/PARTITION/OFFSET"), ("0" * 32, 64, "isn't all zero"),
        ("1" * 32, 1, "no record of this trace"), (str(uuid.uuid4()), 1, "no record of this event"),
    ):
        text = world.explain(what, status=status)
        report.check(f"refused with {said!r}", said in text, text)
