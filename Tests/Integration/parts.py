"""The real parts: a broker, a collector, Prometheus and kcat. A part that is missing fails the checks that need it."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import urllib.parse

from harness import Failed, accepts, clean_environment, fetch, free_port, wait_until


def packaged_binary(package, name):
    """The binary that a Python package carries: the script on the path would leave it behind as a child."""
    found = importlib.util.find_spec(package)
    if found is None or not found.origin:
        raise Failed(f"the Python package {package} is not installed")
    path = pathlib.Path(found.origin).parent / name
    if not os.access(path, os.X_OK):
        raise Failed(f"{package} has no executable {name}")
    return str(path)


def on_path(name):
    found = shutil.which(name)
    if not found:
        raise Failed(f"{name} is not installed")
    return found


def listening(room, name, start, ports, seconds=30):
    """Starts a server and waits until it listens. A port that was taken meanwhile gets two more tries."""
    for _ in range(3):
        chosen = [free_port() for _ in range(ports)]
        child = room.start(name, start(*chosen))
        try:
            wait_until(
                f"{name} listens",
                lambda: not child.is_running() or all(accepts(port) for port in chosen), seconds,
            )
        except Failed:
            raise Failed(f"{name} does not listen; its stderr: {child.err()[-1000:]}") from None
        if child.is_running():
            return child, chosen
    raise Failed(f"{name} ends with {child.process.returncode}: {child.err()[-1000:]}")


def real_broker(room, name="broker"):
    """Starts noida-db, of several each with a name of its own; gives its address."""
    binary = packaged_binary("noida_db", "noida-db")
    directory = room.path(name)
    _, ports = listening(
        room, "noida-db",
        lambda port: [binary, "start", "--only", "kafka", "--kafka-port", str(port), "--data-dir", str(directory)], 1,
    )
    return f"127.0.0.1:{ports[0]}"


def embedded_broker(room, partitions=6):
    """Serves librdkafka's mock cluster from a process of its own; gives its address."""
    child = room.triage("embedded-broker", "--partitions", str(partitions))
    return wait_until("the embedded broker tells its address", lambda: child.out().strip() or None, 30)


def real_collector(room):
    """Starts rotel with a sink that prints every field; gives the endpoint and the log's path."""
    binary = packaged_binary("rotel", "rotel-agent")
    log = room.path("rotel.log")

    def command(http, grpc):
        return [
            binary, "start", "--pid-file", str(room.path("rotel.pid")), "--log-file", str(log),
            "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
            "--exporter", "blackhole", "--debug-log", "traces", "--debug-log", "metrics", "--debug-log", "logs", "--debug-log-verbosity", "detailed",
        ]

    child, ports = listening(room, "rotel", command, 2)
    return f"http://127.0.0.1:{ports[0]}", log, child


class Prometheus:
    """A real Prometheus that scrapes one target, and evaluates files of rules, every second."""

    def __init__(self, room, target, rules=()):
        configuration = room.path("prometheus.yml")
        configuration.write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
            f"rule_files: [{', '.join(repr(str(path)) for path in rules)}]\n"
            f"scrape_configs: [{{job_name: triage, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        _, ports = listening(
            room, "prometheus",
            lambda port: [
                on_path("prometheus"), f"--config.file={configuration}", f"--storage.tsdb.path={room.path('prometheus')}",
                f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage",
            ],
            1,
        )
        self.base = f"http://127.0.0.1:{ports[0]}"
        # It listens before it can answer: until its storage is open it says 503.
        wait_until("Prometheus is ready", lambda: fetch(self.base + "/-/ready")[0] == 200)

    def get(self, path):
        status, _, body = fetch(self.base + path)
        if status != 200:
            raise Failed(f"Prometheus answers {path} with {status}: {body[:500]!r}")
        return json.loads(body)["data"]

    def targets(self):
        return self.get("/api/v1/targets?state=active")["activeTargets"]

    def query(self, expression, at=None):
        """Label set to value of an instant vector, now or at a time."""
        arguments = {"query": expression} | ({"time": at} if at else {})
        result = self.get("/api/v1/query?" + urllib.parse.urlencode(arguments))["result"]
        return {tuple(sorted(series["metric"].items())): float(series["value"][1]) for series in result}

    def exemplars(self, selector, begin, end):
        """The exemplars of the series that match, by sample name."""
        query = urllib.parse.urlencode({"query": selector, "start": begin, "end": end})
        found = {}
        for series in self.get("/api/v1/query_exemplars?" + query):
            found.setdefault(series["seriesLabels"]["__name__"], []).extend(series["exemplars"])
        return found

    def range(self, expression, start, end, step=1):
        """Label set to the values of a range, without those that are no number."""
        arguments = {"query": expression, "start": start, "end": end, "step": step}
        result = self.get("/api/v1/query_range?" + urllib.parse.urlencode(arguments))["result"]
        found = {
            tuple(sorted(series["metric"].items())): [float(value) for _, value in series["values"] if value != "NaN"]
            for series in result
        }
        return {labels: values for labels, values in found.items() if values}

    def value(self, expression):
        """The one value of an expression; None if there is none."""
        values = list(self.query(expression).values())
        return values[0] if len(values) == 1 else None


class Message:
    """A record as kcat reads it, byte for byte."""

    def __init__(self, decoded):
        self.topic = decoded["topic"]
        self.partition = decoded["partition"]
        self.offset = decoded["offset"]
        self.timestamp = decoded.get("ts")
        self.key = raw(decoded.get("key"))
        self.value = raw(decoded.get("payload"))
        flat = decoded.get("headers") or []
        self.headers = [(flat[index], raw(flat[index + 1])) for index in range(0, len(flat), 2)]

    @property
    def position(self):
        return f"{self.topic}/{self.partition}/{self.offset}"

    def header(self, name):
        """The last value of a header; None if it is absent or null."""
        return next((value for key, value in reversed(self.headers) if key == name), None)

    def text(self, name):
        value = self.header(name)
        return None if value is None else value.decode("utf-8", "replace")

    def names(self):
        return [name for name, _ in self.headers]


def raw(text):
    return None if text is None else text.encode("utf-8", "surrogateescape")


class Kcat:
    """kcat, an independent client."""

    def __init__(self, brokers):
        self.brokers = brokers
        self.binary = on_path("kcat")

    def call(self, arguments, stdin=None, seconds=60):
        try:
            done = subprocess.run(
                [self.binary, "-b", self.brokers, *arguments], input=stdin if stdin is not None else b"", capture_output=True,
                timeout=seconds, env=clean_environment(), check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"kcat {arguments} takes longer than {seconds} s") from None
        if done.returncode != 0:
            raise Failed(f"kcat {arguments} ends with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")
        return done.stdout

    def read(self, topic):
        """All records of a topic, to the ends of its partitions."""
        output = self.call(
            ["-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J", "-X", "receive.message.max.bytes=100000000"]
        )
        messages = []
        for line in output.split(b"\n"):
            if line:
                messages.append(Message(json.loads(line.decode("utf-8", "surrogateescape"))))
        return messages

    def write(self, topic, value, key=None, partition=None, headers=()):
        """Produces one record; None is null. `headers` are pairs whose value may be None."""
        arguments = ["-P", "-t", topic, "-X", "message.max.bytes=8000000"]
        if partition is not None:
            arguments += ["-p", str(partition)]
        for name, content in headers:
            arguments += ["-H", name.encode() if content is None else name.encode() + b"=" + content]
        if value:
            # A file holds one message; standard input would be cut at each line.
            if key is not None:
                arguments += ["-k", key]
            with tempfile.NamedTemporaryFile() as file:
                file.write(value)
                file.flush()
                self.call([*arguments, file.name])
        else:
            # kcat leaves out empty files and lines: what is empty must follow a delimiter, and -Z makes null of it.
            if value is None:
                arguments += ["-Z"]
            elif key is None:
                raise ValueError("kcat can't send an empty value without a key")
            self.call([*arguments, "-K", "\t"], stdin=(key or b"") + b"\t\n")

    def topics(self):
        """Partition counts by topic, without the broker's own."""
        listing = json.loads(self.call(["-L", "-J"]))
        return {t["topic"]: len(t["partitions"]) for t in listing["topics"] if not t["topic"].startswith("__")}
