"""What the control plane's objects make of failures: retries, ejection and return, breakers."""

import contextlib
import json
import signal
import unittest

from support.control import split
from support.mesh import Mesh, metric, rule
from support.net import wait_for
from support.traffic import Scene, doubled, failed, shares

PRESETS = ("asan", "release")


def retrying(attempts, on, weights=(100, 0), **more):
    """The canary's VirtualService with retries."""
    item = split(*weights)
    item["spec"]["http"][0]["retries"] = {"attempts": attempts, "retryOn": on, **more}
    return item


class Policy(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.scene = self.stack.enter_context(Scene())

    def mesh(self, **how):
        return Mesh(self.stack, self.scene, **how)

    def test_an_endpoint_is_ejected_and_returns(self):
        mesh = self.mesh(
            apps={"v1-a": "v1", "v1-b": "v1", "v1-c": "v1"},
            policy=(rule(outlierDetection={"consecutive5xxErrors": 5, "interval": "1s",
                                           "baseEjectionTime": "2s",
                                           "maxEjectionPercent": 50}),))
        bad = mesh.apps["v1-b"]
        bad.status = 500
        # One at a time, so that what is in flight at the ejection is nothing.
        results = mesh.load(300, connections=1).run()
        self.assertEqual(len(failed(results)), 5)
        self.assertEqual(bad.requests(), 5)
        self.assertEqual(metric(mesh.client, "pillion_ejections_total"), 1)
        self.assertIn("endpoint ejected", mesh.client.program.output())
        bad.status = 200
        wait_for(lambda: "v1-b" in shares(mesh.load(30).run()), 20, what="its return")
        self.assertEqual(failed(mesh.load(100).run()), [])

    def test_the_last_endpoint_is_never_ejected(self):
        mesh = self.mesh(apps={"v1-a": "v1"},
                         policy=(rule(outlierDetection={"consecutive5xxErrors": 3, "interval": "1s",
                                                        "baseEjectionTime": "60s",
                                                        "maxEjectionPercent": 100}),))
        mesh.apps["v1-a"].status = 500
        mesh.load(20).run()
        mesh.apps["v1-a"].status = 200
        self.assertEqual(failed(mesh.load(20).run()), [])

    def test_retries_rescue_what_one_instance_spoils(self):
        """As the object asks: POST too, which without it nobody would try again."""
        mesh = self.mesh(apps={"v1-a": "v1", "v1-b": "v1", "v1-c": "v1"},
                         policy=(rule(), retrying(2, "5xx")))
        mesh.apps["v1-b"].status = 500
        # Never more retries at a time than the budget allows at the least, back-off included.
        results = mesh.load(300, connections=3).run()
        self.assertEqual(failed(results), [])
        spoilt = mesh.apps["v1-b"].requests()
        self.assertGreater(spoilt, 10)
        self.assertEqual(set(shares(results)), {"v1-a", "v1-c"})
        self.assertEqual(metric(mesh.client, "pillion_retry_verdicts_total", why="POLICY"), spoilt)

    def test_without_it_an_answer_is_an_answer(self):
        mesh = self.mesh(apps={"v1-a": "v1"})
        mesh.apps["v1-a"].status = 503
        results = mesh.load(20).run()
        self.assertEqual({(r.status, r.app) for r in results}, {(503, "v1-a")})
        self.assertEqual(mesh.apps["v1-a"].requests(), 20)

    def test_a_slow_try_is_given_up_for_another_endpoint(self):
        mesh = self.mesh(apps={"v1-a": "v1", "v1-b": "v1"},
                         policy=(rule(), retrying(2, "reset,gateway-error", perTryTimeout="250ms")))
        mesh.apps["v1-a"].delay_s = 3.0
        results = mesh.load(20, connections=2, methods=("GET",)).run()
        self.assertEqual(failed(results), [])
        self.assertEqual(set(shares(results)), {"v1-b"})

    def test_a_route_s_timeout(self):
        item = split(100, 0)
        item["spec"]["http"][0]["timeout"] = "300ms"
        mesh = self.mesh(apps={"v1-a": "v1"}, policy=(rule(), item))
        mesh.apps["v1-a"].delay_s = 5.0
        (result,) = mesh.load(1).run()
        self.assertEqual(result.status, 504)
        self.assertIn("http_response_timeout", result.why)
        self.assertIn("VirtualService/default/order-service", result.why)

    def test_attempts_zero_turns_every_retry_off(self):
        """The free ones too: the instance whose sidecar is gone is seen."""
        off = retrying(0, "5xx")
        del off["spec"]["http"][0]["retries"]["retryOn"]
        mesh = self.mesh(apps={"v1-a": "v1", "v1-b": "v1"}, policy=(rule(), off))
        mesh.servers["v1-a"].program.stop()
        results = mesh.load(40, connections=1).run()
        self.assertGreater(len(failed(results)), 0)
        mesh.change(split(100, 0))
        self.assertEqual(failed(mesh.load(40, connections=1, prefix="again").run()), [])
        self.assertEqual(doubled(mesh.apps.values()), {})

    def circuit(self):
        """Istio's circuit-breaking task: everything limited to one."""
        return self.mesh(
            apps={"v1-a": "v1"}, delay_s=0.002,
            policy=(rule(connectionPool={"tcp": {"maxConnections": 1, "connectTimeout": "10s"},
                                         "http": {"http1MaxPendingRequests": 1,
                                                  "maxRequestsPerConnection": 1}}),))

    def overflows(self, mesh, results):
        """How many of all results so far the breaker refused: it says so, and nothing else failed."""
        bad = failed(results)
        for result in bad:
            self.assertEqual(result.status, 503, result)
            self.assertIn("connection_limit_reached", result.why)
        self.assertEqual(metric(mesh.client, "pillion_breaker_overflows_total"), len(bad))
        self.assertEqual(metric(mesh.client, "istio_requests_total", response_flags="UO"), len(bad))
        return len(bad)

    def test_two_callers_of_a_circuit_of_one(self):
        """One is served and one waits: nothing is refused but while a connection is made, when both
        would wait. The server's sidecar stands still for the first two, so that both do."""
        mesh = self.circuit()
        server = mesh.servers["v1-a"].program
        server.send_signal(signal.SIGSTOP)
        try:
            load = mesh.load(2, connections=2, methods=("GET",)).start()
            wait_for(lambda: metric(mesh.client, "pillion_breaker_overflows_total") == 1, 8,
                     what="the second is refused")
        finally:
            server.send_signal(signal.SIGCONT)
        results = load.wait()
        self.assertEqual(self.overflows(mesh, results), 1)
        results += mesh.load(2000, connections=2, methods=("GET",)).run()
        self.assertLess(self.overflows(mesh, results), 1000)

    def test_three_callers_of_a_circuit_of_one(self):
        mesh = self.circuit()
        results = mesh.load(600, connections=3, methods=("GET",)).run()
        self.assertGreater(self.overflows(mesh, results), 300)

    def test_bad_yaml_leaves_the_last_good_in_force(self):
        """While requests flow: what nobody can mean changes nothing, and is named."""
        mesh = self.mesh(policy=(rule(), split(100, 0)), clients=("client", "second"))
        file = "VirtualService-order-service.yaml"
        good = json.dumps(split(0, 100))
        bad = {"no YAML": "a: [b\n  c: {", "no text": "\0\1\2", "tabs": "\tkind: VirtualService",
               "a wrong type": good.replace('"weight": 100', '"weight": "all"'),
               "a sum of nothing": good.replace('"weight": 100', '"weight": 0'),
               "an unknown field": good.replace('"weight": 100', '"wait": 100'),
               "no destination": good.replace('"host": "order-service"', '"host": ""'),
               "half a file": good[:len(good) // 2], "too deep": "[" * 100000}
        load = mesh.load(len(bad) * 40, client="second", rate=40).start()
        for number, (name, text) in enumerate(bad.items()):
            with self.subTest(name):
                mesh.control.write_text(file, text)
                wait_for(lambda n=number: mesh.control.program.output().count(file) > n,
                         what="the file named in the log")
                self.assertTrue(mesh.control.metric("pillion_control_file_rejected", file=file))
                self.assertEqual(set(shares(mesh.load(20, connections=1).run())), {"v1-a"})
        results = load.wait()
        self.assertEqual(failed(results), [])
        self.assertEqual(set(shares(results)), {"v1-a"})
        mesh.change(split(0, 100))
        self.assertEqual(set(shares(mesh.load(20).run())), {"v2-a"})


if __name__ == "__main__":
    unittest.main()
