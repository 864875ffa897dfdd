"""Clusters whose endpoints are names, against a scripted name server."""

import unittest

from support import http1, net
from support.dns import A, SERVFAIL, Dns
from support.origin import Origin, answer_all
from support.static import Sidecar, cluster, hop


class Names(unittest.TestCase):
    """One sidecar with one cluster of the name app.test, refreshed often."""

    kind = "STRICT_DNS"

    def setUp(self):
        self.dns = self.enterContext(Dns())
        self.origin = self.enterContext(Origin())
        self.origin.script = answer_all

    def start(self, **fields):
        made = cluster("app", self.origin.port, type=self.kind, dns_lookup_family="V4_ONLY",
                       **{"dns_refresh_rate": "0.1s", **fields})
        place = made["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        place["address"]["socket_address"]["address"] = "app.test"
        config, port = hop(made)
        self.sidecar = self.enterContext(
            Sidecar(config, port, "--dns-server", self.dns.address, workers=2))

    def get(self):
        client = http1.Client(self.sidecar.port)
        try:
            return client.request()
        finally:
            client.close()

    def wait_for_status(self, status):
        return net.wait_for(lambda: (answer := self.get()).status == status and answer,
                            what=f"an answer of {status}")

    def times_asked(self):
        return self.dns.asked.get(("app.test", A), 0)

    def wait_for_questions(self, more):
        until = self.times_asked() + more
        net.wait_for(lambda: self.times_asked() >= until, what="questions")

    def test_what_does_not_resolve_yet_is_503_with_its_reason_and_then_serves(self):
        self.start()
        answer = self.wait_for_status(503)
        self.assertIn("dns_error", answer.get("proxy-status"))
        self.wait_for_questions(2)
        self.dns.names["app.test"] = [net.LOOPBACK]
        self.wait_for_status(200)

    def test_a_failure_keeps_the_last_good_addresses(self):
        self.dns.names["app.test"] = [net.LOOPBACK]
        self.start()
        self.wait_for_status(200)
        self.dns.names["app.test"] = SERVFAIL
        self.wait_for_questions(3)
        self.assertEqual(self.get().status, 200)

    def test_other_addresses_take_the_place_of_those_before(self):
        self.dns.names["app.test"] = ["127.0.0.77"]  # nobody listens there
        self.start()
        self.wait_for_status(503)
        self.dns.names["app.test"] = [net.LOOPBACK]
        self.wait_for_status(200)

    def test_the_answer_may_need_tcp(self):
        self.dns.truncates = True
        self.dns.names["app.test"] = [net.LOOPBACK]
        self.start()
        self.wait_for_status(200)
        self.assertGreater(self.dns.over_tcp, 0)

    def test_a_time_to_live_is_respected_where_the_cluster_says_so(self):
        self.dns.ttl = 3600
        self.dns.names["app.test"] = [net.LOOPBACK]
        self.start(respect_dns_ttl=True)
        self.wait_for_status(200)
        asked = self.times_asked()
        for _ in range(10):
            self.assertEqual(self.get().status, 200)
        self.assertEqual(self.times_asked(), asked)


class Strict(Names):
    def test_a_name_without_addresses_any_more_loses_them(self):
        self.dns.names["app.test"] = [net.LOOPBACK]
        self.start()
        self.wait_for_status(200)
        del self.dns.names["app.test"]
        self.assertIn("dns_error", self.wait_for_status(503).get("proxy-status"))


class Logical(Names):
    kind = "LOGICAL_DNS"

    def test_a_name_without_addresses_any_more_keeps_its_last(self):
        self.dns.names["app.test"] = ["127.0.0.77", net.LOOPBACK]
        self.start()
        self.wait_for_status(503)  # one address of two, the first
        self.dns.names["app.test"] = [net.LOOPBACK]
        self.wait_for_status(200)
        del self.dns.names["app.test"]
        self.wait_for_questions(3)
        self.assertEqual(self.get().status, 200)


del Names

if __name__ == "__main__":
    unittest.main()
