"""HTTP receivers as they are out there: prompt, slow, broken, busy, away, and those that mean harm.

A receiver is a port and a manner. A manner is a function of receiver, request and connection that answers, or does not, and
returns whether the connection may be used again. Receivers count rows by their idempotency ids, at the moment in which
they are about to confirm them.
"""

import collections
import contextlib
import dataclasses
import http.client
import json
import socket
import struct
import threading
import time


@dataclasses.dataclass
class Request:
    """One request, as it came."""

    method: str
    path: str
    headers: http.client.HTTPMessage
    body: bytes
    at: float

    @property
    def ids(self):
        return self.headers["Idempotency-Key"].split(",")

    @property
    def rows(self):
        rows = json.loads(self.body)
        return rows if isinstance(rows, list) else [rows]


class Receiver:
    """Listens on a free port of loopback until it is closed."""

    def __init__(self, manner, watch=None):
        """`watch` sees every request before it is answered."""
        self.manner = manner
        self.watch = watch or (lambda request: None)
        self.taken = collections.Counter()
        self.numbers = {}
        self.requests = 0
        self.sent = 0
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self.connections = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self._listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.leave()

    def _listen(self):
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # it has left
            with self.lock:
                self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def leave(self):
        """Breaks all connections and refuses new ones; the port stays its own."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))

    def come_back(self):
        self.listener.listen(256)
        self._listen()

    def _serve(self, connection):
        try:
            with connection, connection.makefile("rb") as stream:
                while request := read(stream):
                    with self.lock:
                        self.requests += 1
                    self.watch(request)
                    if not self.manner(self, request, connection):
                        return
        except (OSError, ValueError):
            pass  # the client has gone
        finally:
            with self.lock:
                self.connections.discard(connection)

    def take(self, request):
        """Its rows are about to be confirmed."""
        rows = request.rows
        with self.lock:
            for row_id, row in zip(request.ids, rows, strict=True):
                self.taken[row_id] += 1
                self.numbers[row_id] = row["n"]

    def send(self, connection, data):
        connection.sendall(data)
        with self.lock:
            self.sent += len(data)


def read(stream):
    """The next request of a connection; None at its end."""
    line = stream.readline(65_536).split()
    if len(line) != 3:
        return None
    headers = http.client.parse_headers(stream)
    body = stream.read(int(headers["Content-Length"] or 0))
    return Request(line[0].decode(), line[1].decode(), headers, body, time.monotonic())


def reply(connection, status, body=b"", **headers):
    """A whole answer; header names are given with underscores."""
    lines = [f"HTTP/1.1 {status} {http.client.responses[status]}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return True


def prompt(receiver, request, connection):
    """Takes everything at once."""
    receiver.take(request)
    return reply(connection, 200)


def slow(seconds):
    """Takes everything after so long."""

    def manner(receiver, request, connection):
        if receiver.closing.wait(seconds):
            return False
        receiver.take(request)
        return reply(connection, 200)

    return manner


def refusing(status):
    """The same refusal for everything."""
    return lambda receiver, request, connection: reply(connection, status, b"not today")


class Busy:
    """Takes so many requests, then asks with 429 to be left alone for a second. `early` are requests that came sooner."""

    def __init__(self, requests):
        self.most = requests
        self.left = requests
        self.until = 0.0
        self.refusals = 0
        self.early = []

    def __call__(self, receiver, request, connection):
        if request.at < self.until:
            self.early.append(self.until - request.at)
        if self.left > 0:
            self.left -= 1
            receiver.take(request)
            return reply(connection, 200)
        self.left = self.most
        self.refusals += 1
        # The client hears of it after this moment, so what it sends a second later comes after `until`.
        self.until = time.monotonic() + 1.0
        return reply(connection, 429, Retry_After=1)


class Resetting:
    """Reads each request; resets the connection under every second of them instead of answering."""

    def __init__(self):
        self.count = 0

    def __call__(self, receiver, request, connection):
        self.count += 1
        if self.count % 2:
            # Closing with a linger of zero sends RST, not FIN.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        return prompt(receiver, request, connection)


def silent(receiver, request, connection):
    """Never answers."""
    receiver.closing.wait()
    return False


def redirecting(port):
    """Sends everybody to another port, with every status that does so."""
    statuses = [301, 302, 303, 307, 308]
    count = iter(range(1 << 60))
    where = f"http://127.0.0.1:{port}/"
    return lambda receiver, request, connection: reply(
        connection, statuses[next(count) % len(statuses)], Location=where
    )


def flooding(receiver, request, connection):
    """Confirms, and goes on talking for as long as it is listened to."""
    receiver.take(request)
    receiver.send(connection, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not receiver.closing.is_set():
        receiver.send(connection, b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
    return False


def endless_head(receiver, request, connection):
    """An answer whose headers never end."""
    receiver.send(connection, b"HTTP/1.1 200 OK\r\n")
    while not receiver.closing.is_set():
        receiver.send(connection, b"X-More: " + b"x" * 0x10000 + b"\r\n")
    return False


def dripping(receiver, request, connection):
    """Confirms, then lets the rest of its answer drip, a byte every quarter of a second."""
    receiver.take(request)
    receiver.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    return drip(receiver, connection)


def dripping_head(receiver, request, connection):
    """Lets even its headers drip, so that what it means is never known."""
    receiver.send(connection, b"HTTP/1.1 200 OK\r\nX-Drip: ")
    return drip(receiver, connection)


def drip(receiver, connection):
    while not receiver.closing.wait(0.25):
        receiver.send(connection, b"x")
    return False
