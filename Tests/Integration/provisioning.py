"""The configurations in `Dashboards/` that nothing here can run: compose files, collector, Grafana's data sources and links."""

import json
import urllib.parse

import yaml

from harness import REPOSITORY

DASHBOARDS = REPOSITORY / "Dashboards"


def configured(report):
    """The files that nothing here can run: they are YAML, and what they refer to is there."""
    files = sorted(p for p in DASHBOARDS.rglob("*") if p.suffix in (".yml", ".yaml"))
    texts = {path.relative_to(DASHBOARDS).as_posix(): yaml.safe_load(path.read_text()) for path in files}
    report.check(f"{len(texts)} files are YAML", all(texts.values()))
    compose = texts["compose/compose.yaml"]["services"]
    report.equal(
        "services of the compose file", sorted(compose),
        ["collector", "grafana", "jaeger", "kafka", "prometheus", "topics", "triage"],
    )
    mounts = [v.split(":")[0] for s in compose.values() for v in s.get("volumes", [])]
    mounts += [v.split(":")[0] for s in texts["compose/tempo.yaml"]["services"].values() for v in s.get("volumes", [])]
    report.none("what is mounted is there", [m for m in mounts if not (DASHBOARDS / "compose" / m).exists()])
    report.none(
        "every port is bound to the loopback",
        [p for s in compose.values() for p in s.get("ports", []) if not p.startswith("127.0.0.1:")],
    )
    report.equal("nothing is counted twice", compose["triage"]["environment"]["OTEL_METRICS_EXPORTER"], "none")
    sampling = texts["collector/collector.yaml"]["processors"]["tail_sampling"]
    policy = next(p for p in sampling["policies"] if p["name"] == "failed-events")
    report.equal(
        "tail sampling keeps", policy["string_attribute"],
        {"key": "triage.outcome", "values": ["retry_scheduled", "dead_lettered"]},
    )
    report.check("its decisions are cached", sampling["decision_cache"]["sampled_cache_size"] >= 10 * sampling["num_traces"])
    plain, tempo = (texts[f"{folder}/datasources/triage.yaml"]["datasources"] for folder in ("grafana/provisioning", "tempo"))
    overlay = texts["compose/tempo.yaml"]["services"]
    both = compose.keys() | overlay.keys()
    for name, sources, running in (("compose.yaml", plain, compose.keys()), ("tempo.yaml", tempo, both)):
        tracing = [s["uid"] for s in sources if s["type"] in ("jaeger", "tempo")]
        hosts = {s["uid"]: urllib.parse.urlsplit(s["url"]).hostname for s in sources}
        report.none(f"{name}: every data source runs", [uid for uid, host in hosts.items() if host not in running])
        report.equal(f"{name}: exemplars lead to", exemplar_links(sources), [("trace_id", uid) for uid in tracing])
    report.equal("data sources without Tempo", [s["uid"] for s in plain], ["prometheus", "jaeger"])
    report.equal("data sources with Tempo", [s["uid"] for s in tempo], ["prometheus", "jaeger", "tempo"])
    links = prometheus_of(tempo)["jsonData"]["exemplarTraceIdDestinations"]
    links[:] = [link for link in links if link["datasourceUid"] != "tempo"]
    report.check("… which are the same otherwise", tempo[:2] == plain, (tempo[:2], plain))
    report.equal(
        "with Tempo they are mounted in place of the others",
        [v for v in compose["grafana"]["volumes"] if "datasources" in v]
        + [v.replace("../tempo/", "../grafana/provisioning/") for v in overlay["grafana"]["volumes"]],
        ["../grafana/provisioning/datasources:/etc/grafana/provisioning/datasources:ro"] * 2,
    )
    fingerprints(report, plain, tempo)


def prometheus_of(sources):
    return next(source for source in sources if source["type"] == "prometheus")


def exemplar_links(sources):
    return [(link["name"], link["datasourceUid"]) for link in prometheus_of(sources)["jsonData"]["exemplarTraceIdDestinations"]]


def fingerprints(report, plain, tempo):
    """Where links from fingerprints lead: to the data source that a variable names, which is there by default."""
    board = json.loads((DASHBOARDS / "grafana" / "dashboards" / "failures.json").read_text())
    variable = next(v for v in board["templating"]["list"] if v["name"] == "traces")
    names = {source["name"] for source in tempo}
    report.none("fingerprints lead to data sources", [o["text"] for o in variable["options"] if o["text"] not in names])
    report.check("… by default to one that always runs", variable["current"]["text"] in {source["name"] for source in plain})
    urls = [link["url"] for p in board["panels"] for link in p.get("fieldConfig", {}).get("defaults", {}).get("links", [])]
    report.equal("panels whose fingerprints lead to traces", len(urls), 2)
    for url in urls:
        parts = urllib.parse.urlsplit(url.replace("${traces:text}", "Jaeger").replace("${traces}", "search"))
        pane = json.loads(dict(urllib.parse.parse_qsl(parts.query))["panes"])["traces"]
        query = pane["queries"][0]
        found = (parts.path, pane["datasource"], query["queryType"])
        report.equal("a link is one of Explore to", found, ("/explore", "Jaeger", "search"))
        label = "${__field.labels.triage_error_fingerprint}"
        report.equal(
            "… with the fingerprint for Jaeger and for Tempo", (query["tags"], query["query"]),
            (f"triage.error.fingerprint={label}", f'{{ span.triage.error.fingerprint = "{label}" }}'),
        )
