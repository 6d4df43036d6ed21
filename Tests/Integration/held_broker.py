"""Stands between a client and a broker, and stops one request or answer, so that a client can be killed at a known place."""

import socket
import struct
import threading

from harness import Failed

# Numbers of Kafka's protocol (https://kafka.apache.org/protocol, "Api Keys").
PRODUCE = 0
END_TRANSACTION = 26


class HeldBroker:
    """A broker's other address: what goes through it goes on unchanged, but brokers name this address as their own.

    It watches a transaction that writes to `topic`, and holds, for ever, what `hold` names:
    `state`: the first request behind it that writes to another topic; `commit`: the request that ends the transaction;
    `answer`: what the broker says to that request.
    """

    def __init__(self, room, broker, topic, hold):
        self.host, port = broker.rsplit(":", 1)
        self.port = int(port)
        self.topic, self.hold = topic, hold
        self.held = threading.Event()
        self.begun = False
        self.waiting = set()
        self.sockets = []
        self.lock = threading.Lock()
        self.server = socket.create_server((self.host, 0))
        self.address = f"{self.host}:{self.server.getsockname()[1]}"
        room.closers.append(self.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        # A thread that waits in accept(2) isn't woken by close(2).
        for one in [self.server, *self.sockets]:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()

    def accept(self):
        while True:
            try:
                client, _ = self.server.accept()
                broker = socket.create_connection((self.host, self.port))
            except OSError:
                return
            self.sockets += [client, broker]
            for source, target, judge in ((client, broker, self.request), (broker, client, self.answer)):
                threading.Thread(target=self.pump, args=(source, target, judge), daemon=True).start()

    def pump(self, source, target, judge):
        try:
            while True:
                frame = exactly(source, struct.unpack(">i", exactly(source, 4))[0])
                frame = judge(frame, id(source) ^ id(target))
                if frame is None:
                    # The connection stays, and nothing goes on in this direction.
                    self.held.set()
                    return
                target.sendall(struct.pack(">i", len(frame)) + frame)
        except OSError:
            for one in (source, target):
                one.close()

    def request(self, frame, connection):
        kind, _, correlation = struct.unpack_from(">hhi", frame)
        topic = topic_of(frame) if kind == PRODUCE else None
        with self.lock:
            if topic == self.topic:
                self.begun = True
            elif self.begun and topic and self.hold == "state":
                return None
            if self.begun and kind == END_TRANSACTION:
                if self.hold == "commit":
                    return None
                self.waiting.add((connection, correlation))
        return frame

    def answer(self, frame, connection):
        with self.lock:
            if self.hold == "answer" and (connection, struct.unpack_from(">i", frame)[0]) in self.waiting:
                return None
        host = self.host.encode()
        return frame.replace(host + struct.pack(">i", self.port), host + struct.pack(">i", int(self.address.rsplit(":", 1)[1])))


def topic_of(frame):
    """The first topic of a Produce request of version 3 to 8: behind a client id, a transactional id, acks, time-out and count."""
    version = struct.unpack_from(">h", frame, 2)[0]
    if not 3 <= version <= 8:
        raise Failed(f"a Produce request of version {version} isn't understood")
    place = 8
    for _ in range(2):
        length = struct.unpack_from(">h", frame, place)[0]
        place += 2 + max(0, length)
    place += 10
    length = struct.unpack_from(">h", frame, place)[0]
    return frame[place + 2 : place + 2 + length].decode()


def exactly(source, count):
    data = bytearray()
    while len(data) < count:
        piece = source.recv(count - len(data))
        if not piece:
            raise OSError("the connection ends")
        data += piece
    return bytes(data)
