"""What every check stands on: a report of one line a check, processes ended by pid, free ports, waits with a deadline."""

import fcntl
import itertools
import json
import os
import pathlib
import pty
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time
import traceback
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PATIENTS = REPOSITORY / "Tests" / "TriageEventsTests" / "Fixtures" / "hl7-r4-patients.ndjson"


class Failed(Exception):
    """What keeps a group of checks from going on."""


class Report:
    """Counts checks and prints a line for each as it is made."""

    def __init__(self):
        self.passed = 0
        self.failures = []
        self.group = ""

    def check(self, name, condition, detail=""):
        if condition:
            self.passed += 1
            print(f"  ok    {name}", flush=True)
        else:
            self.failures.append(f"{self.group}: {name}")
            text = str(detail)
            print(f"  FAIL  {name}" + (f"\n          {text[:2000]}" if text else ""), flush=True)
        return bool(condition)

    def equal(self, name, found, expected):
        return self.check(f"{name}: {_short(expected)}", found == expected, f"found {_short(found, 1500)}")

    def none(self, name, offenders):
        """Passes if there is no offender; shows the first few otherwise."""
        offenders = list(offenders)
        return self.check(name, not offenders, f"{len(offenders)} offenders, such as {_short(offenders[:3], 1500)}")

    def note(self, text):
        print(f"        {text}", flush=True)

    def run(self, name, body):
        """Runs a group of checks; what it throws is a failure of its own. Everything it started is ended."""
        self.group = name
        print(f"{name}", flush=True)
        begin = time.monotonic()
        with Room() as room:
            try:
                body(self, room)
            except Failed as error:
                self.check("went through to its end", False, error)
                room.show_logs()
            except Exception:
                self.check("went through to its end", False, traceback.format_exc())
                room.show_logs()
        print(f"        {time.monotonic() - begin:.1f} s", flush=True)


def _short(value, limit=120):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[:limit] + "…"


def wait_until(what, condition, seconds=30.0, interval=0.05):
    """Polls until `condition` gives something true, which is returned; fails at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Failed(f"after {seconds:.0f} s still not: {what}")
        time.sleep(interval)


def free_port():
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def fetch(url, seconds=10, headers=None):
    """Status, headers and body of a GET; an error status is no exception."""
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def triage_path():
    path = os.environ.get("TRIAGE_BIN") or REPOSITORY / ".build" / "debug" / "triage"
    path = pathlib.Path(path).absolute()
    if not os.access(path, os.X_OK):
        raise Failed(f"no executable {path}: build first, or set TRIAGE_BIN")
    return str(path)


def clean_environment(extra=None):
    """The environment without any OTEL_ and TRIAGE_ variable, so that only `extra` configures what is started."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TRIAGE_"))}
    environment.update(extra or {})
    return environment


class Child:
    """A process of ours whose output goes to files of the room."""

    def __init__(self, room, name, arguments, environment=None, stdin=None, stderr=None):
        self.name = name
        self.arguments = [os.fsencode(argument) if isinstance(argument, str) else argument for argument in arguments]
        self.out_path = room.path(f"{name}.out")
        self.err_path = room.path(f"{name}.err")
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = subprocess.Popen(
                self.arguments, stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=stderr or err, env=environment,
                cwd=room.directory,
            )
        self.begin = time.monotonic()

    @property
    def pid(self):
        return self.process.pid

    def out(self):
        return self.out_path.read_bytes().decode("utf-8", "replace")

    def err(self):
        return self.err_path.read_bytes().decode("utf-8", "replace")

    def is_running(self):
        return self.process.poll() is None

    def signal(self, number):
        if self.is_running():
            self.process.send_signal(number)

    def wait(self, seconds):
        """The exit status; fails at the deadline."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} is still running after {seconds:.0f} s; its stderr: {self.err()[-1000:]}") from None

    def end(self, seconds=10):
        """Asks it to end, then ends it."""
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout=10)
        return self.process.returncode


class Room:
    """A directory and the processes of one group of checks; leaving it ends and removes them."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="triage-integration-"))
        self.children = []
        self.closers = []
        self.numbers = itertools.count(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            for child in reversed(self.children):
                child.end()
        finally:
            for close in reversed(self.closers):
                close()
            shutil.rmtree(self.directory, ignore_errors=True)

    def path(self, name):
        return self.directory / name

    def start(self, name, arguments, environment=None, **options):
        """Starts a process that is ended when the room is left."""
        child = Child(self, f"{next(self.numbers):02}-{name}", arguments, environment or clean_environment(), **options)
        self.children.append(child)
        return child

    def triage(self, *arguments, name=None, environment=None, **options):
        """Starts `triage` with these arguments and only these OTEL_ and TRIAGE_ variables."""
        name = name or next((a for a in arguments if isinstance(a, str) and not a.startswith("-")), "triage")
        return self.start(name, [triage_path(), *arguments], clean_environment(environment), **options)

    def finish(self, *arguments, seconds=120, **options):
        """Runs `triage` to its end; gives the child, whose status is in `process.returncode`."""
        child = self.triage(*arguments, **options)
        child.wait(seconds)
        return child

    def show_logs(self):
        for child in self.children:
            text = child.err().strip()
            if text:
                print(f"        --- {child.name} (status {child.process.poll()}): {text[-1500:]}", flush=True)


def parsed(child):
    """The one JSON value that a child printed on stdout."""
    text = child.out()
    try:
        return json.loads(text)
    except ValueError:
        raise Failed(
            f"{child.name} (status {child.process.poll()}) printed no JSON: {text[:500]!r}; stderr: {child.err()[-1000:]}"
        ) from None


def on_terminal(arguments, environment, columns=80):
    """What a command shows on a terminal of this width, byte for byte; gives its status and that."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(arguments, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    output = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        output += piece
    os.close(master)
    return process.wait(30), output
