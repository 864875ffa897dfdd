"""Load on a mesh, and the applications under it: every request has an id, which both ends count.

One thread with one event loop serves all of it, so that what a test sees of a thousand requests is
in order and needs no locks: results and counts are read once a load has ended."""

import asyncio
import collections
import dataclasses
import json
import threading
import time

from support.net import LOOPBACK, free_port

_ANSWER_WITHIN_S = 20


class Scene:
    """The event loop on which the applications and the clients of a test live."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def run(self, coroutine, timeout_s=120):
        return self.begin(coroutine).result(timeout_s)

    def begin(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def _head(data):
    """(first line, {name: value}, body's length, head's size); None before its end."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = data[:end].decode("latin-1").split("\r\n")
    fields = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    return first, fields, int(fields.get("content-length", 0)), end + 4


class _Served(asyncio.Protocol):
    def __init__(self, app):
        self.app = app
        self.data = b""

    def connection_made(self, transport):
        self.transport = transport
        self.app.open.add(self)

    def connection_lost(self, error):
        self.app.open.discard(self)

    def data_received(self, data):
        self.data += data
        while (head := _head(self.data)) and len(self.data) >= head[3] + head[2]:
            first, fields, length, begin = head
            body, self.data = self.data[begin:begin + length], self.data[begin + length:]
            method, path, _ = first.split(" ")
            self.app.take(self, method, path, fields, body)

    def answer(self, status, body):
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %d Answer\r\nContent-Length: %d\r\n\r\n%s"
                                 % (status, len(body), body))


class Application:
    """Answers with its name and the request's id, and counts ids by method.

    `status` and `delay_s` may be changed at any time; stop() ends it as a process ends, its
    connections with it, and start() brings it back on the same port."""

    def __init__(self, scene, name, delay_s=0.0):
        self.scene, self.name, self.delay_s = scene, name, delay_s
        self.status = 200
        self.port = free_port()
        self.open = set()
        self.seen = {"GET": collections.Counter(), "POST": collections.Counter()}
        self.callers = collections.Counter()
        self._server = None

    def take(self, connection, method, _path, fields, body):
        ident = fields.get("x-request-id", "")
        self.seen[method][ident] += 1
        self.callers[fields.get("x-forwarded-client-cert", "")] += 1
        if method == "POST" and body.decode() != ident:
            self.seen["POST"]["another's body"] += 1
        text = json.dumps({"app": self.name, "id": ident}).encode()
        if self.delay_s:
            self.scene.loop.call_later(self.delay_s, connection.answer, self.status, text)
        else:
            connection.answer(self.status, text)

    def requests(self):
        return sum(sum(ids.values()) for ids in self.seen.values())

    async def _start(self):
        self._server = await self.scene.loop.create_server(lambda: _Served(self), LOOPBACK,
                                                           self.port, reuse_address=True)

    async def _stop(self):
        self._server.close()
        for connection in list(self.open):
            connection.transport.close()
        await self._server.wait_closed()

    def start(self):
        self.scene.run(self._start())

    def stop(self):
        self.scene.run(self._stop())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()


@dataclasses.dataclass
class Result:
    """One request's. `app`: who answered with its id, "" when it was nobody's application."""
    id: str
    method: str
    begun: float
    ended: float = 0.0
    status: int = 0
    app: str = ""
    why: str = ""


class _Asking(asyncio.Protocol):
    """A client's connection, kept; one request at a time."""

    def __init__(self):
        self.data = b""
        self.transport = self.waiter = None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        if self.waiter and not self.waiter.done():
            self.waiter.set_exception(ConnectionError(str(error or "closed without an answer")))

    def data_received(self, data):
        self.data += data
        head = _head(self.data)
        if head and len(self.data) >= head[3] + head[2] and self.waiter and not self.waiter.done():
            self.waiter.set_result((head, self.data[head[3]:]))
            self.data = b""

    async def ask(self, data):
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return await asyncio.wait_for(self.waiter, _ANSWER_WITHIN_S)


class Load:
    """`count` requests through a port of a sidecar: `rate` a second by the clock (an open loop: a
    stall is seen by all the requests that it delays), or as fast as the connections answer."""

    def __init__(self, scene, port, count, rate=None, connections=64, methods=("GET", "POST"),
                 prefix="r", host="order-service:8000", fields=()):
        self.scene, self.port, self.count, self.rate = scene, port, count, rate
        self.connections, self.methods, self.prefix = connections, methods, prefix
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in (("Host", host), *fields))
        self.results = []
        self._begun = 0
        self._future = None

    def start(self):
        self._future = self.scene.begin(self._run())
        return self

    def wait(self, timeout_s=180):
        self._future.result(timeout_s)
        return self.results

    def run(self):
        return self.start().wait()

    async def _run(self):
        start = time.monotonic()
        await asyncio.gather(*(self._client(start) for _ in range(self.connections)))

    async def _client(self, start):
        link = None
        while self._begun < self.count:
            number = self._begun
            self._begun += 1
            if self.rate:
                await asyncio.sleep(max(0.0, start + number / self.rate - time.monotonic()))
            link = await self._one(number, link)
        if link:
            link.transport.close()

    async def _one(self, number, link):
        """Returns the connection, where it may be used again."""
        result = Result(f"{self.prefix}-{number}", self.methods[number % len(self.methods)],
                        time.monotonic())
        self.results.append(result)
        body = result.id if result.method == "POST" else ""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        data = (f"{result.method} /{number} HTTP/1.1\r\n{self._fields}x-request-id: {result.id}\r\n"
                f"{length}\r\n{body}").encode()
        try:
            if link is None or link.transport.is_closing():
                _, link = await self.scene.loop.create_connection(_Asking, LOOPBACK, self.port)
            head, answer = await link.ask(data)
            self._judge(result, head, answer)
            if head[1].get("connection", "").lower() == "close":
                link.transport.close()
        except (OSError, asyncio.TimeoutError) as error:
            result.why = f"{type(error).__name__}: {error}"
            if link:
                link.transport.abort()
            link = None
        result.ended = time.monotonic()
        return link

    @staticmethod
    def _judge(result, head, answer):
        first, fields, _, _ = head
        result.status = int(first.split(" ")[1])
        try:
            body = json.loads(answer)
        except ValueError:
            body = {}
        if body.get("id") == result.id:
            result.app = body["app"]
        else:
            result.why = fields.get("proxy-status", "") or repr(answer[:200])


def shares(results):
    """How many of them each application answered."""
    return collections.Counter(result.app for result in results)


def failed(results):
    """Those that no application answered, or not with 200."""
    return [r for r in results if not r.app or r.status != 200]


def counted(apps, method=None):
    """How often the applications saw each id, of one method or of all."""
    total = collections.Counter()
    for app in apps:
        for name, ids in app.seen.items():
            if method in (None, name):
                total.update(ids)
    return total


def doubled(apps, method="POST"):
    return {ident: n for ident, n in counted(apps, method).items() if n > 1}
