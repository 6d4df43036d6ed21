"""The demonstration, seen from outside: its spans, its metrics, its topics."""

import re
import signal
import subprocess

from collector import Collector
from harness import Failed, fetch, parsed, wait_until
from parts import Kcat, Prometheus, on_path
from spans import (
    Forest, context_of_parent_is_first_link, faults_of_chain, faults_of_flags, faults_of_parking, is_parked, spans_of, sums_of,
    total, traceparent,
)

TOPICS = ["fhir.Patient.created", "fhir.Patient.updated", "fhir.Patient.deleted"]


def stub(room, *arguments, **options):
    collector = Collector(*arguments, **options)
    room.closers.append(collector.close)
    return collector


def summary_is_balanced(report, summary):
    report.check(
        "produced = completed + dead_lettered, no duplicates",
        summary["produced"] == summary["completed"] + summary["dead_lettered"] and summary["duplicates"] == 0, summary,
    )


def demo_otlp(report, room):
    """Every dead-lettered event's chain, rebuilt from the exported spans alone."""
    collector = stub(room)
    child = room.finish("demo", "-o", "json", "--events", "1000", environment=collector.environment())
    report.equal("exit status", child.process.returncode, 0)
    summary = parsed(child)
    report.note(f"summary: {summary}")
    report.equal("produced", summary["produced"], 1000)
    summary_is_balanced(report, summary)
    report.check("there are dead letters and retries", summary["dead_lettered"] > 0 and summary["retries"] > 0, summary)

    spans = spans_of(collector.traces())
    report.check(f"{len(collector.traces())} trace requests decode with the official classes, no unknown fields", bool(spans))
    report.equal("spans received = spans_exported", len(spans), summary["spans_exported"])
    report.equal("spans_dropped", summary["spans_dropped"], 0)
    forest = Forest(spans)
    demo_chains(report, forest, summary)
    demo_spans(report, forest, summary)
    demo_metrics(report, sums_of(collector.metrics()), forest, summary)


def demo_chains(report, forest, summary):
    chains = forest.dead_letters()
    report.equal("chains that end in a dead letter = dead_lettered", len(chains), summary["dead_lettered"])
    report.none(
        "each chain is send → process → (send retry → process)… → send dlq, by parents and by links, with attempts, waits, outcomes",
        [(chain[0]["traceId"], faults) for chain in chains if (faults := faults_of_chain(forest, chain))],
    )
    classes = [chain[-2]["attributes"].get("triage.error.class") for chain in chains]
    # What was parked first has one send and one process more.
    lengths = {chain[0]["traceId"]: len(chain) - (2 if is_parked(chain[1]) else 0) for chain in chains}
    exhausted = [chain for chain in chains if lengths[chain[0]["traceId"]] == 9]
    once = [chain for chain in chains if lengths[chain[0]["traceId"]] == 3]
    undecodable = [chain for chain in once if not forest.below(chain[-2], "attempt")]
    refused = [chain for chain in once if forest.below(chain[-2], "attempt")]
    report.check(
        f"{len(exhausted)} exhausted, {len(undecodable)} undecodable, {len(refused)} refused: some of each, and no others",
        exhausted and undecodable and refused and len(exhausted) + len(undecodable) + len(refused) == len(chains), classes,
    )
    report.check(
        "each chain has a trace of its own, and the printed example is one of them",
        len({chain[0]["traceId"] for chain in chains}) == len(chains)
        and summary["example_trace_id"] in {chain[0]["traceId"] for chain in chains}, summary["example_trace_id"],
    )


def demo_spans(report, forest, summary):
    spans = forest.spans
    main = set(TOPICS)
    report.none("no status is OK", [span["name"] for span in spans if span["status"]["code"] == "OK"])
    report.none("flags: sampled, remote-ness known and right, no other bits", [f for span in spans for f in faults_of_flags(span)])
    processes = forest.named("process ")
    report.none(
        "each process has a parent and links its context first",
        [span for span in processes if not context_of_parent_is_first_link(span)],
    )
    report.none(
        "the parent of each process is the send of its topic",
        [
            span["name"] for span in processes
            if (parent := forest.parent(span)) is None or parent["name"] != "send " + span["name"].removeprefix("process ")
        ],
    )
    first_sends = [span for span in forest.named("send ") if span["name"].removeprefix("send ") in main]
    retry_sends = forest.named("send ", ".retry")
    parked = [span for span in processes if is_parked(span)]
    report.check(f"{len(parked)} events were parked", parked)
    report.none(
        "each parked process names the open retry that it waits for, links its send, and its wait says parked",
        [(span["traceId"], faults) for span in parked if (faults := faults_of_parking(forest, span))],
    )
    report.equal("first sends = produced, each a root", sum(not s["parentSpanId"] for s in first_sends), summary["produced"])
    report.equal("retry sends = retries + parked", len(retry_sends), summary["retries"] + len(parked))
    report.equal(
        "retry sends that say behind whom they are parked", sum("triage.parked.behind" in s["attributes"] for s in retry_sends),
        len(parked),
    )
    report.none(
        "each send has one process below it, each retry send one wait as well, dead letters nothing",
        [
            (span["name"], names) for span in forest.named("send ")
            if (names := sorted(child["name"].split()[0] for child in forest.below(span)))
            != ([] if span["name"].endswith(".dlq") else ["process", "wait"] if span["name"].endswith(".retry") else ["process"])
        ],
    )
    report.equal(
        "processes = produced + retries + parked", len(processes), summary["produced"] + summary["retries"] + len(parked),
    )
    outcomes = [span["attributes"].get("triage.outcome") for span in processes]
    report.equal(
        "outcomes of processes",
        {name: outcomes.count(name) for name in sorted(set(outcomes))},
        {
            "completed": summary["completed"], "dead_lettered": summary["dead_lettered"], "retry_scheduled": summary["retries"],
            "parked": len(parked),
        },
    )
    kinds = {"send": "PRODUCER", "process": "CONSUMER", "attempt": "INTERNAL", "wait": "INTERNAL", "poll": "CLIENT", "commit": "CLIENT"}
    report.none(
        "kinds are as in the design; no other span names",
        [(span["name"], span["kind"]) for span in spans if kinds.get(span["name"].split()[0]) != span["kind"]],
    )
    report.none(
        "the guide's attributes are on each decoded process",
        [
            span["attributes"] for span in processes if forest.below(span, "attempt")
            and not {"event.id", "event.type", "event.resource.type", "event.resource.id"} <= span["attributes"].keys()
        ],
    )
    report.none(
        "resource ids are hashed, keys too",
        [
            value for span in spans for key in ("event.resource.id", "messaging.kafka.message.key")
            if (value := span["attributes"].get(key)) is not None and not re.fullmatch(r"[^:]+:[0-9a-f]{16}", str(value))
        ],
    )
    report.none(
        "a successful span has no error and no exception",
        [
            span["name"] for span in spans
            if span["status"]["code"] == "UNSET" and ("error.type" in span["attributes"] or span["status"]["message"])
        ],
    )


def demo_metrics(report, sums, forest, summary):
    report.check("metrics requests decode with the official classes, no unknown fields", bool(sums), "no metrics arrived")
    counts = {
        "completed": total(sums, "triage.events.processed", triage_outcome="completed"),
        "dead_lettered": total(sums, "triage.events.processed", triage_outcome="dead_lettered"),
        "retries": total(sums, "triage.retries"),
    }
    report.equal("counts of the last metrics export", counts, {name: float(summary[name]) for name in counts})
    report.equal("triage.deliveries = process spans", total(sums, "triage.deliveries"), float(len(forest.named("process "))))


def demo_serve(report, room):
    """`--serve`: what /metrics, Prometheus and kcat count is what the summary says."""
    collector = stub(room)
    child = room.triage(
        "demo", "--serve", "--http", "127.0.0.1:0", "-o", "json", "--events", "1000", environment=collector.environment()
    )
    def announced(label):
        found = re.search(rf"^{label}:\s+(\S+)", child.err(), re.MULTILINE)
        if not found and not child.is_running():
            raise Failed(f"the demo ended: {child.err()[-500:]}")
        return found and found.group(1)
    brokers = wait_until("the demo prints its broker's address", lambda: announced("Broker"), 120)
    metrics = wait_until("the demo prints the address of /metrics", lambda: announced("Metrics"), 30)
    report.check("/metrics is served from the start", fetch(metrics)[0] == 200 and child.is_running())
    wait_until("the summary is on stdout while it serves", lambda: child.out().endswith("}\n"), 120)
    report.check("it serves on after the summary", child.is_running() and fetch(metrics)[0] == 200)
    summary = parsed(child)
    report.note(f"summary: {summary}")
    summary_is_balanced(report, summary)

    status, headers, body = fetch(metrics)
    report.equal("GET /metrics", (status, headers.get("Content-Type", "").split(";")[0]), (200, "text/plain"))
    lint = subprocess.run([on_path("promtool"), "check", "metrics"], input=body, capture_output=True, timeout=60, check=False)
    report.check("promtool check metrics", lint.returncode == 0, (lint.stdout + lint.stderr).decode())
    if lint.stdout + lint.stderr:
        report.note((lint.stdout + lint.stderr).decode().strip())
    parked = recounted(report, brokers, collector, summary)
    scraped(report, room, metrics, summary, parked)

    child.signal(signal.SIGINT)
    report.equal("exit status after SIGINT", child.wait(40), 0)


def scraped(report, room, metrics, summary, parked):
    prometheus = Prometheus(room, metrics.removeprefix("http://").removesuffix("/metrics"))
    wait_until("Prometheus has scraped the target", lambda: any(t["lastScrape"][:4] > "0001" for t in prometheus.targets()), 30)
    target = prometheus.targets()[0]
    report.equal("Prometheus says of the target", (target["health"], target["lastError"]), ("up", ""))
    wait_until("a first sample is there", lambda: prometheus.query("triage_events_processed_total"), 30)
    expected = {
        'sum(triage_events_processed_total{triage_outcome="completed"})': summary["completed"],
        'sum(triage_events_processed_total{triage_outcome="dead_lettered"})': summary["dead_lettered"],
        "sum(triage_events_processed_total)": summary["produced"],
        "sum(triage_retries_total)": summary["retries"],
        "sum(triage_dead_letters_total)": summary["dead_lettered"],
        "sum(triage_deliveries_total)": summary["produced"] + summary["retries"] + parked,
        'sum(triage_deliveries_total{triage_outcome="parked"})': parked,
        "sum(triage_retry_wait_duration_seconds_count)": summary["retries"] + parked,
        'sum(triage_retry_wait_duration_seconds_count{triage_wait_reason="parked"})': parked,
        "sum(triage_keys_blocked)": 0,
        "sum(triage_retry_waiting)": 0,
        'sum(triage_deliveries_total{triage_outcome="completed"})': summary["completed"],
        'sum(triage_deliveries_total{triage_outcome="retry_scheduled"})': summary["retries"],
        'sum(triage_deliveries_total{triage_outcome="dead_lettered"})': summary["dead_lettered"],
        "sum(messaging_process_duration_seconds_count)": summary["produced"] + summary["retries"] + parked,
        "sum(triage_event_end_to_end_duration_seconds_count)": summary["produced"],
        'sum(messaging_client_sent_messages_total{messaging_destination_name!~".*(retry|dlq)"})': summary["produced"],
        'sum(messaging_client_sent_messages_total{messaging_destination_name=~".*[.]dlq"})': summary["dead_lettered"],
        "sum(messaging_client_consumed_messages_total)": summary["produced"] + summary["retries"] + parked,
    }
    for expression, value in expected.items():
        report.equal(expression, prometheus.value(expression), float(value))


def after_failure(message):
    """Whether a record was written because of a failure; any other in a retry topic was only parked."""
    return message.header("error") is not None


def recounted(report, brokers, collector, summary):
    """What kcat reads, against the summary and the spans. Gives the number of parked records."""
    kcat = Kcat(brokers)
    main = [message for topic in TOPICS for message in kcat.read(topic)]
    retry_records = [message for topic in TOPICS for message in kcat.read(topic + ".retry")]
    retries = [message for message in retry_records if after_failure(message)]
    parked = [message for message in retry_records if not after_failure(message)]
    dead = [message for topic in TOPICS for message in kcat.read(topic + ".dlq")]
    report.equal("kcat: records of the main topics = produced", len(main), summary["produced"])
    report.equal("kcat: records of the retry topics with an error = retries", len(retries), summary["retries"])
    report.check(f"kcat: {len(parked)} records of the retry topics without one, of which each is parked", parked)
    report.equal("kcat: records of the dead letter topics = dead_lettered", len(dead), summary["dead_lettered"])

    always = {"traceparent", "content-type"}
    failed = always | {
        "retryCount", "error", "failedAt", "triage-origin", "triage-origin-timestamp", "triage-origin-traceparent",
        "triage-error-class", "triage-error-fingerprint", "triage-attempts", "triage-group",
    }
    waiting = always | {
        "retryCount", "triage-origin", "triage-origin-timestamp", "triage-origin-traceparent", "triage-parked-behind",
        "triage-group", "triage-writer",
    }
    for name, messages, expected in [
        ("main", main, always), ("retry", retries, failed | {"triage-due-at", "triage-writer"}), ("parked", parked, waiting),
        ("dead letter", dead, failed),
    ]:
        report.none(
            f"headers of each {name} record: {len(expected)} names, each once, none else",
            [sorted(m.names()) for m in messages if sorted(m.names()) != sorted(expected)],
        )
    origins = {message.position: message for message in main}
    report.none(
        "each retry record and dead letter names an origin whose key, value and first context it has",
        [
            m.position for m in retry_records + dead
            if (origin := origins.get(m.text("triage-origin"))) is None or origin.value != m.value or origin.key != m.key
            or origin.header("traceparent") != m.header("triage-origin-traceparent")
            or m.text("triage-origin-timestamp") != str(origin.timestamp)
        ],
    )
    report.none(
        "retries, parked records and dead letters are in the partition with their origin's number",
        [m.position for m in retry_records + dead if m.text("triage-origin", ).split("/")[1] != str(m.partition)],
    )
    formats = {
        "failedAt": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "retryCount": r"[0-3]",
        "triage-error-class": "transient|persistent|system", "triage-error-fingerprint": "[0-9a-f]{16}",
        "triage-group": "triage-demo", "content-type": r"application/fhir\+json",
        "traceparent": "00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", "triage-attempts": r"[ -~]{1,2048}",
    }
    report.none(
        "values have their formats",
        [
            (m.position, name, m.text(name)) for m in retries + dead for name, pattern in formats.items()
            if not re.fullmatch(pattern, m.text(name) or "")
        ],
    )
    report.none(
        "parked records have been retried 0 times, and wait behind an event of their key that was retried or parked itself",
        [
            m.position for m in parked if m.text("retryCount") != "0" or m.text("triage-group") != "triage-demo"
            or m.text("triage-parked-behind") == m.text("triage-origin")
            or m.text("triage-parked-behind") not in {r.text("triage-origin") for r in retry_records if r.key == m.key}
        ],
    )
    classes = {}
    for message in dead:
        classes.setdefault(message.text("triage-error-class"), set()).add(message.text("retryCount"))
    report.equal("retryCount of dead letters by class", classes, {"transient": {"3"}, "persistent": {"0"}})

    forest = Forest(spans_of(collector.traces()))
    ends = {traceparent(span): span for span in forest.named("send ")}
    for name, messages in [("main record", main), ("retry or parked record", retry_records), ("dead letter", dead)]:
        report.none(
            f"the traceparent of each {name} is the context of its send span, which names partition and offset",
            [
                message.position for message in messages
                if (span := ends.get(message.text("traceparent"))) is None or span["name"] != "send " + message.topic
                or span["attributes"].get("messaging.destination.partition.id") != str(message.partition)
                or span["attributes"].get("messaging.kafka.offset") != message.offset
            ],
        )
    return len(parked)
