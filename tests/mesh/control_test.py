"""pillion-control by itself: what it takes from its folder, serves, refuses, and keeps."""

import datetime
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
import unittest

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support import needs, xds
from support.control import (SUBSETS, Control, running, service, split, workload)
from support.net import LOOPBACK, free_port, wait_for
from support.program import binary, run, temp_folder

CLIENT = "sidecar~127.0.0.1~client.default~default.svc.cluster.local"
ORDER = "VirtualService/default/order-service"
DESTINATION = "host/order-service:8000"
MESH = (service("order-service"), workload("v1-a", "order-service", "v1", 18001, meshed=True),
        workload("v2-a", "order-service", "v2", 18002, meshed=True),
        workload("client", "client", "v1", 18003, meshed=True, account="client"))
CANARY = (split(90, 10), SUBSETS)


def refused(test, status, text, act):
    """act() ends with that gRPC status, and a text that holds `text`."""
    with test.assertRaises(grpc.RpcError) as caught:
        act()
    test.assertEqual((caught.exception.code(), caught.exception.details()),
                     (status, caught.exception.details()))
    test.assertIn(text, caught.exception.details())


def wanted(**more):
    return {"objects": [{"kind": "VirtualService", "name": "order-service"}], **more}


class Delta(unittest.TestCase):
    """A sidecar's protocol, by hand."""

    def test_a_change_is_pushed_and_waited_for(self):
        with running(*MESH) as control:
            control.write("canary.yaml", *CANARY)
            wait_for(lambda: ORDER in control.generations(), what="the canary")
            with xds.stream(xds.plain(control), CLIENT) as stream:
                stream.subscribe(xds.DESTINATION, DESTINATION, "host/no-such-service:80")
                first = stream.receive()
                self.assertEqual([r.name for r in first.resources], [DESTINATION])
                self.assertEqual(list(first.removed_resources), ["host/no-such-service:80"])
                stream.ack(first)

                control.write("canary.yaml", split(50, 50), SUBSETS)
                second = stream.receive()
                self.assertEqual([r.name for r in second.resources], [DESTINATION])
                self.assertNotEqual(first.resources[0].version, second.resources[0].version)
                status, answer = control.post("/api/wait", wanted(timeout_ms=100))
                self.assertEqual((status, answer["live"]), (200, False))
                self.assertEqual(answer["objects"][0]["state"], "behind")
                self.assertEqual(answer["objects"][0]["behind"], [CLIENT])

                stream.ack(second)
                status, answer = control.post("/api/wait", wanted(timeout_ms=20000))
                self.assertEqual((answer["live"], answer["objects"][0]["acknowledged"]), (True, 1))
                client, = control.get("/api/status")["sidecars"]
                self.assertEqual((client["id"], client["behind"], client["acknowledged"]),
                                 (CLIENT, False, control.generation()))

    def test_what_does_not_concern_a_client_is_not_pushed(self):
        with running(*MESH, *CANARY) as control, \
                xds.stream(xds.plain(control), CLIENT) as stream:
            stream.subscribe(xds.DESTINATION, DESTINATION)
            stream.ack(stream.receive())
            pushes = control.metric("pillion_control_pushes_total")
            before = control.generation()
            control.write("other.yaml", service("other", clusterIP="10.96.0.99"))
            control.wait_generation(before)
            self.assertEqual(control.metric("pillion_control_pushes_total"), pushes)
            self.assertFalse(control.get("/api/status")["sidecars"][0]["behind"])

    def test_a_waiter_is_answered_by_the_acknowledgement(self):
        with running(*MESH, *CANARY) as control, \
                xds.stream(xds.plain(control), CLIENT) as stream:
            stream.subscribe(xds.DESTINATION, DESTINATION)
            response = stream.receive()
            with subprocess.Popen(
                    ["curl", "-sS", "-d", '{"objects":[{"kind":"VirtualService","name":'
                     '"order-service"}],"timeout_ms":30000}',
                     f"http://{LOOPBACK}:{control.api_port}/api/wait"],
                    stdout=subprocess.PIPE, text=True) as waiter:
                time.sleep(0.2)
                self.assertIsNone(waiter.poll())
                stream.ack(response)
                self.assertIn('"live":true', waiter.communicate(timeout=10)[0])

    def test_a_rejection_is_shown_and_waits_for_a_change(self):
        with running(*MESH, *CANARY) as control, \
                xds.stream(xds.plain(control), CLIENT) as stream:
            stream.subscribe(xds.DESTINATION, DESTINATION)
            stream.reject(stream.receive(), "clusters[0].connect_timeout: too short")
            control.program.wait_for_output("clusters[0].connect_timeout: too short")
            client = wait_for(lambda: (c := control.get("/api/status")["sidecars"][0])["nacks"] and c)
            self.assertEqual(client["nacks"], [{"type": "destinations", "name": DESTINATION,
                                                "text": "clusters[0].connect_timeout: too short"}])
            self.assertTrue(client["behind"])
            self.assertEqual(control.metric("pillion_control_rejected_pushes_total"), 1)
            control.write("mesh.yaml", *MESH, split(80, 20), SUBSETS)
            stream.ack(stream.receive())
            wait_for(lambda: not control.get("/api/status")["sidecars"][0]["nacks"])

    def test_a_reconnecting_client_gets_the_differences_only(self):
        with running(*MESH, *CANARY) as control:
            with xds.stream(xds.plain(control), CLIENT) as stream:
                stream.subscribe(xds.DESTINATION, DESTINATION)
                version = stream.receive().resources[0].version
            with xds.stream(xds.plain(control), CLIENT) as stream:
                stream.send(xds.DESTINATION, resource_names_subscribe=[DESTINATION],
                            initial_resource_versions={DESTINATION: version})
                stream.subscribe(xds.DESTINATION, "host/no-such-service:80")
                response = stream.receive()
                self.assertEqual((list(response.resources), list(response.removed_resources)),
                                 ([], ["host/no-such-service:80"]))
                stream.ack(response)
                wait_for(lambda: control.post("/api/wait", wanted())[1]["live"])

    def test_a_removed_object(self):
        with running(*MESH) as control, xds.stream(xds.plain(control), CLIENT) as stream:
            stream.subscribe(xds.DESTINATION, DESTINATION)
            stream.ack(stream.receive())
            os.unlink(f"{control.policy}/mesh.yaml")
            self.assertEqual(list(stream.receive().removed_resources), [DESTINATION])

    def test_a_wildcard_is_the_inbound_side(self):
        with running(*MESH) as control:
            node = "sidecar~127.0.0.1~v1-a.default~default.svc.cluster.local"
            with xds.stream(xds.plain(control), node) as stream:
                stream.send(xds.LISTENER)
                stream.send(xds.CLUSTER, resource_names_subscribe=["*"])
                got = {}
                for _ in range(2):
                    response = stream.receive()
                    got[response.type_url] = {r.name for r in response.resources}
                    stream.ack(response)
                self.assertEqual(got[xds.LISTENER], {"virtualInbound"})
                self.assertIn("inbound|18001||", got[xds.CLUSTER])

    def test_state_of_the_world_by_hand(self):
        with running(*MESH) as control:
            name = "outbound|8000||order-service.default.svc.cluster.local"
            with xds.stream(xds.plain(control), "somebody", path=xds.WORLD) as stream:
                stream.send(xds.CLUSTER, resource_names=[name])
                clusters = stream.receive()
                self.assertEqual([xds.unpack(r).name for r in clusters.resources], [name])
                stream.send(xds.CLUSTER, resource_names=[name], response_nonce=clusters.nonce,
                            version_info=clusters.version_info)
                stream.send(xds.ENDPOINTS, resource_names=[name])
                endpoints, = [xds.unpack(r) for r in stream.receive().resources]
                self.assertEqual(len(endpoints.endpoints[0].lb_endpoints), 2)

    def test_a_service_of_one_type(self):
        path = "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints"
        with running(*MESH) as control:
            name = "outbound|8000||order-service.default.svc.cluster.local"
            with xds.stream(xds.plain(control), CLIENT, path=path) as stream:
                stream.subscribe(xds.ENDPOINTS, name)
                endpoints = xds.unpack(stream.receive().resources[0].resource)
                self.assertEqual(endpoints.cluster_name, name)
            with xds.stream(xds.plain(control), CLIENT, path=path) as stream:
                stream.subscribe(xds.CLUSTER, name)
                refused(self, grpc.StatusCode.INVALID_ARGUMENT, "this service is for",
                        stream.receive)

    def test_bad_requests(self):
        with running(*MESH) as control:
            for node, fields, text in (
                    (None, {"resource_names_subscribe": ["x"]}, "must carry the node"),
                    ("", {"resource_names_subscribe": ["x"]}, "node.id"),
                    (CLIENT, {"resource_names_subscribe": [""]}, "a resource name of 0 bytes")):
                with xds.stream(xds.plain(control), node) as stream:
                    stream.send(xds.DESTINATION, **fields)
                    refused(self, grpc.StatusCode.INVALID_ARGUMENT, text, stream.receive)


class Storm(unittest.TestCase):
    """Clients that come, ask, and are gone in the middle of changes."""

    CLIENTS = 20
    CHANGES = 10

    def _come_and_go(self, control, index, stop):
        dice = random.Random(index)
        while not stop.is_set():
            path = dice.choice([xds.DELTA, xds.WORLD])
            names = dice.sample([DESTINATION, "host/client:80", "ip//10.96.0.10:8000", "nonsense",
                                 "outbound|8000|v1|order-service.default.svc.cluster.local"], 3)
            field = "resource_names" if path == xds.WORLD else "resource_names_subscribe"
            with xds.stream(xds.plain(control), CLIENT, path=path) as stream:
                for type_url in (xds.CLUSTER, xds.ENDPOINTS, xds.DESTINATION):
                    stream.send(type_url, **{field: names})
                for _ in range(dice.randrange(3)):
                    response = stream.receive()
                    if dice.random() < 0.5 and path == xds.DELTA:
                        dice.choice([stream.ack, lambda r: stream.reject(r, "no")])(response)

    def test_nothing_is_left_behind(self):
        with running(*MESH, *CANARY) as control:
            stop = threading.Event()
            threads = [threading.Thread(target=self._come_and_go, args=(control, i, stop), daemon=True)
                       for i in range(self.CLIENTS)]
            for thread in threads:
                thread.start()
            with xds.stream(xds.plain(control), CLIENT) as steady:
                steady.subscribe(xds.DESTINATION, DESTINATION)
                steady.ack(steady.receive())
                for i in range(self.CHANGES):
                    control.write("mesh.yaml", *MESH, split(10 + i, 90 - i), SUBSETS)
                    steady.ack(steady.receive())
                stop.set()
                for thread in threads:
                    thread.join(30)
                wait_for(lambda: control.metric("pillion_control_clients") == 1, 20)
                self.assertGreater(control.metric("pillion_control_streams_total"), self.CLIENTS)
                wait_for(lambda: not control.get("/api/status")["sidecars"][0]["behind"])


class Folder(unittest.TestCase):
    """The source of objects."""

    def test_a_bad_file_leaves_its_last_good_version(self):
        with running(*MESH, *CANARY) as control:
            before = control.generations()
            control.write_text("mesh.yaml", "kind: [\n")
            control.program.wait_for_output("refused")
            self.assertEqual(control.generations(), before)
            self.assertEqual(control.metric("pillion_control_file_rejected", file="mesh.yaml"), 1)
            problem, = control.get("/api/status")["problems"]
            self.assertEqual((problem["severity"], problem["file"]), ("error", "mesh.yaml"))

            control.write("mesh.yaml", *MESH, split(90, 10) | {"spec": {"hosts": 3}}, SUBSETS)
            control.program.wait_for_output("field=spec.hosts")
            self.assertEqual(control.generations(), before)
            status, answer = control.post("/api/wait", {"objects": [
                {"kind": "VirtualService", "name": "order-service", "hash": "0" * 16}]})
            self.assertEqual((status, answer["objects"][0]["state"]), (200, "other"))
            self.assertIn("spec.hosts", answer["objects"][0]["problem"])

            control.write("mesh.yaml", *MESH, *CANARY)
            wait_for(lambda: not control.get("/api/status")["problems"])
            self.assertEqual(control.generations(), before)
            self.assertEqual(control.metric("pillion_control_file_rejected", file="mesh.yaml"), 0)

    def test_one_object_twice(self):
        with running(*MESH, *CANARY) as control:
            before = control.generations()
            control.write("again.yaml", split(1, 99))
            control.program.wait_for_output("it is also in")
            files = {p["file"] for p in control.get("/api/status")["problems"]}
            self.assertEqual((files, control.generations()), ({"mesh.yaml", "again.yaml"}, before))

    def test_folders_links_and_other_names(self):
        with running(*MESH) as control:
            count = len(control.generations())
            control.write("team/a/canary.yml", *CANARY)
            wait_for(lambda: len(control.generations()) == count + 2, what="a file in a new folder")
            control.write("team/a/more.json", service("more", clusterIP="10.96.0.50"))
            wait_for(lambda: len(control.generations()) == count + 3, what="a second file there")
            for name in (".hidden.yaml", "notes.txt", "mesh.yaml~"):
                control.write_text(name, "kind: [\n")
            os.mkfifo(f"{control.policy}/pipe.yaml")
            control.program.wait_for_output("not a file")
            self.assertEqual(len(control.generations()), count + 3)
            os.rename(f"{control.policy}/team/a", f"{control.folder}/elsewhere")
            wait_for(lambda: len(control.generations()) == count, what="a folder moved away")
            os.symlink(f"{control.folder}/elsewhere/canary.yml", f"{control.policy}/link.yaml")
            wait_for(lambda: len(control.generations()) == count + 2, what="a link to a file")
            os.unlink(f"{control.folder}/elsewhere/canary.yml")
            os.utime(control.policy)
            control.program.wait_for_output("No such file")
            self.assertEqual(len(control.generations()), count + 2)

    def test_a_file_written_in_pieces(self):
        with running(*MESH) as control:
            before = control.generation()
            whole = "\n---\n".join(json.dumps(o) for o in CANARY)
            with open(f"{control.policy}/canary.yaml", "w", encoding="utf-8") as file:
                for i in range(0, len(whole), 100):
                    file.write(whole[i:i + 100])
                    file.flush()
                    time.sleep(0.01)
            control.wait_generation(before)
            self.assertEqual(control.generation(), before + 2)
            self.assertNotIn("refused", control.program.output())

    def test_a_folder_that_goes_away(self):
        with running(*MESH) as control:
            before = control.generations()
            os.rename(control.policy, f"{control.folder}/gone")
            control.program.wait_for_output("the folder cannot be read")
            self.assertEqual(control.generations(), before)
            os.rename(f"{control.folder}/gone", control.policy)
            wait_for(lambda: not control.get("/api/status")["problems"], 20)
            control.write("canary.yaml", *CANARY)
            wait_for(lambda: len(control.generations()) == len(before) + 2)


class State(unittest.TestCase):
    """What outlives the process."""

    def test_kill_keeps_generations_and_bad_files(self):
        with running(*MESH, *CANARY) as control:
            control.write("mesh.yaml", *MESH, split(80, 20), SUBSETS)
            control.wait_generation(len(MESH) + 2)
            before, root = control.generations(), control.root_pem()
            lines = {o["id"]: o["line"] for o in control.get("/api/objects")["objects"]}
            control.write_text("mesh.yaml", "kind: [\n")
            control.program.wait_for_output("refused")
            with xds.stream(xds.plain(control), CLIENT) as stream:
                stream.subscribe(xds.DESTINATION, DESTINATION)
                version = stream.receive().resources[0].version
            control.restart()
            self.assertEqual(control.generations(), before)
            self.assertEqual({o["id"]: o["line"] for o in control.get("/api/objects")["objects"]},
                             lines)
            self.assertEqual(control.root_pem(), root)
            with xds.stream(xds.plain(control), CLIENT) as stream:
                stream.subscribe(xds.DESTINATION, DESTINATION)
                self.assertEqual(stream.receive().resources[0].version, version)
            control.write("mesh.yaml", *MESH, split(70, 30), SUBSETS)
            control.wait_generation(max(before.values()))
            after = control.generations()
            self.assertEqual({k: v for k, v in after.items() if k != ORDER},
                             {k: v for k, v in before.items() if k != ORDER})
            self.assertGreater(after[ORDER], max(before.values()))

    def test_a_change_while_it_is_down(self):
        with running(*MESH, *CANARY) as control:
            before = control.generations()
            with xds.stream(xds.plain(control), CLIENT) as stream:
                stream.subscribe(xds.DESTINATION, DESTINATION)
                version = stream.receive().resources[0].version
            control.program.kill()
            control.write("mesh.yaml", *MESH, split(50, 50), SUBSETS)
            control.start()
            self.assertEqual({k for k, v in control.generations().items() if before[k] != v}, {ORDER})
            with xds.stream(xds.plain(control), CLIENT) as stream:
                stream.send(xds.DESTINATION, resource_names_subscribe=[DESTINATION],
                            initial_resource_versions={DESTINATION: version})
                self.assertNotEqual(stream.receive().resources[0].version, version)

    def test_a_broken_state_file_is_set_aside(self):
        with running(*MESH) as control:
            count = len(control.generations())
            with open(f"{control.state}/objects.json", "w", encoding="utf-8") as file:
                file.write('{"version": 1, "objects"')
            control.restart()
            self.assertEqual(len(control.generations()), count)
            self.assertTrue(os.path.exists(f"{control.state}/objects.json.bad"))
            self.assertIn("the state is not readable", control.program.output())

    @needs.root
    def test_a_full_disk_changes_nothing_for_clients(self):
        with temp_folder() as folder:
            control = Control(folder)
            os.makedirs(control.state)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", control.state],
                           check=True)
            try:
                control.write("mesh.yaml", *MESH)
                with control:
                    with open(f"{control.state}/filler", "wb", buffering=0) as filler:
                        while True:
                            try:
                                filler.write(b"x" * 512)
                            except OSError:
                                break
                    before = control.generation()
                    control.write("canary.yaml", *CANARY)
                    control.wait_generation(before)
                    control.program.wait_for_output("the state cannot be saved")
                    self.assertIn("No space left", control.program.output())
                    self.assertEqual(control.metric("pillion_control_state_unsaved"), 1)
                    os.unlink(f"{control.state}/filler")
                    wait_for(lambda: control.metric("pillion_control_state_unsaved") == 0, 20)
                    generations = control.generations()
                    control.restart()
                    self.assertEqual(control.generations(), generations)
            finally:
                subprocess.run(["umount", "-l", control.state], check=True)


class Start(unittest.TestCase):
    """What ends it at once, with a line that names the thing."""

    def fails(self, text, *changed, code=2, prepare=None):
        with temp_folder() as folder:
            control = Control(folder)
            if prepare:
                prepare(control)
            ended, _, err = run([*control.command(), *changed], timeout_s=20)
            self.assertEqual((ended, text in err), (code, True), err)

    def test_options(self):
        self.fails("--source kube: allowed is files:DIR", "--source", "kube")
        self.fails("only 127.0.0.0/8", "--xds-plain-address", "0.0.0.0:15010")
        self.fails("--ca-key is missing", "--ca-cert", "x.pem")
        self.fails("--trust-domain A/B: allowed are", "--trust-domain", "A/B")
        self.fails("--log-level loud: allowed are", "--log-level", "loud")
        self.fails("cert-ttl", "--cert-ttl", "1ms")
        code, out, _ = run([binary("pillion-control"), "--help"])
        self.assertEqual((code, "--xds-plain-address" in out), (0, True))
        code, _, err = run([binary("pillion-control"), "--state-dir", "x"])
        self.assertEqual((code, "--source is needed" in err), (2, True))

    def test_folders(self):
        self.fails("--source: /no/such/folder: No such file", "--source", "files:/no/such/folder",
                   code=1)
        self.fails("--source: /etc/passwd: Not a directory", "--source", "files:/etc/passwd", code=1)
        self.fails("--state-dir: /proc/nothing", "--state-dir", "/proc/nothing", code=1)

        def other_may_read(control):
            os.makedirs(control.state)
            with open(f"{control.state}/token.key", "w", encoding="utf-8") as file:
                file.write("x")
            os.chmod(file.name, 0o644)

        self.fails("token.key", code=1, prepare=other_may_read)

    def test_a_state_folder_in_use(self):
        with running(*MESH) as control:
            self.fails("another pillion-control uses this folder", "--state-dir", control.state,
                       code=1)

    def test_a_port_in_use(self):
        with socket.socket() as taken:
            port = free_port()
            taken.bind((LOOPBACK, port))
            taken.listen()
            for option in ("xds-address", "xds-plain-address", "api-address"):
                self.fails(f"--{option}: ", f"--{option}", f"{LOOPBACK}:{port}", code=1)
                self.fails("Address already in use", f"--{option}", f"{LOOPBACK}:{port}", code=1)

    def test_it_ends_by_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with running(*MESH) as control, xds.stream(xds.plain(control), CLIENT) as stream:
                stream.subscribe(xds.DESTINATION, DESTINATION)
                stream.receive()
                control.program.stop(number)


def request_of(key, name="anything"):
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(
        key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def pem_of(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


def identity_in(pem):
    san = x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName)
    return san.value.get_values_for_type(x509.UniformResourceIdentifier)


def authority(name, key, issuer=None, issuer_key=None, path_length=1):
    """A certificate that may sign others; self-signed without issuer."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.utcnow()
    signer = issuer_key or key
    return x509.CertificateBuilder(
        issuer_name=issuer.subject if issuer else subject, subject_name=subject,
        public_key=key.public_key(), serial_number=x509.random_serial_number(),
        not_valid_before=now - datetime.timedelta(hours=1),
        not_valid_after=now + datetime.timedelta(days=30)).add_extension(
            x509.BasicConstraints(True, path_length), True).add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False),
            True).add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            False).sign(signer, hashes.SHA256())


class Authority(unittest.TestCase):
    def test_one_of_the_operators_own(self):
        root_key, middle_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        root = authority("root", root_key)
        middle = authority("middle", middle_key, root, root_key, 0)
        pem = [c.public_bytes(serialization.Encoding.PEM) for c in (middle, root)]
        with temp_folder() as folder:
            for name, content in (("chain.pem", b"".join(pem)), ("key.pem", pem_of(middle_key))):
                with open(f"{folder}/{name}", "wb") as file:
                    file.write(content)
            os.chmod(f"{folder}/key.pem", 0o600)
            given = ("--ca-cert", f"{folder}/chain.pem", "--ca-key", f"{folder}/key.pem")
            with running(*MESH, options=given) as control, xds.secure(control) as channel:
                chain = xds.sign(channel, request_of(leaf_key), control.token())
                self.assertEqual([c.encode() for c in chain[1:]], pem)
                self.assertEqual(control.root_pem(), pem[1])
            with temp_folder() as other:
                control = Control(other, "--ca-cert", f"{folder}/chain.pem",
                                  "--ca-key", f"{folder}/nothing.pem")
                code, _, err = run(control.command(), timeout_s=20)
                self.assertEqual((code, "nothing.pem" in err), (1, True), err)


class Credentials(unittest.TestCase):
    """The TLS port: tokens, certificates, and nodes that must agree with them."""

    SERVER = "sidecar~127.0.0.1~v1-a.default~default.svc.cluster.local"
    UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED

    def bad_tokens(self, control):
        """(text of the refusal, token)"""
        now = int(time.time())
        other_key = ec.generate_private_key(ec.SECP256R1())
        return (
            ("neither a client certificate nor", None),
            ("not a token: it has not three parts", "nonsense"),
            ("the token expired at 20", control.token(exp=now - 5)),
            ("does not say when it expires", control.token(exp=None)),
            ("lives longer than 24 h", control.token(exp=now + 100000)),
            ("for another audience than pillion", control.token(aud="kubernetes")),
            ("for another audience than pillion", control.token(aud=None)),
            ("from another issuer than pillion", control.token(iss="somebody")),
            ("signed by another key", control.token(key=other_key)),
            ("not signed with ES256", control.token(header={"alg": "none"})),
            ("no service account", control.token(sub="admin")),
            ("not valid yet", control.token(nbf=now + 3600)),
        )

    def test_bad_tokens_get_neither_certificates_nor_xds(self):
        key = ec.generate_private_key(ec.SECP256R1())
        with running(*MESH) as control, xds.secure(control) as channel:
            for text, token in self.bad_tokens(control):
                with self.subTest(text):
                    refused(self, self.UNAUTHENTICATED, text,
                            lambda t=token: xds.sign(channel, request_of(key), t))
                    stream = xds.Stream(channel, self.SERVER, token=token)
                    stream.subscribe(xds.DESTINATION, DESTINATION)
                    refused(self, self.UNAUTHENTICATED, text, stream.receive)
                    stream.close()
            self.assertEqual(control.metric("pillion_control_certificates_issued_total"), 0)
            self.assertNotIn(control.token()[:20], control.program.output())

    def test_a_certificate_by_token_then_by_itself(self):
        key = ec.generate_private_key(ec.SECP256R1())
        identity = "spiffe://cluster.local/ns/default/sa/order-service"
        with running(*MESH, options=("--cert-ttl", "2h")) as control:
            with xds.secure(control) as channel:
                chain = xds.sign(channel, request_of(key), control.token())
                self.assertEqual(identity_in(chain[0]), [identity])
                self.assertEqual(chain[-1].encode(), control.root_pem())
                leaf = x509.load_pem_x509_certificate(chain[0].encode())
                self.assertLessEqual((leaf.not_valid_after - leaf.not_valid_before).seconds, 7260)
                short = x509.load_pem_x509_certificate(
                    xds.sign(channel, request_of(key), control.token(), 600)[0].encode())
                self.assertLess((short.not_valid_after - short.not_valid_before).seconds, 700)
                refused(self, grpc.StatusCode.INVALID_ARGUMENT, "",
                        lambda: xds.sign(channel, "not a request", control.token()))
            pem = "".join(chain[:-1]).encode()
            with xds.secure(control, pem_of(key), pem) as channel:
                renewed = xds.sign(channel, request_of(key, name="somebody else"))
                self.assertEqual(identity_in(renewed[0]), [identity])
                stream = xds.Stream(channel, self.SERVER)
                stream.subscribe(xds.DESTINATION, DESTINATION)
                stream.ack(stream.receive())
                client, = control.get("/api/status")["sidecars"]
                self.assertEqual(client["identity"], identity)
                self.assertTrue(6000 < client["certificate_rest_s"] <= 7200, client)
                stream.close()

    def test_the_node_must_agree_with_the_credentials(self):
        denied = grpc.StatusCode.PERMISSION_DENIED
        with running(*MESH) as control, xds.secure(control) as channel:
            for node, token, metadata, text in (
                    (self.SERVER.replace("default", "shop"), {}, {}, "is in namespace shop"),
                    (CLIENT, {}, {}, "is the workload of spiffe://cluster.local/ns/default/sa/client"),
                    (self.SERVER, {"account": "client"}, {}, "the credentials are of"),
                    ("sidecar~127.0.0.1~new.default~x", {}, {"SERVICE_ACCOUNT": "admin"},
                     "says service account admin")):
                with self.subTest(text):
                    stream = xds.Stream(channel, node, token=control.token(**token),
                                        metadata=metadata)
                    stream.subscribe(xds.DESTINATION, DESTINATION)
                    refused(self, denied, text, stream.receive)
                    stream.close()
            self.assertEqual(control.metric("pillion_control_refused_streams_total"), 4)
            stream = xds.Stream(channel, self.SERVER, token=control.token())
            stream.subscribe(xds.DESTINATION, DESTINATION)
            self.assertEqual(stream.receive().resources[0].name, DESTINATION)
            stream.close()

    def test_a_workload_that_becomes_somebody_elses(self):
        with running(*MESH) as control, xds.secure(control) as channel:
            stream = xds.Stream(channel, self.SERVER, token=control.token())
            stream.subscribe(xds.DESTINATION, DESTINATION)
            stream.ack(stream.receive())
            control.write("mesh.yaml", MESH[0], workload(
                "v1-a", "order-service", "v1", 18001, meshed=True, account="billing"))
            refused(self, grpc.StatusCode.PERMISSION_DENIED, "sa/billing, the credentials",
                    stream.receive)
            stream.close()

    def test_certificates_of_another_authority(self):
        key = ec.generate_private_key(ec.SECP256R1())
        with running(*MESH) as ours, running(*MESH) as others:
            with xds.secure(others) as channel:
                chain = xds.sign(channel, request_of(key), others.token())
            with xds.secure(ours, pem_of(key), chain[0].encode()) as channel:
                refused(self, grpc.StatusCode.UNAVAILABLE, "",
                        lambda: xds.sign(channel, request_of(key)))

    def test_the_plain_port_signs_nothing(self):
        key = ec.generate_private_key(ec.SECP256R1())
        with running(*MESH) as control, xds.plain(control) as channel:
            refused(self, grpc.StatusCode.UNIMPLEMENTED, "no such method here",
                    lambda: xds.sign(channel, request_of(key), control.token()))


class Api(unittest.TestCase):
    def test_bad_waits(self):
        with running(*MESH) as control:
            for body, text in (([], "objects"), ({"objects": []}, "1 to 10000"),
                               ({"objects": [{}]}, "objects[0]: kind and name"),
                               ({"objects": [{"kind": "X", "name": "y", "hash": "zz"}]}, "16 hexa"),
                               (wanted(timeout_ms=1e12), "timeout_ms")):
                status, answer = control.post("/api/wait", body)
                self.assertEqual((status, text in answer["error"]), (400, True), answer)
            status, answer = control.post("/api/wait", {"objects": [{"kind": "X", "name": "y"}]})
            self.assertEqual((status, answer["objects"][0]["state"]), (200, "absent"))
            self.assertEqual(control.get("/healthz"), "ok\n")


if __name__ == "__main__":
    unittest.main()
