"""examples/canary/run, in a shorter form: what it promises, that it leaves nothing behind, and how
it ends when it cannot go on."""

import json
import os
import signal
import subprocess
import time
import unittest

from support import needs
from support.net import wait_for
from support.program import BUILD, ROOT, run, temp_folder

PRESETS = ("asan", "release")
RUN = f"{ROOT}/examples/canary/run"
SHORT = ("--programs", f"{BUILD}/bin", "--requests", "600", "--rate", "300")
PASSES = ("without_mesh", "pass1", "pass2", "pass3", "pass4", "end")


def processes_with(text):
    """Ids of processes whose command line holds the text."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if text.encode() in file.read():
                    found.append(int(pid))
        except OSError:
            pass  # it ended meanwhile
    return found


class Canary(unittest.TestCase):
    def promised(self, place, *options):
        """All of a run's facts hold; its summary."""
        with temp_folder() as folder:
            os.chmod(folder, 0o711)  # the sidecars have a user of their own
            code, out, err = run([RUN, *SHORT, "--json", f"{folder}/seen.json", *options],
                                 timeout_s=300, env={"TMPDIR": folder})
            self.assertEqual(code, 0, out + err)
            self.assertEqual(os.listdir(folder), ["seen.json"])
            self.assertEqual(processes_with(folder), [])
            with open(f"{folder}/seen.json", encoding="utf-8") as file:
                seen = json.load(file)
        self.assertEqual((seen["good"], seen["place"]), (True, place))
        self.assertEqual([fact for fact in seen["facts"] if not fact["holds"]], [])
        self.assertEqual({fact["section"] for fact in seen["facts"]}, set(PASSES))
        return seen

    def check(self, seen):
        weights = seen["pass1"]["versions"]
        self.assertEqual(sum(weights.values()), 600)
        self.assertAlmostEqual(weights["v1"], 540, delta=4)
        self.assertGreaterEqual(seen["pass1"]["came_through"], 5)
        self.assertEqual(seen["pass1"]["callers"], ["spiffe://cluster.local/ns/default/sa/client"])
        self.assertEqual(seen["pass1"]["services"],
                         ["spiffe://cluster.local/ns/default/sa/order-service"])
        self.assertGreaterEqual(seen["pass2"]["rescued"], 5)
        self.assertEqual(seen["pass3"]["tagged_v2"], 150 // 2)
        self.assertEqual(len(seen["pass4"]["acknowledged_ms"]), 1)
        # healed and back: it gets its share again
        self.assertGreater(seen["pass4"]["instances"]["v1-a"], 100)

    def test_without_capture(self):
        self.check(self.promised("loopback", "--rootless"))

    @needs.root
    @needs.program("nft")
    def test_with_capture_in_network_namespaces(self):
        self.check(self.promised("namespaces"))


class Ends(unittest.TestCase):
    """However it ends, nothing runs on."""

    def started(self, folder):
        """A run whose six sidecars are up."""
        process = subprocess.Popen([RUN, *SHORT, "--rootless"], stdout=subprocess.PIPE, text=True,
                                   stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": folder})
        self.addCleanup(process.stdout.close)
        self.addCleanup(lambda: process.poll() is None and process.kill())
        wait_for(lambda: len(processes_with(f"{folder}/")) >= 12, 30, "the mesh")
        return process

    def test_interrupted(self):
        with temp_folder() as folder:
            process = self.started(folder)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=30)
            self.assertEqual(process.returncode, 1)
            self.assertIn("stopped by SIGINT", out)
            self.assertEqual((processes_with(folder), os.listdir(folder)), ([], []))

    def test_killed(self):
        with temp_folder() as folder:
            process = self.started(folder)
            process.kill()
            process.communicate(timeout=30)
            wait_for(lambda: not processes_with(f"{folder}/"), what="the kernel to end the rest")

    def test_a_sidecar_that_dies_is_named(self):
        with temp_folder() as folder:
            process = self.started(folder)
            time.sleep(1)
            victim = next(pid for pid in processes_with(f"{folder}/")
                          if pid in processes_with("pillion-sidecar")
                          and pid in processes_with("default/client"))
            os.kill(victim, signal.SIGKILL)
            out, _ = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 1, out)
            self.assertIn("sidecar-client ended with -9", out)
            self.assertEqual(processes_with(folder), [])

    def test_wrong_use(self):
        for words, said in ((("--requests", "10"), "--requests: at least 400"),
                            (("--rate", "9999"), "--rate: from 50 to 800"),
                            (("--requests", "9000"), "--requests: at most 20 s"),
                            (("--nonsense",), "--nonsense")):
            code, _, err = run([RUN, *words])
            self.assertEqual(code, 2, err)
            self.assertIn(said, err)


if __name__ == "__main__":
    unittest.main()
