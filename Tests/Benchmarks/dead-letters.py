#!/usr/bin/env python3
"""`triage dead-letters` over many dead letters of a real broker: time and peak memory of each look.

    swift build -c release && dead-letters.py [COUNT]

Needs noida-db. Prints a line for each command; --keep shows the command's own output as well.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Integration"))
from harness import REPOSITORY, Room, clean_environment  # noqa: E402
from parts import real_broker  # noqa: E402


def measured(name, arguments, environment, keep):
    """Runs a command; its time, and its peak memory as the system counts it (wait4(2))."""
    begin = time.monotonic()
    process = subprocess.Popen(arguments, env=environment, stdout=None if keep else subprocess.DEVNULL, stderr=None if keep else subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    print(
        f"{name}: {time.monotonic() - begin:.1f} s, {usage.ru_utime + usage.ru_stime:.1f} s CPU, "
        f"{usage.ru_maxrss / 1024:.0f} MiB at most, status {os.waitstatus_to_exitcode(status)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--bin", default=str(REPOSITORY / ".build" / "release"))
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    with Room() as room:
        brokers = real_broker(room)
        environment = clean_environment({"TRIAGE_BROKERS": brokers, "OTEL_SDK_DISABLED": "true"})
        triage = f"{options.bin}/triage"
        subprocess.run([triage, "topics", "create", "--partitions", "6"], env=environment, check=True, stdout=subprocess.DEVNULL)
        measured(f"load {options.count}", [f"{options.bin}/Benchmarks", "dead-letters", "load", brokers, str(options.count)], environment, True)
        for name, words in {
            "groups": ["groups"], "list": ["list"], "list --limit 10000": ["list", "--limit", "10000"],
            "list of one in 1000": ["list", "--fingerprint", "00000000000000a4"], "replay --all, dry run": ["replay", "--all"],
        }.items():
            measured(name, [triage, "dlq", *words], environment, options.keep)


if __name__ == "__main__":
    main()
