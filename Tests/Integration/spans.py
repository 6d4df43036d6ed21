"""What can be told from exported spans alone: strict decoding, and the chain of each dead-lettered event by parents and links."""

import gzip

from decode_otlp import REQUESTS, Invalid, describe_traces, refuse_unknown_fields
from google.protobuf.json_format import MessageToDict

from harness import Failed

SAMPLED, RANDOM, HAS_IS_REMOTE, IS_REMOTE = 0x01, 0x02, 0x100, 0x200


def decoded(bodies, signal="traces"):
    """The requests of these bodies by the official classes; an unknown field anywhere is an error."""
    requests = []
    for index, body in enumerate(bodies):
        try:
            request = REQUESTS[signal].FromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
            refuse_unknown_fields(request, type(request).__name__)
        except Exception as error:
            raise Failed(f"{signal} body {index} of {len(bodies)} doesn't decode: {error}") from error
        requests.append(request)
    return requests


def spans_of(bodies):
    """All spans as dictionaries."""
    try:
        return [span for request in decoded(bodies) for span in describe_traces(request)]
    except Invalid as error:
        raise Failed(f"a span breaks a rule: {error}") from error


def sums_of(bodies):
    """The last value of each counter series: name → list of (attributes, value)."""
    last = {}
    for request in decoded(bodies, "metrics"):
        for resource in MessageToDict(request).get("resourceMetrics", []):
            for scope in resource.get("scopeMetrics", []):
                for metric in scope.get("metrics", []):
                    for point in metric.get("sum", {}).get("dataPoints", []):
                        pairs = {pair["key"]: next(iter(pair["value"].values())) for pair in point.get("attributes", [])}
                        value = float(point.get("asInt", point.get("asDouble", 0)))
                        last.setdefault(metric["name"], {})[tuple(sorted(pairs.items()))] = (pairs, value)
    return {name: list(series.values()) for name, series in last.items()}


def total(sums, name, **attributes):
    """Sum of a counter's series with these attributes (dots written as underscores)."""
    return sum(
        value for pairs, value in sums.get(name, [])
        if all(pairs.get(key.replace("_", ".", 1)) == wanted for key, wanted in attributes.items())
    )


def retry_topic(main):
    return f"{main}.retry"


def dead_letter_topic(main):
    return f"{main}.dlq"


def traceparent(span):
    """The value of the header that a span's context is injected as."""
    return f"00-{span['traceId']}-{span['spanId']}-{span['flags'] & 0x03:02x}"


class Forest:
    """Spans by id and by parent."""

    def __init__(self, spans):
        self.spans = spans
        self.by_id = {}
        self.children = {}
        for span in spans:
            key = (span["traceId"], span["spanId"])
            if key in self.by_id:
                raise Failed(f"the span id {span['spanId']} occurs twice")
            self.by_id[key] = span
            if span["parentSpanId"]:
                self.children.setdefault((span["traceId"], span["parentSpanId"]), []).append(span)
        processes = [span for span in spans if span["name"].startswith("process ")]
        self.firsts = {origin_of(span): span for span in processes if not span["name"].endswith(".retry")}
        self.origins_of_retries = {origin_of(span) for span in processes if span["name"].endswith(".retry")}

    def parent(self, span):
        return self.by_id.get((span["traceId"], span["parentSpanId"]))

    def below(self, span, name=None):
        found = self.children.get((span["traceId"], span["spanId"]), [])
        return found if name is None else [child for child in found if child["name"] == name]

    def named(self, prefix, suffix=""):
        return [span for span in self.spans if span["name"].startswith(prefix) and span["name"].endswith(suffix)]

    def main_topics(self):
        return sorted({
            span["name"].removeprefix("send ") for span in self.named("send ")
            if not span["name"].endswith((".retry", ".dlq"))
        })

    def chain(self, span):
        """From the root down to this span, by parents."""
        line = [span]
        while line[0]["parentSpanId"]:
            parent = self.parent(line[0])
            if parent is None:
                raise Failed(f"the parent {line[0]['parentSpanId']} of {line[0]['name']} was never received")
            line.insert(0, parent)
            if len(line) > 100:
                raise Failed("a chain of more than 100 spans")
        return line

    def chain_by_links(self, span):
        """From the first produce down to this span without a remote parent: each process leads on by its first link."""
        line = [span]
        while len(line) <= 100:
            local = line[0]["parentSpanId"] and not line[0]["flags"] & IS_REMOTE
            if line[0]["name"].startswith("process "):
                link = line[0]["links"][0] if line[0]["links"] else None
                before = link and self.by_id.get((link["traceId"], link["spanId"]))
            elif local:
                before = self.parent(line[0])
            else:
                break
            if before is None:
                break
            line.insert(0, before)
        return line

    def line(self, process):
        """From a process on to the end: what it sent, what processed that, and so on."""
        line = [process]
        while True:
            after = [child for child in self.below(line[-1]) if child["name"].startswith(("send ", "process "))]
            if not after:
                return line
            line.append(after[-1])

    def dead_letters(self):
        """The chain that leads to each dead letter, root first."""
        return [self.chain(span) for span in self.named("send ", ".dlq")]


def faults_of_chain(forest, chain):
    """Everything in which a dead-lettered event's chain differs from the design (§4); empty if it is as it should be."""
    faults = []
    main = chain[0]["name"].removeprefix("send ")
    processes = chain[1::2]
    sends = chain[0::2]
    tail = ["send " + dead_letter_topic(main)]
    expected = ["send " + main, "process " + main]
    for _ in range(len(processes) - 1):
        expected += ["send " + retry_topic(main), "process " + retry_topic(main)]
    expected += tail
    if [span["name"] for span in chain] != expected:
        return [f"by parents it is {[span['name'] for span in chain]}, expected {expected}"]
    if len({span["traceId"] for span in chain}) != 1:
        faults.append("more than one trace id")
    # An event is parked at most once, before its first attempt: its retry record keeps its place from then on.
    first = 1 if is_parked(processes[0]) else 0
    deliveries = len(processes) - first
    error_class = processes[-1]["attributes"].get("triage.error.class")
    decoded_once = any(forest.below(process, "attempt") for process in processes)
    if error_class == "persistent":
        if deliveries != 1:
            faults.append(f"{deliveries} processes though the failure is persistent")
    elif error_class in ("transient", "system"):
        if deliveries != 4:
            faults.append(f"{deliveries} processes though retries were exhausted")
        if not decoded_once:
            faults.append("no attempt though retries were exhausted")
    else:
        faults.append(f"triage.error.class is {error_class!r}")
    previous_attempt = None
    for index, process in enumerate(processes):
        if index > 0:
            reason = "parked" if index == first else "backoff"
            faults += _faults_of_retry(forest, process, sends[index], index, index - first, previous_attempt, reason)
        if index < first:
            continue
        faults += _faults_of_process(forest, process, sends[index + 1], index, previous_attempt, decoded_once)
        attempts = forest.below(process, "attempt")
        previous_attempt = attempts[-1] if attempts else None
        outcome = "dead_lettered" if index == len(processes) - 1 else "retry_scheduled"
        if process["attributes"].get("triage.outcome") != outcome:
            faults.append(f"process {index} has outcome {process['attributes'].get('triage.outcome')}, expected {outcome}")
    walked = forest.chain_by_links(chain[-1])
    if walked != chain:
        faults.append(f"by links it is {[span['name'] for span in walked]}")
    return faults


def is_parked(process):
    return process["attributes"].get("triage.outcome") == "parked"


def faults_of_parking(forest, process):
    """Everything in which a parked event's process doesn't show why it waits and behind whom (§3, §4); empty if it does."""
    faults = []
    behind = process["attributes"].get("triage.parked.behind")
    head = forest.firsts.get(behind)
    if head is None or head is process:
        return [f"parked behind {behind!r}, which was never processed"]
    if forest.below(process, "attempt") or process["status"]["code"] != "UNSET" or "error.type" in process["attributes"]:
        faults.append("an attempt or an error, though it was only parked")
    if origin_of(process) in forest.origins_of_retries:
        faults.append("a retry record was parked")
    key = "messaging.kafka.message.key"
    if process["attributes"].get(key) is None or head["attributes"].get(key) != process["attributes"].get(key):
        faults.append(f"behind another patient's event {behind}")
    topic, partition, offset = origin_of(process).split("/")
    if behind.split("/")[:2] == [topic, partition] and int(behind.split("/")[2]) >= int(offset):
        faults.append(f"behind {behind}, which came later")
    sends = forest.below(process)
    if [send["name"] for send in sends] != ["send " + retry_topic(topic)]:
        return faults + [f"below it are {[send['name'] for send in sends]}, expected its retry record's send alone"]
    if sends[0]["attributes"].get("triage.parked.behind") != behind:
        faults.append(f"its send says that it is behind {sends[0]['attributes'].get('triage.parked.behind')}")
    waits = [child["attributes"].get("triage.wait.reason") for child in forest.below(sends[0]) if child["name"].startswith("wait ")]
    if waits != ["parked"]:
        faults.append(f"its waits have reasons {waits}")
    # The retry waited for was open: one of its records had been sent, and its last process had not ended.
    line = forest.line(head)
    retries = [span for span in line if span["name"].startswith("send ") and span["name"].endswith(".retry")]
    last = [span for span in line if span["name"].startswith("process ")][-1]
    if not retries or retries[0]["start"] > sends[0]["start"] or last["end"] < process["start"]:
        faults.append(f"{behind} had no open retry at that time")
    linked = [forest.by_id.get((link["traceId"], link["spanId"])) for link in process["links"][1:]]
    before = [span for span in retries if span["start"] <= sends[0]["start"]]
    if linked != before[-1:]:
        faults.append(f"it links {[span and span['name'] for span in linked]}, expected the last retry's send of {behind}")
    return faults


def origin_of(process):
    """Where the record of a process stands: `topic/partition/offset`."""
    pairs = process["attributes"]
    return "/".join(
        str(pairs.get(name)) for name in
        ("messaging.destination.name", "messaging.destination.partition.id", "messaging.kafka.offset")
    )


def _faults_of_retry(forest, process, send, index, count, previous_attempt, reason):
    """What a process says about the retry record that it is of: how many there were, what it waited for, what it follows."""
    faults = []
    waits = [child for child in forest.below(send) if child["name"].startswith("wait ")]
    if [wait["attributes"].get("triage.wait.reason") for wait in waits] != [reason]:
        faults.append(f"retry send {index} has waits {[wait['attributes'].get('triage.wait.reason') for wait in waits]}")
    linked = {link["spanId"] for link in process["links"]}
    if waits and waits[0]["spanId"] not in linked:
        faults.append(f"process {index} doesn't link its wait")
    if previous_attempt and previous_attempt["spanId"] not in linked:
        faults.append(f"process {index} doesn't link the previous attempt")
    if str(process["attributes"].get("triage.retry.count")) != str(count):
        faults.append(f"process {index} has retry count {process['attributes'].get('triage.retry.count')}, expected {count}")
    return faults


def _faults_of_process(forest, process, next_send, index, previous_attempt, decoded_once):
    faults = []
    attempts = forest.below(process, "attempt")
    if len(attempts) != (1 if decoded_once else 0):
        faults.append(f"process {index} has {len(attempts)} attempts")
    if process["status"]["code"] != "ERROR" or "error.type" not in process["attributes"]:
        faults.append(f"process {index} failed but is {process['status']['code']} with {process['attributes'].get('error.type')}")
    for attempt in attempts:
        if attempt["status"]["code"] != "ERROR" or [event["name"] for event in attempt["events"]].count("exception") != 1:
            faults.append(f"attempt {index} failed but has no error or not one exception event")
        if previous_attempt and not any(link["spanId"] == previous_attempt["spanId"] for link in attempt["links"]):
            faults.append(f"attempt {index} doesn't link the previous attempt")
    others = [child["name"] for child in forest.below(process) if child not in attempts and child is not next_send]
    if others:
        faults.append(f"process {index} has other children: {others}")
    if next_send["start"] < process["start"]:
        faults.append(f"what process {index} sent begins before it")
    return faults


def faults_of_flags(span):
    """Offences against the flags of OTLP's trace.proto: known remote-ness, sampled, no bits that don't exist."""
    faults = []
    flags = span["flags"]
    remote = span["name"].startswith("process ") and bool(span["parentSpanId"])
    # A wait belongs to a send that its record names: remote as well, even within one process.
    if span["name"].startswith("wait "):
        remote = bool(flags & IS_REMOTE)
    if flags & ~(SAMPLED | RANDOM | HAS_IS_REMOTE | IS_REMOTE):
        faults.append(f"{span['name']}: flags {flags:#x} has bits that don't exist")
    if not flags & SAMPLED:
        faults.append(f"{span['name']}: exported, but flags {flags:#x} says not sampled")
    if not flags & HAS_IS_REMOTE:
        faults.append(f"{span['name']}: flags {flags:#x} doesn't say whether the parent is remote")
    if bool(flags & IS_REMOTE) != remote:
        faults.append(f"{span['name']}: flags {flags:#x}, but parent is {'remote' if remote else 'local or none'}")
    for link in span["links"]:
        if link["flags"] & ~(SAMPLED | RANDOM | HAS_IS_REMOTE | IS_REMOTE) or not link["flags"] & HAS_IS_REMOTE:
            faults.append(f"{span['name']}: a link has flags {link['flags']:#x}")
    return faults


def context_of_parent_is_first_link(span):
    return bool(span["links"]) and (
        (span["links"][0]["traceId"], span["links"][0]["spanId"]) == (span["traceId"], span["parentSpanId"])
    )
