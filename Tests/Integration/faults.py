"""What the checks under faults are made of: a broker that takes orders, workers that are killed, a feed of events."""

import datetime
import json
import os
import pathlib
import queue
import random
import re
import signal
import subprocess
import threading
import time

from fault_verdict import Fault
from harness import REPOSITORY, Failed, clean_environment, wait_until

TOPICS = ["fhir.Patient.created", "fhir.Patient.updated", "fhir.Patient.deleted"]
ACTIONS = {TOPICS[0]: "PatientCreated", TOPICS[1]: "PatientUpdated", TOPICS[2]: "PatientDeleted"}


def worker_path():
    path = os.environ.get("FAULT_WORKER_BIN") or REPOSITORY / ".build" / "debug" / "FaultWorker"
    path = pathlib.Path(path).absolute()
    if not os.access(path, os.X_OK):
        raise Failed(f"no executable {path}: build first, or set FAULT_WORKER_BIN")
    return str(path)


class BrokerDied(Exception):
    """The process that serves the brokers is gone."""


class Cluster:
    """`triage embedded-broker`, told on its standard input what to break."""

    def __init__(self, room, brokers=3, partitions=6):
        self.count = brokers
        self.child = room.triage(
            "embedded-broker", "--brokers", str(brokers), "--partitions", str(partitions), stdin=subprocess.PIPE)
        self.address = wait_until("the embedded broker tells its address", lambda: self.child.out().strip() or None, 30)
        self.lock = threading.Lock()
        self.said = 1

    def tell(self, *words):
        """One order; fails unless it is answered by `ok`."""
        with self.lock:
            try:
                self.child.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
                self.child.process.stdin.flush()
            except BrokenPipeError:
                self.child.wait(10)
                raise BrokerDied(
                    f"the embedded broker ended with {self.child.process.returncode} before {words}: {self.child.err()[-1000:]}"
                ) from None
            self.said += 1
            lines = wait_until(
                f"the broker answers {words}",
                lambda: (found := self.child.out().split("\n")) and len(found) > self.said and found, 10, 0.005,
            )
            answer = lines[self.said - 1]
        if answer != "ok":
            raise Failed(f"the broker answers {words} with {answer}")


class Workers:
    """Slots in each of which a `FaultWorker` runs, is ended and started again; all write the same history."""

    def __init__(self, room, brokers, group, seed, arguments=(), static=False, environment=None):
        self.room = room
        self.environment = environment or {"OTEL_SDK_DISABLED": "true"}
        self.brokers = brokers
        self.group = group
        self.seed = seed
        self.arguments = list(arguments)
        self.static = static
        self.record = room.path(f"{group}.record")
        self.running = {}
        self.ending = []
        self.all = []
        self.wrong = []

    def start(self, slot, *more):
        arguments = [
            worker_path(), "--record", str(self.record), "--seed", str(self.seed), "--brokers", self.brokers, "--group", self.group,
            "--http", "off", *self.arguments, *more,
        ]
        if self.static:
            arguments += ["--instance-id", f"worker-{slot}"]
        child = self.room.start(f"worker-{slot}", arguments, clean_environment(self.environment))
        self.running[slot] = child
        self.all.append(child)
        return child

    def kill(self, slot):
        """Ends a worker at once; gives its process and when it was dead."""
        child = self.running.pop(slot)
        is_running = child.is_running()
        child.signal(signal.SIGKILL)
        child.wait(10)
        if not is_running:
            self.wrong.append((child.name, child.process.returncode, child.err()[-500:]))
        return child.pid, time.monotonic_ns()

    def terminate(self, slot):
        """Asks a worker to end; `reap` looks whether it did."""
        child = self.running.pop(slot)
        self.ending.append((child, time.monotonic()))
        child.signal(signal.SIGTERM)
        return child

    def reap(self, grace):
        """Looks after the processes: those that were asked must end with 0 in time, the others go on."""
        for entry in list(self.ending):
            child, since = entry
            if not child.is_running():
                self.ending.remove(entry)
                if child.process.returncode != 0:
                    self.wrong.append((child.name, child.process.returncode, child.err()[-500:]))
            elif time.monotonic() - since > grace:
                self.ending.remove(entry)
                self.wrong.append((child.name, f"not ended {grace} s after SIGTERM", child.err()[-500:]))
                child.signal(signal.SIGKILL)
        for slot, child in list(self.running.items()):
            if not child.is_running():
                self.wrong.append((child.name, child.process.returncode, child.err()[-500:]))
                self.running.pop(slot)

    def stop(self, grace=30):
        """Asks all of them to end, and waits until they have."""
        for slot in list(self.running):
            self.terminate(slot)
        deadline = time.monotonic() + grace + 5
        while self.ending and time.monotonic() < deadline:
            self.reap(grace)
            time.sleep(0.02)


class Feed:
    """Writes events in bursts by kcat, on a thread of its own, since a broker that is down makes it wait."""

    def __init__(self, kcat, room, seed, patients=400):
        self.kcat = kcat
        self.file = room.path("burst")
        self.random = random.Random(seed)
        self.patients = patients
        self.number = 0
        self.failures = 0
        self.is_traced = False
        self.bursts = queue.Queue()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()
        room.closers.append(lambda: self.bursts.put(None))

    def line(self, topic):
        self.number += 1
        patient = f"p{self.random.randrange(self.patients)}"
        event = {
            "type": ACTIONS[topic],
            "data": {
                "resourceType": "Patient", "id": patient, "meta": {"versionId": str(self.number)}, "active": True,
                "name": [{"use": "official", "family": "Synthetic", "given": [f"Number{self.number}"]}], "gender": "unknown",
            },
            "metadata": {
                "eventId": f"00000000-0000-4000-8000-{self.number:012x}", "timestamp": "2026-01-01T00:00:00.000Z", "source": "faults",
                "correlationId": f"00000000-0000-4000-9000-{self.number:012x}",
            },
        }
        return f"{patient}\t{json.dumps(event)}\n"

    def add(self, count):
        """So many events more, mixed over the topics."""
        share = count // len(TOPICS)
        for index, topic in enumerate(TOPICS):
            self.bursts.put((topic, share + (count - share * len(TOPICS) if index == 0 else 0)))

    def work(self):
        while (burst := self.bursts.get()) is not None:
            topic, count = burst
            self.file.write_text("".join(self.line(topic) for _ in range(count)))
            # Every other burst comes from a producer that is traced; its events share a context.
            self.is_traced = not self.is_traced
            given = f"00-{self.random.getrandbits(128) | 1:032x}-{self.random.getrandbits(64) | 1:016x}-01"
            context = ["-H", f"traceparent={given}"] if self.is_traced else []
            for _ in range(10):
                try:
                    self.kcat.call(
                        ["-P", "-t", topic, "-K", "\t", "-l", str(self.file), "-X", "partitioner=murmur2_random", *context],
                        seconds=60)
                    break
                except Failed:
                    # What arrived of it stays: every record of the topic is an event, also one that came twice.
                    self.failures += 1
            self.bursts.task_done()

    def wait(self, seconds):
        wait_until("all events are written", lambda: self.bursts.unfinished_tasks == 0, seconds)


def expulsions(workers):
    """When members were without an answer to their heartbeats for a whole session, as the client's lines say: from the last answer
    on nothing that they did was committed, as if they had been killed then."""
    found = []
    for child in workers.all:
        for line in child.err().splitlines():
            if told := re.search(r"^(\S+) .*SESSTMOUT.* after (\d+) ms without", line):
                wall = datetime.datetime.strptime(told[1], "%Y-%m-%dT%H:%M:%S%z").timestamp()
                # The line's clock shows whole seconds.
                begin = wall - int(told[2]) / 1000
                monotonic = time.monotonic_ns() - int((time.time() - begin) * 1e9)
                found.append(Fault("expelled", monotonic, monotonic + int(told[2]) * 1_000_000, 3.0, child.pid, begin))
    return found


class Injector:
    """Brings faults about in a random order, each repaired after a while, and notes them."""

    # How long after its end a fault may still show: a session that expires, the rebalance behind it, a fetch of the rest.
    AFTER = 10.0
    COMMIT_CODES = [14, 15, 16, 7, -195]  # loading, not available, not the coordinator, timed out, disconnected
    PRODUCE_CODES = [7, 6, 5, 19, -195]  # timed out, not the leader, no leader, too few replicas, disconnected

    def __init__(self, cluster, workers, seed, partitions):
        self.cluster = cluster
        self.workers = workers
        self.random = random.Random(seed)
        self.partitions = partitions
        self.faults = []
        self.repairs = []
        self.is_down = False

    def note(self, kind, process=None, end=True):
        now = time.monotonic_ns()
        fault = Fault(kind, now, now if end else None, self.AFTER, process, time.time())
        self.faults.append(fault)
        return fault

    def later(self, seconds, repair):
        self.repairs.append((time.monotonic() + seconds, repair))

    def step(self):
        """Performs the repairs that are due."""
        now = time.monotonic()
        for entry in [entry for entry in self.repairs if entry[0] <= now]:
            self.repairs.remove(entry)
            entry[1]()

    def settle(self, seconds):
        """Waits until everything is repaired."""
        deadline = time.monotonic() + seconds
        while self.repairs and time.monotonic() < deadline:
            self.step()
            self.workers.reap(40)
            time.sleep(0.02)
        self.cluster.tell("clear-errors")
        self.cluster.tell("rtt", 0)

    def inject(self, kind):
        getattr(self, kind.replace("-", "_"))()

    def start(self, slot):
        def begin():
            if any(child.is_running() for child, _ in self.workers.ending if child.name.endswith(f"worker-{slot}")):
                self.later(0.2, begin)
                return
            self.workers.start(slot)
            self.note("join")

        return begin

    def victim(self):
        """A slot whose worker runs; the last one is left alone."""
        slots = sorted(self.workers.running)
        return self.random.choice(slots) if len(slots) > 1 else None

    def kill(self):
        if (slot := self.victim()) is None:
            return self.coordinator()
        fault = self.note("kill", end=False)
        fault.process, fault.end = self.workers.kill(slot)
        self.later(self.random.choice([0.1, 1.0, 4.0]), self.start(slot))

    def term(self):
        if (slot := self.victim()) is None:
            return self.coordinator()
        fault = self.note("term", end=False)
        child = self.workers.terminate(slot)
        fault.process = child.pid

        def ended():
            if child.is_running():
                self.later(0.1, ended)
            else:
                fault.end = time.monotonic_ns()

        ended()
        self.later(self.random.choice([0.1, 1.0, 4.0]), self.start(slot))

    def broker_down(self):
        if self.is_down:
            return self.leader()
        broker = self.random.randint(1, self.cluster.count)
        fault = self.note("broker-down", end=False)
        self.cluster.tell("broker-down", broker)
        self.is_down = True

        def up():
            self.cluster.tell("broker-up", broker)
            self.is_down = False
            fault.end = time.monotonic_ns()

        self.later(self.random.choice([0.3, 1.0, 2.5]), up)

    def commit_errors(self):
        self.note("commit-errors")
        self.cluster.tell("commit-errors", self.random.choice(self.COMMIT_CODES), self.random.randint(1, 5))

    def produce_errors(self):
        self.note("produce-errors")
        self.cluster.tell("produce-errors", self.random.choice(self.PRODUCE_CODES), self.random.randint(1, 8))

    def heartbeat_errors(self):
        self.note("heartbeat-errors")
        # Unknown member, illegal generation: the member finds that it was expelled.
        self.cluster.tell("heartbeat-errors", self.random.choice([25, 22, 16]), 1)

    def leader(self):
        self.note("leader")
        topic = self.random.choice(TOPICS) + self.random.choice(["", ".retry", ".dlq"])
        self.cluster.tell("leader", topic, self.random.randrange(self.partitions), self.random.randint(1, self.cluster.count))

    def coordinator(self):
        self.note("coordinator")
        self.cluster.tell("coordinator", self.workers.group, self.random.randint(1, self.cluster.count))

    def round_trip(self):
        self.note("round-trip")
        self.cluster.tell("rtt", self.random.choice([20, 50, 100]))
        self.later(1.0, lambda: self.cluster.tell("rtt", 0))
