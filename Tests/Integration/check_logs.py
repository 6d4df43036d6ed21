"""Log lines and exported log records: each line is JSON, knows its span, and what is exported is what a receiver expects."""

import json
import re

from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber

from collector import Collector
from harness import PATIENTS, parsed, wait_until
from parts import Kcat, embedded_broker, real_collector
from spans import decoded, spans_of, sums_of, total

TOPIC = "fhir.Patient.created"
SECRET = "CANARY-not-json"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SEVERITIES = {"info": 9, "notice": 10, "warning": 13, "error": 17}


def logs(report, room):
    """A run with JSON logs, exported as well; what ends a command; a real collector."""
    brokers = embedded_broker(room)
    kcat = Kcat(brokers)
    for number, patient in enumerate(PATIENTS.read_text().splitlines()[:20]):
        kcat.write(TOPIC, patient.encode(), b"%d" % number, number % 6)
    for number in range(3):
        kcat.write(TOPIC, SECRET.encode(), b"bad", number)
    collector = Collector()
    room.closers.append(collector.close)
    run = room.finish(
        "run", "-b", brokers, "--group", "logs", "-e", "-o", "json", "--log-format", "json", "--log-level", "info", "--http", "off",
        environment=collector.environment(OTEL_LOGS_EXPORTER="otlp"),
    )
    summary = parsed(run)
    report.equal("run: exit, completed, dead-lettered", [run.process.returncode, summary["completed"], summary["dead_lettered"]], [0, 20, 3])
    spans = spans_of(collector.traces())
    said = lines(report, run.err(), spans)
    exported(report, collector, said, spans)
    endings(report, room, brokers)
    collector_takes(report, room)


def lines(report, text, spans):
    """Gives the lines as objects."""
    said, broken = [], []
    for line in text.splitlines():
        try:
            said.append(json.loads(line))
        except ValueError:
            broken.append(line)
    report.none("each line of stderr is JSON", broken)
    keys = {"timestamp", "level", "logger", "message", "source"}
    report.none(
        "each has time, level, logger, message and source",
        [s for s in said if not keys <= s.keys() or not TIME.fullmatch(s["timestamp"]) or s["level"] not in SEVERITIES],
    )
    report.none("none has a payload", [s for s in said if SECRET in json.dumps(s)])
    handled = [s for s in said if " attempt " in s["message"]]
    dead = [s for s in said if "is dead-lettered" in s["message"]]
    report.equal("lines of the handler, of dead letters", [len(handled), len(dead)], [20, 3])
    known = {(span["traceId"], span["spanId"], f"{span['flags'] & 0xFF:02x}"): span["name"] for span in spans}
    names = [[known.get((s.get("trace_id"), s.get("span_id"), s.get("trace_flags"))) for s in part] for part in (handled, dead)]
    report.equal("a handler's line names an attempt that was exported", set(names[0]), {"attempt"})
    report.equal("a dead letter's line names its process span", set(names[1]), {f"process {TOPIC}"})
    report.none(
        "whichever line has ids names an exported span",
        [s for s in said if "trace_id" in s and (s["trace_id"], s["span_id"], s["trace_flags"]) not in known],
    )
    return said


def exported(report, collector, said, spans):
    bodies = collector.logs()
    requests = decoded(bodies, "logs")
    records, faults = [], []
    for body, request in zip(bodies, requests):
        if len(request.SerializeToString()) != len(body):
            faults.append("a request is longer than the official classes write it")
        for resource in request.resource_logs:
            for scope in resource.scope_logs:
                if scope.scope.name != "triage" or not any(a.key == "service.name" for a in resource.resource.attributes):
                    faults.append("a record without scope or resource")
                for record in scope.log_records:
                    records.append(record)
                    if record.SerializeToString() not in body:
                        faults.append(record)
    report.none("each record is, byte for byte, what the official classes write", faults)
    report.none("none has a payload", [record for record in records if SECRET in str(record)])
    report.none(
        "each has both times and a severity",
        [r for r in records if not r.time_unix_nano or not r.observed_time_unix_nano or not r.severity_text],
    )
    events = [record for record in records if record.event_name]
    report.equal("events of failures", [(e.event_name, e.severity_number) for e in events],
                 [("messaging.process.exception", SeverityNumber.SEVERITY_NUMBER_ERROR)] * 3)
    failed = {(span["traceId"], span["spanId"]) for span in spans if any(e["name"] == "exception" for e in span["events"])}
    report.equal("they are in the spans that failed", {(e.trace_id.hex(), e.span_id.hex()) for e in events}, failed)
    report.none(
        "they name the exception",
        [e for e in events if not {"exception.type", "exception.message"} <= {a.key for a in e.attributes}],
    )
    # Lines from before telemetry was there can't be exported; it is there when the service says what it serves.
    begin = next((index for index, line in enumerate(said) if line["message"].startswith("group ")), 0)
    told = [(SEVERITIES[line["level"]], line.get("trace_id", ""), line.get("span_id", "")) for line in said[begin:]]
    plain = [(r.severity_number, r.trace_id.hex(), r.span_id.hex()) for r in records if not r.event_name]
    report.equal("each line is a record, in order, with the same ids", plain, told)
    handled = [r.body.string_value for r in records if " attempt " in r.body.string_value]
    report.equal("texts that are safe are exported", len(handled), 20)
    sums = sums_of(collector.metrics())
    counts = [
        total(sums, "otel.sdk.log.created"), total(sums, "otel.sdk.exporter.log.exported"),
        total(sums, "otel.sdk.processor.log.processed"), total(sums, "otel.sdk.processor.log.queue.size"),
    ]
    report.equal("created, exported, processed and waiting, as the metrics have it", counts, [len(records)] * 3 + [0])


def endings(report, room, brokers):
    """What ends a command is a line of the same kind."""
    child = room.finish("run", "-b", brokers, "--concurrency", "0", "--log-format", "json")
    report.equal("a bad setting: exit", child.process.returncode, 64)
    report.check("… as one line of JSON", "concurrency=0" in json.loads(child.err())["message"], child.err())
    child = room.finish("run", "-b", brokers, "--concurrency", "0")
    report.check("… and in text as ever", child.err().startswith("Error: concurrency=0"), child.err())
    child = room.finish("run", "-b", brokers, environment={"TRIAGE_LOG_FORMAT": "xml"})
    report.check(
        "a format that there isn't is named", child.process.returncode == 64 and "log-format=xml: expected text or json" in child.err(),
        child.err(),
    )


def collector_takes(report, room):
    endpoint, _, child = real_collector(room)
    demo = room.finish(
        "demo", "-o", "json", "--events", "200", "--transient", "0.2", "--log-format", "json", "--log-level", "info",
        environment={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_LOGS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"},
    )
    summary = parsed(demo)
    warnings = [line for line in demo.err().splitlines() if json.loads(line)["level"] in ("warning", "error")]
    report.check("demo with exported logs: exit 0, no warning", demo.process.returncode == 0 and not warnings, demo.err())

    def printed():
        return len(re.findall(r"EventName: messaging\.process\.exception|messaging\.process\.exception", child.out()))

    wait_until("rotel prints events of failures", lambda: printed() >= summary["retries"], 30)
    report.check("rotel prints lines", "is dead-lettered" in child.out(), child.out()[-800:])
