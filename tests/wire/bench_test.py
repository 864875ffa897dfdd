"""The benchmark's own programs do what its rows assume: a figure from a load that lies is worse than
none. No figure is judged here."""

import contextlib
import json
import signal
import unittest

from support import http1, net
from support.program import Program, binary, run


@contextlib.contextmanager
def program(name, *arguments, port):
    """Runs until the block ends; SIGTERM is all the end that these programs have."""
    one = Program([binary(f"bench-{name}"), *map(str, arguments)], port=port)
    try:
        yield one
    finally:
        one.stop(expect=(-signal.SIGTERM,))


class Load(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.http, self.echo, self.relay, self.tcp_relay = (net.free_port() for _ in range(4))
        stack.enter_context(program("backend", self.http, self.echo, port=self.http))
        stack.enter_context(program("relay", self.relay, self.http, port=self.relay))
        stack.enter_context(program("relay", self.tcp_relay, self.echo, port=self.tcp_relay))

    def load(self, port, *options, expect=0):
        code, output, errors = run([binary("bench-load"), "--port", port, *options])
        self.assertEqual(code, expect, errors)
        return json.loads(output) if output else None

    def check(self, found, requests, connects):
        self.assertEqual((found["requests"], found["errors"], found["connects"]),
                         (requests, 0, connects))
        self.assertLessEqual(found["p50_us"], found["p99_us"])

    def test_keep_alive_through_the_relay(self):
        self.check(self.load(self.relay, "--connections", 8, "--requests", 200), 200, 8)

    def test_large_bodies(self):
        found = self.load(self.relay, "--connections", 4, "--requests", 40, "--size", 65536)
        self.check(found, 40, 4)

    def test_a_connection_for_each_request(self):
        found = self.load(self.relay, "--connections", 4, "--requests", 50, "--fresh")
        self.check(found, 50, 50)

    def test_open_loop(self):
        found = self.load(self.relay, "--connections", 5, "--requests", 100, "--rate", 1000)
        self.check(found, 100, 5)
        self.assertGreaterEqual(found["seconds"], 0.0999)

    def test_open_loop_with_fresh_connections(self):
        found = self.load(self.relay, "--connections", 5, "--requests", 60, "--rate", 1000, "--fresh")
        self.check(found, 60, 60)

    def test_tcp(self):
        for size in (128, 65536):
            with self.subTest(size=size):
                found = self.load(self.tcp_relay, "--mode", "tcp", "--size", size,
                                  "--connections", 4, "--requests", 40)
                self.check(found, 40, 4)

    def test_idle_connections_make_one_request_each(self):
        self.check(self.load(self.relay, "--connections", 20, "--idle"), 20, 20)

    def test_the_backend_answers_with_the_size_that_was_asked_for(self):
        with http1.Client(self.http) as client:
            self.assertEqual(len(client.request("GET", "/4096").body), 4096)
            self.assertEqual(len(client.request("GET", "/0").body), 0)


class WrongAnswers(unittest.TestCase):
    """What is not the answer asked for is an error, never a fast request."""

    def errors(self, *pieces):
        def serve(sock, _):
            if sock.recv(4096):
                sock.sendall(b"".join(pieces))

        with net.Peer(serve) as peer:
            code, output, _ = run([binary("bench-load"), "--port", peer.port, "--requests", 3])
        self.assertEqual(code, 1)
        return json.loads(output)["errors"]

    def test_another_status(self):
        self.assertEqual(
            self.errors(b"HTTP/1.1 503 No\r\nContent-Length: 128\r\n\r\n", b"x" * 128), 3)

    def test_another_size(self):
        self.assertEqual(self.errors(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), 3)

    def test_a_cut_body(self):
        self.assertEqual(
            self.errors(b"HTTP/1.1 200 OK\r\nContent-Length: 128\r\n\r\n", b"x" * 100), 3)

    def test_more_than_was_announced(self):
        self.assertEqual(
            self.errors(b"HTTP/1.1 200 OK\r\nContent-Length: 128\r\n\r\n", b"x" * 130), 3)
