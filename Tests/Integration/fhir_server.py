"""A real FHIR server, and a receiver of what is delivered."""

import http.server
import json
import pathlib
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

from harness import Failed, accepts, clean_environment, free_port, wait_until

CONTENT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content"
PATIENT_TOPIC = "http://sekmet.dev/fhir/SubscriptionTopic/patient-change"
FHIR = "application/fhir+json"


class FHIRServer:
    """sekmet, with bearer tokens; its rest-hooks PUT the resource to ENDPOINT/Patient/ID, or POST it to ENDPOINT."""

    TOKEN = "fhir-server-token-0123456789"

    def __init__(self, room, notify="put-resource"):
        program = pathlib.Path(sys.executable).parent / "sekmet"
        if not program.exists():
            raise Failed("sekmet is not installed")
        port = free_port()
        self.base = f"http://127.0.0.1:{port}/fhir"
        directory = room.path(f"sekmet-{port}")
        directory.mkdir()
        settings = directory / "settings.yaml"
        settings.write_text(json.dumps({
            "base_url": self.base, "host": "127.0.0.1", "port": port, "data_dir": str(directory / "data"),
            "server_auth": {"types": ["bearer"], "tokens": [self.TOKEN]},
            "subscriptions": {"notify_method": notify, "retries": 3}, "simulator": {"enabled": False},
            "own_private_key_path": str(directory / "private.pem"),
        }))
        self.child = room.start(
            "sekmet", [str(program), "serve", "--config", str(settings), "--host", "127.0.0.1", "--port", str(port)],
            clean_environment({"SEKMET_CONFIG": str(settings)}))
        wait_until("sekmet listens", lambda: not self.child.is_running() or accepts(port), 60)
        if not self.child.is_running():
            raise Failed(f"sekmet ends: {self.child.err()[-1000:]}")

    def call(self, method, path, body=None, headers=None, expected=(200, 201, 204)):
        """Status, headers and JSON of an answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.base}/{path}", data=data, method=method,
            headers={"Authorization": f"Bearer {self.TOKEN}", "Content-Type": FHIR, **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, found, text = answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            status, found, text = error.code, dict(error.headers), error.read()
        if expected and status not in expected:
            raise Failed(f"the FHIR server answers {method} {path.split('?')[0]} with {status}: {text[:300]!r}")
        return status, found, json.loads(text) if text.strip() else None

    def create(self, patient, headers=None):
        return self.call("POST", "Patient", patient, headers)[2]

    def subscribe(self, endpoint, content="full-resource", headers=()):
        """A topic subscription of the backport guide, active once the handshake was accepted."""
        return self.active({
            "resourceType": "Subscription", "status": "requested", "reason": "patients", "criteria": PATIENT_TOPIC,
            "channel": {
                "type": "rest-hook", "endpoint": endpoint, "payload": FHIR, "header": list(headers),
                "_payload": {"extension": [{"url": CONTENT, "valueCode": content}]},
            },
        })

    def subscribe_classic(self, endpoint, payload=FHIR, headers=()):
        """A rest-hook of R4; without payload it is notified by an empty POST."""
        channel = {"type": "rest-hook", "endpoint": endpoint, "header": list(headers)}
        if payload:
            channel["payload"] = payload
        return self.active({
            "resourceType": "Subscription", "status": "requested", "reason": "patients", "criteria": "Patient?",
            "channel": channel,
        })

    def active(self, subscription):
        made = self.call("POST", "Subscription", subscription)[2]

        def status():
            found = self.call("GET", f"Subscription/{made['id']}")[2]
            if found["status"] == "error":
                raise Failed(f"the subscription failed: {found.get('error')}")
            return found if found["status"] == "active" else None

        return wait_until("the subscription is active", status, 30)

    def count(self, query):
        return self.call("GET", f"Patient?{query}&_summary=count")[2]["total"]


class Delivered:
    """A request that a receiver took: `at` is when it had come whole, `peer` the port of the connection that it came on."""

    def __init__(self, request, body):
        self.at = time.time()
        self.method = request.command
        self.target = request.path
        self.peer = request.client_address[1]
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        self.body = body


class Receiver:
    """Takes what is delivered and keeps it; answers by `script`, then 200.

    The script is a list of (status, headers); bytes are sent as they are and end the connection, so CUT ends it without an answer, and HANG
    never answers. `go_down` closes its port, `come_up` opens the same one again.
    """

    CUT, HANG = b"", None

    def __init__(self):
        self.requests = []
        self.script = []
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.connections = set()
        self.accepted = 0
        self.port = 0
        self.server = None
        self.come_up()
        self.url = f"http://127.0.0.1:{self.port}/events"

    def come_up(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def setup(self):
                super().setup()
                with receiver.lock:
                    receiver.accepted += 1
                    receiver.connections.add(self.connection)

            def finish(self):
                with receiver.lock:
                    receiver.connections.discard(self.connection)
                super().finish()

            def do_POST(self):
                receiver.serve(self)

            do_GET = do_HEAD = do_PUT = do_POST

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """A connection that we cut, or that the sender gave up: what the test is about."""

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def serve(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        with self.lock:
            self.requests.append(Delivered(request, body))
            answer = self.script.pop(0) if self.script else (200, {})
        if answer is self.HANG:
            self.ended.wait(600)
        if answer is self.HANG or isinstance(answer, bytes):
            request.close_connection = True
            request.wfile.write(answer or b"")
            return
        status, headers = answer
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def go_down(self):
        """Nobody listens any more, and connections that were open are cut."""
        if self.server is None:
            return
        self.server.shutdown()
        self.server.server_close()
        self.server = None
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.ended.set()
        self.go_down()

    def delivered(self):
        """Each request, in the order in which they came."""
        with self.lock:
            return list(self.requests)

    def taken(self):
        """Header fields and body of each request."""
        return [(request.headers, request.body) for request in self.delivered()]
