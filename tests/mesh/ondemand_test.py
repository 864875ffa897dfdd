"""Sidecars that a real pillion-control configures: identity, inbound, destinations on demand."""

import collections
import contextlib
import http.client
import os
import shutil
import socket
import time
import unittest

from support.control import SUBSETS, running, service, split, workload
from support.mesh import metric
from support.net import LOOPBACK, free_port, read_exactly, wait_for
from support.sidecar import App, Echo, Sidecar, ask

ORDER = "order-service:8000"
UNKNOWN = "no-such-service:8000"


class Mesh:
    """A client and two versions of a service, each with its sidecar."""

    def __init__(self, stack, outbound=(ORDER,), options=(), control_options=()):
        self.apps = {v: stack.enter_context(App(v)) for v in ("v1", "v2")}
        self.ports = {v: free_port() for v in self.apps}
        self.objects = [service("order-service"), SUBSETS,
                   workload("client", "client", "v1", free_port(), True, "client")]
        self.objects += [workload(f"{v}-a", "order-service", v, self.ports[v], True) for v in self.apps]
        self.control = stack.enter_context(running(*self.objects, options=control_options))
        self.sidecars = {
            v: stack.enter_context(Sidecar(self.control, f"{v}-a", "order-service",
                                           inbound={self.ports[v]: self.apps[v].port}))
            for v in self.apps}
        self.client = stack.enter_context(
            Sidecar(self.control, "client", "client", outbound=outbound, options=options))

    def change(self, file, *objects):
        """Writes a file, and returns when every sidecar that it concerns has taken it."""
        self.write(file, *objects)
        self.live("order-service")

    def write(self, file, *objects):
        """Writes a file, and returns when the control plane has taken it."""
        before = self.control.generation()
        self.control.write(file, *objects)
        self.control.wait_generation(before)

    def live(self, name):
        wanted = {"objects": [{"kind": "VirtualService", "name": name}], "timeout_ms": 20000}

        def taken():
            status, answer = self.control.post("/api/wait", wanted)
            return status == 200 and answer["live"]
        wait_for(taken, what=f"{name} in force")


def tcp_service(name, port_name, address):
    return service(name, clusterIP=address, selector={"app": "echo"},
                   ports=[{"name": port_name, "port": 9000, "targetPort": "tcp"}])


class OnDemand(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def mesh(self, **how):
        return Mesh(self.stack, **how)

    def connect(self, sidecar, target):
        return self.stack.enter_context(contextlib.closing(sidecar.connect(target)))

    def shares(self, connection, count):
        """How many of so many requests each application got."""
        got = collections.Counter()
        for _ in range(count):
            status, _, body = ask(connection)
            self.assertEqual(status, 200, body)
            got[body["app"]] += 1
        return dict(got)

    def test_a_request_travels_over_two_sidecars(self):
        connection = self.connect(self.mesh().client, ORDER)
        for _ in range(20):
            status, _, body = ask(connection, "/orders")
            self.assertEqual((status, body["path"]), (200, "/orders"))
            self.assertEqual(body["from"][0], "127.0.0.6")
            self.assertIn("URI=spiffe://cluster.local/ns/default/sa/client",
                          body["headers"]["x-forwarded-client-cert"])

    def test_a_change_of_weights_holds_from_the_next_request_on(self):
        """Over the connection that is there, without an error; shares are exact."""
        mesh = self.mesh(options=("--workers", "1"))
        mesh.change("canary.yaml", split(90, 10))
        connection = self.connect(mesh.client, ORDER)
        self.assertEqual(self.shares(connection, 100), {"v1": 90, "v2": 10})
        for v1, v2, expected in ((50, 50, {"v1": 20, "v2": 20}), (0, 100, {"v2": 40}),
                                 (100, 0, {"v1": 40})):
            mesh.change("canary.yaml", split(v1, v2))
            self.assertEqual(self.shares(connection, 40), expected)

    def test_a_name_that_is_not_there_gets_503_at_once_and_may_appear(self):
        mesh = self.mesh(outbound=(UNKNOWN, f"{UNKNOWN}/tcp"))
        connection = self.connect(mesh.client, UNKNOWN)
        began = time.monotonic()
        status, headers, _ = ask(connection)
        self.assertEqual(status, 503)
        self.assertIn("proxy_configuration_error", headers["proxy-status"])
        self.assertLess(time.monotonic() - began, 3)
        with socket.create_connection((LOOPBACK, mesh.client.out[f"{UNKNOWN}/tcp"])) as raw, \
                self.assertRaises(ConnectionResetError):
            raw.sendall(b"x")
            raw.recv(1)

        app = self.stack.enter_context(App("late"))
        mesh.control.write("late.yaml", service("no-such-service", clusterIP="10.96.0.77"),
                           workload("late", "no-such-service", "v1", app.port))
        wait_for(lambda: ask(connection)[0] == 200, what="the service that appeared")

    def test_two_rules_of_one_host_hold_together(self):
        """Each has a subset that the other does not know."""
        mesh = self.mesh(options=("--workers", "1"))
        rules = [{**SUBSETS, "metadata": {"name": name}, "spec": {
            "host": "order-service", "subsets": [{"name": name, "labels": {"version": name}}]}}
            for name in ("v1", "v2")]
        mesh.write("mesh.yaml", *(each for each in mesh.objects if each is not SUBSETS), *rules)
        mesh.change("canary.yaml", split(50, 50))
        connection = self.connect(mesh.client, ORDER)
        self.assertEqual(self.shares(connection, 20), {"v1": 10, "v2": 10})

    def test_one_address_of_two_services_is_told_apart_by_authority(self):
        """Also on one connection; who is named by nobody is served by the older."""
        shared = "10.96.0.50:80"
        apps = {name: self.stack.enter_context(App(name)) for name in ("alpha", "beta")}
        mesh = self.mesh(outbound=(shared,))
        for name, app in apps.items():
            mesh.write(f"{name}.yaml", service(name, clusterIP="10.96.0.50", ports=[
                {"name": "http", "port": 80, "targetPort": app.port}]),
                workload(f"{name}-a", name, "v1", app.port))
        connection = self.connect(mesh.client, shared)
        for host, expected in (("alpha", "alpha"), ("beta", "beta"), ("beta.default:80", "beta"),
                               ("10.96.0.50", "alpha"), ("alpha", "alpha")):
            wait_for(lambda host=host, expected=expected:
                     ask(connection, headers={"Host": host})[2].get("app") == expected,
                     what=f"{expected} for {host}")
        self.assertEqual(ask(connection, headers={"Host": "nobody.default.svc.cluster.local"})[2]["app"],
                         "alpha")

    def test_a_service_that_goes_is_503_on_the_same_connection(self):
        mesh = self.mesh()
        connection = self.connect(mesh.client, ORDER)
        self.assertEqual(ask(connection)[0], 200)
        mesh.control.write("mesh.yaml", *mesh.objects[1:])
        wait_for(lambda: ask(connection)[0] == 503, what="the removal")
        mesh.control.write("mesh.yaml", *mesh.objects)
        wait_for(lambda: ask(connection)[0] == 200, what="its return")

    def test_what_a_sidecar_knows_can_be_seen(self):
        mesh = self.mesh(outbound=(ORDER, UNKNOWN), options=("--workers", "1"))
        self.assertEqual(ask(self.connect(mesh.client, ORDER))[0], 200)
        self.assertEqual(ask(self.connect(mesh.client, UNKNOWN))[0], 503)
        for text in ("host/order-service:8000", "host/no-such-service:8000", "UNKNOWN", "KNOWN"):
            self.assertIn(text, mesh.client.admin("/config_dump"))
        self.assertIn("virtualInbound", mesh.sidecars["v1"].admin("/config_dump"))
        self.assertIn("spiffe://cluster.local/ns/default/sa/client", mesh.client.admin("/certs"))

    def test_both_ends_know_both_workloads_labels(self):
        """A sidecar knows its name; its app and version it has from the control plane."""
        mesh = self.mesh(options=("--workers", "1"))
        mesh.change("canary.yaml", split(100, 0))
        self.assertEqual(ask(self.connect(mesh.client, ORDER))[0], 200)
        labels = {"source_workload": "client", "source_app": "client", "source_version": "v1",
                  "destination_workload": "v1-a", "destination_app": "order-service",
                  "destination_version": "v1"}
        for sidecar, reporter in ((mesh.client, "source"), (mesh.sidecars["v1"], "destination")):
            with self.subTest(reporter):
                self.assertEqual(metric(sidecar, "istio_requests_total", reporter=reporter, **labels), 1)

    def test_what_became_of_look_ups_and_answers_is_counted(self):
        mesh = self.mesh(outbound=(ORDER, UNKNOWN), options=(
            "--workers", "1", "--idle", "1s", "--negative", "1s"))

        def seen(name, **labels):
            return metric(mesh.client, name, **labels)

        for target, status in ((ORDER, 200), (UNKNOWN, 503)):
            with contextlib.closing(mesh.client.connect(target)) as connection:
                self.assertEqual(ask(connection)[0], status)
        self.assertEqual([seen("pillion_destinations_total", event=event)
                          for event in ("asked", "answered", "negative", "timed_out")], [2, 1, 1, 0])
        wait_for(lambda: seen("pillion_destinations_total", event="evicted") == 2, what="evictions")
        self.assertGreater(seen("pillion_config_answers_total", result="acknowledged"), 2)
        self.assertEqual(seen("pillion_config_answers_total", result="refused"), 0)
        self.assertIn(seen("pillion_config_generation"), range(1, mesh.control.generation() + 1))

    def test_what_is_outside_of_the_mesh_has_no_address_without_capture(self):
        mesh = self.mesh(outbound=("example.org:80",))
        self.assertEqual(ask(self.connect(mesh.client, "example.org:80"))[0], 503)

    def test_nothing_changes_for_traffic_without_the_control_plane(self):
        mesh = self.mesh(outbound=(ORDER, UNKNOWN), options=("--on-demand-timeout", "1s"))
        connection = self.connect(mesh.client, ORDER)
        self.assertEqual(ask(connection)[0], 200)
        mesh.control.program.kill()
        for _ in range(50):
            self.assertEqual(ask(connection)[0], 200)
        self.assertEqual(ask(self.connect(mesh.client, ORDER))[0], 200)
        began = time.monotonic()
        self.assertEqual(ask(self.connect(mesh.client, UNKNOWN))[0], 503)  # nobody answers
        self.assertGreater(time.monotonic() - began, 0.9)
        mesh.control.start()
        mesh.control.write("canary.yaml", split(0, 100))
        wait_for(lambda: ask(connection)[2]["app"] == "v2" and
                 set(self.shares(connection, 10)) == {"v2"}, 40, what="the change after the restart")

    def test_bytes_travel_too(self):
        """Declared by the port's name, or seen from a client that waits for its server."""
        echo = self.stack.enter_context(Echo())
        listen = free_port()
        mesh = self.mesh(outbound=("bytes:9000", "guess:9000"))
        target = workload("echo", "echo", "v1", listen, True)
        target["spec"]["ports"] = {"tcp": listen}
        mesh.write("echo.yaml", tcp_service("bytes", "tcp", "10.96.0.20"),
                     tcp_service("guess", "any", "10.96.0.21"), target)
        self.stack.enter_context(Sidecar(mesh.control, "echo", "order-service",
                                         inbound={listen: echo.port}))
        for name in ("bytes:9000", "guess:9000"):
            with self.subTest(name), \
                    socket.create_connection((LOOPBACK, mesh.client.out[name]), 10) as raw:
                self.assertEqual(read_exactly(raw, len(Echo.GREETING)), Echo.GREETING)
                for size in (1, 1000, 300000):
                    sent = os.urandom(size)
                    raw.sendall(sent)
                    self.assertEqual(read_exactly(raw, size), sent)
                raw.shutdown(socket.SHUT_WR)
                self.assertEqual(raw.recv(1), b"")


class Identity(unittest.TestCase):
    def test_a_bad_token_gives_no_certificate_and_no_readiness(self):
        with running(service("order-service")) as control:
            sidecar = Sidecar(control, "client", "client", outbound=(ORDER,))
            good = control.token(account="client")
            with open(sidecar.token, "w", encoding="utf-8") as file:
                file.write(good[:-6] + "AAAAAA")
            with sidecar.start(ready=False).program as program:
                program.wait_for_output("UNAUTHENTICATED")
                self.assertFalse(sidecar.is_ready())
                self.assertNotIn(good[:40], program.output())
                with open(sidecar.token, "w", encoding="utf-8") as file:
                    file.write(good)
                wait_for(sidecar.is_ready, what="readiness with the right token")

    def test_certificates_are_renewed_under_traffic(self):
        with contextlib.ExitStack() as stack:
            mesh = Mesh(stack, control_options=("--cert-ttl", "10s"))
            connection = stack.enter_context(contextlib.closing(mesh.client.connect(ORDER)))
            sides = (mesh.client, *mesh.sidecars.values())

            def renewed():
                self.assertEqual(ask(connection)[0], 200)
                return all(s.program.output().count(" certificate ") > 1 for s in sides)
            wait_for(renewed, 20, what="new certificates")
            self.assertEqual(ask(connection)[0], 200)

    def test_a_control_plane_with_a_new_authority_is_found_again(self):
        """Its state was lost: neither our certificate nor its own is known to the other any more."""
        with contextlib.ExitStack() as stack:
            mesh = Mesh(stack)
            connection = stack.enter_context(contextlib.closing(mesh.client.connect(ORDER)))
            self.assertEqual(ask(connection)[0], 200)
            mesh.control.program.kill()
            shutil.rmtree(mesh.control.state)
            mesh.control.start()
            for sidecar, account in ((mesh.client, "client"),
                                     *((s, "order-service") for s in mesh.sidecars.values())):
                with open(sidecar.token, "w", encoding="utf-8") as file:
                    file.write(mesh.control.token(account=account))
            mesh.control.write("canary.yaml", split(0, 100))

            def found():
                """Cut when a root goes, 503 while only some have their new certificate."""
                with contextlib.suppress(http.client.HTTPException), \
                        contextlib.closing(mesh.client.connect(ORDER)) as fresh:
                    answers = [ask(fresh) for _ in range(10)]
                    return all(status == 200 and body["app"] == "v2" for status, _, body in answers)
            wait_for(found, 60, what="the new control plane's word")
            said = "".join(sidecar.program.output()
                           for sidecar in (mesh.client, *mesh.sidecars.values()))
            self.assertRegex(said, "an? (caller|endpoint) is trusted no more",  # whoever learns it first
                             "the connection of before is ended")

    def test_who_has_the_new_roots_leaves_those_whose_root_is_gone(self):
        """A server that keeps its old certificate: its client ends what it has to it, and stays away."""
        with contextlib.ExitStack() as stack:
            mesh = Mesh(stack)
            connection = stack.enter_context(contextlib.closing(mesh.client.connect(ORDER)))
            self.assertEqual(ask(connection)[0], 200)
            mesh.control.program.kill()
            shutil.rmtree(mesh.control.state)
            mesh.control.start()
            with open(mesh.client.token, "w", encoding="utf-8") as file:
                file.write(mesh.control.token(account="client"))
            wait_for(lambda: "an endpoint is trusted no more" in mesh.client.program.output(), 30,
                     what="the end of the connection")

    def test_another_s_root_is_not_believed(self):
        with running(service("order-service")) as control, running() as other:
            sidecar = Sidecar(control, "client", "client")
            at = sidecar.command.index("--mesh-root") + 1
            sidecar.command[at] = f"{other.state}/ca/root.pem"
            with sidecar.start(ready=False).program as program:
                program.wait_for_output("no certificate")
                self.assertFalse(sidecar.is_ready())


if __name__ == "__main__":
    unittest.main()
