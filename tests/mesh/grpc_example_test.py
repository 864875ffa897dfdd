"""examples/grpc/run, in a shorter form: what it promises, and that it leaves nothing behind."""

import json
import os
import unittest

from support import needs
from support.program import BUILD, ROOT, run, temp_folder

SHORT = ("--programs", f"{BUILD}/bin", "--calls", "200", "--rate", "100")
FACTS = {"canary": 5, "orders": 3, "retries": 3, "change": 3, "end": 1}


class Shop(unittest.TestCase):
    def promised(self, place, *options):
        with temp_folder() as folder:
            os.chmod(folder, 0o711)  # the sidecars have a user of their own
            code, out, err = run([f"{ROOT}/examples/grpc/run", *SHORT, "--json", f"{folder}/seen.json",
                                  *options], timeout_s=600, env={"TMPDIR": folder})
            self.assertEqual(code, 0, out + err)
            self.assertEqual(os.listdir(folder), ["seen.json"])
            with open(f"{folder}/seen.json", encoding="utf-8") as file:
                seen = json.load(file)
        self.assertEqual((seen["good"], seen["place"]), (True, place))
        facts = [fact["section"] for fact in seen["facts"] if fact["holds"]]
        self.assertEqual({section: facts.count(section) for section in FACTS}, FACTS)
        for client in ("client-js", "client-py"):
            self.assertAlmostEqual(seen["canary"]["versions"][client]["v2"], 40, delta=4)
            self.assertAlmostEqual(seen["change"]["versions"][client]["v2"], 100, delta=4)

    def test_without_capture(self):
        self.promised("loopback", "--rootless")

    @needs.root
    @needs.program("nft")
    def test_with_capture_in_network_namespaces(self):
        self.promised("namespaces")

    def test_wrong_use(self):
        for words, said in ((("--calls", "10"), "--calls: at least 100"),
                            (("--rate", "9999"), "--rate: from 20 to 400")):
            code, _, err = run([f"{ROOT}/examples/grpc/run", *words])
            self.assertEqual(code, 2, err)
            self.assertIn(said, err)


if __name__ == "__main__":
    unittest.main()
