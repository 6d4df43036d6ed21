#!/usr/bin/env python3
"""The integration run: the built `triage` against real brokers, collectors, Prometheus and kcat.

    run.py [--only NAME]… [--list]

Needs `.build/debug/triage` (or TRIAGE_BIN), kcat, prometheus and promtool on the path, and the Python packages PyYAML, noida-db,
rotel, opentelemetry-proto and prometheus-client. A part that is missing fails what needs it. Exit 1 if any check failed.
"""

import argparse
import sys
import time

import check_capture
import check_change_data
import check_commands
import check_crash
import check_dashboards
import check_delivery
import check_faults
import check_demo
import check_ingress
import check_input
import check_metrics
import check_logs
import check_parts
import check_privacy
import check_privacy_service
import check_scrape
import check_sampling
import check_status
import check_trouble
import check_truth
from harness import Report

GROUPS = {
    "demo-otlp": check_demo.demo_otlp,
    "demo-serve": check_demo.demo_serve,
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
    "signals": check_commands.signals,
    "privacy": check_privacy.privacy,
    "privacy-service": check_privacy_service.privacy_service,
    "capture": check_capture.capture,
    "capture-shapes": check_capture.shapes,
    "capture-outage": check_capture.outage,
    "delivery": check_delivery.delivery,
    "change-data": check_change_data.change_data,
    "ingress": check_ingress.ingress,
    "ingress-tls": check_ingress.ingress_tls,
}


def main():
    parser = argparse.ArgumentParser(description="Run Triage against real parts.")
    parser.add_argument("--only", action="append", choices=sorted(GROUPS), metavar="NAME", help="this group; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the names of the groups")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(GROUPS))
        return 0
    report = Report()
    begin = time.monotonic()
    for name, body in GROUPS.items():
        if not arguments.only or name in arguments.only:
            report.run(name, body)
    print(f"\n{time.monotonic() - begin:.0f} s")
    for failure in report.failures:
        print(f"failed: {failure}")
    print(f"{report.passed} passed, {len(report.failures)} failed")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
