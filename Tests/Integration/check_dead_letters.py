"""Failed events on a real broker: found, explained, repaired, replayed; by several operators, one of which is killed."""

import collections
import json
import signal

from check_privacy import found
from dead_letter_foreign import foreign, strange
from dead_letter_operators import discarded, interrupted, killed, two_operators
from dead_letter_repairs import archived, edited, repaired
from dead_letter_world import CAUSES, DLQ, FAILURES, GROUP, RETRY, STATES, TOPIC, World, open_counts, states_of
from harness import Failed, clean_environment, on_terminal, parsed, triage_path, wait_until
from spans import spans_of


def dead_letters(report, room):
    """The whole way from 200 failures of 5 causes to events that are handled, and what may go wrong on it."""
    world = World(room)
    world.serve()
    world.publish()
    wait_until(
        f"{FAILURES} dead letters", lambda: not world.run.is_running() or len(world.letters()) >= FAILURES, 120, interval=1)
    if not world.run.is_running():
        raise Failed(f"the service ends with {world.run.process.returncode}: {world.run.err()[-1500:]}")
    groups = found_groups(report, world)
    listed(report, world)
    shown(report, world, groups)
    dry(report, world, groups)
    healed(report, world, groups)
    canary_fails(report, world, groups)
    repaired(report, world, groups)
    discarded(report, world, groups)
    two_operators(report, world, groups)
    interrupted(report, world, groups)
    archived(report, world, room)
    foreign(report, world)
    strange(report, world)
    edited(report, world, groups)
    terminal(report, world)
    killed(report, world, groups)
    world.run.signal(signal.SIGTERM)
    report.equal("the service stops cleanly", world.run.wait(60), 0)
    traces(report, world)
    report.check("outputs were searched", len(world.outputs) > 40)
    report.none("markers in what was printed without --reveal", [(place, found(data)) for place, data in world.outputs if found(data)])
    otlp = b"".join(world.collector.everything())
    report.check("no marker in telemetry", not found(otlp), found(otlp))


def found_groups(report, world):
    groups = world.groups()
    report.equal("groups: exactly these, with these counts", {status: group["count"] for status, group in groups.items()}, CAUSES)
    report.equal("groups: in order of their size", [group["count"] for group in world.json("groups")], sorted(CAUSES.values(), reverse=True))
    report.equal(
        "groups: distinct patients", {status: group["patients"] for status, group in groups.items()}, {**CAUSES, 400: 40})
    report.check("groups: shares add up to one", abs(sum(group["share"] for group in groups.values()) - 1) < 1e-9)
    report.equal("groups: fingerprints are five", len({group["fingerprint"] for group in groups.values()}), 5)
    report.equal("groups: each has its topic", {json.dumps(group["topics"]) for group in groups.values()} , {json.dumps({TOPIC: n}) for n in CAUSES.values()})
    text = world.dlq("groups").out()
    report.equal("groups: a table of five rows", len(text.strip().splitlines()), 6)
    fingerprint = groups[404]["fingerprint"]
    report.equal("groups: by class", [g["count"] for g in world.json("groups", "--class", "transient")], [CAUSES[503]])
    report.equal("groups: by part of a fingerprint", [g["count"] for g in world.json("groups", "--fingerprint", fingerprint[:6])], [50])
    report.equal("groups: of another group", world.json("groups", "-g", "nobody"), [])
    report.equal("groups: in the future", world.json("groups", "--since", "2200-01-01"), [])
    return {status: group["fingerprint"] for status, group in groups.items()}


def listed(report, world):
    letters = world.json("list", "--limit", "1000")
    report.equal("list: all of them", len(letters), FAILURES)
    times = [letter["written"] for letter in letters]
    report.equal("list: the newest first", times, sorted(times, reverse=True))
    report.equal("list: each has a trace", {len(letter["trace_id"]) for letter in letters}, {32})
    report.equal("list: all are open", {letter["status"] for letter in letters}, {"open"})
    report.equal("list: as they stand in Kafka", {letter["id"] for letter in letters}, {message.position for message in world.letters()})
    patient = next(identifier for identifier, status in world.receiver.causes.items() if status == 404)
    found_one = world.json("list", "--patient", patient)
    report.equal("list: of one patient", [letter["origin"].split("/")[0] for letter in found_one], [TOPIC])
    message = next(message for message in world.letters() if message.key == patient.encode())
    report.equal("list: it is that patient's", found_one[0]["id"], message.position)
    cut = world.dlq("list", "--limit", "7")
    report.check("list: a limit is told", len(cut.out().strip().splitlines()) == 8 and "newest 7" in cut.err(), cut.out())


def shown(report, world, groups):
    letter = world.json("list", "--fingerprint", groups[404], "--limit", "1")[0]
    page = world.json("show", letter["id"])
    report.equal("show: one attempt", [attempt["fingerprint"] for attempt in page["attempts"]], [groups[404]])
    report.check("show: a link to its trace", page["links"][0]["url"].endswith(f"/trace/{letter['trace_id']}"), page["links"])
    headers = {header["name"]: header.get("value") for header in page["headers"]}
    report.equal(
        "show: what headers say", (headers["triage-group"], headers["triage-origin"], headers["retryCount"]), (GROUP, letter["origin"], "0"))
    paths = {line["path"]: line["type"] for line in page["shape"]}
    report.equal(
        "show: the payload's shape", (paths["data.name[].family"], paths["data.multipleBirthInteger"], paths["metadata.eventId"]),
        ("string", "number", "string"))
    text = world.dlq("show", letter["id"]).out()
    report.check("show: a page", all(part in text for part in ("ATTEMPTS", "HEADERS", "data.name[].family", groups[404])), text)
    for wrong, part in ((f"{DLQ}/0/999999", "last offset"), (f"{DLQ}/77/0", "partitions"), ("no.such.dlq/0/0", "no topic")):
        child = world.dlq("show", wrong, expect=1)
        report.check(f"show: {wrong.split('/', 1)[1]} is told to be none", part in child.err() and not child.out(), child.err())
    for child in (
        world.dlq("show", "x\x1b[2J/0/1", expect=1), world.dlq("show", "x\x1b[2J.dlq/0/1", expect=1),
        world.dlq("list", "--dlq-topic", "x\x1b[2J", expect=1), world.explain("x\x1b[2J/0/1"),
    ):
        report.check("a topic that moves the cursor doesn't", child.process.returncode == 1 and "\x1b" not in child.err(), child.err())
    report.check("show: what is no id is usage", world.dlq("show", "nonsense", expect=64).err() != "")
    revealed(report, world, letter)


def revealed(report, world, letter):
    message = next(message for message in world.letters() if message.position == letter["id"])
    before = len([record for record in world.kcat.read(STATES) if record.key.startswith(b"audit/")])
    child = world.dlq("show", letter["id"], "--reveal", "--as", "ana", "--reason", "INC-1", "-o", "json", keep=False)
    page = parsed(child)
    report.equal("reveal: the payload", page["revealed"]["value"]["text"].encode(), message.value)
    report.equal("reveal: the key", page["revealed"]["key"]["text"].encode(), message.key)
    report.check("reveal: is logged", "revealed" in child.err() and letter["id"] in child.err() and "ana" in child.err(), child.err())
    report.check("reveal: the log has nothing of it", not found(child.err().encode()), child.err())
    audits = [json.loads(record.value) for record in world.kcat.read(STATES) if record.key.startswith(b"audit/")]
    report.equal("reveal: is on record", len(audits), before + 1)
    report.equal(
        "reveal: who, which, why", (audits[-1]["action"], audits[-1]["of"], audits[-1]["by"], audits[-1]["reason"]),
        ("reveal", [letter["id"]], "ana", "INC-1"))
    text = world.dlq("show", letter["id"], "--reveal", keep=False).out()
    report.check("reveal: in text", message.value.decode() in text, text)
    report.equal("reveal: changes no state", world.json("list", "--limit", "1000", "--status", "open").__len__(), FAILURES)


def dry(report, world, groups):
    child = world.dlq("replay", "--fingerprint", groups[404][:8], "--canary", "3")
    report.check(
        "dry run: how many, where to, how to do it",
        all(part in child.out() for part in ("50 dead letters", f"to {RETRY}, for the group {GROUP}: 50", "--canary 3", "--execute", "--until 20")),
        child.out())
    report.equal("dry run: as JSON", world.json("replay", "--fingerprint", groups[404])["targets"], {f"{RETRY}, for the group {GROUP}": 50})
    report.equal("dry run: nothing is written", world.replays(), {})
    limited = world.json("replay", "--fingerprint", groups[404], "--limit", "7")
    report.equal(
        "dry run: with a limit so many, and their targets", (limited["count"], limited["targets"]), (7, {f"{RETRY}, for the group {GROUP}": 7}))
    report.check("--to origin is warned of", "every group" in world.dlq("replay", "--all", "--to", "origin").err())
    for words in (["replay"], ["replay", "--all", "--class", "system"], ["discard", "--all"], ["replay", "--all", "--edit", "--execute"]):
        world.dlq(*words, expect=64)


def healed(report, world, groups):
    """The cause of one group is fixed: it heals, the others stay; a second replay does nothing."""
    world.receiver.mended.add(404)
    dead = {letter["id"] for letter in world.json("list", "--fingerprint", groups[404], "--limit", "1000")}
    result = world.json("replay", "--fingerprint", groups[404], "--canary", "3", "--execute", "--as", "ana", "--reason", "fixed")
    report.equal("replay: all of the group, after its canaries", (result["replayed"], result["canary"]["result"]), (50, "completed"))
    wait_until("the group is completed", lambda: states_of(world, "--fingerprint", groups[404]) == {"completed": 50}, 60, interval=0.5)
    report.equal("replay: the others stay", open_counts(world), {s: n for s, n in CAUSES.items() if s != 404})
    replays = world.replays()
    report.equal("replay: these dead letters", set(replays), dead)
    report.equal("replay: each once", {len(messages) for messages in replays.values()}, {1})
    old = {message.position: message.text("traceparent").split("-")[1] for message in world.letters()}
    world.traces = {
        position: (old[position], messages[0].text("traceparent").split("-")[1]) for position, messages in replays.items()}
    record = next(iter(replays.values()))[0]
    report.equal(
        "replay: the record", (record.text("retryCount"), record.text("triage-group"), record.header("error"), record.header("triage-attempts")),
        ("0", GROUP, None, None))
    patients = [identifier for identifier, status in world.receiver.causes.items() if status == 404]
    report.equal("replay: each was delivered once more", {world.receiver.deliveries[identifier] for identifier in patients}, {2})
    again = world.json("replay", "--fingerprint", groups[404], "--execute")
    report.equal("a second replay does nothing", (again["replayed"], len(world.kcat.read(RETRY))), (0, 50))
    one = sorted(dead)[0]
    by_id = world.json("replay", one, "--execute")
    report.equal("nor one by its id", (by_id["replayed"], by_id["unchanged"]), (0, {"completed": 1}))
    page = world.json("show", one)
    state = page["state"]
    report.equal("show: what became of it, and who found out", (page["status"], state["by"], state["replay"]), ("completed", GROUP, result["replay"]))
    report.equal("show: who replayed it, and why, after its outcome", (state.get("replayed_by"), state.get("reason")), ("ana", "fixed"))
    report.check("show: when, before its outcome", "2026" <= state.get("replayed_at", "") <= state["time"], state)
    text = world.dlq("show", one).out()
    report.check("show: all of that in text", "by ana" in text and "fixed" in text and f"by {GROUP}" in text, text)
    text = world.explain(one).out()
    report.check("explain: who replayed it, and why", "replayed by ana: fixed" in text and "its replay was handled" in text, text)


def canary_fails(report, world, groups):
    """The cause isn't fixed: the canaries fail again, the others are not begun."""
    child = world.dlq("replay", "--fingerprint", groups[410], "--canary", "3", "--execute", "-o", "json", expect=1)
    result = parsed(child)
    report.equal("a canary fails: only those were replayed", (result["replayed"], result["canary"]["result"], result["left"]), (3, "failed_again", 37))
    report.check("a canary fails: where to look is told", f"triage explain {result['canary']['ids'][0]}" in child.err(), child.err())
    wait_until(
        "all canaries have failed again", lambda: states_of(world, "--fingerprint", groups[410]) == {"failed_again": 3, "open": 40}, 60,
        interval=0.5)
    report.equal("a canary fails: as many are open as before", open_counts(world)[410], 40)
    page = world.json("show", result["canary"]["ids"][0])
    successor = page["state"]["successor"]
    report.check("what failed again names its successor", successor.startswith(DLQ), page["state"])
    report.equal("the successor is open, and of that replay", world.json("show", successor)["status"], "open")


def terminal(report, world):
    """Tables keep within a terminal, however narrow, and ids stay whole as long as they fit."""
    for words, first, columns in (
        (["list", "--limit", "5"], "ID", 80), (["list", "--limit", "5"], "ID", 60), (["list", "--limit", "5"], "ID", 45),
        (["groups", "--all"], "FINGERPRINT", 60), (["groups", "--all"], "FINGERPRINT", 30),
    ):
        status, output = on_terminal([triage_path(), "dlq", *words], clean_environment(world.environment()), columns)
        world.outputs.append((f"{words[0]} on a terminal", output))
        rows = output.decode().replace("\r\x1b[K", "").splitlines()
        table = next((rows[index:] for index, row in enumerate(rows) if row.startswith(first)), [])
        table = table[:6]
        report.check(
            f"a table of {words[0]} fits a terminal of {columns} columns",
            status == 0 and len(table) == 6 and max(map(len, table)) <= columns
            and (first != "ID" or all(row.startswith(f"{DLQ}/") for row in table[1:])), rows)


def traces(report, world):
    """The trace of a replayed event links to its old trace, and that has a span `replayed` under the dead letter's send."""
    spans = spans_of(world.collector.traces())
    by_id = {(span["traceId"], span["spanId"]): span for span in spans}
    by_trace = collections.defaultdict(list)
    for span in spans:
        by_trace[span["traceId"]].append(span)

    def named(trace, name):
        return [span for span in by_trace[trace] if span["name"] == name]

    def linked(span):
        return [by_id.get((link["traceId"], link["spanId"])) for link in span["links"]]

    def leads(span, trace, name):
        return any(target and target["traceId"] == trace and target["name"] == name for target in linked(span))

    faults = []
    for position, (old, new) in world.traces.items():
        replays, marks = named(new, f"replay {DLQ}"), named(old, "replayed")
        if old == new or len(replays) != 1 or replays[0]["parentSpanId"] or not leads(replays[0], old, f"send {DLQ}"):
            faults.append((position, "the replay isn't the root of a new trace with a link to the dead letter's send"))
        if len(marks) != 1 or not leads(marks[0], new, f"replay {DLQ}"):
            faults.append((position, "the old trace has no span replayed with a link to the new one", [span["name"] for span in by_trace[old]]))
        elif by_id.get((old, marks[0]["parentSpanId"]), {}).get("name") != f"send {DLQ}":
            faults.append((position, "replayed isn't below the dead letter's send"))
        if not named(new, f"process {RETRY}"):
            faults.append((position, "the new trace doesn't go on", [span["name"] for span in by_trace[new]]))
    report.equal("traces were looked at", len(world.traces), 50)
    report.none("each replay is a trace that links to the old one, which shows it", faults)
