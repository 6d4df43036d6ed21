"""Failed events on a real broker: found, explained, repaired, replayed; by several operators, one of which is killed."""

import base64
import collections
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios

from check_privacy import found, marker
from collector import Collector
from fhir_server import Receiver
from harness import Failed, clean_environment, parsed, triage_path, wait_until
from held_broker import HeldBroker
from parts import Kcat, real_broker
from spans import spans_of

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


def dead_letters(report, room):
    """The whole way from 200 failures of 5 causes to events that are handled, and what may go wrong on it."""
    world = World(room)
    world.serve()
    world.publish()
    wait_until(
        f"{FAILURES} dead letters", lambda: not world.run.is_running() or len(world.letters()) >= FAILURES, 120, interval=1)
    if not world.run.is_running():
        raise Failed(f"the service ends with {world.run.process.returncode}: {world.run.err()[-1500:]}")
    groups = found_groups(report, world)
    listed(report, world)
    shown(report, world, groups)
    dry(report, world, groups)
    healed(report, world, groups)
    canary_fails(report, world, groups)
    repaired(report, world, groups)
    discarded(report, world, groups)
    two_operators(report, world, groups)
    interrupted(report, world, groups)
    archived(report, world, room)
    foreign(report, world)
    edited(report, world, groups)
    terminal(report, world)
    killed(report, world, groups)
    world.run.signal(signal.SIGTERM)
    report.equal("the service stops cleanly", world.run.wait(60), 0)
    traces(report, world)
    report.check("outputs were searched", len(world.outputs) > 40)
    report.none("markers in what was printed without --reveal", [(place, found(data)) for place, data in world.outputs if found(data)])
    otlp = b"".join(world.collector.everything())
    report.check("no marker in telemetry", not found(otlp), found(otlp))


def found_groups(report, world):
    groups = world.groups()
    report.equal("groups: exactly these, with these counts", {status: group["count"] for status, group in groups.items()}, CAUSES)
    report.equal("groups: in order of their size", [group["count"] for group in world.json("groups")], sorted(CAUSES.values(), reverse=True))
    report.equal(
        "groups: distinct patients", {status: group["patients"] for status, group in groups.items()}, {**CAUSES, 400: 40})
    report.check("groups: shares add up to one", abs(sum(group["share"] for group in groups.values()) - 1) < 1e-9)
    report.equal("groups: fingerprints are five", len({group["fingerprint"] for group in groups.values()}), 5)
    report.equal("groups: each has its topic", {json.dumps(group["topics"]) for group in groups.values()} , {json.dumps({TOPIC: n}) for n in CAUSES.values()})
    text = world.dlq("groups").out()
    report.equal("groups: a table of five rows", len(text.strip().splitlines()), 6)
    fingerprint = groups[404]["fingerprint"]
    report.equal("groups: by class", [g["count"] for g in world.json("groups", "--class", "transient")], [CAUSES[503]])
    report.equal("groups: by part of a fingerprint", [g["count"] for g in world.json("groups", "--fingerprint", fingerprint[:6])], [50])
    report.equal("groups: of another group", world.json("groups", "-g", "nobody"), [])
    report.equal("groups: in the future", world.json("groups", "--since", "2200-01-01"), [])
    return {status: group["fingerprint"] for status, group in groups.items()}


def listed(report, world):
    letters = world.json("list", "--limit", "1000")
    report.equal("list: all of them", len(letters), FAILURES)
    times = [letter["written"] for letter in letters]
    report.equal("list: the newest first", times, sorted(times, reverse=True))
    report.equal("list: each has a trace", {len(letter["trace_id"]) for letter in letters}, {32})
    report.equal("list: all are open", {letter["status"] for letter in letters}, {"open"})
    report.equal("list: as they stand in Kafka", {letter["id"] for letter in letters}, {message.position for message in world.letters()})
    patient = next(identifier for identifier, status in world.receiver.causes.items() if status == 404)
    found_one = world.json("list", "--patient", patient)
    report.equal("list: of one patient", [letter["origin"].split("/")[0] for letter in found_one], [TOPIC])
    message = next(message for message in world.letters() if message.key == patient.encode())
    report.equal("list: it is that patient's", found_one[0]["id"], message.position)
    cut = world.dlq("list", "--limit", "7")
    report.check("list: a limit is told", len(cut.out().strip().splitlines()) == 8 and "newest 7" in cut.err(), cut.out())


def shown(report, world, groups):
    letter = world.json("list", "--fingerprint", groups[404], "--limit", "1")[0]
    page = world.json("show", letter["id"])
    report.equal("show: one attempt", [attempt["fingerprint"] for attempt in page["attempts"]], [groups[404]])
    report.check("show: a link to its trace", page["links"][0]["url"].endswith(f"/trace/{letter['trace_id']}"), page["links"])
    headers = {header["name"]: header.get("value") for header in page["headers"]}
    report.equal(
        "show: what headers say", (headers["triage-group"], headers["triage-origin"], headers["retryCount"]), (GROUP, letter["origin"], "0"))
    paths = {line["path"]: line["type"] for line in page["shape"]}
    report.equal(
        "show: the payload's shape", (paths["data.name[].family"], paths["data.multipleBirthInteger"], paths["metadata.eventId"]),
        ("string", "number", "string"))
    text = world.dlq("show", letter["id"]).out()
    report.check("show: a page", all(part in text for part in ("ATTEMPTS", "HEADERS", "data.name[].family", groups[404])), text)
    for wrong, part in ((f"{DLQ}/0/999999", "last offset"), (f"{DLQ}/77/0", "partitions"), ("no.such.dlq/0/0", "no topic")):
        child = world.dlq("show", wrong, expect=1)
        report.check(f"show: {wrong.split('/', 1)[1]} is told to be none", part in child.err() and not child.out(), child.err())
    report.check("show: what is no id is usage", world.dlq("show", "nonsense", expect=64).err() != "")
    revealed(report, world, letter)


def revealed(report, world, letter):
    message = next(message for message in world.letters() if message.position == letter["id"])
    before = len([record for record in world.kcat.read(STATES) if record.key.startswith(b"audit/")])
    child = world.dlq("show", letter["id"], "--reveal", "--as", "ana", "--reason", "INC-1", "-o", "json", keep=False)
    page = parsed(child)
    report.equal("reveal: the payload", page["revealed"]["value"]["text"].encode(), message.value)
    report.equal("reveal: the key", page["revealed"]["key"]["text"].encode(), message.key)
    report.check("reveal: is logged", "revealed" in child.err() and letter["id"] in child.err() and "ana" in child.err(), child.err())
    report.check("reveal: the log has nothing of it", not found(child.err().encode()), child.err())
    audits = [json.loads(record.value) for record in world.kcat.read(STATES) if record.key.startswith(b"audit/")]
    report.equal("reveal: is on record", len(audits), before + 1)
    report.equal(
        "reveal: who, which, why", (audits[-1]["action"], audits[-1]["of"], audits[-1]["by"], audits[-1]["reason"]),
        ("reveal", [letter["id"]], "ana", "INC-1"))
    text = world.dlq("show", letter["id"], "--reveal", keep=False).out()
    report.check("reveal: in text", message.value.decode() in text, text)
    report.equal("reveal: changes no state", world.json("list", "--limit", "1000", "--status", "open").__len__(), FAILURES)


def dry(report, world, groups):
    child = world.dlq("replay", "--fingerprint", groups[404][:8], "--canary", "3")
    report.check(
        "dry run: how many, where to, how to do it",
        all(part in child.out() for part in ("50 dead letters", f"to {RETRY}, for the group {GROUP}: 50", "--canary 3", "--execute", "--until 20")),
        child.out())
    report.equal("dry run: as JSON", world.json("replay", "--fingerprint", groups[404])["targets"], {f"{RETRY}, for the group {GROUP}": 50})
    report.equal("dry run: nothing is written", world.replays(), {})
    report.check("--to origin is warned of", "every group" in world.dlq("replay", "--all", "--to", "origin").err())
    for words in (["replay"], ["replay", "--all", "--class", "system"], ["discard", "--all"], ["replay", "--all", "--edit", "--execute"]):
        world.dlq(*words, expect=64)


def states_of(world, *arguments):
    return collections.Counter(letter["status"] for letter in world.json("list", "--limit", "5000", *arguments))


def open_counts(world):
    return {status: group["count"] for status, group in world.groups().items()}


def healed(report, world, groups):
    """The cause of one group is fixed: it heals, the others stay; a second replay does nothing."""
    world.receiver.mended.add(404)
    dead = {letter["id"] for letter in world.json("list", "--fingerprint", groups[404], "--limit", "1000")}
    result = world.json("replay", "--fingerprint", groups[404], "--canary", "3", "--execute", "--as", "ana", "--reason", "fixed")
    report.equal("replay: all of the group, after its canaries", (result["replayed"], result["canary"]["result"]), (50, "completed"))
    wait_until("the group is completed", lambda: states_of(world, "--fingerprint", groups[404]) == {"completed": 50}, 60, interval=0.5)
    report.equal("replay: the others stay", open_counts(world), {s: n for s, n in CAUSES.items() if s != 404})
    replays = world.replays()
    report.equal("replay: these dead letters", set(replays), dead)
    report.equal("replay: each once", {len(messages) for messages in replays.values()}, {1})
    old = {message.position: message.text("traceparent").split("-")[1] for message in world.letters()}
    world.traces = {
        position: (old[position], messages[0].text("traceparent").split("-")[1]) for position, messages in replays.items()}
    record = next(iter(replays.values()))[0]
    report.equal(
        "replay: the record", (record.text("retryCount"), record.text("triage-group"), record.header("error"), record.header("triage-attempts")),
        ("0", GROUP, None, None))
    patients = [identifier for identifier, status in world.receiver.causes.items() if status == 404]
    report.equal("replay: each was delivered once more", {world.receiver.deliveries[identifier] for identifier in patients}, {2})
    again = world.json("replay", "--fingerprint", groups[404], "--execute")
    report.equal("a second replay does nothing", (again["replayed"], len(world.kcat.read(RETRY))), (0, 50))
    one = sorted(dead)[0]
    by_id = world.json("replay", one, "--execute")
    report.equal("nor one by its id", (by_id["replayed"], by_id["unchanged"]), (0, {"completed": 1}))
    page = world.json("show", one)
    report.equal("show: who, why", (page["status"], page["state"]["by"], page["state"]["replay"]), ("completed", GROUP, result["replay"]))


def canary_fails(report, world, groups):
    """The cause isn't fixed: the canaries fail again, the others are not begun."""
    child = world.dlq("replay", "--fingerprint", groups[410], "--canary", "3", "--execute", "-o", "json", expect=1)
    result = parsed(child)
    report.equal("a canary fails: only those were replayed", (result["replayed"], result["canary"]["result"], result["left"]), (3, "failed_again", 37))
    report.check("a canary fails: where to look is told", f"triage explain {result['canary']['ids'][0]}" in child.err(), child.err())
    wait_until(
        "all canaries have failed again", lambda: states_of(world, "--fingerprint", groups[410]) == {"failed_again": 3, "open": 40}, 60,
        interval=0.5)
    report.equal("a canary fails: as many are open as before", open_counts(world)[410], 40)
    page = world.json("show", result["canary"]["ids"][0])
    successor = page["state"]["successor"]
    report.check("what failed again names its successor", successor.startswith(DLQ), page["state"])
    report.equal("the successor is open, and of that replay", world.json("show", successor)["status"], "open")


def repaired(report, world, groups):
    """A patch mends the payload itself; the original is kept."""
    patch = world.room.path("patch.json")
    patch.write_text('[{"op":"replace","path":"/data/name/0/family","value":"REPAIRED"},{"op":"test","path":"/data/multipleBirthInteger","value":2.0}]')
    bad = world.json("replay", "--fingerprint", groups[422], "--patch", '[{"op":"test","path":"/data/active","value":true}]')
    report.equal("a patch that doesn't go is seen in the dry run", (bad["count"], bad["refused"]), (0, CAUSES[422]))
    world.dlq("replay", "--fingerprint", groups[422], "--patch", '[{"op":"spam"}]', expect=64)
    broken = world.dlq("replay", "--fingerprint", groups[422], "--patch", '[{"op":"remove","path":"/data"}]', "--execute", "-o", "json", expect=1)
    report.equal("a patch that makes no event of it is refused", (parsed(broken)["replayed"], parsed(broken)["refused"]), (0, CAUSES[422]))
    before = {message.position: message.value for message in world.letters()}
    result = world.json("replay", "--fingerprint", groups[422], "--patch", str(patch), "--limit", "5", "--execute", "--reason", "names")
    report.equal("patched and replayed", (result["replayed"], result["refused"]), (5, 0))
    wait_until("those are completed", lambda: states_of(world, "--fingerprint", groups[422]).get("completed") == 5, 60, interval=0.5)
    audits = {}
    for record in world.kcat.read(STATES):
        parts = record.key.decode().split("/", 2)
        if parts[0] == "audit" and parts[1] == result["replay"]:
            audits[parts[2]] = record.value
    report.equal("the originals are kept", (len(audits), all(before[position] == value for position, value in audits.items())), (5, True))
    sent = {position: messages[-1] for position, messages in world.replays().items() if position in audits}

    def mended(value):
        event = json.loads(value)
        event["data"]["name"][0]["family"] = "REPAIRED"
        return event

    report.check(
        "and nothing else was changed",
        all(
            json.loads(message.value) == mended(before[position]) and b'"telecom":[{"system": "phone"' in message.value
            for position, message in sent.items()),
        [message.value for message in sent.values()])


def discarded(report, world, groups):
    dry_run = world.dlq("discard", "--fingerprint", groups[503], "--reason", "an outage")
    report.check("discard: a dry run", "Would discard 10 dead letters" in dry_run.out() and open_counts(world)[503] == 10, dry_run.out())
    done = world.json("discard", "--fingerprint", groups[503], "--reason", "an outage", "--execute", "--as", "ben")
    report.equal("discard", (done["changed"], 503 in open_counts(world)), (10, False))
    letter = world.json("list", "--fingerprint", groups[503], "--limit", "1")[0]
    report.equal("discard: by whom and why", (letter["status"], letter["state"]["by"], letter["state"]["reason"]), ("discarded", "ben", "an outage"))
    report.equal("what is discarded isn't replayed", world.json("replay", "--fingerprint", groups[503], "--execute")["replayed"], 0)
    back = world.json("reopen", "--fingerprint", groups[503], "--execute")
    report.equal("reopen takes it back", (back["changed"], open_counts(world)[503]), (10, 10))


def two_operators(report, world, groups):
    """Two replay one group at once: the later one fences the earlier, and nothing is replayed twice."""
    world.receiver.mended.add(400)
    words = ["dlq", "replay", "--fingerprint", groups[400], "--execute", "--rate", "10", "-o", "json"]
    before = len(world.kcat.read(RETRY))
    first = world.room.triage(*words, "--as", "ana", name="first", environment=world.environment())
    wait_until("the first has begun", lambda: not first.is_running() or len(world.kcat.read(RETRY)) > before, 30, interval=0.2)
    second = world.room.triage(*words, "--as", "ben", name="second", environment=world.environment())
    ends = (first.wait(60), second.wait(120))
    world.outputs += [("replay", child.err().encode()) for child in (first, second)]
    report.equal("one of two operators is fenced", ends, (1, 0))
    report.check("and is told by whom", "ben" in first.err() and "operates the dead letters" in first.err(), first.err())
    report.note(f"the fenced one says: {first.err().strip()}")
    wait_until("all are completed", lambda: states_of(world, "--fingerprint", groups[400]) == {"completed": 80}, 90, interval=0.5)
    mine = {letter["id"] for letter in world.json("list", "--fingerprint", groups[400], "--limit", "1000")}
    replays = {position: messages for position, messages in world.replays().items() if position in mine}
    report.equal("two operators: each dead letter once", (len(replays), {len(messages) for messages in replays.values()}), (80, {1}))
    patients = [identifier for identifier, status in world.receiver.causes.items() if status == 400]
    report.equal("two operators: each event was accepted once", {world.receiver.accepted_ids[identifier] for identifier in patients}, {2})


def killed(report, world, groups):
    """A replay is killed between two transactions, inside one, and at its end: the next one goes on, and each was replayed once."""
    # noida-db names each aborted transaction in every answer to a fetch for good, not only to those that begin before its end. A
    # reader that stands behind one drops what the same producer commits later; one that begins before it sees all. So the
    # service rests while replays are killed, and is started anew, where it had stopped, when all has been written.
    world.run.signal(signal.SIGTERM)
    report.equal("kill -9: the service stops before", world.run.wait(60), 0)
    world.receiver.mended.add(410)
    mine = {letter["id"] for letter in world.json("list", "--fingerprint", groups[410], "--status", "open", "--limit", "1000")}
    words = ["dlq", "replay", "--fingerprint", groups[410], "--execute", "--as", "cleo", "-o", "json"]

    def counted():
        return sum(position in mine for position in world.replays())

    def written():
        """Records of the retry topic, those of open and aborted transactions among them."""
        return world.kcat.call(
            ["-C", "-t", RETRY, "-o", "beginning", "-e", "-q", "-f", "%o\\n", "-X", "isolation.level=read_uncommitted"]).count(b"\n")

    def kill(child):
        child.signal(signal.SIGKILL)
        child.wait(30)

    # Four go into a transaction, and the next one begins a second later.
    child = world.room.triage(*words, "--rate", "4", name="killed", environment=world.environment())
    wait_until("it has begun", lambda: not child.is_running() or counted() > 0, 60, interval=0.02)
    kill(child)
    between = counted()
    report.check("kill -9 between two transactions", 0 < between < len(mine) and between % 4 == 0, between)
    # At known places: before the states are written, before the commit, and when it is committed but nobody has been told.
    for hold, committed in (("state", 0), ("commit", 0), ("answer", 10)):
        before, total = counted(), written()
        held = HeldBroker(world.room, world.brokers, RETRY, hold)
        child = world.room.triage(
            *words, "--limit", "10", "-b", held.address, name=f"held-{hold}", environment=world.environment())
        wait_until(f"its {hold} is held", lambda: not child.is_running() or held.held.is_set(), 60, interval=0.02)
        report.check(f"kill -9 with its {hold} held: it runs", child.is_running(), child.err())
        kill(child)
        report.equal(
            f"kill -9 with its {hold} held: ten are written, so many count", (written() - total, counted() - before), (10, committed))
        report.equal(
            f"kill -9 with its {hold} held: states say the same", states_of(world, "--fingerprint", groups[410])["replayed"], counted())
        held.close()
    left = len(mine) - counted()
    rest = world.json("replay", "--fingerprint", groups[410], "--execute", seconds=180)
    report.equal("kill -9: the last one did the rest", rest["replayed"], left)
    report.equal("kill -9: what was aborted stays aborted", written() - len(world.kcat.read(RETRY)), 20)
    replays = {position: messages for position, messages in world.replays().items() if position in mine}
    report.equal("kill -9: none is lost, none is double", (len(replays), {len(messages) for messages in replays.values()}), (40, {1}))
    world.serve()
    wait_until(
        "all are completed", lambda: states_of(world, "--fingerprint", groups[410]) == {"failed_again": 3, "completed": 40}, 90, interval=0.5)
    patients = [identifier for identifier, status in world.receiver.causes.items() if status == 410]
    report.equal("kill -9: each event was accepted once", {world.receiver.accepted_ids[identifier] for identifier in patients}, {1})


def interrupted(report, world, groups):
    """Ctrl-C ends a replay between two transactions, and says how far it got."""
    world.receiver.mended.add(503)
    child = world.room.triage(
        "dlq", "replay", "--fingerprint", groups[503], "--execute", "--rate", "2", name="interrupted", environment=world.environment())
    before = len(world.kcat.read(RETRY))
    wait_until("it has begun", lambda: not child.is_running() or len(world.kcat.read(RETRY)) > before, 60, interval=0.05)
    child.signal(signal.SIGINT)
    report.equal("Ctrl-C: its status", child.wait(30), 130)
    world.outputs.append(("replay", child.err().encode()))
    replayed = [m for m in world.replays().values() if m[0].text("triage-replay")]
    told = [line for line in child.err().splitlines() if line.startswith("replayed ")]
    report.check("Ctrl-C: how far it got is told", len(told) == 1 and " of 10 before it ended" in told[0], child.err())
    left = open_counts(world).get(503, 0)
    report.check("Ctrl-C: the others are open", left == 10 - int(told[0].split()[1]) if told else False, (left, told, len(replayed)))


def archived(report, world, room):
    """Exported, and imported on another cluster, byte for byte; twice is once."""
    lines = world.dlq("export", "--all", keep=False)
    letters = world.letters()
    exported = [json.loads(line) for line in lines.out().splitlines()]
    report.equal("export: all of them", len(exported), len(letters))
    report.check("export: it is said what that is", "patient data" in lines.err(), lines.err())
    file = room.path("dead-letters.ndjson")
    file.write_text(lines.out())
    here = world.json("import", str(file), "--execute")
    report.equal("import: what is there isn't written again", (here["written"], here["present"]), (0, len(letters)))
    other = real_broker_beside(room)
    room.finish("topics", "create", "-b", other, "--partitions", "3")
    dry_run = world.json("import", str(file), "-b", other)
    report.equal("import: a dry run writes nothing", (dry_run["written"], Kcat(other).read(DLQ)), (len(letters), []))
    done = world.json("import", str(file), "-b", other, "--execute")
    again = world.json("import", str(file), "-b", other, "--execute")
    report.equal("import: once", (done["written"], again["written"], again["present"]), (len(letters), 0, len(letters)))

    def content(messages):
        return sorted((m.partition, m.key or b"", m.value or b"", tuple(m.headers)) for m in messages)
    report.check("import: byte for byte", content(Kcat(other).read(DLQ)) == content(letters))
    report.equal("import: the groups are there", sum(g["count"] for g in world.json("groups", "-b", other)), len(letters))
    bad = room.path("bad.ndjson")
    bad.write_text('{"topic":"x"}\nCANARY no JSON\n')
    child = world.dlq("import", str(bad), "--execute", expect=1)
    report.check("import: lines that are none are named", "line 1" in child.err() and "line 2" in child.err(), child.err())


def real_broker_beside(room):
    """A second broker, in a directory of its own."""
    class Beside:
        def __init__(self):
            self.start = room.start

        def path(self, name):
            return room.path(f"second-{name}")
    return real_broker(Beside())


def number(value, count):
    return value.to_bytes(count, "big", signed=True)


FOREIGN = {
    "spring": [
        ("kafka_dlt-original-topic", TOPIC.encode()), ("kafka_dlt-original-partition", number(1, 4)),
        ("kafka_dlt-original-offset", number(300, 8)), ("kafka_dlt-original-timestamp", number(1764000000000, 8)),
        ("kafka_dlt-original-consumer-group", b"billing"), ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
        ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"), ("kafka_dlt-exception-message", b"CANARY \x1b[2J died"),
        ("kafka_dlt-exception-stacktrace", b"at CANARY.Patient(Patient.java:1)"), ("retry_topic-attempts", number(4, 4))],
    "connect": [
        ("__connect.errors.topic", TOPIC.encode()), ("__connect.errors.partition", b"2"), ("__connect.errors.offset", b"17"),
        ("__connect.errors.connector.name", b"patients-sink"), ("__connect.errors.task.id", b"0"), ("__connect.errors.stage", b"VALUE_CONVERTER"),
        ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
        ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
        ("__connect.errors.exception.message", b"CANARY"), ("__connect.errors.exception.stacktrace", b"CANARY")],
    "streams": [
        ("__streams.errors.exception", b"org.apache.kafka.streams.errors.StreamsException"), ("__streams.errors.message", b"CANARY"),
        ("__streams.errors.stacktrace", b"CANARY"), ("__streams.errors.topic", TOPIC.encode()), ("__streams.errors.partition", b"0"),
        ("__streams.errors.offset", b"9")],
}


def foreign(report, world):
    """What Spring, Kafka Connect and Kafka Streams leave is listed, grouped and shown."""
    def base64_of(data):
        return None if data is None else base64.b64encode(data).decode()
    body = json.dumps({"resourceType": "Patient", "id": "CANARY-id-foreign", "CANARY-member": {"name": "CANARY"}}).encode()
    file = world.room.path("foreign.ndjson")
    file.write_text("".join(json.dumps({
        "topic": DLQ, "partition": 0, "offset": index, "timestamp": 0, "key": base64_of(b"CANARY-id-foreign"), "value": base64_of(body),
        "headers": [[base64_of(name.encode()), base64_of(value)] for name, value in headers]}) + "\n"
        for index, headers in enumerate(FOREIGN.values())))
    report.equal("foreign ones are written", world.json("import", str(file), "--execute")["written"], 3)
    found_ones = {letter["dialect"]: letter for letter in world.json("list", "--limit", "1000") if letter["dialect"] != "triage"}
    report.equal("foreign ones are listed", set(found_ones), set(FOREIGN))
    told = {d: (l.get("origin"), l.get("group"), l["retries"], l["error"].split(".")[-1]) for d, l in found_ones.items()}
    report.equal("foreign ones: Spring", told["spring"], (f"{TOPIC}/1/300", "billing", 3, "IllegalStateException"))
    report.equal("foreign ones: Connect", told["connect"], (f"{TOPIC}/2/17", "patients-sink", 0, "DataException at VALUE_CONVERTER"))
    report.equal("foreign ones: Streams", told["streams"], (f"{TOPIC}/0/9", None, 0, "StreamsException"))
    report.equal("foreign ones are grouped", len([g for g in world.json("groups") if g["dialect"] != "triage"]), 3)
    for dialect, letter in found_ones.items():
        page = world.json("show", letter["id"])
        hidden = [h["name"] for h in page["headers"] if "message" in h["name"] or "stacktrace" in h["name"]]
        shown_ones = {h["name"]: h.get("value") for h in page["headers"]}
        report.check(f"foreign ones: {dialect}'s texts are not shown", hidden and not any(shown_ones[name] for name in hidden), shown_ones)
        report.check(f"foreign ones: {dialect}'s shape", {"id", "_OTHER.name"} <= {line["path"] for line in page["shape"]}, page["shape"])
    text = world.dlq("show", found_ones["spring"]["id"], "--reveal", keep=False).out()
    report.check("revealed text can't move the cursor", "CANARY \\u{1b}[2J died" in text and "\x1b" not in text, text)
    plan = world.json("replay", found_ones["streams"]["id"], "-g", "other")
    report.equal("foreign ones can be replayed to a group", plan["targets"], {f"{RETRY}, for the group other": 1})


def edited(report, world, groups):
    """$EDITOR changes one: by a file that only the operator can read, which is gone afterwards."""
    seen = world.room.path("seen")
    editor = world.room.path("editor")
    editor.write_text(f'#!/bin/sh\nstat -c "%a %n" "$1" "$(dirname "$1")" > {seen}\n[ -n "$CHANGE" ] && sed -i "$CHANGE" "$1"\n[ -n "$SLEEP" ] && exec sleep "$SLEEP"\nexit 0\n')
    editor.chmod(0o755)
    letters = world.json("list", "--fingerprint", groups[422], "--status", "open", "--limit", "1000")
    one = letters[0]["id"]

    def edit(change, expect, **environment):
        return world.dlq(
            "replay", one, "--edit", "--execute", "--as", "dora", expect=expect,
            environment={"VISUAL": str(editor), "CHANGE": change, "XDG_RUNTIME_DIR": str(world.room.directory), **environment})

    before = len(world.kcat.read(RETRY))
    child = edit("", 0)
    report.check("unchanged: nothing is done", "nothing is done" in child.err() and len(world.kcat.read(RETRY)) == before, child.err())
    modes = [line.split()[0] for line in seen.read_text().splitlines()]
    report.equal("the file's and its directory's mode", modes, ["600", "700"])
    report.check("broken JSON is refused", "invalid_json" in edit("s/}$//", 1).err())
    report.check("what is no event is refused", "at" in edit('s/"birthDate": "1801-02-03"/"birthDate": 7/', 1).err())
    edit("s/CANARY-family-[0-9]*/REPAIRED/", 0)
    wait_until("the edited one is completed", lambda: world.json("show", one)["status"] == "completed", 60, interval=0.5)
    # Ended while the editor runs: nothing stays behind.
    running = world.room.triage(
        "dlq", "replay", letters[1]["id"], "--edit", "--execute", name="editing",
        environment=world.environment(VISUAL=str(editor), SLEEP="600", XDG_RUNTIME_DIR=str(world.room.directory)))
    seen.unlink()
    wait_until("the editor runs", lambda: seen.exists() and seen.read_text().count("\n") == 2, 60)
    running.signal(signal.SIGTERM)
    report.equal("ended while editing: its status", running.wait(30), 128 + signal.SIGTERM)
    report.equal("no edited file is left", [path.name for path in world.room.directory.glob("triage-edit-*")], [])


def terminal(report, world):
    """On a terminal of 80 columns the table keeps within it, and a bar shows how far it is."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [triage_path(), "dlq", "list", "--limit", "5"], stdin=slave, stdout=slave, stderr=slave, env=clean_environment(world.environment()))
    os.close(slave)
    output = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        output += piece
    os.close(master)
    process.wait(30)
    world.outputs.append(("list on a terminal", output))
    rows = [line for line in output.decode().replace("\r\x1b[K", "").splitlines() if DLQ in line or line.startswith("ID")]
    report.check("a table fits a terminal of 80 columns", len(rows) == 6 and max(map(len, rows)) <= 80, rows)


def traces(report, world):
    """The trace of a replayed event links to its old trace, and that has a span `replayed` under the dead letter's send."""
    spans = spans_of(world.collector.traces())
    by_id = {(span["traceId"], span["spanId"]): span for span in spans}
    by_trace = collections.defaultdict(list)
    for span in spans:
        by_trace[span["traceId"]].append(span)

    def named(trace, name):
        return [span for span in by_trace[trace] if span["name"] == name]

    def linked(span):
        return [by_id.get((link["traceId"], link["spanId"])) for link in span["links"]]

    def leads(span, trace, name):
        return any(target and target["traceId"] == trace and target["name"] == name for target in linked(span))

    faults = []
    for position, (old, new) in world.traces.items():
        replays, marks = named(new, f"replay {DLQ}"), named(old, "replayed")
        if old == new or len(replays) != 1 or replays[0]["parentSpanId"] or not leads(replays[0], old, f"send {DLQ}"):
            faults.append((position, "the replay isn't the root of a new trace with a link to the dead letter's send"))
        if len(marks) != 1 or not leads(marks[0], new, f"replay {DLQ}"):
            faults.append((position, "the old trace has no span replayed with a link to the new one", [span["name"] for span in by_trace[old]]))
        elif by_id.get((old, marks[0]["parentSpanId"]), {}).get("name") != f"send {DLQ}":
            faults.append((position, "replayed isn't below the dead letter's send"))
        if not named(new, f"process {RETRY}"):
            faults.append((position, "the new trace doesn't go on", [span["name"] for span in by_trace[new]]))
    report.equal("traces were looked at", len(world.traces), 50)
    report.none("each replay is a trace that links to the old one, which shows it", faults)
