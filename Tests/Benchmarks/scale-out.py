#!/usr/bin/env python3
"""How 1, 2 and 3 instances share twelve partitions, and how soon others take over what one leaves behind.

    swift build -c release --product FaultWorker && swift build -c release --product triage
    Tests/Benchmarks/scale-out.py [--seconds N] [--session SECONDS]

The handler suspends for 5 ms, at most 16 of them at a time in each instance: 3,200 events a second at best, so that what is measured
is how work is shared and not what an event costs. Every figure is read off the file that the instances write a line to for each
event (`Tests/FaultWorker`). Throughput and a kill are measured on librdkafka's mock cluster, joining and leaving on a real broker
(noida-db): the mock lets every rebalance take its session time-out less a second, the other never misses a member that is dead.
"""

import argparse
import collections
import pathlib
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Integration"))

import os  # noqa: E402

from harness import REPOSITORY, Report, wait_until  # noqa: E402

for name, product in [("TRIAGE_BIN", "triage"), ("FAULT_WORKER_BIN", "FaultWorker")]:
    os.environ.setdefault(name, str(REPOSITORY / ".build" / "release" / product))

from fault_verdict import History  # noqa: E402
from faults import Cluster, Workers  # noqa: E402
from parts import Kcat, on_path, real_broker  # noqa: E402

TOPIC = "fhir.Patient.created"
PARTITIONS = 12


class Group:
    """Instances that share a topic, and what their file says of them."""

    def __init__(self, room, brokers, name, session):
        heartbeat = min(3000, session * 1000 // 3)
        self.workers = Workers(
            room, brokers, name, 0,
            ["--topics", TOPIC, "--suspend-ms", "5", "--concurrency", "16", "-X", f"session.timeout.ms={session * 1000}",
             "-X", f"heartbeat.interval.ms={heartbeat}", "-X", f"max.poll.interval.ms={max(session, 10) * 1000}"],
        )
        self.history = History(self.workers.record)

    def done(self, since):
        """What was done since, the newest last."""
        self.history.read()
        return [line for line in self.history.lines if line.phase == "done" and line.time >= since]

    def settle(self, seconds=90):
        """Waits until the running instances have equal shares, by their logs; each partition comes with its retry partition."""
        share = 2 * PARTITIONS // len(self.workers.running)
        wait_until(
            f"{len(self.workers.running)} instances share {PARTITIONS} partitions",
            lambda: all(
                ([line for line in child.err().splitlines() if "partitions " in line] or [""])[-1].endswith(f" {share} partitions assigned")
                for child in self.workers.running.values()
            ),
            seconds, 0.02,
        )

    def rate(self, seconds):
        begin = time.monotonic_ns()
        time.sleep(seconds)
        end = time.monotonic_ns()
        return sum(1 for line in self.done(begin) if line.time < end) / ((end - begin) / 1e9)

    def stand(self, since):
        """The longest that any partition, and that a partition on average, went without an event done since then."""
        seen, longest = {}, collections.defaultdict(int)
        for line in self.done(since - 2_000_000_000):
            place = line.place[0]
            if place in seen:
                longest[place] = max(longest[place], line.time - seen[place])
            seen[place] = line.time
        end = max(seen.values())
        for place, last in seen.items():
            longest[place] = max(longest[place], end - last)
        gaps = [gap / 1e9 for gap in longest.values()]
        return f"partitions stand still for {sum(gaps) / len(gaps):.2f} s on average, {max(gaps):.2f} s at most"


def line(number):
    return f'p{number % 20_000}\t{{"resourceType":"Patient","id":"p{number % 20_000}"}}\n'


def backlog(kcat, room, count):
    path = room.path("events")
    path.write_text("".join(map(line, range(count))))
    kcat.call(["-P", "-t", TOPIC, "-K", "\t", "-l", str(path), "-X", "partitioner=murmur2_random"], seconds=120)


class Stream:
    """1,200 events a second, so that each partition has a hundred."""

    def __init__(self, room, brokers):
        self.child = room.start(
            "kcat", [on_path("kcat"), "-b", brokers, "-P", "-t", TOPIC, "-K", "\t", "-X", "partitioner=murmur2_random"], stdin=subprocess.PIPE)
        self.over = threading.Event()
        threading.Thread(target=self.write, daemon=True).start()
        room.closers.append(self.over.set)

    def write(self):
        number, begin = 0, time.monotonic()
        while not self.over.wait(0.01):
            due = int((time.monotonic() - begin) * 1200)
            text = "".join(map(line, range(number, due)))
            number = due
            try:
                self.child.process.stdin.write(text.encode())
                self.child.process.stdin.flush()
            except OSError:
                return


def throughput(report, room, seconds):
    """From a backlog; on the mock."""
    cluster = Cluster(room, brokers=1, partitions=PARTITIONS)
    backlog(Kcat(cluster.address), room, 350_000)
    group = Group(room, cluster.address, "scale", 6)
    rates = []
    for count in (1, 2, 3):
        group.workers.start(count)
        group.settle()
        time.sleep(1)
        rates.append(group.rate(seconds))
        report.note(f"{count} instances: {rates[-1]:,.0f} events/s, {rates[-1] / rates[0]:.2f} times one; {PARTITIONS // count} partitions each")
    group.workers.stop()
    report.none("no instance ended by itself", group.workers.wrong)


def killed(report, room, session):
    """One of three is killed; on the mock."""
    cluster = Cluster(room, brokers=1, partitions=PARTITIONS)
    Stream(room, cluster.address)
    group = Group(room, cluster.address, "killed", session)
    for count in range(3):
        group.workers.start(count)
    group.settle()
    time.sleep(3)
    process, dead = group.workers.kill(2)
    time.sleep(1)
    group.settle()
    time.sleep(2)
    report.note(f"kill -9 of one of three, session time-out {session} s (the mock's rebalance takes {session - 1} s on top): {group.stand(dead)}")
    group.workers.stop()
    report.none("no instance ended by itself", group.workers.wrong)


def coming_and_going(report, room):
    """One after the other joins, one leaves; on a real broker, with the default time-outs."""
    brokers = real_broker(room)
    room.finish("topics", "create", "-b", brokers, "-t", TOPIC, "--partitions", str(PARTITIONS))
    Stream(room, brokers)
    group = Group(room, brokers, "coming", 45)
    for count in (1, 2, 3):
        started = time.monotonic_ns()
        group.workers.start(count)
        group.settle()
        time.sleep(3)
        if count > 1:
            report.note(f"instance {count} joins: {group.stand(started)}")
    since = time.monotonic_ns()
    child = group.workers.terminate(2)
    child.wait(30)
    ended = (time.monotonic_ns() - since) / 1e9
    group.settle()
    time.sleep(3)
    report.note(f"SIGTERM to one of three: it ended after {ended:.2f} s; {group.stand(since)}")
    group.workers.stop()
    total = len(group.done(0))
    report.note(f"{len(group.history.done)} events done, {total - len(group.history.done)} of them again")
    report.none("no instance ended by itself", group.workers.wrong)


def main():
    parser = argparse.ArgumentParser(description="Measure how instances share partitions.")
    parser.add_argument("--seconds", type=int, default=10, help="to count events for, with each number of instances")
    parser.add_argument("--session", type=int, default=6, help="session time-out of the kill, in seconds")
    arguments = parser.parse_args()
    report = Report()
    report.run("throughput", lambda report, room: throughput(report, room, arguments.seconds))
    report.run("kill", lambda report, room: killed(report, room, arguments.session))
    report.run("joining and leaving", coming_and_going)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
