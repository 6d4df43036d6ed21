#!/usr/bin/env python3
"""Writes Triage's Grafana dashboards, so that all four share variables, annotations, links and habits.

    generate.py           write dashboards/*.json beside this file
    generate.py --check   exit 1 if a file there isn't what would be written

Needs nothing but Python. Edit the panels in panels.py, not the JSON. The model is Grafana's v1 (schemaVersion 41).
"""

import argparse
import json
import pathlib
import re
import sys
import urllib.parse

sys.dont_write_bytecode = True
import panels

DIRECTORY = pathlib.Path(__file__).resolve().parent / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "${ds}"}
OTHERS = [("triage-overview", "Overview"), ("triage-failures", "Failures"), ("triage-pipeline", "Pipeline"),
          ("triage-telemetry", "Telemetry")]


def variable(name, label, query, description):
    """A query variable. It has no allValue: All becomes the list of values, so that other programs' series stay out."""
    return {
        "type": "query", "name": name, "label": label, "description": description, "datasource": DATASOURCE, "definition": query,
        "query": {"query": query, "refId": name, "qryType": 1}, "refresh": 2, "includeAll": True, "multi": True, "sort": 1,
        "current": {"text": ["All"], "value": ["$__all"]}, "hide": 0, "options": [],
    }


def choices():
    return [
        {"text": name, "value": search, "selected": number == 0} for number, (name, search) in enumerate(panels.TRACES.items())
    ]


def variables():
    return [
        {
            "type": "datasource", "name": "ds", "label": "Prometheus", "query": "prometheus", "current": {}, "hide": 0,
            "refresh": 1, "regex": "", "options": [], "description": "The Prometheus that scrapes Triage.",
        },
        variable(
            "group", "Group", "label_values(triage_events_processed_total, messaging_consumer_group_name)", "Consumer group.",
        ),
        variable(
            "topic", "Topic",
            'label_values(triage_events_processed_total{messaging_consumer_group_name=~"$group"}, messaging_destination_name)',
            "Topic that an event first came from, also of its retries and dead letter.",
        ),
        variable(
            "instance", "Instance",
            'label_values(triage_events_processed_total{messaging_consumer_group_name=~"$group"}, instance)',
            "Process, as Prometheus knows it.",
        ),
        {
            "type": "custom", "name": "traces", "label": "Traces", "multi": False, "includeAll": False, "hide": 0,
            "query": ", ".join(f"{name} : {search}" for name, search in panels.TRACES.items()),
            "current": choices()[0], "options": choices(),
            "description": "The data source, by its name, in which links from fingerprints look for traces.",
        },
    ]


def annotations():
    """Gate changes and rebalances, on every dashboard."""
    return {"list": [
        {
            "name": title, "datasource": DATASOURCE, "enable": True, "hide": False, "iconColor": color, "expr": expression,
            "target": {"refId": title, "expr": expression, "range": True, "legendFormat": text},
            "step": "", "titleFormat": title, "textFormat": text, "tagKeys": "instance",
        }
        for title, color, expression, text in panels.ANNOTATIONS
    ]}


def target(number, query):
    return {
        "refId": chr(ord("A") + number), "datasource": DATASOURCE, "editorMode": "code", "expr": query.expression,
        "legendFormat": query.legend, "range": not query.instant, "instant": query.instant, "exemplar": query.exemplar,
        "format": query.format, "intervalFactor": 1,
    }


def links(names):
    """A data link from a series or a cell that carries a fingerprint to the traces with it, in the data source that was chosen.

    One query serves both: Jaeger reads the service and the tags of it, Tempo the TraceQL.
    """
    if not names:
        return []
    fingerprint = "${__field.labels.triage_error_fingerprint}"
    query = {
        "refId": "A", "queryType": "${traces}", "limit": 20, "tableType": "traces",
        "service": "triage", "tags": f"triage.error.fingerprint={fingerprint}",
        "query": f'{{ span.triage.error.fingerprint = "{fingerprint}" }}',
    }
    pane = {"datasource": "${traces:text}", "queries": [query], "range": {"from": "now-24h", "to": "now"}}
    # Grafana puts the variables in before anything is decoded, so they alone stay as they are.
    parts = re.split(r"(\$\{[^}]*\})", json.dumps({"traces": pane}, separators=(",", ":")))
    panes = "".join(part if part.startswith("${") else urllib.parse.quote(part, safe="") for part in parts)
    return [
        {
            "title": "Traces in ${traces:text}", "targetBlank": True, "url": f"/explore?schemaVersion=1&orgId=1&panes={panes}",
        },
    ]


def options(panel):
    """What Grafana needs to know of each type of panel."""
    if panel.type == "stat":
        reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": reduced, "colorMode": "value", "graphMode": "area", "textMode": "auto", "orientation": "auto"}
    if panel.type == "bargauge":
        reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": reduced, "displayMode": "basic", "orientation": "horizontal", "showUnfilled": True}
    if panel.type == "heatmap":
        return {
            "calculate": False, "yAxis": {"unit": panel.unit}, "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64}, "cellGap": 1,
            "tooltip": {"mode": "single", "yHistogram": True},
        }
    return {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"}}


def defaults(panel):
    steps = [{"color": panel.base if panel.thresholds else "blue", "value": None}]
    steps += [{"color": color, "value": value} for value, color in panel.thresholds]
    result = {"unit": panel.unit, "links": links(panel.fingerprints), "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.minimum is not None:
        result["min"] = panel.minimum
    if panel.maximum is not None:
        result["max"] = panel.maximum
    if panel.type == "stat":
        result["color"] = {"mode": "thresholds"}
    if panel.type == "timeseries":
        result["custom"] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "auto", "spanNulls": False}
        if panel.stacked:
            result["custom"]["stacking"] = {"mode": "normal", "group": "A"}
    return result


def dashboard(uid, title, description, rows):
    drawn, number, y = [], 0, 0
    for row, members in rows:
        number += 1
        drawn.append({"id": number, "type": "row", "title": row, "collapsed": False, "panels": [],
                      "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
        x, y, height = 0, y + 1, 0
        for panel in members:
            if x + panel.width > 24:
                x, y, height = 0, y + height, 0
            number += 1
            drawn.append({
                "id": number, "type": panel.type, "title": panel.title, "description": panel.description,
                "datasource": DATASOURCE, "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
                "targets": [target(index, query) for index, query in enumerate(panel.queries)],
                "fieldConfig": {"defaults": defaults(panel), "overrides": []}, "options": options(panel),
            })
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return {
        "id": None, "uid": uid, "title": title, "description": description, "tags": ["triage"], "schemaVersion": 41, "version": 1,
        "editable": True, "graphTooltip": 1, "time": {"from": "now-1h", "to": "now"}, "refresh": "30s", "timezone": "browser",
        "annotations": annotations(), "templating": {"list": variables()}, "panels": drawn,
        "links": [
            {"type": "link", "title": name, "url": f"/d/{other}", "keepTime": True, "includeVars": True, "icon": "dashboard"}
            for other, name in OTHERS if other != uid
        ],
    }


def main():
    parser = argparse.ArgumentParser(description="Write Triage's Grafana dashboards.")
    parser.add_argument("--check", action="store_true", help="only tell whether the files are up to date")
    arguments = parser.parse_args()
    status = 0
    for uid, title, description, rows in panels.DASHBOARDS:
        path = DIRECTORY / f"{uid.removeprefix('triage-')}.json"
        text = json.dumps(dashboard(uid, title, description, rows), indent=2, ensure_ascii=False) + "\n"
        if not arguments.check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path.name} is not up to date: run Dashboards/grafana/generate.py", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
