"""The truth about telemetry: what was made, what was sent, what arrived, and what each way of counting says."""

import re
import signal

from check_trouble import service, stub
from harness import PATIENTS, Failed, parsed, wait_until
from parts import Kcat, real_broker
from scrape import counter, pushed, scrape
from spans import spans_of

# These say something else each time one asks, or are about the asking.
RESTLESS = ("otel_sdk_", "http_", "process_")
TOPIC = "fhir.Patient.created"


def truth(report, room):
    """A service with failures whose collector is down for half of the time, a clean restart, and a demonstration."""
    brokers = real_broker(room)
    room.finish("topics", "create", "-b", brokers)
    kcat = Kcat(brokers)
    collector = stub(room)
    environment = collector.environment(
        OTEL_EXPORTER_OTLP_TIMEOUT="1000", OTEL_BSP_SCHEDULE_DELAY="100", OTEL_METRIC_EXPORT_INTERVAL="500"
    )
    sums = {"ended": 0, "exported": 0, "failed": 0, "received": 0, "good": 0, "bad": 0}

    run, address = service(room, brokers, "truth", environment)
    good, bad = work(room, brokers, kcat, address, 0, 0, broken=3)
    collector.go_down()
    good, bad = work(room, brokers, kcat, address, good, bad, broken=7)
    wait_until("an export has failed", lambda: lost(scrape(address)) > 0, 30)
    collector.come_up()
    good, bad = work(room, brokers, kcat, address, good, bad, broken=2)
    first = settled(report, "first life", run, address, collector, good, bad, sums)
    report.check("first life: spans were lost while the collector was down", first > 0, first)
    run.signal(signal.SIGTERM)
    report.equal("first life: exit status", run.wait(40), 0)

    # The second life samples half of its traces: the publisher makes no context, so that the service decides.
    run, address = service(
        room, brokers, "truth",
        environment | {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"},
    )
    published_before = len(kcat.read(TOPIC))
    more_good, more_bad = work(room, brokers, kcat, address, 0, 0, broken=5, published=published_before)
    second = settled(report, "second life", run, address, collector, more_good, more_bad, sums)
    report.equal("second life: spans lost", second, 0)
    run.signal(signal.SIGTERM)
    report.equal("second life: exit status", run.wait(40), 0)
    report.note(f"both lives: {sums}")
    report.equal("both lives: dead letters by kcat = bad records", len(kcat.read(TOPIC + ".dlq")), bad + more_bad)
    report.equal("both lives: records by kcat", len(kcat.read(TOPIC)), sums["good"] + sums["bad"])
    demonstration(report, room)


def work(room, brokers, kcat, address, good, bad, broken, published=0):
    """51 good records and some that are no JSON; waits until all are handled. Gives how many there were in this life."""
    answer = room.finish("publish", "-b", brokers, "--action", "created", str(PATIENTS), "-o", "json", environment={
        "OTEL_SDK_DISABLED": "true" if published else "false",
    })
    good += parsed(answer)["published"]
    for number in range(broken):
        kcat.write(TOPIC, b"{no json", key=f"bad-{number}".encode())
    bad += broken
    wait_until("all are handled", lambda: counter(scrape(address), "triage_deliveries_total") == good + bad, 60)
    return good, bad


def lost(series):
    return sum(
        value for (name, labels), value in series.items()
        if name == "otel_sdk_exporter_span_exported_total" and "error_type" in dict(labels)
    )


def quiet(address):
    """Waits until two scrapes in a row count the same: no poll, no commit, no span in between."""
    last = {}

    def is_still():
        nonlocal last
        series = {key: value for key, value in scrape(address).items() if is_comparable(*key)}
        series["spans"] = counter(scrape(address), "otel_sdk_span_started_total")
        same, last = series == last, series
        return same

    wait_until("nothing moves any more", is_still, 60, interval=1.5)


def is_comparable(name, labels):
    return name.endswith(("_total", "_count")) and not name.startswith(RESTLESS)


def settled(report, life, run, address, collector, good, bad, sums):
    """Drained, flushed, then scraped: everything must agree. Gives the number of spans that were lost."""
    quiet(address)
    flushes = run.err().count("SIGUSR1: telemetry ")
    run.signal(signal.SIGUSR1)
    wait_until("the flush is logged", lambda: run.err().count("SIGUSR1: telemetry ") > flushes, 40)
    series = scrape(address)
    instance = balanced(report, life, series, collector, sums)
    report.equal(
        f"{life}: completed and dead_lettered on /metrics = the test's own count",
        [counter(series, "triage_events_processed_total", triage_outcome=outcome) for outcome in ("completed", "dead_lettered")],
        [float(good), float(bad)],
    )
    sums["good"] += good
    sums["bad"] += bad
    agreed(report, life, series, collector, instance)
    return lost(series)


def balanced(report, life, series, collector, sums):
    """Spans ended = exported + failed + dropped by reason + unsampled + queued, and what arrived lies in between."""
    started = counter(series, "otel_sdk_span_started_total")
    live = counter(series, "otel_sdk_span_live")
    # Not recorded at all, or recorded in case that something fails, which nothing did.
    unsampled = counter(series, "otel_sdk_span_started_total", otel_span_sampling_result="DROP") + counter(
        series, "triage_span_unsampled_total"
    )
    exported = counter(series, "otel_sdk_exporter_span_exported_total", error_type=None)
    failed = lost(series)
    dropped = counter(series, "otel_sdk_processor_span_processed_total") - counter(
        series, "otel_sdk_processor_span_processed_total", error_type=None
    )
    queued = counter(series, "otel_sdk_processor_span_queue_size") + counter(series, "otel_sdk_exporter_span_inflight")
    queued += counter(series, "triage_failure_trace_buffer_spans")
    ended = started - live
    report.equal(f"{life}: ended = exported + failed + dropped + unsampled + queued", exported + failed + dropped + unsampled + queued, ended)
    report.equal(f"{life}: live and queued at rest", (live, queued), (0, 0))
    report.equal(
        f"{life}: handed over by the processor = taken up by the exporter",
        counter(series, "otel_sdk_processor_span_processed_total", error_type=None), exported + failed,
    )
    instance = next(value for (name, labels) in series if name == "target_info" for key, value in labels if key.endswith("instance_id"))
    mine = [span for span in spans_of(collector.traces()) if span["resource"]["service.instance.id"] == instance]
    report.check(
        f"{life}: exported {exported:.0f} <= received {len(mine)} <= exported + failed {exported + failed:.0f}",
        exported <= len(mine) <= exported + failed and exported > 0,
    )
    report.equal(f"{life}: received spans, each once", len({(s["traceId"], s["spanId"]) for s in mine}), len(mine))
    for name, value in (("ended", ended), ("exported", exported), ("failed", failed), ("received", len(mine))):
        sums[name] = sums.get(name, 0) + value
    return instance


def agreed(report, life, series, collector, instance):
    otlp = {key: value for key, value in pushed(collector.metrics()).get(instance, {}).items() if is_comparable(*key)}
    text = {key: value for key, value in series.items() if is_comparable(*key)}
    report.check(f"{life}: {len(text)} counters to compare", len(text) > 20, len(text))
    report.none(
        f"{life}: each counter is the same by OTLP and on /metrics",
        [(key[0], dict(key[1]), otlp.get(key), text.get(key)) for key in otlp.keys() | text.keys() if otlp.get(key) != text.get(key)],
    )


def demonstration(report, room):
    """The only built-in way to have attempts that fail and are retried: the demonstration. Its collector goes down soon."""
    collector = stub(room)
    child = room.triage(
        "demo", "--serve", "--http", "127.0.0.1:0", "-o", "json", "--events", "5000", "--transient", "0.2",
        environment=collector.environment(
            OTEL_EXPORTER_OTLP_TIMEOUT="500", OTEL_BSP_SCHEDULE_DELAY="100", OTEL_METRIC_EXPORT_INTERVAL="500"
        ),
    )

    def address():
        found = re.search(r"^Metrics:\s+(http://\S+)/metrics", child.err(), re.MULTILINE)
        if not found and not child.is_running():
            raise Failed(f"the demo ended: {child.err()[-500:]}")
        return found and found.group(1)

    wait_until("first spans have come", collector.traces, 60, interval=0.01)
    collector.go_down()
    base = wait_until("the demo serves", address, 120)
    wait_until("the demo has its report", lambda: child.out().strip(), 120)
    summary = parsed(child)
    collector.come_up()
    sums = {}
    lost_spans = settled_demo(report, child, base, collector, summary, sums)
    report.check("demonstration: spans were lost while the collector was down", lost_spans > 0, lost_spans)
    child.signal(signal.SIGTERM)
    report.equal("demonstration: exit status", child.wait(40), 0)


def settled_demo(report, child, base, collector, summary, sums):
    lost_spans = settled(report, "demonstration", child, base, collector, summary["completed"], summary["dead_lettered"], sums | {"good": 0, "bad": 0})
    report.check("demonstration: some events were retried", summary["retries"] > 0, summary)
    series = scrape(base)
    report.equal("demonstration: retries on /metrics", counter(series, "triage_retries_total"), float(summary["retries"]))
    return lost_spans
