"""A whole mesh under test: pillion-control, applications with their sidecars, clients'."""

import re
import urllib.request

from support.control import SUBSETS, Control, service, workload
from support.net import LOOPBACK, free_port, wait_for
from support.program import temp_folder
from support.sidecar import Sidecar
from support.traffic import Application, Load

ORDER = "order-service:8000"


def rule(**policy):
    """The DestinationRule of the canary with another trafficPolicy."""
    spec = {k: v for k, v in SUBSETS["spec"].items() if k != "trafficPolicy"}
    return {**SUBSETS, "spec": {**spec, **({"trafficPolicy": policy} if policy else {})}}


def port_of(sidecar, option):
    """The port that a sidecar was given for "admin" or "metrics"."""
    value = sidecar.command[sidecar.command.index(f"--{option}-address") + 1]
    return int(value.rpartition(":")[2])


def scrape(sidecar):
    """[(name, {label: value}, value)] of /metrics."""
    url = f"http://{LOOPBACK}:{port_of(sidecar, 'metrics')}/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
        text = answer.read().decode()
    rows = re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.M)
    return [(name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value))
            for name, labels, value in rows]


def metric(sidecar, name, **labels):
    """The sum of a family's series that have these labels."""
    return sum(value for found, having, value in scrape(sidecar)
               if found == name and labels.items() <= having.items())


class Mesh:
    """order-service as `apps` {name: version}, each with its sidecar, and clients beside theirs.

    Everything ends with `stack`. Each object of `policy` has a file of its own."""

    def __init__(self, stack, scene, apps=None, clients=("client",), policy=(SUBSETS,), workers=1,
                 control_options=(), delay_s=0.0, client_options=(), server_options=()):
        apps = apps or {"v1-a": "v1", "v2-a": "v2"}
        self.scene = scene
        self.apps = {name: stack.enter_context(Application(scene, name, delay_s)) for name in apps}
        self.listen = {name: free_port() for name in apps}
        self.control = Control(stack.enter_context(temp_folder()), *control_options)
        self.control.write("mesh.yaml", service("order-service"),
                           *(workload(name, "order-service", version, self.listen[name], True)
                             for name, version in apps.items()),
                           *(workload(name, name, "v1", free_port(), True, "client")
                             for name in clients))
        for item in policy:
            self._save(item)
        stack.enter_context(self.control)
        threads = ("--workers", str(workers))
        self.servers = {
            name: stack.enter_context(Sidecar(
                self.control, name, "order-service", inbound={self.listen[name]: app.port},
                options=(*threads, *server_options)))
            for name, app in self.apps.items()}
        self.clients = {
            name: stack.enter_context(Sidecar(self.control, name, "client", outbound=(ORDER,),
                                              options=(*threads, *client_options)))
            for name in clients}

    @property
    def client(self):
        return self.clients["client"]

    def load(self, count, client="client", **how):
        return Load(self.scene, self.clients[client].out[ORDER], count,
                    **{"prefix": client, **how})

    def _save(self, item):
        self.control.write(f"{item['kind']}-{item['metadata']['name']}.yaml", item)

    def write(self, item):
        """Saves an object; returns when the control plane has taken it: the generation."""
        before = self.control.generation()
        self._save(item)
        return self.control.wait_generation(before)

    def change(self, item):
        """Saves an object; returns when every sidecar that holds something of it has it."""
        self.write(item)
        self.wait_live(item)

    def wait_live(self, item):
        named = {k: v for k, v in item["metadata"].items() if k in ("name", "namespace")}
        wanted = {"objects": [{"kind": item["kind"], **named}], "timeout_ms": 20000}

        def live():
            status, answer = self.control.post("/api/wait", wanted)
            return status == 200 and answer["live"]
        wait_for(live, 30, what="the change in force everywhere")
