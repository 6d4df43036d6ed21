"""What a history of handler calls and the topics say: was anything lost, out of order, or done twice without a reason?

The history is the file that `FaultWorker` appends to, a line for each thing that a handler did; the topics are read by kcat. Nothing
else is asked, and nothing of Triage's own account is believed.
"""

import collections
import dataclasses

LIMIT = 4  # attempts: three retries
MASK = (1 << 64) - 1

DONE, PERSISTENT, ALWAYS, AGAIN, BUSY, UNKNOWN, HANG = "done", "persistent", "always", "again", "busy", "unknown", "hang"
KINDS = (DONE, PERSISTENT, ALWAYS, AGAIN, BUSY, UNKNOWN, HANG)
DEAD = (PERSISTENT, ALWAYS)


def plan(seed, origin):
    """What `FailurePlan` does with an event: its kind, and how many attempts fail before one succeeds."""
    state = 0xCBF29CE484222325
    for byte in f"{seed}/{origin}".encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    state ^= state >> 31
    detail, place = state >> 32 & 0xFFFF, state % 1000
    if place < 10:
        return PERSISTENT, 1
    if place < 20:
        return ALWAYS, LIMIT
    if place < 55:
        return AGAIN, 1 + detail % 3
    if place < 60:
        return BUSY, 1
    if place < 65:
        return UNKNOWN, 1
    if place < 67:
        return HANG, 1
    return DONE, 0


@dataclasses.dataclass(frozen=True)
class Line:
    """A thing that a handler did; `order` is its place in the file, times are monotonic nanoseconds."""

    order: int
    time: int
    process: int
    key: str
    origin: str
    attempt: int
    phase: str

    @property
    def place(self):
        topic, partition, offset = self.origin.rsplit("/", 2)
        return (topic, int(partition)), int(offset)


class History:
    """The file, read on as it grows."""

    def __init__(self, path):
        self.path = path
        self.position = 0
        self.rest = b""
        self.lines = []
        self.done = set()
        self.strange = []

    def read(self):
        """Takes in what was appended; gives how many lines came."""
        if not self.path.exists():
            return 0
        with open(self.path, "rb") as file:
            file.seek(self.position)
            data = file.read()
        self.position += len(data)
        *whole, self.rest = (self.rest + data).split(b"\n")
        for text in whole:
            parts = text.decode("utf-8", "replace").split(" ")
            if len(parts) != 6:
                self.strange.append(text)
                continue
            time, process, key, origin, attempt, phase = parts
            line = Line(len(self.lines), int(time), int(process), key, origin, int(attempt), phase)
            self.lines.append(line)
            if phase == "done":
                self.done.add(origin)
        return len(whole)


@dataclasses.dataclass
class Fault:
    """A fault: what it was, when it began and ended, and how long after its end its effects may show."""

    kind: str
    begin: int
    end: int | None = None
    after: float = 0.0
    process: int | None = None
    wall: float = 0.0

    @property
    def last(self):
        return MASK if self.end is None else self.end + int(self.after * 1e9)


# After these the group may rebalance, or a member find that it was expelled: what was handled and not committed comes again.
REBALANCING = {"kill", "term", "broker-down", "coordinator", "heartbeat-errors", "join", "expelled"}
# After these a coordinator may leave heartbeats unanswered until the member's session is over.
SILENCING = REBALANCING - {"expelled"} | {"commit-errors", "round-trip", "leader", "produce-errors"}
# What was done longer before a fault is committed.
BEFORE = 3_000_000_000


def excused(faults, since, until, before=BEFORE):
    """A fault that explains why something of `since` is done again at `until`: it wasn't committed when the fault began, or
    was done while the fault showed."""
    return any(f.kind in REBALANCING and f.begin <= until and f.begin - before <= since <= f.last for f in faults)


def windows(faults, before=BEFORE):
    """The stretches of time in which something may have been done that is done again, disjoint."""
    found = []
    for begin, end in sorted((f.begin - before, f.last) for f in faults if f.kind in REBALANCING):
        if found and begin <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([begin, end])
    return found


class Verdict:
    """Judges a history. Each check goes into `findings` with the offenders, which should be none."""

    def __init__(self, lines, records, dead_letters, faults, seed, ordered=True, before=BEFORE):
        self.lines = lines
        self.records = {record.position: record for record in records}
        self.dead = dead_letters
        self.faults = faults
        self.seed = seed
        self.ordered = ordered
        self.before = before
        self.findings = {}
        self.counts = collections.Counter()
        self.dead_origins = {letter.text("triage-origin") for letter in dead_letters}
        # What the design gives up although its handler never said so: in flight at three crashes in a row.
        self.crashed = {
            letter.text("triage-origin") for letter in dead_letters if "crashed" in (letter.text("error") or "").lower()
        }
        self.outcomes()
        self.order()
        self.attempts()
        self.overlaps()
        self.repeats()
        self.dead_letters()

    def outcomes(self):
        done = {line.origin for line in self.lines if line.phase == "done"}
        kinds = {origin: plan(self.seed, origin)[0] for origin in self.records}
        for kind in kinds.values():
            self.counts[kind] += 1
        self.findings["every event is done or has a dead letter"] = sorted(set(self.records) - done - self.dead_origins)
        self.findings["nothing else was handled or dead-lettered"] = sorted(
            ({line.origin for line in self.lines} | self.dead_origins) - set(self.records)
        )
        self.findings["what ends as a dead letter and what is done is what the handler said"] = sorted(
            origin for origin, kind in kinds.items()
            if (origin in done) == (kind in DEAD) and origin not in self.crashed
            or (origin in self.dead_origins) != (kind in DEAD) and origin not in self.crashed
        )
        self.counts["given up after crashes"] = len(self.crashed)
        bytes_differ = [
            letter.position for letter in self.dead
            if (record := self.records.get(letter.text("triage-origin"))) and (record.value, record.key) != (letter.value, letter.key)
        ]
        self.findings["a dead letter has its event's key and bytes"] = bytes_differ

    def order(self):
        """First completions of a patient's events of a topic partition; what is given up counts with its last failed attempt."""
        ends = {}
        for line in self.lines:
            last = line.phase == "persistent" or line.phase == "transient" and line.attempt == LIMIT
            if (line.phase == "done" or last) and line.origin not in ends:
                ends[line.origin] = line
        latest, first, both = {}, [], []
        reached = {}
        for line in ends.values():
            lane, offset = (line.key, line.place[0]), line.place[1]
            if line.phase == "done":
                if offset < reached.get(lane, -1):
                    first.append((line.origin, "after", reached[lane]))
                reached[lane] = max(offset, reached.get(lane, -1))
            if offset < latest.get(lane, -1):
                both.append((line.origin, line.phase, "after", latest[lane]))
            latest[lane] = max(offset, latest.get(lane, -1))
        self.counts["completions out of order"] = len(first)
        if self.ordered:
            self.findings["first completions of a patient's events in a partition are in their order"] = first
            self.findings["those given up stand in this order as well"] = both

    def attempts(self):
        self.findings[f"no attempt beyond {LIMIT}"] = [line for line in self.lines if line.attempt > LIMIT]
        self.findings["an attempt's number is at most one more than the failed ones of before"] = self.uncharged()
        over = []
        for letter in self.dead:
            entries = (letter.text("triage-attempts") or "").split(";")
            if len(entries) > LIMIT or int(letter.text("retryCount") or 0) >= LIMIT:
                over.append((letter.position, letter.text("retryCount"), len(entries)))
        self.findings[f"no dead letter tells of more than {LIMIT} attempts"] = over

    def uncharged(self):
        failed, wrong = collections.defaultdict(set), []
        for line in self.lines:
            if line.phase == "begin" and line.attempt > 1 and line.attempt - 1 not in failed[line.origin]:
                wrong.append(line)
            if line.phase in ("transient", "cancelled"):
                failed[line.origin].add(line.attempt)
        return wrong

    def overlaps(self):
        """No patient's events are handled at the same time; by two processes only around a rebalance, when one was expelled."""
        died = {f.process: f.end for f in self.faults if f.kind == "kill"}
        last = {}
        for line in self.lines:
            last[line.process] = max(line.time, last.get(line.process, 0))
        open_calls, calls, unfinished = {}, collections.defaultdict(list), []
        for line in self.lines:
            call = (line.process, line.origin)
            if line.phase == "begin":
                open_calls[call] = line
            elif begin := open_calls.pop(call, None):
                calls[line.key].append((begin.time, line.time, line.process, line.origin))
        caught = {origin for (process, origin) in open_calls if process in died}
        self.counts["given up after crashes, caught by no kill"] = len(self.crashed - caught)
        for (process, origin), begin in open_calls.items():
            if process not in died:
                unfinished.append((process, origin))
            calls[begin.key].append((begin.time, died.get(process, last[process]), process, origin))
        same, other = [], []
        for key, found in calls.items():
            found.sort()
            one = found[0]
            for next_one in found[1:]:
                if next_one[0] >= one[1]:
                    one = next_one
                else:
                    if one[2] == next_one[2]:
                        same.append((key, one, next_one))
                    elif excused(self.faults, next_one[0], next_one[0], 0):
                        self.counts["handled by two processes around a rebalance"] += 1
                    else:
                        other.append((key, one, next_one))
        self.findings["a process handles a patient's events one at a time"] = same
        self.findings["two processes never handle a patient's events at once but around a rebalance"] = other
        self.findings["only a kill leaves a handler unfinished"] = unfinished

    def repeats(self):
        """What was done or tried is done or tried again only if a fault lies between."""
        seen, twice, tried = {}, [], []
        for line in self.lines:
            if line.phase == "begin":
                continue
            key = (line.origin, "done") if line.phase == "done" else (line.origin, line.attempt)
            if key in seen:
                name = "done again" if line.phase == "done" else "tried again"
                self.counts[name] += 1
                if not excused(self.faults, seen[key].time, line.time, self.before):
                    (twice if line.phase == "done" else tried).append((seen[key], line))
            seen[key] = line
        self.findings["nothing is done again but after a kill or a rebalance"] = twice
        self.findings["no attempt is made again but after a kill or a rebalance"] = tried

    def dead_letters(self):
        by_origin = collections.defaultdict(list)
        for letter in self.dead:
            by_origin[letter.text("triage-origin")].append(letter)
        wrong = []
        walls = [(f.kind, f.wall, f.wall + (f.last - f.begin) / 1e9) for f in self.faults if f.kind in REBALANCING]
        for letters in by_origin.values():
            letters.sort(key=lambda letter: letter.timestamp)
            for one, again in zip(letters, letters[1:]):
                begin, end = one.timestamp / 1000, again.timestamp / 1000
                # One send that arrived twice: the mock doesn't look at the sequence numbers of idempotent producers.
                if one.headers == again.headers:
                    self.counts["dead letters sent once that arrived twice"] += 1
                    allowed = {"broker-down"}
                else:
                    self.counts["second dead letters"] += 1
                    allowed = REBALANCING
                # The topic's clock is the wall's, to the millisecond.
                if not any(
                    kind in allowed and since <= end + 0.05 and since - self.before / 1e9 <= begin <= until + 0.05
                    for kind, since, until in walls
                ):
                    wrong.append((one.position, again.position))
        self.findings["no second dead letter of an event but after a kill or a rebalance"] = wrong

    def report(self, report, where=""):
        for name, offenders in self.findings.items():
            report.none(where + name, offenders)

    def share_in_windows(self):
        """How many events were done, and how many of them while a fault would have excused that they are done again."""
        stretches = windows(self.faults, self.before)
        ends = {line.origin: line.time for line in self.lines if line.phase in ("done", "persistent")}
        return len(ends), sum(any(begin <= time <= end for begin, end in stretches) for time in ends.values())


def trimmed(messages):
    """Partitions whose first record is gone."""
    first = {}
    for message in messages:
        place = (message.topic, message.partition)
        first[place] = min(message.offset, first.get(place, message.offset))
    return [(place, offset) for place, offset in first.items() if offset > 0]


class Letter:
    """An event or a dead letter, as far as the verdict looks at it."""

    def __init__(self, topic, partition, offset, key, headers=(), timestamp=0):
        self.topic, self.partition, self.offset, self.key, self.value = topic, partition, offset, key, b"{}"
        self.headers, self.timestamp = list(headers), timestamp

    @property
    def position(self):
        return f"{self.topic}/{self.partition}/{self.offset}"

    def text(self, name):
        return next((value for header, value in self.headers if header == name), None)


def example(seed, count=2000):
    """A made-up history in which everything is as it should be: events of five patients in one partition, handled one after the
    other by process 1, which is killed half-way, then by process 2. Gives the events, lines, dead letters and the kill's time."""
    records = [Letter("t", 0, offset, f"p{offset % 5}".encode()) for offset in range(count)]
    lines, dead, time = [], [], 0
    for record in records:
        process = 1 if record.offset < count // 2 else 2
        kind, failures = plan(seed, record.position)
        for attempt in range(1, failures + 2 if kind not in DEAD else failures + 1):
            fails = attempt <= failures
            phase = "persistent" if kind == PERSISTENT else "cancelled" if kind == HANG and fails else "transient" if fails else "done"
            for what in ("begin", phase):
                time += 10_000_000
                lines.append(Line(len(lines), time, process, record.key.decode(), record.position, attempt, what))
        if kind in DEAD:
            headers = [("triage-origin", record.position), ("triage-attempts", "e;" * (failures - 1) + "e"), ("retryCount", failures - 1)]
            dead.append(Letter("t.dlq", 0, len(dead), record.key, headers, time / 1e6))
    killed = next(line.time for line in lines if line.process == 2) - 5_000_000
    return records, lines, dead, killed


def broken(records, lines, dead, seed):
    """The example with one thing wrong: what, part of the name of the rule that must find it, events, lines, dead letters."""
    def numbered(changed):
        return [dataclasses.replace(line, order=order) for order, line in enumerate(changed)]

    def of(kind, skip=3):
        return [record.position for record in records if plan(seed, record.position)[0] == kind][skip]

    done, again, always = of(DONE), of(AGAIN), of(ALWAYS)
    end = next(line for line in lines if line.origin == done and line.phase == "done")
    later = next(line for line in lines if line.order > end.order + 1 and line.key == end.key and line.phase == "done")
    yield "an event that nobody finished", "every event is done", (records, [line for line in lines if line.origin != done], dead)
    yield "an event that nobody wrote", "nothing else was handled", ([record for record in records if record.position != done], lines, dead)
    yield "a dead letter that is missing", "every event is done", (records, lines, [d for d in dead if d.text("triage-origin") != always])
    yield "a dead letter of what was done", "what the handler said", (records, lines, [*dead, Letter("t.dlq", 0, 999, end.key.encode(), [("triage-origin", done)])])
    yield "a dead letter with other bytes", "key and bytes", (records, lines, [*dead[1:], Letter("t.dlq", 0, 0, b"other", dead[0].headers)])
    moved = [line for line in lines if line.origin != done]
    place = moved.index(later) + 1
    own = [dataclasses.replace(line, time=later.time + 1) for line in lines if line.origin == done]
    yield "an event that was overtaken", "first completions", (records, numbered(moved[:place] + own + moved[place:]), dead)
    fifth = [dataclasses.replace(line, attempt=LIMIT + 1) for line in lines if line.origin == always and line.attempt == LIMIT]
    place = max(line.order for line in lines if line.origin == always) + 1
    yield "a fifth attempt", "no attempt beyond", (records, numbered(lines[:place] + fifth + lines[place:]), dead)
    first = [line for line in lines if line.origin == again and line.attempt == 1]
    yield "an attempt that was never made", "at most one more", (records, [line for line in lines if line not in first], dead)
    yield "a dead letter of five attempts", "no dead letter tells", (
        records, lines, [Letter(d.topic, 0, d.offset, d.key, [(n, "e;e;e;e;e" if n == "triage-attempts" else v) for n, v in d.headers],
                                d.timestamp) for d in dead])
    other = next(line for line in lines if line.order > end.order and line.key == end.key and line.phase == "begin")
    two = [dataclasses.replace(line, time=end.time - 1) if line is other else line for line in lines]
    yield "two events of a patient at once in one process", "a process handles", (records, two, dead)
    three = [dataclasses.replace(line, process=3) if line.origin == other.origin else line for line in two]
    yield "two events of a patient at once in two processes", "two processes never", (records, three, dead)
    begun = [dataclasses.replace(end, time=lines[-1].time + 1, process=2, phase="begin")]
    yield "a handler that never came back", "unfinished", (records, numbered(lines + begun), dead)
    twice = [line for line in lines if line.origin == done]
    place = max(line.order for line in twice) + 1
    yield "an event done twice without a fault", "nothing is done again", (
        records, numbered(lines[:place] + [dataclasses.replace(line, time=line.time + 1) for line in twice] + lines[place:]), dead)
    tail = [dataclasses.replace(line, time=lines[-1].time + 1 + index, process=2) for index, line in enumerate(twice)]
    yield "an event done again long after it was committed", "nothing is done again", (records, numbered(lines + tail), dead)
    yield "a second dead letter without a fault", "no second dead letter", (
        records, lines, [*dead, Letter("t.dlq", 0, 999, dead[0].key, [*dead[0].headers, ("again", "1")], dead[0].timestamp + 1)])
