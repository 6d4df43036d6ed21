#!/usr/bin/env python3
"""The console of `triage demo --serve` in headless Chromium: pages, a replay with and without the token, what is accessible, what is not.

    check_console.py --screenshots DIR      the group alone; the pages' pictures go to DIR, as the documentation shows them
"""

import argparse
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import threading

from check_console_run import console_run
from console_browser import CHROMIUM, CONTRAST, Watched, focus, named
from console_visitor import guarded
from harness import Failed, Report, fetch, parsed, wait_until
from parts import on_path

MAXIMUM_PICTURE = 150_000
PAGES = ["", "/failures", "/dead-letters", "/dead-letters?status=any", "/traces", "/actions", "/login", "/act?do=replay&id=a.dlq/0/0"]

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


def looked_at(report, browser, base, token, summary, pictures):
    seen = {"texts": []}
    for scheme in ("light", "dark"):
        watched = Watched(browser, base, color_scheme=scheme)
        page = watched.page
        report.equal(f"{scheme}: the overview loads", watched.go(""), 200)
        report.check(f"{scheme}: nobody is signed in", "Read only" in page.inner_text("header"), page.inner_text("header"))
        page.wait_for_function("document.querySelector('[data-note]').textContent.startsWith('Updated')")
        first = page.get_attribute("[data-bars]", "aria-label")
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
    looker = Watched(browser, base)
    looker.go("")
    figure = looker.page.inner_text("[data-field=handled]")
    report.equal("the overview says what the metrics say", figure, f"{before:,.0f} completed since the start")
    page.click("text=Replay…")
    page.fill("#reason", "the index answers again")
    page.screenshot(path=pictures / "console-replay.png")
    page.click("button.primary")
    page.wait_for_selector("text=1 dead letter replayed.")
    report.check("it is told by whom and why", "the index answers again" in page.inner_text("main"), page.inner_text("main"))
    watched.texts.append(page.content())
    wait_until("the replayed event is handled", lambda: completed(base) == before + 1, 30)
    report.check(f"a replay with the token: {letter} was replayed, and its event handled", True)
    looker.page.wait_for_function("text => document.querySelector('[data-field=handled]').textContent !== text", arg=figure, timeout=15_000)
    report.equal(
        "a page that was open all the while shows it", looker.page.inner_text("[data-field=handled]"), f"{before + 1:,.0f} completed since the start")
    report.equal("it was never loaded again", looker.requests.count(base + "/console"), 1)
    looker.go("/actions")
    told = looker.page.inner_text("main")
    looker.page.click("tbody th a")
    told += looker.page.inner_text("main")
    report.check("who did it and why shows to nobody who hasn't signed in", "the index answers" not in told and "signed in" in told, told)
    looker.context.close()

    def state():
        watched.go("/dead-letters/" + letter)
        return page.inner_text(".lead .pill")
    wait_until("its state says that it was completed", lambda: state() == "completed", 30)
    report.check("its page says by which group", "triage-demo" in page.inner_text("section[aria-labelledby=state]"))
    watched.go(f"/act?do=replay&id={letter}")
    page.click("button.primary")
    page.wait_for_selector("text=left alone")
    report.equal("a second replay does nothing", completed(base), before + 1)
    page.goto(f"{base}/console/act?do=replay&id={letter}")
    page.click("text=Change it first")
    page.fill("#patch", '[{"op":"add","path":"/data/active","value":true},{"op":"add","path":"/active","value":true}]')
    for node in (page.get_by_role("textbox", name="JSON patch (RFC 6902)"), page.get_by_role("checkbox", name="Also what isn't open")):
        report.equal("fields of a replay have names", node.count(), 1)
    page.check("#force")
    report.none("the form's contrast", page.evaluate(CONTRAST)["bad"])
    page.click("text=Preview the change")
    page.wait_for_selector("text=Nothing was done yet")
    report.check("a patch is previewed by its paths, and what was filled in stays", page.is_checked("#force") and "active" in page.inner_text("tbody"))
    report.equal("a preview does nothing", completed(base), before + 1)
    watched.texts.append(page.content())

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
    page.locator("tbody input[type=checkbox]").first.check()
    page.click("text=Export the chosen…")
    report.none("the export page's contrast", page.evaluate(CONTRAST)["bad"])
    with page.expect_download() as download:
        page.click("button.danger")
    report.equal("an export is a file to be saved", download.value.suggested_filename, "dead-letters.ndjson")
    report.check("it has the dead letter's line", json.loads(pathlib.Path(download.value.path()).read_text())["key"])
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
