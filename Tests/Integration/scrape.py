"""Metrics as Prometheus text and as OTLP, brought into one form: series → value."""

import re

from google.protobuf.json_format import MessageToDict

from harness import Failed, fetch
from spans import decoded

LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \d+)?")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def scrape(address):
    """The text of /metrics as a dictionary: (name, frozenset of labels) → value."""
    status, _, body = fetch(address + "/metrics")
    if status != 200:
        raise Failed(f"/metrics answers {status}")
    series = {}
    for line in body.decode().splitlines():
        if not line or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if not match:
            raise Failed(f"/metrics has the line {line!r}")
        # The scope is the same for all, and OTLP says it elsewhere.
        labels = frozenset(pair for pair in LABEL.findall(match[2] or "") if not pair[0].startswith("otel_scope_"))
        series[match[1], labels] = float(match[3])
    return series


def counter(series, name, **labels):
    """The sum of a metric's series that have these labels; None is for one that they don't have."""
    wanted = {key: value for key, value in labels.items() if value is not None}
    absent = {key for key, value in labels.items() if value is None}
    return sum(
        value for (found, pairs), value in series.items()
        if found == name and wanted.items() <= dict(pairs).items() and not absent & dict(pairs).keys()
    )


def pushed(bodies):
    """The last counters and histogram counts of each service instance, named as Prometheus names them."""
    instances = {}
    for request in decoded(bodies, "metrics"):
        for resource in MessageToDict(request).get("resourceMetrics", []):
            series = instances.setdefault(_attributes(resource.get("resource", {}))["service.instance.id"], {})
            for scope in resource.get("scopeMetrics", []):
                for metric in scope.get("metrics", []):
                    _add(series, metric)
    return instances


def _add(series, metric):
    name = metric["name"].replace(".", "_") + {"s": "_seconds", "By": "_bytes"}.get(metric.get("unit"), "")
    if metric.get("sum", {}).get("isMonotonic"):
        for point in metric["sum"]["dataPoints"]:
            series[f"{name}_total", _labels(point)] = float(point.get("asInt", point.get("asDouble", 0)))
    for point in metric.get("histogram", {}).get("dataPoints", []):
        series[f"{name}_count", _labels(point)] = float(point.get("count", 0))


def _attributes(holder):
    return {pair["key"]: next(iter(pair["value"].values())) for pair in holder.get("attributes", [])}


def _labels(point):
    return frozenset((key.replace(".", "_"), str(value)) for key, value in _attributes(point).items())
