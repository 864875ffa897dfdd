"""What two sidecars tell each other in PEER frames: a request that no application saw is given back
and goes elsewhere, whatever its method; who drains is left at once; who called is known."""

import contextlib
import signal
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


def metric(admin, family, **labels):
    """The sum of the family's samples that have these labels."""
    with urllib.request.urlopen(f"http://{net.LOOPBACK}:{admin}/stats/prometheus", timeout=5) as got:
        lines = got.read().decode().splitlines()
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines
               if line.startswith(family) and line[len(family):][:1] in "{ "
               and all(label in line for label in wanted))


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

    def caller(self, *pods, alpn=None, **route):
        """The sidecar of a client of those pods; (process, admin port)."""
        to = cluster("pods", *(pod.port for pod in pods), http2=True, lb_policy="ROUND_ROBIN",
                     transport_socket=bootstrap.upstream_tls(self.folder.name, alpn or ALPN))
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


if __name__ == "__main__":
    unittest.main()
