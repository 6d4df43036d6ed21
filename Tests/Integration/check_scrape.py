"""/metrics as scrapers see it: formats, negotiation, gzip; read by other implementations' parsers and by a real Prometheus."""

import gzip
import http.client
import http.server
import pathlib
import re
import subprocess
import threading
import time

from google.protobuf.json_format import MessageToDict

from check_demo import stub
from harness import Failed, parsed, wait_until
from parts import Prometheus, on_path
from spans import decoded, spans_of

GOLDEN = pathlib.Path(__file__).parent / "openmetrics.txt"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version={}; charset=utf-8; escaping={}"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
OPEN_1 = "application/openmetrics-text;version=1.0.0"

VARIANTS = [
    ("no Accept", None, TEXT),
    ("curl's", "*/*", TEXT),
    ("a browser's", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
    ("Prometheus 3", PROMETHEUS_3, OPEN.format("1.0.0", "allow-utf-8")),
    ("Prometheus 2", PROMETHEUS_2, OPEN.format("1.0.0", "underscores")),
    ("OpenMetrics 1.0.0", OPEN_1, OPEN.format("1.0.0", "underscores")),
    ("OpenMetrics without version", "application/openmetrics-text", OPEN.format("0.0.1", "underscores")),
    ("OpenMetrics 2.0.0 alone", "application/openmetrics-text;version=2.0.0", TEXT),
    ("OpenMetrics refused", OPEN_1 + ";q=0,text/plain;q=0.1", TEXT),
    ("text liked better", OPEN_1 + ";q=0.1,text/plain;q=0.2", TEXT),
    ("dots, which we don't write", OPEN_1 + ";escaping=dots", OPEN.format("1.0.0", "underscores")),
    ("junk", ",;q=;;\"=,application/openmetrics-text;version=1.0.0;q=x", TEXT),
]


class Client:
    """Requests over one connection, with exactly the headers given."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address, timeout=20)

    def get(self, accept=None, encoding=None, method="GET"):
        """Status, headers in lower case, body."""
        self.connection.putrequest(method, "/metrics", skip_accept_encoding=True)
        for name, value in (("Accept", accept), ("Accept-Encoding", encoding)):
            if value is not None:
                self.connection.putheader(name, value)
        self.connection.endheaders()
        answer = self.connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def open_families(text):
    """The families of an OpenMetrics text by prometheus_client's strict parser."""
    try:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families
    except ImportError:
        raise Failed("the Python package prometheus-client is not installed") from None
    try:
        return list(text_string_to_metric_families(text))
    except ValueError as error:
        raise Failed(f"prometheus_client refuses the OpenMetrics text: {error}") from error


def text_families(text):
    from prometheus_client.parser import text_string_to_metric_families
    return list(text_string_to_metric_families(text))


def samples(families):
    """Name and labels, `le` as a number, to value."""
    found = {}
    for family in families:
        for sample in family.samples:
            labels = {key: float(value) if key == "le" else value for key, value in sample.labels.items()}
            found[(sample.name, tuple(sorted(labels.items())))] = sample.value
    return found


def exemplars_of(families):
    return [(sample.name, sample.exemplar) for family in families for sample in family.samples if sample.exemplar]


def golden(report, room):
    """The text that the unit tests compare with: other implementations understand it as it is meant."""
    text = GOLDEN.read_text()
    families = open_families(text)
    report.equal(
        "prometheus_client: families, types, units",
        [(family.name, family.type, family.unit) for family in families],
        [
            ("target", "info", ""), ("messaging_process_duration_seconds", "histogram", "seconds"), ("sent", "counter", ""),
            ("process_cpu_time_seconds", "counter", "seconds"), ("process_thread_count", "gauge", ""),
            ("process_cpu_utilization_ratio", "gauge", "ratio"),
        ],
    )
    report.equal(
        "prometheus_client: exemplars",
        [(name, found.labels["span_id"][-1], found.value, float(found.timestamp)) for name, found in exemplars_of(families)],
        [
            ("messaging_process_duration_seconds_bucket", "1", 0.2, 1700000000.123),
            ("messaging_process_duration_seconds_bucket", "3", 99.5, 1700000000.123), ("sent_total", "1", 1.0, 1700000000.123),
        ],
    )
    address = serve(room, text.encode())
    prometheus = scraping(report, room, address)
    wait_until("a first sample is there", lambda: prometheus.query("sent_total"), 30)
    report.equal("Prometheus: the counter", prometheus.value("sent_total"), 42.0)
    found = prometheus.exemplars('{job="triage"}', 1699999000, 1700001000)
    report.equal(
        "Prometheus: exemplars by sample",
        {name: sorted((e["labels"]["span_id"][-1], float(e["value"])) for e in many) for name, many in found.items()},
        {"messaging_process_duration_seconds_bucket": [("1", 0.2), ("3", 99.5)], "sent_total": [("1", 1.0)]},
    )


def serve(room, body):
    """Answers every GET with this OpenMetrics text; gives the address."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", OPEN.format("1.0.0", "underscores"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    room.closers.append(lambda: (server.shutdown(), server.server_close()))
    return f"127.0.0.1:{server.server_address[1]}"


def scraping(report, room, address):
    prometheus = Prometheus(room, address)
    wait_until("Prometheus has scraped the target", lambda: any(t["lastScrape"][:4] > "0001" for t in prometheus.targets()), 30)
    target = prometheus.targets()[0]
    report.equal("Prometheus says of the target", (target["health"], target["lastError"]), ("up", ""))
    return prometheus


def scrape(report, room):
    """A service that has handled events: every variant of the request, both formats, Prometheus and its exemplars."""
    begin = time.time()
    collector = stub(room)
    child = room.triage(
        "demo", "--serve", "--http", "127.0.0.1:0", "-o", "json", "--events", "1000",
        environment=collector.environment(OTEL_METRIC_EXPORT_INTERVAL="1000"),
    )

    def announced():
        found = re.search(r"^Metrics:\s+http://(\S+)/metrics", child.err(), re.MULTILINE)
        if not found and not child.is_running():
            raise Failed(f"the demo ended: {child.err()[-500:]}")
        return found and found.group(1)
    address = wait_until("the demo prints the address of /metrics", announced, 120)
    wait_until("the summary is printed: no event is under way", child.out, 120)
    summary = parsed(child)
    client = Client(address)
    negotiated(report, client)
    coded(report, client)
    text, families = both(report, client)
    counted(report, families, summary)
    translated(report, collector, text)
    exemplified(report, room, address, families, collector, begin)


def negotiated(report, client):
    for name, accept, expected in VARIANTS:
        status, headers, body = client.get(accept)
        is_open = expected != TEXT
        report.check(
            f"Accept: {name} → {expected}",
            (status, headers.get("content-type"), body.endswith(b"\n# EOF\n")) == (200, expected, is_open),
            (status, headers, body[-80:]),
        )
        if headers.get("vary") != "Accept, Accept-Encoding":
            report.check(f"Accept: {name}: Vary", False, headers)


def coded(report, client):
    for name, encoding, is_coded in [
        ("none", None, False), ("gzip", "gzip", True), ("gzip among others", "deflate, gzip;q=0.8, br", True), ("any", "*", True),
        ("gzip refused", "gzip;q=0", False), ("another", "br", False), ("identity liked better", "identity, gzip;q=0.5", False),
    ]:
        _, headers, body = client.get(OPEN_1, encoding)
        is_right = headers.get("content-encoding") == ("gzip" if is_coded else None)
        if is_coded and is_right:
            size = len(body)
            body = gzip.decompress(body)
            is_right = size < len(body) / 4
        report.check(
            f"Accept-Encoding: {name}", is_right and body.endswith(b"# EOF\n") and open_families(body.decode()),
            (headers, body[:80]))
    for accept, encoding in [(None, None), (OPEN_1, "gzip")]:
        status, headers, body = client.get(accept, encoding, "HEAD")
        _, expected, content = client.get(accept, encoding)
        # Values grow between the two: the lengths are alike, the rest is equal.
        near = abs(int(headers["content-length"]) - len(content)) <= max(64, len(content) // 20)
        same = [headers.get(n) == expected.get(n) for n in ("content-type", "content-encoding", "vary")]
        report.check(f"HEAD, {encoding or 'plain'}", status == 200 and body == b"" and near and all(same), (headers, len(content)))


def both(report, client):
    """Scrapes both formats until nothing moved in between but what always moves; gives the parsed families."""
    moving = re.compile(r"process_|otel_sdk_|messaging_client_operation|triage_commits|triage_.*_age")

    def pair():
        plain, opened = client.get()[2], client.get(OPEN_1)[2]
        families = text_families(plain.decode()), open_families(opened.decode())
        left, right = (
            {key: value for key, value in samples(f).items() if not moving.match(key[0])} for f in families
        )
        return (plain, families, left, right)

    plain, families, left, right = pair()
    deadline = time.monotonic() + 10
    while left != right and time.monotonic() < deadline:
        plain, families, left, right = pair()
    report.check(f"{len(left)} samples are the same in both formats", len(left) > 200 and left == right, set(left.items()) ^ set(right.items()))
    keys = [set(samples(f)) for f in families]
    report.none("and so are the names and labels of all others", keys[0] ^ keys[1])
    lint = subprocess.run([on_path("promtool"), "check", "metrics"], input=plain, capture_output=True, timeout=60, check=False)
    report.check("promtool check metrics", lint.returncode == 0, (lint.stdout + lint.stderr).decode())
    report.none(
        "each sample but target_info names the scope",
        {
            key[0] for key in keys[1]
            if key[0] != "target_info" and not {"otel_scope_name", "otel_scope_version"} <= {label for label, _ in key[1]}
        },
    )
    target = [family for family in families[1] if family.name == "target"]
    report.check(
        "target_info carries the resource",
        len(target) == 1 and {"service_name", "service_instance_id", "telemetry_sdk_name"} <= target[0].samples[0].labels.keys(),
        target,
    )
    report.none("units stand at the end of their names", [f.name for f in families[1] if f.unit and not f.name.endswith(f.unit)])
    return families


def counted(report, families, summary):
    def sum_of(name, **labels):
        return sum(
            sample.value for family in families for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
    report.equal(
        "counts of the summary",
        [
            sum_of("triage_events_processed_total", triage_outcome="completed"),
            sum_of("triage_events_processed_total", triage_outcome="dead_lettered"), sum_of("triage_retries_total"),
            sum_of("messaging_process_duration_seconds_count"),
        ],
        [
            float(summary[name]) for name in ("completed", "dead_lettered", "retries")
        ] + [summary["produced"] + summary["retries"] + sum_of("triage_deliveries_total", triage_outcome="parked")],
    )


UNITS = {"s": "seconds", "By": "bytes", "1": "ratio"}


def translated(report, collector, families):
    """Names and kinds as Prometheus' receiver would make them of what went out over OTLP."""
    wait_until("metrics went out over OTLP", lambda: len(collector.metrics()) >= 2, 30)
    expected = {}
    for request in decoded(collector.metrics(), "metrics"):
        for resource in MessageToDict(request).get("resourceMetrics", []):
            for metric in (m for scope in resource["scopeMetrics"] for m in scope["metrics"]):
                name = re.sub("[^a-zA-Z0-9:]+", "_", metric["name"])
                unit = metric.get("unit", "")
                if not unit.startswith("{") and (unit != "1" or "gauge" in metric):
                    name += "" if not unit or name.endswith("_" + UNITS[unit]) else "_" + UNITS[unit]
                is_counter = metric.get("sum", {}).get("isMonotonic", False)
                kind = "counter" if is_counter else "histogram" if "histogram" in metric else "gauge"
                expected[name + ("_total" if is_counter else "")] = kind
    # prometheus_client takes `_total` off the names of 0.0.4's counters, and calls untyped unknown.
    found = {
        family.name + ("_total" if family.type == "counter" else ""): "gauge" if family.type == "unknown" else family.type
        for family in families if family.name != "target_info"
    }
    report.equal(
        f"the {len(expected)} metrics of OTLP are those of /metrics, by Prometheus' rules",
        sorted(expected.items() ^ found.items()), [],
    )


def exemplified(report, room, address, families, collector, begin):
    exemplars = exemplars_of(families)
    report.check("there are exemplars on buckets and on counters", {"_bucket", "_total"} <= {
        suffix for name, _ in exemplars for suffix in ("_bucket", "_total") if name.endswith(suffix)
    }, {name for name, _ in exemplars})
    prometheus = scraping(report, room, address)
    wait_until("a first sample is there", lambda: prometheus.query("triage_events_processed_total"), 30)
    found = prometheus.exemplars('{job="triage"}', begin - 60, time.time() + 60)
    report.check("Prometheus gives exemplars back", found, "none")
    known = {(span["traceId"], span["spanId"]) for span in spans_of(collector.traces())}
    report.none(
        f"each of the {sum(map(len, found.values()))} names a span that the collector received",
        [
            (name, exemplar) for name, many in found.items() for exemplar in many
            if (exemplar["labels"].get("trace_id"), exemplar["labels"].get("span_id")) not in known
        ],
    )
    named = {"messaging_process_duration_seconds_bucket", "triage_retries_total", "triage_dead_letters_total"}
    report.none("histograms, retries and dead letters have some", sorted(named - found.keys()))
