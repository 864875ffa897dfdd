"""The canary's mesh: five instances of order-service and a client, each in its pod."""

import json
import socket

from support.mesh import Mesh
from support.places import wait_until

SERVICE, SERVICE_PORT = "order-service", 8000
TARGET = f"{SERVICE}:{SERVICE_PORT}"
# name, address in policy/workloads.yaml, version; the first of them is the one that goes bad
INSTANCES = (("v1-a", "10.1.0.11", "v1"), ("v1-b", "10.1.0.12", "v1"), ("v1-c", "10.1.0.13", "v1"),
             ("v2-a", "10.1.0.21", "v2"), ("v2-b", "10.1.0.22", "v2"))
CLIENT = ("client", "10.1.0.31")
BAD = "v1-a"
CANARY = "canary.yaml"  # the file with the VirtualService and the DestinationRule


class Load:
    """Requests under way; ends with what became of each."""

    def __init__(self, processes, process, path):
        self._processes, self._process, self._path = processes, process, path

    def running(self):
        return self._process.poll() is None

    def rows(self):
        self._processes.finish(self._process, timeout_s=120)
        with open(self._path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]


class Canary(Mesh):
    def __init__(self, folder, place, processes, programs, policies):
        super().__init__(folder, place, processes, programs, policies,
                         ("canary-order-service", "canary-client"))
        for name, address, _ in INSTANCES:
            self.pod(name, address, SERVICE, workload=f"{SERVICE}-{name}",
                     serves=("http", SERVICE_PORT))
        self.client = self.pod(*CLIENT, account="client", calls=(TARGET,))
        self._loads = 0

    def start_applications(self, fail_from):
        for name, _, version in INSTANCES:
            pod = self.pods[name]
            options = ["--fail-from", fail_from] if name == BAD else []
            self._processes.start(
                f"app-{name}", [self.program("canary-order-service"), "--listen", pod.app,
                                "--version", version, "--instance", name, "--control",
                                f"{pod.folder}/app", *options], inside=pod.inside)
        for name, _, _ in INSTANCES:
            wait_until(lambda name=name: self._answers(name), f"order-service {name}")

    def load(self, requests, rate, *options, connections=16, direct=False):
        """The client application's requests to the service; direct: to the instances themselves."""
        self._loads += 1
        ways = [self.client.ways[TARGET]]
        if direct:
            ways = [self.pods[name].app for name, _, _ in INSTANCES]
        path = f"{self.folder}/load-{self._loads}.json"
        with open(path, "wb") as file:
            process = self._processes.start(
                f"client-{self._loads}",
                [self.program("canary-client"), "--to", TARGET, "--id", self.load_id(),
                 "--requests", requests, "--rate", rate, "--connections", connections,
                 *(word for way in ways if way != TARGET for word in ("--via", way)), *options],
                inside=self.client.inside, stdout=file, ends=True)
        return Load(self._processes, process, path)

    def load_id(self):
        """What the ids of the last load's requests begin with."""
        return f"run{self._loads}"

    # ---- the applications, behind the mesh's back ----

    def _answers(self, name):
        self.still()
        try:
            return self.app(name)
        except OSError:
            return None

    def app(self, name, request="GET /stats"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(f"{self.pods[name].folder}/app")
            sock.sendall(f"{request} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    def apps(self, request="GET /stats"):
        return {name: self.app(name, request) for name, _, _ in INSTANCES}
