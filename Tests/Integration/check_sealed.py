"""Sealed dead letters on a real broker: nothing to be read without the key, all of it with the recipe that the article tells."""

import base64
import hashlib
import json
import signal
import struct

from check_capture import CREATED, DELETED, created_topics
from check_privacy import found, marker, patients, port_of, scraped_metrics
from collector import Collector
from fhir_server import Receiver
from harness import REPOSITORY, wait_until
from parts import Kcat, real_broker
from spans import dead_letter_topic

ARTICLE = REPOSITORY / "Sources" / "Triage" / "Triage.docc" / "SealedDeadLetters.md"
OLD = b"the key of last year, 0123456789abcdef"
NEW = bytes(range(40, 80))


def recipe():
    """The function that the article tells, as it stands there."""
    block = ARTICLE.read_text().split("```python\n", 1)[1].split("```", 1)[0]
    names = {}
    exec(compile(block, str(ARTICLE), "exec"), names)
    return names["opened"]


def sealed(report, room):
    """Failing deliveries with a key, then with the next one: what stands in Kafka, in telemetry and in logs."""
    brokers = real_broker(room)
    created_topics(room, brokers)
    kcat = Kcat(brokers)
    collector, receiver = Collector(), Receiver()
    room.closers += [collector.close, receiver.close]
    opened = recipe()
    # A line end behind characters doesn't count, a byte of ten in a binary key does.
    old, new = room.path("old.key"), room.path("new.key")
    old.write_bytes(OLD + b"\n")
    new.write_bytes(NEW)
    first = [json.dumps({"type": "PatientCreated", "data": patient}).encode() for patient in list(patients())[:6]]
    written = {}
    left = b""
    for number, (keys, events) in enumerate([(str(old), first), (f"{new},{old}", first[:2])]):
        receiver.script[:] = [refusal() for _ in range(20)]
        run = room.triage(
            "run", "-b", brokers, "--group", "sealed", "--http", "127.0.0.1:0", "--log-level", "trace", "--dead-letter-key-file", keys,
            "--handler", "http", "--deliver-to", receiver.url, "--retry", "exponential:1,base=100ms,jitter=0", "--outage-gate", "off",
            "--storm-breaker", "off", name=f"run-{number}",
            environment=collector.environment(OTEL_LOGS_EXPORTER="otlp", OTEL_BSP_SCHEDULE_DELAY="200"))
        admin = wait_until("it tells its port", lambda: port_of(run.err()), 60)
        for value in events:
            written[f"p-{len(written)}"] = value
            kcat.write(
                CREATED, value, key=f"p-{len(written) - 1}".encode(), headers=[
                    ("x-upstream", marker("header").encode()), ("baggage", b"patient=" + marker("baggage").encode()),
                    ("content-type", b"application/json"), ("triage-shape", marker("shape").encode())])
        if number == 0:
            # Bytes that are no JSON, and a tombstone that is refused.
            written["broken"] = b"\xff\x00" + marker("broken").encode()
            kcat.write(CREATED, written["broken"], key=b"broken", headers=[])
            written["gone"] = None
            kcat.write(DELETED, None, key=b"gone", headers=[("x-upstream", marker("header").encode())])
        wait_until(
            "all are dead-lettered", lambda: not run.is_running() or len(letters(kcat)) == len(written), 60)
        left += scraped_metrics(admin)
        run.signal(signal.SIGTERM)
        report.equal(f"run {number}: a clean stop", run.wait(60), 0)
        left += run.err().encode() + run.out().encode()
    report.check("the receiver said markers, and was asked", len(receiver.delivered()) > 8)
    report.check("there is telemetry to search", collector.traces() and collector.logs())
    report.check("no marker in OTLP", not found(b"".join(collector.everything())))
    report.check("no marker in the scrape and in what it says at the level trace", not found(left), left[:300])

    dead = {letter.key.decode(): letter for letter in letters(kcat)}
    report.equal("a dead letter for each", sorted(dead), sorted(written))
    ids = {"old": key_id(OLD), "new": key_id(NEW)}
    by_key = {name: dead[name].text("triage-encryption") for name in dead}
    wanted = {name: f"A256GCM {ids['new' if name in ('p-8', 'p-9') else 'old']}" for name in dead}
    report.equal("each names its key, after the exchange the new one", by_key, wanted)
    for name, letter in dead.items():
        whole = (letter.value or b"") + b"\n".join(field.encode() + b": " + (value or b"") for field, value in letter.headers)
        if not report.check(f"{name}: no marker in the whole record", not found(whole), whole[:500]):
            continue
        decoded = b"".join(base64.b64decode(letter.header(field) or b"") for field in ("triage-error-detail", "triage-sealed-headers"))
        report.check(f"{name}: nor in what base64 hides", not found(decoded))
        secret = NEW if by_key[name].endswith(ids["new"]) else OLD
        headers = dict(letter.headers)
        body = None if letter.value is None else opened(secret, headers, letter.value)
        report.check(f"{name}: the article's recipe opens the very bytes", body == written[name], body)
        report.check(
            f"{name}: with another key it doesn't", letter.value is None or refuses(opened, OLD + NEW, headers, letter.value))
        if letter.value is not None:
            moved = headers | {"triage-origin": letter.header("triage-origin") + b"1"}
            report.check(f"{name}: nor as another event's", refuses(opened, secret, moved, letter.value))
        detail = opened(secret, headers, base64.b64decode(letter.header("triage-error-detail")), "detail").decode()
        if name == "broken":
            report.check("broken: the error's text says what is wrong with it", "InvalidEvent" in detail, detail)
            report.check("broken: no shape", letter.header("triage-shape") is None)
            continue
        report.check(f"{name}: the error's text is the receiver's answer", "HTTP 422: " in detail and "CANARY-answer" in detail, detail)
        fields = block(opened(secret, headers, base64.b64decode(letter.header("triage-sealed-headers")), "headers"))
        report.check(f"{name}: the producer's headers are there", fields.get("x-upstream", b"").startswith(b"CANARY-header"), fields)
        report.check(f"{name}: what a producer wrote under our names isn't", "triage-shape" not in fields, fields)
        if letter.value is None:
            report.check(f"{name}: a tombstone has no shape", letter.header("triage-shape") is None)
        else:
            shape = letter.text("triage-shape")
            report.check(f"{name}: its shape is told", shape.startswith("object; type string; data object; "), shape)
            report.check(f"{name}: its headers say what failed", letter.text("error") == "RejectedError http_422", letter.text("error"))
    report.note(f"p-0: shape {dead['p-0'].text('triage-shape')[:200]}")
    wrong(report, room, brokers)


def letters(kcat):
    return [letter for topic in (CREATED, DELETED) for letter in kcat.read(dead_letter_topic(topic))]


def refusal():
    """An answer that is final, and whose body says what no log may."""
    body = json.dumps({"resourceType": "OperationOutcome", "issue": [{"code": "invalid", "diagnostics": marker("answer")}]}).encode()
    return b"HTTP/1.1 422 Unprocessable\r\nContent-Type: application/fhir+json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
        len(body), body)


def refuses(opened, secret, headers, value):
    try:
        opened(secret, headers, value)
    except Exception:
        return True
    return False


def key_id(secret):
    return hashlib.sha256(secret).hexdigest()[:8]


def block(data):
    """The headers of a sealed block: lengths with four bytes, the highest first, -1 for null."""
    fields, at = {}, 0
    while at < len(data):
        (count,) = struct.unpack_from(">i", data, at)
        name = data[at + 4:at + 4 + count].decode()
        at += 4 + count
        (count,) = struct.unpack_from(">i", data, at)
        at += 4
        fields[name] = None if count < 0 else data[at:at + count]
        at += max(0, count)
    return fields


def wrong(report, room, brokers):
    """A key that is none ends the service before it does anything."""
    short = room.path("short.key")
    short.write_bytes(b"too short a secret")
    for path, said in ((short, "18 bytes"), (room.path("missing.key"), "can't be read")):
        child = room.finish("run", "-b", brokers, "--dead-letter-key-file", str(path), name="run-without-key")
        report.check(
            f"a key file of which {said}: exit 64, named, and nothing of it is shown",
            child.process.returncode == 64 and said in child.err() and "dead-letter-key-file" in child.err()
            and "secret" not in child.err(), child.err())
