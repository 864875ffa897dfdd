"""tcp_proxy with weighted clusters: each connection is drawn, and the shares are exact."""

import collections
import contextlib
import socket
import unittest

from support import net
from support.static import Sidecar, bootstrap, cluster, hop, settings


class Weighted(unittest.TestCase):
    def test_connections_are_shared_by_weight(self):
        with contextlib.ExitStack() as stack:
            origins = {name: stack.enter_context(
                net.Peer(lambda sock, _, name=name: sock.sendall(name))) for name in (b"one", b"two")}
            tcp = bootstrap.tcp_filter("one")
            del settings(tcp)["cluster"]
            settings(tcp)["weighted_clusters"] = {
                "clusters": [{"name": "one", "weight": 3}, {"name": "two", "weight": 1}]}
            config, port = hop(cluster("one", origins[b"one"].port), tcp)
            config["static_resources"]["clusters"].append(cluster("two", origins[b"two"].port))
            stack.enter_context(Sidecar(config, port))
            got = collections.Counter()
            for _ in range(80):
                with socket.create_connection((net.LOOPBACK, port), 20) as raw:
                    got[net.read_exactly(raw, 3)] += 1
            self.assertLessEqual(abs(got[b"one"] - 60), 1, got)
            self.assertEqual(got.total(), 80)


if __name__ == "__main__":
    unittest.main()
