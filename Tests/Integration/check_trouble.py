"""Telemetry never hurts the work: the demonstration with collectors in trouble."""

import time

from collector import Collector
from harness import free_port, parsed

EVENTS = "500"


def trouble(report, room):
    """Collector down, slow, refusing, answering garbage, hanging, and one that recovers."""
    plain, seconds = demo(room, {})
    report.note(f"without a collector: {seconds:.1f} s in all, {plain['duration_seconds']:.2f} s for the events")
    down = f"http://127.0.0.1:{free_port()}"
    for mode in ["down", "slow", "500", "garbage", "hang", "503-then-ok"]:
        if mode == "down":
            environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": down}
            collector = None
        else:
            collector = Collector(mode)
            room.closers.append(collector.close)
            environment = collector.environment()
        summary, seconds = demo(room, environment)
        report.note(
            f"{mode}: {seconds:.1f} s in all, {summary['duration_seconds']:.2f} s for the events, "
            f"{summary['spans_exported']} spans exported, {summary['spans_dropped']} dropped"
        )
        names = ("produced", "completed", "dead_lettered", "retries", "duplicates")
        report.equal(f"{mode}: exit 0 and the same outcome", [0, *(summary[n] for n in names)], [0, *(plain[n] for n in names)])
        # A bound for what must never be: work that waits for telemetry. Shutdown may take its time-outs, twice 10 s.
        report.check(
            f"{mode}: the events are not slower, and the end is bounded",
            summary["duration_seconds"] < plain["duration_seconds"] + 10 and seconds < plain["duration_seconds"] + 40,
            (summary, seconds),
        )
        made = summary["spans_exported"] + summary["spans_dropped"]
        report.check(f"{mode}: every span is accounted for", made > 3 * plain["produced"], summary)
        if mode in ("down", "500", "hang"):
            report.equal(f"{mode}: spans exported", summary["spans_exported"], 0)
        if mode in ("slow", "503-then-ok"):
            report.equal(f"{mode}: spans dropped", summary["spans_dropped"], 0)
        if collector is not None:
            report.check(f"{mode}: the collector was asked", collector.request_count() > 0)


def demo(room, environment):
    begin = time.monotonic()
    child = room.finish("demo", "-o", "json", "--events", EVENTS, environment=environment, seconds=120)
    seconds = time.monotonic() - begin
    if child.process.returncode != 0:
        room.show_logs()
    return parsed(child), seconds
