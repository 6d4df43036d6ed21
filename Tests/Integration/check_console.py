#!/usr/bin/env python3
"""The console of `triage demo --serve` in headless Chromium: pages, a replay with and without the token, what is accessible, what is not.

    check_console.py --screenshots DIR      the group alone; the pages' pictures go to DIR, as the documentation shows them
"""

import argparse
import http.client
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import urllib.parse

from check_capture import CREATED, created_topics
from check_privacy import patients, port_of
from check_sealed import refusal
from fhir_server import Receiver
from harness import Failed, Report, fetch, parsed, wait_until
from parts import Kcat, on_path, real_broker

CHROMIUM = os.environ.get("TRIAGE_CHROMIUM", "/usr/bin/chromium")
VIEW = {"width": 1120, "height": 780}
MAXIMUM_PICTURE = 150_000
PAGES = ["", "/failures", "/dead-letters", "/dead-letters?status=any", "/traces", "/actions", "/login", "/act?do=replay&id=a.dlq/0/0"]

# Contrast of each text with what lies behind it (WCAG 2.2, 1.4.3 and its definition of relative luminance).
CONTRAST = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const bad = []; let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(); const element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility()) continue;
    const style = getComputedStyle(element); const layers = [];
    for (let e = element; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); layers.push(c); if (c[3] === 1) break; }
    let ground = [255, 255, 255, 1];
    for (const layer of layers.reverse()) ground = over(layer, ground);
    const [a, b] = [light(over(parse(style.color), ground)), light(ground)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize); const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    seen += 1;
    if (ratio < (large ? 3 : 4.5)) bad.push([text.slice(0, 40), style.color, ratio.toFixed(2)]);
  }
  return { seen, bad };
}"""
FOCUSED = """() => { const e = document.activeElement; const s = getComputedStyle(e); const r = e.getBoundingClientRect();
  return { what: e.tagName + ' ' + (e.getAttribute('aria-label') || e.textContent.trim() || e.name || '').slice(0, 40),
           outline: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2, visible: r.width > 0 && r.left >= 0 }; }"""
NAMED = {"link", "button", "textbox", "combobox", "checkbox", "radio", "spinbutton", "table", "image", "navigation", "search", "heading"}


def console(report, room):
    pictures = pathlib.Path(os.environ["TRIAGE_SCREENSHOTS"]) if os.environ.get("TRIAGE_SCREENSHOTS") else room.path("pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Failed("the Python package playwright is not installed") from None
    if not os.access(CHROMIUM, os.X_OK):
        raise Failed(f"no {CHROMIUM}: install chromium, or set TRIAGE_CHROMIUM")
    child = room.triage(
        "demo", "--serve", "--http", "127.0.0.1:0", "-o", "json", "--events", "1500", "--persistent", "0.03",
        environment={"TRIAGE_JAEGER_URL": "http://jaeger.test:16686", "TRIAGE_GRAFANA_URL": "https://grafana.test"})
    wait_until("the summary is there", lambda: child.out().endswith("}\n") or not child.is_running(), 120)
    summary = parsed(child)
    wait_until("the address is the last line", lambda: len(re.findall(r"^Console: ", child.err(), re.MULTILINE)) == 2, 10)
    last = child.err().strip().splitlines()[-1]
    found = re.fullmatch(r"Console: (http://127\.0\.0\.1:(\d+))/console#token=([0-9a-f]{48})", last)
    if not report.check("demo --serve prints the console's address as its last line, with a token", found, last):
        return
    base, port, token = found.group(1), int(found.group(2)), found.group(3)
    brokers = re.search(r"^Broker:\s+(\S+)", child.err(), re.MULTILINE).group(1)
    guarded(report, port, base, token)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-lcd-text"])
        try:
            seen = looked_at(report, browser, base, token, summary, pictures)
            operated(report, browser, base, token, pictures, seen)
            without_script(report, browser, base, token, seen)
            other_page(report, room, browser, base, token)
        finally:
            browser.close()
    private(report, brokers, seen["texts"])
    report.check("nothing of a token is in what the service wrote after its start", child.err().count(token) == 2, child.err()[-500:])
    for picture in sorted(pictures.glob("*.png")):
        if picture.stat().st_size > MAXIMUM_PICTURE:
            report.check(f"{picture.name} has at most {MAXIMUM_PICTURE} bytes", False, picture.stat().st_size)


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


class Watched:
    """A page of which every request, complaint and text is noted."""

    def __init__(self, browser, base, **options):
        self.base = base
        self.context = browser.new_context(viewport=VIEW, **options)
        self.page = self.context.new_page()
        self.requests, self.complaints, self.texts = [], [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def go(self, path):
        answer = self.page.goto(self.base + "/console" + path)
        self.texts.append(self.page.content())
        return answer.status

    def strangers(self):
        return [url for url in self.requests if not url.startswith(self.base + "/")]


def looked_at(report, browser, base, token, summary, pictures):
    seen = {"texts": []}
    for scheme in ("light", "dark"):
        watched = Watched(browser, base, color_scheme=scheme)
        page = watched.page
        report.equal(f"{scheme}: the overview loads", watched.go(""), 200)
        report.check(f"{scheme}: nobody is signed in", "Read only" in page.inner_text("header"), page.inner_text("header"))
        page.wait_for_function("document.querySelector('[data-note]').textContent.startsWith('Updated')")
        first = page.get_attribute("[data-bars]", "aria-label")
        wait_until("the figures are renewed", lambda: page.get_attribute("[data-bars]", "aria-label") is not None and any(
            "/console/api/overview" in url for url in watched.requests), 15)
        report.check(f"{scheme}: the chart has a text", first.startswith("Events a second"), first)
        if scheme == "light":
            page.click("text=Pause updates")
            report.equal("updates can be paused", page.get_attribute("button[aria-pressed]", "aria-pressed"), "true")
        watched.go("/failures")
        if scheme == "light":
            rows = page.locator("table.groups tbody tr").count()
            counts = [int(text.replace(",", "")) for text in page.locator("table.groups tbody tr td:nth-child(3)").all_inner_texts()]
            report.check(f"the failing groups are shown: {rows}, together as many as were dead-lettered", sum(counts) == summary["dead_lettered"], counts)
            page.screenshot(path=pictures / "console-failures.png")
        watched.go("/dead-letters")
        letter = page.locator("tbody th a").first.get_attribute("href").removeprefix("/console")
        watched.go(letter)
        report.check(f"{scheme}: one dead letter shows its attempts and links to both back ends", all(
            page.locator(f"text={text}").count() for text in ("Attempts", "Jaeger", "Grafana")), page.inner_text("main")[:500])
        watched.go("/traces")
        report.check(f"{scheme}: failed events are listed", page.locator("table.failures tbody tr").count() > 5)
        page.locator("table.failures a").first.click()
        page.wait_for_selector("table.waterfall")
        bars = page.locator("table.waterfall .track > i").count()
        report.check(f"{scheme}: a waterfall opens, a row and a bar for each span: {bars}", bars == page.locator("table.waterfall tbody tr").count() > 2)
        watched.texts.append(page.content())
        if scheme == "dark":
            page.screenshot(path=pictures / "console-trace.png")
        trace = page.url.removeprefix(base + "/console")
        worst = []
        for path in PAGES + [letter, trace]:
            watched.go(path)
            found = page.evaluate(CONTRAST)
            worst += [(path, *each) for each in found["bad"]]
            if found["seen"] < 10:
                worst.append((path, "too few texts", found["seen"]))
        report.none(f"{scheme}: every text has a contrast of 4.5 to 1", worst)
        if scheme == "light":
            named(report, watched, PAGES + [letter, trace])
            focus(report, watched)
        report.none(f"{scheme}: nothing was asked of anybody else", watched.strangers())
        report.none(f"{scheme}: the browser complains of nothing, violations of the policy among it", watched.complaints)
        seen["texts"] += watched.texts
        watched.context.close()
    for path in ("/api/overview", "/api/groups", "/api/dead-letters?status=any&limit=1000", "/api/traces", "/api" + trace):
        status, headers, body = fetch(base + "/console" + path)
        report.check(f"{path} is JSON", status == 200 and json.loads(body) is not None and headers["Content-Type"] == "application/json")
        seen["texts"].append(body.decode())
    return seen


def named(report, watched, paths):
    nameless = []
    count = 0
    for path in paths:
        watched.go(path)
        session = watched.context.new_cdp_session(watched.page)
        for node in session.send("Accessibility.getFullAXTree")["nodes"]:
            role = node.get("role", {}).get("value")
            if node.get("ignored") or role not in NAMED:
                continue
            count += 1
            if not node.get("name", {}).get("value", "").strip():
                nameless.append((path, role))
        session.detach()
        marks = watched.page.evaluate("() => ['header', 'nav', 'main', 'h1'].filter((n) => document.querySelectorAll(n).length < 1)")
        if marks or watched.page.get_attribute("html", "lang") != "en":
            nameless.append((path, "landmarks", marks))
    report.none(f"each of {count} links, fields, tables and headings has a name, each page its landmarks", nameless)


def focus(report, watched):
    watched.go("/dead-letters")
    page = watched.page
    found = []
    for _ in range(14):
        page.keyboard.press("Tab")
        found.append(page.evaluate(FOCUSED))
    report.equal(
        "the keyboard goes through the page in its order", [each["what"] for each in found[:9]],
        ["A Skip to the content", "A Triage console", "A Overview", "A Failures", "A Dead letters", "A Traces", "A Actions", "A Sign in", "SELECT openreplayedcompletedfailed againdiscardedan"[:47]])
    report.none("what has the focus shows it", [each for each in found if not (each["outline"] and each["visible"])])
    page.keyboard.press("Home")
    watched.go("/dead-letters")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    report.equal("the skip link leads to the content", page.evaluate("document.activeElement.id"), "main")


def completed(base):
    text = fetch(base + "/metrics")[2].decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
               if line.startswith("triage_events_processed_total{") and 'triage_outcome="completed"' in line)


def operated(report, browser, base, token, pictures, seen):
    watched = Watched(browser, base, color_scheme="light")
    page = watched.page
    page.goto(f"{base}/console#token={token}")
    page.wait_for_selector("text=Sign out")
    report.check("the address' token signs in, and is out of the address at once", token not in page.url, page.url)
    cookies = watched.context.cookies()
    report.check(
        "one cookie, out of scripts' reach, for this site alone",
        [(c["httpOnly"], c["sameSite"], c["path"]) for c in cookies] == [(True, "Strict", "/console")], cookies)
    page.wait_for_function("document.querySelectorAll('[data-bars] > i:not(.h0)').length > 0")
    page.screenshot(path=pictures / "console-overview.png")
    watched.go("/dead-letters?class=transient")
    page.locator("tbody th a").first.click()
    letter = page.url.removeprefix(base + "/console/dead-letters/")
    page.screenshot(path=pictures / "console-dead-letter.png")
    watched.texts.append(page.content())
    before = completed(base)
    page.click("text=Replay…")
    page.fill("#reason", "the index answers again")
    page.screenshot(path=pictures / "console-replay.png")
    page.click("button.primary")
    page.wait_for_selector("text=1 dead letter replayed.")
    report.check("it is told by whom and why", "the index answers again" in page.inner_text("main"), page.inner_text("main"))
    watched.texts.append(page.content())
    wait_until("the replayed event is handled", lambda: completed(base) == before + 1, 30)
    report.check(f"a replay with the token: {letter} was replayed, and its event handled", True)

    def state():
        watched.go("/dead-letters/" + letter)
        return page.inner_text(".lead .pill")
    wait_until("its state says that it was completed", lambda: state() == "completed", 30)
    report.check("its page says by which group", "triage-demo" in page.inner_text("section[aria-labelledby=state]"))
    watched.go(f"/act?do=replay&id={letter}")
    page.click("button.primary")
    page.wait_for_selector("text=left alone")
    report.equal("a second replay does nothing", completed(base), before + 1)

    watched.go("/failures")
    row = page.locator("table.groups tbody tr", has_text="RejectedError")
    count = int(row.locator("td").nth(1).inner_text())
    row.locator("text=Replay").click()
    report.equal("of a group one is tried first unless another number is said", page.input_value("#canary"), "1")
    page.click("button.primary")
    page.wait_for_selector("text=Those tried first were completed.", timeout=60_000)
    report.check(f"a group is healed, one tried first: {count}", f"{count} dead letters replayed." in page.inner_text(".notice"))
    wait_until("all of them are handled", lambda: completed(base) == before + 1 + count, 30)
    watched.texts.append(page.content())

    watched.go("/failures")
    row = page.locator("table.groups tbody tr").last
    count = int(row.locator("td").nth(1).inner_text())
    row.locator("text=Discard").click()
    page.fill("#reason", "test data")
    page.click("button.primary")
    page.wait_for_selector("text=discarded.")
    report.check(f"a whole group is discarded: {count}", f"{count} dead letter" in page.inner_text(".notice"), page.inner_text("main"))
    watched.texts.append(page.content())
    watched.go("/dead-letters?status=discarded")
    report.check("it shows as discarded", page.inner_text("caption").startswith(f"1 to {count} of {count} dead letter"), page.inner_text("caption"))

    watched.go("/dead-letters")
    page.locator("tbody th a").first.click()
    with page.expect_response(lambda response: response.url.endswith("/reveal")) as answer:
        page.click("text=Reveal its content")
    page.wait_for_selector("text=This is patient data")
    report.equal("what is revealed isn't kept by the browser", answer.value.headers["cache-control"], "no-store")
    report.check("it is the event", "resourceType" in page.inner_text("main") or "PatientUpdated" in page.inner_text("main"))
    report.none("while operating: nothing was asked of anybody else", watched.strangers())
    report.none("while operating: the browser complains of nothing", watched.complaints)
    page.goto(base + "/console")
    page.click("text=Sign out")
    page.wait_for_selector("text=Sign in")
    seen["texts"] += watched.texts
    watched.context.close()


def without_script(report, browser, base, token, seen):
    watched = Watched(browser, base, java_script_enabled=False)
    page = watched.page
    watched.go("")
    report.check("without a script: the overview is whole", "Open dead letters" in page.inner_text("main") and page.locator("table.groups tbody tr").count())
    watched.go("/dead-letters?class=persistent")
    page.locator("tbody input[type=checkbox]").first.check()
    page.locator("tbody input[type=checkbox]").nth(1).check()
    page.click("text=Replay the chosen…")
    page.click("text=Sign in with the token")
    page.fill("#token", "wrong-token-of-some-length")
    page.click("button.primary")
    report.check("without a script: a wrong token is refused", "This token is wrong" in page.inner_text("[role=alert]"))
    page.fill("#token", token)
    page.fill("#name", "Ann")
    page.click("button.primary")
    report.check("without a script: after signing in the same page goes on", "Replay 2 dead letters" in page.inner_text("h1"), page.inner_text("main"))
    page.fill("#canary", "0")
    page.click("button.primary")
    report.check("without a script: two are replayed", "2 dead letters replayed." in page.inner_text("main"), page.inner_text("main"))
    report.check("without a script: by whom is said", "Ann (console)" in page.inner_text("main"))
    seen["texts"].append(page.content())
    watched.context.close()


def other_page(report, room, browser, base, token):
    """A page of the same machine, another port: the browser sends the cookie along, and the console refuses all the same."""
    form = f"""<!doctype html><title>x</title><form method=post action="{base}/console/act"><input name=do value=replay>
        <input name=fingerprint value=0000000000000000></form><script>document.forms[0].submit()</script>"""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(form.encode())

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    room.closers.append(lambda: (server.shutdown(), server.server_close()))
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{base}/console#token={token}")
    page.wait_for_selector("text=Sign out")
    with page.expect_response(lambda response: response.url == base + "/console/act") as answer:
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
    report.equal("a form on another page is refused, signed in as one may be", answer.value.status, 403)
    context.close()


def private(report, brokers, texts):
    """Nothing that a dead letter's key or value says is on any page that was looked at without revealing."""
    words = set()
    for topic in ("fhir.Patient.created.dlq", "fhir.Patient.updated.dlq", "fhir.Patient.deleted.dlq"):
        dump = subprocess.run(
            [on_path("kcat"), "-b", brokers, "-C", "-t", topic, "-e", "-q", "-f", "%k\n%s\n"], capture_output=True, timeout=60, check=True)
        text = dump.stdout.decode("utf-8", "replace")
        words |= set(re.findall(r'"(?:family|birthDate|value|city|id)":"([^"]{5,})"', text))
        words |= set(re.findall(r'"given":\["([^"]{5,})"', text))
        words |= {line for line in text.splitlines()[::2] if re.fullmatch(r"[0-9a-f-]{36}", line)}
    report.check(f"dead letters say {len(words)} words that no page may show", len(words) > 50)
    whole = "\n".join(texts)
    report.none(f"none of them is on {len(texts)} pages", [word for word in words if word in whole])


class Visitor:
    """Somebody without a browser: requests with a cookie, forms with their token."""

    def __init__(self, port):
        self.port, self.cookie = port, None

    def get(self, path):
        own = [("Host", f"localhost:{self.port}")] + ([("Cookie", self.cookie)] if self.cookie else [])
        return raw(self.port, "GET", "/console" + path, own)

    def post(self, path, **form):
        own = f"localhost:{self.port}"
        if self.cookie:
            form["form-token"] = re.search(r'name="form-token" value="([0-9a-f]+)"', self.get("")[2]).group(1)
        headers = [("Host", own), ("Origin", "http://" + own)] + ([("Cookie", self.cookie)] if self.cookie else [])
        status, answer, text = raw(self.port, "POST", "/console" + path, headers, urllib.parse.urlencode(form).encode())
        if "Set-Cookie" in answer:
            self.cookie = answer["Set-Cookie"].split(";")[0]
        return status, answer, text

    def letters(self, status):
        answer = json.loads(self.get(f"/api/dead-letters?status={status}&limit=1000")[2])
        return [letter["id"] for letter in answer["dead_letters"]] if answer["read_at"] else []


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
    status, headers, text = visitor.post(f"/dead-letters/{ids[0]}/reveal")
    report.equal("it is revealed, and not kept", (status, headers["Cache-Control"], "CANARY" in text), (200, "no-store", True))
    audits = [json.loads(m.value) for m in kcat.read("triage.dead-letters") if m.key and m.key.startswith(b"audit/")]
    report.check("that is on record", [(a["action"], a["by"], a["of"]) for a in audits] == [("reveal", "Ann (console)", [ids[0]])], audits)
    second.signal(signal.SIGTERM)
    report.equal("a clean stop", second.wait(60), 0)

    for flags, wanted in [(["--http", "0.0.0.0:0"], 404), (["--http", "0.0.0.0:0", "--console", "on"], 200), (["--console", "off"], 404)]:
        child, port = run(*flags)
        report.equal(f"run {' '.join(flags)}: /console", Visitor(port).get("")[0], wanted)
        child.signal(signal.SIGTERM)
        child.wait(60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Look at the console in a browser.")
    parser.add_argument("--screenshots", metavar="DIR", help="where the pictures go; they are thrown away without it")
    arguments = parser.parse_args()
    if arguments.screenshots:
        os.environ["TRIAGE_SCREENSHOTS"] = str(pathlib.Path(arguments.screenshots).absolute())
    REPORT = Report()
    REPORT.run("console", console)
    if not arguments.screenshots:
        REPORT.run("console-run", console_run)
    sys.exit(1 if REPORT.failures else 0)
