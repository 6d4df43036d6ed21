"""Dead letters in the clear: nothing of a patient is in what the tools, the console and the service say of them, at the level trace and in OTLP.

And a great many of them: they are counted exactly, with a bar on a terminal that says how far it is.
"""

import base64
import collections
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios

from check_capture import CREATED, created_topics
from check_privacy import found, scraped_metrics
from check_sealed_tools import World, looked_around, revealed, visited
from harness import clean_environment, parsed, triage_path, wait_until
from parts import real_broker
from spans import dead_letter_topic

# Progress is told after each 5,000.
MANY, PATIENTS = 18_000, 7_000
CAUSES = [400] * 5 + [404] * 4 + [410] * 3 + [422] * 2 + [503]


def letters_said(report, room):
    """Each command and page without `--reveal`; each is searched as the sealed ones are."""
    world = World(room)
    key = room.path("identifier.key")
    key.write_bytes(bytes(range(32)))
    hashing = {"TRIAGE_IDENTIFIER_KEY_FILE": str(key)}
    world.dead_letters("--identifier-key-file", str(key))
    one = next(id for id in world.ids if not world.is_broken(id) and world.value(id))
    for words in (["dlq", "list"], ["dlq", "groups"], ["dlq", "groups", "--all"], ["status"], ["explain", "1" * 32]):
        for more in ([], ["-o", "json"]):
            world.tool(*words, *more, expect=None, **hashing)
    for id in world.ids:
        for words in (["dlq", "show", id], ["dlq", "show", id, "-o", "json"], ["explain", id], ["explain", id, "-o", "json"], ["dlq", "replay", id]):
            world.tool(*words, **hashing)
        world.tool("explain", world.letter(id).text("triage-origin"), **hashing)
    patient_asked(report, world, one, hashing)
    exported = world.tool("dlq", "export", "--all", keep=False)
    world.said.append(("export's stderr", exported.err().encode()))
    file = room.path("dead-letters.ndjson")
    file.write_text(exported.out())
    broken = room.path("broken.ndjson")
    broken.write_text(exported.out().replace('"value":"', '"value":"?').replace('"topic":', '"CANARY":'))
    world.json("dlq", "import", str(file), "-b", world.elsewhere, "--execute")
    world.tool("dlq", "import", str(broken), "-b", world.elsewhere, "--execute", expect=1)
    for patch in ('[{"op":"test","path":"/data/id","value":"x"}]', '[{"op":"remove","path":"/data/meta/nowhere"}]', '[{"op":"remove","path":"/data"}]'):
        world.tool("dlq", "replay", one, "--patch", patch, "--execute", expect=1)
    for verb in ("discard", "reopen"):
        world.tool("dlq", verb, "--all", "--reason", "none", "--execute")
    child, port = world.run(*world.token, "--identifier-key-file", str(key), name="healing")
    visitor = visited(world, (child, port))
    looked_around(report, world, visitor)
    done = world.json("dlq", "replay", "--all", "--execute", "--canary", "1", expect=None)
    report.check("there is a replay to search", done["replayed"] >= 1, done)
    def statuses():
        return {letter["id"]: letter["status"] for letter in world.json("dlq", "list", "--status", "completed", keep=False)}
    if done["canary"]["result"] != "completed":
        # It was the one that is no JSON, and has failed again.
        world.json("dlq", "replay", *[id for id in world.ids if not world.is_broken(id)], "--execute")
    wait_until("they are completed", lambda: len(statuses()) == 4, 60, 0.5)
    world.tool("dlq", "list", **hashing)
    world.tool("explain", one, **hashing)
    looked_around(report, world, visitor)
    world.said.append(("the scrape", scraped_metrics(port)))
    world.end(child)
    world.said += [("the service's stderr", child.err().encode()), ("the service's stdout", child.out().encode())]
    telemetry = b"".join(world.collector.everything())
    report.check("there are traces, metrics and logs", all((world.collector.traces(), world.collector.metrics(), world.collector.logs())))
    report.check("no marker in telemetry", not found(telemetry), found(telemetry))
    report.check(f"{len(world.said)} outputs are there to search", sum(bool(data) for _, data in world.said) > 90)
    report.none("markers in what was said", [(place, found(data)) for place, data in world.said if found(data)])
    page = world.json("dlq", "show", one, "--reveal", keep=False)
    report.check("the search finds what is revealed", revealed(page) == world.value(one) and found(json.dumps(page).encode()))


def patient_asked(report, world, one, hashing):
    """An id that was given is the operator's own: it may show, and nothing else."""
    key = world.letter(one).key.decode()
    ids = world.room.path("ids")
    ids.write_text(key + "\n")
    # kcat has chosen the partition otherwise than Java's producers do.
    for words in (["patient", "-"], ["dlq", "list", "--patient", "-"], ["dlq", "replay", "--patient", "-"]):
        words.append("--all-partitions")
        with open(ids, "rb") as stdin:
            child = world.room.finish(*words, name="asked", stdin=stdin, environment=world.environment(**hashing))
        report.check(f"{' '.join(words)}: it was found", one in child.out() or "Would replay 1" in child.out(), child.out() + child.err())
        shown = (child.out() + child.err()).encode()
        world.said.append((" ".join(words), shown.replace(key.encode(), b"") if words[0] == "patient" else shown))


def many_letters(report, room):
    """As many as progress is told of, on a terminal."""
    brokers = real_broker(room)
    created_topics(room, brokers)
    file = room.path("many.ndjson")
    with open(file, "w") as lines:
        for number in range(MANY):
            cause = CAUSES[number % len(CAUSES)]
            headers = [
                ("error", f"RejectedError http_{cause}"), ("triage-error-class", "persistent"), ("triage-error-fingerprint", f"{cause:016x}"),
                ("triage-group", "clinic"), ("triage-origin", f"{CREATED}/{number % 3}/{number}"), ("triage-origin-timestamp", str(1764000000000 + number)),
                ("failedAt", "2026-11-23T03:00:00.000Z"), ("retryCount", "0")]
            lines.write(json.dumps({
                "topic": dead_letter_topic(CREATED), "partition": number % 3, "offset": number, "timestamp": 1764000000000 + number,
                "key": encoded(f"p-{number % PATIENTS}"), "value": encoded('{"resourceType":"Patient"}'),
                "headers": [[encoded(name), encoded(value)] for name, value in headers]}) + "\n")
    environment = {"TRIAGE_BROKERS": brokers, "OTEL_SDK_DISABLED": "true"}
    done = parsed(room.finish("dlq", "import", str(file), "--execute", "-o", "json", environment=environment, seconds=300))
    report.equal("as many are written", done["written"], MANY)
    wanted = collections.Counter(CAUSES[number % len(CAUSES)] for number in range(MANY))
    patients = {cause: len({n % PATIENTS for n in range(MANY) if CAUSES[n % len(CAUSES)] == cause}) for cause in wanted}
    groups = parsed(room.finish("dlq", "groups", "-o", "json", environment=environment))
    report.equal("groups: exactly so many of each cause", {int(g["error"][-3:]): g["count"] for g in groups}, dict(wanted))
    told = {int(g["error"][-3:]): (g["patients"], g["patients_estimated"]) for g in groups}
    report.check(
        "groups: patients exactly up to 4,096, then within some per cent, marked as an estimate",
        all(estimated == (patients[c] > 4096) and abs(count - patients[c]) <= (0.05 * patients[c] if estimated else 0)
            for c, (count, estimated) in told.items()) and {e for _, e in told.values()} == {True, False}, (told, patients))
    for words in (["dlq", "groups"], ["dlq", "list", "--fingerprint", "0"], ["dlq", "replay", "--all"]):
        shown = on_terminal([triage_path(), *words], clean_environment(environment))
        bars = [line for line in shown if re.search(r"\[[#.]{20}\] +\d+ %  \d+ of \d+", line)]
        shares = [int(re.search(r"(\d+) %", bar)[1]) for bar in bars]
        if words[1] == "list":
            report.check("list: it doesn't read all of them", len(bars) < MANY // 5000, bars)
        else:
            report.check(f"{' '.join(words)}: a bar that grows", len(bars) >= MANY // 5000 and shares == sorted(shares), shown)
        report.none(f"{' '.join(words)}: lines longer than the terminal", [bar for bar in bars if len(bar) > 100])


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def on_terminal(arguments, environment):
    """What a command shows on a terminal of 100 columns, each state of its last line by itself."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(arguments, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    output = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        output += piece
    os.close(master)
    process.wait(60)
    return [line for line in re.split(r"[\r\n]+|\x1b\[K", output.decode()) if line]
