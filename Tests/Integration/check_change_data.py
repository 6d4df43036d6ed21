"""What Debezium and outbox routers write, in each of its shapes, published as events by `triage run --change-data-topic`."""

import json

from check_capture import created_topics
from harness import parsed
from parts import Kcat, real_broker

CREATED, UPDATED, DELETED = (f"fhir.Patient.{action}" for action in ("created", "updated", "deleted"))
TABLE, AIDBOX, OUTBOX = "db.public.patient", "aidbox.public.patient", "outbox.event.Patient"
TOPICS = (TABLE, AIDBOX, OUTBOX)
TIME = 1700000000000


def patient(identifier, **more):
    return {"resourceType": "Patient", "id": identifier, "gender": "female", "birthDate": "1990-02-03", **more}


def change(op, place, before=None, after=None, table="patient"):
    """A change of PostgreSQL."""
    return {
        "before": before, "after": after, "op": op, "ts_ms": TIME + place, "source": {
            "connector": "postgresql", "db": "d", "schema": "public", "table": table, "txId": 500 + place, "lsn": 24023128 + place,
            "ts_ms": TIME + place, "snapshot": False}}


def with_schema(value):
    return {"schema": {"type": "struct", "fields": [{"type": "string", "field": "op"}]}, "payload": value}


def row(identifier, version, **more):
    """A row of Aidbox: the resource without id and type as a string of JSON."""
    resource = {"gender": "male", "name": [{"family": "Muster"}]}
    return {"id": identifier, "txid": version, "ts": "2026-01-01T00:00:00Z", "resource_type": "Patient", "status": "created",
            "resource": json.dumps(resource), **more}


class Records:
    """Writes records and keeps what each must become: (topic, id) or the dead letter's rule; None is nothing."""

    def __init__(self, kcat):
        self.kcat = kcat
        self.expected = []
        self.dead = []
        self.written = {topic: 0 for topic in TOPICS}

    def put(self, topic, value, key, becomes=None, dead=None, headers=()):
        data = None if value is None else value if isinstance(value, bytes) else json.dumps(value).encode()
        self.kcat.write(topic, data, key.encode(), 0, headers)
        self.written[topic] += 1
        if becomes:
            self.expected.append(becomes)
        if dead:
            self.dead.append((topic + ".dlq", dead))


def tables(records):
    """Bare, with a schema, tombstones, key changes, snapshots, truncations, and what is broken."""
    def put(*arguments, **named):
        records.put(TABLE, *arguments, **named)

    put(change("c", 1, after=patient("p1")), '{"id":"p1"}', (CREATED, "p1"))
    put(with_schema(change("u", 2, before=patient("p1"), after=patient("p1", active=True))), '{"payload":{"id":"p1"}}', (UPDATED, "p1"))
    # A delete whose `before` is the key alone, and the tombstone that follows it.
    put(change("d", 3, before={"id": "p1"}), '{"id":"p1"}', (DELETED, "p1"))
    put(None, '{"id":"p1"}')
    put(with_schema(change("d", 4, before=patient("p2"))), '{"id":"p2"}', (DELETED, "p2"))
    put(change("r", 5, after=patient("p3")), '{"id":"p3"}', (UPDATED, "p3"))
    # A key change: a delete, a tombstone, and a create under the new key.
    put(change("d", 6, before=patient("p4")), '{"id":"p4"}', (DELETED, "p4"), headers=[("__debezium.newkey", b'{"id":"p5"}')])
    put(None, '{"id":"p4"}')
    put(change("c", 7, after=patient("p5")), '{"id":"p5"}', (CREATED, "p5"), headers=[("__debezium.oldkey", b'{"id":"p4"}')])
    put({"op": "t", "ts_ms": TIME, "source": {"connector": "postgresql", "table": "patient"}}, "{}")
    put({"op": "m", "ts_ms": TIME, "source": {"connector": "postgresql"}, "message": {"prefix": "x"}}, "{}")
    put(change("c", 8, after={"resourceType": "Observation", "id": "o1"}, table="observation"), '{"id":"o1"}')
    put(change("c", 9, after={"name": "no resource"}), '{"id":"p6"}', dead="row_without_resource")
    put(change("x", 10, after=patient("p7")), '{"id":"p7"}', dead="unknown_action")
    put(change("c", 11, after=patient("p8", birthDate="tomorrow")), '{"id":"p8"}', dead="invalid_birth_date")
    put(b'{"op":"c","after":', '{"id":"p9"}', dead="invalid_json")


def aidbox(records):
    """Rows whose jsonb is a string of JSON."""
    def put(*arguments, **named):
        records.put(AIDBOX, *arguments, **named)

    put(change("c", 20, after=row("a1", 41)), '{"id":"a1"}', (CREATED, "a1"))
    put(with_schema(change("u", 21, before=row("a1", 41), after=row("a1", 42, status="updated"))), '{"id":"a1"}', (UPDATED, "a1"))
    put(change("u", 22, after=row("a1", 43, status="deleted")), '{"id":"a1"}', (DELETED, "a1"))
    put(change("u", 23, after=row("a2", 44, resource="__debezium_unavailable_value")), '{"id":"a2"}', dead="row_without_resource")
    put(change("c", 24, after=row("a3", 45, resource_type="Practitioner")), '{"id":"a3"}')


def outbox(records):
    """The payload alone, as it is and as an escaped string; what happened by a header, by the event, by the version."""
    def put(*arguments, **named):
        records.put(OUTBOX, *arguments, **named)

    first = "11111111-1111-4111-8111-111111111111"
    put(patient("b1"), "b1", (CREATED, "b1"), headers=[("id", first.encode()), ("eventType", b"PatientCreated")])
    put(json.dumps(patient("b2", meta={"versionId": "2"})), "b2", (UPDATED, "b2"))
    event = {"type": "PatientDeleted", "data": {"resourceType": "Patient", "id": "b3"}, "metadata": {
        "eventId": "22222222-2222-4222-8222-222222222222", "timestamp": "2026-01-01T00:00:00Z", "source": "x", "correlationId": "y"}}
    put(event, "b3", (DELETED, "b3"))
    return first


def change_data(report, room):
    """Each shape becomes its event once, with its id; offsets are committed, so that a restart publishes nothing again."""
    brokers = real_broker(room)
    created_topics(room, brokers)
    for topic in TOPICS:
        made = room.finish("topics", "create", "-b", brokers, "-t", topic, "--partitions", "1")
        report.equal(f"topics create -t {topic}", made.process.returncode, 0)
    kcat = Kcat(brokers)
    records = Records(kcat)
    tables(records)
    aidbox(records)
    first = outbox(records)

    def run(name):
        arguments = [argument for topic in TOPICS for argument in ("--change-data-topic", topic)]
        child = room.finish(
            "run", "-b", brokers, "--group", "cdc", "--no-events", *arguments, "--http", "off", "-e", "-o", "json", name=name,
            environment={"OTEL_SDK_DISABLED": "true"})
        report.equal(f"{name}: ends", child.process.returncode, 0)
        return parsed(child)

    summary = run("first run")
    report.equal("records consumed", summary["consumed"], sum(records.written.values()))
    report.equal("dead-lettered", summary["dead_lettered"], len(records.dead))
    published = events(kcat)
    report.equal("events", sorted(published), sorted(records.expected))
    report.equal(
        "dead letters by rule",
        sorted((topic + ".dlq", rule(message)) for topic in TOPICS for message in kcat.read(topic + ".dlq")), sorted(records.dead))
    contents(report, kcat, first)
    committed(report, records, room, brokers)

    # The connector says the first one again, as it does after a crash: published again, under the same event id.
    records.put(TABLE, change("c", 1, after=patient("p1")), '{"id":"p1"}', (CREATED, "p1"))
    summary = run("after a restart")
    report.equal("only what is new is consumed", summary["consumed"], 1)
    report.equal("nothing else is published twice", sorted(events(kcat)), sorted(records.expected))
    ids = [metadata(message)["eventId"] for message in kcat.read(CREATED) if message.key == b"p1"]
    report.check("what the connector repeats has the same event id", len(ids) == 2 and ids[0] == ids[1], ids)
    report.equal("with nothing new nothing is done", run("once more")["consumed"], 0)


def events(kcat):
    return [(topic, message.key.decode()) for topic in (CREATED, UPDATED, DELETED) for message in kcat.read(topic)]


def metadata(message):
    return json.loads(message.value)["metadata"]


def rule(message):
    return (message.text("error") or "").removeprefix("InvalidEvent ").split(" ")[0]


def contents(report, kcat, first):
    """What the events say."""
    found = {(topic, message.key.decode()): json.loads(message.value) for topic in (CREATED, UPDATED, DELETED) for message in kcat.read(topic)}
    report.equal("the whole resource", found[CREATED, "p1"]["data"], patient("p1"))
    report.equal("when the database says", found[CREATED, "p1"]["metadata"]["timestamp"], "2023-11-14T22:13:20.001Z")
    report.equal(
        "Aidbox's columns are filled in", found[CREATED, "a1"]["data"].get("meta"),
        {"versionId": "41", "lastUpdated": "2026-01-01T00:00:00Z"})
    report.equal("with id and type", (found[CREATED, "a1"]["data"]["id"], found[CREATED, "a1"]["data"]["resourceType"]), ("a1", "Patient"))
    report.equal("jsonb as a string", found[UPDATED, "a1"]["data"]["name"], [{"family": "Muster"}])
    report.equal("the outbox's id is the event's", found[CREATED, "b1"]["metadata"]["eventId"], first)
    report.equal("an escaped string", found[UPDATED, "b2"]["data"]["meta"], {"versionId": "2"})
    report.equal("an event's own id", found[DELETED, "b3"]["metadata"]["eventId"], "22222222-2222-4222-8222-222222222222")
    every = [event["metadata"]["eventId"] for event in found.values()]
    report.equal("event ids are different", len(set(every)), len(every))


def committed(report, records, room, brokers):
    """The group has worked each topic to its end, by the brokers' word."""
    for topic in TOPICS:
        status = room.finish("status", "-b", brokers, "-g", "cdc-change-data", "-t", topic, "-o", "json", name="status")
        partitions = parsed(status)["partitions"]
        report.equal(
            f"{topic}: committed to its end", [(one["committed"], one["end"]) for one in partitions],
            [(records.written[topic], records.written[topic])])
