"""Pages of the console in headless Chromium: what they ask for, what the browser complains of, what is accessible."""

import os

CHROMIUM = os.environ.get("TRIAGE_CHROMIUM", "/usr/bin/chromium")
VIEW = {"width": 1120, "height": 780}

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
