#!/usr/bin/env python3
"""The integration run: the built `triage` against real brokers, collectors, Prometheus and kcat.

    run.py [--only NAME]… [--list]

The groups of `BESIDE` mostly wait: for outages to pass, intervals to end. All together they run in a second process beside the
others, which tells what it found when it has ended.

Needs `.build/debug/triage` (or TRIAGE_BIN), kcat, prometheus and promtool on the path, and the Python packages PyYAML, noida-db,
rotel, opentelemetry-proto, prometheus-client, cryptography and playwright (with chromium). A part that is missing fails what needs it. Exit 1 if any check failed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time

import check_backlog
import check_capture
import check_change_data
import check_commands
import check_console
import check_console_run
import check_crash
import check_dashboards
import check_dead_letter_order
import check_dead_letters
import check_delivery
import check_explain
import check_faults
import check_demo
import check_guides
import check_ingress
import check_input
import check_letters_said
import check_metrics
import check_night
import check_logs
import check_parts
import check_patient_stops
import check_privacy
import check_privacy_service
import check_scrape
import check_sampling
import check_sealed
import check_sealed_tools
import check_status
import check_trouble
import check_truth
from harness import Report

GROUPS = {
    "demo-otlp": check_demo.demo_otlp,
    "demo-serve": check_demo.demo_serve,
    "console": check_console.console,
    "console-run": check_console_run.console_run,
    "otlp-metrics": check_metrics.otlp_metrics,
    "scrape-text": check_scrape.golden,
    "scrape": check_scrape.scrape,
    "sampling": check_sampling.sampling,
    "real-broker": check_parts.broker,
    "dashboards": check_dashboards.dashboards,
    "real-collector": check_parts.collector,
    "collector-trouble": check_trouble.trouble,
    "collector-tls": check_trouble.tls,
    "flush": check_trouble.flush,
    "truth": check_truth.truth,
    "kill9": check_crash.kill9,
    "verdict": check_faults.verdict,
    "faults": check_faults.faults,
    "rebalance": check_faults.rebalance,
    "bad-input": check_input.bad_input,
    "logs": check_logs.logs,
    "status": check_status.status,
    "guides": check_guides.guides,
    "backlog": check_backlog.backlog,
    "explain": check_explain.explain,
    "night": check_night.night,
    "patient-stops": check_patient_stops.patient_stops,
    "signals": check_commands.signals,
    "privacy": check_privacy.privacy,
    "privacy-service": check_privacy_service.privacy_service,
    "sealed": check_sealed.sealed,
    "sealed-tools": check_sealed_tools.sealed_tools,
    "letters-said": check_letters_said.letters_said,
    "many-letters": check_letters_said.many_letters,
    "capture": check_capture.capture,
    "capture-shapes": check_capture.shapes,
    "capture-outage": check_capture.outage,
    "delivery": check_delivery.delivery,
    "dead-letters": check_dead_letters.dead_letters,
    "dead-letters-sequence": check_dead_letter_order.sequence,
    "change-data": check_change_data.change_data,
    "ingress": check_ingress.ingress,
    "ingress-tls": check_ingress.ingress_tls,
}
# Groups that take their time and hardly any of the processor's.
BESIDE = [
    "collector-trouble", "collector-tls", "capture-outage", "otlp-metrics", "sampling", "signals", "status", "delivery",
    "patient-stops", "console-run", "guides", "capture-shapes", "dashboards",
]


class Beside:
    """A second process of this program with some of the groups; its output comes when it is through."""

    def __init__(self, groups):
        self.output = tempfile.TemporaryFile("w+")
        self.verdict = tempfile.NamedTemporaryFile("r", suffix=".json")
        only = [part for group in groups for part in ("--only", group)]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *only, "--verdict", self.verdict.name], stdin=subprocess.DEVNULL, stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def join(self, report):
        self.process.wait()
        self.output.seek(0)
        print("\nbeside these:", flush=True)
        for line in self.output:
            print(line, end="", flush=True)
        text = self.verdict.read()
        if not text:
            report.failures.append(f"the groups beside these ended with {self.process.returncode} and no verdict")
            return
        verdict = json.loads(text)
        report.passed += verdict["passed"]
        report.failures += verdict["failures"]


def main():
    parser = argparse.ArgumentParser(description="Run Triage against real parts.")
    parser.add_argument("--only", action="append", choices=sorted(GROUPS), metavar="NAME", help="this group; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the names of the groups")
    parser.add_argument("--verdict", metavar="FILE", help="write what came of it there as JSON")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(GROUPS))
        return 0
    report = Report()
    begin = time.monotonic()
    beside = None if arguments.only else Beside(BESIDE)
    try:
        for name, body in GROUPS.items():
            if name in arguments.only if arguments.only else name not in BESIDE:
                report.run(name, body)
        if beside:
            beside.join(report)
    finally:
        # Ctrl-C reaches it too; anything else that ends this must not leave it running.
        if beside and beside.process.poll() is None:
            beside.process.terminate()
            beside.process.wait()
    if arguments.verdict:
        with open(arguments.verdict, "w") as file:
            json.dump({"passed": report.passed, "failures": report.failures}, file)
    print(f"\n{time.monotonic() - begin:.0f} s")
    for failure in report.failures:
        print(f"failed: {failure}")
    print(f"{report.passed} passed, {len(report.failures)} failed")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
