"""A mesh under load while it changes and while parts of it are killed: what its users see of that.

Every request has an id; the client counts answers, the applications count ids. No request may be
answered by anybody but an application, but for what behaviour.md names; none may arrive twice."""

import contextlib
import signal
import time
import unittest

from support.control import SUBSETS, split
from support.mesh import Mesh, metric, rule
from support.traffic import Scene, counted, doubled, failed, shares

PRESETS = ("release",)
THREE = {"v1-a": "v1", "v1-b": "v1", "v1-c": "v1"}


class UnderLoad(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.scene = self.stack.enter_context(Scene())

    def mesh(self, **how):
        """Without outlier detection, unless a test asks: what it would hide is looked for here."""
        return Mesh(self.stack, self.scene, **{"policy": (rule(),), **how})

    def assert_all_answered(self, mesh, results):
        """Each request once, by an application, with its own id."""
        self.assertEqual(failed(results)[:5], [])
        self.assertEqual(counted(mesh.apps.values()), {r.id: 1 for r in results})

    def assert_gets_answered_posts_never_doubled(self, mesh, results):
        """The POSTs that failed: each 503 UC, its connection having ended under it."""
        bad = failed(results)
        self.assertEqual([r for r in bad if r.method == "GET"][:5], [])
        self.assertEqual(doubled(mesh.apps.values()), {})
        for result in bad:
            self.assertEqual(result.status, 503, result)
            self.assertIn("connection_terminated", result.why, result)
        return bad

    def test_five_changes_of_weights(self):
        mesh = self.mesh(policy=(SUBSETS, split(90, 10)), workers=2)
        load = mesh.load(20000, rate=500).start()
        began = time.monotonic()
        for number, (v1, v2) in enumerate(((50, 50), (0, 100), (100, 0), (30, 70), (90, 10))):
            time.sleep(max(0.0, began + 10 + 2 * number - time.monotonic()))
            mesh.change(split(v1, v2))
        results = load.wait()
        self.assertEqual(len(results), 20000)
        self.assert_all_answered(mesh, results)
        # Before the first change and after the last one: the shares that were asked for.
        for part in (results[:5000], results[-5000:]):
            self.assertAlmostEqual(shares(part)["v2-a"], 500, delta=5)

    def test_control_is_killed_and_restarted(self):
        mesh = self.mesh(policy=(SUBSETS, split(100, 0)), workers=2)
        load = mesh.load(4000, rate=200).start()
        time.sleep(2)
        mesh.control.program.kill()
        mesh.control.write("VirtualService-order-service.yaml", split(0, 100))
        time.sleep(3)
        mesh.control.start()
        results = load.wait()
        self.assert_all_answered(mesh, results)
        self.assertEqual(set(shares(results[:1000])), {"v1-a"})
        self.assertEqual(set(shares(results[-100:])), {"v2-a"}, "the change made meanwhile")

    def test_a_server_s_sidecar_is_killed_and_restarted(self):
        """One of three. Another pair of client and server in the same mesh notices nothing."""
        mesh = self.mesh(apps=THREE, clients=("client", "bystander"), workers=2, delay_s=0.02)
        loads = [mesh.load(4800, name, rate=300).start() for name in mesh.clients]
        time.sleep(3)
        victim = mesh.servers["v1-a"]
        victim.program.kill()
        killed = time.monotonic()
        time.sleep(5)
        victim.start()
        results = [r for load in loads for r in load.wait()]
        bad = self.assert_gets_answered_posts_never_doubled(mesh, results)
        late = [r for r in results if r.begun >= killed and not r.app]
        recovered = max((r.ended for r in late), default=killed) - killed
        slow = max((r.ended - r.begun for r in results if r.begun >= killed - 1))
        print(f"      killed: {len(bad)} POSTs in flight got 503 UC; the last of them "
              f"{recovered * 1000:.0f} ms after; slowest answer {slow * 1000:.0f} ms")
        self.assertIn("v1-a", shares(results[-300:]), "it is used again")

    def test_another_pair_is_not_affected(self):
        """A service of its own beside one whose sidecar dies."""
        mesh, other = self.mesh(apps=THREE, workers=2), self.mesh(apps=THREE, workers=2)
        quiet = other.load(1500, rate=150).start()
        load = mesh.load(1500, rate=150).start()
        time.sleep(3)
        mesh.servers["v1-b"].program.kill()
        self.assert_gets_answered_posts_never_doubled(mesh, load.wait())
        self.assert_all_answered(other, quiet.wait())

    def test_an_application_is_stopped_and_started(self):
        mesh = self.mesh(apps=THREE, workers=2, delay_s=0.01)
        load = mesh.load(4500, rate=300).start()
        for name in ("v1-a", "v1-b"):
            time.sleep(2)
            mesh.apps[name].stop()
            time.sleep(2)
            mesh.apps[name].start()
        results = load.wait()
        bad = self.assert_gets_answered_posts_never_doubled(mesh, results)
        told = metric(mesh.client, "istio_requests_total", response_code="503")
        self.assertEqual(told, len(bad), "each of them is counted")
        print(f"      stopped twice: {len(bad)} POSTs got 503 UC")
        self.assertEqual(set(shares(results[-300:])), set(THREE), "all are used again")

    def test_a_server_s_sidecar_drains(self):
        mesh = self.mesh(apps=THREE, workers=2, delay_s=0.02, server_options=("--drain-min", "2s"))
        load = mesh.load(3000, rate=300).start()
        time.sleep(3)
        leaving = mesh.servers["v1-a"].program
        leaving.send_signal(signal.SIGTERM)
        self.assertEqual(leaving.wait(), 0)
        left = time.monotonic()
        results = load.wait()
        self.assert_all_answered(mesh, results)
        self.assertNotIn("v1-a", shares(r for r in results if r.begun > left))


if __name__ == "__main__":
    unittest.main()
