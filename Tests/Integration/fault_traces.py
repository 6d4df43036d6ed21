"""Whether the traces are right under faults: judged by the exported spans, the records' headers and the times of the kills alone.

Each dead letter's chain is walked back to where its event came from, by parents and by links. What may be missing is what a process
that was killed had not exported yet, or had not ended; who made it and when is told by what is left of the chain and by the history.
"""

import bisect
import collections

from decode_otlp import REQUESTS, describe_traces
from fault_verdict import LIMIT

# What a worker's exporter is told: ended spans leave after this. A request takes its time as well.
EXPORT_DELAY = 0.2
# A span that began so long before a kill may have been under way or unexported: a produce waits for a broker that is down.
UNEXPORTED = 6.0
FAILED = {"retry_scheduled", "dead_lettered", "deferred"}
OUTCOMES = FAILED | {"completed", "parked", "abandoned", "skipped"}


def received(bodies):
    """The spans of these requests by the official classes, of several processes; one that came twice counts once."""
    spans = {}
    for body in bodies:
        for span in describe_traces(REQUESTS["traces"].FromString(body)):
            spans.setdefault(span["spanId"], span)
    return list(spans.values())


def ids(traceparent):
    """The trace and span id of a header's value."""
    parts = (traceparent or "").split("-")
    return (parts[1], parts[2]) if len(parts) == 4 else None


class Chains:
    """The spans of a run with its records; each check goes into `findings` with the offenders, which should be none."""

    def __init__(self, spans, records, retried, dead, lines, faults):
        self.spans = {(span["traceId"], span["spanId"]): span for span in spans}
        self.children = collections.defaultdict(list)
        for span in spans:
            if span["parentSpanId"]:
                self.children[span["traceId"], span["parentSpanId"]].append(span)
        self.origins = {record.position: record for record in records}
        self.dead = dead
        self.by_position = {record.position: record for record in [*records, *retried, *dead]}
        self.carriers = {ids(record.text("traceparent")): record for record in [*retried, *dead]}
        self.kills = [fault for fault in faults if fault.kind == "kill"]
        # Monotonic nanoseconds to the wall's seconds.
        self.shift = self.kills[0].wall - self.kills[0].begin / 1e9 if self.kills else 0.0
        self.failures = collections.defaultdict(list)
        for line in lines:
            if line.phase in ("transient", "cancelled", "persistent"):
                self.failures[line.origin, line.attempt].append((line.time / 1e9 + self.shift, line.process))
        self.counts = collections.Counter()
        self.findings = collections.defaultdict(list)
        for name in self.RULES:
            self.findings[name] = []
        for letter in dead:
            self.walk(letter)
        for record in retried:
            self.step(record)
        for span in spans:
            if span["name"].startswith("process "):
                self.process(span)

    WALKED = "every dead letter's chain leads to its origin by parents and by links, or a kill has cut it"
    SENT = "every retry record's send stands under the process of its event, or a kill has taken them"
    SAID = "every process says how it ended, and its attempts are as it says"
    WAITED = "every process of a retry links its attempt before and its wait, which says why"
    PARKED = "every parked event's process says behind whom, one of its patient that came first"
    RULES = (WALKED, SENT, SAID, WAITED, PARKED)

    # MARK: what may be missing

    def is_killed(self, since, process=None):
        """Whether a kill may have taken what began at this time in seconds, made by this process if that is known."""
        return any(
            since <= kill.end / 1e9 + self.shift + 0.2 and since >= kill.end / 1e9 + self.shift - UNEXPORTED
            and process in (None, kill.process) for kill in self.kills
        )

    def maker(self, record):
        """The process that wrote a retry record or dead letter after a failed attempt, by the history."""
        if record.text("triage-parked-behind") or not (record.text("triage-attempts") or ""):
            return None
        number = int(record.text("retryCount") or 0) + (1 if record.topic.endswith(".dlq") else 0)
        found = sorted(self.failures[record.text("triage-origin"), number])
        index = bisect.bisect(found, (record.timestamp / 1000 + 0.05, 1 << 40))
        return found[index - 1][1] if index else None

    def may_lack(self, missing, child):
        """Whether a kill may have taken a span that `child` names as its parent or first link, or that a record carries."""
        record = self.carriers.get(missing)
        if record is not None:
            return self.is_killed(record.timestamp / 1000, self.maker(record))
        # A process whose attempt or send is there: they say who made it.
        return child is not None and self.is_killed(child["start"] / 1e9, child["resource"].get("process.pid"))

    # MARK: chains

    @staticmethod
    def by_parents(span):
        return (span["traceId"], span["parentSpanId"]) if span["parentSpanId"] else None

    @staticmethod
    def by_links(span):
        """A process leads on by its first link; within a process its parent does."""
        if span["name"].startswith("process "):
            return (span["links"][0]["traceId"], span["links"][0]["spanId"]) if span["links"] else None
        return Chains.by_parents(span)

    def chain(self, letter, step):
        """The spans from a dead letter back to its origin; what is missing, and what named that."""
        at, child, found = ids(letter.text("traceparent")), None, []
        origin = ids(letter.text("triage-origin-traceparent"))
        given = ids(self.origins[letter.text("triage-origin")].text("traceparent"))
        while len(found) < 100:
            # The producer's own span isn't exported here.
            if at == given and at == origin and at is not None:
                return found, None, None
            span = self.spans.get(at)
            if span is None:
                return found, at, child
            found.append(span)
            if at == origin:
                return found, None, None
            child, at = span, step(span)
        return found, "a circle", child

    def walk(self, letter):
        if letter.text("triage-origin") not in self.origins:
            return
        found, missing, child = self.chain(letter, self.by_parents)
        linked, unlinked, _ = self.chain(letter, self.by_links)
        if missing is None and unlinked is None:
            self.counts["dead letters with a whole chain"] += 1
            if [span["spanId"] for span in found] != [span["spanId"] for span in linked]:
                self.findings[self.WALKED].append((letter.position, "by links it is another"))
            names = [span["name"].split(" ")[0] for span in found]
            if names != (["send", "process"] * len(names))[:len(names)] or names[-1] != "process":
                self.findings[self.WALKED].append((letter.position, names))
            attempts = [entry.split(",")[4] for entry in letter.text("triage-attempts").split(";") if entry[0] != "~"]
            made = [
                child["spanId"] for span in reversed(found[1::2])
                for child in self.below(span, "attempt") if child["status"]["code"] == "ERROR"
            ]
            if attempts != made:
                self.findings[self.WALKED].append((letter.position, f"tells of {len(attempts)} attempts, its chain has {len(made)}"))
        elif isinstance(missing, tuple) and missing == unlinked and self.may_lack(missing, child):
            self.counts["dead letters whose chain a kill has cut"] += 1
        else:
            self.findings[self.WALKED].append((letter.position, missing, unlinked, child and child["name"]))

    def below(self, span, name):
        found = [child for child in self.children[span["traceId"], span["spanId"]] if child["name"].startswith(name)]
        return sorted(found, key=lambda child: child["start"])

    # MARK: steps

    def step(self, record):
        at = ids(record.text("traceparent"))
        send = self.spans.get(at)
        if send is None:
            self.counts["sends of retries that a kill has taken"] += 1
            if at is None or not self.may_lack(at, None):
                self.findings[self.SENT].append((record.position, "has no span"))
            return
        process = self.spans.get(self.by_parents(send))
        if process is None:
            self.counts["processes that a kill has taken"] += 1
            if not self.may_lack(self.by_parents(send), send):
                self.findings[self.SENT].append((record.position, "is under nothing"))
            return
        of = self.by_position.get(self.position(process))
        origin = of and (of.text("triage-origin") or of.position)
        if not process["name"].startswith("process ") or origin != record.text("triage-origin"):
            self.findings[self.SENT].append((record.position, "is under", process["name"], origin))

    @staticmethod
    def position(process):
        pairs = process["attributes"]
        names = ("messaging.destination.name", "messaging.destination.partition.id", "messaging.kafka.offset")
        return "/".join(str(pairs.get(name)) for name in names)

    def process(self, span):
        position, outcome = self.position(span), span["attributes"].get("triage.outcome")
        record = self.by_position.get(position)
        attempts, is_error = self.below(span, "attempt"), span["status"]["code"] == "ERROR"
        last = attempts[-1]["status"]["code"] == "ERROR" if attempts else None
        right = {
            "completed": last is False and not is_error, "parked": last is None and not is_error,
            "retry_scheduled": bool(last) and is_error, "deferred": bool(last) and is_error,
            "dead_lettered": is_error and (last or [event["name"] for event in span["events"]].count("exception") == 1),
            "abandoned": True, "skipped": last is None,
        }.get(outcome, False)
        exceptions = [[event["name"] for event in attempt["events"]].count("exception") for attempt in attempts]
        expected = [int(attempt["status"]["code"] == "ERROR") for attempt in attempts]
        if record is None or not right or exceptions != expected or len(attempts) > LIMIT:
            self.findings[self.SAID].append((position, outcome, last, span["status"]["code"], exceptions))
        if record is None:
            return
        context = ids(record.text("traceparent"))
        linked = [(link["traceId"], link["spanId"]) for link in span["links"]]
        if self.by_parents(span) != context or context and linked[:1] != [context]:
            self.findings[self.SAID].append((position, "isn't under its record's context, or doesn't link it"))
        if record.topic.endswith(".retry"):
            self.retry(span, record, position, linked)
        if outcome == "parked":
            self.parked(span, record, position)

    def retry(self, span, record, position, linked):
        self.counts["processes of retries"] += 1
        ledger = [entry.split(",") for entry in (record.text("triage-attempts") or "").split(";") if entry and entry[0] != "~"]
        waits = [self.spans[link] for link in linked if link in self.spans and self.spans[link]["name"].startswith("wait ")]
        deferred = [
            link for link in linked
            if self.spans.get(link, {}).get("name") == "attempt"
            and self.spans.get(self.by_parents(self.spans[link]), {}).get("attributes", {}).get("triage.outcome") == "deferred"
        ]
        if deferred:
            return
        reasons = {"parked"} if record.text("triage-parked-behind") else {"backoff", "scheduled", "outage"}
        is_right = len(waits) == 1 and waits[0]["attributes"].get("triage.wait.reason") in reasons
        if not is_right or self.by_parents(waits[0]) != ids(record.text("traceparent")):
            self.findings[self.WAITED].append((position, [wait["attributes"].get("triage.wait.reason") for wait in waits]))
        if ledger and (ledger[-1][3], ledger[-1][4]) not in linked[1:]:
            self.findings[self.WAITED].append((position, "doesn't link the attempt before"))

    def parked(self, span, record, position):
        self.counts["parked events"] += 1
        behind = span["attributes"].get("triage.parked.behind") or ""
        head = self.origins.get(behind)
        (topic, partition, offset), other = position.rsplit("/", 2), behind.rsplit("/", 2)
        if head is None or head.key != record.key or other[:2] == [topic, partition] and int(other[2]) >= int(offset):
            self.findings[self.PARKED].append((position, behind))
            return
        # The retry that it waits for was under way: the link names its send.
        links = [(link["traceId"], link["spanId"]) for link in span["links"]][1 if record.text("traceparent") else 0:]
        carried = [self.carriers.get(link) for link in links]
        # One that wasn't stored, or was void, is no record any more: then its span says where it went.
        named = [
            carrier.text("triage-origin") == behind if carrier else self.spans.get(link, {}).get("name", topic + ".retry").endswith(".retry")
            for link, carrier in zip(links, carried)
        ]
        if named != [True]:
            self.findings[self.PARKED].append((position, behind, named))

    def report(self, report):
        for name in self.RULES:
            report.none(name, self.findings[name])
        whole, cut = self.counts["dead letters with a whole chain"], self.counts["dead letters whose chain a kill has cut"]
        report.check(f"{whole} chains of dead letters are whole, {cut} cut by a kill: a small part", whole > 0 and cut * 5 <= whole, self.counts)
        report.note(f"{len(self.spans)} spans; {dict(self.counts)}")


# MARK: the judge's own tests


class Made:
    """A made-up record."""

    def __init__(self, topic, offset, key, headers=(), timestamp=0.0):
        self.topic, self.offset, self.key, self.headers, self.timestamp = topic, offset, key, dict(headers), timestamp

    @property
    def position(self):
        return f"{self.topic}/0/{self.offset}"

    def text(self, name):
        return self.headers.get(name)


def example():
    """Two events of one patient: the first fails four times, the second is parked behind it and then refused."""
    spans, records, retried, dead = [], [], [], []
    clock = [0]

    def span(name, parent=None, links=(), code="UNSET", **attributes):
        clock[0] += 1
        made = {
            "traceId": parent["traceId"] if parent else f"{clock[0]:032x}", "spanId": f"{clock[0]:016x}",
            "parentSpanId": parent["spanId"] if parent else "", "name": name, "start": clock[0] * 10**9, "end": clock[0] * 10**9,
            "links": [{"traceId": link["traceId"], "spanId": link["spanId"]} for link in links if link],
            "status": {"code": code}, "events": [], "resource": {"process.pid": 1},
            "attributes": {name.replace("_", "."): value for name, value in attributes.items()},
        }
        spans.append(made)
        return made

    def process(topic, offset, context, outcome, links=(), **more):
        made = span("process " + topic, context, [context, *links], "ERROR" if outcome in FAILED else "UNSET", **more)
        made["attributes"].update({
            "triage.outcome": outcome, "messaging.destination.name": topic, "messaging.destination.partition.id": "0",
            "messaging.kafka.offset": offset})
        return made

    def write(log, topic, context, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers["traceparent"] = f"00-{context['traceId']}-{context['spanId']}-01"
        log.append(Made(topic, len(log), b"p1", headers, clock[0] * 1000))
        return context

    def fail(under, previous):
        made = span("attempt", under, [previous] if previous else [], "ERROR")
        made["events"] = [{"name": "exception"}]
        return made

    def told(attempts):
        return ";".join(f"1,transient,0,{attempt['traceId']},{attempt['spanId']}" for attempt in attempts)

    records += [Made("t", 0, b"p1"), Made("t", 1, b"p1")]
    first = process("t", 0, None, "retry_scheduled")
    root = f"00-{first['traceId']}-{first['spanId']}-01"
    attempts, at, heads = [fail(first, None)], first, []
    for number in range(1, LIMIT):
        context = write(
            retried, "t.retry", span("send t.retry", at), triage_origin="t/0/0", retryCount=str(number), triage_attempts=told(attempts),
            triage_origin_traceparent=root)
        heads.append(context)
        wait = span("wait t.retry", context)
        wait["attributes"]["triage.wait.reason"] = "backoff"
        at = process("t.retry", len(retried) - 1, context, "dead_lettered" if number == LIMIT - 1 else "retry_scheduled", [attempts[-1], wait])
        attempts.append(fail(at, attempts[-1]))
    write(dead, "t.dlq", span("send t.dlq", at), triage_origin="t/0/0", retryCount=str(LIMIT - 1), triage_attempts=told(attempts),
          triage_origin_traceparent=root)
    second = process("t", 1, None, "parked", [heads[0]])
    second["attributes"]["triage.parked.behind"] = "t/0/0"
    root = f"00-{second['traceId']}-{second['spanId']}-01"
    context = write(retried, "t.retry", span("send t.retry", second), triage_origin="t/0/1", retryCount="0",
                    triage_parked_behind="t/0/0", triage_origin_traceparent=root)
    wait = span("wait t.retry", context)
    wait["attributes"]["triage.wait.reason"] = "parked"
    at = process("t.retry", len(retried) - 1, context, "dead_lettered", [wait])
    attempts = [fail(at, None)]
    write(dead, "t.dlq", span("send t.dlq", at), triage_origin="t/0/1", retryCount="0", triage_attempts=told(attempts),
          triage_origin_traceparent=root)
    return spans, records, retried, dead


def broken():
    """The example with one thing wrong: what, the rule that must find it, and the parts."""
    def named(spans, name, index=0):
        return [span for span in spans if span["name"] == name][index]

    def changed(change):
        spans, records, retried, dead = example()
        change(spans)
        return spans, records, retried, dead

    yield "a process that is missing without a kill", Chains.WALKED, changed(lambda s: s.remove(named(s, "process t.retry", 1)))
    yield "a retry's send that is missing without a kill", Chains.SENT, changed(lambda s: s.remove(named(s, "send t.retry", 1)))
    yield "a retry's send under the send before it", Chains.WALKED, changed(
        lambda s: named(s, "send t.retry", 1).update(parentSpanId=named(s, "send t.retry", 0)["spanId"]))
    yield "a retry's send under another event's process", Chains.SENT, changed(
        lambda s: named(s, "send t.retry", 3).update({key: named(s, "process t", 0)[value] for key, value in (
            ("traceId", "traceId"), ("parentSpanId", "spanId"))}))
    yield "a process that doesn't link its record's context", Chains.WALKED, changed(
        lambda s: named(s, "process t.retry", 1)["links"].pop(0))
    yield "a process that doesn't link the attempt before", Chains.WAITED, changed(
        lambda s: named(s, "process t.retry", 1)["links"].pop(1))
    yield "a process that doesn't link its wait", Chains.WAITED, changed(lambda s: named(s, "process t.retry", 1)["links"].pop(2))
    yield "a parked record's wait that says something else", Chains.WAITED, changed(
        lambda s: named(s, "wait t.retry", 3)["attributes"].update({"triage.wait.reason": "backoff"}))
    yield "a parked event that doesn't say behind whom", Chains.PARKED, changed(
        lambda s: named(s, "process t", 1)["attributes"].pop("triage.parked.behind"))
    yield "a parked event that doesn't link what it waits for", Chains.PARKED, changed(
        lambda s: named(s, "process t", 1).update(links=[]))
    yield "a failed process without an error", Chains.SAID, changed(
        lambda s: named(s, "process t.retry", 0).update(status={"code": "UNSET"}))
    yield "a process without an outcome", Chains.SAID, changed(
        lambda s: named(s, "process t", 0)["attributes"].pop("triage.outcome"))
    yield "an attempt that is missing", Chains.SAID, changed(lambda s: s.remove(named(s, "attempt", 2)))
