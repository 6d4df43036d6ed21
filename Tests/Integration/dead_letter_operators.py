"""What several operators do to dead letters: discards and replays, at once, interrupted, and killed."""

import signal

from dead_letter_world import RETRY, open_counts, states_of
from harness import wait_until
from held_broker import HeldBroker


def discarded(report, world, groups):
    dry_run = world.dlq("discard", "--fingerprint", groups[503], "--reason", "an outage")
    report.check("discard: a dry run", "Would discard 10 dead letters" in dry_run.out() and open_counts(world)[503] == 10, dry_run.out())
    done = world.json("discard", "--fingerprint", groups[503], "--reason", "an outage", "--execute", "--as", "ben")
    report.equal("discard", (done["changed"], 503 in open_counts(world)), (10, False))
    letter = world.json("list", "--fingerprint", groups[503], "--limit", "1")[0]
    report.equal("discard: by whom and why", (letter["status"], letter["state"]["by"], letter["state"]["reason"]), ("discarded", "ben", "an outage"))
    report.equal("what is discarded isn't replayed", world.json("replay", "--fingerprint", groups[503], "--execute")["replayed"], 0)
    back = world.json("reopen", "--fingerprint", groups[503], "--execute")
    report.equal("reopen takes it back", (back["changed"], open_counts(world)[503]), (10, 10))


def two_operators(report, world, groups):
    """Two replay one group at once: the later one fences the earlier, and nothing is replayed twice."""
    world.receiver.mended.add(400)
    words = ["dlq", "replay", "--fingerprint", groups[400], "--execute", "--rate", "10", "-o", "json"]
    before = len(world.kcat.read(RETRY))
    first = world.room.triage(*words, "--as", "ana", name="first", environment=world.environment())
    wait_until("the first has begun", lambda: not first.is_running() or len(world.kcat.read(RETRY)) > before, 30, interval=0.2)
    second = world.room.triage(*words, "--as", "ben", name="second", environment=world.environment())
    ends = (first.wait(60), second.wait(120))
    world.outputs += [("replay", child.err().encode()) for child in (first, second)]
    report.equal("one of two operators is fenced", ends, (1, 0))
    report.check("and is told by whom", "ben" in first.err() and "operates the dead letters" in first.err(), first.err())
    report.note(f"the fenced one says: {first.err().strip()}")
    wait_until("all are completed", lambda: states_of(world, "--fingerprint", groups[400]) == {"completed": 80}, 90, interval=0.5)
    mine = {letter["id"] for letter in world.json("list", "--fingerprint", groups[400], "--limit", "1000")}
    replays = {position: messages for position, messages in world.replays().items() if position in mine}
    report.equal("two operators: each dead letter once", (len(replays), {len(messages) for messages in replays.values()}), (80, {1}))
    patients = [identifier for identifier, status in world.receiver.causes.items() if status == 400]
    report.equal("two operators: each event was accepted once", {world.receiver.accepted_ids[identifier] for identifier in patients}, {2})


def killed(report, world, groups):
    """A replay is killed between two transactions, inside one, and at its end: the next one goes on, and each was replayed once."""
    # noida-db names each aborted transaction in every answer to a fetch for good, not only to those that begin before its end. A
    # reader that stands behind one drops what the same producer commits later; one that begins before it sees all. So the
    # service rests while replays are killed, and is started anew, where it had stopped, when all has been written.
    world.run.signal(signal.SIGTERM)
    report.equal("kill -9: the service stops before", world.run.wait(60), 0)
    world.receiver.mended.add(410)
    mine = {letter["id"] for letter in world.json("list", "--fingerprint", groups[410], "--status", "open", "--limit", "1000")}
    words = ["dlq", "replay", "--fingerprint", groups[410], "--execute", "--as", "cleo", "-o", "json"]

    def counted():
        return sum(position in mine for position in world.replays())

    def written():
        """Records of the retry topic, those of open and aborted transactions among them."""
        return world.kcat.call(
            ["-C", "-t", RETRY, "-o", "beginning", "-e", "-q", "-f", "%o\\n", "-X", "isolation.level=read_uncommitted"]).count(b"\n")

    def kill(child):
        child.signal(signal.SIGKILL)
        child.wait(30)

    # Four go into a transaction, and the next one begins a second later.
    child = world.room.triage(*words, "--rate", "4", name="killed", environment=world.environment())
    wait_until("it has begun", lambda: not child.is_running() or counted() > 0, 60, interval=0.02)
    kill(child)
    between = counted()
    report.check("kill -9 between two transactions", 0 < between < len(mine) and between % 4 == 0, between)
    # At known places: before the states are written, before the commit, and when it is committed but nobody has been told.
    for hold, committed in (("state", 0), ("commit", 0), ("answer", 10)):
        before, total = counted(), written()
        held = HeldBroker(world.room, world.brokers, RETRY, hold)
        child = world.room.triage(
            *words, "--limit", "10", "-b", held.address, name=f"held-{hold}", environment=world.environment())
        wait_until(f"its {hold} is held", lambda: not child.is_running() or held.held.is_set(), 60, interval=0.02)
        report.check(f"kill -9 with its {hold} held: it runs", child.is_running(), child.err())
        kill(child)
        report.equal(
            f"kill -9 with its {hold} held: ten are written, so many count", (written() - total, counted() - before), (10, committed))
        report.equal(
            f"kill -9 with its {hold} held: states say the same", states_of(world, "--fingerprint", groups[410])["replayed"], counted())
        held.close()
    left = len(mine) - counted()
    rest = world.json("replay", "--fingerprint", groups[410], "--execute", seconds=180)
    report.equal("kill -9: the last one did the rest", rest["replayed"], left)
    report.equal("kill -9: what was aborted stays aborted", written() - len(world.kcat.read(RETRY)), 20)
    replays = {position: messages for position, messages in world.replays().items() if position in mine}
    report.equal("kill -9: none is lost, none is double", (len(replays), {len(messages) for messages in replays.values()}), (40, {1}))
    world.serve()
    wait_until(
        "all are completed", lambda: states_of(world, "--fingerprint", groups[410]) == {"failed_again": 3, "completed": 40}, 90, interval=0.5)
    patients = [identifier for identifier, status in world.receiver.causes.items() if status == 410]
    report.equal("kill -9: each event was accepted once", {world.receiver.accepted_ids[identifier] for identifier in patients}, {1})


def interrupted(report, world, groups):
    """Ctrl-C ends a replay between two transactions, and says how far it got."""
    world.receiver.mended.add(503)
    child = world.room.triage(
        "dlq", "replay", "--fingerprint", groups[503], "--execute", "--rate", "2", name="interrupted", environment=world.environment())
    before = len(world.kcat.read(RETRY))
    wait_until("it has begun", lambda: not child.is_running() or len(world.kcat.read(RETRY)) > before, 60, interval=0.05)
    child.signal(signal.SIGINT)
    report.equal("Ctrl-C: its status", child.wait(30), 130)
    world.outputs.append(("replay", child.err().encode()))
    replayed = [m for m in world.replays().values() if m[0].text("triage-replay")]
    told = [line for line in child.err().splitlines() if line.startswith("replayed ")]
    report.check("Ctrl-C: how far it got is told", len(told) == 1 and " of 10 before it ended" in told[0], child.err())
    left = open_counts(world).get(503, 0)
    report.check("Ctrl-C: the others are open", left == 10 - int(told[0].split()[1]) if told else False, (left, told, len(replayed)))
