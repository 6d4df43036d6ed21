#!/usr/bin/env python3
"""`triage dead-letters` over many dead letters of a real broker: time and peak memory of each look, and its bar.

    swift build -c release --product Benchmarks && swift build -c release --product triage && Tests/Benchmarks/dead-letters.py [COUNT]

Needs noida-db, which answers a fetch with all there is of a partition, whatever size was asked for: 100 MB, the most that a client takes
by default, are 980,000 of these dead letters in six partitions. So every look has -X receive.message.max.bytes=…, and the memory told
here holds one partition; a broker that keeps to fetch sizes sends 8 MiB at most.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Integration"))
from harness import REPOSITORY, Failed, Room, clean_environment, on_terminal  # noqa: E402
from parts import real_broker  # noqa: E402

# The most that librdkafka takes.
LARGEST_ANSWER = 2_147_483_647


def measured(name, arguments, environment):
    """Runs a command; gives what it printed, and tells its time and its peak memory as the system counts it (wait4(2))."""
    with tempfile.TemporaryFile() as out:
        begin = time.monotonic()
        process = subprocess.Popen(arguments, env=environment, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        print(
            f"{name}: {seconds:.1f} s, {usage.ru_utime + usage.ru_stime:.1f} s CPU, {usage.ru_maxrss / 1024:.0f} MiB at most", flush=True)
        out.seek(0)
        if process.returncode != 0:
            raise Failed(f"{name} ends with {process.returncode}")
        return out.read().decode()


def resident(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--bin", default=str(REPOSITORY / ".build" / "release"))
    parser.add_argument("--replay", action="store_true", help="the dry run of a replay of all as well: it reads everything twice")
    options = parser.parse_args()
    with Room() as room:
        brokers = real_broker(room)
        environment = clean_environment({"TRIAGE_BROKERS": brokers, "OTEL_SDK_DISABLED": "true"})
        triage = f"{options.bin}/triage"
        subprocess.run([triage, "topics", "create", "--partitions", "6"], env=environment, check=True, stdout=subprocess.DEVNULL)
        measured(
            f"writing {options.count}", [f"{options.bin}/Benchmarks", "dead-letters", "load", brokers, str(options.count)], environment)
        more = ["-X", f"receive.message.max.bytes={LARGEST_ANSWER}"]

        def look(name, *words):
            return measured(name, [triage, "dlq", *words, *more], environment)

        groups = json.loads(look("groups", "groups", "-o", "json"))
        print("  " + ", ".join(f"{group['count']} of {group['error']}" for group in groups))
        if sum(group["count"] for group in groups) != options.count:
            raise Failed("the groups don't add up to what was written")
        for name, words, rows in (
            ("list", [], 100), ("list --limit 10000", ["--limit", "10000"], 10_000),
            ("list of one in 1000", ["--fingerprint", "00000000000000a4"], 100),
        ):
            found = len(json.loads(look(name, "list", "-o", "json", *words)))
            if found != min(rows, options.count // (1000 if "--fingerprint" in words else 1)):
                raise Failed(f"{name} shows {found}")
        if options.replay:
            look("replay --all, dry run", "replay", "--all")
        _, output = on_terminal([triage, "dlq", "groups", *more], environment)
        states = re.split(r"[\r\n]+|\x1b\[K", output.decode())
        lines = [line for line in states if " of " in line and " %" in line]
        print(f"on a terminal: {len(lines)} states of the bar, of which")
        for line in lines[:: max(1, len(lines) // 4)]:
            print(f"  {line}")
        print(f"the broker: {resident(room.children[0].process)} MiB at most")


if __name__ == "__main__":
    main()
