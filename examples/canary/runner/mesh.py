"""The example's mesh: a copy of the policy, pillion-control over it, five instances of
order-service, a client, and a sidecar beside each of the six."""

import json
import os
import shutil
import socket
import subprocess
import time

from places import SERVICE, SERVICE_PORT, wait_until
from process import Failed, make_folder, private_memory_kb

# name, address in policy/workloads.yaml, version; the first of them is the one that goes bad
INSTANCES = (("v1-a", "10.1.0.11", "v1"), ("v1-b", "10.1.0.12", "v1"), ("v1-c", "10.1.0.13", "v1"),
             ("v2-a", "10.1.0.21", "v2"), ("v2-b", "10.1.0.22", "v2"))
CLIENT = ("client", "10.1.0.31")
BAD = "v1-a"
CANARY = "canary.yaml"  # the file with the VirtualService and the DestinationRule
_OURS = ("pillion-sidecar", "pillion-control", "pillion-init", "pillion", "canary-order-service",
         "canary-client")


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


class Mesh:
    def __init__(self, folder, place, processes, programs, policies):
        self._folder, self._place, self._processes = folder, place, processes
        self._policies = policies
        self._bin = make_folder(f"{folder}/bin")
        for name in _OURS:  # the sidecar's user may not be able to read where they were built
            shutil.copy(f"{programs}/{name}", self._bin)
        self.policy, self._state = f"{folder}/policy", f"{folder}/state"
        self._api = place.control["api"]
        self.pods = {name: place.pod(name, address) for name, address, _ in INSTANCES}
        self.client = self.pods["client"] = place.pod(*CLIENT)
        self.sidecars = {}
        self._loads = 0

    # ---- starting ----

    def start_applications(self, fail_from):
        for name, _, version in INSTANCES:
            pod = self.pods[name]
            options = ["--fail-from", fail_from] if name == BAD else []
            self._processes.start(
                f"app-{name}", [f"{self._bin}/canary-order-service", "--listen", pod.app,
                                "--version", version, "--instance", name, "--control",
                                f"{pod.folder}/app", *options], inside=pod.inside)
        for name, _, _ in INSTANCES:
            wait_until(lambda name=name: self._answers(name), f"order-service {name}")

    def start_control(self):
        os.mkdir(self.policy, 0o755)
        self.apply("policy")
        at = self._place.control
        self._processes.start(
            "control", [f"{self._bin}/pillion-control", "--source", f"files:{self.policy}",
                        "--state-dir", self._state, "--xds-address", at["xds"],
                        "--xds-plain-address", at["plain"], "--api-address", at["api"]],
            inside=self._place.node.inside)
        wait_until(lambda: self._still() and self._place.node.get(self._api, "/healthz"),
                   "pillion-control")

    def start_sidecars(self):
        for pod in self.pods.values():
            self._start_sidecar(pod)
        for pod in self.pods.values():
            wait_until(lambda pod=pod: self._still() and pod.get(pod.metrics, "/healthz/ready"),
                       f"the sidecar of {pod.name}")
            self._place.capture(pod, f"{self._bin}/pillion-init")

    def _start_sidecar(self, pod):
        workload = pod.name if pod is self.client else f"{SERVICE}-{pod.name}"
        account = "client" if pod is self.client else SERVICE
        root = shutil.copy(f"{self._state}/root.pem", f"{pod.folder}/root.pem")
        os.chmod(root, 0o644)
        self.sidecars[pod.name] = self._processes.start(
            f"sidecar-{pod.name}",
            [f"{self._bin}/pillion-sidecar", "--workload", f"default/{workload}",
             "--service-account", f"default/{account}", "--token-file", self._token(pod, account),
             "--mesh-root", root, "--control-address", self._place.control["xds"],
             "--drain-min", "0s", "--drain-max", "3s", *pod.sidecar_options],
            user=pod.sidecar_user, inside=pod.inside)

    def _token(self, pod, account):
        path = f"{pod.folder}/token"
        token = self._pillion("token", "--service-account", f"default/{account}", "--state-dir",
                              self._state)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write(token)
        if pod.sidecar_user is not None:
            os.chown(path, pod.sidecar_user, pod.sidecar_user)
        return path

    def _pillion(self, *words):
        """What the command-line tool prints."""
        done = subprocess.run([*self._place.node.inside, f"{self._bin}/pillion", *words],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"pillion {' '.join(words)}: {(done.stdout + done.stderr).strip()}")
        return done.stdout.strip()

    def _still(self):
        self._processes.check()
        return True

    # ---- policy ----

    def apply(self, policy):
        """Puts the files of examples/canary/POLICY over those in force."""
        for name in sorted(os.listdir(f"{self._policies}/{policy}")):
            with open(f"{self._policies}/{policy}/{name}", encoding="utf-8") as file:
                self.write(name, self._place.rewrite(file.read()))

    def write(self, name, text):
        """Whole beside it, then renamed over it, as careful programs do. Returns when, in
        microseconds since 1970."""
        beside = f"{self.policy}/.{name}.new"
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(beside, f"{self.policy}/{name}")
        return time.time_ns() // 1000

    def read(self, name):
        with open(f"{self.policy}/{name}", encoding="utf-8") as file:
            return file.read()

    def wait_live(self):
        """Until the canary's objects, as they stand in the file, are live in every sidecar."""
        return self._pillion("wait", "-f", f"{self.policy}/{CANARY}", "--timeout", "20s",
                             "--api-address", self._api)

    def status(self):
        return self._place.node.get_json(self._api, "/api/status")

    def generation_of(self, kind):
        """Of the order-service object of that kind."""
        objects = self._place.node.get_json(self._api, "/api/objects")["objects"]
        return next(o["generation"] for o in objects
                    if (o["kind"], o["name"]) == (kind, SERVICE))

    # ---- traffic ----

    def load(self, requests, rate, *options, connections=16, direct=False):
        """The client application's requests to the service; direct: to the instances themselves."""
        self._loads += 1
        ways = self.client.client_options
        if direct:
            ways = [word for name, _, _ in INSTANCES for word in ("--via", self.pods[name].app)]
        path = f"{self._folder}/load-{self._loads}.json"
        with open(path, "wb") as file:
            process = self._processes.start(
                f"client-{self._loads}",
                [f"{self._bin}/canary-client", "--to", f"{SERVICE}:{SERVICE_PORT}", "--id",
                 self.load_id(), "--requests", requests, "--rate", rate, "--connections",
                 connections, *ways, *options], inside=self.client.inside, stdout=file,
                ends=True)
        return Load(self._processes, process, path)

    def load_id(self):
        """What the ids of the last load's requests begin with."""
        return f"run{self._loads}"

    def admin(self, pod_name, path):
        """What an admin path of a sidecar answers, from JSON."""
        pod = self.pods[pod_name]
        found = pod.get_json(pod.admin, path)
        self._still()
        if found is None:
            raise Failed(f"the sidecar of {pod_name} does not answer {path}")
        return found

    def metrics(self, pod_name):
        pod = self.pods[pod_name]
        text = pod.get(pod.metrics, "/metrics")
        self._still()
        return text or ""

    def log(self, pod_name):
        """Of a sidecar."""
        return self._processes.log(f"sidecar-{pod_name}")

    def private_memory_kb(self):
        return {name: private_memory_kb(process.pid) for name, process in self.sidecars.items()}

    # ---- the applications, behind the mesh's back ----

    def _answers(self, name):
        self._still()
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
