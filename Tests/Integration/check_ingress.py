"""The server that others send to under attack: slow, endless, compressed and smuggled requests, and very many of them.

What is measured is whether other clients are served meanwhile, whether memory stays bounded, and whether anything reaches Kafka that
was not acknowledged. A route under attack is a `Target`.
"""

import concurrent.futures
import dataclasses
import gzip
import json
import re
import socket
import ssl
import threading
import time
import urllib.request
import uuid

from certificates import Authority
from harness import Failed, wait_until
from parts import Kcat, real_broker

TOKEN = "command-token-0123456789"
SLOW_CLIENTS = 200
CONNECTIONS = 10_000
# A service that has taken all that is thrown at it here: bodies in memory are bounded by 64 MiB, connections by 1,024.
MEMORY_KIB = 400 * 1024
ACCESS_LINE = re.compile(
    r"(GET|POST|_OTHER) (/commands|/webhooks/fhir|-) [1-5]\d\d in \d+ out \d+ \d+\.\d ms(\s+(trace_id|span_id|trace_flags)=[0-9a-f]+)*$")


@dataclasses.dataclass
class Target:
    """A route: what is sent to it, what says that it took it, and where that ends up."""

    path: str
    topic: str
    accepted: int
    token: str

    def body(self, identifier):
        """A request's body that becomes one record, which names `identifier`."""
        return json.dumps({
            "type": "CreatePatient", "data": {"resourceType": "Patient", "active": True},
            "metadata": {"requestId": identifier},
        }).encode()

    def identifier(self, message):
        """What a record names."""
        return json.loads(message.value)["metadata"]["requestId"]

    def head(self, *fields, method="POST"):
        lines = [f"{method} {self.path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.token}",
                 "Content-Type: application/fhir+json", *fields, "", ""]
        return "\r\n".join(lines).encode()

    def request(self, identifier, *fields):
        body = self.body(identifier)
        return self.head(f"Content-Length: {len(body)}", *fields) + body


class Webhook(Target):
    """A Patient as a subscription of R4 sends it."""

    def body(self, identifier):
        return json.dumps(
            {"resourceType": "Patient", "id": identifier, "meta": {"versionId": "1"}, "active": True}).encode()

    def identifier(self, message):
        return json.loads(message.value)["data"]["id"]


COMMANDS = Target("/commands", "fhir.commands", 202, TOKEN)
WEBHOOKS = Webhook("/webhooks/fhir", "fhir.Patient.created", 200, TOKEN)


def connect(port, seconds=20):
    client = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def answer(client):
    """The next answer's status and whether it says that the connection ends; None at the connection's end."""
    head = b""
    try:
        while not head.endswith(b"\r\n\r\n"):
            byte = client.recv(1)
            if not byte:
                return None
            head += byte
        lines = head.decode("latin-1").split("\r\n")
        fields = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines[1:] if ":" in line}
        length = int(fields.get("content-length", 0))
        while length > 0:
            length -= len(client.recv(length)) or length
        return int(lines[0].split()[1]), fields.get("connection") == "close"
    except (ConnectionError, TimeoutError):
        return None


def ask(port, data):
    """Sends bytes on a connection of their own; the status of the first answer."""
    with connect(port) as client:
        try:
            client.sendall(data)
        except ConnectionError:
            pass
        found = answer(client)
        return found and found[0]


def peak_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])


def serve(room, brokers, *arguments, name="run"):
    token = room.path("token")
    token.write_text(TOKEN + "\n")
    child = room.triage(
        "run", "-b", brokers, "--group", "ingress", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0",
        "--accept-commands", "--command-token-file", str(token), "--webhooks", "--webhook-token-file", str(token), "--no-events",
        "--log-level", "info", *arguments, name=name)

    def port():
        if not child.is_running():
            raise Failed(f"it ends with {child.process.returncode}: {child.err()[-1500:]}")
        line = next((line for line in child.err().splitlines() if "webhooks and commands: " in line), None)
        return line and int(line.rsplit(":", 1)[1].split()[0])

    return child, wait_until("it says where it listens", port, 60)


class Others:
    """A client that sends one request after the other while something else goes on, and notes how long each takes."""

    def __init__(self, port, target):
        self.port = port
        self.target = target
        self.sent = []
        self.taken = []
        self.seconds = []
        self.is_over = False
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.is_over:
            identifier = str(uuid.uuid4())
            self.sent.append(identifier)
            begin = time.monotonic()
            if ask(self.port, self.target.request(identifier)) == self.target.accepted:
                self.taken.append(identifier)
            self.seconds.append(time.monotonic() - begin)
            time.sleep(0.02)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join()

    def check(self, report, what):
        slowest = max(self.seconds, default=99)
        report.check(f"others are served meanwhile: {what}", self.taken and len(self.taken) == len(self.sent) and slowest < 5,
                     f"{len(self.taken)} of {len(self.sent)}, slowest {slowest:.2f} s")
        report.note(f"{len(self.taken)} requests of others, slowest {slowest * 1000:.0f} ms")
        return self.taken


def trickle(port, first, seconds):
    """Sends `first`, then a byte every 100 ms, until an answer comes or the connection ends; the status and how long it took."""
    begin = time.monotonic()
    with connect(port) as client:
        client.sendall(first)
        client.settimeout(0.1)
        while time.monotonic() - begin < seconds:
            try:
                if not client.recv(1, socket.MSG_PEEK):
                    return None, time.monotonic() - begin
                client.settimeout(5)
                found = answer(client)
                return found and found[0], time.monotonic() - begin
            except TimeoutError:
                try:
                    client.sendall(b"a")
                except ConnectionError:
                    pass
            except ConnectionError:
                return None, time.monotonic() - begin
    return "still open", time.monotonic() - begin


def slow(report, port, target):
    """Heads, bodies and silence, trickled by many at once, end by the clock alone."""
    firsts = [
        f"POST {target.path} HTTP/1.1\r\nX: ".encode(), target.head("Content-Length: 1000"),
        target.head("Transfer-Encoding: chunked") + b"3e8\r\n", b"",
    ]
    with Others(port, target) as others, concurrent.futures.ThreadPoolExecutor(SLOW_CLIENTS) as pool:
        ends = list(pool.map(lambda index: trickle(port, firsts[index % len(firsts)], 30), range(SLOW_CLIENTS)))
    statuses = sorted({str(status) for status, _ in ends})
    report.check(f"{SLOW_CLIENTS} slow clients end with 408, or without an answer if they sent no line",
                 set(statuses) <= {"408", "400", "None"} and "408" in statuses, statuses)
    report.check("none lasts much longer than its limit", max(seconds for _, seconds in ends) < 15,
                 max(seconds for _, seconds in ends))
    return others.check(report, "while many are slow")


def endless(report, port, target):
    """A body of 1 GiB, declared, chunked, and more of it than was declared."""
    piece = b"a" * (1 << 16)

    def send(head, wrap):
        sent = 0
        with connect(port) as client:
            try:
                client.sendall(head)
                while sent < 1 << 30:
                    client.sendall(wrap(piece))
                    sent += len(piece)
            except OSError:
                pass
            return sent, answer(client)

    with Others(port, target) as others:
        for name, head, wrap in (
            ("declared", target.head("Content-Length: 1073741824"), lambda bytes: bytes),
            ("chunked", target.head("Transfer-Encoding: chunked"), lambda bytes: b"10000\r\n" + bytes + b"\r\n"),
        ):
            sent, found = send(head, wrap)
            report.check(f"1 GiB {name} is not read to its end", sent < 200 << 20, f"{sent} bytes were taken")
            report.check(f"1 GiB {name}: 413, or the connection ends", found is None or found[0] == 413, found)
        report.equal("a body that is too long is refused by its head alone", ask(port, target.head("Content-Length: 1073741824")), 413)
        report.equal(
            "a chunk that is announced as too long is refused before it comes",
            ask(port, target.head("Transfer-Encoding: chunked") + b"40000000\r\n"), 413)
        bomb = gzip.compress(b"0" * (32 << 20))
        report.equal("a gzip bomb", ask(port, target.head(f"Content-Length: {len(bomb)}", "Content-Encoding: gzip") + bomb), 415)
    return others.check(report, "while bodies are endless")


def smuggled(report, port, target):
    """Requests that two servers could read in two ways: refused, and nothing behind them is read."""
    hidden = [str(uuid.uuid4()) for _ in range(20)]
    inner = iter(hidden)
    attacks = {
        "Content-Length, then chunked": lambda: target.head("Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        "chunked, then Content-Length": lambda: target.head("Transfer-Encoding: chunked", "Content-Length: 4") + b"0\r\n\r\n",
        "two lengths": lambda: target.head("Content-Length: 0", "Content-Length: 44"),
        "a length twice": lambda: target.head("Content-Length: 0", "Content-Length: 0"),
        "a coding that hides": lambda: target.head("Transfer-Encoding: xchunked"),
        "a coding after a tab": lambda: target.head("Transfer-Encoding:\tchunked, identity") + b"0\r\n\r\n",
        "a name with a space": lambda: target.head("Content-Length : 0"),
        "a folded line": lambda: target.head("X: a\r\n Content-Length: 0"),
        "a bare line feed": lambda: target.head("X: a\nContent-Length: 0"),
        "a length with a sign": lambda: target.head("Content-Length: +0"),
        "two hosts": lambda: target.head("Host: y", "Content-Length: 0"),
        "no method": lambda: b"\x00\x01\x02 / HTTP/1.1\r\n\r\n",
        "a wrong chunk": lambda: target.head("Transfer-Encoding: chunked") + b"-1\r\n\r\n",
    }
    for name, make in attacks.items():
        with connect(port) as client:
            try:
                client.sendall(make() + target.request(next(inner)))
            except ConnectionError:
                pass
            first = answer(client)
            second = answer(client) if first else None
            report.check(f"{name}: refused, and the connection ends",
                         (first is None or 400 <= first[0] <= 501 and first[0] != 404) and second is None, (first, second))
    return hidden


def pipelined(report, port, target):
    """Requests sent at once on one connection are answered in order, each once."""
    names = [str(uuid.uuid4()) for _ in range(50)]
    with connect(port) as client:
        client.sendall(b"".join(target.request(name) for name in names) + b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        found = [answer(client) for _ in range(len(names) + 1)]
    report.equal("50 pipelined requests", [one and one[0] for one in found], [target.accepted] * 50 + [404])
    return names


def many(report, port, target):
    """10,000 connections in turn, some of which say nothing at all."""
    def one(index):
        if index % 10 == 0:
            identifier = str(uuid.uuid4())
            return ask(port, target.request(identifier)) == target.accepted, identifier
        with connect(port) as client:
            if index % 10 < 5:
                return True, None
            client.sendall(b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return answer(client) is not None, None

    begin = time.monotonic()
    with Others(port, target) as others, concurrent.futures.ThreadPoolExecutor(16) as pool:
        results = list(pool.map(one, range(CONNECTIONS)))
    report.check(f"{CONNECTIONS} connections in turn", all(served for served, _ in results),
                 f"{sum(not served for served, _ in results)} were not served")
    report.note(f"{CONNECTIONS / (time.monotonic() - begin):.0f} connections a second")
    return [name for _, name in results if name] + others.check(report, "while very many come")


def ingress(report, room):
    """The server under attack, with Kafka behind it."""
    brokers = real_broker(room)
    room.finish("topics", "create", "-b", brokers, "--partitions", "1")
    service, port = serve(room, brokers, "--listen-header-timeout", "3s", "--listen-body-timeout", "4s")
    before = peak_kib(service.pid)
    acknowledged = 0
    for target in (WEBHOOKS, COMMANDS):
        report.note(target.path)
        taken = [str(uuid.uuid4())]
        report.equal(f"{target.path}: an ordinary request", ask(port, target.request(taken[0])), target.accepted)
        hidden = smuggled(report, port, target)
        taken += pipelined(report, port, target)
        taken += slow(report, port, target)
        taken += endless(report, port, target)
        taken += many(report, port, target)
        found = [target.identifier(message) for message in Kcat(brokers).read(target.topic)]
        report.equal("every acknowledged request is in Kafka", set(taken) - set(found), set())
        report.equal("nothing else is", set(found) - set(taken), set())
        report.equal("nothing twice", len(found), len(set(found)))
        report.equal("nothing that was smuggled", set(hidden) & set(found), set())
        acknowledged += len(taken)
    peak = peak_kib(service.pid)
    report.note(f"VmHWM {before // 1024} MiB before, {peak // 1024} MiB after")
    report.check(f"memory stays under {MEMORY_KIB // 1024} MiB", peak < MEMORY_KIB, f"{peak} KiB")
    log = service.err()
    counted = sum(log.count(f"POST {target.path} {target.accepted}") for target in (WEBHOOKS, COMMANDS))
    report.equal("lines of the access log for what was acknowledged", counted, acknowledged)
    lines = [line for line in log.splitlines() if " in " in line and " out " in line]
    report.none("the access log says nothing but method, route, status, sizes, time and trace",
                [line for line in lines if not ACCESS_LINE.search(line)])
    report.none("the log names nobody", [word for word in (taken[0], taken[-1], TOKEN, "nowhere") if word in log])

    # A stop lets what is open end.
    with connect(port) as client:
        identifier = str(uuid.uuid4())
        request = COMMANDS.request(identifier)
        client.sendall(request[:-5])
        time.sleep(0.3)
        service.process.terminate()
        time.sleep(0.3)
        client.sendall(request[-5:])
        found = answer(client)
    report.equal("a request that was open when the service was stopped", found and found[0], COMMANDS.accepted)
    report.equal("the service ends", service.wait(40), 0)


def ingress_tls(report, room):
    """TLS from 1.2 on; what can't be used for it, or would be open to everyone, is refused at the start."""
    brokers = real_broker(room)
    authority = Authority(room, "ingress")
    certificate, key = authority.issue("server", "IP:127.0.0.1")
    service, port = serve(room, brokers, "--listen-certificate", certificate, "--listen-key", key)
    trusting = ssl.create_default_context(cafile=authority.certificate)
    identifier = str(uuid.uuid4())
    request = urllib.request.Request(
        f"https://127.0.0.1:{port}/commands", data=COMMANDS.body(identifier), method="POST",
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20, context=trusting) as found:
        report.equal("a command over TLS", found.status, 202)
    for version, name in ((ssl.TLSVersion.TLSv1_2, "TLS 1.2"), (ssl.TLSVersion.TLSv1_3, "TLS 1.3")):
        context = ssl.create_default_context(cafile=authority.certificate)
        context.minimum_version = context.maximum_version = version
        with connect(port) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
            report.equal(name, client.version(), name.replace(" ", "v"))
            client.sendall(COMMANDS.head("Content-Length: 1073741824"))
            report.equal(f"413 over {name}", answer(client), (413, True))
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        with connect(port) as plain, old.wrap_socket(plain) as client:
            report.check("TLS 1.1 is refused", False, client.version())
    except (ssl.SSLError, ConnectionError):
        report.check("TLS 1.1 is refused", True)
    report.equal("plain HTTP on the TLS port has no answer", ask(port, COMMANDS.request(str(uuid.uuid4()))), None)
    service.end()

    other, _ = Authority(room, "other").issue("server", "IP:127.0.0.1")
    token = str(room.path("token"))
    for what, key_named, arguments in (
        ("a key of another certificate", "listen-key", ["--listen-certificate", other, "--listen-key", key]),
        ("a certificate without a key", "listen-key", ["--listen-certificate", certificate]),
        ("a token file that isn't there", "command-token-file", ["--command-token-file", "/nowhere"]),
        ("an open route beyond loopback", "command-token-file", ["--listen", "0.0.0.0:0"]),
    ):
        refused = room.finish("run", "-b", brokers, "--http", "off", "--accept-commands", *arguments, seconds=30)
        report.equal(f"{what} ends it", refused.process.returncode, 64)
        report.check(f"{what} is named", key_named in refused.err(), refused.err())
    report.check("the token itself is never shown", all(TOKEN not in child.err() for child in room.children), token)
