"""Two pods whose traffic is taken over by real rules, each with its sidecar, and a real control.

    client pod (10.99.0.1) --- eth0 --- server pod (10.99.0.2, 10.99.0.9)
             |                                  |
          10.98.1.0/24 ----- control ----- 10.98.2.0/24

10.99.0.9 is an address that the mesh knows nothing of; services have addresses in 10.96.0.0/16."""

import contextlib
import http.client
import os
import shutil
import socket
import unittest

from support import needs, netns
from support.control import Control, service, workload
from support.net import read_exactly, wait_for
from support.program import Program, binary, run, temp_folder
from support.sidecar import App, Echo, ask

SIDECAR = 1337
CLIENT, SERVER, OUTSIDE = "10.99.0.1", "10.99.0.2", "10.99.0.9"
SERVICE, BYTES, UNKNOWN = "10.96.0.10", "10.96.0.20", "10.96.0.99"
ANY = "0.0.0.0"


class PodControl(Control):
    """A daemon inside of a pod, so without its API."""

    def __init__(self, folder, pod):
        super().__init__(folder)
        self.pod = pod

    def command(self):
        command = super().command()
        command[command.index("--xds-address") + 1] = f"{ANY}:15012"
        return self.pod.exec(*command)

    def start(self):
        self.program = Program(self.command())
        wait_for(lambda: os.path.exists(f"{self.state}/token.key") and
                 os.path.exists(f"{self.state}/ca/root.pem"), what="the control's state")
        return self


def at(name, address, app, account):
    entry = workload(name, app, "v1", 8000, True, account)
    entry["spec"]["address"] = address
    entry["spec"]["ports"] = {"http": 8000, "tcp": 9000}
    return entry


OBJECTS = (service("order-service", port=80, ports=[{"name": "http", "port": 80, "targetPort": 8000}]),
           service("bytes", clusterIP=BYTES, selector={"app": "order-service"},
                   ports=[{"name": "tcp", "port": 90, "targetPort": 9000}]),
           at("client", CLIENT, "client", "client"),
           at("server", SERVER, "order-service", "order-service"))


@needs.root
@needs.program("pillion-init")
@needs.program("nft")
class Captured(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.open = stack.enter_context
        self.client, self.server = self.open(netns.Namespace()), self.open(netns.Namespace())
        netns.wire(self.client, self.server)
        self.place = self.open(netns.Namespace())
        for pod, net in ((self.client, "10.98.1"), (self.server, "10.98.2")):
            cable = f"control{net[-1]}"
            netns.wire(self.place, pod, cable)
            self.place.ip("addr", "add", f"{net}.1/24", "dev", cable)
            pod.ip("addr", "add", f"{net}.2/24", "dev", cable)
        self.client.ip("addr", "add", f"{CLIENT}/24", "dev", "eth0")
        self.server.ip("addr", "add", f"{SERVER}/24", "dev", "eth0")
        self.server.ip("addr", "add", f"{OUTSIDE}/24", "dev", "eth0")
        self.client.ip("route", "add", "10.96.0.0/16", "via", SERVER)
        self.folder = self.open(temp_folder())
        os.chmod(self.folder, 0o755)
        self.control = control = PodControl(self.folder, self.place)
        control.write("mesh.yaml", *OBJECTS)
        self.open(control)
        self.app = self.open(App("server", listener=self.server.listen(ANY, 8000)))
        self.echo = self.open(Echo(self.server.listen(ANY, 9000)))
        for pod, name, address, account, reached in (
                (self.server, "server", SERVER, "order-service", "10.98.2.1:15012"),
                (self.client, "client", CLIENT, "client", "10.98.1.1:15012")):
            self.capture(pod)
            said = ("--address", address) if pod is self.server else ()  # else it finds its own
            sidecar = self.sidecar(control, pod, name, account, reached, *said)
            self.open(sidecar).wait_for_output("ready")

    def capture(self, pod):
        code, out, err = run(pod.exec(binary("pillion-init"), "--user", str(SIDECAR)))
        self.assertEqual(code, 0, out + err)

    def sidecar(self, control, pod, name, account, reached, *options):
        root, token = f"{self.folder}/root.pem", f"{self.folder}/{name}.token"
        shutil.copyfile(f"{control.state}/ca/root.pem", root)
        with open(token, "w", encoding="utf-8") as file:
            file.write(control.token(account=account))
        return Program(pod.exec(
            "setpriv", "--reuid", str(SIDECAR), "--regid", str(SIDECAR), "--clear-groups",
            binary("pillion-sidecar"), "--control-address", reached, "--mesh-root", root,
            "--token-file", token, "--workload", f"default/{name}", "--service-account",
            f"default/{account}", "--workers", "2", "--drain-min", "0", *options))

    def ask(self, address, port, host="order-service"):
        with contextlib.closing(http.client.HTTPConnection(host)) as connection:
            connection.sock = self.client.connect(address, port, timeout_s=10)
            return ask(connection, headers={"host": host})

    def assert_echo(self, address, port):
        with self.client.connect(address, port, timeout_s=10) as raw:
            self.assertEqual(read_exactly(raw, len(Echo.GREETING)), Echo.GREETING)
            raw.sendall(b"x" * 70000)
            self.assertEqual(read_exactly(raw, 70000), b"x" * 70000)

    def assert_reset(self, where, address, port):
        # The reset may come as soon as the connection is there: within connect itself.
        with self.assertRaises(ConnectionResetError), where.connect(address, port) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            raw.recv(1)

    def test_calls_of_every_kind(self):
        certificate = "spiffe://cluster.local/ns/default/sa/client"
        for what, address, port in (("a service", SERVICE, 80), ("a pod", SERVER, 8000)):
            with self.subTest(what):
                status, _, body = self.ask(address, port)
                self.assertEqual((status, body["from"][0]), (200, "127.0.0.6"))
                self.assertIn(certificate, body["headers"]["x-forwarded-client-cert"])
        with self.subTest("the address decides, not Host"):
            self.assertEqual(self.ask(SERVICE, 80, "example.org")[0], 200)
        with self.subTest("outside of the mesh, and in by plain text"):
            status, _, body = self.ask(OUTSIDE, 8000, "example.org")
            self.assertEqual(status, 200)
            self.assertNotIn("x-forwarded-client-cert", body["headers"])
        for what, address, port in (("bytes to a service", BYTES, 90), ("bytes to a pod", SERVER, 9000),
                                    ("bytes outside", OUTSIDE, 9000)):
            with self.subTest(what):
                self.assert_echo(address, port)
        with self.subTest("what the sidecars say of where they are"):
            for name, address in (("client", CLIENT), ("server", SERVER)):
                self.assertIn(f"node=sidecar~{address}~{name}.default~", self.control.program.output())
        with self.subTest("where nobody listens"):
            self.assertEqual(self.ask(SERVER, 8001)[0], 503)
        for what, where, address, port in (
                ("the outbound port by itself", self.client, "127.0.0.1", 15001),
                ("the inbound port by itself", self.place, "10.98.2.2", 15006),
                ("the admin port from outside", self.place, "10.98.2.2", 15000)):
            with self.subTest(what):
                self.assert_reset(where, address, port)


if __name__ == "__main__":
    unittest.main()
