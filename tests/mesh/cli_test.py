"""pillion, the command-line tool: without a daemon where it needs none, else beside a real control."""

import json
import os
import subprocess
import time
import unittest

from support import net, xds
from support.control import SUBSETS, Control, running, service, split, workload
from support.net import LOOPBACK, free_port, wait_for
from support.program import binary, run, temp_folder

CLIENT = "sidecar~127.0.0.1~client.default~default.svc.cluster.local"
DESTINATION = "host/order-service:8000"
ORDER = "VirtualService/default/order-service"
MESH = (service("order-service"), workload("v1-a", "order-service", "v1", 18001, meshed=True),
        workload("v2-a", "order-service", "v2", 18002, meshed=True),
        workload("client", "client", "v1", 18003, meshed=True, account="client"))
CANARY = (split(90, 10), SUBSETS)


def pillion(*words, stdin="", env=None):
    """(exit code, stdout, stderr)"""
    return run([binary("pillion"), *words], stdin=stdin, env=env)


def api(control):
    return ("--api-address", f"{LOOPBACK}:{control.api_port}")


def write(folder, name, *objects):
    path = f"{folder}/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n---\n".join(o if isinstance(o, str) else json.dumps(o) for o in objects))
    return path


class Commands(unittest.TestCase):
    def test_help_names_every_command(self):
        for words, code in ((("--help",), 0), (("help",), 0), ((), 2), (("frobnicate",), 2)):
            got, out, err = pillion(*words)
            self.assertEqual(got, code)
            for command in ("validate", "wait", "status", "token", "version"):
                self.assertIn(f"\n  {command} ", out + err)
                self.assertIn(f"usage: pillion {command}", pillion(command, "--help")[1])
        self.assertIn('there is no command "frobnicate"', err)

    def test_version(self):
        code, out, _ = pillion("version")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"^pillion \d+\.\d+\.\d+\n$")
        self.assertEqual(pillion("--version"), pillion("version"))

    def test_a_full_disk_is_no_success(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([binary("pillion"), "version"], stdout=full, stderr=subprocess.PIPE,
                                  text=True, timeout=20, check=False)
        self.assertEqual((done.returncode, done.stderr),
                         (1, "pillion version: the output could not be written\n"))


class Validate(unittest.TestCase):
    def test_a_good_folder_says_nothing(self):
        with temp_folder() as folder:
            write(folder, "mesh.yaml", *MESH)
            write(folder, "deep/canary.yml", *CANARY)
            write(folder, ".hidden.yaml", "{no yaml")
            write(folder, "notes.txt", "{no yaml")
            self.assertEqual(pillion("validate", folder), (
                0, "", "files: 2, objects: 6; errors: 0, pending: 0, warnings: 0\n"))

    def test_each_error_names_file_line_and_field(self):
        with temp_folder() as folder:
            write(folder, "b.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
                  "metadata: {name: x}\nspec:\n  hosts: [x]\n  http:\n  - timeout: soon\n"
                  "    route: [{destination: {host: x}}]\n")
            write(folder, "a.yaml", *MESH, "kind: [broken\n")
            os.symlink("nowhere", f"{folder}/c.yaml")
            code, out, err = pillion("validate", folder)
            lines = out.splitlines()
            self.assertEqual((code, len(lines)), (1, 3), out)
            self.assertRegex(lines[0], rf"^{folder}/a\.yaml:\d+: error: ")
            self.assertIn(f"{folder}/b.yaml:7: error: VirtualService/default/x: "
                          "spec.http[0].timeout: ", lines[1])
            self.assertEqual(lines[2],
                             f"{folder}/c.yaml: error: No such file or directory")
            self.assertIn("errors: 3", err)

    def test_what_names_nothing_is_pending(self):
        with temp_folder() as folder:
            path = write(folder, "canary.yaml", split(90, 10))
            code, out, err = pillion("validate", path)
            self.assertEqual(code, 0, out)
            self.assertIn(f"{path}:1: pending: {ORDER}: spec.http[0].route[0].destination", out)
            self.assertIn("errors: 0, pending: ", err)
            self.assertEqual(pillion("validate", "--strict", path)[0], 1)
            self.assertEqual(pillion("validate", path, write(folder, "rest.yaml", *MESH, SUBSETS))[:2],
                             (0, ""))

    def test_standard_input(self):
        code, out, _ = pillion("validate", "-", stdin="kind: Service")
        self.assertEqual(code, 1)
        self.assertIn("(standard input):1: error: ", out)

    def test_what_is_not_there_is_an_error(self):
        with temp_folder() as folder:
            code, out, _ = pillion("validate", folder, f"{folder}/x.yaml")
            self.assertEqual(code, 1)
            self.assertEqual(out, f"{folder}: error: there is no *.yaml, *.yml or *.json file in "
                             f"this folder\n{folder}/x.yaml: error: cannot be read: No such file or "
                             "directory\n")
        self.assertEqual(pillion("validate")[0], 2)

    def test_a_terminal_is_not_spoken_to(self):
        code, out, _ = pillion("validate", "-", stdin='{"kind": "Service", "apiVersion": "\\u001b[2J"}')
        self.assertEqual(code, 1)
        self.assertNotIn("\x1b", out)


class Token(unittest.TestCase):
    def token(self, control, *words):
        return pillion("token", "--state-dir", control.state, *words)

    def test_it_gets_xds_for_its_account(self):
        with running(*MESH, *CANARY) as control:
            code, token, err = self.token(control, "--service-account", "default/client")
            self.assertEqual((code, err), (0, ""))
            stream = xds.Stream(xds.secure(control), CLIENT, token=token.strip())
            stream.subscribe(xds.DESTINATION, DESTINATION)
            self.assertEqual(len(stream.receive().resources), 1)
            stream.close()

    def test_it_may_come_before_the_daemon(self):
        with temp_folder() as folder:
            control = Control(folder)
            os.mkdir(control.state)
            control.write("mesh.yaml", *MESH)
            code, token, err = self.token(control, "--service-account", "default/client", "--ttl", "5m")
            self.assertEqual((code, err), (0, ""))
            self.assertEqual(os.stat(f"{control.state}/token.key").st_mode & 0o777, 0o600)
            with control:
                stream = xds.Stream(xds.secure(control), CLIENT, token=token.strip())
                stream.subscribe(xds.DESTINATION, DESTINATION)
                self.assertEqual(len(stream.receive().resources), 1)
                stream.close()

    def test_refusals(self):
        with temp_folder() as folder:
            state = ("--state-dir", folder)
            account = ("--service-account", "a/b")
            for words, code, text in (
                    (state, 2, "--service-account is needed"),
                    ((*state, "--service-account", "ab"), 2, "allowed is NAMESPACE/NAME"),
                    ((*state, "--service-account", "a/"), 2, "allowed is NAMESPACE/NAME"),
                    ((*state, "--service-account", "a/b/c"), 1, "--service-account: "),
                    (account, 2, "--state-dir is needed"),
                    ((*account, "--state-dir", f"{folder}/no"), 1, "No such file or directory"),
                    ((*account, *state, "--ttl", "25h"), 2, "--ttl")):
                with self.subTest(words=words):
                    got, out, err = pillion("token", *words)
                    self.assertEqual((got, out), (code, ""))
                    self.assertIn(text, err)


class Status(unittest.TestCase):
    def test_a_mesh(self):
        with running(*MESH, *CANARY) as control:
            with xds.stream(xds.plain(control), CLIENT) as stream:
                stream.subscribe(xds.DESTINATION, DESTINATION)
                response = stream.receive()
                _, out, _ = pillion("status", *api(control))
                self.assertRegex(out, r"^mesh cluster\.local, generation \d+ since .*; "
                                 r"sidecars: 1, behind: 1\n")
                self.assertRegex(out, r"\nclient\.default +\S+ +behind ")
                stream.reject(response, "no \x1b[31mred")
                wait_for(lambda: "refused by sidecars:" in pillion("status", *api(control))[1])
                self.assertIn(f"client.default: destinations {DESTINATION}: no ?[31mred\n",
                              pillion("status", *api(control))[1])
                control.write("mesh.yaml", *MESH, split(80, 20), SUBSETS)
                stream.ack(stream.receive())
                wait_for(lambda: "behind: 0\n" in pillion("status", *api(control))[1])
                generation = control.generation()
                self.assertRegex(pillion("status", *api(control))[1],
                                 rf"\nclient\.default +\S+ +current +{generation} +- +1\n")
            control.write("bad.yaml", {"kind": "Service", "apiVersion": "v1"})
            wait_for(lambda: "problems of policy:\n  bad.yaml:1: error: "
                     in pillion("status", *api(control))[1])
            code, out, _ = pillion("status", *api(control), "--output", "json")
            self.assertEqual((code, json.loads(out)["generation"]), (0, control.generation()))

    def test_nobody_is_there(self):
        port = free_port()
        self.assertEqual(pillion("status", "--api-address", f"{LOOPBACK}:{port}"), (
            1, "", f"pillion status: connect to {LOOPBACK}:{port}: connection refused\n"))

    def test_somebody_else_is_there(self):
        def serve(answer):
            def one(sock, _):
                sock.recv(65536)
                sock.sendall(answer)
            return one

        for answer, text in (
                (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "answered 200: <html>"),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "answered 200: []"),
                (b"HTTP/1.1 503 No\r\nContent-Length: 17\r\n\r\n{\"error\":\"later\"}",
                 "answered 503: later"),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"sidecars\":1}",
                 "sidecars: wants an array, has an integer"),
                (b"SSH-2.0 hello\r\n\r\n", "this is no HTTP")):
            with self.subTest(answer=answer), net.Peer(serve(answer)) as peer:
                code, out, err = pillion("status", "--api-address", f"{LOOPBACK}:{peer.port}")
                self.assertEqual((code, out), (1, ""))
                self.assertIn(text, err)


class Wait(unittest.TestCase):
    def test_until_it_is_acknowledged(self):
        with running(*MESH, *CANARY) as control, temp_folder() as folder, \
                xds.stream(xds.plain(control), CLIENT) as stream:
            stream.subscribe(xds.DESTINATION, DESTINATION)
            stream.ack(stream.receive())
            changed = split(50, 50)
            path = write(folder, "order.yaml", changed)
            code, out, err = pillion("wait", "-f", path, "--timeout", "100ms", *api(control))
            self.assertEqual((code, out), (1, f"{ORDER}: another version is in force; "
                                              "pillion-control does not have this one\n"), err)
            with subprocess.Popen([binary("pillion"), "wait", "-f", path, *api(control)],
                                  stdout=subprocess.PIPE, text=True) as waiter:
                control.write("mesh.yaml", *MESH, changed, SUBSETS)
                response = stream.receive()
                self.assertIsNone(waiter.poll())
                code, out, _ = pillion("wait", "-f", path, "--timeout", "0", *api(control))
                self.assertEqual(code, 1)
                self.assertRegex(out, r"; 0 of 1 sidecars have it, behind: client\.default\n$")
                stream.ack(response)
                self.assertRegex(waiter.communicate(timeout=20)[0],
                                 rf"^{ORDER}: live at generation \d+ in all 1 sidecars that hold it\n$")
                self.assertEqual(waiter.returncode, 0)

    def test_nobody_holds_it(self):
        with running(*MESH) as control:
            code, out, _ = pillion("wait", "-f", control.policy, *api(control))
            self.assertEqual(code, 0, out)
            self.assertEqual(out.count("no connected sidecar holds it"), len(MESH))

    def test_what_control_refuses_is_quoted(self):
        with running(*MESH, *CANARY) as control, temp_folder() as folder:
            wanted = split(50, 50)
            path = write(folder, "order.yaml", wanted)
            control.write("twice.yaml", wanted)  # it stands in mesh.yaml already
            wait_for(lambda: control.get("/api/status")["problems"])
            code, out, _ = pillion("wait", "-f", path, "--timeout", "100ms", *api(control))
            self.assertEqual(code, 1)
            self.assertIn(f"{ORDER}: refused: ", out)

    def test_a_control_that_comes_late_is_waited_for(self):
        with temp_folder() as folder:
            control = Control(folder)
            control.write("mesh.yaml", *MESH)
            with subprocess.Popen([binary("pillion"), "wait", "-f", control.policy, *api(control)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiter:
                self.assertIn("connection refused; asking again", waiter.stderr.readline())
                with control:
                    out, _ = waiter.communicate(timeout=20)
                self.assertEqual(waiter.returncode, 0, out)

    def test_a_control_that_never_comes(self):
        with temp_folder() as folder:
            path = write(folder, "mesh.yaml", *MESH)
            began = time.monotonic()
            code, _, err = pillion("wait", "-f", path, "--timeout", "500ms", "--api-address",
                                   f"{LOOPBACK}:{free_port()}")
            self.assertEqual(code, 1)
            self.assertIn("connection refused", err)
            self.assertLess(time.monotonic() - began, 10)

    def test_what_is_refused_here_is_not_waited_for(self):
        with temp_folder() as folder:
            path = write(folder, "bad.yaml", {"kind": "Service", "apiVersion": "v1"})
            code, _, err = pillion("wait", "-f", path)
            self.assertEqual(code, 1)
            self.assertIn(f"{path}:1: error: ", err)
            self.assertIn("what is refused never gets live", err)
        self.assertEqual(pillion("wait")[0], 2)
