"""Telemetry never hurts the work: the demonstration with collectors in trouble."""

import concurrent.futures
import re
import signal
import socket
import threading
import time

from certificates import Authority, server_context
from collector import Collector
from harness import PATIENTS, Failed, fetch, free_port, parsed, wait_until
from parts import real_broker, real_collector
from scrape import counter, scrape
from spans import spans_of, sums_of, total

EVENTS = "500"


def trouble(report, room):
    """Collector down, slow, refusing, answering garbage, hanging, and one that recovers."""
    plain, plain_seconds, _ = demo(room, {})
    report.note(f"without a collector: {plain_seconds:.1f} s in all, {plain['duration_seconds']:.2f} s for the events")
    down = f"http://127.0.0.1:{free_port()}"
    for mode in ["down", "slow", "500", "garbage", "hang", "503-then-ok"]:
        if mode == "down":
            environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": down}
            collector = None
        else:
            collector = Collector(mode)
            room.closers.append(collector.close)
            environment = collector.environment()
        summary, seconds, said = demo(room, environment)
        report.note(
            f"{mode}: {seconds:.1f} s in all, {summary['duration_seconds']:.2f} s for the events, "
            f"{summary['spans_exported']} spans exported, {summary['spans_dropped']} dropped"
        )
        names = ("produced", "completed", "dead_lettered", "retries", "duplicates")
        report.equal(f"{mode}: exit 0 and the same outcome", [0, *(summary[n] for n in names)], [0, *(plain[n] for n in names)])
        # A bound for what must never be: work that waits for telemetry. The end may take the demonstration's 6 s for all signals.
        report.check(
            f"{mode}: the events are not slower, and the end is bounded",
            summary["duration_seconds"] < plain["duration_seconds"] + 10 and seconds < plain_seconds + 10 + 6 + 4,
            (summary, seconds),
        )
        made = summary["spans_exported"] + summary["spans_dropped"]
        report.check(f"{mode}: every span is accounted for", made > 3 * plain["produced"], summary)
        if mode in ("down", "500", "hang"):
            report.equal(f"{mode}: spans exported", summary["spans_exported"], 0)
        if mode in ("slow", "503-then-ok"):
            report.equal(f"{mode}: spans dropped", summary["spans_dropped"], 0)
        if mode == "down":
            report.equal(f"{mode}: complaints about it, all signals together", said.count("no answer from"), 1)
        if collector is not None:
            report.check(f"{mode}: the collector was asked", collector.request_count() > 0)


def demo(room, environment, events=EVENTS):
    begin = time.monotonic()
    child = room.finish("demo", "-o", "json", "--events", events, environment=environment, seconds=120)
    seconds = time.monotonic() - begin
    if child.process.returncode != 0:
        room.show_logs()
    return parsed(child), seconds, child.err()


def stub(room, *arguments, **options):
    collector = Collector(*arguments, **options)
    room.closers.append(collector.close)
    return collector


def tls(report, room):
    """TLS with an authority of our own, mutual TLS, and what is refused; then a real collector behind a TLS front."""
    ours, theirs = Authority(room, "ours"), Authority(room, "theirs")
    server = ours.issue("server", "IP:127.0.0.1")
    other_name = ours.issue("elsewhere", "DNS:elsewhere.example")
    client = ours.issue("client", "DNS:client")
    stranger = theirs.issue("stranger", "DNS:stranger")
    trusted = {"OTEL_EXPORTER_OTLP_CERTIFICATE": ours.certificate, "OTEL_EXPORTER_OTLP_TIMEOUT": "3000"}

    def certificate(pair):
        return {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": pair[0], "OTEL_EXPORTER_OTLP_CLIENT_KEY": pair[1]}

    plain, mutual = server_context(*server), server_context(*server, client_authority=ours.certificate)
    cases = [
        ("own authority", plain, trusted, True),
        ("another authority", plain, trusted | {"OTEL_EXPORTER_OTLP_CERTIFICATE": theirs.certificate}, False),
        ("the system's authorities", plain, {"OTEL_EXPORTER_OTLP_TIMEOUT": "3000"}, False),
        ("a certificate for another host", server_context(*other_name), trusted, False),
        ("mutual TLS", mutual, trusted | certificate(client), True),
        ("mutual TLS without a client certificate", mutual, trusted, False),
        ("mutual TLS with a stranger's certificate", mutual, trusted | certificate(stranger), False),
        ("mutual TLS, the certificate for metrics alone", mutual, trusted | {
            "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE": client[0], "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY": client[1],
        }, None),
    ]
    collectors = [stub(room, tls=context) for _, context, _, _ in cases]
    # A demonstration mostly waits.
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda case, collector: demo(room, collector.environment(**case[2]), "200"), cases, collectors))
    for (name, _, _, is_accepted), collector, (summary, _, said) in zip(cases, collectors, runs):
        received = len(spans_of(collector.traces()))
        made = summary["spans_exported"] + summary["spans_dropped"]
        if is_accepted:
            report.check(
                f"TLS, {name}: all {made} spans arrive, metrics too, nothing is said",
                received == summary["spans_exported"] == made > 600 and collector.metrics() and not said, (summary, received, said),
            )
        elif is_accepted is None:
            report.check(
                f"TLS, {name}: metrics arrive, no span does", collector.metrics() and received == 0 and summary["spans_exported"] == 0,
                (summary, received, said),
            )
        else:
            report.check(
                f"TLS, {name}: nothing arrives, all {made} spans are counted as dropped, it is said once",
                received == 0 and summary["spans_exported"] == 0 and made > 600 and collector.request_count() == 0
                and said.count("telemetry: OTLP") == 1, (summary, received, said),
            )
    unusable(report, room, stub(room), client)
    behind_front(report, room, server_context(*server, client_authority=ours.certificate), trusted | certificate(client))


def unusable(report, room, collector, client):
    """Files that can't be used are named at the start, and the demonstration runs all the same."""
    empty = room.path("empty.pem")
    empty.write_text("")
    broken = room.path("broken.pem")
    broken.write_text("-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n")
    cases = [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem", {}), ("OTEL_EXPORTER_OTLP_CERTIFICATE", str(empty), {}),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", str(broken), {}),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", client[0], {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": client[0]}),
    ]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda case: demo(room, collector.environment(**{case[0]: case[1]}, **case[2]), "50"), cases))
    for (key, path, _), (summary, _, said) in zip(cases, runs):
        lines = [line for line in said.splitlines() if "OTEL_" in line]
        report.check(
            f"{key}={path}: named once with its path and what was expected, and all spans arrive",
            len(lines) == 1 and f"{key}={path}" in lines[0] and "PEM file" in lines[0] and summary["spans_dropped"] == 0, said,
        )


def behind_front(report, room, context, environment):
    """rotel receives no TLS, so that a front of ours ends it and passes the bytes on."""
    endpoint, _, child = real_collector(room)
    front = Front(context, int(endpoint.rsplit(":", 1)[1]))
    room.closers.append(front.close)
    for compression in ("none", "gzip"):
        summary, _, said = demo(
            room, environment | {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"https://127.0.0.1:{front.port}", "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
            }, "200",
        )
        report.check(
            f"a real collector behind mutual TLS, compression {compression}: {summary['spans_exported']} spans, none dropped",
            summary["spans_exported"] > 600 and summary["spans_dropped"] == 0 and not said, (summary, said),
        )
    report.check("the front passed connections on", front.connections >= 2, front.connections)
    wait_until("rotel prints the spans", lambda: "Span #" in re.sub(r"\x1b\[[0-9;]*m", "", child.out()), 30)


class Front:
    """Takes TLS connections and passes their bytes on to a port of this host."""

    def __init__(self, context, port):
        self.context = context
        self.target = port
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(plain,), daemon=True).start()

    def serve(self, plain):
        try:
            client = self.context.wrap_socket(plain, server_side=True)
            server = socket.create_connection(("127.0.0.1", self.target), timeout=60)
        except OSError:
            plain.close()
            return
        self.connections += 1
        threading.Thread(target=self.copy, args=(server, client), daemon=True).start()
        self.copy(client, server)

    @staticmethod
    def copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


def flush(report, room):
    """SIGUSR1 sends what there is and ends nothing; a dead endpoint holds up no end."""
    brokers = real_broker(room)
    room.finish("topics", "create", "-b", brokers)
    collector = stub(room)
    never = {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_METRIC_EXPORT_INTERVAL": "3600000"}
    run, address = service(room, brokers, "flush", collector.environment(**never))
    delivered = 0
    for number in (1, 2):
        published = room.finish("publish", "-b", brokers, "--action", "created", str(PATIENTS), "-o", "json")
        delivered += parsed(published)["published"]
        wait_until("all events are handled", lambda: counter(scrape(address), "triage_deliveries_total") == delivered, 30)
        before = len([s for s in spans_of(collector.traces()) if s["name"].startswith("process ")])
        report.equal(f"flush {number}: process spans that have come by themselves", before, delivered - 51)
        run.signal(signal.SIGUSR1)
        wait_until("the flush is logged", lambda: run.err().count("SIGUSR1: telemetry flushed") == number, 30)
        spans = spans_of(collector.traces())
        report.equal(f"flush {number}: process spans at the collector", sum(s["name"].startswith("process ") for s in spans), delivered)
        report.equal(f"flush {number}: deliveries by OTLP", total(sums_of(collector.metrics()), "triage.deliveries"), float(delivered))
        report.check(f"flush {number}: it goes on", run.is_running() and fetch(address + "/health/ready")[0] == 200)
    run.signal(signal.SIGTERM)
    report.equal("exit status after SIGTERM", run.wait(40), 0)
    summary = parsed(run)
    report.equal(
        "spans received, dropped", (len(spans_of(collector.traces())), summary["spans_dropped"]), (summary["spans_exported"], 0)
    )

    for mode in ("down", "hang"):
        endpoint = f"http://127.0.0.1:{free_port()}" if mode == "down" else stub(room, mode).endpoint
        run, address = service(
            room, brokers, "flush", {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT": "2000"} | never
        )
        room.finish("publish", "-b", brokers, "--action", "created", str(PATIENTS), "-o", "json")
        wait_until("all events are handled", lambda: counter(scrape(address), "triage_deliveries_total") == 51, 30)
        run.signal(signal.SIGUSR1)
        wait_until("the flush is over", lambda: "SIGUSR1: telemetry could not all be exported" in run.err(), 30)
        begin = time.monotonic()
        run.signal(signal.SIGTERM)
        status = run.wait(40)
        seconds = time.monotonic() - begin
        report.check(
            f"{mode}: SIGTERM ends it with 0 after {seconds:.1f} s: the exporters' 2 s, not twice, nor the grace period",
            status == 0 and seconds < 2 + 1.9, (status, run.err()[-500:]),
        )
        report.equal(f"{mode}: complaints", run.err().count("no answer from"), 1)
        summary = parsed(run)
        report.check(f"{mode}: every span is counted", summary["spans_exported"] == 0 and summary["spans_dropped"] > 100, summary)


def service(room, brokers, group, environment):
    """A running `triage run` and the address of its /metrics."""
    run = room.triage(
        "run", "-b", brokers, "--group", group, "--handler", "none", "--http", "127.0.0.1:0", "-o", "json", environment=environment
    )

    def address():
        found = re.search(r"(http://127\.0\.0\.1:\d+)/metrics", run.err())
        if not found and not run.is_running():
            raise Failed(f"run ended: {run.err()[-500:]}")
        return found and found.group(1)

    base = wait_until("run tells where /metrics is", address, 30)
    wait_until("run is ready", lambda: fetch(base + "/health/ready")[0] == 200, 30)
    return run, base
