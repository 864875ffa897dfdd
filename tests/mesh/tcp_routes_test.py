"""tcp: and tls: of a VirtualService choose by connection, through two sidecars."""

import collections
import contextlib
import socket
import ssl
import unittest

from support.control import SUBSETS, running, service, workload
from support.net import LOOPBACK, Peer, free_port, read_exactly, wait_for
from support.sidecar import Sidecar

BYTES, TLS = "order-service:6000", "order-service:6443"


def rules(**spec):
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "order-service"}, "spec": {"hosts": ["order-service"], **spec}}


def to(subset, port, weight=0):
    return {"destination": {"host": "order-service", "subset": subset, "port": {"number": port}},
            "weight": weight}


class TcpRoutes(unittest.TestCase):
    """Two versions, each with a sidecar; what a client sends is kept, and answered with the version."""

    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.listen = {v: free_port() for v in ("v1", "v2")}
        ports = [{"name": "tcp", "port": 6000, "targetPort": "any"},
                 {"name": "tls", "port": 6443, "targetPort": "any"}]
        objects = [service("order-service", ports=ports), SUBSETS,
                   workload("client", "client", "v1", free_port(), True, "client")]
        for version, port in self.listen.items():
            objects.append(workload(f"{version}-a", "order-service", version, port, True))
            objects[-1]["spec"]["ports"] = {"any": port}
        self.control = stack.enter_context(running(*objects))
        for version, port in self.listen.items():
            app = stack.enter_context(Peer(self.answer(version.encode())))
            stack.enter_context(Sidecar(self.control, f"{version}-a", "order-service",
                                        {port: app.port}))
        self.client = stack.enter_context(Sidecar(self.control, "client", "client", options=(
            "--workers", "1"), outbound=(BYTES, TLS)))

    @staticmethod
    def answer(version):
        def serve(sock, _):
            with contextlib.suppress(ConnectionResetError):
                if sock.recv(65536):
                    sock.sendall(version)
        return serve

    def call(self, target, first=b"x"):
        with socket.create_connection((LOOPBACK, self.client.out[target]), 20) as raw:
            raw.sendall(first)
            return read_exactly(raw, 2)

    def hello(self, name):
        """A ClientHello that asks for that name."""
        out = ssl.MemoryBIO()
        context = ssl.create_default_context()
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
        return out.read()

    def apply(self, **spec):
        before = self.control.generation()
        self.control.write("rules.yaml", rules(**spec))
        self.control.wait_generation(before)

    def test_weights(self):
        self.apply(tcp=[{"match": [{"port": 6000}], "route": [to("v1", 6000, 75), to("v2", 6000, 25)]}])
        wait_for(lambda: self.call(BYTES) == b"v2", what="the weights")
        got = collections.Counter(self.call(BYTES) for _ in range(40))
        self.assertLessEqual(abs(got[b"v1"] - 30), 1, got)

    def test_the_callers_labels(self):
        self.apply(tcp=[{"match": [{"sourceLabels": {"app": "other"}}], "route": [to("v1", 6000)]},
                        {"match": [{"sourceLabels": {"app": "client"}}], "route": [to("v2", 6000)]}])
        wait_for(lambda: {self.call(BYTES) for _ in range(6)} == {b"v2"}, what="the rule for it")

    def test_names_of_tls(self):
        self.apply(tls=[{"match": [{"sniHosts": ["one.test"]}], "route": [to("v1", 6443)]},
                        {"match": [{"sniHosts": ["*.two.test"]}], "route": [to("v2", 6443)]}])
        for name, version in (("one.test", b"v1"), ("a.two.test", b"v2"), ("one.test", b"v1")):
            first = self.hello(name)
            self.assertIn(name.encode(), first)
            wait_for(lambda first=first, version=version:
                     {self.call(TLS, first) for _ in range(6)} == {version}, what=name)


if __name__ == "__main__":
    unittest.main()
