"""The command's manners: signals, exit statuses, what is said about a wrong value."""

import json
import re
import signal
import time

from collector import Collector
from harness import PATIENTS, fetch, free_port, parsed, wait_until
from parts import real_broker

# what is typed, and what must be said about it: the key, the value, a word of what was expected
USAGE = [
    (["run", "--retry", "sometimes"], ["retry", "sometimes", "exponential"]),
    (["run", "--retry", "immediate:-1"], ["retry", "-1", "0 to 100"]),
    (["run", "--concurrency", "0"], ["concurrency", "0", "1 to 10000"]),
    (["run", "--attempt-timeout", "soon"], ["attempt-timeout", "soon", "duration"]),
    (["run", "--http", "nowhere"], ["http", "nowhere", "host:port"]),
    (["run", "-t", "fhir.Patient.created.dlq"], ["topic", "fhir.Patient.created.dlq", "main topic"]),
    (["run", "-b", "host:notaport"], ["brokers", "host:notaport", "host:port"]),
    (["run", "-X", "acks=0"], ["acks", "0"]),
    (["run", "-X", "enable.auto.commit=true"], ["enable.auto.commit", "true"]),
    (["run", "-X", "no.such.property=1"], ["no.such.property"]),
    (["run", "-X", "novalue"], ["-X", "***", "name=value"]),
    (["run", "--handler", "magic"], ["handler", "magic", "log"]),
    (["run", "--identifiers", "loud"], ["identifiers", "loud", "hashed"]),
    (["run", "--webhook-token-file", "token.txt"], ["webhook-token-file", "webhooks beside it"]),
    (["run", "--command-token-file", "token.txt"], ["command-token-file", "accept-commands beside it"]),
    (["run", "--listen", "127.0.0.1:0"], ["listen", "webhooks or accept-commands beside it"]),
    (["run", "--fhir-server", "http://127.0.0.1:1"], ["fhir-server", "commands or webhooks beside it"]),
    (["run", "--deliver-to", "http://127.0.0.1:1/"], ["--deliver-to", "--handler http beside it"]),
    (["run", "--handler", "http"], ["--handler", "--deliver-to beside it"]),
    (["run", "--no-events", "--webhooks", "--handler", "none"], ["--handler", "no --no-events beside it"]),
    (["run", "--webhooks", "--listen", "0.0.0.0:0"], ["webhook-token-file", "or webhook-header"]),
    (["run", "--config", "/nonexistent.yaml"], ["config", "/nonexistent.yaml", "exists"]),
    (["demo", "--events", "0"], ["--events", "0", "from 1"]),
    (["demo", "--transient", "1.5"], ["--transient", "1.5", "0 to 1"]),
    (["demo", "-o", "xml"], ["output", "xml", "json"]),
    (["demo", "--nonsense"], ["--nonsense"]),
    (["publish", "--action", "created", "/nonexistent.ndjson"], ["/nonexistent.ndjson", "readable"]),
    (["publish", "--action", "merged", "-"], ["action", "merged", "created"]),
    (["topics", "create", "--partitions", "0"], ["--partitions", "0", "1 to 10000"]),
    (["topics", "create", "-t", "a b"], ["a b", "letters"]),
    (["status", "--watch", "soon"], ["--watch", "soon", "duration"]),
    (["status", "-t", "fhir.Patient.created.retry"], ["fhir.Patient.created.retry", "main topic"]),
    (["patient"], ["ID"]),
    (["patient", "--dead-letters", "-1", "example"], ["dead-letters"]),
    (["nonsense"], ["nonsense"]),
]


def signals(report, room):
    """SIGTERM and SIGINT, unreachable brokers, usage errors."""
    usage(report, room)
    unreachable(report, room)
    brokers = real_broker(room)
    room.finish("topics", "create", "-b", brokers)
    for number in (signal.SIGTERM, signal.SIGINT):
        stopped(report, room, brokers, number)


def usage(report, room):
    for arguments, words in USAGE:
        child = room.finish(*arguments, name="usage", seconds=20)
        said = child.err()
        report.check(
            f"triage {' '.join(arguments)}: exit 64, says {', '.join(words)}, nothing on stdout",
            child.process.returncode == 64 and all(word in said for word in words) and not child.out(),
            (child.process.returncode, child.out()[:200], said[:500]),
        )
    secret = room.path("secret")
    secret.write_text("hunter2secret\n")
    child = room.finish("run", "-X", f"sasl.password=@{secret}", "-X", "acks=0", name="usage", seconds=20)
    report.check("a secret is never printed", "hunter2secret" not in child.err() + child.out() and child.process.returncode == 64, child.err())
    for variables, arguments, words in (
        ({"TRIAGE_DELIVER_TO": "http://127.0.0.1:1/"}, [], ["deliver-to", "--handler http beside it"]),
        ({"TRIAGE_WEBHOK_TOKEN_FILE": "hunter2secret", "TRIAGE_SERVICE_HOST": "10.0.0.1"}, ["-X", "acks=0"],
         ["warning", "TRIAGE_WEBHOK_TOKEN_FILE (TRIAGE_WEBHOOK_TOKEN_FILE?)"]),
    ):
        child = room.finish("run", *arguments, name="usage", seconds=20, environment=variables)
        said = child.err()
        report.check(
            f"{' '.join(variables)}: says {', '.join(words)}", child.process.returncode == 64 and all(word in said for word in words), said)
        report.check("and neither a value nor what Kubernetes sets", "hunter2" not in said and "SERVICE_HOST" not in said, said)
    version = room.finish("--version", name="version", seconds=20)
    report.check("--version", re.fullmatch(r"\d+\.\d+\.\d+\S*\n", version.out()), version.out())
    for command in ([], ["demo"], ["run"], ["publish"], ["topics"], ["status"], ["patient"]):
        child = room.finish(*command, "--help", name="help", seconds=20)
        report.check(f"triage {' '.join([*command, '--help'])}: exit 0, with examples", child.process.returncode == 0 and "EXAMPLES" in child.out(), child.out())


def unreachable(report, room):
    brokers = f"127.0.0.1:{free_port()}"
    run = room.triage("run", "-b", brokers, "--http", "off", "-o", "json", environment={"OTEL_SDK_DISABLED": "true"})
    wait_until("run has begun", lambda: "group triage" in run.err(), 20)
    begin = time.monotonic()
    run.signal(signal.SIGTERM)
    status = run.wait(45)
    report.equal("SIGTERM without any broker: exit status", status, 0)
    report.check(f"it took {time.monotonic() - begin:.1f} s, less than the grace period", time.monotonic() - begin < 30)
    for arguments in (["topics", "check"], ["topics", "create"]):
        begin = time.monotonic()
        child = room.finish(*arguments, "-b", brokers, name="unreachable", seconds=60)
        report.check(
            f"triage {' '.join(arguments)} without any broker: exit 1 and a reason, after {time.monotonic() - begin:.1f} s",
            child.process.returncode == 1 and "Error" in child.err(), child.err(),
        )


def stopped(report, room, brokers, number):
    """A running service takes what comes, answers on its health endpoints, and ends cleanly."""
    name = signal.Signals(number).name
    collector = Collector()
    room.closers.append(collector.close)
    run = room.triage(
        "run", "-b", brokers, "--group", f"stop-{name}", "--handler", "log", "--http", "127.0.0.1:0", "-o", "json",
        environment=collector.environment(),
    )
    address = wait_until("run tells where /metrics is", lambda: re.search(r"(http://127\.0\.0\.1:\d+)/metrics", run.err()), 30).group(1)
    wait_until("run is ready", lambda: fetch(address + "/health/ready")[0] == 200, 30)
    report.equal(f"{name}: /health/live", fetch(address + "/health/live")[0], 200)
    published = room.finish("publish", "-b", brokers, "--action", "created", str(PATIENTS), "-o", "json")
    report.equal(f"{name}: published", parsed(published)["published"], 51)
    wait_until(
        "all events are counted on /metrics",
        lambda: sum(
            float(line.rsplit(" ", 1)[1]) for line in fetch(address + "/metrics")[2].decode().splitlines()
            if line.startswith("triage_events_processed_total{") and 'triage_outcome="completed"' in line
        ) >= 51, 30,
    )
    begin = time.monotonic()
    run.signal(number)
    status = run.wait(40)
    report.equal(f"{name}: exit status", status, 0)
    report.check(f"{name}: it took {time.monotonic() - begin:.1f} s, less than the grace period", time.monotonic() - begin < 30)
    summary = parsed(run)
    completed = summary["completed"]
    report.check(
        f"{name}: the summary is printed, all spans exported",
        completed >= 51 and summary["dead_lettered"] == 0 and summary["spans_dropped"] == 0 and summary["spans_exported"] > 2 * completed,
        summary,
    )
    after = room.finish(
        "run", "-b", brokers, "--group", f"stop-{name}", "--handler", "none", "--http", "off", "-e", "-o", "json",
        environment=collector.environment(),
    )
    report.equal(f"{name}: a clean stop leaves no duplicates: the next run consumes", json.loads(after.out())["consumed"], 0)
