"""Sockets for tests: ports that are free, waiting for a listener, scripted peers."""

import contextlib
import itertools
import os
import socket
import threading
import time

LOOPBACK = "127.0.0.1"
# Ours to give out: below the kernel's ephemeral range, so that no client socket of a test takes a
# port between its being chosen and its being bound.
# Each process begins elsewhere: two that run side by side seldom meet.
_FIRST, _COUNT = 20000, 10000
_ports = itertools.count(os.getpid() * 97)


def free_port(address=LOOPBACK, kind=socket.SOCK_STREAM):
    """A port that nothing on this address is bound to now; a process does not give it out again."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for number in itertools.islice(_ports, _COUNT):
        port = _FIRST + number % _COUNT
        with socket.socket(family, kind) as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            return port
    raise RuntimeError(f"no free port on {address} from {_FIRST} to {_FIRST + _COUNT}")


def wait_for(condition, timeout_s=10.0, what="the condition"):
    """Calls condition() until it is true and returns what it gave; AssertionError when late."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s} s")
        time.sleep(0.01)


def accepts(port, address=LOOPBACK):
    """Whether something listens there (the probing connection is closed at once)."""
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def wait_for_port(port, address=LOOPBACK, timeout_s=10.0):
    wait_for(lambda: accepts(port, address), timeout_s, f"a listener on {address}:{port}")


def read_exactly(sock, size):
    """size bytes; EOFError with what came when the peer ends earlier."""
    got = bytearray()
    while len(got) < size:
        piece = sock.recv(size - len(got))
        if not piece:
            raise EOFError(f"end after {len(got)} of {size} bytes: {bytes(got[:200])!r}")
        got += piece
    return bytes(got)


def read_to_end(sock, timeout_s=5.0):
    """(bytes until the end, how it ended): "eof", "reset" or "silence" (timeout_s without a byte)."""
    got = bytearray()
    sock.settimeout(timeout_s)
    while True:
        try:
            piece = sock.recv(65536)
        except ConnectionResetError:
            return bytes(got), "reset"
        except TimeoutError:
            return bytes(got), "silence"
        if not piece:
            return bytes(got), "eof"
        got += piece


def send_split(sock, data, cuts=(), pause_s=0.005):
    """Sends data in pieces cut at the given offsets, far enough apart to arrive one by one."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    edges = [0, *sorted(c for c in set(cuts) if 0 < c < len(data)), len(data)]
    for begin, end in zip(edges, edges[1:]):
        sock.sendall(data[begin:end])
        if end < len(data):
            time.sleep(pause_s)


def reset(sock):
    """Closes with a TCP reset instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


class Peer:
    """A scripted server: serve(sock, index) runs in a thread for each connection it accepts.

    What serve raises is kept and raised again by close(), so that a test cannot miss it."""

    def __init__(self, serve, address=LOOPBACK, port=None, backlog=128):
        self._serve = serve
        self.address = address
        self.port = port or free_port(address)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((address, self.port))
        self._listener.listen(backlog)
        self._lock = threading.Lock()
        self._open = set()
        self._closing = False
        self.errors = []
        self.connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                index = self.connections
                self.connections += 1
                self._open.add(sock)
            threading.Thread(target=self._run, args=(sock, index), daemon=True).start()

    def _run(self, sock, index):
        try:
            with sock:
                self._serve(sock, index)
        except Exception as error:  # pylint: disable=broad-except
            if not self._closing:
                self.errors.append(error)
        finally:
            with self._lock:
                self._open.discard(sock)

    def close(self):
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left = list(self._open)
        for sock in left:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        if self.errors:
            raise self.errors[0]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        with contextlib.suppress(Exception if kind else ()):
            self.close()
