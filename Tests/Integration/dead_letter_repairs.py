"""Dead letters whose payloads are mended, and that go to another cluster and back."""

import json
import signal

from check_privacy import found
from dead_letter_world import CAUSES, DLQ, RETRY, STATES, states_of
from harness import parsed, wait_until
from parts import Kcat, real_broker


def repaired(report, world, groups):
    """A patch mends the payload itself; the original is kept."""
    patch = world.room.path("patch.json")
    patch.write_text('[{"op":"replace","path":"/data/name/0/family","value":"REPAIRED"},{"op":"test","path":"/data/multipleBirthInteger","value":2.0}]')
    bad = world.json("replay", "--fingerprint", groups[422], "--patch", '[{"op":"test","path":"/data/active","value":true}]', expect=1)
    report.equal("a patch that doesn't go is seen in the dry run, which says so", (bad["count"], bad["refused"]), (0, CAUSES[422]))
    world.dlq("replay", "--fingerprint", groups[422], "--patch", '[{"op":"spam"}]', expect=64)
    broken = world.dlq("replay", "--fingerprint", groups[422], "--patch", '[{"op":"remove","path":"/data"}]', "--execute", "-o", "json", expect=1)
    report.equal("a patch that makes no event of it is refused", (parsed(broken)["replayed"], parsed(broken)["refused"]), (0, CAUSES[422]))
    before = {message.position: message.value for message in world.letters()}
    result = world.json("replay", "--fingerprint", groups[422], "--patch", str(patch), "--limit", "5", "--execute", "--reason", "names")
    report.equal("patched and replayed", (result["replayed"], result["refused"]), (5, 0))
    wait_until("those are completed", lambda: states_of(world, "--fingerprint", groups[422]).get("completed") == 5, 60, interval=0.5)
    audits = {}
    for record in world.kcat.read(STATES):
        parts = record.key.decode().split("/", 2)
        if parts[0] == "audit" and parts[1] == result["replay"]:
            audits[parts[2]] = record.value
    report.equal("the originals are kept", (len(audits), all(before[position] == value for position, value in audits.items())), (5, True))
    one = sorted(audits)[0]
    original(report, world, one, [before[one]], "ops")
    sent = {position: messages[-1] for position, messages in world.replays().items() if position in audits}

    def mended(value):
        event = json.loads(value)
        event["data"]["name"][0]["family"] = "REPAIRED"
        return event

    report.check(
        "and nothing else was changed",
        all(
            json.loads(message.value) == mended(before[position]) and b'"telecom":[{"system": "phone"' in message.value
            for position, message in sent.items()),
        [message.value for message in sent.values()])


def original(report, world, position, expected, name):
    """What a dead letter's event said before it was edited is told to whoever asks, on record, and to nobody else."""
    def records():
        values = [json.loads(record.value) for record in world.kcat.read(STATES) if record.key.startswith(b"audit/") and b'"action"' in record.value]
        return [value for value in values if value["action"] == "original"]

    before = len(records())
    child = world.dlq("show", position, "--original", "--as", name, "--reason", "INC-2", "-o", "json", keep=False)
    report.equal("original: byte for byte", [item["value"]["text"].encode() for item in parsed(child)["originals"]], expected)
    report.check("original: is logged, with nothing of it", position in child.err() and name in child.err() and not found(child.err().encode()), child.err())
    told = records()
    report.equal("original: is on record", (len(told), told[-1]["of"], told[-1]["by"], told[-1]["reason"]), (before + 1, [position], name, "INC-2"))
    report.check("original: in text", expected[-1].decode() in world.dlq("show", position, "--original", keep=False).out())
    report.check("original: isn't shown without being asked for", "originals" not in world.json("show", position))


def edited(report, world, groups):
    """$EDITOR changes one: by a file that only the operator can read, which is gone afterwards."""
    seen = world.room.path("seen")
    editor = world.room.path("editor")
    editor.write_text(f'#!/bin/sh\nstat -c "%a %n" "$1" "$(dirname "$1")" > {seen}\n[ -n "$CHANGE" ] && sed -i "$CHANGE" "$1"\n[ -n "$SLEEP" ] && exec sleep "$SLEEP"\nexit 0\n')
    editor.chmod(0o755)
    letters = world.json("list", "--fingerprint", groups[422], "--status", "open", "--limit", "1000")
    one = letters[0]["id"]

    def edit(change, expect, position=one, **environment):
        return world.dlq(
            "replay", position, "--edit", "--execute", "--as", "dora", expect=expect,
            environment={"VISUAL": str(editor), "CHANGE": change, "XDG_RUNTIME_DIR": str(world.room.directory), **environment})

    before = len(world.kcat.read(RETRY))
    child = edit("", 0)
    report.check("unchanged: nothing is done", "nothing is done" in child.err() and len(world.kcat.read(RETRY)) == before, child.err())
    modes = [line.split()[0] for line in seen.read_text().splitlines()]
    report.equal("the file's and its directory's mode", modes, ["600", "700"])
    report.check("broken JSON is refused", "invalid_json" in edit("s/}$//", 1).err())
    report.check("what is no event is refused", "at" in edit('s/"birthDate": "1801-02-03"/"birthDate": 7/', 1).err())
    edit("s/CANARY-family-[0-9]*/REPAIRED/", 0)
    wait_until("the edited one is completed", lambda: world.json("show", one)["status"] == "completed", 60, interval=0.5)
    original(report, world, one, [next(message.value for message in world.letters() if message.position == one)], "dora")
    edited_in_vain(report, world, letters[2]["id"], edit)
    # Ended while the editor runs: nothing stays behind.
    running = world.room.triage(
        "dlq", "replay", letters[1]["id"], "--edit", "--execute", name="editing",
        environment=world.environment(VISUAL=str(editor), SLEEP="600", XDG_RUNTIME_DIR=str(world.room.directory)))
    seen.unlink()
    wait_until("the editor runs", lambda: seen.exists() and seen.read_text().count("\n") == 2, 60)
    running.signal(signal.SIGTERM)
    report.equal("ended while editing: its status", running.wait(30), 128 + signal.SIGTERM)
    report.equal("no edited file is left", [path.name for path in world.room.directory.glob("triage-edit-*")], [])


def edited_in_vain(report, world, first, edit):
    """What fails again after its edit leads back to what it said when it came, from each dead letter that it was."""
    came = next(message.value for message in world.letters() if message.position == first)
    edit("s/CANARY-family-[0-9]*/CANARY-family-0/", 0, position=first)
    page = wait_until(
        "it has failed again", lambda: next((page for page in [world.json("show", first)] if page["status"] == "failed_again"), None), 60,
        interval=0.5)
    second = page["state"]["successor"]
    original(report, world, second, [came], "dora")
    between = next(message.value for message in world.letters() if message.position == second)
    report.check("what failed again is what it was edited to", between != came and b"CANARY-family-0" in between, between)
    edit("s/CANARY-family-0/REPAIRED/", 0, position=second)
    wait_until("it is completed", lambda: world.json("show", second)["status"] == "completed", 60, interval=0.5)
    for position in (first, second):
        original(report, world, position, [came, between], "dora")


def archived(report, world, room):
    """Exported, and imported on another cluster, byte for byte; twice is once."""
    lines = world.dlq("export", "--all", keep=False)
    letters = world.letters()
    exported = [json.loads(line) for line in lines.out().splitlines()]
    report.equal("export: all of them", len(exported), len(letters))
    report.check("export: it is said what that is", "patient data" in lines.err(), lines.err())
    file = room.path("dead-letters.ndjson")
    file.write_text(lines.out())
    here = world.json("import", str(file), "--execute")
    report.equal("import: what is there isn't written again", (here["written"], here["present"]), (0, len(letters)))
    other = real_broker_beside(room)
    room.finish("topics", "create", "-b", other, "--partitions", "3")
    dry_run = world.json("import", str(file), "-b", other)
    report.equal("import: a dry run writes nothing", (dry_run["written"], Kcat(other).read(DLQ)), (len(letters), []))
    done = world.json("import", str(file), "-b", other, "--execute")
    again = world.json("import", str(file), "-b", other, "--execute")
    report.equal("import: once", (done["written"], again["written"], again["present"]), (len(letters), 0, len(letters)))

    def content(messages):
        return sorted((m.partition, m.key or b"", m.value or b"", tuple(m.headers)) for m in messages)
    report.check("import: byte for byte", content(Kcat(other).read(DLQ)) == content(letters))
    report.equal("import: the groups are there", sum(g["count"] for g in world.json("groups", "-b", other)), len(letters))
    bad = room.path("bad.ndjson")
    bad.write_text('{"topic":"x"}\nCANARY no JSON\n')
    child = world.dlq("import", str(bad), "--execute", expect=1)
    report.check("import: lines that are none are named", "line 1" in child.err() and "line 2" in child.err(), child.err())


def real_broker_beside(room):
    """A second broker, in a directory of its own."""
    class Beside:
        def __init__(self):
            self.start = room.start

        def path(self, name):
            return room.path(f"second-{name}")
    return real_broker(Beside())
