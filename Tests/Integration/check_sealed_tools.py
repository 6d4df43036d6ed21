"""Sealed dead letters and all that touches them: without the key nothing of a patient is in what they say, with it all is there."""

import base64
import collections
import http.client
import json
import re
import signal
import urllib.parse

from check_capture import CREATED, DELETED, created_topics
from check_privacy import found, marker, patients, port_of, scraped_metrics
from check_sealed import key_id, refusal
from collector import Collector
from fhir_server import Receiver
from harness import Failed, parsed, wait_until
from parts import Kcat, real_broker
from spans import dead_letter_topic, retry_topic

GROUP = "sealed"
KEY, OTHER = bytes(range(50, 90)), b"another key than the one, 0123456789"
STATES = "triage.dead-letters"
TOPICS = [dead_letter_topic(CREATED), dead_letter_topic(DELETED)]
TOKEN = "a-token-of-this-test"


class World:
    """Dead letters that were written with a key; events of theirs have a marker wherever a patient's data may stand."""

    def __init__(self, room):
        self.room = room
        self.brokers = real_broker(room)
        self.elsewhere = real_broker(room, "elsewhere")
        for brokers in (self.brokers, self.elsewhere):
            created_topics(room, brokers)
        self.kcat = Kcat(self.brokers)
        self.collector, self.receiver = Collector(), Receiver()
        room.closers += [self.collector.close, self.receiver.close]
        self.key, self.other = room.path("dead-letters.key"), room.path("other.key")
        self.key.write_bytes(KEY)
        self.other.write_bytes(OTHER)
        token = room.path("token")
        token.write_text(TOKEN + "\n")
        self.token = ["--console-token-file", str(token)]
        self.events = {}
        # What was printed, logged, answered and exported without the key: the place and the bytes.
        self.said = []

    def environment(self, **more):
        return self.collector.environment(
            OTEL_LOGS_EXPORTER="otlp", OTEL_BSP_SCHEDULE_DELAY="100", TRIAGE_BROKERS=self.brokers, TRIAGE_GROUP=GROUP,
            TRIAGE_LOG_LEVEL="trace", **more)

    def run(self, *arguments, name="run"):
        """A service that delivers; gives it and its port."""
        child = self.room.triage(
            "run", "--http", "127.0.0.1:0", "--handler", "http", "--deliver-to", self.receiver.url, "--retry", "none", "--outage-gate",
            "off", "--storm-breaker", "off", *arguments, name=name, environment=self.environment())
        def port():
            if not child.is_running():
                raise Failed(f"it ends with {child.process.returncode}: {child.err()[-1500:]}")
            return port_of(child.err())
        return child, wait_until("it tells its port", port, 60)

    def dead_letters(self, *arguments):
        """Events that the receiver refuses, bytes that are no JSON, and a tombstone, from a service with these arguments."""
        self.receiver.script[:] = [refusal() for _ in range(20)]
        child, _ = self.run(*arguments, name="failing")
        for patient in list(patients())[:3]:
            self.write(CREATED, patient["id"], json.dumps({"type": "PatientCreated", "data": patient}).encode())
        self.write(CREATED, marker("id"), b"\xff\x00" + marker("broken").encode())
        self.write(DELETED, marker("id"), None)
        wait_until("all are dead-lettered", lambda: not child.is_running() or len(self.letters()) == len(self.events), 60)
        self.end(child)
        self.receiver.script.clear()
        self.sealed = self.letters()
        self.ids = sorted(letter.position for letter in self.sealed)

    def write(self, topic, key, value):
        self.events[key.encode()] = value
        self.kcat.write(topic, value, key=key.encode(), headers=[
            ("x-upstream", marker("header").encode()), ("baggage", b"patient=" + marker("baggage").encode()),
            ("content-type", b"application/json")])

    def end(self, child):
        child.signal(signal.SIGTERM)
        if child.wait(60) != 0:
            raise Failed(f"it ends with {child.process.returncode}: {child.err()[-1500:]}")

    def letters(self, kcat=None):
        return [letter for topic in TOPICS for letter in (kcat or self.kcat).read(topic)]

    def value(self, id):
        """What the event said before it was sealed."""
        return self.events[self.letter(id).key]

    def is_broken(self, id):
        return self.letter(id).text("error").startswith("InvalidEvent")

    def letter(self, id):
        return next(letter for letter in self.sealed if letter.position == id)

    def looks(self):
        """Who looked is on record: what was done, once for each time. What an edit replaced stands there as well, under other keys."""
        records = [m for m in self.kcat.read(STATES) if m.key.startswith(b"audit/") and m.header("triage-by") is None]
        return [json.loads(record.value)["action"] for record in records]

    def tool(self, *arguments, expect=0, key=None, keep=True, **environment):
        """Runs a command to its end; what it says without the key is searched for markers at the end."""
        child = self.room.finish(
            *arguments, *(["--dead-letter-key", str(key)] if key else []), name="-".join(arguments[:2]).replace("/", "-"),
            environment=self.environment(**environment))
        if keep:
            self.said += [(" ".join(arguments), data) for data in (child.out_path.read_bytes(), child.err_path.read_bytes())]
        if expect is not None and child.process.returncode != expect:
            raise Failed(f"{arguments} ends with {child.process.returncode}: {child.out()[-1500:]} {child.err()[-1500:]}")
        return child

    def json(self, *arguments, **options):
        return parsed(self.tool(*arguments, "-o", "json", **options))


def sealed_tools(report, room):
    """The tools and the console on sealed dead letters: first without the key, then with it."""
    world = World(room)
    world.dead_letters("--dead-letter-key-file", str(world.key))
    report.equal("sealed dead letters to look at", len(world.ids), 5)
    found_without(report, world)
    refused_without(report, world)
    moved_without(report, world)
    console_without(report, world)
    telemetry = b"".join(world.collector.everything())
    report.check("there is telemetry to search, traces, metrics and logs", all(
        (world.collector.traces(), world.collector.metrics(), world.collector.logs())))
    report.check("no marker in telemetry", not found(telemetry), found(telemetry))
    report.check(f"{len(world.said)} outputs are there to search", len(world.said) > 60 and sum(bool(data) for _, data in world.said) > 50)
    report.none("markers in what was said without the key", [(place, found(data)) for place, data in world.said if found(data)])
    read_with(report, world)
    replayed_with(report, world)


def found_without(report, world):
    """What needs no key: list, groups, show, explain, status; discard and reopen."""
    told = world.json("dlq", "list")
    report.equal("list: all of them, open", sorted((letter["id"], letter["status"]) for letter in told), [(id, "open") for id in world.ids])
    table = world.tool("dlq", "list").out()
    report.check("list: a table of them", all(id in table for id in world.ids), table)
    report.equal("groups: what failed", sorted((g["error"], g["count"], g["patients"]) for g in world.json("dlq", "groups")), [
        ("InvalidEvent invalid_utf8", 1, 1), ("RejectedError http_422", 4, 4)])
    world.tool("dlq", "groups")
    world.tool("status")
    shapes = {}
    for id in world.ids:
        page = world.json("dlq", "show", id)
        shapes[id] = page.get("shape")
        report.equal(f"show {id}: how it is sealed", page["encryption"], f"A256GCM {key_id(KEY)}")
        text = world.tool("dlq", "show", id).out()
        report.check(f"show {id}: a page that says so", f"A256GCM {key_id(KEY)}" in text and "ATTEMPTS" in text, text)
        facts = world.json("explain", id)
        told = facts["event"]["is_encrypted"], facts["groups"][0]["runs"][0]["dead_letter"]["record"]
        report.equal(f"explain {id}: it and that it is encrypted", told, (True, id))
        text = world.tool("explain", id).out()
        report.check(f"explain {id}: a page", ", encrypted" in text or world.value(id) is None, text)
    paths = [{line["path"] for line in shape} for shape in shapes.values() if shape]
    report.check("show: the shapes of three", len(paths) == 3 and all("data.birthDate" in each for each in paths), shapes)
    trace = world.json("dlq", "show", world.ids[0])["trace_id"]
    report.equal("explain by its trace", world.json("explain", trace)["event"]["record"], world.ids[0])
    done = [world.json("dlq", verb, world.ids[0], "--reason", "none", "--execute")["changed"] for verb in ("discard", "reopen")]
    report.equal("discard and reopen", done, [1, 1])


def refused_without(report, world):
    """What needs the key says which, does nothing, and isn't put on record as seen."""
    wanted = key_id(KEY)
    for id in world.ids:
        child = world.tool("dlq", "show", id, "--reveal", "--reason", "curious", expect=1)
        report.check(f"reveal {id}: refused, naming the key", wanted in child.err() and not child.out(), (child.out(), child.err()))
    child = world.tool("dlq", "show", world.ids[0], "--reveal", key=world.other, expect=1)
    report.check("reveal with another key: both are named", wanted in child.err() and key_id(OTHER) in child.err() and not child.out(), child.err())
    child = world.tool("dlq", "show", world.ids[0], "--reveal", expect=1, TRIAGE_DEAD_LETTER_KEY_FILE=str(world.other))
    report.check("and with another one by the setting", wanted in child.err() and not child.out(), child.err())
    planned = world.json("dlq", "replay", "--all", expect=None)
    report.equal("replay: a dry run refuses them", (planned["count"], planned["refused"]), (0, len(world.ids)))
    report.check("naming the key", all(wanted in refusal["reason"] for refusal in planned["refusals"]), planned)
    seen = world.room.path("editor-was-run")
    editor = world.room.path("editor")
    editor.write_text(f"#!/bin/sh\ntouch {seen}\n")
    editor.chmod(0o755)
    patch = '[{"op":"replace","path":"/data/gender","value":"other"}]'
    for words in (["--all"], [world.ids[0]], [world.ids[0], "--patch", patch], ["--all", "--to", "origin"], ["--all", "--canary", "1"]):
        child = world.tool("dlq", "replay", *words, "--execute", "-o", "json", expect=1)
        done = parsed(child)
        report.check(
            f"replay {' '.join(words[:2])[:40]}: refused, naming the key",
            done["replayed"] == 0 and done["refused"] == (1 if words[0] == world.ids[0] else len(world.ids)) and wanted in child.err(),
            (done, child.err()))
    child = world.tool("dlq", "replay", world.ids[0], "--edit", "--execute", expect=1, VISUAL=str(editor))
    report.check("replay --edit: refused, without an editor", wanted in child.err() and not seen.exists(), child.err())
    report.equal("nothing was written anew", [world.kcat.read(retry_topic(topic)) for topic in (CREATED, DELETED)], [[], []])
    report.equal("all are open", {letter["status"] for letter in world.json("dlq", "list")}, {"open"})
    report.equal("nobody is on record as having seen one", world.looks(), [])


def said_by_lines(report, world, exported):
    """What stands in lines of an export, in base64 as well, but for the records' keys, which stay readable: the article says so."""
    keys = [base64.b64decode(line.pop("key")) for line in exported]
    report.equal("export: their keys are the events' own", sorted(keys), sorted(world.events))
    for line in exported:
        fields = [base64.b64decode(part or "") for pair in line["headers"] for part in pair]
        fields += [base64.b64decode(field) for field in fields if re.fullmatch(rb"[A-Za-z0-9+/]{24,}={0,2}", field) and len(field) % 4 == 0]
        world.said.append(("a line of export", json.dumps(line).encode()))
        world.said.append(("what it has in base64", b"\n".join([base64.b64decode(line["value"] or ""), *fields])))


def moved_without(report, world):
    """Exported they stay sealed, and imported elsewhere they are what they were."""
    lines = world.tool("dlq", "export", "--all", keep=False)
    world.said.append(("export's stderr", lines.err().encode()))
    exported = [json.loads(line) for line in lines.out().splitlines()]
    report.equal("export: all of them", sorted("{topic}/{partition}/{offset}".format(**line) for line in exported), world.ids)
    report.check("export: the search finds the records' keys in it", found(lines.out().encode()))
    said_by_lines(report, world, exported)
    report.equal("export is on record", world.looks(), ["export"])
    file = world.room.path("dead-letters.ndjson")
    file.write_text(lines.out())
    done = world.json("dlq", "import", str(file), "-b", world.elsewhere, "--execute")
    report.equal("import elsewhere", (done["written"], done["refused"]), (len(world.ids), 0))

    def content(letters):
        return sorted((m.topic, m.partition, m.key, m.value or b"", tuple(m.headers)) for m in letters)
    there = world.letters(Kcat(world.elsewhere))
    report.check("import: byte for byte", content(there) == content(world.letters()))
    report.equal("import: listed there", len(world.json("dlq", "list", "-b", world.elsewhere)), len(world.ids))
    child = world.tool("dlq", "show", there[0].position, "--reveal", "-b", world.elsewhere, expect=1)
    report.check("import: sealed there as well", key_id(KEY) in child.err() and not child.out(), child.err())
    page = world.json("dlq", "show", there[0].position, "--reveal", "-b", world.elsewhere, key=world.key, keep=False)
    report.equal("import: opened there with the key", revealed(page), world.events[there[0].key])


class Visitor:
    """Somebody who is signed in at the console, without a browser."""

    def __init__(self, port):
        self.port, self.own, self.cookie = port, f"127.0.0.1:{port}", None
        self.post("/login", token=TOKEN, name="Ann")

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        more = {"Cookie": self.cookie} if self.cookie else {}
        connection.request(method, path if path.startswith("/metrics") else "/console" + path, body, {"Host": self.own, **more, **headers})
        answer = connection.getresponse()
        fields = dict(answer.getheaders())
        self.cookie = fields.get("Set-Cookie", self.cookie or "").split(";")[0] or None
        return answer.status, fields, answer.read().decode("utf-8", "replace")

    def get(self, path):
        return self.ask("GET", path)[2]

    def post(self, path, **form):
        if self.cookie:
            form["form-token"] = re.search(r'name="form-token" value="([0-9a-f]+)"', self.get("")).group(1)
        return self.ask("POST", path, urllib.parse.urlencode(form, doseq=True), **{
            "Origin": f"http://{self.own}", "Content-Type": "application/x-www-form-urlencoded"})


def visited(world, child_and_port):
    visitor = Visitor(child_and_port[1])
    def is_read():
        return len(json.loads(visitor.get("/api/dead-letters?status=any&limit=100"))["dead_letters"]) == len(world.ids)
    wait_until("the console has read them", is_read, 60, 0.5)
    return visitor


def looked_around(report, world, visitor):
    """All pages of the console and what it has for scripts; nothing is done or revealed."""
    trace = world.json("dlq", "show", world.ids[0])["trace_id"]
    paths = ["", "/failures", "/dead-letters", "/dead-letters?status=any", "/traces", f"/traces/{trace}", "/actions", "/login", "/api/overview", "/api/groups",
             "/api/dead-letters?status=any&limit=1000", "/api/traces", f"/api/traces/{trace}", f"/act?do=replay&id={world.ids[0]}"]
    for path in paths + [f"/dead-letters/{id}" for id in world.ids]:
        status, _, text = visitor.ask("GET", path)
        if status != 200 and "traces/" not in path:
            report.check(f"console {path} answers", False, (status, text[:300]))
        world.said.append((f"console {path}", text.encode()))


def console_without(report, world):
    """A service without the key: its pages, what is revealed there, and a replay."""
    child, port = world.run(*world.token, name="keyless")
    visitor = visited(world, (child, port))
    looked_around(report, world, visitor)
    pages = [visitor.get(f"/dead-letters/{id}") for id in world.ids]
    report.equal("console: the pages of three tell a shape", sum("data.birthDate" in page for page in pages), 3)
    for id in world.ids:
        status, _, text = visitor.post(f"/dead-letters/{id}/reveal")
        # The record's key, which is readable, shows there: it was asked for, and is on record.
        key = world.letter(id).key
        report.check(f"console reveal {id}: it says that a key is missing", status == 200 and "has no key" in text or world.value(id) is None, text)
        world.said.append((f"console reveal {id}", text.replace(key.decode(), "").encode()))
    status, headers, text = visitor.post("/export", id=world.ids)
    report.check("console: a file of lines, which nobody keeps", status == 200 and headers["Cache-Control"] == "no-store", (status, headers))
    said_by_lines(report, world, [json.loads(line) for line in text.splitlines()])
    key = world.letter(world.ids[0]).key.decode()
    status, _, text = visitor.post("/dead-letters/patient", patient=key)
    report.check("console: a patient's is found", status == 200 and world.ids[0] in text, (status, text[-1500:]))
    # Not even the id that was asked for is on the page.
    world.said.append(("console: a patient's", text.encode()))
    status, headers, text = visitor.post("/act", do="replay", id=world.ids[0])
    action = headers.get("Location", "").removeprefix("/console")
    report.check("console: a replay is taken", status == 303 and action.startswith("/actions/"), (status, text[:300]))
    wait_until("it has ended", lambda: "data-live" not in visitor.get(action), 60, 0.5)
    text = visitor.get(action)
    report.check("console: it is refused, since a key is needed", re.search("(encrypted|sealed)[^<]* key", text), text[-1500:])
    world.said.append(("console: what became of a replay", text.encode()))
    report.equal("console: nothing was written anew", [world.kcat.read(retry_topic(topic)) for topic in (CREATED, DELETED)], [[], []])
    world.said.append(("the scrape", scraped_metrics(port)))
    world.end(child)
    world.said += [("the service's stderr", child.err().encode()), ("the service's stdout", child.out().encode())]


def revealed(page):
    return revealed_value(page["revealed"].get("value"))


def revealed_value(value):
    return None if value is None else value["text"].encode() if value.get("text") is not None else base64.b64decode(value["base64"])


def read_with(report, world):
    """With the key all of it is there, by the option and by the setting."""
    for number, id in enumerate(world.ids):
        how = {"key": world.key} if number % 2 else {"TRIAGE_DEAD_LETTER_KEY_FILE": f"{world.other},{world.key}"}
        page = world.json("dlq", "show", id, "--reveal", "--as", "ann", keep=False, **how)
        report.equal(f"with the key: {id} is the very event", revealed(page), world.value(id))
        fields = {header["name"]: (header["value"] or {}).get("text") for header in page["revealed"]["headers"]}
        report.check(f"with the key: {id} has the producer's headers", fields.get("x-upstream", "").startswith("CANARY-header"), fields)
        detail = page["revealed"]["error_detail"]
        report.check(f"with the key: {id}'s error", "InvalidEvent" in detail if world.is_broken(id) else "CANARY-answer" in detail, detail)
    page = world.tool("dlq", "show", world.ids[0], "--reveal", key=world.key, keep=False)
    report.check("with the key: the search finds it on the page", found(page.out().encode()) and not found(page.err().encode()), page.err())


def replayed_with(report, world):
    """With the key a replay goes as any other: the service gets the bytes that were sealed. What operators leave is sealed or says nothing."""
    good = [id for id in world.ids if not world.is_broken(id)]
    patched = next(id for id in good if world.value(id) is not None)
    child, port = world.run(*world.token, "--dead-letter-key-file", str(world.key), name="with-key")
    before = len(world.receiver.delivered())
    done = world.json("dlq", "replay", *[id for id in good if id != patched], "--execute", key=world.key)
    report.equal("with the key: replayed", (done["replayed"], done["refused"]), (len(good) - 1, 0))
    patch = '[{"op":"replace","path":"/data/gender","value":"male"}]'
    done = world.json("dlq", "replay", patched, "--patch", patch, "--execute", key=world.key)
    report.equal("with the key: patched and replayed", (done["replayed"], done["refused"]), (1, 0))
    def statuses():
        return {letter["id"]: letter["status"] for letter in world.json("dlq", "list", keep=False)}
    wait_until("they are completed", lambda: all(statuses()[id] == "completed" for id in good), 60, 0.5)
    report.equal("with the key: each was delivered once more", len(world.receiver.delivered()) - before, len(good))
    replays = {m.text("triage-replay").split(" ")[1]: m for topic in (CREATED, DELETED) for m in world.kcat.read(retry_topic(topic))}
    report.equal("with the key: these", sorted(replays), good)
    for id, message in replays.items():
        wanted = world.value(id)
        if id == patched:
            report.equal("what was patched says so", json.loads(message.value)["data"]["gender"], "male")
        else:
            report.equal(f"the replay of {id} has the event's bytes", message.value, wanted)
        names = message.names()
        report.check(f"the replay of {id} has the producer's headers, and none of the seal's", "x-upstream" in names and not {
            "triage-encryption", "triage-sealed-headers", "triage-error-detail", "triage-shape"} & set(names), names)
    child_without = world.tool("dlq", "show", patched, "--original", expect=1)
    report.check("the patched one's original without the key: refused, naming it", key_id(KEY) in child_without.err() and not child_without.out(), child_without.err())
    page = world.json("dlq", "show", patched, "--original", key=world.key, keep=False)
    originals = [revealed_value(original["value"]) for original in page["originals"]]
    report.equal("with the key: it is what the event said", originals, [world.value(patched)])
    visitor = visited(world, (child, port))
    broken = next(id for id in world.ids if world.is_broken(id))
    text = visitor.post(f"/dead-letters/{patched}/reveal")[2]
    report.check("with the key: the console reveals it", "CANARY" in text.replace(world.letter(patched).key.decode(), ""), text[-1500:])
    report.equal("what is no JSON is open", statuses()[broken], "open")
    world.end(child)
    report.equal("what was looked at is on record", collections.Counter(world.looks()), {"export": 2, "original": 1, "reveal": 2 * len(world.ids) + 2})
    states = b"\n".join((m.key or b"") + b" " + (m.value or b"") + b" ".join(name.encode() + b"=" + (value or b"") for name, value in m.headers)
                        for m in world.kcat.read(STATES))
    report.check("no marker in triage.dead-letters, where the patched one's original is sealed", len(states) > 2000 and not found(states), found(states))
    telemetry = b"".join(world.collector.everything())
    report.check("no marker in telemetry with the key either", not found(telemetry), found(telemetry))
