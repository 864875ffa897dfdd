"""A sidecar that knows its control plane by name."""

import unittest

from support import net
from support.control import running, service, workload
from support.dns import Dns
from support.sidecar import Sidecar

MESH = (service("order-service"), workload("v1-a", "order-service", "v1", 18001),
        workload("client", "client", "v1", 18002, account="client"))
HOST = "control.test"


class ControlByName(unittest.TestCase):
    def setUp(self):
        self.dns = self.enterContext(Dns())
        self.control = self.enterContext(running(*MESH))

    def sidecar(self):
        made = Sidecar(self.control, "client", "client", control_host=HOST,
                       options=("--dns-server", self.dns.address))
        self.addCleanup(lambda: made.__exit__(None, None, None))
        return made

    def test_addresses_are_tried_in_turn(self):
        """Nobody listens on the first ones."""
        self.dns.names[HOST] = ["127.0.0.77", "::1", net.LOOPBACK]
        self.sidecar().start()

    def test_a_name_that_resolves_later_is_found(self):
        sidecar = self.sidecar().start(ready=False)
        net.wait_for(lambda: (HOST, 1) in self.dns.asked, what="a question")
        self.assertFalse(sidecar.is_ready())
        self.dns.names[HOST] = [net.LOOPBACK]
        net.wait_for(sidecar.is_ready, 30, what="readiness")


if __name__ == "__main__":
    unittest.main()
