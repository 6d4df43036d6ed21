"""From a FHIR server's change to Kafka and on to a receiver, and back by commands; and what happens while Kafka is away."""

import json
import signal
import threading
import time
import urllib.error
import urllib.request
import uuid

from collector import Collector
from fhir_server import FHIR, FHIRServer, Receiver
from harness import Failed, fetch, parsed, wait_until
from parts import Kcat, real_broker
from spans import Forest, spans_of

WEBHOOK_TOKEN = "webhook-token-0123456789"
COMMAND_TOKEN = "command-token-0123456789"
CREATED, UPDATED, DELETED = (f"fhir.Patient.{action}" for action in ("created", "updated", "deleted"))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"


def patient(family):
    return {"resourceType": "Patient", "active": True, "gender": "female", "birthDate": "1990-02-03", "name": [{"family": family}]}


def secret(room, name, text):
    path = room.path(name)
    path.write_text(text + "\n")
    return str(path)


def created_topics(room, brokers):
    made = room.finish("topics", "create", "-b", brokers, "--partitions", "3")
    if made.process.returncode != 0:
        raise Failed(f"topics create: {made.err()}")


def listening(child, what="webhooks and commands: http://"):
    """Where a service takes requests, once it says so."""
    def address():
        if not child.is_running():
            raise Failed(f"it ends with {child.process.returncode}: {child.err()[-1500:]}")
        line = next((line for line in child.err().splitlines() if what in line), None)
        return line and "http://" + line.split("http://", 1)[1].split("/")[0].split()[0]
    return wait_until("it says where it listens", address, 60)


def service(room, brokers, collector, *arguments, name="run"):
    child = room.triage(
        "run", "-b", brokers, "--group", "clinic", "-o", "json", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--webhooks",
        "--webhook-token-file", secret(room, "webhook-token", WEBHOOK_TOKEN), *arguments, name=name,
        environment=collector.environment(OTEL_BSP_SCHEDULE_DELAY="200") if collector else None)
    return child, listening(child)


def post(url, body, headers=None, seconds=60, method="POST"):
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": FHIR, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def events(kcat, topic, identifier=None):
    found = [message for message in kcat.read(topic)]
    return [message for message in found if identifier is None or message.key == identifier.encode()]


def metadata(message):
    return json.loads(message.value)["metadata"]


def capture(report, room):
    """Patients created, updated and deleted on a real FHIR server: events, deliveries, commands, and one trace of it all."""
    brokers = real_broker(room)
    created_topics(room, brokers)
    kcat = Kcat(brokers)
    fhir = FHIRServer(room)
    collector = Collector()
    receiver = Receiver()
    room.closers += [collector.close, receiver.close]
    run, base = service(
        room, brokers, collector, "--fhir-server", fhir.base, "--fhir-token-file", secret(room, "fhir-token", fhir.TOKEN),
        "--webhook-history", "1s", "--commands", "--accept-commands", "--command-token-file",
        secret(room, "command-token", COMMAND_TOKEN), "--handler", "http", "--deliver-to", receiver.url)
    fhir.subscribe(
        f"{base}/webhooks/fhir", headers=[f"Authorization: Bearer {WEBHOOK_TOKEN}", f"traceparent: {CALLER}"])

    made = fhir.create(patient("First"))
    identifier = made["id"]
    wait_until("its creation is delivered", lambda: len(receiver.taken()) >= 1, 30)
    fhir.call("PUT", f"Patient/{identifier}", {**made, "active": False})
    wait_until("its update is delivered", lambda: len(receiver.taken()) >= 2, 30)
    fhir.call("DELETE", f"Patient/{identifier}")
    wait_until("its deletion is delivered", lambda: len(receiver.taken()) >= 3, 30)
    for topic, kind in ((CREATED, "PatientCreated"), (UPDATED, "PatientUpdated"), (DELETED, "PatientDeleted")):
        found = events(kcat, topic, identifier)
        if report.equal(f"events on {topic}", len(found), 1):
            report.equal("its type", json.loads(found[0].value)["type"], kind)
    report.equal(
        "what was delivered", [json.loads(body)["type"] for _, body in receiver.taken()],
        ["PatientCreated", "PatientUpdated", "PatientDeleted"])
    report.equal(
        "delivered as it stands in Kafka", receiver.taken()[0][1], events(kcat, CREATED, identifier)[0].value)

    commands(report, room, brokers, kcat, fhir, receiver, base)

    run.signal(signal.SIGTERM)
    report.equal("a clean stop", run.wait(60), 0)
    summary = parsed(run)
    report.equal("the command for another version alone is dead-lettered", summary["dead_lettered"], 1)
    traced(report, spans_of(collector.traces()), receiver, events(kcat, CREATED, identifier)[0])
    output = (run.err() + run.out()).encode()
    for place, data in {"OTLP": b"".join(collector.everything()), "what it says": output}.items():
        for text in (identifier.encode(), b"First", b"Second", b"1990-02-03"):
            report.check(f"no {text[:8]!r}… in {place}", text not in data)


def commands(report, room, brokers, kcat, fhir, receiver, base):
    """Commands make and change Patients once, answer, and are known by the events that come back."""
    before = len(receiver.taken())
    request = str(uuid.uuid4())
    file = room.path("second.json")
    file.write_text(json.dumps(patient("Second")))
    sent = room.finish("command", "create-patient", "-b", brokers, "--request-id", request, "--wait", "30s", str(file))
    report.equal("triage command create-patient", sent.process.returncode, 0)
    wait_until("the event comes back", lambda: len(receiver.taken()) > before, 30)
    back = [message for message in events(kcat, CREATED) if metadata(message)["correlationId"] == request]
    report.equal("events with the command's request id", len(back), 1)
    identifier = json.loads(back[0].value)["data"]["id"]
    again = room.finish("command", "create-patient", "-b", brokers, "--request-id", request, "--wait", "30s", str(file))
    report.equal("the same command again", again.process.returncode, 0)
    report.equal("Patients made by it", fhir.count(f"_tag=urn:triage:request-id%7C{request}"), 1)

    authorized = {"Authorization": f"Bearer {COMMAND_TOKEN}", "Content-Type": "application/json"}
    request = str(uuid.uuid4())
    current = fhir.call("GET", f"Patient/{identifier}")[2]
    body = {"type": "UpdatePatient", "data": {**current, "active": False}, "metadata": {"requestId": request, "source": "check"}}
    status, headers, answer = post(f"{base}/commands?wait=20s", json.dumps(body).encode(), authorized)
    report.equal("POST /commands?wait=20s", (status, json.loads(answer).get("status")), (200, "completed"))
    wait_until(
        "the update's event comes back", lambda: any(metadata(m)["correlationId"] == request for m in events(kcat, UPDATED)), 30)
    stale = {**body, "metadata": {"requestId": str(uuid.uuid4())}}
    status, headers, answer = post(f"{base}/commands?wait=20s", json.dumps(stale).encode(), authorized)
    report.equal("an update of a version that isn't current", (status, json.loads(answer).get("status")), (200, "failed"))
    status, headers, _ = post(f"{base}/commands", json.dumps({**body, "type": "DeletePatient"}).encode())
    report.equal("a command without the token", status, 401)
    request = str(uuid.uuid4())
    body = {"type": "DeletePatient", "data": {"resourceType": "Patient", "id": identifier}, "metadata": {"requestId": request}}
    status, headers, answer = post(f"{base}/commands", json.dumps(body).encode(), authorized)
    report.equal("POST /commands", status, 202)
    place = next(value for name, value in headers.items() if name.lower() == "location")

    def result():
        status, _, text = post(f"{base}{place}", None, authorized, method="GET")
        return status == 200 and json.loads(text)["status"] != "pending" and json.loads(text)

    report.equal("what its status URL says", wait_until("it has a result", result, 30)["status"], "completed")
    report.equal("the Patient is gone", fhir.call("GET", f"Patient/{identifier}", expected=())[0], 410)
    wait_until("the delete's event comes back", lambda: events(kcat, DELETED, identifier), 30)
    report.equal(
        "the delete's event has the command's request id",
        [metadata(message)["correlationId"] for message in events(kcat, DELETED, identifier)], [request])


def traced(report, spans, receiver, record):
    """One trace from the server's call to the receiver."""
    forest = Forest(spans)
    mine = [span for span in spans if span["traceId"] == TRACE]
    servers = [span for span in mine if span["kind"] == "SERVER" or span["kind"] == 2]
    report.check("SERVER spans stand under the caller's context", servers and all(
        span["parentSpanId"] == "00f067aa0ba902b7" and span["name"] == "POST /webhooks/fhir" for span in servers), servers[:1])
    arrived = receiver.taken()[0][0].get("traceparent", "")
    delivered = forest.by_id.get((arrived[3:35], arrived[36:52]))
    if not report.check("the receiver's traceparent is a span's", delivered is not None, arrived):
        return
    names, at = [], delivered
    while at is not None:
        names.insert(0, at["name"])
        last, at = at, forest.parent(at)
    report.equal(
        "the way by parents alone", names,
        ["POST /webhooks/fhir", f"send {CREATED}", f"process {CREATED}", "attempt", "POST"])
    report.equal("up to the caller", last["parentSpanId"], "00f067aa0ba902b7")
    report.equal("in the caller's trace", arrived[3:35], TRACE)
    report.equal("the record carries it as well", record.text("traceparent")[3:35], TRACE)


def shapes(report, room):
    """id-only, empty and classic notifications of a real server: what isn't told is fetched."""
    brokers = real_broker(room)
    created_topics(room, brokers)
    kcat = Kcat(brokers)
    for name, notify, subscribe in (
        ("id-only", "put-resource", lambda fhir, url, headers: fhir.subscribe(url, "id-only", headers)),
        ("empty", "put-resource", lambda fhir, url, headers: fhir.subscribe(url, "empty", headers)),
        ("classic PUT", "put-resource", lambda fhir, url, headers: fhir.subscribe_classic(url, FHIR, headers)),
        ("classic POST", "post-endpoint", lambda fhir, url, headers: fhir.subscribe_classic(url, FHIR, headers)),
        ("classic empty", "put-resource", lambda fhir, url, headers: fhir.subscribe_classic(url, None, headers)),
    ):
        fhir = FHIRServer(room, notify)
        child, base = service(
            room, brokers, None, "--fhir-server", fhir.base, "--fhir-token-file", secret(room, "fhir-token", fhir.TOKEN),
            "--handler", "none", name=f"run-{name.replace(' ', '-')}")
        subscribe(fhir, f"{base}/webhooks/fhir", [f"Authorization: Bearer {WEBHOOK_TOKEN}"])
        made = fhir.create(patient(name))
        wait_until(f"{name}: the creation arrives", lambda: events(kcat, CREATED, made["id"]), 30)
        fhir.call("PUT", f"Patient/{made['id']}", {**made, "active": False})
        wait_until(f"{name}: the update arrives", lambda: events(kcat, UPDATED, made["id"]), 30)
        found = events(kcat, CREATED, made["id"])
        report.equal(f"{name}: events of the creation", len(found), 1)
        report.equal(f"{name}: with the whole resource", json.loads(found[0].value)["data"]["name"], made["name"])
        child.signal(signal.SIGTERM)
        report.equal(f"{name}: a clean stop", child.wait(60), 0)
        fhir.child.end()


def notification(number, identifier, version="1"):
    """An Aidbox notification of one created Patient."""
    resource = {**patient("Outage"), "id": identifier, "meta": {"versionId": version}}
    return json.dumps({
        "resourceType": "Bundle", "type": "history", "timestamp": "2026-01-01T00:00:00Z", "entry": [
            {"resource": {
                "resourceType": "AidboxSubscriptionStatus", "status": "active", "type": "event-notification",
                "notificationEvent": [{"eventNumber": number, "focus": {"reference": f"Patient/{identifier}"}}],
                "topic": "http://example.org/patient", "topic-destination": {"reference": "AidboxTopicDestination/k"}}},
            {"fullUrl": f"http://aidbox/fhir/Patient/{identifier}", "request": {"method": "POST", "url": "/fhir/Patient"},
             "resource": resource},
        ]}).encode()


def outage(report, room, away=60):
    """Kafka doesn't answer for a minute during a stream of webhooks: 2xx is in Kafka, all else got 503, nothing is there twice.

    Half of the callers send again what was answered 503, as FHIR servers do: each of their changes is in Kafka in the end, and all
    copies of it have one event id, by which consumers know them.
    """
    brokers = real_broker(room)
    broker = room.children[-1]
    created_topics(room, brokers)
    child, base = service(room, brokers, None, "--no-events", "--webhook-timeout", "5s", name="capture")
    answers, resent, lock, ended = {}, {}, threading.Lock(), threading.Event()

    def stream(thread):
        number = 0
        while not ended.is_set():
            number += 1
            identifier = f"o-{thread}-{number}"
            body = notification(number, identifier)
            status, headers, _ = post(f"{base}/webhooks/fhir", body, {"Authorization": f"Bearer {WEBHOOK_TOKEN}"})
            with lock:
                answers[identifier] = (status, {name.lower() for name in headers})
            if thread % 2 and status == 503:
                again(identifier, body)
            time.sleep(0.02)

    def again(identifier, body):
        """Until it is taken, at most as long as Kafka is away and a little longer; notes the last status."""
        deadline = time.monotonic() + away + 60
        status, tries = 503, 0
        while status != 200 and time.monotonic() < deadline:
            time.sleep(0.5)
            tries += 1
            status = post(f"{base}/webhooks/fhir", body, {"Authorization": f"Bearer {WEBHOOK_TOKEN}"})[0]
        with lock:
            resent[identifier] = (status, tries)

    admin = listening(child, "metrics and health: http://")

    def health(probe, status, word=b""):
        found = fetch(f"{admin}/health/{probe}")
        return found[0] == status and word in found[2]

    wait_until("it is ready", lambda: health("ready", 200), 30)
    threads = [threading.Thread(target=stream, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    wait_until("some are answered", lambda: len(answers) > 100, 30)
    broker.signal(signal.SIGSTOP)
    begin = time.monotonic()
    try:
        wait_until("it isn't ready", lambda: health("ready", 503, b'["not_producing"]'), away)
        report.check("no restart would help", health("live", 200))
        time.sleep(max(0, begin + away - time.monotonic()))
        report.check("it isn't ready as long as Kafka is away", health("ready", 503))
    finally:
        broker.signal(signal.SIGCONT)
    wait_until("it is ready again", lambda: health("ready", 200), 40)
    seen = len(answers)
    wait_until("it goes on afterwards", lambda: sum(status == 200 for status, _ in list(answers.values())[seen:]) > 100, 60)
    ended.set()
    for thread in threads:
        thread.join(timeout=90)
    child.signal(signal.SIGTERM)
    report.equal("a clean stop", child.wait(60), 0)
    statuses = {}
    for status, _ in answers.values():
        statuses[status] = statuses.get(status, 0) + 1
    report.note(f"answers by status: {statuses}")
    report.equal("answers are 200 and 503 only", set(statuses), {200, 503})
    report.none(
        "503 says when to try again", [name for name, (status, headers) in answers.items() if status == 503 and "retry-after" not in headers])
    kept, ids = {}, {}
    for message in Kcat(brokers).read(CREATED):
        name = message.key.decode()
        kept[name] = kept.get(name, 0) + 1
        ids.setdefault(name, set()).add(metadata(message)["eventId"])
    report.none("answered with 200 and not in Kafka", [name for name, (status, _) in answers.items() if status == 200 and name not in kept])
    report.none("in Kafka twice without being sent again", [name for name, count in kept.items() if count > 1 and name not in resent])
    report.check("some were sent again", len(resent) > 1, resent)
    report.none("sent again and never taken", [(name, status) for name, (status, _) in resent.items() if status != 200])
    report.none("sent again, and not one event id in Kafka", [name for name in resent if len(ids.get(name, ())) != 1])
    every = [identifier for found in ids.values() for identifier in found]
    report.equal("event ids of different changes are different", len(set(every)), len(every))
    copies = sum(kept[name] - 1 for name in resent if name in kept)
    summary = parsed(room.finish(
        "run", "-b", brokers, "--group", "consumer", "-e", "-o", "json", "--handler", "none", "--http", "off", "--dedupe-window", "100000",
        name="consumer", environment={"OTEL_SDK_DISABLED": "true"}))
    report.equal(
        "a consumer with a window handles each once", (summary["completed"], summary["deduplicated"]), (len(kept), copies))
    report.note(f"{len(resent)} sent again, {sum(tries for _, tries in resent.values())} times; {copies} further copies in Kafka")
