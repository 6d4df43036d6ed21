#!/usr/bin/env python3
"""Nothing lost, nothing out of order: real processes that are killed, brokers that fail, and a verdict from outside.

    check_faults.py [--events N] [--faults M] [--seed S] [--workers W] [--unordered] [--keep FOLDER]

runs the group `faults` alone, in other sizes than continuous integration does.
"""

import argparse
import collections
import pathlib
import random
import secrets
import shutil
import sys
import time

import fault_traces
import fault_verdict
from collector import Collector
from fault_verdict import SILENCING, Fault, History, Verdict, trimmed
from faults import TOPICS, BrokerDied, Cluster, Feed, Injector, Workers, expulsions
from harness import Report, Room, wait_until
from parts import Kcat, real_broker

# A member that was killed is missed after this; the mock's first assignment takes three seconds.
SESSION = ["-X", "session.timeout.ms=3500", "-X", "heartbeat.interval.ms=500", "-X", "max.poll.interval.ms=20000"]
PACE = [
    "--retry", "exponential:3,base=200ms,cap=800ms,jitter=0.2", "--attempt-timeout", "1s", "--commit-interval", "100ms",
    "--grace-period", "10s", "--concurrency", "16",
]
# Every event is traced, and what ends leaves soon: a kill takes little with it.
TRACED = {
    "OTEL_TRACES_SAMPLER": "always_on", "OTEL_BSP_SCHEDULE_DELAY": str(int(fault_traces.EXPORT_DELAY * 1000)),
    "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
}
# Share of each fault, those that end processes first; a member that was expelled is like one that was killed.
PROCESS = ["kill", "term"]
BROKER = ["broker-down", "commit-errors", "produce-errors", "leader", "coordinator", "heartbeat-errors", "round-trip"]
HARMLESS = ["commit-errors", "produce-errors", "leader", "round-trip"]


def verdict(report, room):
    """The judge itself: a history in which all is well, and what it says when one thing in it is wrong."""
    seed = 7
    records, lines, dead, at = fault_verdict.example(seed)
    kill = [Fault("kill", at, at, 5.0, 1, at / 1e9)]
    sound = Verdict(lines, records, dead, kill, seed)
    report.none("a sound history has no finding", [name for name, found in sound.findings.items() if found])
    report.equal("in it, events of each kind", sorted(kind for kind in sound.counts if kind in fault_verdict.KINDS), sorted(fault_verdict.KINDS))
    for name, rule, (events, history, letters) in fault_verdict.broken(records, lines, dead, seed):
        found = [rule for rule, offenders in Verdict(history, events, letters, kill, seed).findings.items() if offenders]
        report.check(f"found: {name}", any(rule in name for name in found), found)
    findings = fault_traces.Chains(*fault_traces.example(), [], []).findings
    report.none("sound traces have no finding", [name for name, found in findings.items() if found])
    for name, rule, parts in fault_traces.broken():
        findings = fault_traces.Chains(*parts, [], []).findings
        report.check(f"found: {name}", findings[rule], findings)


def faults(report, room):
    """20,000 events, 60 faults, three processes, every event traced; then thousands without a fault."""
    try:
        run(report, room, events=20_000, count=60, seed=secrets.randbelow(1 << 31))
    except BrokerDied as error:
        # Seen once in some twenty runs, and not again with its seed: librdkafka's mock cluster, whose threads these orders disturb,
        # is no part of what is judged. Twice in a row would be something else.
        report.note(f"once more: {error}")
        with Room() as another:
            run(report, another, events=20_000, count=60, seed=secrets.randbelow(1 << 31))


def run(report, room, events, count, seed, slots=3, ordered=True, keep=None):
    report.note(f"seed {seed}: check_faults.py --events {events} --faults {count} --seed {seed}")
    # A partition of the mock keeps 5 MiB; a record with its headers and its copies in the retry topic is well below 1 KiB.
    partitions = max(6, events // 8000)
    cluster = Cluster(room, partitions=partitions)
    kcat = Kcat(cluster.address)
    collector = Collector()
    room.closers.append(collector.close)
    workers = Workers(room, cluster.address, "faults", seed, SESSION + PACE, environment=collector.environment(**TRACED))
    history = History(workers.record)
    feed = Feed(kcat, room, seed)
    injector = Injector(cluster, workers, seed, partitions)

    feed.add(events * 15 // 100)
    feed.wait(30)
    for slot in range(slots):
        # The group begins with whoever is there after three seconds; who is later makes it rebalance.
        workers.start(slot)
        injector.note("join")
    calm = events // 10
    wait_until("the first events are done", lambda: history.read() >= 0 and len(history.done) >= calm, 60)
    harmless = count // 5
    schedule = [HARMLESS[index % len(HARMLESS)] for index in range(harmless)]
    turns(feed, injector, workers, history, schedule, events * 10 // 100, 0.5)
    time.sleep(1)
    mixed = count - harmless
    ends = [PROCESS[index % len(PROCESS)] for index in range(mixed // 3)]
    others = [BROKER[index % len(BROKER)] for index in range(mixed - len(ends))]
    dice = random.Random(seed)
    dice.shuffle(ends)
    dice.shuffle(others)
    # Each end of a process is followed by two other faults, while the group is still busy with it.
    schedule = []
    while ends or others:
        schedule += ends[:1] + others[:2]
        ends, others = ends[1:], others[2:]
    turns(feed, injector, workers, history, schedule, events * 60 // 100, 1.3)
    injector.settle(60)
    for slot in range(slots):
        if slot not in workers.running:
            workers.start(slot)
            injector.note("join")
    feed.add(events - events * 85 // 100)
    feed.wait(60)
    report.note(f"{len(injector.faults)} faults: {dict(collections.Counter(f.kind for f in injector.faults))}")
    records, dead = drain(report, kcat, workers, history)
    records, dead = quiet(report, kcat, feed, workers, history, records, slots, partitions, max(900, events // 8), ordered)
    workers.stop()
    finish(report, room, kcat, workers, history, records, dead, injector, ordered)
    traces(report, kcat, collector, history, records, dead, injector)
    if keep:
        shutil.copytree(room.directory, keep, dirs_exist_ok=True)
        begin = injector.faults[0].begin
        pathlib.Path(keep, "faults.txt").write_text("".join(
            f"{f.begin} +{(f.begin - begin) / 1e9:.2f} s {f.kind} process {f.process} until {f.end}\n" for f in injector.faults))
    report.check(f"at least {count} faults", len(injector.faults) >= count, len(injector.faults))


def quiet(report, kcat, feed, workers, history, before, slots, partitions, events, ordered):
    """Without a fault nothing is excused: not one repeat, none out of order; nor across a clean stop in mid-work.

    The mock takes no commit while its group rebalances, so that members that leave one another in mid-work repeat events there (a
    real broker takes them: `rebalance` stops all of them at once). Here all but one leave while nothing is to do.
    """
    begin = time.monotonic()
    # Whoever was expelled has come back, and what it had done is done again by now.
    settled(workers, len(TOPICS) * 2 * partitions)
    pause(workers, 4)
    settled(workers, len(TOPICS) * 2 * partitions)
    history.read()
    known, mark = {record.position for record in before}, len(history.lines)
    for _ in range(6):
        feed.add(events // 6)
        pause(workers, 0.3)
    feed.wait(60)
    drain(report, kcat, workers, history)
    for slot in sorted(workers.running)[1:]:
        # Everything is committed by then.
        pause(workers, 2)
        workers.terminate(slot).wait(20)
        settled(workers, len(TOPICS) * 2 * partitions)
    # The last is stopped while there is work, and all go on where it was.
    feed.add(events // 3)
    at_work = len(history.lines) + events // 6
    wait_until("there is work", lambda: history.read() >= 0 and len(history.lines) > at_work, 30, 0.002)
    workers.stop()
    history.read()
    feed.wait(60)
    stopped = len(history.lines)
    for slot in range(slots):
        workers.start(slot)
    records, dead = drain(report, kcat, workers, history)
    history.read()
    report.check(
        f"stopped in mid-work: {len(history.lines) - stopped} of {len(history.lines) - at_work + events // 6} lines come after it",
        len(history.lines) > stopped + 10)
    calm = [record for record in records if record.position not in known]
    origins = {record.position for record in calm}
    letters = [letter for letter in dead if letter.text("triage-origin") in origins]
    verdict = Verdict(history.lines[mark:], calm, letters, [], workers.seed, ordered)
    verdict.report(report, "without faults: ")
    report.note(f"{len(calm)} events in {time.monotonic() - begin:.1f} s without a fault")
    return records, dead


def traces(report, kcat, collector, history, records, dead, injector):
    """Every chain of spans is as the design says, but for what a kill took with it."""
    begin = time.monotonic()
    spans = fault_traces.received(collector.traces())
    retried = [record for topic in TOPICS for record in kcat.read(topic + ".retry")]
    chains = fault_traces.Chains(spans, records, retried, dead, history.lines, injector.faults)
    chains.report(report)
    report.note(f"traces judged in {time.monotonic() - begin:.1f} s")


def rebalance(report, room):
    """Three instances on the real broker: they join, leave, are killed, and are all stopped in mid-work."""
    seed = secrets.randbelow(1 << 31)
    report.note(f"seed {seed}")
    brokers = real_broker(room)
    room.finish("topics", "create", "-b", brokers)
    kcat = Kcat(brokers)
    feed = Feed(kcat, room, seed)
    # This broker never misses a dead member, so only static ones, which come back, are killed.
    come_and_go(report, room, brokers, kcat, feed, seed)
    come_back(report, room, brokers, kcat, feed, seed)


REAL = ["-X", "session.timeout.ms=10000", "-X", "heartbeat.interval.ms=500", "-X", "max.poll.interval.ms=10000"]


def come_and_go(report, room, brokers, kcat, feed, seed):
    workers = Workers(room, brokers, "dynamic", seed, REAL + PACE)
    history = History(workers.record)
    injector = Injector(None, workers, seed, 6)
    for slot, what in [(0, "join"), (1, "join"), (2, "join"), (0, "term"), (0, "join"), (1, "term"), (1, "join"), (2, "term")]:
        if what == "join":
            injector.note("join")
            workers.start(slot)
        else:
            fault = injector.note("term", end=False)
            workers.terminate(slot).wait(20)
            fault.end = time.monotonic_ns()
        feed.add(300)
        pause(workers, 2)
        history.read()
    records, dead = drain(report, kcat, workers, history)
    # The last is committed: when one leaves, this broker lets the others commit no more.
    pause(workers, 1)
    workers.stop()
    report.check("each of three instances had partitions", len({line.process for line in history.lines}) >= 3)
    finish(report, room, kcat, workers, history, records, dead, injector)


def come_back(report, room, brokers, kcat, feed, seed):
    """Static members: who comes back within the session time-out gets its partitions again, and nobody else notices."""
    workers = Workers(room, brokers, "static", seed, REAL + PACE, static=True)
    history = History(workers.record)
    injector = Injector(None, workers, seed, 6)
    for slot in range(3):
        injector.note("join")
        workers.start(slot)
        settled(workers)
    feed.add(900)
    wait_until("the work has begun", lambda: history.read() >= 0 and len(history.done) > 300, 30)
    for slot, what in [(1, "kill"), (2, "term")]:
        others = {other: assignments(child) for other, child in workers.running.items() if other != slot}
        if what == "kill":
            fault = injector.note("kill", end=False)
            fault.process, fault.end = workers.kill(slot)
        else:
            workers.terminate(slot).wait(20)
        feed.add(300)
        child = workers.start(slot)
        wait_until("it has its partitions again", lambda child=child: assignments(child), 20)
        pause(workers, 1)
        history.read()
        report.equal(
            f"a static member comes back after a {what}: its partitions", assignments(child), ["12 partitions assigned"])
        report.equal(
            "and nobody else's move", {other: assignments(workers.running[other]) for other in others}, others)
    # All at once in mid-work: nothing is done again, retries that wait included.
    feed.add(900)
    # What was done before may be undone: this broker takes partitions away without waiting for a commit while members join.
    settled_at = len(history.lines)
    at_work = settled_at + 200
    wait_until("there is work", lambda: history.read() >= 0 and len(history.lines) > at_work, 30, 0.01)
    at_end = {child.pid for child in workers.running.values()}
    workers.stop()
    history.read()
    tried = {line.origin for line in history.lines if line.phase == "transient"}
    waiting = tried - history.done
    report.check(f"all were stopped while {len(waiting)} events waited for another attempt", len(waiting) > 3, waiting)
    # What a killed one did and hadn't committed may still have been on its way again.
    before = {
        (line.origin, line.attempt) for line in history.lines[settled_at:] if line.phase != "begin" and line.process in at_end
    }
    report.check(f"and {len(before)} attempts had ended since all had their partitions", len(before) > 50, before)
    stopped = len(history.lines)
    for slot in range(3):
        workers.start(slot)
    records, dead = drain(report, kcat, workers, history)
    workers.stop()
    report.none(
        "what was done or tried before a clean stop of all isn't after it",
        [line for line in history.lines[stopped:] if (line.origin, line.attempt) in before],
    )
    finish(report, room, kcat, workers, history, records, dead, injector)


def pause(workers, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        workers.reap(40)
        time.sleep(0.02)


def assignments(child):
    """What a worker's log says of its partitions."""
    return [line.rsplit("] ", 1)[-1] for line in child.err().splitlines() if "partitions " in line]


def settled(workers, count=36):
    """Waits until the running workers have all partitions, main and retry, among them, each the same share."""
    share = count // len(workers.running)
    wait_until(
        f"each worker has {share} partitions",
        lambda: all((assignments(child) or [""])[-1] == f"{share} partitions assigned" for child in workers.running.values()), 30,
    )


def turns(feed, injector, workers, history, schedule, events, seconds):
    """Faults one after the other, with events between them."""
    for index, kind in enumerate(schedule):
        feed.add(events * (index + 1) // len(schedule) - events * index // len(schedule))
        injector.inject(kind)
        until = time.monotonic() + seconds * injector.random.uniform(0.5, 1.5)
        while time.monotonic() < until:
            injector.step()
            workers.reap(40)
            time.sleep(0.02)
        history.read()


def drain(report, kcat, workers, history, seconds=90):
    """Waits until each event is done or has a dead letter; gives the events and the dead letters."""
    begin = time.monotonic()
    records = [record for topic in TOPICS for record in kcat.read(topic)]
    expected = {record.position for record in records}
    dead, looked, missing = [], 0.0, expected
    while time.monotonic() - begin < seconds:
        workers.reap(40)
        history.read()
        missing = expected - history.done - {letter.text("triage-origin") for letter in dead}
        if not missing:
            break
        if len(missing) < len(expected) // 20 and time.monotonic() - looked > 1:
            dead = dead_letters(kcat, workers.group)
            looked = time.monotonic()
        time.sleep(0.05)
    report.check(
        f"{len(records)} events drain within {seconds} s of the last fault", not missing,
        f"{len(missing)} are missing, such as {sorted(missing)[:5]}",
    )
    report.note(f"drained {time.monotonic() - begin:.1f} s after the last event was written")
    return records, dead_letters(kcat, workers.group)


def dead_letters(kcat, group):
    """Those of the group alone."""
    return [
        letter for topic in TOPICS for letter in kcat.read(topic + ".dlq") if letter.text("triage-group") == group
    ]


def finish(report, room, kcat, workers, history, records, dead, injector, ordered=True):
    """After a clean stop nothing is left to do; then the verdict."""
    report.none("no worker ended by itself, and each that was asked did, with 0", workers.wrong)
    history.read()
    before = len(history.lines)
    if workers.static:
        # Their partitions wait for them and for nobody else.
        for slot in range(3):
            workers.start(slot)
        wait_until("they have their partitions", lambda: all(assignments(child) for child in workers.running.values()), 30)
        pause(workers, 2)
        workers.stop()
    else:
        last = workers.start("last", "--exit-at-end")
        last.wait(60)
        workers.running.pop("last", None)
        report.equal("a worker that runs to the end exits with", last.process.returncode, 0)
    history.read()
    report.none("after a clean stop of all nothing is handled again", history.lines[before:])
    report.none("no line of the history is broken", history.strange)
    expelled = expulsions(workers)
    report.none("no member is expelled but after a fault that may silence its coordinator", [
        one for one in expelled
        if not any(f.kind in SILENCING and f.begin - 2e9 <= one.end and one.begin <= f.last + 8e9 for f in injector.faults)])
    verdict = Verdict(history.lines, records, dead, injector.faults + expelled, workers.seed, ordered)
    verdict.report(report)
    report.note(f"{len(expelled)} members were expelled")
    ended, inside = verdict.share_in_windows()
    report.note(
        f"{inside} of {ended} events ({100 * inside // max(1, ended)} %) were done while a fault would have excused a repeat; "
        f"{verdict.counts['done again']} were done again")
    retried = [record for topic in TOPICS for record in kcat.read(topic + ".retry")]
    if injector.cluster:
        report.none("no record was trimmed away", trimmed(records + dead + retried))
    report.note(
        f"{len(records)} events, {len(history.lines)} lines, {len(retried)} retry records, {len(dead)} dead letters; "
        f"{dict(verdict.counts)}"
    )
    return verdict


def main():
    parser = argparse.ArgumentParser(description="Run the checks under faults in any size.")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None, help="as a run before printed it (default: a new one)")
    parser.add_argument("--keep", default=None, help="a folder for the history, the faults' times and the workers' logs")
    parser.add_argument("--unordered", action="store_true", help="don't check the order")
    arguments = parser.parse_args()
    seed = secrets.randbelow(1 << 31) if arguments.seed is None else arguments.seed
    report = Report()
    report.run(
        "faults",
        lambda report, room: run(
            report, room, arguments.events, arguments.faults, seed, arguments.workers, not arguments.unordered, arguments.keep),
    )
    print(f"{report.passed} passed, {len(report.failures)} failed")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
