"""`triage patient` and `triage status` against a real broker, while the service runs and while it doesn't, compared with kcat's view."""

import json
import signal
import time

from harness import PATIENTS, parsed, wait_until
from parts import Kcat, real_broker

GROUP = "status"
TOPIC = "fhir.Patient.created"


def status(report, room):
    brokers = real_broker(room)
    kcat = Kcat(brokers)

    def ask(command, *arguments):
        child = room.finish(command, "-b", brokers, "-g", GROUP, *arguments, seconds=60)
        report.check(f"triage {command}: exit 0", child.process.returncode == 0, child.err())
        return child

    missing = ask("status")
    report.check("without topics: how many are missing, and the command that makes them", "9 topics are missing" in missing.out() and "triage topics create" in missing.out(), missing.out())
    child = room.finish("patient", "-b", brokers, "-g", GROUP, "nobody", seconds=60)
    report.check("triage patient without topics: exit 1, says so", child.process.returncode == 1 and "no such topic" in child.err(), child.err())

    room.finish("topics", "create", "-b", brokers, "--partitions", "3")
    room.finish("publish", "-b", brokers, "--action", "created", str(PATIENTS))
    before = parsed(ask("status", "-o", "json"))
    report.equal("before the first run: lag", before["lag"], 51)
    report.check("and nobody reads it: the group has never worked", "51 events wait" in before["summary"] and "has never worked" in before["summary"], before["summary"])
    unread = parsed(ask("patient", "example", "-o", "json"))
    mine = [m for m in kcat.read(TOPIC) if m.key == b"example"]
    report.equal("the patient's unread events are those that kcat sees", [item["origin"] for item in unread["queue"]], [m.position for m in mine])

    room.finish("run", "-b", brokers, "-g", GROUP, "--handler", "none", "--http", "off", "-e", environment={"OTEL_SDK_DISABLED": "true"})
    idle = parsed(ask("status", "-o", "json"))
    report.check("after a run: nothing is wrong, everything is read", idle["problems"] == [] and idle["lag"] == 0, idle["summary"])
    unknown = ask("patient", "no-such-patient")
    report.check("an unknown id: nothing is open, and what was looked at", "nothing is open" in unknown.out() and "LOOKED AT" in unknown.out() and "--all-partitions" in unknown.out(), unknown.out())

    # A retry that waits an hour, as a run whose handler failed would have written it.
    head = mine[-1]
    now = int(time.time() * 1000)
    due = now + 3_600_000
    kcat.write(
        f"{TOPIC}.retry", head.value, key=b"example", partition=head.partition,
        headers=[
            ("retryCount", b"2"), ("error", b"RetryableError http_503"), ("failedAt", b"2026-11-23T03:00:00.000Z"),
            ("triage-due-at", str(due).encode()), ("triage-origin", head.position.encode()),
            ("triage-origin-timestamp", str(head.timestamp).encode()), ("triage-error-class", b"transient"),
            ("triage-error-fingerprint", b"0123456789abcdef"), ("triage-group", GROUP.encode()),
            ("triage-attempts", f"{now - 900},transient,0123456789abcdef,0af7651916cd43dd8448eb211c80319c,b7ad6b7169203331".encode()),
        ],
    )
    run = room.triage("run", "-b", brokers, "-g", GROUP, "--handler", "none", "--http", "off", environment={"OTEL_SDK_DISABLED": "true"})

    def stuck():
        return parsed(ask_quietly("patient", "example", "-o", "json"))

    def ask_quietly(command, *arguments):
        return room.finish(command, "-b", brokers, "-g", GROUP, *arguments, seconds=60)

    wait_until("the service has its partitions", lambda: all("owner" in p for p in parsed(ask_quietly("status", "-o", "json"))["partitions"]), 60)
    # Two more events of the patient: the service parks them behind its head. And one that is no JSON, of someone else.
    resource = json.dumps({"resourceType": "Patient", "id": "example"})
    for _ in range(2):
        later = room.path("later.ndjson")
        later.write_text(resource + "\n")
        room.finish("publish", "-b", brokers, "--action", "created", str(later))
    kcat.write(TOPIC, b"{", key=b"broken", headers=[])
    wait_until(
        "two events are parked", lambda: len([i for i in stuck()["queue"] if i["state"] == "parked" and "retry_record" in i]) == 2, 60)
    wait_until("the broken one is dead-lettered", lambda: kcat.read(f"{TOPIC}.dlq"), 60)
    compare(report, kcat, stuck(), head, due, "running")
    # kcat chooses partitions by another hash, so the id alone doesn't tell which.
    letter = parsed(ask("patient", "broken", "--all-partitions", "-o", "json"))
    dead = kcat.read(f"{TOPIC}.dlq")[0]
    report.equal("last dead letter: position", letter["last_dead_letter"]["position"], dead.position)
    report.equal("last dead letter: error", letter["last_dead_letter"]["failure"]["error"], dead.text("error"))
    report.equal("last dead letter: fingerprint", letter["last_dead_letter"]["failure"]["fingerprint"], dead.text("triage-error-fingerprint"))
    running = parsed(ask("status", "-o", "json"))
    report.equal("status while it runs: state and members", (running["state"], running["members"]), ("Stable", 1))
    backlog(report, running, 1, "running")
    report.check("its commits say that it is at work", any("open" in p["flags"] for p in running["partitions"]), running["partitions"])

    run.signal(signal.SIGTERM)
    report.equal("the service ends cleanly", run.wait(60), 0)
    compare(report, kcat, parsed(ask("patient", "example", "-o", "json")), head, due, "stopped")
    stopped = parsed(ask("status", "-o", "json"))
    backlog(report, stopped, 1, "stopped")
    report.check("stopped: nobody reads, and that is the first thing said", "nobody reads" in stopped["summary"], stopped["summary"])
    report.none("stopped: a clean end leaves no open flag", [p for p in stopped["partitions"] if "open" in p["flags"]])
    text = ask("patient", "example").out()
    report.check(
        "in plain words: until when, which retry, after what, who is behind, what to do",
        all(part in text for part in ("waits until ", "for retry 2 of 3 after transient RetryableError http_503", "2 later events are parked behind it", "start `triage run`")), text)
    report.note(text.replace("\n", "\n        "))
    report.check("no payload is shown", "resourceType" not in text, text)
    static_member(report, room, kcat, brokers, ask)
    watched(report, room, brokers)
    tables = ask("status").out()
    report.note(tables.replace("\n", "\n        "))
    report.check("status as text has both tables", "PARTITION" in tables and "PARKED" in tables, tables)


def static_member(report, room, kcat, brokers, ask):
    """An instance with a name keeps its partitions when it stops or is killed: that nobody handles them must be said."""
    arguments = ["run", "-b", brokers, "-g", GROUP, "--instance-id", "pod-0", "--handler", "none", "--http", "off"]
    quiet = {"OTEL_SDK_DISABLED": "true"}

    def found():
        return parsed(room.finish("status", "-b", brokers, "-g", GROUP, "-o", "json", seconds=60))

    def at_work():
        return all("open" in p["flags"] and p.get("owner", {}).get("instance_id") == "pod-0" for p in found()["partitions"])

    def publish():
        room.finish("publish", "-b", brokers, "--action", "created", str(PATIENTS))

    first = room.triage(*arguments, environment=quiet)
    wait_until("the instance with a name is at work", at_work, 60)
    report.check("the owner is named by its instance id", "pod-0@" in ask("status").out())
    first.signal(signal.SIGTERM)
    report.equal("it ends cleanly", first.wait(60), 0)
    publish()
    stopped = found()
    report.check(
        "stopped: that comes first, with what waits", "pod-0@" in stopped["summary"] and "has stopped and keeps" in stopped["summary"] and "nobody handles" in stopped["summary"], stopped["summary"])
    report.check("stopped: each partition says so", all(p["is_left"] for p in stopped["partitions"]), stopped["partitions"])
    patient = ask("patient", "example").out()
    report.check("stopped: the patient's report says so as well", "Instance pod-0@" in patient and "start it again" in patient, patient)

    second = room.triage(*arguments, environment=quiet)
    wait_until("it is back", at_work, 60)
    wait_until("it has worked that off", lambda: found()["lag"] == 0, 60)
    second.signal(signal.SIGKILL)
    second.wait(60)
    publish()
    wait_until("killed: nothing was committed, and that comes first", lambda: "though pod-0@" in found()["summary"], 60)

    third = room.triage(*arguments, environment=quiet)
    wait_until("after one crash nothing is wrong", lambda: at_work() and found()["problems"] == [], 60)
    report.check("the crash is a note", any("without a clean stop, once" in note for note in found()["notes"]), found()["notes"])
    third.signal(signal.SIGTERM)
    third.wait(60)

    # Dead letters of another group, and one that names none.
    topic = f"{TOPIC}.dlq"
    before = sum(p["dead_letters"] for p in found()["partitions"])
    kcat.write(topic, b"{}", key=b"x", headers=[("triage-group", b"another")])
    kcat.write(topic, b"{}", key=b"y", headers=[("kafka_dlt-original-topic", b"t")])
    letters = found()["partitions"]
    report.equal(
        "dead letters: the group's, another's, and those that name none",
        tuple(sum(p[kind] for p in letters) for kind in ("dead_letters", "dead_letters_of_others", "dead_letters_unnamed")),
        (before, 1, 1))


def watched(report, room, brokers):
    """--watch goes on when brokers don't answer."""
    child = room.triage("status", "-b", "127.0.0.1:1", "-g", GROUP, "--watch", "100ms")
    wait_until("it says that no broker answers, and that it looks again", lambda: "looking again in 100 ms" in child.err(), 60)
    report.check("and goes on", child.is_running(), child.err())
    child.end()
    child = room.triage("status", "-b", brokers, "-g", GROUP, "--watch", "100ms", "-o", "json")
    wait_until("it looks again and again", lambda: child.out().count("\n") >= 3, 60)
    child.end()


def compare(report, kcat, found, head, due, when):
    """The queue, against the records that kcat reads of the retry topic."""
    records = [m for m in kcat.read(f"{TOPIC}.retry") if m.key == b"example"]
    parked = [m for m in records if m.text("triage-parked-behind")]
    report.equal(f"{when}: the head is the event that failed", found["head"]["origin"], head.position)
    report.equal(f"{when}: it waits", (found["head"]["state"], found["head"]["failure"]["retries"]), ("waiting", 2))
    report.equal(f"{when}: parked, in the order of their origins", [(i["origin"], i["parked_behind"]) for i in found["queue"][1:]], [(m.text("triage-origin"), m.text("triage-parked-behind")) for m in parked])
    report.check(f"{when}: kcat sees two parked", len(parked) == 2, records)


def backlog(report, found, letters, when):
    retries = [p["retries"] for p in found["partitions"]]
    sums = tuple(sum(r[kind] for r in retries) for kind in ("waiting", "due", "parked"))
    report.equal(f"{when}: waiting, due, parked", sums, (1, 0, 2))
    report.equal(f"{when}: dead letters", sum(p["dead_letters"] for p in found["partitions"]), letters)
    report.check(f"{when}: the next one due and the age of the oldest are told", any("next_due" in r and r["oldest_age"] > 0 for r in retries), retries)
