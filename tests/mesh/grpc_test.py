"""gRPC's own xDS client as a second judge of the wire: pillion-control is its only control plane,
and no sidecar is there."""

import concurrent.futures
import json
import os
import subprocess
import sys
import unittest

import grpc

from support.control import LOOPBACK, SUBSETS, running, service, split, workload
from support.net import wait_for
from support.program import ROOT

CALLS = 2000


class Server:
    """Answers every call with its version."""

    def __init__(self, version):
        def answer(request, context):
            del request, context
            return version.encode()

        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(
            "test.Order", {"Version": grpc.unary_unary_rpc_method_handler(answer)})])
        self.port = self._server.add_insecure_port(f"{LOOPBACK}:0")
        self._server.start()

    def stop(self):
        self._server.stop(None)


class Client:
    """support/grpc_client.py in a process of its own."""

    def __init__(self, control, name):
        bootstrap = {"xds_servers": [{"server_uri": f"{LOOPBACK}:{control.plain_port}",
                                      "channel_creds": [{"type": "insecure"}],
                                      "server_features": ["xds_v3"]}],
                     "node": {"id": "a-grpc-client", "locality": {}}}
        self._process = subprocess.Popen(
            [sys.executable, f"{ROOT}/tests/support/grpc_client.py", name], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)})

    def call(self, calls, **metadata):
        ask = {"calls": calls, "metadata": list(metadata.items())}
        self._process.stdin.write(json.dumps(ask) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def stop(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(20)


class Canary(unittest.TestCase):
    """The objects of the canary, over five servers that carry no mesh TLS."""

    def test_weights_change_and_header(self):
        servers = [Server(v) for v in ("v1", "v1", "v1", "v2", "v2")]
        versions = ["v1", "v1", "v1", "v2", "v2"]
        entries = [workload(f"order-{i}", "order-service", version, server.port)
                   for i, (version, server) in enumerate(zip(versions, servers))]
        with running(service("order-service"), *entries) as control:
            control.write("canary.yaml", split(90, 10), SUBSETS)
            wait_for(lambda: len(control.generations()) == 8, what="all eight objects")
            client = Client(control, "order-service")
            try:
                self._canary(control, client)
            finally:
                client.stop()
                for server in servers:
                    server.stop()

    def _canary(self, control, client):
        counts = client.call(CALLS)
        self.assertEqual(set(counts), {"v1", "v2"}, counts)
        self.assertTrue(140 <= counts["v2"] <= 260, counts)

        self._change(control, client, split(50, 50))
        counts = client.call(CALLS)
        self.assertEqual(set(counts), {"v1", "v2"}, counts)
        self.assertTrue(850 <= counts["v2"] <= 1150, counts)

        self._change(control, client, split(100, 0, match={"headers": {"x-canary": {"exact": "yes"}}}))
        self.assertEqual(client.call(200, **{"x-canary": "yes"}), {"v2": 200})
        self.assertEqual(client.call(200, **{"x-canary": "no"}), {"v1": 200})
        self.assertEqual(client.call(200), {"v1": 200})

        self.assertEqual([c["nacks"] for c in control.get("/api/status")["sidecars"]], [[]])
        self.assertEqual(control.metric("pillion_control_rejected_pushes_total"), 0)

    def _change(self, control, client, virtual_service):
        """Returns when the client has acknowledged it. It reads only while it has calls to make."""
        before = control.generation()
        control.write("canary.yaml", virtual_service, SUBSETS)
        control.wait_generation(before)
        wanted = {"objects": [{"kind": "VirtualService", "name": "order-service"}]}

        def live():
            client.call(10)
            status, answer = control.post("/api/wait", wanted)
            self.assertEqual((status, answer["objects"][0]["holders"]), (200, 1))
            return answer["live"]

        wait_for(live, 20, "the client's acknowledgement")


if __name__ == "__main__":
    unittest.main()
