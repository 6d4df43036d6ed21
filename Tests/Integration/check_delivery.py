"""Deliveries to a receiver that answers as it likes: what becomes of each event, when, and what the receiver is told with each attempt."""

import email.utils
import json
import re
import signal
import time

from google.protobuf.json_format import MessageToDict

from check_capture import CREATED, DELETED, UPDATED, created_topics, secret
from collector import Collector
from fhir_server import Receiver
from harness import REPOSITORY, Failed, parsed, wait_until
from parts import Kcat, real_broker
from spans import Forest, dead_letter_topic, decoded, retry_topic, spans_of, traceparent

TOKEN = "receiver-token-0123456789"
KEY = "signature-key-0123456789-0123456789"
QUERY = "query-secret-0123456789"
DOCUMENTATION = REPOSITORY / "Sources" / "Triage" / "Triage.docc" / "Delivery.md"
BUSY = (503, {})


class World:
    """A service that delivers to a receiver of ours, one event after the other, so that the receiver's script is for that event."""

    def __init__(self, room):
        self.room = room
        self.brokers = real_broker(room)
        created_topics(room, self.brokers)
        self.kcat = Kcat(self.brokers)
        self.collector = Collector()
        self.receiver = Receiver()
        self.elsewhere = Receiver()
        room.closers += [self.collector.close, self.receiver.close, self.elsewhere.close]
        self.published = {}
        # The patience with CREATED is for the time that the receiver is down; an event of DELETED is given up after two retries.
        self.run = room.triage(
            "run", "-b", self.brokers, "--group", "delivery", "-o", "json", "--http", "off", "--log-level", "debug",
            "--handler", "http", "--deliver-to", f"{self.receiver.url}?code={QUERY}", "--deliver-timeout", "1s",
            "--deliver-signature-key-file", secret(room, "signature-key", KEY),
            "--deliver-token-file", secret(room, "receiver-token", TOKEN),
            "--retry", "exponential:60,base=100ms,cap=200ms,jitter=0",
            "--retry-by-topic", f"{DELETED}=exponential:2,base=100ms,jitter=0", environment=self.environment())

    def environment(self):
        return self.collector.environment(OTEL_BSP_SCHEDULE_DELAY="100")

    def publish(self, identifier, line, *arguments, script=()):
        """Publishes a line while the receiver answers by `script`; a line without end, as NDJSON has it."""
        self.receiver.script[:] = script
        file = self.room.path(f"{identifier}.ndjson")
        file.write_bytes(line + b"\n")
        done = self.room.finish(
            "publish", "-b", self.brokers, *arguments, str(file), name=f"publish-{identifier}", environment=self.environment())
        if done.process.returncode != 0:
            raise Failed(f"publish: {done.err()}")
        self.published[identifier] = line

    def delivered(self, identifier):
        """The requests for a Patient, in the order in which they came."""
        return [
            request for request in self.receiver.delivered() if request.headers.get("triage-resource") == f"Patient/{identifier}"]

    def requests(self, identifier, count):
        """The same, once they are so many."""
        wait_until(f"{count} requests for {identifier}", lambda: not self.run.is_running() or len(self.delivered(identifier)) >= count)
        if not self.run.is_running():
            raise Failed(f"it ends with {self.run.process.returncode}: {self.run.err()[-1500:]}")
        return self.delivered(identifier)

    def dead_letter(self, topic, identifier):
        """The one dead letter of a Patient, once it is there."""
        def found():
            return [message for message in self.kcat.read(dead_letter_topic(topic)) if message.key == identifier.encode()]
        letters = wait_until(f"{identifier} is dead-lettered", found)
        if len(letters) != 1:
            raise Failed(f"{len(letters)} dead letters of {identifier}")
        return letters[0]

    def retried(self, topic, identifier):
        return [message for message in self.kcat.read(retry_topic(topic)) if message.key == identifier.encode()]


def envelope(identifier, kind="PatientCreated"):
    """An event as its producer wrote it: with blanks, escapes and members in an order of their own, which must all stay."""
    return (
        '{ "metadata" : {"source":"check","eventId":"event-%s","timestamp":"2026-01-02T03:04:05.678Z",  "correlationId":"c-1"},\t'
        '"data": {"resourceType":"Patient", "name":[{"family":"M\\u00fcller \\/ \u00c5ngstr\u00f6m \U0001f600"}],"active" :true ,'
        '"id":"%s","multipleBirthInteger":2},  "type":"%s" }' % (identifier, identifier, kind)).encode()


def delivery(report, room):
    """Answers of every kind, redirects, a receiver that is away: outcome, times, header fields, bytes and spans."""
    world = World(room)
    times = waited(report, world)
    bytes_as_they_stand(report, world)
    refused(report, world)
    redirected(report, world)
    tombstone(report, world)
    given_up(report, world)
    cut(report, world)
    odd(report, world)
    hanging(report, world)
    away(report, world)
    world.run.signal(signal.SIGTERM)
    report.equal("a clean stop", world.run.wait(60), 0)

    summary = parsed(world.run)
    report.equal(
        "the summary", {name: summary[name] for name in ("completed", "dead_lettered")},
        {"completed": 8, "dead_lettered": 5})
    report.equal("the other receiver is never called, nor connected to", (world.elsewhere.accepted, world.elsewhere.delivered()), (0, []))
    every_request(report, world)
    forest = Forest(spans_of(world.collector.traces()))
    spans(report, world, forest, times)
    durations(report, world, forest)
    output = (world.run.err() + world.run.out()).encode()
    for place, data in {"OTLP": b"".join(world.collector.everything()), "what it says": output}.items():
        report.none(f"secrets in {place}", [text for text in (TOKEN, KEY, QUERY, "/events", "ngstr") if text.encode() in data])


def waited(report, world):
    """503 with seconds, 429 with a date, 503 without a time, 200: each attempt when it was asked for."""
    date = int(time.time()) + 6
    world.publish("waited", envelope("waited"), script=[
        (503, {"Retry-After": "2"}), (429, {"Retry-After": email.utils.formatdate(date, usegmt=True)}), BUSY])
    found = world.requests("waited", 4)
    times = [request.at for request in found]
    waits = [later - earlier for earlier, later in zip(times, times[1:])]
    report.note(f"waits: {', '.join(f'{wait:.3f} s' for wait in waits)}; {times[2] - date:.3f} s after the date")
    # Its times are in whole milliseconds. The upper bounds leave a slow machine its time.
    report.check("503 with Retry-After: 2 is waited for, and not much longer", 1.998 <= waits[0] < 10, waits)
    report.check("429 with a date is waited for, and not much longer", -0.002 <= times[2] - date < 10, times[2] - date)
    report.check("503 without a time is tried again by the policy", 0.198 <= waits[2] < 10, waits)
    report.equal("Triage-Attempt", [request.headers.get("triage-attempt") for request in found], ["1", "2", "3", "4"])
    report.equal("one Idempotency-Key, the event's id", {request.headers["idempotency-key"] for request in found}, {'"event-waited"'})
    report.equal("the same bytes each time", {request.body for request in found}, {world.published["waited"]})
    return times


def bytes_as_they_stand(report, world):
    """Envelope, flat form and bare resource arrive as they stand in Kafka, and as they were published."""
    flat = (
        b'{"resource":{ "resourceType":"Patient","id":"flat","gender":"other"},"action" : "updated",'
        b'"timestamp":"2026-01-02T03:04:05Z",  "resourceType":"Patient"}')
    bare = b'{"resourceType":"Patient", "id":"bare","birthDate":"1990-02-03" ,"name":[{"family":"\\u00c5"}]}'
    world.publish("flat", flat)
    world.requests("flat", 1)
    world.publish("bare", bare, "--action", "created")
    world.requests("bare", 1)
    for identifier, topic, kind in (
            ("waited", CREATED, "PatientCreated"), ("flat", UPDATED, "PatientUpdated"), ("bare", CREATED, "PatientCreated")):
        record = next(message for message in world.kcat.read(topic) if message.key == identifier.encode())
        request = world.delivered(identifier)[0]
        report.check(f"{identifier}: the body is the record's value", request.body == record.value, (request.body, record.value))
        whole = request.body == world.published[identifier]
        report.check(
            f"{identifier}: with the bytes that were published", whole or (identifier == "bare" and bare in request.body), request.body)
        report.equal(
            f"{identifier}: type and content type", (request.headers.get("triage-event-type"), request.headers.get("content-type")),
            (kind, record.text("content-type") or "application/fhir+json"))
    record_id = json.loads(world.delivered("bare")[0].body)["metadata"]["eventId"]
    report.equal("bare: Idempotency-Key", world.delivered("bare")[0].headers["idempotency-key"], f'"{record_id}"')


def persistent(report, world, identifier, status, headers):
    """An answer after which the event is dead-lettered at once."""
    world.publish(identifier, envelope(identifier), script=[(status, headers)])
    letter = world.dead_letter(CREATED, identifier)
    report.equal(
        f"{status}: dead-lettered at once",
        (letter.text("triage-error-class"), letter.text("retryCount"), f"http_{status}" in letter.text("error")),
        ("persistent", "0", True))
    report.check(f"{status}: with its bytes", letter.value == world.published[identifier], letter.value)
    report.equal(f"{status}: no retry record", world.retried(CREATED, identifier), [])
    report.equal(f"{status}: requests", len(world.delivered(identifier)), 1)


def refused(report, world):
    # A time doesn't make it worth another try.
    persistent(report, world, "refused", 404, {"Retry-After": "1"})


def redirected(report, world):
    """To another origin, by two names: what was asked for with a token and a signature isn't sent to anyone else."""
    for status, host in ((302, "localhost"), (307, "127.0.0.1"), (308, "127.0.0.1")):
        persistent(report, world, f"redirected-{status}", status, {"Location": f"http://{host}:{world.elsewhere.port}/events"})


def tombstone(report, world):
    """A record without a value and without an id of its own, delivered at the second attempt."""
    world.receiver.script[:] = [BUSY]
    world.kcat.write(DELETED, None, key=b"buried")
    found = world.requests("buried", 2)
    record = next(message for message in world.kcat.read(DELETED) if message.key == b"buried")
    report.equal(
        "a tombstone's body", {request.body for request in found},
        {b'{"type":"PatientDeleted","data":{"resourceType":"Patient","id":"buried"}}'})
    report.equal(
        "its Idempotency-Key is its place, on the retry as well", [request.headers["idempotency-key"] for request in found],
        [f'"{record.position}"'] * 2)


def given_up(report, world):
    """503 as long as the policy goes on: a dead letter of class transient."""
    world.publish("given-up", envelope("given-up", "PatientDeleted"), script=[BUSY] * 5)
    letter = world.dead_letter(DELETED, "given-up")
    report.equal(
        "503 for ever: dead-lettered after the retries",
        (letter.text("triage-error-class"), letter.text("retryCount"), "http_503" in letter.text("error")), ("transient", "2", True))
    report.check("503 for ever: with its bytes", letter.value == world.published["given-up"], letter.value)
    report.equal("503 for ever: attempts", [request.headers["triage-attempt"] for request in world.delivered("given-up")], ["1", "2", "3"])
    world.receiver.script.clear()


def cut(report, world):
    """A connection that ends without an answer: sent once more if it had been kept open, then retried."""
    before = world.receiver.delivered()[-1].peer
    world.publish("cut", envelope("cut"), script=[Receiver.CUT, Receiver.CUT])
    found = world.requests("cut", 3)
    peers = [request.peer for request in found]
    report.check("the connection was kept, each later request has a new one", peers[0] == before and len(set(peers)) == 3, (before, peers))
    report.equal("attempts, the first sent twice", [request.headers["triage-attempt"] for request in found], ["1", "1", "2"])
    report.check(
        "under one span's context", found[0].headers["traceparent"] == found[1].headers["traceparent"] != found[2].headers["traceparent"])
    report.equal("one Idempotency-Key", {request.headers["idempotency-key"] for request in found}, {'"event-cut"'})


def odd(report, world):
    """What is no HTTP, an interim answer whose fields aren't the answer's, one that is cut short, too many fields, and a body longer than
    anybody reads."""
    world.publish("odd", envelope("odd"), script=[
        b"SSH-2.0-OpenSSH_9.2\r\n" * 3,
        b"HTTP/1.1 103 Early Hints\r\nRetry-After: 3600\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"X-Filler: %s\r\n" % (b"x" * 990) * 100 + b"\r\n",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000])
    found = world.requests("odd", 5)
    report.equal("odd answers: attempts", [request.headers["triage-attempt"] for request in found], ["1", "2", "3", "4", "5"])


def hanging(report, world):
    world.publish("hanging", envelope("hanging"), script=[Receiver.HANG])
    found = world.requests("hanging", 2)
    report.check(
        "no answer is waited for as long as --deliver-timeout says, then tried again", 0.9 < found[1].at - found[0].at < 15,
        found[1].at - found[0].at)


def away(report, world):
    """Nobody listens for several attempts; then somebody does."""
    world.receiver.go_down()
    world.publish("away", envelope("away"))
    refusals = wait_until("three attempts are refused", lambda: _refusals(world) >= 3 and _refusals(world))
    report.equal("nothing is delivered meanwhile", world.delivered("away"), [])
    world.receiver.come_up()
    request = world.requests("away", 1)[0]
    report.check(
        "delivered once the receiver is back", int(request.headers["triage-attempt"]) > refusals, request.headers["triage-attempt"])
    report.check("with its bytes", request.body == world.published["away"], request.body)


def _refusals(world):
    return sum(span["attributes"].get("error.type") == "connection_failed" for span in spans_of(world.collector.traces()))


def verifier():
    """The receiver's check as the documentation tells it."""
    code = re.search(r"```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    if not code:
        raise Failed("Delivery.md shows no check of the signature")
    names = {}
    exec(code[1], names)
    return names["is_ours"]


def every_request(report, world):
    """What each request has, whatever it was answered."""
    found = world.receiver.delivered()
    is_ours = verifier()
    signed = [(request.headers.get("triage-signature", ""), request.body) for request in found]
    report.none(f"signatures that Delivery.md's check refuses, of {len(found)}", [
        header for header, body in signed
        if not re.fullmatch(r"t=\d+,v1=[0-9a-f]{64}", header) or not is_ours(KEY.encode(), header, body)])
    report.none("signatures that fit another body or key", [
        header for header, body in signed
        if is_ours(KEY.encode(), header, body + b" ") or is_ours(KEY.encode() + b"\n", header, body)])
    report.none("signed for another time than the attempt's", [
        (request.at, header) for request, (header, _) in zip(found, signed)
        if not -0.1 <= request.at - int(header[2:].split(",")[0]) < 10])
    report.equal(
        "method, target and token of each", {(request.method, request.target, request.headers.get("authorization")) for request in found},
        {("POST", f"/events?code={QUERY}", f"Bearer {TOKEN}")})
    # One that was answered with 2xx or finally refused doesn't come again.
    counts = {"waited": 4, "flat": 1, "bare": 1, "refused": 1, "redirected-302": 1, "redirected-307": 1, "redirected-308": 1, "buried": 2,
              "given-up": 3, "cut": 3, "odd": 5, "hanging": 2, "away": 1}
    report.equal("requests by Patient", {name: len(world.delivered(name)) for name in counts}, counts)
    report.equal("and no others", len(found), sum(counts.values()))


def spans(report, world, forest, times):
    """A CLIENT span for each attempt, under the attempt, with its number and its answer; and why there was a wait."""
    by_context = {traceparent(span): span for span in forest.spans if span["kind"] == "CLIENT" and span["name"] == "POST"}
    requests = world.receiver.delivered()
    report.none("requests whose traceparent is no exported CLIENT span's", [
        request.headers.get("traceparent") for request in requests if request.headers.get("traceparent") not in by_context])

    def attempts(identifier):
        contexts = dict.fromkeys(request.headers["traceparent"] for request in world.delivered(identifier))
        return [by_context[context] for context in contexts if context in by_context]

    mine = attempts("waited")
    if not report.equal("spans of four attempts", len(mine), 4):
        return
    report.equal("http.request.resend_count", [span["attributes"].get("http.request.resend_count") for span in mine], [None, 1, 2, 3])
    report.equal("http.response.status_code", [span["attributes"].get("http.response.status_code") for span in mine], [503, 429, 503, 200])
    report.equal("error.type", [span["attributes"].get("error.type") for span in mine], ["503", "429", "503", None])
    report.equal("status", [span["status"]["code"] for span in mine], ["ERROR", "ERROR", "ERROR", "UNSET"])
    steps = ["attempt", "POST"]
    retry = [f"send {CREATED}.retry", f"process {CREATED}.retry"]
    names = [f"send {CREATED}", f"process {CREATED}", *retry * 3]
    chains = [forest.chain(span) for span in mine]
    report.equal(
        "each stands under its attempt, all in one line from the publish", [[span["name"] for span in chain] for chain in chains],
        [names[:count] + steps for count in (2, 4, 6, 8)])
    report.equal("process: triage.outcome", [chain[-3]["attributes"].get("triage.outcome") for chain in chains],
                 ["retry_scheduled"] * 3 + ["completed"])
    waits = [[child for child in forest.below(chain[-4]) if child["name"].startswith("wait ")] for chain in chains[1:]]
    report.equal(
        "why each was waited for", [[wait["attributes"].get("triage.wait.reason") for wait in found] for found in waits],
        [["scheduled"], ["scheduled"], ["backoff"]])
    report.none("spans that don't cover their request", [
        at for at, span in zip(times, mine) if not span["start"] / 1e9 - 0.002 <= at <= span["end"] / 1e9 + 0.002])

    deliveries = list(by_context.values())
    origin = f"http://127.0.0.1:{world.receiver.port}"
    report.equal(
        "where each went, without path and query",
        {tuple(span["attributes"].get(name) for name in ("http.request.method", "server.address", "server.port", "url.full"))
         for span in deliveries},
        {("POST", "127.0.0.1", world.receiver.port, origin)})
    report.none("spans that aren't under an attempt", [
        span for span in deliveries if (forest.parent(span) or {}).get("name") != "attempt"])
    lost, large = (None, "connection_lost", "ERROR"), (None, "answer_too_large", "ERROR")
    for identifier, codes in (("redirected-302", [(302, None, "UNSET")]), ("refused", [(404, "404", "ERROR")]),
                              ("cut", [lost, (200, None, "UNSET")]),
                              ("odd", [(None, "invalid_answer", "ERROR"), (503, "503", "ERROR"), lost, large, (202, None, "UNSET")]),
                              ("hanging", [(None, "timeout", "ERROR"), (200, None, "UNSET")])):
        report.equal(f"{identifier}: answers", [
            (span["attributes"].get("http.response.status_code"), span["attributes"].get("error.type"), span["status"]["code"])
            for span in attempts(identifier)], codes)
    redirected_attempt = forest.parent(attempts("redirected-302")[0])
    report.equal("redirected-302: the attempt failed", redirected_attempt["status"]["code"], "ERROR")
    refused_ones = sorted(
        (span for span in deliveries if span["attributes"].get("error.type") == "connection_failed"), key=lambda span: span["start"])
    last = attempts("away")[-1]
    report.equal("away: tries are counted through", [
        span["attributes"].get("http.request.resend_count") for span in [*refused_ones, last]], [None, *range(1, len(refused_ones) + 1)])
    report.equal("away: in one trace", {span["traceId"] for span in refused_ones}, {last["traceId"]})


def durations(report, world, forest):
    """http.client.request.duration counts each attempt under what came of it."""
    expected = {}
    for span in forest.spans:
        if span["kind"] == "CLIENT" and span["name"] == "POST":
            key = (span["attributes"].get("http.response.status_code"), span["attributes"].get("error.type"))
            expected[key] = expected.get(key, 0) + 1
    found = {}
    for request in decoded(world.collector.metrics(), "metrics"):
        for resource in MessageToDict(request).get("resourceMetrics", []):
            for scope in resource.get("scopeMetrics", []):
                for metric in scope.get("metrics", []):
                    if metric["name"] == "http.client.request.duration":
                        for point in metric["histogram"]["dataPoints"]:
                            pairs = {pair["key"]: next(iter(pair["value"].values())) for pair in point["attributes"]}
                            status = pairs.get("http.response.status_code")
                            found[(status and int(status), pairs.get("error.type"))] = int(point["count"])
    report.equal("http.client.request.duration counts them by what came of them", found, expected)
