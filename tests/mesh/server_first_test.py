"""Clients that are silent until the hold is over: what their server says first decides."""

import contextlib
import socket
import unittest

from support import http1, http2
from support.mesh import metric
from support.net import LOOPBACK, Peer, read_exactly, wait_for
from support.opaque import Tunnel


class Origin(http2.Origin):
    """Says SETTINGS at once, and counts the connections that have ended."""
    ended = 0

    def _serve_one(self, sock, index):
        super()._serve_one(sock, index)
        self.ended += 1


class ServerFirst(unittest.TestCase):
    """A port without a protocol; both sidecars wait for its client's first bytes, then dial."""

    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.open = stack.enter_context
        self.stack = stack

    def tunnel(self, port):
        return Tunnel(self.stack, "shy", [port], ("--workers", "1"), ("--workers", "1"))

    def connect(self, tunnel):
        return self.open(socket.create_connection((LOOPBACK, tunnel.port), 20))

    def counted(self, tunnel, name, **labels):
        return [metric(sidecar, name, **labels) for sidecar in (tunnel.client, tunnel.server)]

    def test_settings_are_http2_and_the_wait_goes_on(self):
        origin = self.open(Origin())
        tunnel = self.tunnel(origin.port)
        for number in range(1, 5):  # it is never learnt that this port's server is the first
            raw = self.connect(tunnel)
            wait_for(lambda number=number: origin.ended >= number, what="the dial that was a mistake")
            with http2.Link(raw, True) as client:
                stream = client.head([(":method", "GET"), (":scheme", "http"), (":path", "/"),
                                      (":authority", "shy:7000")], end=True)
                client.until(lambda: client.streams[stream].over)
                self.assertEqual(client.streams[stream].status, 200)
            self.assertEqual(len(origin.requests), number)
        wait_for(lambda: self.counted(tunnel, "istio_requests_total", response_code="200") == [4, 4],
                 what="requests")
        self.assertEqual(metric(tunnel.client, "istio_tcp_connections_opened_total"), 0)

    def test_a_status_line_is_http1(self):
        ended = []

        def script(sock, number):
            if number == 0:
                sock.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            else:
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            with contextlib.suppress(ConnectionResetError):
                sock.recv(1)
            ended.append(number)

        origin = self.open(Peer(script))
        raw = self.connect(self.tunnel(origin.port))
        wait_for(lambda: ended, what="the dial that was a mistake")
        client = http1.Client(0, sock=raw)
        self.assertEqual(client.request(host="shy:7000").body, b"ok")

    def test_other_bytes_are_the_servers(self):
        """Also such as could be the beginning of HTTP: they are not kept for long."""
        for said in (b"220 hello\r\n", b"H", b"\x00\x00"):
            def script(sock, _, said=said):
                sock.sendall(said)
                sock.sendall(b"<" + sock.recv(100) + b">")

            with self.subTest(said=said), Peer(script) as origin, contextlib.ExitStack() as self.stack:
                raw = self.connect(self.tunnel(origin.port))
                self.assertEqual(read_exactly(raw, len(said)), said)
                raw.sendall(b"back")
                self.assertEqual(read_exactly(raw, 6), b"<back>")
                raw.close()  # what is open is waited for at the end


if __name__ == "__main__":
    unittest.main()
