"""`triage_dead_letter_size` and `triage status` on a real broker: what an import brings is open, and what was discarded isn't."""

import json
import signal

from check_privacy import port_of, scraped_metrics
from dead_letter_repairs import real_broker_beside
from harness import parsed, wait_until
from parts import Kcat, real_broker

GROUP = "backlog"
TOPIC = "fhir.Patient.created"
DLQ = f"{TOPIC}.dlq"


def backlog(report, room):
    brokers, other = real_broker(room), real_broker_beside(room)
    quiet = {"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}

    def ask(*words, at=other):
        child = room.finish(*words, "-b", at, "-g", GROUP, seconds=60, environment=quiet)
        report.check(f"{' '.join(words[:2])}: exit 0", child.process.returncode == 0, child.err())
        return child

    for at in (brokers, other):
        room.finish("topics", "create", "-b", at, "--partitions", "3")
    kcat = Kcat(brokers)
    for number in range(6):
        kcat.write(
            DLQ, b"{}", key=f"p{number}".encode(), partition=number % 3, headers=[
                ("triage-origin", f"{TOPIC}/{number % 3}/{number}".encode()), ("triage-group", GROUP.encode()), ("error", b"Failed"),
                ("triage-error-class", b"persistent")])
    # The import is a transaction, so a marker stands behind it in each partition.
    file = room.path("letters.ndjson")
    file.write_text(ask("dlq", "export", "--all", at=brokers).out())
    report.equal("exported", len(file.read_text().splitlines()), 6)
    ask("dlq", "import", str(file), "--execute")
    Kcat(other).write(DLQ, b"{}", key=b"x", partition=0, headers=[("triage-group", b"another")])

    run = room.triage(
        "run", "-b", other, "-g", GROUP, "-t", TOPIC, "--handler", "none", "--http", "127.0.0.1:0", environment=quiet)
    admin = wait_until("it tells its port", lambda: port_of(run.err()), 60)

    def size():
        lines = [line for line in scraped_metrics(admin).decode().splitlines() if line.startswith("triage_dead_letter_size{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines) if lines else None

    wait_until("the gauge: the six that were imported, without markers and without another group's", lambda: size() == 6, 60)
    report.equal("status counts the same", sum(p["dead_letters"] for p in parsed(ask("status", "-o", "json"))["partitions"]), 6)
    done = json.loads(ask("dlq", "discard", "--all", "--reason", "check", "--execute", "-o", "json").out())
    report.check("discarded", done["changed"] >= 6, done)
    wait_until("the gauge is 0, and stays there", lambda: size() == 0, 60)
    found = parsed(ask("status", "-o", "json"))["partitions"]
    report.equal(
        "status: none is open, six are closed",
        (sum(p["dead_letters"] for p in found), sum(p["dead_letters_closed"] for p in found)), (0, 6))
    last = parsed(ask("patient", "p0", "--all-partitions", "-o", "json"))["last_dead_letter"]
    report.equal("patient: what became of its last dead letter", last["status"], "discarded")
    text = ask("patient", "p0", "--all-partitions").out()
    report.check("patient: as text", "  status       discarded " in text, text)
    run.signal(signal.SIGTERM)
    report.equal("a clean stop", run.wait(60), 0)
