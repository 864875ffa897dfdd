"""examples/databases/run: what it promises, and that it leaves nothing behind."""

import json
import os
import unittest

from support import needs
from support.opaque import servers
from support.program import BUILD, ROOT, have, run, temp_folder

RUN = f"{ROOT}/examples/databases/run"
ROWS = {"redis", "postgresql", "postgresql_tls", "rabbitmq", "mariadb"}


@unittest.skipUnless(servers.postgres_programs() and have("mariadbd") and have("amqp-publish") and
                     have("redis-server") and have("epmd"), "needs the servers of tests/setup")
class Databases(unittest.TestCase):
    def promised(self, place, *options):
        with temp_folder() as folder:
            os.chmod(folder, 0o711)  # servers and sidecars have users of their own
            code, out, err = run([RUN, "--programs", f"{BUILD}/bin", "--json", f"{folder}/seen.json",
                                  *options], timeout_s=500, env={"TMPDIR": folder})
            self.assertEqual(code, 0, out + err)
            self.assertEqual(os.listdir(folder), ["seen.json"])
            with open(f"{folder}/seen.json", encoding="utf-8") as file:
                seen = json.load(file)
            left = run(["pgrep", "-af", folder])[1]
        self.assertEqual(left, "")
        self.assertEqual((seen["good"], seen["place"]), (True, place))
        self.assertEqual([fact for fact in seen["facts"] if not fact["holds"]], [])
        self.assertGreaterEqual(seen["mesh"]["held"], 3)
        rows = seen["mesh"]["rows"]
        self.assertEqual(set(rows), ROWS)
        self.assertTrue(all(row["mutual_tls"] for row in rows.values()))
        self.assertGreater(rows["redis"]["bytes_to"], 1000000)
        self.assertGreater(rows["postgresql"]["bytes_from"], 1000000)

    def test_without_capture(self):
        self.promised("loopback", "--rootless")

    @needs.root
    @needs.program("nft")
    def test_with_capture_in_network_namespaces(self):
        self.promised("namespaces")


if __name__ == "__main__":
    unittest.main()
