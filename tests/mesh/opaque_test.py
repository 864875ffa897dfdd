"""Connections of bytes through two sidecars and mutual TLS, with scripted ends: who speaks first, who
ends first, who stops reading, and what is left behind."""

import asyncio
import collections
import contextlib
import hashlib
import os
import random
import re
import socket
import threading
import unittest

from support import kafka
from support.net import (LOOPBACK, Peer, free_port, read_exactly, read_to_end, reset, wait_for)
from support.opaque import Tunnel

SLOW_S = 60


class Opaque(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def peer(self, serve):
        return self.stack.enter_context(Peer(serve))

    def tunnel(self, *servers, name="bytes", **how):
        return Tunnel(self.stack, name, [server.port for server in servers], **how)

    def connect(self, tunnel, timeout_s=SLOW_S):
        sock = self.stack.enter_context(socket.create_connection((LOOPBACK, tunnel.port), timeout_s))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


def echo(sock, _index):
    while piece := sock.recv(65536):
        sock.sendall(piece)


class Order(Opaque):
    """Who speaks, and who ends, first."""

    def test_the_server_speaks_first(self):
        """As in SSH: its banner, then the client's, then packets both ways."""
        def serve(sock, _index):
            sock.sendall(b"SSH-2.0-server\r\n")
            line = read_exactly(sock, 16)
            sock.sendall(line[::-1])
            echo(sock, 0)

        tunnel = self.tunnel(self.peer(serve))
        for _ in range(5):
            sock = self.connect(tunnel)
            self.assertEqual(read_exactly(sock, 16), b"SSH-2.0-server\r\n")
            sock.sendall(b"SSH-2.0-client\r\n")
            self.assertEqual(read_exactly(sock, 16), b"\n\rtneilc-0.2-HSS")
            packet = os.urandom(35000)
            sock.sendall(packet)
            self.assertEqual(read_exactly(sock, len(packet)), packet)

    def test_both_speak_at_once(self):
        def serve(sock, _index):
            sock.sendall(b"SSH-2.0-server\r\n")
            echo(sock, 0)

        sock = self.connect(self.tunnel(self.peer(serve)))
        sock.sendall(b"\0\0\0\5hello")
        self.assertEqual(read_exactly(sock, 25), b"SSH-2.0-server\r\n\0\0\0\5hello")

    def test_the_client_ends_first(self):
        """Its FIN reaches the server, which goes on to answer for as long as it likes."""
        answer = os.urandom(3000000)

        def serve(sock, _index):
            asked, how = read_to_end(sock, SLOW_S)
            assert how == "eof", how
            sock.sendall(hashlib.sha256(asked).digest() + answer)

        asked = os.urandom(1000000)
        sock = self.connect(self.tunnel(self.peer(serve)))
        sock.sendall(asked)
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(read_to_end(sock, SLOW_S), (hashlib.sha256(asked).digest() + answer, "eof"))

    def test_the_server_ends_first(self):
        """Its FIN reaches the client, whose bytes go on to reach the server."""
        got = []

        def serve(sock, _index):
            sock.sendall(b"that is all")
            sock.shutdown(socket.SHUT_WR)
            got.append(read_to_end(sock, SLOW_S))

        tunnel = self.tunnel(self.peer(serve))
        sock = self.connect(tunnel)
        sock.sendall(b"\0first")
        self.assertEqual(read_to_end(sock, SLOW_S), (b"that is all", "eof"))
        rest = os.urandom(2000000)
        sock.sendall(rest)
        sock.shutdown(socket.SHUT_WR)
        wait_for(lambda: got, SLOW_S, "the server's end")
        self.assertEqual(got, [(b"\0first" + rest, "eof")])
        self.assertEqual(tunnel.wait_all_closed(), 1)

    def test_a_server_that_says_nothing_and_ends(self):
        sock = self.connect(self.tunnel(self.peer(lambda sock, _index: None)))
        self.assertEqual(read_to_end(sock, SLOW_S), (b"", "eof"))

    def test_resets_are_passed_on(self):
        """In both directions, and what was there before arrives."""
        ends = []

        def serve(sock, index):
            if index == 0:
                ends.append(read_to_end(sock, SLOW_S))
            else:
                sock.sendall(b"last words")
                read_exactly(sock, 2)
                reset(sock)

        tunnel = self.tunnel(self.peer(serve))
        sock = self.connect(tunnel)
        sock.sendall(b"\0bye")
        wait_for(lambda: tunnel.counted("connections_opened")[1] == 1, SLOW_S, "the connection")
        reset(sock)
        wait_for(lambda: ends, SLOW_S, "the server's end")
        self.assertEqual(ends[0][1], "reset")
        sock = self.connect(tunnel)
        self.assertEqual(read_exactly(sock, 10), b"last words")
        sock.sendall(b"\0x")
        self.assertEqual(read_to_end(sock, SLOW_S), (b"", "reset"))


class Endpoints(Opaque):
    """A service with several, some of which cannot be reached."""

    @staticmethod
    def nobody():
        """A port where nobody listens."""
        return collections.namedtuple("Nobody", "port")(free_port())

    def check(self, tunnel, count=20):
        for number in range(count):
            sock = self.connect(tunnel)
            sock.sendall(b"\0%d" % number)
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(read_to_end(sock, SLOW_S), (b"\0%d" % number, "eof"))

    def test_an_application_that_is_down(self):
        """Its sidecar gives the connection back, and the client's finds another."""
        tunnel = self.tunnel(self.nobody(), self.peer(echo), self.nobody())
        self.check(tunnel)
        tried = [sidecar.admin("/stats").count("CONNECT_REFUSED") for sidecar in tunnel.servers]
        self.assertGreater(tried[0] + tried[2], 0)

    def test_a_sidecar_that_is_down(self):
        tunnel = self.tunnel(self.peer(echo), self.peer(echo))
        tunnel.servers[0].program.kill()
        self.check(tunnel)

    def test_all_are_down(self):
        sock = self.connect(self.tunnel(self.nobody(), self.nobody()))
        with contextlib.suppress(ConnectionResetError):
            sock.sendall(b"\0x")
        self.assertEqual(read_to_end(sock, SLOW_S), (b"", "reset"))


def live_bytes(sidecar):
    """What its workers hold, as it counts it itself; so many connections are open."""
    text = sidecar.admin("/stats")
    return int(re.search(r"^pillion_memory_live_bytes:? (\d+)", text, re.M)[1])


def open_files(sidecar):
    return len(os.listdir(f"/proc/{sidecar.program.pid}/fd"))


class Many(Opaque):
    COUNT, AT_ONCE, ROUNDS = 10000, 100, 5

    async def _talk(self, port, queue):
        while queue:
            number = queue.pop()
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            said = b"\0%d" % number
            writer.write(said)
            assert await reader.readexactly(len(said)) == said
            if number % 7 == 0:
                writer.transport.abort()
            else:
                writer.close()
            with contextlib.suppress(ConnectionResetError):
                await writer.wait_closed()

    async def _answer(self, reader, writer):
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(4096):
                writer.write(piece)
        writer.close()

    def _left(self, tunnel, count):
        """[(descriptors, bytes)] of the sidecars once `count` connections have ended."""
        wait_for(lambda: tunnel.wait_all_closed() == count, SLOW_S, f"{count} connections")
        return [(open_files(sidecar), live_bytes(sidecar))
                for sidecar in (tunnel.client, tunnel.server)]

    async def _rounds(self, tunnel, app_port):
        held = []
        async with await asyncio.start_server(self._answer, LOOPBACK, app_port, backlog=1024):
            for number in range(1, self.ROUNDS + 1):
                queue = list(range(self.COUNT // self.ROUNDS))
                await asyncio.gather(*(self._talk(tunnel.port, queue)
                                       for _ in range(self.AT_ONCE)))
                held.append(await asyncio.to_thread(self._left, tunnel,
                                                    number * self.COUNT // self.ROUNDS))
        return held

    def test_ten_thousand_come_and_go(self):
        """Nothing of them stays: no descriptor, no memory."""
        app = Endpoints.nobody()
        tunnel = self.tunnel(app)
        held = asyncio.run(self._rounds(tunnel, app.port))
        for first, last in zip(held[0], held[-1]):
            self.assertLessEqual(last[0], first[0] + 4, held)
            self.assertLessEqual(last[1], first[1] + self.COUNT * 50, held)

    def test_idle_ones_stay(self):
        """And are as good afterwards as before."""
        tunnel = self.tunnel(self.peer(echo))
        socks = [self.connect(tunnel) for _ in range(200)]
        for step in range(3):
            for number, sock in enumerate(socks):
                sock.sendall(b"\0%06d" % (number * step))
            for number, sock in enumerate(socks):
                self.assertEqual(read_exactly(sock, 7), b"\0%06d" % (number * step))
            threading.Event().wait(1.0)


class Flow(Opaque):
    def test_who_stops_reading_bounds_memory(self):
        """Neither sidecar holds more than its marks, others go on, and in the end nothing is
        missing."""
        go = threading.Event()
        got = []

        def serve(sock, index):
            if index > 0:
                echo(sock, index)
                return
            read_exactly(sock, 1)
            go.wait(SLOW_S)
            got.append(read_to_end(sock, SLOW_S))

        tunnel = self.tunnel(self.peer(serve))
        stuck = self.connect(tunnel)
        stuck.sendall(b"\0")
        wait_for(lambda: tunnel.counted("connections_opened")[1] == 1, SLOW_S, "the connection")
        before = [live_bytes(s) for s in (tunnel.client, tunnel.server)]
        stuck.setblocking(False)
        sent = hashlib.sha256()
        dice = random.Random(1)
        size, quiet = 0, 0
        while quiet < 100:
            piece = dice.randbytes(65536)
            try:
                taken = stuck.send(piece)
            except BlockingIOError:
                quiet += 1
                threading.Event().wait(0.01)
                continue
            quiet = 0
            sent.update(piece[:taken])
            size += taken
            self.assertLess(size, 1 << 28, "nobody pushed back")
        for grown in (live_bytes(s) - b for s, b in zip((tunnel.client, tunnel.server), before)):
            self.assertLess(grown, 1 << 20)
        other = self.connect(tunnel)
        for _ in range(20):
            packet = os.urandom(100000)
            other.sendall(packet)
            self.assertEqual(read_exactly(other, len(packet)), packet)
        stuck.setblocking(True)
        stuck.shutdown(socket.SHUT_WR)
        go.set()
        wait_for(lambda: got, SLOW_S, "the rest")
        self.assertEqual((len(got[0][0]), got[0][1]), (size, "eof"))
        self.assertEqual(hashlib.sha256(got[0][0]).digest(), sent.digest())


class Kafka(Opaque):
    """Its protocol by a scripted broker and a client; the broker tells the client where to go."""

    def test_a_producer_and_a_consumer(self):
        broker = self.stack.enter_context(kafka.Broker(("kafka", 9092)))
        tunnel = self.tunnel(broker, name="kafka", port=9092)

        def client():
            return kafka.Client(self.connect(tunnel))

        first = client()
        self.assertEqual(first.api_versions(), {0, 1, 3, 18})
        self.assertEqual(first.metadata(), ("kafka", 9092))
        producer, consumer = client(), client()
        polled = []
        waiting = threading.Thread(target=lambda: polled.append(consumer.fetch(0, 30000)))
        waiting.start()
        batches = [os.urandom(size) for size in (100, 16384, 1000000, 1, 300000)]
        numbers = [producer.produce(batch) for batch in batches]  # all of them before any answer
        self.assertEqual([producer.produced(number) for number in numbers], list(range(5)))
        waiting.join(SLOW_S)
        self.assertEqual(polled, batches[:1])
        self.assertEqual([consumer.fetch(n, 0) for n in range(1, 5)], batches[1:])
        self.assertEqual(consumer.fetch(5, 50), b"")


if __name__ == "__main__":
    unittest.main()
