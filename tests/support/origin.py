"""An HTTP/1 origin server that is told what to do, connection by connection.

Reading is strict, as in support.http1: what a proxy must not send raises, and fails the test."""

import contextlib
import dataclasses
import socket
import threading

from support import http1, net

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclasses.dataclass
class Request:
    method: str
    target: str
    version: str
    fields: list
    body: bytes = b""
    trailers: list = dataclasses.field(default_factory=list)

    def get(self, name, default=None):
        return next((v for n, v in self.fields if n.lower() == name.lower()), default)

    def get_all(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]


class Connection(http1.Client):
    """One connection of a client: head() and body(), or request() for both; EOFError at its end."""

    def __init__(self, sock, index):
        super().__init__(0, sock=sock, timeout_s=20)
        self.index = index

    def head(self):
        method, target, version = self._line().split(" ")
        fields = []
        while line := self._line():
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise ValueError(f"header line {line!r}")
            fields.append((name, value.strip(" \t")))
        return Request(method, target, version, fields)

    def body(self, request):
        if (request.get("Transfer-Encoding") or "").lower() == "chunked":
            request.body = self._chunks(request.trailers)
        elif request.get("Content-Length") is not None:
            request.body = self._take(int(request.get("Content-Length")))
        return request

    def request(self):
        return self.body(self.head())

    def finish(self):
        """Ends, and waits until the client has ended too."""
        with contextlib.suppress(OSError):  # it may be gone already
            self.sock.shutdown(socket.SHUT_WR)
        net.read_to_end(self.sock)


def answer_all(connection):
    """200 to everything, for as long as the client stays."""
    while True:
        connection.request()
        connection.send(OK)


class Origin(net.Peer):
    """Runs `script(connection)` for each connection; a test may set another one at any time.

    `requests` is every head that was read, `ends` how connections ended: "eof", "reset", "left"
    (the script returned). The end of the client is the usual end of a script, not an error."""

    def __init__(self, script=answer_all, port=None):
        self.script = script
        self.requests = []
        self.ends = []
        self._ends_lock = threading.Lock()
        super().__init__(self._serve_one, port=port)

    def _serve_one(self, sock, index):
        connection = _Recorded(sock, index, self.requests)
        end = "left"
        try:
            self.script(connection)
        except EOFError:
            end = "eof"
        except (ConnectionResetError, BrokenPipeError):
            end = "reset"
        except TimeoutError:
            end = "silence"
        with self._ends_lock:
            self.ends.append(end)


    def drop(self):
        """Ends every connection and waits until the client has ended it too: none stays pooled."""
        with self._lock:
            left = list(self._open)
        for sock in left:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        net.wait_for(lambda: not self._open, 5, "the end of what the origin ended")


class _Recorded(Connection):
    def __init__(self, sock, index, requests):
        super().__init__(sock, index)
        self._requests = requests

    def head(self):
        request = super().head()
        self._requests.append(request)
        return request
