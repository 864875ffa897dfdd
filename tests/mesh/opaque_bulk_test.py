"""A GiB through one connection, both ways at once, and nothing of it lost; PILLION_BULK_MIB: less of
it, for a slow machine."""

import contextlib
import hashlib
import os
import socket
import threading
import unittest

from support.mesh import metric
from support.net import LOOPBACK, Peer, wait_for
from support.opaque import Tunnel

PRESETS = ("release",)
MIB = 1 << 20
SIZE = int(os.environ.get("PILLION_BULK_MIB", "1024")) * MIB
# More than any window and any buffer; no period of 64 KiB, in which pieces could be exchanged.
PATTERN = os.urandom(5 * MIB + 4321)


def send(sock, sums, name):
    digest, left = hashlib.sha256(), SIZE
    while left > 0:
        piece = memoryview(PATTERN)[:left]
        digest.update(piece)
        sock.sendall(piece)
        left -= len(piece)
    sock.shutdown(socket.SHUT_WR)
    sums[name] = digest.hexdigest()


def receive(sock, sums, name):
    digest, size = hashlib.sha256(), 0
    buffer = bytearray(MIB)
    while got := sock.recv_into(buffer):
        digest.update(memoryview(buffer)[:got])
        size += got
    assert size == SIZE, size
    sums[name] = digest.hexdigest()


def both(sock, sums, out, back):
    sender = threading.Thread(target=send, args=(sock, sums, out), daemon=True)
    sender.start()
    receive(sock, sums, back)
    sender.join()


class Bulk(unittest.TestCase):
    def test_both_ways_at_once(self):
        sums = {}
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(Peer(lambda sock, _index: both(sock, sums, "down", "up")))
            tunnel = Tunnel(stack, "bulk", [server.port])
            with socket.create_connection((LOOPBACK, tunnel.port), 600) as sock:
                mine = {}
                both(sock, mine, "up", "down")
            self.assertEqual(tunnel.wait_all_closed(), 1)
            wait_for(lambda: len(sums) == 2, 60, "the server's own sums")
            self.assertEqual(sums, mine)
            for what in ("sent_bytes", "received_bytes"):
                self.assertEqual(tunnel.counted(what), (SIZE, SIZE))
            for sidecar in (tunnel.client, tunnel.server):
                self.assertLess(metric(sidecar, "pillion_memory_live_bytes"), 16 * MIB)


if __name__ == "__main__":
    unittest.main()
