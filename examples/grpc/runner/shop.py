"""The shop's mesh: which service runs where, in which language, and how it is called.

    client-js  --->  orders (grpc-js)  --->  users (grpcio)
        |                   |
        |                   v
        '----------->  inventory: v1-a, v1-b (grpcio), v2-a (grpc-js)
    client-py  ----------^
"""

import json
import os
import shutil
import subprocess

from support.mesh import Mesh
from support.places import wait_until
from support.process import Failed, make_folder

PYTHON = "/usr/bin/python3"
INVENTORY, ORDERS, USERS = (f"{name}-service:9000" for name in ("inventory", "order", "user"))
ADDRESSES = {"inventory-service": "10.96.0.21", "order-service": "10.96.0.22",
             "user-service": "10.96.0.23"}  # in policy/services.yaml
# pod and instance, address, version, language
INSTANCES = (("inventory-v1-a", "10.1.1.11", "v1", "grpcio"),
             ("inventory-v1-b", "10.1.1.12", "v1", "grpcio"),
             ("inventory-v2-a", "10.1.1.21", "v2", "grpc-js"))
SHAKY = "inventory-v1-a"  # the one that refuses calls in a pass
CLIENTS = {"client-js": "10.1.1.51", "client-py": "10.1.1.52"}
CANARY = "canary.yaml"


class Calls:
    """Of one client, under way; ends with what became of each."""

    def __init__(self, processes, process, path):
        self._processes, self._process, self._path = processes, process, path

    def running(self):
        return self._process.poll() is None

    def rows(self):
        self._processes.finish(self._process, timeout_s=120)
        with open(self._path, encoding="utf-8") as file:
            return json.load(file)


class Shop(Mesh):
    def __init__(self, folder, place, processes, programs, policies, modules):
        super().__init__(folder, place, processes, programs, policies)
        self._place_of_apps = make_folder(f"{folder}/app")
        self._modules = modules
        for name in sorted(os.listdir(f"{policies}/app")):
            shutil.copy(f"{policies}/app/{name}", self._place_of_apps)
        self._generate()
        for name, address, _, _ in INSTANCES:
            self.pod(name, address, "inventory-service", serves=("grpc", 9000))
        self.pod("orders", "10.1.1.31", "order-service", serves=("grpc-orders", 9000),
                 calls=(INVENTORY, USERS))
        self.pod("users", "10.1.1.41", "user-service", serves=("grpc-users", 9000))
        for name, address in CLIENTS.items():
            self.pod(name, address, name, calls=(INVENTORY, ORDERS))
        self._runs = 0

    def _generate(self):
        """What grpcio needs of shop.proto; grpc-js reads it as it is."""
        done = subprocess.run(
            [PYTHON, "-m", "grpc_tools.protoc", f"-I{self._place_of_apps}",
             f"--python_out={self._place_of_apps}", f"--grpc_python_out={self._place_of_apps}",
             "shop.proto"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"grpc_tools.protoc: {done.stderr}")

    # ---- applications ----

    def _python(self, script, *words):
        # Its own resolver asks nameservers and reads no hosts file; a pod here has only that.
        return ["env", "GRPC_DNS_RESOLVER=native", PYTHON, "-B", f"{self._place_of_apps}/{script}",
                *words]

    def _node(self, *words):
        return ["env", f"NODE_PATH={self._modules}", "node", f"{self._place_of_apps}/shop.js", *words]

    def _serve(self, name, command):
        pod = self.pods[name]
        words = ["--listen", pod.app, "--instance", name]
        self._processes.start(f"app-{name}", [*command, *words], inside=pod.inside)
        wait_until(lambda: self.still() and self._listens(pod), f"the server of {name}")

    @staticmethod
    def _listens(pod):
        """Asked with curl from inside its place: whatever it answers, it is there."""
        done = subprocess.run([*pod.inside, "curl", "-s", "-m", "2", "-o", "/dev/null",
                               "--http2-prior-knowledge", f"http://{pod.app}/"], check=False)
        return done.returncode == 0

    def start_applications(self):
        for name, _, version, language in INSTANCES:
            command = (self._node("serve", "inventory") if language == "grpc-js" else
                       self._python("serve.py", "inventory", "--fail-while", self.shaking(name)))
            self._serve(name, [*command, "--version", version])
        self._serve("users", [*self._python("serve.py", "user"), "--version", "v1"])
        ways = self.pods["orders"].ways
        self._serve("orders", self._node("serve", "order", "--version", "v1",
                                         "--users", ways[USERS], "--inventory", ways[INVENTORY]))

    def shaking(self, name):
        """A file: while it is there, every third call is refused, and noted in it."""
        return f"{self.pods[name].folder}/refuse"

    def call(self, client, what, calls, rate):
        """`what`: "check" the inventory, or place an "order"."""
        self._runs += 1
        pod = self.pods[client]
        target = INVENTORY if what == "check" else ORDERS
        command = self._node(what) if client == "client-js" else self._python("call.py")
        path = f"{self.folder}/calls-{self._runs}.json"
        with open(path, "wb") as file:
            process = self._processes.start(
                f"calls-{self._runs}", [*command, "--to", pod.ways[target], "--authority", target,
                                        "--calls", calls, "--rate", rate],
                inside=pod.inside, stdout=file, ends=True)
        return Calls(self._processes, process, path)
