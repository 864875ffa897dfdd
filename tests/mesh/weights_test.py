"""Weights through a real mesh: exact for one worker, and shared fairly by many small clients."""

import contextlib
import unittest

from support.control import SUBSETS, split
from support.mesh import Mesh
from support.traffic import Scene, shares

PRESETS = ("asan", "release")
THREE_AND_TWO = {"v1-a": "v1", "v1-b": "v1", "v1-c": "v1", "v2-a": "v2", "v2-b": "v2"}


def versions(results):
    """{version: answers}; what nobody's application answered is under its reason."""
    got = {}
    for result in results:
        key = result.app.split("-")[0] if result.app else result.why
        got[key] = got.get(key, 0) + 1
    return got


class Weights(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.scene = self.stack.enter_context(Scene())

    def mesh(self, **how):
        return Mesh(self.stack, self.scene, policy=(SUBSETS, split(90, 10)), **how)

    def test_one_worker_is_exact(self):
        mesh = self.mesh(apps=THREE_AND_TWO, workers=1)
        results = mesh.load(2000).run()
        got = versions(results)
        self.assertEqual(set(got), {"v1", "v2"})
        self.assertAlmostEqual(got["v1"], 1800, delta=1)
        # Every instance takes part in its version's share.
        self.assertEqual(set(shares(results)), set(THREE_AND_TWO))

    def test_each_worker_may_be_one_off(self):
        mesh = self.mesh(workers=3)
        got = versions(mesh.load(2000).run())
        self.assertEqual(set(got), {"v1", "v2"})
        self.assertAlmostEqual(got["v1"], 1800, delta=3)

    def test_clients_that_ask_little_give_v2_its_share(self):
        """Thirty requests each. And they begin at phases of their own: a thousand clients that ask
        once must not all ask v1."""
        clients = [f"client-{i}" for i in range(10)]
        mesh = self.mesh(workers=1, clients=clients)
        firsts = set()
        for name in clients:
            results = mesh.load(30, name, connections=1).run()
            self.assertEqual(versions(results), {"v1": 27, "v2": 3}, name)
            firsts.add(next(i for i, r in enumerate(results) if r.app.startswith("v2")))
        self.assertGreater(len(firsts), 1)


if __name__ == "__main__":
    unittest.main()
