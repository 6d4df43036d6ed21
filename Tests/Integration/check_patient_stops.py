#!/usr/bin/env python3
"""The story of the article "One patient's events stopped": what it tells happens, with a real broker.

    check_patient_stops.py --article FILE      the group alone; what each command of the story prints takes its place in the article
"""

import argparse
import json
import pathlib
import signal
import sys

from articles import retold
from check_capture import UPDATED, created_topics
from fhir_server import Receiver
from harness import Failed, Report, wait_until
from parts import Kcat, real_broker
from spans import dead_letter_topic, retry_topic

# Blocks of the article that show a report without the command before it.
REPORTS = ("Patient example:", "nobody reads")


class Judge(Receiver):
    """Is busy for one patient until that is mended."""

    def __init__(self):
        self.is_mended = False
        self.asked = 0
        super().__init__()

    def serve(self, request):
        identifier = json.loads(request.rfile.read(int(request.headers.get("Content-Length", "0"))))["data"]["id"]
        with self.lock:
            self.asked += identifier == "example"
            status = 503 if identifier == "example" and not self.is_mended else 204
        request.send_response(status)
        request.send_header("Content-Length", "0")
        request.end_headers()


class Story:
    def __init__(self, room, base):
        self.room, self.base = room, base
        self.brokers = real_broker(room)
        created_topics(room, self.brokers)
        self.kcat = Kcat(self.brokers)
        self.judge = Judge()
        room.closers.append(self.judge.close)
        self.transcript = []
        self.count = 0
        self.serve()

    def environment(self):
        return {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}

    def serve(self):
        self.run = self.room.triage(
            "run", "-b", self.brokers, "--group", "clinic", "--http", "off", "--handler", "http", "--deliver-to", self.judge.url,
            "--retry", f"exponential:3,base={self.base}s,jitter=0", environment=self.environment())

    def publish(self, *identifiers):
        self.count += 1
        file = self.room.path(f"events-{self.count}.ndjson")
        file.write_text("".join(json.dumps({"resourceType": "Patient", "id": identifier}) + "\n" for identifier in identifiers))
        done = self.room.finish("publish", "-b", self.brokers, "--action", "updated", str(file), environment=self.environment())
        if done.process.returncode != 0:
            raise Failed(f"publish: {done.err()}")

    def types(self, *words, stdin="", isKept=True):
        """Runs `triage`; what was typed and what it said go to the transcript. Gives what stdout has."""
        file = self.room.path("typed")
        file.write_text(stdin)
        with open(file, "rb") as typed:
            child = self.room.finish(*words, "-b", self.brokers, "--group", "clinic", name="typed", stdin=typed, environment=self.environment())
        if child.process.returncode != 0:
            raise Failed(f"{words} ends with {child.process.returncode}: {child.err()}")
        if isKept:
            shown = ["triage", words[0], "-b", "$BROKERS", "--group", "clinic", *words[1:]]
            self.transcript.append((shown, (stdin + child.out() + child.err()).splitlines()))
        return child.out()

    def patient(self, *more, **options):
        return self.types("patient", *more, "-", stdin="example\n", **options)

    def waits_for(self, text, seconds=60):
        wait_until(text, lambda: text in self.patient(isKept=False), seconds, 0.3)

    def all_is_read(self):
        """What was handled counts as read with the next commit, a moment later."""
        wait_until("everything is read", lambda: "everything is read" in self.types("status", isKept=False), 30, 0.2)


def patient_stops(report, room, base=5, article=None):
    """Asked, explained, mended; nobody who reads; a dead letter in another partition."""
    story = Story(room, base)
    story.publish(*[f"other-{number}" for number in range(18)])
    wait_until("others are delivered", lambda: len(story.kcat.read(UPDATED)) == 18 and "0 unread" not in story.patient(isKept=False), 30)
    story.all_is_read()
    story.publish("example")
    wait_until("it has failed", lambda: story.kcat.read(retry_topic(UPDATED)), 30, 0.1)
    story.publish("example")
    story.waits_for("1 later event is parked behind it")
    page = story.patient()
    report.check("the head waits for its first retry, one is parked", "for retry 1 of 3 after transient RetryableError http_503; 1 later event" in page, page)
    story.all_is_read()
    page = story.types("status")
    report.check("it is this patient alone", page.startswith("nothing is wrong: everything is read, 2 events in retry, no open dead letters"), page)
    wait_until("a second attempt", lambda: story.judge.asked >= 2, 60)
    story.waits_for("for retry 2 of 3")
    page = story.patient()
    report.check("both attempts are told", page.count("  attempt ") == 2 and "for retry 2 of 3" in page, page)
    story.judge.is_mended = True
    story.waits_for("nothing is open", 2 * base + 30)
    page = story.patient()
    report.check("after it is mended nothing is open", page.startswith("Patient example: nothing is open: no retry waits"), page)
    report.equal("the parked one was delivered behind it", story.judge.asked, 4)

    story.run.signal(signal.SIGTERM)
    report.equal("a clean stop", story.run.wait(60), 0)
    story.publish("example")
    page = story.patient()
    report.check("nobody reads, it says", "No member of group clinic reads" in page.splitlines()[0], page)
    page = story.types("status")
    report.check("and status begins with it", page.startswith(f"nobody reads {UPDATED}/1: 1 event waits for `triage run`"), page)
    story.serve()
    story.waits_for("nothing is open")
    story.kcat.write(UPDATED, b'{"type": "PatientUpdated", "data": {"resourceType": "Pat', key=b"example", partition=0, headers=[])
    wait_until("it is dead-lettered", lambda: story.kcat.read(dead_letter_topic(UPDATED)), 30, 0.2)
    report.check("Java's partition has no dead letter of it", "LAST DEAD LETTER" not in story.patient(isKept=False))
    wait_until("that is committed", lambda: "nothing is open" in story.patient("--all-partitions", isKept=False), 30, 0.3)
    page = story.patient("--all-partitions")
    report.check("with all partitions it is found", f"{dead_letter_topic(UPDATED)}/0/0" in page and "persistent InvalidEvent invalid_json" in page
                 and page.startswith("Patient example: nothing is open"), page)
    report.check("and it is open", "  status       open\n" in page, page)
    if article:
        path = pathlib.Path(article)
        # A report that is shown without its command doesn't show what was typed either.
        transcript = [(words, lines[1:] if 2 <= number <= 4 else lines) for number, (words, lines) in enumerate(story.transcript)]
        path.write_text(retold(path.read_text(), transcript, REPORTS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tell the story of the article.")
    parser.add_argument("--article", metavar="FILE", help="whose blocks are to show what is printed now")
    arguments = parser.parse_args()
    REPORT = Report()
    REPORT.run("patient-stops", lambda report, room: patient_stops(report, room, 20, arguments.article))
    sys.exit(1 if REPORT.failures else 0)
