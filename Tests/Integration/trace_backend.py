"""Stands in for Jaeger's query service and for Tempo: serves what a collector of ours was sent, in the shapes of their APIs.

The shapes are those of Jaeger 2's `GET /api/traces/ID` and of Tempo 2's `GET /api/v2/traces/ID` and `GET /api/traces/ID`, whose ids are Base64
as in proto3's JSON mapping. No real back end is installed here.
"""

import http.server
import json
import re
import threading

from google.protobuf.json_format import MessageToDict

from spans import decoded, spans_of


class TraceBackend:
    """`kind` is jaeger, tempo, or old-tempo, which doesn't know v2. `mode` may be ok, 500, garbage or refuse (401 without the token)."""

    def __init__(self, collector, kind, mode="ok", token=None):
        self.collector = collector
        self.kind = kind
        self.mode = mode
        self.token = token
        self.asked = []
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                backend.serve(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def serve(self, request):
        self.asked.append(request.path)
        if self.mode == "500":
            return self.answer(request, 500, {"errors": [{"msg": "CANARY of the back end"}]})
        if self.mode == "garbage":
            return self.answer(request, 200, "<html>CANARY of a login page</html>")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return self.answer(request, 401, "no")
        found = re.fullmatch(r"/api/(v2/)?traces/([0-9a-f]{32})", request.path)
        if not found or (found[1] and self.kind != "tempo"):
            return self.answer(request, 404, "404 page not found")
        document = self.jaeger(found[2]) if self.kind == "jaeger" else self.tempo(found[2], bool(found[1]))
        if document is None:
            return self.answer(request, 404, {"errors": [{"code": 404, "msg": "trace not found"}]})
        return self.answer(request, 200, document)

    @staticmethod
    def answer(request, status, document):
        body = document.encode() if isinstance(document, str) else json.dumps(document).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def jaeger(self, trace):
        spans = [span for span in spans_of(self.collector.traces()) if span["traceId"] == trace]
        if not spans:
            return None
        processes = {"p1": {"serviceName": spans[0]["resource"].get("service.name", ""), "tags": tags(spans[0]["resource"])}}
        return {"data": [{"traceID": trace, "spans": [jaeger_span(span) for span in spans], "processes": processes, "warnings": None}],
                "total": 0, "limit": 0, "offset": 0, "errors": None}

    def tempo(self, trace, is_second):
        batches = []
        for request in decoded(self.collector.traces()):
            for resource in MessageToDict(request).get("resourceSpans", []):
                for scope in resource.get("scopeSpans", []):
                    scope["spans"] = [span for span in scope.get("spans", []) if same(span["traceId"], trace)]
                resource["scopeSpans"] = [scope for scope in resource["scopeSpans"] if scope["spans"]]
                if resource["scopeSpans"]:
                    batches.append(resource)
        if is_second:
            return {"trace": {"resourceSpans": batches}, "metrics": {}} if batches else {"trace": {}, "metrics": {}}
        return {"batches": batches} if batches else None


def same(encoded, trace):
    import base64
    return base64.b64decode(encoded).hex() == trace


def tags(attributes):
    names = {str: "string", bool: "bool", int: "int64", float: "float64"}
    return [{"key": key, "type": names.get(type(value), "string"), "value": value if type(value) in names else json.dumps(value)}
            for key, value in attributes.items()]


def jaeger_span(span):
    """As Jaeger translates OTLP: kind, status and scope are tags, links FOLLOWS_FROM; one to the parent is folded into its reference."""
    own = dict(span["attributes"])
    own["span.kind"] = span["kind"].lower()
    own["otel.scope.name"] = span["scope"]["name"]
    if span["status"]["code"] == "ERROR":
        own |= {"otel.status_code": "ERROR", "error": True, "otel.status_description": span["status"]["message"]}
    references = []
    links = [(link["traceId"], link["spanId"]) for link in span["links"]]
    parent = (span["traceId"], span["parentSpanId"]) if span["parentSpanId"] else None
    if parent and parent not in links:
        references.append({"refType": "CHILD_OF", "traceID": parent[0], "spanID": parent[1]})
    references += [{"refType": "FOLLOWS_FROM", "traceID": trace, "spanID": identifier} for trace, identifier in links]
    return {
        "traceID": span["traceId"], "spanID": span["spanId"], "operationName": span["name"], "references": references,
        "startTime": span["start"] // 1000, "duration": (span["end"] - span["start"]) // 1000, "tags": tags(own),
        "logs": [{"timestamp": event["time"] // 1000, "fields": [{"key": "event", "type": "string", "value": event["name"]}] + tags(event["attributes"])}
                 for event in span["events"]],
        "processID": "p1", "warnings": None,
    }
