"""The console of `triage run` on a real broker."""

import base64
import json
import signal
import urllib.parse

from check_capture import CREATED, created_topics
from check_privacy import patients, port_of
from check_sealed import refusal
from console_visitor import Visitor, raw
from fhir_server import Receiver
from harness import wait_until
from parts import Kcat, real_broker


def audits(kcat):
    """Who looked at what or took it along, in the order of their doing."""
    found = [json.loads(m.value) for m in kcat.read("triage.dead-letters") if m.key and m.key.startswith(b"audit/")]
    return [(each["action"], each["by"], each["of"], each.get("reason")) for each in found]


def audited(report, kcat, visitor, port, ids):
    """Contents are for those who have signed in, from the console's own pages, and never before that is on record."""
    own, forms = f"localhost:{port}", {
        f"/dead-letters/{ids[0]}/reveal": {}, "/export": {"id": ids[0]}, "/act": {"do": "discard", "id": ids[0], "reason": "forged"},
        "/dead-letters/patient": {"patient": "CANARY-3"}}
    token = visitor.form_token()
    host, origin, cookie = ("Host", own), ("Origin", "http://" + own), ("Cookie", visitor.cookie)
    tries = [
        ("nobody signed in", 403, [host, origin], token), ("no form token", 403, [host, origin, cookie], None),
        ("another session's form token", 403, [host, origin, cookie], "0" * 64), ("another origin", 403, [host, ("Origin", "http://evil.example.org"), cookie], token),
        ("the same machine's other port", 403, [host, ("Origin", "http://localhost:1"), cookie], token), ("an origin of null", 403, [host, ("Origin", "null"), cookie], token),
        ("neither origin nor fetch metadata", 403, [host, cookie], token), ("another site by fetch metadata", 403, [host, origin, ("Sec-Fetch-Site", "cross-site"), cookie], token),
        ("a name that leads here", 421, [("Host", f"evil.example.org:{port}"), ("Origin", f"http://evil.example.org:{port}"), cookie], token),
        ("two hosts", 421, [host, ("Host", "evil.example.org"), origin, cookie], token),
    ]
    wrong = []
    for path, form in forms.items():
        for name, wanted, headers, shown in tries:
            body = urllib.parse.urlencode(form | ({"form-token": shown} if shown else {})).encode()
            status, answer, text = raw(port, "POST", "/console" + path, headers, body)
            if status != wanted or "CANARY" in text or "resourceType" in text or answer.get("Cache-Control") != "no-store":
                wrong.append((path, name, status, text[:100]))
        status, _, text = visitor.get(path)
        if "CANARY" in text or status not in (200, 303, 400):
            wrong.append((path, "GET", status, text[:100]))
    report.none(f"{len(forms) * len(tries)} forged forms are refused, and show nothing", wrong)
    report.equal("nothing of them is on record, and nothing was done", (audits(kcat), visitor.letters("discarded")), ([], []))

    status, headers, text = visitor.post(f"/dead-letters/{ids[0]}/reveal")
    report.equal("it is revealed, and not kept", (status, headers["Cache-Control"], "CANARY" in text), (200, "no-store", True))
    report.check("its headers are, too", "triage-origin" in text and "traceparent" in text)
    status, headers, text = visitor.post("/export", id=ids[1], reason="for the vendor")
    report.equal(
        "it is exported as a file, and not kept", (status, headers["Cache-Control"], headers["Content-Type"], headers["Content-Disposition"]),
        (200, "no-store", "application/x-ndjson", 'attachment; filename="dead-letters.ndjson"'))
    line = json.loads(text)
    place = f"{line['topic']}/{line['partition']}/{line['offset']}"
    report.equal("the line is the dead letter's", (place, base64.b64decode(line["key"])[:7]), (ids[1], b"CANARY-"))
    report.equal(
        "both are on record", audits(kcat), [("reveal", "Ann (console)", [ids[0]], None), ("export", "Ann (console)", [ids[1]], "for the vendor")])
    status, _, text = visitor.post("/dead-letters/patient", patient="CANARY-3")
    report.check("a patient's dead letter is found, and its id isn't told", status == 200 and "1 to 1 of 1 dead letter" in text and "CANARY" not in text, text[-600:])
    garbage = ["class=zz", "since=zz", "status=zz", "limit=abc", "limit=-1", "limit=99999999999999999999", "from=-1", "topic=zz.dlq", "unknown=1"]
    answers = [(each, *visitor.get("/api/dead-letters?" + each)[::2]) for each in garbage]
    report.none("filters that can't be read are refused by name", [each for each in answers if each[1] != 400 or json.loads(each[2])["key"] not in each[0]])
    report.equal("on the pages, too", visitor.get("/dead-letters?class=zz")[0], 400)


def repaired(report, kcat, visitor, receiver):
    """One dead letter is changed by a patch, and handled as it was changed."""
    receiver.script[:] = [refusal()]
    patient = {**next(patients()), "id": "CANARY-9"}
    kcat.write(CREATED, json.dumps({"type": "PatientCreated", "data": patient}).encode(), key=b"CANARY-9")
    letter = wait_until("it is dead-lettered", lambda: visitor.letters("open"), 60, 0.5)[0]
    form = {"do": "replay", "id": letter, "patch": json.dumps([{"op": "replace", "path": "/data/gender", "value": "unknown"}, {"op": "remove", "path": "/data/birthDate"}])}
    status, _, text = visitor.post("/act", preview="on", **form)
    report.check("a patch is previewed by paths and types alone", status == 200 and "data.birthDate" in text and "CANARY" not in text, text[-600:])
    status, _, text = visitor.post("/act", **(form | {"patch": '[{"op":"remove","path":"/data/nothing"}]'}))
    report.check("one that can't be done does nothing", status == 400 and "Nothing was done" in text, text[-600:])
    before = len(receiver.delivered())
    status, headers, _ = visitor.post("/act", reason="no date that day", **form)
    report.equal("it is replayed as changed", status, 303)
    wait_until("it is handled", lambda: len(receiver.delivered()) > before, 30)
    body = json.loads(receiver.delivered()[-1].body)
    resource = body.get("data", body)
    report.equal("what was changed, and nothing else", resource, {key: value for key, value in patient.items() if key != "birthDate"} | {"gender": "unknown"})
    page = visitor.get(headers["Location"].removeprefix("/console"))[2]
    report.check("what was done is told without the patch", "by a patch" in page and "birthDate" not in page and "no date that day" in page, page[-600:])
    report.check("what it said before is kept", any(m.key and m.key.startswith(b"audit/") and m.value == json.dumps(
        {"type": "PatientCreated", "data": patient}).encode() for m in kcat.read("triage.dead-letters")))


def console_run(report, room):
    """`triage run` on a real broker: a console without a token, one with, one that can be reached from elsewhere."""
    brokers = real_broker(room)
    created_topics(room, brokers)
    kcat, receiver = Kcat(brokers), Receiver()
    room.closers.append(receiver.close)
    count = 6
    receiver.script[:] = [refusal() for _ in range(count)]

    def run(*more):
        child = room.triage(
            "run", "-b", brokers, "--group", "console", "--http", "127.0.0.1:0", "--handler", "http", "--deliver-to", receiver.url,
            "--storm-breaker", "off", *more)
        return child, wait_until("it tells its port", lambda: port_of(child.err()), 60)

    first, port = run()
    for number, patient in zip(range(count), patients()):
        value = json.dumps({"type": "PatientCreated", "data": {**patient, "id": f"CANARY-{number}"}}).encode()
        kcat.write(CREATED, value, key=f"CANARY-{number}".encode())
    visitor = Visitor(port)
    wait_until("the console shows the dead letters", lambda: len(visitor.letters("open")) == count, 60, 0.5)
    pages = [visitor.get(path)[2] for path in ["", "/failures", "/dead-letters", "/traces", f"/dead-letters/{visitor.letters('open')[0]}"]]
    report.check("no marker on its pages", not any("CANARY" in page for page in pages))
    report.check("without a token it only shows, and says so", "read only" in first.err() and "it has no token" in visitor.get("/login")[2])
    report.equal("without a token nobody signs in", visitor.post("/login", token="")[0], 403)
    first.signal(signal.SIGTERM)
    report.equal("a clean stop", first.wait(60), 0)

    token = room.path("token")
    token.write_text("a-token-of-this-test\n")
    second, port = run("--console-token-file", str(token))
    visitor = Visitor(port)
    report.equal("with the token of the file somebody signs in", visitor.post("/login", token="a-token-of-this-test", name="Ann")[0], 303)
    ids = wait_until("the dead letters are read", lambda: visitor.letters("open"), 30, 0.5)
    fingerprint = json.loads(visitor.get("/api/groups")[2])["groups"][0]["fingerprint"]
    status, headers, _ = visitor.post("/act", do="replay", fingerprint=fingerprint, canary="1", reason="the receiver was mended")
    report.equal("a group is replayed, one first", (status, headers["Location"].startswith("/console/actions/")), (303, True))
    action = headers["Location"].removeprefix("/console")
    wait_until("it ends", lambda: "Those tried first were completed." in visitor.get(action)[2], 60, 0.5)
    report.check("it is told what was done", f"{count} dead letters replayed." in visitor.get(action)[2])
    wait_until("all of them are handled", lambda: len(receiver.delivered()) >= 2 * count, 30)
    def settled():
        # What is known is read again when it is ten seconds old.
        return sorted(visitor.letters("completed")) == sorted(ids)
    wait_until("their states say so", settled, 60, 1)
    page = visitor.get("/dead-letters/" + ids[0])[2]
    report.check("how it ended, who asked for it and why stand on its page", all(
        text in page for text in ("completed", "<dd>console</dd>", "Replayed by", "Ann (console)", "the receiver was mended")), page[-3000:])
    audited(report, kcat, visitor, port, ids)
    repaired(report, kcat, visitor, receiver)
    second.signal(signal.SIGTERM)
    report.equal("a clean stop", second.wait(60), 0)

    for flags, wanted in [(["--http", "0.0.0.0:0"], 404), (["--http", "0.0.0.0:0", "--console", "on"], 200), (["--console", "off"], 404)]:
        child, port = run(*flags)
        report.equal(f"run {' '.join(flags)}: /console", Visitor(port).get("")[0], wanted)
        child.signal(signal.SIGTERM)
        child.wait(60)
