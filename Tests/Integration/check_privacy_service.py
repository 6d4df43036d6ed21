"""The search for markers in everything that a live service says: to callers, collectors, scrapers, on stderr and in Kafka's headers."""

import signal

from check_capture import listening, secret
from check_privacy import found, port_of, scraped_metrics
from collector import Collector
from harness import wait_until
from marked_world import COMMAND_TOKEN, WEBHOOK_TOKEN, MarkedServer, commands, probes, refusals, request, status, told, webhooks
from parts import Kcat, real_broker
from spans import spans_of

EVENTS = [f"fhir.Patient.{action}" for action in ("created", "updated", "deleted")]
# In the name of the consumer group, which is no patient data and stands in all of them: the search must find it where it looks.
PLANTED = "CANARY-planted"


def privacy_service(report, room):
    """Webhooks, commands, fetches and deliveries of markers: none in telemetry, logs, answers and headers."""
    brokers = real_broker(room)
    made = room.finish("topics", "create", "-b", brokers, "--partitions", "1")
    report.equal("topics create", made.process.returncode, 0)
    for how in ("omitted", "hashed", "plain"):
        one(report, room, brokers, how)
    headers(report, Kcat(brokers))


def one(report, room, brokers, how):
    world = MarkedServer()
    collector = Collector()
    room.closers += [world.close, collector.close]
    key = room.path("key")
    key.write_bytes(bytes(range(32)))
    run = room.triage(
        "run", "-b", brokers, "--group", f"{PLANTED}-{how}", "-o", "json", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0",
        "--log-level", "trace", "--identifiers", how, *(["--identifier-key-file", str(key)] if how == "hashed" else []),
        "--webhooks", "--webhook-token-file", secret(room, "webhook-token", WEBHOOK_TOKEN), "--webhook-history", "1s",
        "--webhook-timeout", "10s", "--accept-commands", "--command-token-file", secret(room, "command-token", COMMAND_TOKEN),
        "--commands", "--command-events", "publish", "--fhir-server", world.base, "--handler", "http", "--deliver-to", world.receiver,
        "--retry", "immediate:1", "--outage-gate", "off", "--storm-breaker", "off", *trust(how), name=f"service-{how}",
        environment=collector.environment(OTEL_LOGS_EXPORTER="otlp", OTEL_BSP_SCHEDULE_DELAY="200"))
    port = int(listening(run).rsplit(":", 1)[1])
    admin = wait_until("it tells its port", lambda: port_of(run.err()), 60)
    answers(report, how, port, admin)
    scrape = wait_until("all that was taken in is worked off", lambda: settled(admin), 60)
    run.signal(signal.SIGTERM)
    report.equal(f"{how}: a clean stop", run.wait(60), 0)

    spans = spans_of(collector.traces())
    names = {span["name"] for span in spans}
    wanted = {
        "POST /webhooks/fhir", "PUT /webhooks/fhir/{type}/{id}", "DELETE /webhooks/fhir/{type}/{id}", "POST /commands",
        "GET /commands/{requestId}", "send fhir.commands", "process fhir.commands", "send fhir.Patient.created",
        "process fhir.Patient.created", "send fhir.Patient.created.dlq", "process fhir.commands", "send fhir.commands.dlq",
        "GET /Patient/{id}", "GET /Patient/_history", "POST /Patient", "PUT /Patient/{id}", "DELETE /Patient/{id}", "POST"}
    report.equal(f"{how}: spans of every step are among what is searched", wanted - names, set())
    report.check(f"{how}: and log records", bool(collector.logs()))
    report.check(f"{how}: and lines of the access log", " PUT /webhooks/fhir/{type}/{id} 200 in " in run.err(), run.err()[-500:])
    report.check(f"{how}: the servers said markers", {"delivery", "GET /CANARY-base/fhir/Patient/ID"} <= world.asked, world.asked)
    report.check(f"{how}: and were told them", any(found(body) for _, body in world.deliveries))
    sent = b"\n".join(f"{field}: {value}".encode() for fields, _ in world.deliveries for field, value in fields.items())
    places = {
        "OTLP": b"".join(collector.everything()), "the scrape": scrape, "stderr": run.err().encode(), "stdout": run.out().encode(),
        "the fields of deliveries": sent}
    for place, data in places.items():
        if place in ("OTLP", "the scrape", "stderr"):
            report.check(f"{how}: the search finds what is planted in {place}", PLANTED.encode() in data)
        rest = data.replace(PLANTED.encode(), b"")
        if how == "plain" and place == "OTLP":
            report.check("plain: the search finds the ids", b"CANARY-id-" in rest)
            # A command's key is its request id.
            rest = rest.replace(b"CANARY-id-", b"").replace(b"CANARY-request-", b"")
        if place == "the fields of deliveries":
            # The receiver is told which event it is, whom it is about, and the context that the caller sent along.
            for legitimate in (b"Triage-Resource: Patient/CANARY-id-", b'Idempotency-Key: "CANARY-ce', b"CANARY-state", b"CANARY-baggage"):
                rest = rest.replace(legitimate, b"")
        report.check(f"{how}: no marker in {place}", not found(rest), around(rest))


def trust(how):
    """Callers' traces are linked to in one run, and go on in the others."""
    return ["--webhook-trust", "link", "--command-trust", "link"] if how == "omitted" else []


def answers(report, how, port, admin):
    """What is answered has no marker, but for a command's own ids to whoever sent it."""
    unexpected, leaking, own_found = [], [], 0
    for ask, which in ((port, webhooks()), (port, refusals()), (admin, probes())):
        for what, data, expected in which:
            answer = told(ask, data)
            if expected and status(answer) not in expected:
                unexpected.append((what, status(answer), answer[-200:]))
            if found(answer.replace(PLANTED.encode(), b"")):
                leaking.append((what, answer[-400:]))
    for what, data, expected, own in commands():
        answer = told(port, data)
        if status(answer) not in expected:
            unexpected.append((what, status(answer), answer[-200:]))
        own_found += bool(own and own[0].encode() in answer)
        for text in own:
            answer = answer.replace(text.encode(), b"")
        # The server gives what it creates an id of its own: the caller is told that, too.
        answer = answer.replace(b"CANARY-id-created", b"") if own else answer
        if found(answer):
            leaking.append((what, answer[-400:]))
        if own and expected == {202}:
            later = told(port, request("GET", f"/commands/{own[0]}?wait=20s", token=COMMAND_TOKEN))
            report.equal(f"{how}: the status of a command", status(later), 200)
            stranger = told(port, request("GET", f"/commands/{own[0]}", token=WEBHOOK_TOKEN))
            report.check(f"{how}: to others nothing", status(stranger) == 401 and not found(stranger), stranger)
    report.none(f"{how}: each request is answered as it should be", unexpected)
    report.none(f"{how}: no marker in what is answered", leaking)
    report.check(f"{how}: the search finds the request id in what its sender is told", own_found > 5, own_found)


def settled(admin):
    """The scrape, once everything that was published has been processed, commands too."""
    text = scraped_metrics(admin)
    published = total(text, b"triage_events_captured_total{", b'triage_capture_result="published"')
    processed = total(text, b"triage_events_processed_total{")
    return text if published and processed >= published else None


def total(text, start, part=b""):
    return sum(float(line.rsplit(b" ", 1)[1]) for line in text.splitlines() if line.startswith(start) and part in line)


def headers(report, kcat):
    """What Triage wrote into headers of Kafka: only what W3C has passed on is others'."""
    ours = b""
    for topic in [*EVENTS, *(f"{topic}.dlq" for topic in EVENTS), "fhir.commands", "fhir.commands.dlq", "fhir.commands.results"]:
        for message in kcat.read(topic):
            ours += b"".join(
                name.encode() + b"=" + (value or b"") + b"\n" for name, value in message.headers if name not in ("tracestate", "baggage"))
    ours = ours.replace(PLANTED.encode(), b"")
    report.check("there are headers of ours in Kafka", b"traceparent=" in ours and b"error=" in ours)
    report.check("no marker in the headers we wrote", not found(ours), around(ours))


def around(data):
    """Some of the places where markers are."""
    forms = found(data)
    return [(form, data[max(0, data.find(form) - 150):data.find(form) + 100]) for form in forms[:3]]
