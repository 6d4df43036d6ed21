"""Markers in place of patient data: the command is run on them, and everything that leaves it is searched."""

import base64
import itertools
import json

from collector import Collector
from harness import Failed, PATIENTS, fetch, wait_until
from parts import Kcat, embedded_broker

TOPIC = "fhir.Patient.updated"
CORE = b"CANARY"
DATE = "1801-02-03"
COUNT = itertools.count(1)


def marker(kind):
    return f"CANARY-{kind}-{next(COUNT)}"


def marked(value):
    """The same shape with a marker for each text and each name of an element."""
    if isinstance(value, str):
        return marker("text")
    if isinstance(value, list):
        return [marked(element) for element in value]
    if isinstance(value, dict):
        return {marker("".join(filter(str.isalpha, key))): marked(element) for key, element in value.items()}
    return value


def patients():
    for line in PATIENTS.read_bytes().splitlines():
        patient = {key: marked(value) for key, value in json.loads(line).items()}
        patient["meta"] = {"versionId": marker("version"), "source": marker("source"), "tag": [{"code": marker("tag")}]}
        if "deceasedDateTime" in patient:
            patient["deceasedDateTime"] = DATE
        patient.update(resourceType="Patient", id=marker("id"), gender="other", birthDate=DATE)
        patient[marker("element")] = marker("value")
        yield patient


def forms():
    """What the markers look like: as they are, percent-encoded, in hexadecimal, in base64 at each of three alignments."""
    yield CORE
    yield DATE.encode()
    yield "".join(f"%{byte:02X}" for byte in CORE).encode()
    yield CORE.hex().encode()
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + CORE).rstrip(b"=")
        certain = whole[[0, 2, 3][shift]:]
        yield certain if (shift + len(CORE)) % 3 == 0 else certain[:-1]


def found(data):
    return [form for form in forms() if form in data]


def sent(kcat):
    """Good events, and one in four broken in its own way; gives how many are broken."""
    broken = 0
    for number, patient in enumerate(patients()):
        event = json.dumps(
            {
                "type": "PatientUpdated", "data": patient,
                "metadata": {
                    "eventId": marker("event"), "timestamp": "2026-01-02T03:04:05Z", "source": marker("source"),
                    "correlationId": marker("correlation"),
                },
            }
        )
        faults = [
            lambda text: text[:-30], lambda text: text.replace("PatientUpdated", marker("type")),
            lambda text: text.replace('"resourceType": "Patient"', f'"resourceType": "{marker("resource")}"'),
            lambda text: text.replace('"id": "CANARY', '"id": "/CANARY'), lambda text: text.replace(DATE, marker("date")),
            lambda text: text.replace('"gender": "other"', f'"gender": "{marker("gender")}"'),
        ]
        if number % 4 == 3:
            event = faults[(number // 4) % len(faults)](event)
            broken += 1
        kcat.write(
            TOPIC, event.encode(), patient["id"].encode(), number % 6,
            [
                ("x-upstream", marker("header").encode()), ("baggage", f"patient={marker('baggage')}".encode()),
                ("error", marker("error").encode()), ("retryCount", marker("count").encode()),
                ("triage-origin", marker("origin").encode()), ("triage-attempts", marker("attempts").encode()),
                ("traceparent", f"00-{number + 1:032x}-{number + 1:016x}-01".encode()),
                ("tracestate", f"pt={marker('state')}".encode()), ("triage-replay", marker("replay").encode()),
            ],
        )
    return broken


def privacy(report, room):
    """No marker in OTLP, the scrape, log lines, summaries and headers; ids only where `plain` asks for them."""
    for encoded in (CORE, base64.b64encode(b"x" + CORE + b"name"), base64.b64encode(b"xy" + CORE + b"n"), CORE.hex().encode()):
        report.check(f"the search finds {encoded[:16]!r}", found(b"before " + encoded + b" behind"))
    brokers = embedded_broker(room)
    kcat = Kcat(brokers)
    broken = sent(kcat)
    key = room.path("key")
    key.write_bytes(bytes(range(32)))
    for how in ("hashed", "omitted", "plain"):
        collector = Collector()
        room.closers.append(collector.close)
        arguments = ["--identifier-key-file", str(key)] if how == "hashed" else []
        run = room.triage(
            "run", "-b", brokers, "--group", f"privacy-{how}", "-o", "json", "--handler", "log", "--log-level", "trace",
            "--identifiers", how, "--http", "127.0.0.1:0", *arguments, name=f"run-{how}",
            environment=collector.environment(OTEL_LOGS_EXPORTER="otlp"),
        )
        port = wait_until("it tells its port", lambda: port_of(run.err()), 60)
        total = 51
        scrape = wait_until("all is handled", lambda: scraped(port, total), 60)
        run.signal(15)
        run.wait(60)
        otlp = b"".join(collector.traces() + collector.metrics() + collector.logs())
        places = {"OTLP": otlp, "the scrape": scrape, "stderr": run.err().encode(), "stdout": run.out().encode()}
        for place, data in places.items():
            report.check(f"{how}: there is something in {place}", data)
            if place == "OTLP":
                report.check(f"{how}: log records are among it", bool(collector.logs()))
            if how == "plain" and place == "OTLP":
                report.check("plain: the search finds the ids", b"CANARY-id-" in data)
                rest = data.replace(b"CANARY-id-", b"")
                report.check("plain: and nothing but the ids", not found(rest), found(rest))
            else:
                report.check(f"{how}: no marker in {place}", not found(data), found(data))
    dead = [message for message in kcat.read(TOPIC + ".dlq")]
    report.equal("dead letters, once for each group", len(dead), 3 * broken)
    foreign = {"x-upstream", "baggage", "tracestate"}
    ours = b"\n".join(name.encode() + b"=" + (value or b"") for message in dead for name, value in message.headers if name not in foreign)
    report.check("no marker in the headers we wrote", not found(ours), found(ours))
    hashed_search(report, room, brokers, key)


def hashed_search(report, room, brokers, key):
    """What `triage hash-id` prints is what the spans carry."""
    collector = Collector()
    room.closers.append(collector.close)
    room.finish(
        "run", "-b", brokers, "--group", "search", "-e", "--handler", "none", "--http", "off", "--identifier-key-file", str(key),
        environment=collector.environment(),
    )
    identifier = "CANARY-id-"
    data = b"".join(collector.traces())
    one = next(message.key for message in Kcat(brokers).read(TOPIC) if message.key.startswith(identifier.encode()))
    hashed = room.finish("hash-id", "--identifier-key-file", str(key), one.decode()).out().strip()
    report.check("hash-id prints what the spans carry", hashed.encode() in data and len(hashed) == 25, hashed)


def port_of(text):
    for line in text.splitlines():
        if "metrics and health: http://" in line:
            return int(line.rsplit(":", 1)[1].split("/")[0])
    return None


def scraped_metrics(port):
    status, _, body = fetch(f"http://127.0.0.1:{port}/metrics")
    if status != 200:
        raise Failed(f"/metrics answers {status}")
    return body


def scraped(port, total):
    body = scraped_metrics(port)
    processed = sum(
        float(line.rsplit(b" ", 1)[1]) for line in body.splitlines() if line.startswith(b"triage_events_processed_total{")
    )
    return body if processed >= total else None
