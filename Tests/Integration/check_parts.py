"""Against a real broker and a real collector."""

import collections
import json
import re

from harness import PATIENTS, parsed, wait_until
from parts import Kcat, real_broker, real_collector
from collector import Collector

HYBRID = ["fhir.Patient.created", "fhir.Patient.updated", "fhir.Patient.deleted"]


def broker(report, room):
    """The 51 Patients of HL7 through a real broker: topics, publish, run."""
    brokers = real_broker(room)
    kcat = Kcat(brokers)
    topics(report, room, brokers, kcat)
    patients(report, room, brokers, kcat)
    partition_counts(report, room, brokers, kcat)


def partition_counts(report, room, brokers, kcat):
    """A retry topic with fewer partitions than its main topic: order can't be kept, so `run` doesn't try."""
    # Made by being written to: with one partition.
    kcat.write("fhir.Uneven.retry", b"{}")
    room.finish("topics", "create", "-b", brokers, "-t", "fhir.Uneven", "--partitions", "3")
    counts = kcat.topics()
    report.equal("partitions that differ", [counts.get(f"fhir.Uneven{ending}") for ending in ("", ".retry")], [3, 1])
    for member in ("first", "second"):
        child = room.finish("run", "-b", brokers, "-t", "fhir.Uneven", "-g", "uneven", name=f"run-{member}", seconds=60)
        match = re.search(r"fhir\.Uneven/(\d) is assigned without fhir\.Uneven\.retry/(\d)", child.err())
        report.check(
            f"run with 3 and 1 partitions, {member} time: exit 1, names both partitions",
            child.process.returncode == 1 and match and match[1] == match[2], child.err()[-1500:],
        )
        report.check("and nothing of it on stdout", child.out() == "", child.out())


def topics(report, room, brokers, kcat):
    states = "triage.dead-letters"
    expected = [
        name + ending for name in [*HYBRID, "fhir.commands"] for ending in ("", ".retry", ".dlq")
    ] + ["fhir.commands.results", states]
    before = room.finish("topics", "check", "-b", brokers)
    report.check(
        f"topics check before: exit 1, names each of the {len(expected)} topics as missing",
        before.process.returncode == 1 and before.out().count("is missing") == len(expected) == 14, before.out() + before.err(),
    )
    first = room.finish("topics", "create", "-b", brokers)
    report.equal("topics create", first.out().split(), [word for name in expected for word in (name, "created")])
    report.equal("partitions by kcat", kcat.topics(), {name: 1 if name == states else 6 for name in expected})
    again = room.finish("topics", "create", "-b", brokers)
    report.check(
        "topics create again: exit 0, all exist",
        again.process.returncode == 0 and again.out().split() == [word for name in expected for word in (name, "exists")], again.out(),
    )
    check = room.finish("topics", "check", "-b", brokers)
    report.check("topics check: exit 0", check.process.returncode == 0, check.out() + check.err())

    # A broker makes a topic by itself when something is written to it: with one partition and its own retention.
    kcat.write("fhir.Other.retry", b"{}")
    room.finish("topics", "create", "-b", brokers, "-t", "fhir.Other")
    differs = room.finish("topics", "check", "-b", brokers, "-t", "fhir.Other", "-o", "json")
    lines = parsed(differs)
    report.check(
        "topics check says what differs: exit 1, partitions and retention of that topic alone",
        differs.process.returncode == 1 and lines and all(line.startswith("fhir.Other.retry ") for line in lines)
        and any("has 1 partitions" in line and "6" in line for line in lines)
        and any("retention.ms" in line for line in lines), lines,
    )


def patients(report, room, brokers, kcat):
    lines = PATIENTS.read_bytes().splitlines()
    report.equal("patients in the fixture", len(lines), 51)
    published = room.finish("publish", "-b", brokers, "--action", "created", str(PATIENTS), "-o", "json")
    report.equal("publish", (published.process.returncode, parsed(published)), (0, {"failed": 0, "published": 51}))

    records = kcat.read("fhir.Patient.created")
    report.equal("kcat: records", len(records), 51)
    data, strange = [], []
    for record in records:
        match = re.fullmatch(rb'\{"type":"PatientCreated","data":(.*),"metadata":(\{[^{}]*\})\}', record.value, re.DOTALL)
        if match is None:
            strange.append(record.value[:200])
            continue
        data.append(match.group(1))
        names = sorted(json.loads(match.group(2)))
        if names != ["correlationId", "eventId", "source", "timestamp"]:
            strange.append(names)
    report.none("each value is an envelope with all metadata", strange)
    report.check(
        "data of each event is byte for byte an input line, each line once",
        collections.Counter(data) == collections.Counter(lines), "lines differ",
    )
    ids = {line: json.loads(line).get("id") for line in lines}
    report.none(
        "the key is the resource's id",
        [(r.position, r.key) for r in records for d in [json.loads(r.value)["data"]] if r.key != (d["id"].encode() if "id" in d else None)],
    )
    report.equal("null keys", sum(record.key is None for record in records), 4)
    report.equal("lines without id", sum(value is None for value in ids.values()), 4)
    report.none(
        "headers: content-type and traceparent, nothing else",
        [
            r.headers for r in records
            if sorted(r.names()) != ["content-type", "traceparent"] or r.text("content-type") != "application/fhir+json"
            or not re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", r.text("traceparent"))
        ],
    )
    by_key = collections.defaultdict(set)
    for record in records:
        if record.key is not None:
            by_key[record.key].add(record.partition)
    report.none("equal keys share a partition", [key for key, places in by_key.items() if len(places) > 1])

    collector = Collector()
    room.closers.append(collector.close)
    run = ("run", "-b", brokers, "--group", "integration", "-e", "-o", "json", "--handler", "none", "--http", "off")
    first = room.finish(*run, environment=collector.environment())
    summary = parsed(first)
    report.note(f"summary: {summary}")
    report.equal(
        "run -e",
        (first.process.returncode, {k: summary[k] for k in ("consumed", "completed", "dead_lettered", "retries", "duplicates")}),
        (0, {"consumed": 51, "completed": 51, "dead_lettered": 0, "retries": 0, "duplicates": 0}),
    )
    report.check(
        "the summary has figures",
        summary["duration_seconds"] > 0 and summary["cpu_seconds"] > 0 and summary["max_rss_bytes"] > 1 << 20
        and summary["spans_exported"] > 100 and summary["spans_dropped"] == 0, summary,
    )
    second = room.finish(*run, environment=collector.environment())
    report.equal("run -e again in the same group: consumed", parsed(second)["consumed"], 0)
    report.equal("kcat: dead letters", len(kcat.read("fhir.Patient.created.dlq")), 0)


def collector(report, room):
    """A real collector takes everything, plain and gzip."""
    endpoint, _, child = real_collector(room)

    def printed():
        return len(re.findall(r"^Span #", re.sub(r"\x1b\[[0-9;]*m", "", child.out()), re.MULTILINE))

    before = 0
    for compression in ("none", "gzip"):
        demo = room.finish(
            "demo", "-o", "json", "--events", "500",
            environment={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_COMPRESSION": compression},
        )
        summary = parsed(demo)
        report.check(
            f"compression {compression}: {summary['spans_exported']} spans exported, none dropped, no warning",
            demo.process.returncode == 0 and summary["spans_exported"] > 1500 and summary["spans_dropped"] == 0 and not demo.err(),
            (summary, demo.err()),
        )
        expected = before + summary["spans_exported"]
        wait_until(f"rotel prints {expected} spans, so far {printed()}", lambda: printed() >= expected, 30)
        report.equal(f"compression {compression}: spans that rotel prints", printed() - before, summary["spans_exported"])
        before = printed()
    text = child.out()
    report.check(
        "rotel prints metrics and names of spans",
        "triage.events.processed" in text and "process fhir.Patient.updated" in text, text[-500:],
    )
