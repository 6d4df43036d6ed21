"""Callers, a FHIR server and a receiver whose every word is a marker: what a live service must not pass on."""

import http.server
import itertools
import json
import re
import socket
import threading
import uuid

from check_privacy import DATE, marker

FHIR = "application/fhir+json"
WEBHOOK_TOKEN = "webhook-token-0123456789"
COMMAND_TOKEN = "command-token-0123456789"
COUNT = itertools.count(1)


def name(kind):
    """An id by FHIR's grammar that is a marker, and says how the servers shall answer what has it."""
    return f"CANARY-id-{kind}-{next(COUNT)}"


def patient(identifier, version="1", **more):
    made = {
        "resourceType": "Patient", "id": identifier, "meta": {"versionId": version, "source": marker("source")}, "gender": "other",
        "birthDate": DATE, "identifier": [{"system": f"urn:{marker('system')}", "value": marker("mrn")}],
        "name": [{"family": marker("family"), "given": [marker("given")]}], "telecom": [{"value": marker("telecom")}],
        "address": [{"line": [marker("line")], "city": marker("city")}], marker("element"): marker("value"), **more,
    }
    return {key: value for key, value in made.items() if value is not None}


def outcome():
    """What servers answer with; its code is none of FHIR's."""
    return {
        "resourceType": "OperationOutcome", "id": marker("outcome"), "issue": [{
            "severity": "error", "code": marker("code"), "diagnostics": marker("diagnostics"),
            "details": {"text": marker("details")}, "expression": [f"Patient.{marker('expression')}"]}]}


class MarkedServer:
    """A FHIR server and a receiver of deliveries in one, which does what the ids tell it to; keeps the names of what it was asked.

    An id with `fail422` is answered 422, one with `garbage` by what is no JSON, one with `redirect` by a redirection.
    """

    def __init__(self):
        self.asked = set()
        self.deliveries = []
        self.lock = threading.Lock()
        world = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version = sys_version = "CANARY-server"

            def log_message(self, *_):
                pass

            def do_GET(self):
                world.serve(self)

            do_POST = do_PUT = do_DELETE = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        address = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.base = f"{address}/CANARY-base/fhir"
        self.receiver = f"{address}/CANARY-receiver/events?key=CANARY-query"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def serve(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        path = request.path.split("?")[0]
        is_delivery = path.startswith("/CANARY-receiver")
        with self.lock:
            self.asked.add("delivery" if is_delivery else re.sub(r"/Patient/CANARY[^/]*", "/Patient/ID", f"{request.command} {path}"))
            if is_delivery:
                self.deliveries.append((dict(request.headers), body))
        text = body.decode("utf-8", "replace") + path
        failure = re.search(r"CANARY-id-fail(\d+)", text if is_delivery or request.command in ("POST", "PUT", "DELETE") else path)
        if "CANARY-id-deliver" in text:
            failure = re.search(r"CANARY-id-deliver(\d+)", text) if is_delivery else None
        if failure:
            return self.answer(request, int(failure[1]), outcome())
        if "CANARY-id-garbage" in path:
            return self.answer(request, 200, b'{"resourceType":"Patient","name":"CANARY-garbage')
        if "CANARY-id-redirect" in path:
            return self.answer(request, 302, outcome(), {"Location": f"{self.base}/CANARY-elsewhere"})
        if is_delivery:
            return self.answer(request, 200, outcome())
        if request.command == "GET" and path.endswith("/_history"):
            entry = {"fullUrl": "urn:" + marker("url"), "request": {"method": "PUT", "url": "Patient/CANARY-id-history"},
                     "resource": patient("CANARY-id-history", "3")}
            return self.answer(request, 200, {"resourceType": "Bundle", "type": "history", "entry": [entry]})
        found = re.search(r"/Patient/([^/]+)$", path)
        if request.command == "DELETE":
            return self.answer(request, 204, b"")
        identifier = found[1] if found else name("created")
        made = patient(identifier, "4")
        if body:
            made["meta"] = json.loads(body).get("meta", {}) | {"versionId": "4"}
        return self.answer(
            request, 200 if found else 201, made,
            {"Location": f"{self.base}/Patient/{identifier}/_history/4", "ETag": 'W/"4"'})

    def answer(self, request, status, body, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            request.send_response(status, f"CANARY reason {status}")
            for field, value in {"Content-Type": FHIR, "X-CANARY": marker("field"), "Warning": f'299 - "{marker("warning")}"',
                                 "Retry-After": "CANARY-later", "Set-Cookie": "patient=CANARY", **(headers or {})}.items():
                request.send_header(field, value)
            if status != 204:
                request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            if status != 204:
                request.wfile.write(data)
        except OSError:
            request.close_connection = True


# What every request of ours says beside its business.
MARKED_FIELDS = (
    ("User-Agent", "CANARY-agent"), ("X-CANARY-name", "CANARY-value"), ("Referer", "http://CANARY/"), ("Cookie", "a=CANARY-cookie"),
    ("Forwarded", "for=CANARY"), ("X-Request-ID", "CANARY-request"), ("From", "CANARY@example.org"),
    ("traceparent", "00-{trace}-00f067aa0ba902b7-01"), ("tracestate", "pt=CANARY-state"), ("baggage", "patient=CANARY-baggage"))


def request(method, target, body=None, token=WEBHOOK_TOKEN, fields=(), media=FHIR):
    """The bytes of a request, full of markers."""
    lines = [f"{method} {target} HTTP/1.1", "Host: CANARY-host"]
    lines += [f"{field}: {value.replace('{trace}', uuid.uuid4().hex)}" for field, value in MARKED_FIELDS]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"Content-Type: {media}"] if media and body is not None else []
    lines += [f"{field}: {value}" for field, value in fields]
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    if body is not None and not any(field.lower() in ("transfer-encoding", "content-length") for field, _ in fields):
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + data


def told(port, data):
    """Everything that is answered to these bytes, heads and bodies as they come."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=40) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR) if b"CANARY-cut" in data else None
        except OSError:
            pass
        try:
            while piece := client.recv(65536):
                answer += piece
        except OSError:
            pass
    return answer


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


def bundle(number, *entries, kind="event-notification"):
    """An Aidbox notification."""
    focus = [{"eventNumber": number + index, "focus": {"reference": entry["request"]["url"].removeprefix("/fhir/")}}
             for index, entry in enumerate(entries)]
    return {
        "resourceType": "Bundle", "type": "history", "timestamp": "2026-01-01T00:00:00Z", "id": marker("bundle"), "entry": [
            {"resource": {
                "resourceType": "AidboxSubscriptionStatus", "id": marker("status"), "status": "active", "type": kind,
                "notificationEvent": focus, "topic": f"http://{marker('topic')}/x",
                "topic-destination": {"reference": "AidboxTopicDestination/CANARY-destination"}}}, *entries]}


def entry(method, identifier, resource=None):
    made = {"fullUrl": f"http://aidbox/CANARY/Patient/{identifier}", "request": {"method": method, "url": f"/fhir/Patient/{identifier}"}}
    return made | ({"resource": resource} if resource else {})


def webhooks():
    """Requests to the webhook, good and bad: what they are, their bytes, the statuses that may answer them."""
    hook = "/webhooks/fhir"
    marked = f"{hook}?CANARY-query=CANARY&patient=CANARY-id-query"

    def full(kind, method="POST", version="1"):
        identifier = name(kind)
        return entry(method, identifier, patient(identifier, version))

    yield "full resource", request("POST", marked, bundle(1, full("full"))), {200}
    yield "several", request("POST", hook, bundle(2, full("a"), full("b", "PUT", "2"), entry("DELETE", name("c")))), {200}
    yield "a gap in the numbers", request("POST", hook, bundle(20, full("gap"))), {200}
    yield "heartbeat", request("POST", hook, bundle(0, kind="heartbeat")), {200}
    yield "handshake", request("POST", hook, bundle(0, kind="handshake")), {200}
    for kind, expected in (("only", 200), ("fail500", 503), ("fail404", 503), ("fail403", 503), ("fail422", None), ("garbage", None),
                           ("redirect", None)):
        yield f"id-only, {kind}", request("POST", hook, bundle(30, entry("PUT", name(kind)))), expected and {expected}
    yield "an empty POST", request("POST", hook, b""), {200}
    for kind in ("put", "deliver400", "deliver500", "deliver429", "deliver302"):
        one = name(kind)
        yield f"PUT of a resource, {kind}", request("PUT", f"{hook}/Patient/{one}?CANARY", patient(one)), {200}
    yield "DELETE", request("DELETE", f"{hook}/Patient/{name('delete')}"), {200}
    event = [("ce-specversion", "1.0"), ("ce-id", "CANARY-ce"), ("ce-source", "urn:CANARY"), ("ce-type", "PatientCreated"),
             ("ce-CANARY", "CANARY"), ("ce-subject", "CANARY")]
    yield "CloudEvent, binary", request("POST", hook, patient(name("binary")), fields=event), {200}
    yield "CloudEvent, unknown type", request("POST", hook, patient(name("binary")), fields=[*event[:3], ("ce-type", "CANARY")]), None
    structured = {"specversion": "1.0", "id": marker("ce"), "source": "urn:CANARY", "type": "PatientUpdated", "data": patient(name("ce"))}
    yield "CloudEvent, structured", request("POST", hook, structured, media="application/cloudevents+json"), {200}
    yield "CloudEvent without source", request("POST", hook, {**structured, "source": ""}, media="application/cloudevents+json"), {400}

    whole = json.dumps(patient(name("broken"))).encode()
    bodies = {
        "cut": whole[:-20], "a text": b'"CANARY"', "no UTF-8": whole.replace(b"CANARY-family", b"CANARY-\xff"), "twice": whole + whole,
        "another type": whole.replace(b'"Patient"', b'"CANARY-type"'), "a wrong id": whole.replace(b"CANARY-id", b"/CANARY-id"),
        "a wrong date": whole.replace(DATE.encode(), b"CANARY-date"), "a wrong gender": whole.replace(b'"other"', b'"CANARY"'),
        "no object": whole.replace(b'"meta": {', b'"meta": "CANARY", "x": {'), "a list": b'["CANARY"]',
    }
    for what, body in bodies.items():
        yield f"a body with {what}", request("POST", hook, body), None if what in ("no object", "another type") else {400}
    yield "a bundle of markers", request("POST", hook, {"resourceType": "Bundle", "type": "CANARY", "entry": [{"CANARY": "CANARY"}]}), {400}
    broken = bundle(40, full("x"))
    broken["entry"][0]["resource"]["type"] = "CANARY"
    yield "an unknown kind of notification", request("POST", hook, broken), {400}
    yield "another id in the path", request("PUT", f"{hook}/Patient/CANARY-other", patient(name("path"))), {400}
    yield "another type in the path", request("PUT", f"{hook}/CANARY/CANARY-id", patient(name("path"))), {400}
    yield "another media type", request("POST", hook, whole, media="text/CANARY"), {415}
    yield "another charset", request("POST", hook, whole, media=f"{FHIR}; charset=CANARY"), {415}
    yield "a coding", request("POST", hook, whole, fields=[("Content-Encoding", "CANARY")]), {415}
    yield "a wrong token", request("POST", hook, whole, token="CANARY-token-0123456789"), {401}
    yield "no token", request("POST", marked, whole, token=None), {401}
    yield "another scheme", request("POST", hook, whole, token=None, fields=[("Authorization", "Basic CANARY")]), {401}


def refusals():
    """Requests that no route sees."""
    yield "an unknown path", request("GET", "/CANARY/Patient/CANARY-id?CANARY=CANARY"), {404}
    yield "an unknown path with a body", request("POST", "/CANARY", b"CANARY"), {404}
    yield "another method", request("PATCH", "/webhooks/fhir/Patient/CANARY-id"), {405}
    yield "an unknown method", request("CANARY", "/webhooks/fhir"), {400, 405}
    yield "OPTIONS", request("OPTIONS", "/webhooks/fhir/Patient/CANARY-id"), {204}
    yield "an encoded slash", request("GET", "/commands/%2fCANARY"), {400}
    yield "dots", request("GET", "/commands/../CANARY"), {400}
    yield "a fragment", request("GET", "/commands/CANARY#CANARY"), {400}
    yield "no HTTP", b"CANARY CANARY CANARY\r\nCANARY\r\n\r\n", {400}
    yield "another protocol", b"GET /CANARY CANARY/1.1\r\nHost: x\r\n\r\n", {400}
    yield "a field without a name", request("GET", "/CANARY", fields=[("CANARY name", "CANARY")]), {400}
    yield "an expectation", request("POST", "/webhooks/fhir", b"CANARY", fields=[("Expect", "CANARY")]), {417}
    yield "a transfer coding", request("POST", "/webhooks/fhir", b"CANARY", fields=[("Transfer-Encoding", "CANARY")]), {400, 501}
    yield "a length", request("POST", "/webhooks/fhir", b"CANARY", fields=[("Content-Length", "CANARY")]), {400}
    yield "two hosts", request("GET", "/commands/CANARY", fields=[("Host", "CANARY")]), {400}
    yield "a wrong chunk", request("POST", "/webhooks/fhir", b"CANARY\r\n", fields=[("Transfer-Encoding", "chunked")]), {400}
    yield "a large head", request("GET", "/CANARY", fields=[("X-Large", "CANARY" * 4000)]), {431}
    yield "a long target", request("GET", "/" + "CANARY" * 4000), {400, 414, 431}
    yield "a long body", request("POST", "/commands", b"CANARY" * 400_000, token=COMMAND_TOKEN), {413}
    yield "an upgrade", request("GET", "/CANARY", fields=[("Upgrade", "CANARY")]), {404}


def commands():
    """Commands, good and bad, each with the markers that whoever is admitted may be told: his own request's."""
    def one(kind, action, path="/commands?wait=20s", expected=(200,), token=COMMAND_TOKEN, fields=(), **changes):
        identifier = name(kind)
        own = f"CANARY-request-{next(COUNT)}"
        data = patient(identifier if action != "CreatePatient" else None) | changes.pop("data", {})
        if action == "CreatePatient":
            data["identifier"] = [{"value": identifier}]
        body = {"type": action, "data": data, "metadata": {"requestId": own, "source": marker("source"), "CANARY": "CANARY"}, **changes}
        return f"{action}, {kind}", request("POST", path, body, token=token, fields=fields), set(expected), [own, identifier]

    yield one("ok", "CreatePatient")
    yield one("ok", "UpdatePatient")
    yield one("ok", "DeletePatient")
    for kind in ("fail400", "fail409", "fail412", "fail422", "fail500", "fail302"):
        yield one(kind, "UpdatePatient")
        yield one(kind, "CreatePatient")
    yield one("fail409", "DeletePatient")
    yield one("ok", "CreatePatient", path="/commands", expected=(202,))
    nobody = [*one("ok", "CreatePatient", token="CANARY-token-0123456789", expected=(401,))[:3], []]
    yield nobody
    for what, changes in {
        "an unknown type": {"type": "CANARY"}, "no object": {"data": {"meta": "CANARY"}}, "a wrong date": {"data": {"birthDate": "CANARY"}},
        "another resource": {"data": {"resourceType": "CANARY"}},
    }.items():
        made = one("bad", "CreatePatient", expected=(200, 400), **changes)
        yield f"a command with {what}", made[1], made[2], made[3] if what == "no object" else []
    yield "a wrong request id", request(
        "POST", "/commands", {"type": "DeletePatient", "data": patient(name("x")), "metadata": {"requestId": "CANARY id/"}},
        token=COMMAND_TOKEN), {400}, []
    yield "a wrong key", *one("ok", "CreatePatient", fields=[("Idempotency-Key", "CANARY-key")], expected=(400,))[1:3], []
    yield "a wrong wait", *one("ok", "CreatePatient", path="/commands?wait=CANARY", expected=(400,))[1:3], []
    yield "a command that isn't known", request("GET", "/commands/CANARY-unknown?wait=1s", token=COMMAND_TOKEN), {404}, []
    yield "a command's status for nobody", request("GET", "/commands/CANARY-unknown", token=None), {401}, []
    yield "a body that is cut", request("POST", "/commands", b'{"type":"CANARY', token=COMMAND_TOKEN), {400}, []
    yield "a media type", request("POST", "/commands", b"CANARY", token=COMMAND_TOKEN, media="CANARY/x"), {415}, []


def probes():
    """Requests to the server for metrics and health."""
    yield "an unknown path", request("GET", "/CANARY?CANARY"), {404}
    yield "metrics", request("GET", "/metrics?CANARY=CANARY", fields=[("Accept", "CANARY/x")]), {200, 406}
    yield "health", request("GET", "/health/ready?CANARY"), {200}
    yield "a body", request("POST", "/metrics", b"CANARY"), {413}
    yield "a method", request("CANARY", "/metrics"), {400, 405}
    yield "no HTTP", b"CANARY CANARY CANARY\r\n\r\n", {400}
