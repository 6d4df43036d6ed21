"""Somebody who comes to the console without a browser, and what is refused to anybody."""

import http.client
import json
import re
import urllib.parse


def raw(port, method, target, headers, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Type", "application/x-www-form-urlencoded")
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode("utf-8", "replace")


class Visitor:
    """Somebody without a browser: requests with a cookie, forms with their token."""

    def __init__(self, port):
        self.port, self.cookie = port, None

    def get(self, path):
        own = [("Host", f"localhost:{self.port}")] + ([("Cookie", self.cookie)] if self.cookie else [])
        return raw(self.port, "GET", "/console" + path, own)

    def form_token(self):
        return re.search(r'name="form-token" value="([0-9a-f]+)"', self.get("")[2]).group(1)

    def post(self, path, **form):
        own = f"localhost:{self.port}"
        if self.cookie:
            form["form-token"] = self.form_token()
        headers = [("Host", own), ("Origin", "http://" + own)] + ([("Cookie", self.cookie)] if self.cookie else [])
        status, answer, text = raw(self.port, "POST", "/console" + path, headers, urllib.parse.urlencode(form).encode())
        if "Set-Cookie" in answer:
            self.cookie = answer["Set-Cookie"].split(";")[0]
        return status, answer, text

    def letters(self, status):
        answer = json.loads(self.get(f"/api/dead-letters?status={status}&limit=1000")[2])
        return [letter["id"] for letter in answer["dead_letters"]] if answer["read_at"] else []


def guarded(report, port, base, token):
    own = f"127.0.0.1:{port}"
    for name, headers in [
        ("a name of somebody else's (DNS rebinding)", [("Host", f"evil.example.org:{port}")]), ("no Host's port", [("Host", "127.0.0.1")]),
        ("two Hosts", [("Host", own), ("Host", "evil.example.org")]), ("an absolute target", [("Host", "evil.example.org")]),
    ]:
        target = "http://127.0.0.1/console" if name.startswith("an absolute") else "/console"
        status, _, text = raw(port, "GET", target, headers)
        report.check(f"refused: {name}", status in (400, 421) and "Overview" not in text, (status, text[:200]))
    login = urllib.parse.urlencode({"token": token}).encode()
    for name, origin in [("another origin", "http://evil.example.org"), ("the same machine's other port", "http://127.0.0.1:1"), ("null", "null")]:
        status, headers, _ = raw(port, "POST", "/console/login", [("Host", own), ("Origin", origin)], login)
        report.check(f"a POST from {name} is refused", status == 403 and "set-cookie" not in {h.lower() for h in headers}, (status, headers))
    status, _, text = raw(port, "POST", "/console/act", [("Host", own), ("Origin", base)], b"do=replay&id=fhir.Patient.created.dlq/0/0")
    report.check("a replay without the token is refused", status == 403 and "Nobody is signed in" in text, (status, text[-300:]))
    status, _, _ = raw(port, "POST", "/console/act", [("Host", own), ("Origin", base)], b"a" * 70_000)
    report.equal("a form of 70,000 bytes", status, 413)
    report.equal("/metrics asks no Host", raw(port, "GET", "/metrics", [("Host", "anything")])[0], 200)
    report.check("actions: none was done", "Nothing was done" in raw(port, "GET", "/console/actions", [("Host", own)])[2])
