"""The command lines of the README and the articles: each is one that the command takes."""

import json
import pathlib
import re
import shlex
import signal
import time

from certificates import Authority
from check_capture import created_topics, patient
from harness import REPOSITORY, wait_until
from parts import real_broker

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "Sources" / "Triage" / "Triage.docc").glob("*.md"))]
# Of these pages so many at least must be found: else their blocks are written in a way that isn't understood here.
MANY = {"README.md": 10, "OperatorsGuide.md": 12, "AnEventFailedAtNight.md": 12, "Explain.md": 4, "OnePatientsEventsStopped.md": 3}
KEYS = ["key", "dead-letters.key", "token.txt"]
# Seconds after which a command that serves or waits has surely read its flags and settings.
PATIENCE = 4


def lines_of(text):
    """The lines of fenced blocks that begin with `triage`, `$ triage` or a variable before it; those that go on behind `\\` as one."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        joined = re.sub(r"\\\n\s*", "", block)
        for line in joined.splitlines():
            if re.match(r"\s*(\$ )?([A-Z_]+=\S+ )*triage ", line):
                yield line.strip().removeprefix("$ ")


def words_of(line, brokers):
    """What a shell makes of it, for the broker of this check; None for what is no command line."""
    # A comment, or an explanation behind several blanks, isn't typed.
    line = re.split(r"\s#\s|\s{3,}(?![-'\"])", line)[0]
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>&;")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words = []
    for word in lexer:
        if set(word) <= set("|<>&;"):
            break
        if word != "…":
            words.append(word)
    words = words[next(index for index, word in enumerate(words) if word == "triage") + 1:]
    for index, word in enumerate(words):
        if index and words[index - 1] in ("-b", "--brokers"):
            words[index] = brokers
        if index and words[index - 1] in ("--listen", "--http"):
            words[index] = "127.0.0.1:0"
    return words


def guides(report, room):
    """Each command line is run: whatever comes of it, it isn't 64, which is for what was typed."""
    brokers = real_broker(room)
    created_topics(room, brokers)
    for name in KEYS:
        room.path(name).write_bytes(b"0123456789" * 4)
    for path, name in zip(Authority(room, "guides").issue("server", "IP:127.0.0.1"), ("cert.pem", "key.pem")):
        pathlib.Path(path).rename(room.path(name))
    resource = json.dumps({**patient("Family"), "id": "example"})
    for name in ("patients.ndjson", "patient.json"):
        room.path(name).write_text(resource + "\n")
    for name in ("ids.txt", "discarded.ndjson"):
        room.path(name).write_text("")

    def ended(words, number):
        ids = room.path(f"input-{number}")
        ids.write_text("example\n")
        takes_in = {"--webhooks", "--accept-commands"} & set(words)
        with open(ids, "rb") as stdin:
            child = room.triage(*words, name=f"line-{number}", stdin=stdin, environment={
                "TRIAGE_BROKERS": brokers, "TRIAGE_HTTP": "127.0.0.1:0", "VISUAL": "true", **({"TRIAGE_LISTEN": "127.0.0.1:0"} if takes_in else {})})
        deadline = time.monotonic() + PATIENCE
        wait_until("it ends or goes on", lambda: not child.is_running() or time.monotonic() > deadline, PATIENCE + 10)
        child.signal(signal.SIGKILL)
        child.wait(10)
        return child

    for words in (["dlq", "list", "--no-such-flag"], ["explain", "no/such"], ["run", "--retry", "sometimes"]):
        report.equal(f"{' '.join(words)}: seen to be none", ended(words, 0).process.returncode, 64)
    number, known = 0, {}
    for page in PAGES:
        lines = list(lines_of(page.read_text()))
        wrong = []
        for line in lines:
            words = words_of(line, brokers)
            if tuple(words) not in known:
                number += 1
                child = ended(words, number)
                known[tuple(words)] = (child.process.returncode, child.err()[-300:])
            if known[tuple(words)][0] == 64:
                wrong.append((line, known[tuple(words)][1]))
        if lines:
            report.none(f"{page.name}: command lines that aren't any, of {len(lines)}", wrong)
        if page.name in MANY:
            report.check(f"{page.name}: they were found", len(lines) >= MANY[page.name], lines)
    report.note(f"{number} command lines were run")
