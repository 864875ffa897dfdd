"""The mesh of an example: pillion-control over a copy of its policy, and a sidecar beside each pod.
Which applications run in the pods, and what they are asked, is the example's."""

import os
import shutil
import subprocess
import time

from support.places import wait_until
from support.process import Failed, make_folder, private_memory_kb

_OURS = ("pillion-sidecar", "pillion-control", "pillion-init", "pillion")


class Mesh:
    def __init__(self, folder, place, processes, programs, policies, applications=()):
        """`policies`: the folder with the example's policy folders; `applications`: programs of our
        build that the example needs beside those of the mesh."""
        self._place, self._processes, self._policies = place, processes, policies
        self._bin = make_folder(f"{folder}/bin")
        # The sidecar's user may not be able to read where they were built.
        for name in (*_OURS, *applications):
            shutil.copy(f"{programs}/{name}", self._bin)
        self.folder, self.policy, self._state = folder, f"{folder}/policy", f"{folder}/state"
        self._api = place.control["api"]
        self.pods = {}
        self.sidecars = {}

    def program(self, name):
        """The path of one of our programs that pods may run."""
        return f"{self._bin}/{name}"

    def pod(self, name, address, account, **how):
        """Makes a place for a workload; `how` as the place's pod() takes it."""
        self.pods[name] = pod = self._place.pod(name, address, account, **how)
        return pod

    # ---- starting ----

    def start_control(self, policy):
        os.mkdir(self.policy, 0o755)
        self.apply(policy)
        at = self._place.control
        self._processes.start(
            "control", [self.program("pillion-control"), "--source", f"files:{self.policy}",
                        "--state-dir", self._state, "--xds-address", at["xds"],
                        "--xds-plain-address", at["plain"], "--api-address", at["api"]],
            inside=self._place.node.inside)
        wait_until(lambda: self.still() and self._place.node.get(self._api, "/healthz"),
                   "pillion-control")

    def start_sidecars(self):
        """One beside each pod; captures what the pods send and get, where the place can."""
        for pod in self.pods.values():
            self._start_sidecar(pod)
        for pod in self.pods.values():
            wait_until(lambda pod=pod: self.still() and pod.get(pod.metrics, "/healthz/ready"),
                       f"the sidecar of {pod.name}")
            self._place.capture(pod, self.program("pillion-init"))

    def _start_sidecar(self, pod):
        root = shutil.copy(f"{self._state}/root.pem", f"{pod.folder}/root.pem")
        os.chmod(root, 0o644)
        self.sidecars[pod.name] = self._processes.start(
            f"sidecar-{pod.name}",
            [self.program("pillion-sidecar"), "--workload", f"default/{pod.workload}",
             "--service-account", f"default/{pod.account}", "--token-file", self._token(pod),
             "--mesh-root", root, "--control-address", self._place.control["xds"],
             "--drain-min", "0s", "--drain-max", "3s", *pod.sidecar_options],
            user=pod.sidecar_user, inside=pod.inside)

    def _token(self, pod):
        path = f"{pod.folder}/token"
        token = self._pillion("token", "--service-account", f"default/{pod.account}",
                              "--state-dir", self._state)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write(token)
        if pod.sidecar_user is not None:
            os.chown(path, pod.sidecar_user, pod.sidecar_user)
        return path

    def _pillion(self, *words):
        """What the command-line tool prints."""
        done = subprocess.run([*self._place.node.inside, self.program("pillion"), *words],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"pillion {' '.join(words)}: {(done.stdout + done.stderr).strip()}")
        return done.stdout.strip()

    def still(self):
        """True; Failed where something ended that should run."""
        self._processes.check()
        return True

    # ---- policy ----

    def apply(self, policy):
        """Puts the files of the example's folder `policy` over those in force."""
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

    def wait_live(self, name):
        """Until the objects of that file, as they stand in it, are live in every sidecar."""
        return self._pillion("wait", "-f", f"{self.policy}/{name}", "--timeout", "20s",
                             "--api-address", self._api)

    def status(self):
        return self._place.node.get_json(self._api, "/api/status")

    def generation_of(self, kind, name):
        objects = self._place.node.get_json(self._api, "/api/objects")["objects"]
        return next(o["generation"] for o in objects if (o["kind"], o["name"]) == (kind, name))

    # ---- what sidecars say ----

    def admin(self, pod_name, path):
        """What an admin path of a sidecar answers, from JSON."""
        pod = self.pods[pod_name]
        found = pod.get_json(pod.admin, path)
        self.still()
        if found is None:
            raise Failed(f"the sidecar of {pod_name} does not answer {path}")
        return found

    def metrics(self, pod_name):
        """The text that Prometheus would get."""
        pod = self.pods[pod_name]
        text = pod.get(pod.metrics, "/metrics")
        self.still()
        return text or ""

    def log(self, pod_name):
        """Of a sidecar."""
        return self._processes.log(f"sidecar-{pod_name}")

    def private_memory_kb(self):
        """{pod's name: its sidecar's}"""
        return {name: private_memory_kb(process.pid) for name, process in self.sidecars.items()}
