"""Bad input: each record ends in the dead letter topic with its bytes intact, or is handled where it is legal."""

import json

from collector import Collector
from harness import parsed
from parts import Kcat, embedded_broker, real_broker
from spans import Forest, spans_of

TOPIC = "fhir.Patient.updated"
TRACE = b"0af7651916cd43dd8448eb211c80319c"
CONTEXT = b"00-" + TRACE + b"-b7ad6b7169203331-01"


def resource(**changes):
    patient = {"resourceType": "Patient", "id": "example", "active": True, "name": [{"family": "Chalmers", "given": ["Peter"]}]}
    patient.update(changes)
    return {key: value for key, value in patient.items() if value is not None}


def envelope(data, type_="PatientUpdated"):
    return json.dumps(
        {
            "type": type_, "data": data,
            "metadata": {
                "eventId": "5f0c1e52-0d0c-4dbd-9d4a-0c1b4a3a2f10", "timestamp": "2026-01-02T03:04:05.678Z", "source": "test",
                "correlationId": "0b8f1c5e-6f0e-4f3b-8f0e-1f2d3c4b5a69",
            },
        }
    ).encode()


GOOD = envelope(resource())
LARGE = resource(photo=[{"contentType": "image/png", "data": "A" * (2 << 20)}])

# name, what is sent, whether it is legal
CASES = [
    ("null value without key", {"value": None}, False),
    ("null value with key (deletes)", {"value": None, "key": b"example"}, True),
    ("empty value", {"value": b"", "key": b"example"}, False),
    ("only white space", {"value": b" \n\t ", "key": b"example"}, False),
    ("invalid UTF-8", {"value": GOOD.replace(b"Chalmers", b"Chal\xff\xfers"), "key": b"example"}, False),
    ("truncated JSON", {"value": GOOD[: len(GOOD) // 2], "key": b"example"}, False),
    ("two JSON values", {"value": GOOD + GOOD, "key": b"example"}, False),
    ("no JSON", {"value": b"\x00\x01\x02 binary", "key": b"example"}, False),
    ("trailing comma", {"value": b'{"resourceType":"Patient","id":"example",}', "key": b"example"}, False),
    ("100,000 nested arrays", {"value": b"[" * 100_000 + b"]" * 100_000, "key": b"example"}, False),
    (
        "100,000 nested arrays in an element",
        {"value": b'{"resourceType":"Patient","id":"example","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "key": b"example"}, False,
    ),
    ("missing resourceType", {"value": envelope(resource(resourceType=None))}, False),
    ("foreign resourceType", {"value": envelope(resource(resourceType="Observation"))}, False),
    ("id with a slash", {"value": envelope(resource(id="a/b"))}, False),
    ("id of 65 characters", {"value": envelope(resource(id="a" * 65))}, False),
    ("update without id", {"value": envelope(resource(id=None))}, False),
    ("unknown action", {"value": envelope(resource(), "PatientMerged")}, False),
    ("unknown gender", {"value": envelope(resource(gender="x"))}, False),
    ("birth date of no calendar", {"value": envelope(resource(birthDate="2023-02-29"))}, False),
    ("a number where an object must be", {"value": b"42"}, False),
    ("unknown element", {"value": envelope(resource(favouriteColour={"red": [1, None, {"deep": True}]}))}, True),
    ("malformed traceparent", {"value": GOOD, "headers": [("traceparent", b"00-" + TRACE.upper() + b"-b7ad6b7169203331-01")]}, True),
    ("traceparent of zeros", {"value": GOOD, "headers": [("traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01")]}, True),
    ("duplicate traceparent", {"value": GOOD, "headers": [("traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"), ("traceparent", CONTEXT)]}, True),
    ("oversized traceparent", {"value": GOOD, "headers": [("traceparent", CONTEXT + b"-" + b"x" * 60_000)]}, True),
    ("oversized tracestate", {"value": GOOD, "headers": [("traceparent", CONTEXT), ("tracestate", b"a=" + b"b" * 60_000)]}, True),
    ("null traceparent", {"value": GOOD, "headers": [("traceparent", None)]}, True),
    ("binary traceparent", {"value": GOOD, "headers": [("traceparent", b"\xff\xfe\xfd" * 20)]}, True),
    ("headers with null and binary values", {"value": GOOD, "headers": [("empty", None), ("bytes", b"\xff\x80\x01"), ("bytes", b"\xc3\x28")]}, True),
    (
        "bad value, headers with null and binary values",
        {"value": GOOD[:-3], "key": b"\xff\x00\xfe".replace(b"\x00", b"\x01"), "headers": [("empty", None), ("bytes", b"\xff\x80\x01"), ("bytes", b"\xc3\x28")]}, False,
    ),
    (
        "headers of ours with foreign text",
        {
            "value": GOOD[:-3],
            "headers": [
                ("retryCount", b"many"), ("triage-origin", b"\xff/x/y"), ("triage-due-at", b"99999999999999999999"),
                ("triage-attempts", b";;;=" * 2000), ("traceparent", CONTEXT),
            ],
        },
        False,
    ),
]
# A broker takes these only if it is told to; the embedded one does.
LARGE_CASES = [
    ("a 2 MiB event", {"value": envelope(LARGE), "key": b"example"}, True),
    ("a truncated 2 MiB event", {"value": envelope(LARGE)[:-2], "key": b"example"}, False),
]


def bad_input(report, room):
    """Null, empty, broken, deep, large, foreign and oddly headed records, each followed by a good one."""
    report.note("embedded broker")
    through(report, room, embedded_broker(room), CASES + LARGE_CASES)
    report.note("real broker")
    brokers = real_broker(room)
    room.finish("topics", "create", "-b", brokers)
    through(report, room, brokers, CASES)
    publish_refuses(report, room, brokers)


def through(report, room, brokers, cases):
    kcat = Kcat(brokers)
    sent = []
    for number, (name, record, legal) in enumerate(cases):
        partition = number % 6
        kcat.write(TOPIC, record["value"], record.get("key"), partition, record.get("headers", ()))
        kcat.write(TOPIC, GOOD.replace(b"Chalmers", b"Good%03d" % number), b"good", partition)
        sent.append((name, record, legal, partition))
    written = {}
    for message in kcat.read(TOPIC):
        written.setdefault(message.partition, []).append(message)
    report.equal("kcat wrote what it should", sum(map(len, written.values())), 2 * len(cases))

    collector = Collector()
    room.closers.append(collector.close)
    run = room.finish(
        "run", "-b", brokers, "--group", "bad-input", "-e", "-o", "json", "--handler", "log", "--log-level", "notice", "--http", "off",
        environment=collector.environment(), seconds=90,
    )
    report.equal("run -e exits with", run.process.returncode, 0)
    log = run.err()
    summary = parsed(run)
    report.note(f"summary: {summary}")
    dead = {message.text("triage-origin"): message for message in kcat.read(TOPIC + ".dlq")}
    spans = Forest(spans_of(collector.traces()))
    places = dict.fromkeys(range(6), 0)
    for number, (name, record, legal, partition) in enumerate(sent):
        pair = written[partition][places[partition]:places[partition] + 2]
        places[partition] += 2
        one(report, name, record, legal, pair, dead, log)
    expected = sum(not legal for _, _, legal, _ in sent)
    report.equal(
        "counts", {k: summary[k] for k in ("consumed", "completed", "dead_lettered", "retries")},
        {"consumed": 2 * len(sent), "completed": 2 * len(sent) - expected, "dead_lettered": expected, "retries": 0},
    )
    contexts(report, sent, written, spans)
    text = log + json.dumps(spans.spans)
    report.none("no payload in the log or in spans", [word for word in ("Chalmers", "Chal", "Peter", "favouriteColour") if word in text])


def one(report, name, record, legal, pair, dead, log):
    bad, good = pair
    letter = dead.get(bad.position)
    good_handled = f"{good.position} attempt 1" in log
    if legal:
        report.check(
            f"{name}: handled, and the next good event too", letter is None and f"{bad.position} attempt 1" in log and good_handled,
            (bad.position, letter and letter.headers, log[-500:]),
        )
        return
    foreign = [h for h in record.get("headers", ()) if h[0] in ("empty", "bytes")]
    faults = []
    if letter is None:
        faults.append("no dead letter")
    else:
        if letter.value != record["value"] or letter.key != bad.key:
            faults.append(f"bytes differ: key {letter.key!r}, value {letter.value and letter.value[:100]!r}")
        if [h for h in letter.headers if h[0] in ("empty", "bytes")] != foreign:
            faults.append(f"foreign headers differ: {letter.headers}")
        if letter.partition != bad.partition or letter.text("triage-error-class") != "persistent" or letter.text("retryCount") != "0":
            faults.append(f"{letter.position} {letter.headers}")
        if len(set(letter.names()) - {"bytes"}) != len([n for n in letter.names() if n != "bytes"]):
            faults.append(f"a header twice: {letter.names()}")
        if "triage-due-at" in letter.names():
            faults.append("triage-due-at on a dead letter")
    if not good_handled:
        faults.append("the next good event was not handled")
    report.check(f"{name}: dead-lettered with its bytes ({letter.text('error') if letter else '-'}), the next good event handled", not faults, faults)


def contexts(report, sent, written, spans):
    """A process span continues a valid context and begins a new trace for any other."""
    by_place = {
        (span["attributes"].get("messaging.destination.partition.id"), span["attributes"].get("messaging.kafka.offset")): span
        for span in spans.named("process ")
    }
    faults = []
    places = dict.fromkeys(range(6), 0)
    for name, record, _, partition in sent:
        message = written[partition][places[partition]]
        places[partition] += 2
        span = by_place.get((str(partition), message.offset))
        # Of several the last counts: a forwarded record carries the stale one first. A later part of version 00 makes it invalid.
        continues = name in ("duplicate traceparent", "oversized tracestate", "headers of ours with foreign text")
        if span is None or (span["traceId"] == TRACE.decode()) != continues or bool(span["parentSpanId"]) != continues:
            faults.append((name, span and span["traceId"], span and span["parentSpanId"]))
    report.none("valid contexts are continued, others begin a new trace", faults)


def publish_refuses(report, room, brokers):
    """`triage publish` names a bad line by its number."""
    file = room.path("mixed.ndjson")
    good = json.dumps(resource(id="a"))
    file.write_text(f'{good}\n{{"resourceType":"Patient","id":"a/b"}}\n{good}\nnonsense\n{good}\n')
    stops = room.finish("publish", "-b", brokers, "--action", "updated", str(file), "-o", "json")
    report.check(
        "publish stops at a bad line and names it, exit 1",
        stops.process.returncode == 1 and parsed(stops) == {"published": 1, "failed": 1} and "line 2:" in stops.err()
        and "a/b" not in stops.err(), stops.out() + stops.err(),
    )
    goes_on = room.finish("publish", "-b", brokers, "--action", "updated", "--keep-going", str(file), "-o", "json")
    report.check(
        "publish --keep-going publishes the rest, names both, exit 1",
        goes_on.process.returncode == 1 and parsed(goes_on) == {"published": 3, "failed": 2}
        and "line 2:" in goes_on.err() and "line 4:" in goes_on.err(), goes_on.out() + goes_on.err(),
    )
