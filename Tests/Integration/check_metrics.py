"""Metrics over OTLP, as their variables say: every point kind, both temporalities, exemplars; read by the official classes."""

import math

from collector import Collector
from decode_otlp import Invalid, attributes, refuse_other_bytes
from harness import parsed
from spans import decoded, spans_of

DELTA, CUMULATIVE = 1, 2
HISTOGRAMS = {"histogram", "exponential_histogram"}
# What carries exemplars, and the name of the span that each was measured in.
MEASURED_IN = {
    "messaging.process.duration": "process ", "triage.event.end_to_end.duration": "process ", "triage.retry.wait.duration": "process ",
    "triage.retry.lateness": "process ", "triage.retries": "process ", "triage.dead_letters": "process ",
    "messaging.client.operation.duration": "send ",
}
# Observed counters beside process.* and otel.sdk.*, of which the exporters' own aren't: with lowmemory they stay cumulative.
OBSERVED = {"triage.span.unsampled", "triage.failure_trace.flagged", "triage.failure_trace.dropped", "triage.log.withheld"}
VARIABLES = {
    "by default": {},
    "delta, explicit": {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta"},
    "lowmemory, exponential": {
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "lowmemory",
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
    },
    "cumulative, exponential, always_on": {
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
        "OTEL_METRICS_EXEMPLAR_FILTER": "always_on",
    },
    "always_off": {"OTEL_METRICS_EXEMPLAR_FILTER": "always_off"},
}


def otlp_metrics(report, room):
    for name, variables in VARIABLES.items():
        collector = Collector()
        room.closers.append(collector.close)
        child = room.finish(
            "demo", "-o", "json", "--events", "500",
            environment=collector.environment(OTEL_METRIC_EXPORT_INTERVAL="200", **variables),
        )
        summary = parsed(child)
        report.check(
            f"{name}: exit status 0, the receiver is content", child.process.returncode == 0 and "receiver" not in child.err(), child.err(),
        )
        report.none(f"{name}: {len(collector.metrics())} bodies are what the official classes write", other_bytes(collector.metrics()))
        metrics = [
            (metric, metric.WhichOneof("data"))
            for request in decoded(collector.metrics(), "metrics")
            for resource in request.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
        ]
        report.none(f"{name}: temporality, monotonic, buckets, times are sound", faults(metrics, variables))
        report.equal(f"{name}: kinds", {kind for _, kind in metrics}, {"gauge", "sum", histogram_kind(variables)})
        spans = spans_of(collector.traces())
        counts(report, name, metrics, summary, variables, sum(span["attributes"].get("triage.outcome") == "parked" for span in spans))
        exemplars(report, name, metrics, spans, variables)


def histogram_kind(variables):
    return "exponential_histogram" if len(variables.get("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "")) > 30 else "histogram"


def other_bytes(bodies):
    for body, request in zip(bodies, decoded(bodies, "metrics")):
        try:
            refuse_other_bytes(request, body)
        except Invalid as error:
            yield str(error)


def is_delta(metric, kind, variables):
    preference = variables.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative")
    if preference == "cumulative" or kind == "gauge" or (kind == "sum" and not metric.sum.is_monotonic):
        return False
    if preference == "delta" or kind in HISTOGRAMS or metric.name.startswith("otel.sdk.exporter."):
        return True
    return metric.name not in OBSERVED and not metric.name.startswith(("otel.sdk.", "process."))


def faults(metrics, variables):
    ends = {}
    for metric, kind in metrics:
        data = getattr(metric, kind)
        delta = is_delta(metric, kind, variables)
        if kind != "gauge" and data.aggregation_temporality != (DELTA if delta else CUMULATIVE):
            yield metric.name, "temporality", data.aggregation_temporality
        seen = set()
        for point in data.data_points:
            key = (metric.name, tuple(sorted(attributes(point.attributes).items())))
            if key in seen:
                yield key, "twice in one metric"
            seen.add(key)
            if kind == "gauge":
                if point.start_time_unix_nano:
                    yield key, "a gauge began"
            elif not 0 < point.start_time_unix_nano <= point.time_unix_nano:
                yield key, "times", point.start_time_unix_nano, point.time_unix_nano
            # A delta begins where the one before it ended or later, a cumulative point where it always did.
            elif delta and point.start_time_unix_nano < ends.get(key, 0):
                yield key, "overlaps"
            elif not delta and ends.setdefault(key, point.start_time_unix_nano) != point.start_time_unix_nano:
                yield key, "began anew"
            if delta:
                ends[key] = point.time_unix_nano
            if kind in HISTOGRAMS:
                yield from ((key, fault) for fault in histogram_faults(point, kind))


def histogram_faults(point, kind):
    if kind == "histogram":
        bounds = list(point.explicit_bounds)
        if len(point.bucket_counts) != len(bounds) + 1 or bounds != sorted(set(bounds)):
            yield "bounds"
        counted = sum(point.bucket_counts)
    else:
        if not -10 <= point.scale <= 20 or max(len(point.positive.bucket_counts), len(point.negative.bucket_counts)) > 160:
            yield f"scale {point.scale}"
        counted = point.zero_count + sum(point.positive.bucket_counts) + sum(point.negative.bucket_counts)
        if point.max > 0:
            # The greatest value lies in the last bucket that holds anything.
            last = point.positive.offset + max(i for i, count in enumerate(point.positive.bucket_counts) if count)
            exact = math.log2(point.max) * 2.0**point.scale
            if not last - 1e-6 <= exact <= last + 1 + 1e-6:
                yield f"the maximum {point.max} isn't in bucket {last} at scale {point.scale}"
    if counted != point.count:
        yield f"{counted} in buckets, count {point.count}"
    if point.count and not point.min * point.count <= point.sum * (1 + 1e-9) <= point.max * point.count * (1 + 2e-9):
        yield f"sum {point.sum} of {point.count} from {point.min} to {point.max}"


def counts(report, name, metrics, summary, variables, parked):
    """Sums of counters and counts of histograms, over all deltas or of the last export, are the summary's and the spans'."""
    values = {}
    for metric, kind in metrics:
        for point in getattr(metric, kind).data_points:
            key = (metric.name, tuple(sorted(attributes(point.attributes).items())))
            value = point.count if kind in HISTOGRAMS else point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
            values[key] = value + (values.get(key, 0) if is_delta(metric, kind, variables) else 0)

    def total(metric, **pairs):
        return sum(v for (n, a), v in values.items() if n == metric and all((k, w) in a for k, w in pairs.items()))

    expected = {
        "triage.events.processed": summary["completed"] + summary["dead_lettered"], "triage.dead_letters": summary["dead_lettered"],
        "triage.retries": summary["retries"], "triage.retry.wait.duration": summary["retries"] + parked,
        "triage.event.end_to_end.duration": summary["completed"] + summary["dead_lettered"],
        "messaging.process.duration": summary["produced"] + summary["retries"] + parked,
        "messaging.client.operation.duration": summary["produced"] + summary["retries"] + parked + summary["dead_lettered"],
        "otel.sdk.exporter.span.exported": summary["spans_exported"],
    }
    found = {metric: total(metric) for metric in expected}
    # Polls and commits are measured under the same name.
    sends = "messaging.client.operation.duration"
    found[sends] = total(sends, **{"messaging.operation.name": "send"})
    report.equal(f"{name}: what was counted is the summary's", found, expected)


def exemplars(report, name, metrics, spans, variables):
    by_id = {(span["traceId"], span["spanId"]): span["name"] for span in spans}
    found = {}
    offenders = []
    for metric, kind in metrics:
        for point in getattr(metric, kind).data_points:
            for exemplar in point.exemplars:
                found[metric.name] = found.get(metric.name, 0) + 1
                span = by_id.get((exemplar.trace_id.hex(), exemplar.span_id.hex()))
                prefix = MEASURED_IN.get(metric.name)
                whole = exemplar.WhichOneof("value") == "as_int"
                outside = not exemplar.trace_id and not exemplar.span_id and variables.get("OTEL_METRICS_EXEMPLAR_FILTER") == "always_on"
                if not outside and (span is None or prefix is None or not span.startswith(prefix)):
                    offenders.append((metric.name, span))
                if whole != (kind == "sum") or not exemplar.time_unix_nano or exemplar.time_unix_nano > point.time_unix_nano + 10**9:
                    offenders.append((metric.name, "value or time"))
    report.note(f"exemplars: {found}")
    report.none(f"{name}: each exemplar names a received span of the step that was measured", offenders)
    if variables.get("OTEL_METRICS_EXEMPLAR_FILTER") == "always_off":
        report.equal(f"{name}: exemplars", found, {})
    else:
        report.none(f"{name}: each metric that should have exemplars has some", set(MEASURED_IN) - set(found))
