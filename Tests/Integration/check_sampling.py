"""Sampling, seen from outside: every failed event has a trace whatever the sampler says, within bounds that are counted."""

import re
import signal

from check_demo import TOPICS, after_failure, stub, summary_is_balanced
from harness import Failed, fetch, parsed, wait_until
from parts import Kcat
from spans import Forest, dead_letter_topic, faults_of_flags, retry_topic, spans_of, traceparent

SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")


class Run:
    """A demonstration at a ratio and a limit: its summary, spans, metrics, and the records that it wrote."""

    def __init__(self, report, room, ratio, limit, *arguments):
        collector = stub(room)
        child = room.triage(
            "demo", "--serve", "--http", "127.0.0.1:0", "-o", "json", "--events", "1000", *arguments,
            environment=collector.environment(
                OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG=str(ratio),
                TRIAGE_FAILURE_TRACE_LIMIT=str(limit),
            ),
        )

        def announced(label):
            found = re.search(rf"^{label}:\s+(\S+)", child.err(), re.MULTILINE)
            if not found and not child.is_running():
                raise Failed(f"the demo ended: {child.err()[-500:]}")
            return found and found.group(1)

        brokers = wait_until("the demo prints its broker's address", lambda: announced("Broker"), 120)
        metrics = wait_until("the demo prints the address of /metrics", lambda: announced("Metrics"), 30)
        # The spans have been exported by then: the summary counts them.
        wait_until("the summary is on stdout", lambda: child.out().endswith("}\n"), 120)
        self.summary = parsed(child)
        report.note(f"summary: {self.summary}")
        summary_is_balanced(report, self.summary)
        self.samples = scraped(metrics)
        kcat = Kcat(brokers)
        self.main = [message for topic in TOPICS for message in kcat.read(topic)]
        retry_records = [message for topic in TOPICS for message in kcat.read(retry_topic(topic))]
        self.retries = [message for message in retry_records if after_failure(message)]
        self.parked = [message for message in retry_records if not after_failure(message)]
        self.dead = [message for topic in TOPICS for message in kcat.read(dead_letter_topic(topic))]
        child.signal(signal.SIGINT)
        report.equal("exit status", child.wait(40), 0)
        received = spans_of(collector.traces())
        # In the order in which they came. It serves on after the summary, and its last commits say that it ended cleanly.
        self.spans = received[: self.summary["spans_exported"]]
        later = [span["name"] for span in received[len(self.spans):]]
        self.forest = Forest(self.spans)
        report.equal("spans received up to the summary = spans_exported", len(self.spans), self.summary["spans_exported"])
        report.none("after the summary there is nothing to trace but commits", [name for name in later if name != "commit"])
        self.received = len(received)
        report.equal("spans_dropped", self.summary["spans_dropped"], 0)
        report.none("flags", [fault for span in self.spans for fault in faults_of_flags(span)])
        adds_up(report, self)

    @property
    def written(self):
        """The records that a failure led to."""
        return self.retries + self.dead

    def metric(self, name, **labels):
        return sum(
            value for found, pairs, value in self.samples
            if found == name and all(pairs.get(label) == wanted for label, wanted in labels.items())
        )


def scraped(url):
    status, _, body = fetch(url)
    if status != 200:
        raise Failed(f"{url} answers {status}")
    samples = []
    for line in body.decode().splitlines():
        found = SAMPLE.match(line)
        if found:
            samples.append((found[1], dict(re.findall(r'(\w+)="([^"]*)"', found[2] or "")), float(found[3])))
    return samples


def adds_up(report, run):
    """At a quiescent point every recorded span is somewhere, once."""
    recorded = sum(
        run.metric("otel_sdk_span_started_total", otel_span_sampling_result=result)
        for result in ("RECORD_ONLY", "RECORD_AND_SAMPLE")
    )
    dropped = sum(
        value for name, pairs, value in run.samples
        if name == "otel_sdk_processor_span_processed_total" and pairs.get("error_type")
    )
    places = {
        "live": run.metric("otel_sdk_span_live"),
        "exported, failed and rejected": run.metric("otel_sdk_exporter_span_exported_total"),
        "dropped": dropped,
        "queued": run.metric("otel_sdk_processor_span_queue_size"),
        "in flight": run.metric("otel_sdk_exporter_span_inflight"),
        "buffered": run.metric("triage_failure_trace_buffer_spans"),
        "unsampled": run.metric("triage_span_unsampled_total"),
    }
    report.equal(f"spans begun and recorded = {places}", sum(places.values()), recorded)
    report.equal("nothing is under way", [places[name] for name in ("live", "queued", "in flight", "buffered")], [0] * 4)
    report.equal("the buffer is empty", run.metric("triage_failure_trace_buffer_size_bytes"), 0)
    exported = places["exported, failed and rejected"]
    report.check(
        f"exported by the summary {len(run.spans)} <= by /metrics {exported:.0f} <= received in the end {run.received}",
        len(run.spans) <= exported <= run.received,
    )


def sampling(report, room):
    everything_failed(report, Run(report, room, 0, 0))
    within_limits(report, Run(report, room, 0, 2, "--transient", "0.1"))
    everything(report, Run(report, room, 1, 200))


def everything_failed(report, run):
    """Ratio 0, no limit: the traces of the failed events, and nothing else."""
    by_origin = {}
    # Parking alone doesn't trigger: what was only parked is no failure.
    waited = {message.text("triage-origin"): message for message in run.parked}
    for message in run.written:
        by_origin.setdefault(message.text("triage-origin"), []).append(message)
    report.check("some events failed, most didn't", 0 < len(by_origin) < len(run.main) / 2, len(by_origin))
    traces = {span["traceId"] for span in run.forest.named("process ")}
    report.equal("exported traces with a process span = events that failed at least once", len(traces), len(by_origin))
    report.equal(
        "they are those that the records name", traces, {m.text("traceparent").split("-")[1] for m in run.written},
    )
    report.none(
        "each is whole from its first failure to its end",
        [(origin, faults) for origin, messages in by_origin.items() if (faults := faults_of_trace(run, messages, waited.get(origin)))],
    )
    rest = [span["name"] for span in run.spans if span["traceId"] not in traces and not span["name"].startswith("poll")]
    report.none("no other span is exported, but the polls that brought retries", rest)
    report.equal("triage.failure_trace.flagged", run.metric("triage_failure_trace_flagged_total"), len(by_origin))
    report.equal("triage.failure_trace.dropped", run.metric("triage_failure_trace_dropped_total"), 0)
    report.check(f"{len(run.parked)} events were parked, most of them without a failure", len(waited.keys() - by_origin.keys()) > 0)
    # A refused send for each event; process and attempt of those that went well at once; process and send where one was parked,
    # and its wait as well if it went well then.
    expected = len(run.main) + 2 * (len(run.main) - len(by_origin)) + 2 * len(waited) + len(waited.keys() - by_origin.keys())
    report.equal(
        "unsampled spans", run.metric("triage_span_unsampled_total", triage_unsampled_reason="not_failed"), expected,
    )
    report.equal("unsampled for any reason", run.metric("triage_span_unsampled_total"), expected)


def faults_of_trace(run, messages, parked):
    """Everything in which a failed event's trace is not whole."""
    messages = sorted(messages, key=lambda message: (message.topic.endswith(".dlq"), int(message.text("retryCount"))))
    origin = messages[0].text("triage-origin-traceparent").split("-")
    spans = [span for span in run.spans if span["traceId"] == origin[1]]
    sends = {traceparent(span): span for span in spans}
    faults = []
    expected = 0
    parent = origin[2]
    if parked:
        # Its first process and the parked record's send went well: they stay unsampled. The wait belongs to what failed.
        parent = parked.text("traceparent").split("-")[2]
        expected += 1
    for index, message in enumerate(messages):
        send = sends.get(message.text("traceparent"))
        process = send and run.forest.parent(send)
        if not process or not process["name"].startswith("process ") or process["parentSpanId"] != parent:
            return [f"record {index} has no send below a process below {parent}"]
        if process["status"]["code"] != "ERROR":
            faults.append(f"process {index} has no error")
        if bool(process["attributes"].get("triage.trace.partial")) != (index == 0):
            faults.append(f"process {index} is partial: {process['attributes'].get('triage.trace.partial')}")
        attempts = run.forest.below(process, "attempt")
        decoded = message.text("error").startswith(("RejectedError", "RetryableError"))
        if len(attempts) != (1 if decoded else 0):
            faults.append(f"process {index} has {len(attempts)} attempts")
        expected += 2 + len(attempts)
        parent = send["spanId"]
        if message.topic.endswith(".retry"):
            expected += 1
            if len([child for child in run.forest.below(send) if child["name"].startswith("wait ")]) != 1:
                faults.append(f"retry {index} has no wait")
    last = messages[-1]
    if last.topic.endswith(".retry"):
        ends = [child for child in run.forest.below(sends[last.text("traceparent")]) if child["name"].startswith("process ")]
        if [end["attributes"].get("triage.outcome") for end in ends] != ["completed"]:
            faults.append("the last retry didn't complete")
        expected += 2
    if len(spans) != expected:
        faults.append(f"{len(spans)} spans, expected {expected}: {[span['name'] for span in spans]}")
    return faults


def within_limits(report, run):
    """Ratio 0, two a second: what is refused is counted, and what leaves says so."""
    flagged = run.metric("triage_failure_trace_flagged_total")
    refused = run.metric("triage_failure_trace_dropped_total", triage_failure_trace_drop_reason="rate_limit")
    partial = [span for span in run.forest.named("process ") if span["attributes"].get("triage.trace.partial")]
    report.equal("flagged = partial processes received", len(partial), flagged)
    unsampled = [message for message in run.written if not int(message.text("traceparent")[-2:], 16) & 1]
    report.equal("refused = retry records and dead letters whose context isn't sampled", len(unsampled), refused)
    report.check("the limit was reached", refused > flagged > 0, (flagged, refused))
    fingerprints = {message.text("triage-error-fingerprint") for message in run.written}
    seconds = run.summary["duration_seconds"]
    bound = 2 * (seconds + 1) + len(fingerprints) * (seconds / 10 + 1)
    report.check(f"at most 2 a second and one of each of {len(fingerprints)} fingerprints", flagged <= bound, (flagged, bound))
    seen = {m.text("triage-error-fingerprint") for m in run.written if int(m.text("traceparent")[-2:], 16) & 1}
    report.equal("each fingerprint has a trace", seen, fingerprints)
    report.equal("evicted", run.metric("triage_span_unsampled_total", triage_unsampled_reason="evicted"), 0)
    report.equal("incomplete", run.metric("triage_failure_trace_dropped_total", triage_failure_trace_drop_reason="evicted"), 0)
    processes = run.metric("triage_deliveries_total")
    report.equal(
        "processes exported = those flagged and those that follow a sampled retry",
        len(run.forest.named("process ")), flagged + len(run.retries) - len([m for m in unsampled if m.topic.endswith(".retry")]),
    )
    report.note(f"{flagged:.0f} flagged, {refused:.0f} refused of {processes:.0f} deliveries in {seconds:.1f} s")


def everything(report, run):
    """Ratio 1: nothing is refused."""
    summary = run.summary
    report.equal("processes = deliveries", len(run.forest.named("process ")), summary["produced"] + summary["retries"] + len(run.parked))
    report.equal("sends of events = produced", len([s for t in TOPICS for s in run.forest.named(f"send {t}")
                                                    if s["name"] == f"send {t}"]), summary["produced"])
    report.none("nothing is partial", [s["name"] for s in run.spans if "triage.trace.partial" in s["attributes"]])
    for name in ("triage_failure_trace_flagged_total", "triage_failure_trace_dropped_total", "triage_span_unsampled_total"):
        report.equal(name, run.metric(name), 0)
    for result in ("DROP", "RECORD_ONLY"):
        report.equal(
            f"spans begun with {result}", run.metric("otel_sdk_span_started_total", otel_span_sampling_result=result), 0)
