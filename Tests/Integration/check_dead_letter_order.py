"""`dead-letters: sequence` on a real broker: a patient is held behind a dead letter, across restarts, until somebody decides."""

import json
import re
import signal

from dead_letter_world import DLQ, GROUP, RETRY, TOPIC
from fhir_server import Receiver
from harness import Failed, parsed, wait_until
from parts import Kcat, real_broker

HEALED, GIVEN_UP, HEALTHY = "CANARY-id-healed", "CANARY-id-given-up", "CANARY-id-healthy"


class OrderlyReceiver(Receiver):
    """Refuses an event of some patients, and keeps which number came of each in which order."""

    def __init__(self):
        self.refused = {(HEALED, 1), (GIVEN_UP, 1)}
        self.came = []
        super().__init__()

    def serve(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        identifier = request.headers.get("Triage-Resource", "").removeprefix("Patient/")
        number = int(re.search(rb'"multipleBirthInteger": ?(\d+)', body)[1])
        with self.lock:
            status = 422 if (identifier, number) in self.refused else 200
            self.came.append((identifier, number, status))
        request.send_response(status)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def of(self, identifier):
        """What came of one patient: the events' numbers with what they were answered."""
        with self.lock:
            return [(number, status) for other, number, status in self.came if other == identifier]


def sequence(report, room):
    """Held while the dead letter is open, after a clean stop and after kill -9; released by a replay, or by a discard."""
    brokers = real_broker(room)
    kcat = Kcat(brokers)
    receiver = OrderlyReceiver()
    room.closers.append(receiver.close)
    environment = {"TRIAGE_BROKERS": brokers, "OTEL_SDK_DISABLED": "true"}
    if room.finish("topics", "create", "--partitions", "1", environment=environment).process.returncode != 0:
        raise Failed("topics create")
    counts = {HEALED: 0, GIVEN_UP: 0, HEALTHY: 0}

    def publish(*patients):
        lines = []
        for identifier in patients:
            counts[identifier] += 1
            lines.append(json.dumps({
                "type": "PatientCreated", "metadata": {"eventId": f"{identifier}-{counts[identifier]}", "timestamp": "2026-01-02T03:04:05Z"},
                "data": {"resourceType": "Patient", "id": identifier, "multipleBirthInteger": counts[identifier]}}))
        file = room.path(f"events-{sum(counts.values())}.ndjson")
        file.write_text("\n".join(lines) + "\n")
        if room.finish("publish", str(file), environment=environment).process.returncode != 0:
            raise Failed("publish")

    def serve():
        return room.triage(
            "run", "--group", GROUP, "-t", TOPIC, "--http", "off", "--handler", "http", "--deliver-to", receiver.url, "--retry", "none",
            "--outage-gate", "off", "--storm-breaker", "off", "--dead-letters", "sequence",
            # noida-db never expires a member that was killed: an instance with a name takes its own place again.
            "--instance-id", "pod-0", name="run", environment=environment)

    def healthy(number):
        return [n for n, _ in receiver.of(HEALTHY)] == list(range(1, number + 1))

    def dlq(*words, expect=0):
        child = room.finish("dlq", *words, name=f"dlq-{words[0]}", environment=environment)
        if child.process.returncode != expect:
            raise Failed(f"dlq {words} ends with {child.process.returncode}: {child.out()} {child.err()}")
        return child

    def held(when):
        """Other patients' events are handled; those of the two who wait aren't."""
        for identifier in (HEALED, GIVEN_UP):
            report.equal(f"{when}: only the first event came of {identifier}", receiver.of(identifier), [(1, 422)])
        child = room.finish("patient", HEALED, "-g", GROUP, "-t", TOPIC, environment=environment)
        report.check(f"{when}: triage patient names the dead letter", letters[HEALED] in child.out(), child.out() + child.err())

    run = serve()
    publish(HEALED, GIVEN_UP, HEALTHY)
    wait_until("two dead letters", lambda: not run.is_running() or len(kcat.read(DLQ)) == 2, 60, interval=0.5)
    letters = {message.key.decode(): message.position for message in kcat.read(DLQ)}
    publish(HEALED, HEALED, GIVEN_UP, HEALTHY)
    wait_until("the others are handled", lambda: not run.is_running() or healthy(2), 60)
    wait_until("the later ones are parked", lambda: len(kcat.read(RETRY)) >= 3, 60, interval=0.5)
    held("while it runs")
    run.signal(signal.SIGTERM)
    report.equal("it stops cleanly", run.wait(60), 0)
    run = serve()
    publish(HEALED, HEALTHY)
    wait_until("started again, it handles the others", lambda: not run.is_running() or healthy(3), 60)
    held("after a restart")
    run.signal(signal.SIGKILL)
    run.wait(60)
    run = serve()
    publish(HEALTHY)
    wait_until("after a crash it handles the others", lambda: not run.is_running() or 4 in [n for n, _ in receiver.of(HEALTHY)], 60)
    held("after a crash")

    listed = parsed(dlq("list", "-o", "json"))
    report.equal("both are open", {letter["id"]: letter["status"] for letter in listed}, {place: "open" for place in letters.values()})
    receiver.refused.discard((HEALED, 1))
    dlq("replay", letters[HEALED], "--execute", "--as", "ana", "--reason", "mended")
    wait_until("the replay frees the patient", lambda: len(receiver.of(HEALED)) >= 5, 60)
    report.equal(
        "its events came in their order, the first one anew", receiver.of(HEALED), [(1, 422), (1, 200), (2, 200), (3, 200), (4, 200)])
    report.equal("the other patient is still held", receiver.of(GIVEN_UP), [(1, 422)])
    page = wait_until(
        "the outcome is told", lambda: next((page for page in [parsed(dlq("show", letters[HEALED], "-o", "json"))] if page["status"] == "completed"), None),
        60, interval=0.5)
    report.equal("by whom it was replayed and why", (page["state"].get("replayed_by"), page["state"].get("reason")), ("ana", "mended"))
    dlq("discard", letters[GIVEN_UP], "--reason", "not needed", "--execute")
    wait_until("the discard frees the other one", lambda: len(receiver.of(GIVEN_UP)) >= 2, 60)
    report.equal("without the event that was discarded", receiver.of(GIVEN_UP), [(1, 422), (2, 200)])
    publish(HEALED, GIVEN_UP)
    wait_until("both go on", lambda: len(receiver.of(HEALED)) == 6 and len(receiver.of(GIVEN_UP)) == 3, 60)
    run.signal(signal.SIGTERM)
    report.equal("it ends cleanly", run.wait(60), 0)
    report.equal("nothing is open", parsed(dlq("groups", "-o", "json")), [])
