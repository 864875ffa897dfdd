"""Network namespaces for tests: made, wired and removed here; sockets that are born in one.

A socket belongs to the namespace and to the user of the thread that made it, for as long as it
lives: so a test enters, makes it, leaves, and uses it as any other. Needs root."""

import contextlib
import ctypes
import itertools
import os
import socket
import subprocess

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_NUMBERS = itertools.count()


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


@contextlib.contextmanager
def _entered(path):
    def enter(fd):
        if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {path}")

    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)


@contextlib.contextmanager
def _as_user(uid):
    """The user id that nftables' skuid sees is the one for files, of the thread that calls socket()."""
    _LIBC.setfsuid(uid)
    try:
        yield
    finally:
        _LIBC.setfsuid(0)


class Namespace:
    """One network namespace, with lo up; gone with the with-block, and all that is in it."""

    def __init__(self):
        self.name = f"pillion-test-{os.getpid()}-{next(_NUMBERS)}"
        ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words):
        return ip("-n", self.name, *words)

    def exec(self, *command):
        """A command line that runs the command in here."""
        return ["ip", "netns", "exec", self.name, *command]

    def socket(self, family, kind=socket.SOCK_STREAM, user=0):
        with _entered(f"/run/netns/{self.name}"), _as_user(user):
            return socket.socket(family, kind)

    def connect(self, address, port, user=0, source=None, timeout_s=3.0):
        sock = self.socket(family_of(address), user=user)
        try:
            sock.settimeout(timeout_s)
            if source is not None:
                sock.bind((source, 0))
            sock.connect((address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def listen(self, address, port, user=0):
        sock = self.socket(family_of(address), user=user)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(16)
        sock.settimeout(3.0)
        return sock

    def close(self):
        ip("netns", "del", self.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def wire(one, other, name="eth0"):
    """A cable between two namespaces; both ends carry the name and are up, without addresses."""
    ip("link", "add", name, "netns", one.name, "type", "veth", "peer", "name", name, "netns", other.name)
    for end in (one, other):
        end.ip("link", "set", name, "up")
