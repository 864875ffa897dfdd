"""A deliberately plain HTTP/1 client over a socket: it sends what it is told, right or wrong."""

import dataclasses
import socket

from support.net import LOOPBACK, read_exactly


@dataclasses.dataclass
class Answer:
    status: int
    reason: str
    fields: list  # [(name, value)] in order, names as spelled
    body: bytes

    def get(self, name, default=None):
        """The first value of a field, whatever its spelling."""
        return next((v for n, v in self.fields if n.lower() == name.lower()), default)

    def get_all(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]


def request_bytes(method="GET", target="/", host="app", fields=(), body=None, version="HTTP/1.1"):
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in fields]
    if body is not None and not any(n.lower() in ("content-length", "transfer-encoding")
                                    for n, _ in fields):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


class Client:
    """One connection. Reading is strict: what is not HTTP/1.1 raises ValueError."""

    def __init__(self, port, address=LOOPBACK, timeout_s=10.0, sock=None):
        self.sock = sock or socket.create_connection((address, port), timeout_s)
        self.sock.settimeout(timeout_s)
        self._left = b""

    def send(self, data):
        self.sock.sendall(data)

    def request(self, method="GET", target="/", **more):
        """Sends a request and returns its final answer."""
        self.send(request_bytes(method, target, **more))
        return self.answer(head_only=method == "HEAD")

    def _more(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise EOFError(f"end of the connection; unread: {self._left[:200]!r}")
        self._left += piece

    def _line(self):
        while b"\r\n" not in self._left:
            self._more()
        line, self._left = self._left.split(b"\r\n", 1)
        return line.decode("latin-1")

    def _take(self, size):
        if len(self._left) < size:
            self._left += read_exactly(self.sock, size - len(self._left))
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def head(self):
        """The next head, also a 1xx: (status, reason, fields)."""
        version, status, *reason = self._line().split(" ", 2)
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            raise ValueError(f"status line begins with {version!r}")
        fields = []
        while line := self._line():
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise ValueError(f"header line {line!r}")
            fields.append((name, value.strip(" \t")))
        return int(status), reason[0] if reason else "", fields

    def answer(self, head_only=False):
        """The next final answer with its whole body; 1xx before it are skipped."""
        status, reason, fields = self.head()
        while 100 <= status < 200 and status != 101:
            status, reason, fields = self.head()
        answer = Answer(status, reason, fields, b"")
        if head_only or status in (101, 204, 304):
            return answer
        if (answer.get("Transfer-Encoding") or "").lower() == "chunked":
            answer.body = self._chunks(fields)
        elif answer.get("Content-Length") is not None:
            answer.body = self._take(int(answer.get("Content-Length")))
        else:
            answer.body = self._to_end()
        return answer

    def _chunks(self, fields):
        body = b""
        while size := int(self._line().split(";")[0], 16):
            body += self._take(size)
            if self._take(2) != b"\r\n":
                raise ValueError("no CRLF after a chunk")
        while line := self._line():
            name, _, value = line.partition(":")
            fields.append((name, value.strip(" \t")))
        return body

    def _to_end(self):
        body, self._left = self._left, b""
        while piece := self.sock.recv(65536):
            body += piece
        return body

    def at_end(self, timeout_s=5.0):
        """Whether the peer closed (FIN or reset) without another byte."""
        self.sock.settimeout(timeout_s)
        try:
            return not self._left and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def get(port, target="/", host="app", address=LOOPBACK, timeout_s=10.0, fields=()):
    """One request on a connection of its own."""
    with Client(port, address, timeout_s) as client:
        return client.request("GET", target, host=host, fields=[("Connection", "close"), *fields])
