"""kill -9 in mid-work: nothing lost, duplicates only."""

import json
import random
import re
import signal
import subprocess
import threading

from harness import Failed, clean_environment, parsed, triage_path
from parts import Kcat, embedded_broker

VALID, INVALID, KILLS = 6000, 90, 4
TOPIC = "fhir.Patient.created"
HANDLED = re.compile(rf"({re.escape(TOPIC)}(?:\.retry)?/\d+/\d+) attempt \d+")
# A member that was killed is missed after this; the embedded broker has no lower bound.
SESSION = ("-X", "session.timeout.ms=3000", "-X", "heartbeat.interval.ms=500")


class Watched:
    """`triage run` whose log is read through a pipe: while nobody reads, the handler waits, so it can be killed in mid-work."""

    def __init__(self, room, brokers, *more):
        self.out = open(room.path("watched.out"), "wb+")
        self.process = subprocess.Popen(
            [
                triage_path(), "run", "-b", brokers, "--group", "crash", "--handler", "log", "--log-level", "notice", "--http", "off",
                "--commit-interval", "50ms", "-o", "json", *SESSION, *more,
            ],
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=subprocess.PIPE, env=clean_environment({"OTEL_SDK_DISABLED": "true"}),
        )
        room.closers.append(self.end)
        self.handled = []
        self.lines = []
        self.limit = 0
        self.condition = threading.Condition()
        self.pace = threading.Event()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        """Reads up to `limit` handled positions ahead; past the end of the process it reads what is left."""
        for line in self.process.stderr:
            text = line.decode("utf-8", "replace")
            with self.condition:
                self.lines.append(text)
                self.handled += HANDLED.findall(text)
                self.condition.notify_all()
                self.condition.wait_for(lambda: len(self.handled) < self.limit or self.process.poll() is not None)
            if self.process.poll() is None:
                # About 1,000 events a second once the pipe is full: slow enough for commits in between.
                self.pace.wait(0.001)

    def read_until(self, count, seconds=60):
        """Lets it handle until `count` positions are read."""
        with self.condition:
            self.limit = count
            self.condition.notify_all()
            if not self.condition.wait_for(lambda: len(self.handled) >= count or self.process.poll() is not None, seconds):
                raise Failed(f"after {seconds} s only {len(self.handled)} of {count} handled: {''.join(self.lines[-5:])}")

    def kill(self):
        """Ends it at once; what it had written by then is still read."""
        self.process.send_signal(signal.SIGKILL)
        return self.finish(10)

    def finish(self, seconds):
        self.pace.set()
        with self.condition:
            self.limit = 1 << 60
            self.condition.notify_all()
        try:
            status = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"run is still running after {seconds} s: {''.join(self.lines[-5:])}") from None
        with self.condition:
            self.condition.notify_all()
        self.thread.join(timeout=10)
        return status

    def summary(self):
        self.out.seek(0)
        return json.loads(self.out.read())

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=10)
        with self.condition:
            self.limit = 1 << 60
            self.condition.notify_all()
        self.thread.join(timeout=10)
        self.process.stderr.close()
        self.out.close()


def patient(number, randomness):
    letters = "".join(randomness.choices("abcdefghijklmnopqrstuvwxyz", k=8))
    return json.dumps(
        {
            "resourceType": "Patient", "id": f"p{number % 400}", "meta": {"versionId": str(number)}, "active": True,
            "name": [{"use": "official", "family": letters.title(), "given": [letters[:4].title()]}],
            "gender": randomness.choice(["female", "male", "other"]), "birthDate": f"19{number % 60 + 30}-0{number % 9 + 1}-11",
            "telecom": [{"system": "phone", "value": f"+1-555-{number:06}"}], "address": [{"city": "Midvale", "country": "XX"}],
        }
    )


def kill9(report, room):
    """`triage run` killed again and again while it works."""
    brokers = embedded_broker(room)
    kcat = Kcat(brokers)
    randomness = random.Random(2)
    lines = [patient(number, randomness) for number in range(VALID)]
    events = room.path("patients.ndjson")
    # Invalid events between the valid ones: their dead letters must survive as well.
    broken = room.path("broken")
    events.write_text("\n".join(lines[: VALID // 2]) + "\n")
    broken.write_text("".join(f'{{"resourceType":"Patient","id":"broken/{number}"}}\n' for number in range(INVALID)))
    published = room.finish("publish", "-b", brokers, "--action", "created", str(events), "-o", "json")
    kcat.call(["-P", "-t", TOPIC, "-l", str(broken)])
    events.write_text("\n".join(lines[VALID // 2:]) + "\n")
    again = room.finish("publish", "-b", brokers, "--action", "created", str(events), "-o", "json")
    report.equal("published", parsed(published)["published"] + parsed(again)["published"], VALID)
    records = kcat.read(TOPIC)
    valid = {r.position for r in records if b"broken/" not in r.value}
    invalid = {r.position for r in records if b"broken/" in r.value}
    report.equal("records in the topic, valid and invalid", (len(valid), len(invalid)), (VALID, INVALID))

    handled = []
    for number in range(KILLS):
        run = Watched(room, brokers)
        run.read_until(400 + 97 * number)
        is_running = run.process.poll() is None
        run.kill()
        report.check(f"kill -9 in mid-work after {len(run.handled)} handled", is_running and 0 < len(run.handled) < VALID, run.lines[-3:])
        handled += run.handled
    remaining = len(valid - set(handled))
    report.check("the work was not done when it was killed for the last time", remaining > 0)
    last = Watched(room, brokers, "-e")
    status = last.finish(180)
    handled += last.handled
    report.equal("the last run -e exits with", status, 0)
    report.note(f"summary of the last run: {last.summary()}")
    report.none("every valid event was handled", valid - set(handled))
    report.none("nothing else was handled", set(handled) - valid)
    report.note(f"{len(handled)} handled in all, {len(handled) - len(set(handled))} of them again")
    report.check(
        "what was committed before the last kill was not handled again", last.summary()["consumed"] < VALID + INVALID, last.summary()
    )
    dead = kcat.read(TOPIC + ".dlq")
    report.none("every invalid event is in the dead letter topic", invalid - {d.text("triage-origin") for d in dead})
    report.none("nothing else is", {d.text("triage-origin") for d in dead} - invalid)
    report.note(f"{len(dead)} dead letters for {INVALID} invalid events")
    values = {r.position: r.value for r in records}
    report.none("dead letters have their bytes", [d.position for d in dead if values.get(d.text("triage-origin")) != d.value])
    after = room.finish(
        "run", "-b", brokers, "--group", "crash", "--handler", "none", "--http", "off", "-e", "-o", "json", *SESSION,
        environment={"OTEL_SDK_DISABLED": "true"},
    )
    report.equal("offsets are committed to the end: a further run consumes", parsed(after)["consumed"], 0)
