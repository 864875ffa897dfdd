"""Who may speak with whom: permissive and strict, and peers that are not who they should be."""

import contextlib
import socket
import time
import unittest

from support.control import workload
from support.http1 import Client, get
from support.mesh import ORDER, Mesh, metric, rule
from support.net import LOOPBACK, wait_for
from support.sidecar import Sidecar
from support.traffic import Scene, failed


def peer_authentication(mode, name="default", **spec):
    return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": name}, "spec": {"mtls": {"mode": mode}, **spec}}


class Peers(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.scene = self.stack.enter_context(Scene())

    def mesh(self, **how):
        return Mesh(self.stack, self.scene, apps=how.pop("apps", {"v1-a": "v1"}), **how)

    def ask(self, sidecar):
        """(status, Proxy-Status) of one request by its application."""
        answer = get(sidecar.out[ORDER], host=ORDER, timeout_s=20)
        return answer.status, answer.get("proxy-status", "")

    def plain(self, mesh, name="v1-a"):
        """The status that a caller outside the mesh gets from that server's sidecar; None where
        the connection is refused, or ended without an answer."""
        with contextlib.suppress(EOFError, ConnectionError), \
                Client(mesh.listen[name], timeout_s=5) as client:
            return client.request("GET", "/").status
        return None

    def test_permissive_takes_both_strict_only_the_mesh(self):
        mesh = self.mesh()
        self.assertEqual((self.ask(mesh.client)[0], self.plain(mesh)), (200, 200))
        mesh.write(peer_authentication("STRICT"))
        wait_for(lambda: self.plain(mesh) is None, what="plain text refused")
        self.assertEqual(self.ask(mesh.client)[0], 200)
        self.assertEqual([], failed(mesh.load(50).run()))
        callers = set(mesh.apps["v1-a"].callers)
        self.assertTrue(any("URI=spiffe://cluster.local/ns/default/sa/client" in c for c in callers),
                        callers)
        mesh.write(peer_authentication("PERMISSIVE"))
        wait_for(lambda: self.plain(mesh) == 200, what="plain text taken again")

    def test_strict_for_one_workload(self):
        mesh = self.mesh(apps={"v1-a": "v1", "v2-a": "v2"})
        mesh.write(peer_authentication("STRICT", "v2-only",
                                       selector={"matchLabels": {"version": "v2"}}))
        wait_for(lambda: self.plain(mesh, "v2-a") is None, what="plain text refused by v2")
        self.assertEqual(self.plain(mesh, "v1-a"), 200)
        self.assertEqual([], failed(mesh.load(50).run()))

    def test_strict_for_the_whole_mesh_in_the_root_namespace(self):
        mesh = self.mesh()
        everywhere = peer_authentication("STRICT")
        everywhere["metadata"]["namespace"] = "istio-system"
        mesh.write(everywhere)
        wait_for(lambda: self.plain(mesh) is None, what="plain text refused")
        mesh.write(peer_authentication("PERMISSIVE"))  # the namespace's own wins
        wait_for(lambda: self.plain(mesh) == 200, what="plain text taken again")

    def test_a_server_of_another_account_is_refused(self):
        """Another workload listens where the control plane says that v1-a does."""
        mesh = self.mesh()
        mesh.control.write("impostor.yaml",
                           workload("impostor", "other", "v1", mesh.listen["v1-a"], True, "other"))
        wait_for(lambda: "WorkloadEntry/default/impostor" in mesh.control.generations(),
                 what="the impostor known")
        mesh.servers["v1-a"].program.stop()
        impostor = self.stack.enter_context(Sidecar(
            mesh.control, "impostor", "other",
            inbound={mesh.listen["v1-a"]: mesh.apps["v1-a"].port}))
        status, why = self.ask(mesh.client)
        self.assertEqual(status, 503)
        self.assertIn("spiffe://cluster.local/ns/default/sa/other", why)
        self.assertIn("spiffe://cluster.local/ns/default/sa/order-service", why)
        impostor.program.wait_for_output("inbound TLS refused")
        self.assertRegex(mesh.client.program.output(),
                         "another workload answers .*sa/other is not .*sa/order-service")
        self.assertGreaterEqual(metric(mesh.client, "pillion_attempt_failures_total",
                                       fail="TLS_PEER"), 1)
        self.assertEqual(mesh.apps["v1-a"].requests(), 0)

    def test_peers_of_another_mesh_are_refused(self):
        """Its authority is unknown here, and ours there, whatever the names say."""
        ours, theirs = self.mesh(), self.mesh()
        for mesh in (ours, theirs):
            mesh.write(peer_authentication("STRICT"))
            wait_for(lambda m=mesh: self.plain(m) is None, what="strict")
        before = ours.apps["v1-a"].requests()
        # The stranger's control plane says that our server is its own.
        foreign = workload("v1-a", "order-service", "v1", ours.listen["v1-a"], True)
        theirs.control.write("moved.yaml", {**foreign, "metadata": {"name": "moved"}})
        theirs.servers["v1-a"].program.stop()

        def refused():
            status, why = self.ask(theirs.client)
            return status == 503 and "certificate" in why
        wait_for(refused, 20, what="a refusal by the stranger's client")
        ours.servers["v1-a"].program.wait_for_output("inbound TLS refused")
        self.assertEqual(ours.apps["v1-a"].requests(), before)
        self.assertEqual(self.ask(ours.client)[0], 200)

    def test_an_expired_certificate_is_refused(self):
        """Nobody renews it: the control plane is gone for longer than it lasts."""
        mesh = self.mesh(control_options=("--cert-ttl", "10s"),
                         policy=(rule(connectionPool={"http": {"idleTimeout": "1s"}}),))
        self.assertEqual(self.ask(mesh.client)[0], 200)
        mesh.control.program.kill()
        sidecars = (mesh.client, mesh.servers["v1-a"])
        end = max(metric(s, "pillion_certificate_expiry_seconds") for s in sidecars)
        self.assertGreater(end, time.time() - 1)
        time.sleep(max(0.0, end + 1.5 - time.time()))  # and the kept connection ended

        def refused():
            time.sleep(1.5)
            status, why = self.ask(mesh.client)
            return status == 503 and why
        self.assertIn("expired", wait_for(refused, 20, what="a refusal"))
        mesh.servers["v1-a"].program.wait_for_output("inbound TLS refused")
        mesh.control.start()
        wait_for(lambda: self.ask(mesh.client)[0] == 200, 60, what="certificates again")

    def test_strict_refuses_other_things_than_mesh_tls(self):
        mesh = self.mesh()
        mesh.write(peer_authentication("STRICT"))
        wait_for(lambda: self.plain(mesh) is None, what="strict")
        before = mesh.apps["v1-a"].requests()
        for bytes_sent in (b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\xff\xff" + b"x" * 4096,
                           b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 64):
            with self.subTest(bytes_sent[:16]), \
                    socket.create_connection((LOOPBACK, mesh.listen["v1-a"]), 5) as sock:
                sock.sendall(bytes_sent)
                sock.settimeout(15)
                with contextlib.suppress(ConnectionResetError):
                    while sock.recv(4096):
                        pass
        self.assertEqual(mesh.apps["v1-a"].requests(), before)
        self.assertEqual([], failed(mesh.load(20).run()))

    def test_a_server_that_is_not_there_is_no_matter_of_tls(self):
        mesh = self.mesh()
        mesh.servers["v1-a"].program.stop()
        status, why = self.ask(mesh.client)
        self.assertEqual(status, 503)
        self.assertIn("error=connection_refused", why)


if __name__ == "__main__":
    unittest.main()
