"""`Dashboards/`: each query, rule and annotation, run against a real Prometheus that scraped a live `triage demo --serve`."""

import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import yaml

from check_demo import after_failure
from collector import Collector
from harness import REPOSITORY, Failed, clean_environment, free_port, parsed, triage_path, wait_until
from parts import Kcat, Prometheus, on_path
from provisioning import DASHBOARDS, configured
from spans import spans_of

RULES = [DASHBOARDS / "prometheus" / "recording.yml", DASHBOARDS / "prometheus" / "alerts.yml"]
CATALOGUE = REPOSITORY / "Sources" / "Triage" / "Triage.docc" / "Metrics.md"
TOPICS = ["fhir.Patient.created", "fhir.Patient.updated", "fhir.Patient.deleted"]
#: What Prometheus itself records of a target, and the metric that carries the resource.
OF_PROMETHEUS = {"up", "scrape_duration_seconds", "scrape_samples_scraped", "target_info"}
EVENTS, RATE = 2400, 60
#: What the tests of the alerts ask Prometheus.
ALL_FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'
COMPARISON = re.compile(r"\s*(?:==|!=|>=|<=|>|<)\s*[0-9.]+")


def dashboards(report, room):
    boards = {path.stem: json.loads(path.read_text()) for path in sorted((DASHBOARDS / "grafana" / "dashboards").glob("*.json"))}
    rules = [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    written(report, boards, rules)
    configured(report)
    named(report, boards, rules)
    Live(report, room, boards, rules).run()


def targets(boards):
    """Every query of every panel: the dashboard, the panel and the target."""
    for name, board in boards.items():
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield name, panel, target


def run_tool(report, name, *arguments):
    done = subprocess.run(arguments, capture_output=True, timeout=300, check=False)
    report.check(name, done.returncode == 0, (done.stdout + done.stderr).decode())


def written(report, boards, rules):
    """What needs no running system."""
    generate = DASHBOARDS / "grafana" / "generate.py"
    run_tool(report, "the dashboards are what generate.py writes", sys.executable, generate, "--check")
    configuration = DASHBOARDS / "prometheus" / "prometheus.yml"
    run_tool(report, "promtool check config", on_path("promtool"), "check", "config", configuration)
    tests = DASHBOARDS / "prometheus" / "tests" / "alerts.yml"
    run_tool(report, "promtool test rules", on_path("promtool"), "test", "rules", tests)
    alerts = [rule for rule in rules if "alert" in rule]
    firing, silent = promised(yaml.safe_load(tests.read_text()))
    report.none("each alert is seen firing by a test", [r["alert"] for r in alerts if r["alert"] not in firing])
    report.none(
        "each alert is expected to be silent by a test named after it", [r["alert"] for r in alerts if r["alert"] not in silent]
    )
    report.none(
        "each alert has a severity, a summary, a description and a runbook link that leads to a heading of its name",
        [
            rule["alert"] for rule in alerts
            if rule["labels"].get("severity") not in ("page", "ticket")
            or not {"summary", "description", "runbook_url", "dashboard"} <= rule["annotations"].keys()
            or rule["annotations"]["runbook_url"] != f"Dashboards/RUNBOOK.md#{rule['alert'].lower()}"
            or f"\n## {rule['alert']}\n" not in (DASHBOARDS / "RUNBOOK.md").read_text()
        ],
    )
    runbook = (DASHBOARDS / "RUNBOOK.md").read_text() + (DASHBOARDS / "README.md").read_text()
    commands = {match for match in re.findall(r"(?:^|`)triage ([a-z-]+(?: (?:create|check)\b)?)", runbook, re.MULTILINE)}
    unknown = [
        c for c in commands
        if subprocess.run([triage_path(), *c.split(), "--help"], capture_output=True, timeout=30, check=False).returncode
    ]
    report.check(f"the documents' commands are there: {sorted(commands)}", commands and not unknown, unknown)
    uids = {board["uid"] for board in boards.values()}
    report.equal("dashboards", sorted(uids), ["triage-failures", "triage-overview", "triage-pipeline", "triage-telemetry"])
    report.none(
        "each alert names a dashboard that there is",
        [rule["alert"] for rule in alerts if rule["annotations"]["dashboard"].removeprefix("/d/") not in uids],
    )
    report.none(
        "each panel has a title, a description, a unit and a query; titles and ids occur once in a dashboard",
        [
            (name, panel["title"]) for name, board in boards.items() for panel in board["panels"]
            if [p["title"] for p in board["panels"]].count(panel["title"]) > 1
            or [p["id"] for p in board["panels"]].count(panel["id"]) > 1
            or panel["type"] != "row"
            and not (panel["description"] and panel["fieldConfig"]["defaults"]["unit"] and panel["targets"])
        ],
    )
    report.none(
        "each dashboard has the variables and annotations",
        [
            name for name, board in boards.items()
            if not {"ds", "group", "topic", "instance", "traces"} <= {v["name"] for v in board["templating"]["list"]}
            or {a["name"] for a in board["annotations"]["list"]} != {"Gate change", "Rebalance"}
        ],
    )
    report.none(
        "what says that a point leads to a trace has exemplars, and the other way round",
        [
            (name, panel["title"]) for name, board in boards.items() for panel in board["panels"]
            if ("A point leads" in panel.get("description", "")) != any(t["exemplar"] for t in panel.get("targets", []))
        ],
    )
    text = "".join(path.read_text() for path in DASHBOARDS.rglob("*") if path.suffix in (".json", ".yml", ".py"))
    report.none("nothing is padded", re.findall(r"\bvector\(|\babsent\w*\(|\bor on\b", text))


def promised(tests):
    """The alerts that promtool's test file expects to fire, and those that it expects to be silent in a test named after them.

    A test either asks for one alert, or counts all that fire: one that isn't among the samples is then expected to be silent.
    """
    firing, silent = set(), set()
    for test in tests["tests"]:
        about = test["name"].split(":")[0]
        for asked in test.get("alert_rule_test", []):
            (firing if asked.get("exp_alerts") else silent).add(asked["alertname"])
        for asked in test.get("promql_expr_test", []):
            if asked["expr"] == ALL_FIRING:
                seen = {re.search(r'alertname="(\w+)"', sample["labels"]).group(1) for sample in asked.get("exp_samples", [])}
                firing |= seen
                silent |= {about} - seen
    return firing, silent


def prometheus_names():
    """The series of each metric of the catalogue's table, by the mapping rules."""
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| `([^`]+)` \|", CATALOGUE.read_text(), re.MULTILINE)
    names = set()
    for name, instrument, unit in rows:
        base = name.replace(".", "_")
        word = {"s": "seconds", "By": "bytes"}.get(unit, "")
        if word and not base.endswith(word):
            base += "_" + word
        if instrument == "counter":
            names.add(base + "_total")
        elif instrument == "histogram":
            names |= {base + suffix for suffix in ("_bucket", "_sum", "_count")}
        else:
            names.add(base)
    return names


def runbook_queries():
    """The expressions that the runbook has people ask Prometheus."""
    return re.findall(r"^promtool query \w+ .*'([^']+)'$", (DASHBOARDS / "RUNBOOK.md").read_text(), re.MULTILINE)


def metrics_of(expression):
    """The metric names in an expression: what is left without strings, selectors, windows, groupings and functions."""
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset\s+\S+", " ", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    text = re.sub(r"\b(and|or|unless|bool)\b", " ", text)
    return {word for word in re.findall(r"[A-Za-z_:][A-Za-z0-9_:]*(?![A-Za-z0-9_:]*\s*\()", text)}


def named(report, boards, rules):
    known = prometheus_names() | OF_PROMETHEUS | {rule["record"] for rule in rules if "record" in rule}
    expressions = [(f"{name}: {panel['title']}", target["expr"]) for name, panel, target in targets(boards)]
    expressions += [(a["name"], a["expr"]) for board in boards.values() for a in board["annotations"]["list"]]
    expressions += [(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules]
    expressions += [("RUNBOOK.md", expression) for expression in runbook_queries()]
    used = {metric for _, expression in expressions for metric in metrics_of(expression)}
    report.check(f"{len(expressions)} expressions use {len(used)} metrics", len(used) > 30, used)
    report.none(
        "every metric used is in the catalogue, recorded by a rule or Prometheus' own",
        [(where, unknown) for where, expression in expressions if (unknown := metrics_of(expression) - known)],
    )


class Live:
    """A demonstration of 40 s, scraped each second, with a collector that has trouble at first."""

    def __init__(self, report, room, boards, rules):
        self.report = report
        self.room = room
        self.boards = boards
        self.rules = rules

    def run(self):
        self.begin()
        self.queries()
        self.counts()
        self.exemplars()
        self.once_more()
        self.demo.signal(2)
        self.report.equal("exit status after SIGINT", self.demo.wait(40), 0)

    def begin(self):
        """From before the first event to some scrapes after the last."""
        self.collector = Collector(mode="slow", delay=4.0)
        self.room.closers.append(self.collector.close)
        port = free_port()
        self.prometheus = Prometheus(self.room, f"127.0.0.1:{port}", RULES)
        self.start = time.time()
        self.demo = self.room.triage(
            "demo", "--serve", "--http", f"127.0.0.1:{port}", "-o", "json", "--events", str(EVENTS), "--rate", str(RATE),
            "--transient", "0.08", "--persistent", "0.03",
            environment=self.collector.environment(
                OTEL_METRIC_EXPORT_INTERVAL="1000", OTEL_BSP_SCHEDULE_DELAY="500", OTEL_BSP_MAX_QUEUE_SIZE="600",
                OTEL_BSP_MAX_EXPORT_BATCH_SIZE="200",
                OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0.5",
            ),
        )
        # A queue of 600 spans behind an answer that takes 4 s overflows; then the collector refuses; then all is well.
        wait_until("the collector is asked", lambda: self.collector.request_count() > 0, 60)
        time.sleep(6)
        self.collector.mode = "500"
        seen = self.collector.request_count()
        wait_until("the collector refuses", lambda: self.collector.request_count() > seen + 2, 30)
        self.collector.mode = "ok"
        self.well = time.time() + 2
        wait_until("the summary is printed", lambda: not self.demo.is_running() or self.demo.out().endswith("}\n"), 180)
        if not self.demo.is_running():
            raise Failed(f"the demo ended: {self.demo.err()[-500:]}")
        self.summary = parsed(self.demo)
        self.report.note(f"summary: {self.summary}")
        done = time.time()
        wait_until("it was scraped after the end", lambda: (self.prometheus.value("min(timestamp(up))") or 0) > done + 2, 30)
        self.end = time.time()
        self.brokers = re.search(r"^Broker:\s+(\S+)", self.demo.err(), re.MULTILINE).group(1)

    def substituted(self, expression):
        """As Grafana would with All in each variable, at a scrape interval of one second."""
        values = {
            "group": self.values("messaging_consumer_group_name"), "topic": self.values("messaging_destination_name"),
            "instance": self.values("instance"),
        }
        for name, found in values.items():
            expression = expression.replace(f"${name}", "(" + "|".join(re.escape(v).replace("\\", "\\\\") for v in found) + ")")
        seconds = {"__rate_interval": "4s", "__interval": "1s", "__range": f"{int(self.end - self.start)}s"}
        for name, value in seconds.items():
            expression = expression.replace(f"${name}", value)
        if "$" in expression:
            raise Failed(f"a variable is left in {expression}")
        return expression

    def values(self, label):
        path = f"/api/v1/label/{label}/values?match[]=triage_events_processed_total"
        return self.prometheus.get(path)

    def has_data(self, expression, instant=False):
        if instant:
            return any(value == value for value in self.prometheus.query(expression, self.end).values())
        return bool(self.prometheus.range(expression, self.start, self.end))

    def queries(self):
        report = self.report
        definitions = {v["definition"] for b in self.boards.values() for v in b["templating"]["list"] if v["type"] == "query"}
        parts = [re.fullmatch(r"label_values\((.*), (\w+)\)", self.substituted(d)).groups() for d in definitions]
        report.none(
            "every variable has values",
            [d for d in parts if not any(dict(labels).get(d[1]) for labels in self.prometheus.query(d[0], self.end))],
        )
        queries = list(targets(self.boards))
        report.check(f"{len(queries)} queries of panels", len(queries) > 70)
        empty = [
            f"{name}: {panel['title']} {target['refId']}" for name, panel, target in queries
            if not self.has_data(self.substituted(target["expr"]), target["instant"])
        ]
        report.check("every query of every panel returns data", not empty, "; ".join(empty))
        alerts = [rule for rule in self.rules if "alert" in rule]
        report.none(
            f"{len(alerts)} alerts' expressions without their comparisons return data",
            [rule["alert"] for rule in alerts if not self.has_data(COMPARISON.sub("", rule["expr"]))],
        )
        report.none(
            "every recorded series has data",
            [rule["record"] for rule in self.rules if "record" in rule and not self.has_data(rule["record"])],
        )
        report.none(
            "every annotation without its comparison returns data",
            [
                a["name"] for a in self.boards["overview"]["annotations"]["list"]
                if not self.has_data(COMPARISON.sub("", self.substituted(a["expr"])))
            ],
        )
        # What is asked about trouble need not be there now, but must be understood.
        asked = [self.prometheus.query(expression, self.end) for expression in runbook_queries()]
        report.check(f"{len(asked)} queries of the runbook are understood", len(asked) > 15)
        rebalance = next(a for a in self.boards["overview"]["annotations"]["list"] if a["name"] == "Rebalance")
        report.check("the rebalances of the run are marked", self.has_data(self.substituted(rebalance["expr"])))
        live = [rule for group in self.prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
        report.none("no rule fails", [(rule["name"], rule["lastError"]) for rule in live if rule["health"] != "ok"])
        firing = [alert for rule in live for alert in rule.get("alerts", []) if alert["state"] == "firing"]
        names = {alert["labels"]["alertname"] for alert in firing}
        wanted = {"TriageDeadLetters", "TriageNewFailure", "TriageSpansDropped"}
        report.check("dead letters, new failures and dropped spans fire", wanted <= names, names)
        report.none(
            "texts of the firing alerts are whole",
            [a for a in firing if re.search("error (expanding|evaluating)|<no value>", json.dumps(a["annotations"]))],
        )

    def shown(self, board, title):
        """What a panel shows at the end: by legend if its query has one, else the one number."""
        panel = next((p for p in self.boards[board]["panels"] if p["title"] == title), None)
        if panel is None:
            raise Failed(f"{board} has no panel {title}")
        target = panel["targets"][0]
        result = self.prometheus.query(self.substituted(target["expr"]), self.end)
        legend = re.fullmatch(r"\{\{(\w+)\}\}", target["legendFormat"])
        if legend:
            return {dict(labels).get(legend.group(1), ""): value for labels, value in result.items() if value}
        return list(result.values())[0] if len(result) == 1 else result

    def counts(self):
        """Named panels against what kcat reads from the topics, what the collector received and what the demo says."""
        kcat = Kcat(self.brokers)
        main = [message for topic in TOPICS for message in kcat.read(topic)]
        retry_records = [message for topic in TOPICS for message in kcat.read(topic + ".retry")]
        retries = [message for message in retry_records if after_failure(message)]
        parked = [message for message in retry_records if not after_failure(message)]
        dead = [message for topic in TOPICS for message in kcat.read(topic + ".dlq")]
        completed = len(main) - len(dead)

        def by(messages, key):
            return {name: float(count) for name, count in collections.Counter(map(key, messages)).items()}

        def topic(message):
            return message.text("triage-origin").split("/")[0]

        spans = spans_of(self.collector.traces())
        expected = {
            ("overview", "Events since start"): float(len(main)),
            ("overview", "Finished since start"): {"completed": float(completed), "dead_lettered": float(len(dead))},
            ("overview", "Retries"): float(len(retries)),
            ("overview", "Deliveries per event"): (len(main) + len(retry_records)) / len(main),
            ("overview", "Open dead letters"): float(len(dead)),
            ("failures", "Dead letters by class"): by(dead, lambda m: m.text("triage-error-class")),
            ("failures", "Dead letters by fingerprint"): by(dead, lambda m: m.text("triage-error-fingerprint")),
            ("failures", "Dead letters by topic"): by(dead, topic),
            ("failures", "Fingerprints"): float(len({m.text("triage-error-fingerprint") for m in dead})),
            ("failures", "Retries by topic"): by(retries, topic),
            ("pipeline", "Deliveries since start"): {
                "completed": float(completed), "dead_lettered": float(len(dead)), "retry_scheduled": float(len(retries)),
                "parked": float(len(parked)),
            },
            ("pipeline", "Parked since start"): by(parked, topic),
            ("pipeline", "Keys blocked"): 0.0,
            ("pipeline", "Records in flight"): 0.0,
            ("pipeline", "Lanes"): 0.0,
            ("pipeline", "Consumer lag"): 0.0,
            ("telemetry", "Exported since start"): float(len(spans)),
        }
        said = (self.summary["completed"], self.summary["dead_lettered"], self.summary["retries"])
        self.report.equal("the demo says the same", said, (completed, len(dead), len(retries)))
        for (board, title), value in expected.items():
            self.report.equal(f"{board}: {title}", self.shown(board, title), value)

    def exemplars(self):
        """What a click on a point leads to."""
        received = {span["traceId"] for span in spans_of(self.collector.traces())}
        wanted, without, unknown, read = set(), [], [], 0
        for name, panel, target in targets(self.boards):
            if target["exemplar"]:
                wanted.add((f"{name}: {panel['title']}", self.substituted(target["expr"])))
        for where, expression in sorted(wanted):
            found = self.prometheus.exemplars(expression, self.start, self.end)
            late = [e["labels"] for exemplars in found.values() for e in exemplars if e["timestamp"] > self.well]
            read += len(late)
            if not late:
                without.append(where)
            unknown += [(where, labels) for labels in late if labels.get("trace_id") not in received]
        self.report.check("every query with exemplars has some", not without, "; ".join(without))
        self.report.check(f"{read} exemplars were read back", read > 0)
        self.report.none("each names a trace that the collector received", unknown)

    def once_more(self):
        """The runbook's recipes, as they stand there, on dead letters of this demonstration."""
        self.topic = next(topic for topic in TOPICS if self.open_groups(topic))
        groups = sorted(self.open_groups(self.topic), key=lambda group: -group["count"])
        refused = next(group for group in groups if "decod" not in (group["error"] or "").lower())
        output = self.recipe("groups", refused) + self.recipe("list", refused)
        self.report.check("groups and list name the bug and the dead letter", output.count(refused["fingerprint"]) >= 2, output)
        output = self.recipe("show", refused)
        self.report.check("show and explain tell of it", "ATTEMPT" in output and "WHAT HAPPENED" in output, output)
        output = self.recipe("replay", refused)
        left = [group["fingerprint"] for group in self.open_groups(self.topic)]
        self.report.check("what was replayed is open no longer", refused["fingerprint"] not in left, (left, output))
        other = next(group for group in groups if group["fingerprint"] in left)
        output = self.recipe("discard", other)
        left = [group["fingerprint"] for group in self.open_groups(self.topic)]
        self.report.check("what was discarded is open no longer", other["fingerprint"] not in left, (left, output))

    def open_groups(self, topic):
        command = [triage_path(), "dead-letters", "groups", "-b", self.brokers, "-t", topic, "-o", "json"]
        answer = subprocess.run(command, capture_output=True, timeout=60, check=True, env=clean_environment())
        return json.loads(answer.stdout)

    def recipe(self, verb, group):
        """Runs the runbook's first block with this command; what it says."""
        blocks = re.findall(r"```sh\n(.*?)```", (DASHBOARDS / "RUNBOOK.md").read_text(), re.DOTALL)
        script = next(block for block in blocks if f"triage dead-letters {verb} " in block)
        for word, value in (("FINGERPRINT", group["fingerprint"]), ("WHY", "'mended in 1.2'"), (" ID", f" {group['example']}")):
            script = script.replace(word, value)
        path = f"{pathlib.Path(triage_path()).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-eu", "-c", script], capture_output=True, timeout=120, check=False, cwd=self.room.directory,
            env=clean_environment({"PATH": path, "BROKERS": self.brokers, "TOPIC": self.topic}),
        )
        self.report.equal(f"the runbook's {verb}: exit status", (done.returncode, done.stderr[-500:] if done.returncode else b""), (0, b""))
        return done.stdout.decode()