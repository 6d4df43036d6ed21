#!/usr/bin/env python3
"""The story of the article "An event failed at night": what it tells happens, with a real broker and a real Prometheus.

    check_night.py --article FILE      the group alone; what each command of the story prints takes its place in the article
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys

from articles import retold
from check_capture import UPDATED, created_topics
from check_dashboards import RULES
from check_privacy import port_of
from fhir_server import Receiver
from harness import Failed, Report, parsed, wait_until
from parts import Kcat, Prometheus, on_path, real_broker
from spans import dead_letter_topic

EVENTS, WITHOUT_COUNTRY, BUSY = 300, range(5, 300, 20), (50, 150)
WRONG = "25.12.1974"


class Registry(Receiver):
    """Refuses patients whose address has no country until its release is rolled back; is busy for some of them once."""

    def __init__(self):
        self.is_rolled_back = False
        self.asked = collections.Counter()
        super().__init__()

    def serve(self, request):
        body = json.loads(request.rfile.read(int(request.headers.get("Content-Length", "0"))))
        patient = body["data"]
        with self.lock:
            self.asked[patient["id"]] += 1
            status = 503 if self.asked[patient["id"]] == 1 and int(patient["id"][1:]) in BUSY else 204
            if not self.is_rolled_back and "country" not in patient["address"][0]:
                status = 422
        request.send_response(status)
        request.send_header("Content-Length", "0")
        request.end_headers()


def event(number, birth_date, with_country=True):
    address = {"line": [f"{number} Maple St"], "city": "Springfield", **({"country": "US"} if with_country else {})}
    return {
        "type": "PatientUpdated", "data": {
            "resourceType": "Patient", "id": f"p{number:04}", "meta": {"versionId": "1"}, "name": [{"family": f"Family{number}", "given": ["Zoë"]}],
            "gender": "female", "birthDate": birth_date, "address": [address]},
        "metadata": {"eventId": f"7b1f4a52-0c7e-4d0b-a1de-0f2f4f2a{number:04}", "timestamp": "2026-11-23T03:00:00Z", "source": "import"}}


class Night:
    """A service, a broker, a receiver, and somebody at a terminal."""

    def __init__(self, room):
        self.room = room
        self.brokers = real_broker(room)
        created_topics(room, self.brokers)
        self.kcat = Kcat(self.brokers)
        self.registry = Registry()
        room.closers.append(self.registry.close)
        self.key = room.path("identifier-key")
        self.key.write_bytes(bytes(range(32)))
        self.transcript = []
        self.run = room.triage(
            "run", "--http", "127.0.0.1:0", "--handler", "http", "--deliver-to", self.registry.url, environment=self.environment())
        port = wait_until("it tells its port", lambda: port_of(self.run.err()), 60)
        self.prometheus = Prometheus(room, f"127.0.0.1:{port}", RULES)
        # An increase is one of what was scraped before.
        scraped = 'count(triage_events_processed_total{triage_outcome="dead_lettered"})'
        wait_until("it was scraped", lambda: self.prometheus.value(scraped), 60, 0.5)

    def environment(self):
        return {
            "TRIAGE_BROKERS": self.brokers, "TRIAGE_GROUP": "clinic", "TRIAGE_IDENTIFIER_KEY_FILE": str(self.key), "LANG": "C.UTF-8",
            "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}

    def happens(self):
        """Three hundred events from producers, and one from an import that nobody validates."""
        file = self.room.path("events.ndjson")
        file.write_text("".join(json.dumps(event(n, "1974-12-25", n not in WITHOUT_COUNTRY)) + "\n" for n in range(EVENTS)))
        done = self.room.finish("publish", str(file), environment=self.environment())
        if done.process.returncode != 0:
            raise Failed(f"publish: {done.err()}")
        self.dead_lettered(len(WITHOUT_COUNTRY))
        bad = event(700, WRONG)
        self.kcat.write(UPDATED, json.dumps(bad).encode(), key=bad["data"]["id"].encode(), headers=[("content-type", b"application/fhir+json")])
        self.dead_lettered(len(WITHOUT_COUNTRY) + 1)

    def dead_lettered(self, count):
        wait_until(f"{count} dead letters", lambda: len(self.kcat.read(dead_letter_topic(UPDATED))) == count, 60, 0.2)

    def types(self, *arguments):
        """Runs `triage`; what was typed and what it said go to the transcript. Gives what stdout has."""
        child = self.room.finish(*arguments, name="typed", environment=self.environment())
        self.told(["triage", *arguments], child.out() + child.err())
        if child.process.returncode != 0:
            raise Failed(f"{arguments} ends with {child.process.returncode}: {child.err()[-1500:]}")
        return child.out()

    def told(self, words, text):
        self.transcript.append((words, text.splitlines()))

    def json(self, *arguments):
        return parsed(self.room.finish(*arguments, "-o", "json", name="asked", environment=self.environment()))


def night(report, room, article=None):
    """From the alert to the cause to the repaired event."""
    story = Night(room)
    story.happens()
    alerts(report, story)
    groups = story.json("dlq", "groups")
    story.types("dlq", "groups")
    report.equal("two causes", [(g["count"], g["error"], g["error_class"]) for g in groups], [
        (len(WITHOUT_COUNTRY), "RejectedError http_422", "persistent"), (1, "InvalidEvent invalid_birth_date at Patient.birthDate", "persistent")])
    report.equal("who met a busy receiver was delivered a second time", [story.registry.asked[f"p{number:04}"] for number in BUSY], [2, 2])
    (first, refused), (second, _) = [(group["example"], group["fingerprint"][:6]) for group in groups]
    page = story.types("dlq", "show", first)
    report.check("the shape tells what is missing", "data.address[].city" in page and "data.address[].country" not in page, page)
    report.check("nothing of the patient is told", not any(part in page for part in ("Maple", "Family", "1974", "Zo", " p0")), page)
    page = story.types("explain", first)
    report.check("nobody has acted on it", "Nobody has acted on it." in page, page)
    report.check("its one attempt has the error", "attempt 1 failed: persistent RejectedError http_422" in page, page)

    story.registry.is_rolled_back = True
    plan = story.types("dlq", "replay", "--fingerprint", refused, "--canary", "3")
    command = plan.strip().splitlines()[-1].strip()
    report.check("the dry run says what does it", command.startswith(f"triage dlq replay --fingerprint {refused} --canary 3 --until "), plan)
    words = ["dlq", "replay", "--fingerprint", refused]
    done = story.types(*words, "--canary", "3", "--canary-timeout", "20s", "--reason", "country is optional again", "--as", "ann", "--execute")
    report.check("all of the group, three first", [line.split() for line in done.splitlines()][:2] == [
        ["replayed", str(len(WITHOUT_COUNTRY))], ["canaries", "completed"]], done)
    report.equal("once more, by mistake", story.types(*words, "--as", "ann", "--execute").split(), ["replayed", "0"])
    wait_until("its replay is handled", lambda: story.json("dlq", "show", first)["status"] == "completed", 60, 0.5)
    page = story.types("dlq", "show", first)
    report.check("who asked for it, and why, is told afterwards", "ann" in page and "country is optional again" in page, page)
    report.check("and on one page", "its replay was handled, by group clinic" in story.types("explain", first))

    page = story.types("dlq", "show", second)
    report.check("the other one names its rule", "invalid_birth_date at Patient.birthDate" in page and WRONG not in page, page)
    page = story.types("dlq", "show", second, "--reveal", "--as", "ann", "--reason", "birth date")
    report.check("revealed it says its date", WRONG in page, page)
    patch = '[{"op":"replace","path":"/data/birthDate","value":"1974-12-25"}]'
    story.types("dlq", "replay", second, "--patch", patch, "--as", "ann", "--reason", "birth date as FHIR has it", "--execute")
    wait_until("the mended one is handled", lambda: story.json("dlq", "show", second)["status"] == "completed", 60, 0.5)
    story.types("dlq", "groups")
    report.equal("nothing is open", story.json("dlq", "groups"), [])
    story.types("dlq", "list", "--limit", "3")
    if article:
        path = pathlib.Path(article)
        path.write_text(retold(path.read_text(), story.transcript))


def alerts(report, story):
    def firing():
        found = story.prometheus.query('ALERTS{alertstate="firing"}')
        names = sorted(dict(labels)["alertname"] for labels in found)
        return names if len(names) >= 3 else None
    report.equal("the alerts", wait_until("three alerts", firing, 60, 0.5), ["TriageDeadLetters", "TriageNewFailure", "TriageNewFailure"])
    words = ["query", "instant", story.prometheus.base, 'ALERTS{alertstate="firing"}']
    asked = subprocess.run([on_path("promtool"), *words], capture_output=True, text=True, timeout=60, check=True)
    story.told(["promtool", *words[:2], "$PROMETHEUS", *words[3:]], asked.stdout)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tell the story of the article.")
    parser.add_argument("--article", metavar="FILE", help="whose blocks are to show what is printed now")
    arguments = parser.parse_args()
    REPORT = Report()
    REPORT.run("night", lambda report, room: night(report, room, arguments.article))
    sys.exit(1 if REPORT.failures else 0)
