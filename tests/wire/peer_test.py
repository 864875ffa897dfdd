"""What two sidecars tell each other in PEER frames: a request that no application saw is given back
and goes elsewhere, whatever its method; who drains is left at once; who called is known."""

import contextlib
import select
import signal
import socket
import tempfile
import time
import unittest
import urllib.request

from support import http1, net, origin
from support.static import Sidecar, bootstrap, certs, cluster, hop

ALPN = ["pillion-h2"]


def closed_port():
    """A port at which nobody listens."""
    return net.free_port()


def identity(port, account):
    """An endpoint whose certificate must be that account's."""
    return {"endpoint": {"address": bootstrap.address(port)}, "metadata": {"filter_metadata": {
        "pillion.io": {"identity": certs.spiffe_id(account)}}}}


def metric(admin, family, **labels):
    """The sum of the family's samples that have these labels."""
    with urllib.request.urlopen(f"http://{net.LOOPBACK}:{admin}/stats/prometheus", timeout=5) as got:
        lines = got.read().decode().splitlines()
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines
               if line.startswith(family) and line[len(family):][:1] in "{ "
               and all(label in line for label in wanted))


class Counting(net.Peer):
    """Passes bytes on to a port and counts connections."""

    def __init__(self, to):
        super().__init__(lambda sock, _: self._relay(sock, to))

    @staticmethod
    def _relay(sock, to):
        with socket.create_connection((net.LOOPBACK, to)) as other, contextlib.suppress(OSError):
            pairs = {sock: other, other: sock}
            while True:
                for ready in select.select(list(pairs), [], [])[0]:
                    piece = ready.recv(65536)
                    if not piece:
                        return
                    pairs[ready].sendall(piece)


class Pods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        certs.make(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def origin(self):
        return self.stack.enter_context(origin.Origin(origin.answer_all))

    def pod(self, app_port, *options, alpn=None, **fields):
        """The sidecar before an application; (process, admin port)."""
        config, port = hop(cluster("app", app_port, **fields),
                           transport_socket=bootstrap.downstream_tls(self.folder.name, alpn or ALPN))
        config["static_resources"]["listeners"][0]["traffic_direction"] = "INBOUND"
        admin = net.free_port()
        config["admin"] = {"address": bootstrap.address(admin)}
        config["node"]["cluster"] = "order.shop"
        return self.stack.enter_context(
            Sidecar(config, port, "--metrics-address", f"127.0.0.1:{net.free_port()}", *options)), admin

    def caller(self, *pods, alpn=None, edit=None, **route):
        """The sidecar of a client of those pods; (process, admin port)."""
        to = cluster("pods", *(pod.port for pod in pods), http2=True, lb_policy="ROUND_ROBIN",
                     transport_socket=bootstrap.upstream_tls(self.folder.name, alpn or ALPN))
        if edit is not None:
            edit(to)
        config, port = hop(to, **route)
        config["static_resources"]["listeners"][0]["traffic_direction"] = "OUTBOUND"
        admin = net.free_port()
        config["admin"] = {"address": bootstrap.address(admin)}
        config["node"]["cluster"] = "front.shop"
        return self.stack.enter_context(
            Sidecar(config, port, "--metrics-address", f"127.0.0.1:{net.free_port()}")), admin

    def test_a_post_that_no_application_saw_goes_elsewhere(self):
        good = self.origin()
        dead, _ = self.pod(closed_port())
        alive, _ = self.pod(good.port)
        caller, admin = self.caller(dead, alive)
        with http1.Client(caller.port) as client:
            for i in range(20):
                answer = client.request("POST", f"/{i}", body=b"paid once")
                self.assertEqual(answer.status, 200)
        self.assertEqual(len(good.requests), 20)
        self.assertGreater(metric(admin, "pillion_retry_verdicts_total", why="FREE"), 5)

    def test_without_another_pod_the_answer_names_the_reason(self):
        dead, admin = self.pod(closed_port())
        caller, _ = self.caller(dead)
        with http1.Client(caller.port) as client:
            answer = client.request("POST", body=b"x")
        self.assertEqual(answer.status, 503)
        self.assertIn("the endpoint refused the connection", answer.get("proxy-status"))
        self.assertGreater(metric(admin, "pillion_exchange_failures_total", fail="CONNECT_REFUSED"), 1)

    def test_peers_of_other_meshes_get_an_answer(self):
        dead, _ = self.pod(closed_port(), alpn=["h2"])
        caller, _ = self.caller(dead, alpn=["h2"])
        with http1.Client(caller.port) as client:
            answer = client.request("POST", body=b"x")
        self.assertEqual(answer.status, 503)
        self.assertIn("connection_refused", answer.get("proxy-status"))

    def test_a_request_that_was_seen_is_not_given_back(self):
        def die(connection):
            connection.request()

        seen = self.stack.enter_context(origin.Origin(die))
        good = self.origin()
        bad, _ = self.pod(seen.port)
        alive, _ = self.pod(good.port)
        caller, _ = self.caller(bad, alive)
        statuses = []
        with http1.Client(caller.port) as client:
            for i in range(10):
                statuses.append(client.request("POST", f"/{i}", body=b"paid once").status)
        self.assertEqual(sorted(set(statuses)), [200, 503])
        self.assertEqual(len(good.requests) + seen.connections, 10)

    def test_who_drains_is_left_at_once(self):
        one, two = self.origin(), self.origin()
        leaving, _ = self.pod(one.port, "--drain-min", "2s")
        staying, _ = self.pod(two.port)
        caller, _ = self.caller(leaving, staying)
        with http1.Client(caller.port) as client:
            for i in range(10):
                self.assertEqual(client.request("GET", f"/{i}").status, 200)
            self.assertGreater(len(one.requests), 2)
            leaving.send_signal(signal.SIGTERM)
            net.wait_for(lambda: "draining" in leaving.output(), what="the drain")
            time.sleep(0.2)  # one loopback flight
            before = len(one.requests)
            for i in range(20):
                self.assertEqual(client.request("GET", f"/{i}").status, 200)
            self.assertEqual(len(one.requests), before)

    def test_who_called_is_known(self):
        app = self.origin()
        pod, admin = self.pod(app.port)
        caller, _ = self.caller(pod)
        with http1.Client(caller.port) as client:
            self.assertEqual(client.request("GET", "/").status, 200)
            self.assertEqual(client.request("GET", "/").status, 200)
        net.wait_for(lambda: metric(admin, "istio_requests_total", reporter="destination",
                                    source_workload="front", source_app="front") >= 1,
                     what="the caller's labels")

    def test_an_address_with_another_identity_is_not_asked_twice(self):
        good = self.origin()
        wrong, _ = self.pod(good.port)
        right, _ = self.pod(good.port)

        def edit(to):
            to["load_assignment"]["endpoints"] = [{"lb_endpoints": [
                identity(wrong.port, "somebody-else"), identity(right.port, "server")]}]

        caller, admin = self.caller(wrong, right, edit=edit)
        with http1.Client(caller.port) as client:
            for i in range(20):
                self.assertEqual(client.request("POST", f"/{i}", body=b"x").status, 200)
        self.assertEqual(metric(admin, "pillion_attempt_failures_total", fail="TLS_PEER"), 1)

    def test_a_connection_that_is_old_is_replaced_under_traffic(self):
        app = self.origin()
        pod, _ = self.pod(app.port)

        def edit(to):
            options = next(iter(to["typed_extension_protocol_options"].values()))
            options["common_http_protocol_options"] = {"max_connection_duration": "0.3s"}

        relay = self.stack.enter_context(Counting(pod.port))
        caller, _ = self.caller(relay, edit=edit)
        with http1.Client(caller.port) as client:
            until = time.monotonic() + 2
            while time.monotonic() < until:
                self.assertEqual(client.request("GET", "/").status, 200)
                time.sleep(0.01)
        self.assertGreater(relay.connections, 2)
        self.assertLess(relay.connections, 12)

    def test_an_attempt_that_is_silent_is_given_up(self):
        def hang(connection):
            connection.request()
            connection.sock.recv(1)

        slow = self.stack.enter_context(origin.Origin(hang))
        config, port = hop(cluster("app", slow.port), retry_policy={
            "retry_on": "gateway-error", "num_retries": 1, "per_try_idle_timeout": "0.1s"})
        sidecar = self.stack.enter_context(Sidecar(config, port))
        with http1.Client(sidecar.port) as client:
            self.assertEqual(client.request("GET", "/").status, 504)
        self.assertEqual(slow.connections, 2)

    def test_a_client_connection_carries_what_it_may(self):
        app = self.origin()
        config, port = hop(cluster("app", app.port))
        filters = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
        filters[0]["typed_config"]["common_http_protocol_options"] = {
            "max_requests_per_connection": 2}
        sidecar = self.stack.enter_context(Sidecar(config, port))
        with http1.Client(sidecar.port) as client:
            self.assertIsNone(client.request("GET", "/").get("connection"))
            self.assertEqual(client.request("GET", "/").get("connection"), "close")
            self.assertTrue(client.at_end())

    def test_a_client_connection_lives_as_long_as_it_may(self):
        app = self.origin()
        config, port = hop(cluster("app", app.port))
        filters = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
        filters[0]["typed_config"]["common_http_protocol_options"] = {
            "max_connection_duration": "0.2s"}
        sidecar = self.stack.enter_context(Sidecar(config, port))
        with http1.Client(sidecar.port) as client:
            self.assertEqual(client.request("GET", "/").status, 200)
            self.assertTrue(client.at_end())


if __name__ == "__main__":
    unittest.main()
