"""A collector that keeps what it is sent, and can be as bad as real ones are on a bad day."""

import http.server
import socket
import threading
import time


class Collector:
    """Listens on 127.0.0.1 and keeps the raw bodies of /v1/traces, /v1/metrics and /v1/logs that it answered with 200.

    With a `tls` context it speaks TLS. `go_down` closes its port, `come_up` opens the same one again.

    Modes: `ok`; `slow` answers after `delay` seconds; `500` refuses all; `garbage` answers 200 with bytes that are no
    response; `hang` reads the request and never answers; `503-then-ok` refuses the first `refusals` requests of each path.
    """

    MODES = ("ok", "slow", "500", "garbage", "hang", "503-then-ok")

    def __init__(self, mode="ok", delay=1.0, refusals=2, tls=None):
        if mode not in Collector.MODES:
            raise ValueError(mode)
        self.mode = mode
        self.delay = delay
        self.refusals = refusals
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.bodies = {"/v1/traces": [], "/v1/metrics": [], "/v1/logs": []}
        self.requests = {}
        self.headers = []
        self.tls = tls
        self.port = 0
        self.server = None
        self.connections = set()
        self.come_up()

    def come_up(self):
        """Listens, on the port it had before if it had one."""
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def setup(self):
                if collector.tls:
                    self.request = collector.tls.wrap_socket(self.request, server_side=True)
                super().setup()
                with collector.lock:
                    collector.connections.add(self.connection)

            def finish(self):
                with collector.lock:
                    collector.connections.discard(self.connection)
                super().finish()

            def do_POST(self):
                collector.serve(self)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """A handshake that fails, or a connection that we closed: what the test is about."""

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def go_down(self):
        """Nobody listens any more, and connections that were open are cut."""
        if self.server is None:
            return
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(timeout=5)
        self.server = None
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @property
    def endpoint(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def environment(self, **more):
        """The variables that make a program export here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, **more}

    def traces(self):
        with self.lock:
            return list(self.bodies["/v1/traces"])

    def metrics(self):
        with self.lock:
            return list(self.bodies["/v1/metrics"])

    def logs(self):
        with self.lock:
            return list(self.bodies["/v1/logs"])

    def everything(self):
        """All bodies of all signals."""
        with self.lock:
            return [body for bodies in self.bodies.values() for body in bodies]

    def request_count(self):
        with self.lock:
            return sum(self.requests.values())

    def close(self):
        self.ended.set()
        self.go_down()

    def serve(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        with self.lock:
            number = self.requests.get(request.path, 0)
            self.requests[request.path] = number + 1
            self.headers.append(dict(request.headers))
        if request.path not in self.bodies:
            return self.answer(request, 404)
        if self.mode == "hang":
            self.ended.wait(600)
            request.close_connection = True
            return None
        if self.mode == "slow":
            time.sleep(self.delay)
        if self.mode == "500":
            return self.answer(request, 500)
        if self.mode == "503-then-ok" and number < self.refusals:
            return self.answer(request, 503, {"Retry-After": "1"})
        with self.lock:
            self.bodies[request.path].append(body)
        # An empty body is the success response of both services: all its fields have their default.
        return self.answer(request, 200, body=b"\xff\xfe not a response \x00\x01" if self.mode == "garbage" else b"")

    @staticmethod
    def answer(request, status, headers=None, body=b""):
        try:
            request.send_response(status)
            request.send_header("Content-Type", "application/x-protobuf")
            request.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(body)
        except OSError:
            request.close_connection = True
