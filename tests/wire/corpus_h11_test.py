"""Every input of tests/wire/corpus through the real sidecar: the verdict of its first line is what
the client gets, and an independent parser (h11) over the bytes that went upstream sees exactly the
requests that were answered. Whole, in three chosen splits, and one byte at a time."""

import contextlib
import pathlib
import unittest

import h11

from support import http1, net
from support.static import Sidecar, bootstrap, cluster, hop, settings

CORPUS = pathlib.Path(__file__).parent / "corpus"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BYTE_BY_BYTE_MAX = 1024  # above it every 1021st byte is a cut
REFUSED_TUNNEL = (403, 404)  # an Upgrade, a CONNECT: no route takes them here


class Judge:
    """The application: what h11 says of each connection. It answers each whole request."""

    def __init__(self):
        self.requests = 0
        self.refused = []

    def serve(self, sock, _):
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        while True:
            try:
                piece = sock.recv(65536)
            except ConnectionResetError:
                return
            if not piece:
                return  # an end inside a message is the cancellation of what stayed incomplete
            server.receive_data(piece)
            if not self.events(server, sock):
                return

    def events(self, server, sock):
        while True:
            try:
                event = server.next_event()
            except h11.RemoteProtocolError as error:
                self.refused.append(str(error))
                return False
            if event is h11.NEED_DATA:
                return True
            if isinstance(event, h11.EndOfMessage):
                self.requests += 1
                sock.sendall(ANSWER)
                server.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                server.send(h11.EndOfMessage())
                if server.our_state is not h11.DONE:
                    return False
                server.start_next_cycle()


def splits(raw):
    """Name and cuts: none; in the first line; inside the end of the head; before the last byte."""
    head_end = raw.find(b"\r\n\r\n")
    step = 1 if len(raw) <= BYTE_BY_BYTE_MAX else 1021
    return (("whole", ()), ("first line", (3,)),
            ("end of head", (head_end + 1, head_end + 3) if head_end >= 0 else (len(raw) // 2,)),
            ("last byte", (len(raw) - 1,)), ("bytes", range(1, len(raw), step)))


def inputs():
    for path in sorted(CORPUS.glob("*.http")):
        first, _, raw = path.read_bytes().partition(b"\n")
        yield path.stem, first.decode().removeprefix("# ").split(), raw


def is_tunnel(raw):
    return b"CONNECT " in raw or b"\nupgrade:" in raw.lower()


class Corpus(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.judge = Judge()
        peer = cls.enterClassContext(net.Peer(cls.judge.serve))
        http = bootstrap.http_filter("app")
        host = settings(http)["route_config"]["virtual_hosts"][0]
        host["routes"][0]["match"] = {"prefix": ""}  # OPTIONS * too
        settings(http)["codec_type"] = "HTTP1"  # HTTP/2's preface is a bad request then
        cls.sidecar = cls.enterClassContext(Sidecar(*hop(cluster("app", peer.port), http)))

    def exchange(self, raw, cuts, answers):
        """(the first `answers` of what came, then what else came, then how it ended)."""
        with http1.Client(self.sidecar.port) as client:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                net.send_split(client.sock, raw, cuts, pause_s=0.0002 if len(cuts) > 3 else 0.002)
            got = [client.answer().status for _ in range(answers)]
            with contextlib.suppress(OSError):  # the sidecar may have closed before us
                client.sock.shutdown(1)
            rest, end = net.read_to_end(client.sock)
            return got, bytes(client._left) + rest, end

    def check(self, verdict, raw, cuts):
        kind, count = verdict[0], int(verdict[-1])
        more = 0 if kind in ("ok", "more") else 1
        before = self.judge.requests
        got, rest, end = self.exchange(raw, cuts, count + more)
        self.assertEqual((rest, end), (b"", "eof"))
        if more:
            self.assertEqual(got.pop(), int(kind))
        tunnels = sum(status in REFUSED_TUNNEL for status in got) if is_tunnel(raw) else 0
        self.assertEqual(got.count(200) + tunnels, count, got)
        self.assertEqual(self.judge.refused, [])
        self.assertEqual(self.judge.requests - before, count - tunnels, "requests that h11 counted")

    def test_verdicts(self):
        checked = 0
        for name, verdict, raw in inputs():
            for split, cuts in splits(raw):
                with self.subTest(input=name, split=split, verdict=" ".join(verdict)):
                    self.check(verdict, raw, cuts)
                    checked += 1
                self.judge.refused.clear()
        self.assertGreater(checked, 1000)
        self.assertFalse(self.sidecar.ended())


