#!/usr/bin/env python3
"""Runs a command with a real broker beside it, whose address is in TRIAGE_TEST_BROKERS; exits with the command's status.

    with_broker.py COMMAND [ARGUMENT]…
"""

import os
import subprocess
import sys

from harness import Failed, Room
from parts import real_broker


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 64
    with Room() as room:
        try:
            brokers = real_broker(room)
        except Failed as error:
            print(error, file=sys.stderr)
            return 1
        print(f"real broker at {brokers}", flush=True)
        return subprocess.run(sys.argv[1:], env={**os.environ, "TRIAGE_TEST_BROKERS": brokers}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
