"""pillion-control under test: its folders and ports, its API, its tokens made independently of it."""

import base64
import contextlib
import json
import os
import re
import time
import urllib.error
import urllib.request

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from support.net import LOOPBACK, free_port, wait_for
from support.program import Program, binary, temp_folder

DNS_NAME = "pillion-control.test"


def service(name, port=8000, **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"clusterIP": "10.96.0.10", "selector": {"app": name},
                     "ports": [{"name": "http", "port": port}], **spec}}


def workload(name, app, version, port, meshed=False, account="order-service"):
    labels = {"app": app, "version": version}
    if meshed:
        labels["security.istio.io/tlsMode"] = "istio"
    return {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"name": name},
            "spec": {"address": LOOPBACK, "ports": {"http": port}, "serviceAccount": account,
                     "labels": labels}}


def split(v1, v2, match=None):
    """The VirtualService of the canary; `match`: a rule in front that sends what it matches to v2."""
    def to(subset, weight):
        return {"destination": {"host": "order-service", "subset": subset,
                                "port": {"number": 8000}}, "weight": weight}

    rules = [{"route": [to("v1", v1), to("v2", v2)]}]
    if match:
        rules.insert(0, {"match": [match], "route": [to("v2", 100)]})
    return {"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
            "metadata": {"name": "order-service"},
            "spec": {"hosts": ["order-service"], "http": rules}}


SUBSETS = {"apiVersion": "networking.istio.io/v1beta1", "kind": "DestinationRule",
           "metadata": {"name": "order-service"},
           "spec": {"host": "order-service",
                    "subsets": [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")],
                    "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 5,
                                                           "interval": "30s",
                                                           "baseEjectionTime": "30s"}}}}


class Control:
    """A daemon over a folder of its own. Objects are written as JSON, which is YAML too."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.policy = f"{folder}/policy"
        self.state = f"{folder}/state"
        os.makedirs(self.policy, exist_ok=True)
        self.secure_port, self.plain_port, self.api_port = (free_port() for _ in range(3))
        self._options = options
        self.program = None

    def command(self):
        return [binary("pillion-control"), "--source", f"files:{self.policy}",
                "--state-dir", self.state, "--xds-address", f"{LOOPBACK}:{self.secure_port}",
                "--xds-plain-address", f"{LOOPBACK}:{self.plain_port}",
                "--api-address", f"{LOOPBACK}:{self.api_port}", "--dns-name", DNS_NAME,
                *self._options]

    def start(self):
        self.program = Program(self.command(), port=self.api_port)
        return self

    def restart(self):
        """After SIGKILL."""
        self.program.kill()
        return self.start()

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        return self.program.__exit__(kind, value, trace)

    def write(self, name, *objects):
        """A file saved as careful programs do: whole beside it, then renamed over it."""
        self.write_text(name, "\n---\n".join(json.dumps(o, indent=1) for o in objects))

    def write_text(self, name, text):
        path = f"{self.policy}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        beside = f"{os.path.dirname(path)}/.{os.path.basename(path)}.new"
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(beside, path)

    def get(self, path):
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.api_port}{path}", timeout=20) as answer:
            body = answer.read()
        return json.loads(body) if path.startswith("/api/") else body.decode()

    def post(self, path, body):
        """(status, JSON)"""
        request = urllib.request.Request(f"http://{LOOPBACK}:{self.api_port}{path}", method="POST",
                                         data=json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def generation(self):
        return self.get("/api/status")["generation"]

    def generations(self):
        return {o["id"]: o["generation"] for o in self.get("/api/objects")["objects"]}

    def wait_generation(self, above):
        """The first generation above that one."""
        return wait_for(lambda: (now := self.generation()) > above and now, what="a new generation")

    def metric(self, name, **labels):
        """The value of a series; None where there is none."""
        inside = ",".join(f'{k}="{v}"' for k, v in labels.items())
        wanted = name + (f"{{{inside}}}" if inside else "")
        found = re.search(rf"^{re.escape(wanted)} (\S+)$", self.get("/metrics"), re.M)
        return float(found.group(1)) if found else None

    def root_pem(self):
        with open(f"{self.state}/root.pem", "rb") as file:
            return file.read()

    def token(self, namespace="default", account="order-service", key=None, header=None, **claims):
        """A token that this daemon takes, but for what the caller changes; None drops a claim."""
        with open(f"{self.state}/token.key", "rb") as file:
            key = key or serialization.load_pem_private_key(file.read(), None)
        body = {"iss": "pillion", "aud": "pillion", "exp": int(time.time()) + 600, "jti": "1",
                "sub": f"system:serviceaccount:{namespace}:{account}", **claims}
        body = {k: v for k, v in body.items() if v is not None}
        signed = b".".join(_base64(json.dumps(part).encode())
                           for part in (header or {"alg": "ES256", "typ": "JWT"}, body))
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return (signed + b"." + _base64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@contextlib.contextmanager
def running(*objects, options=()):
    """A daemon with these objects in mesh.yaml."""
    with temp_folder() as folder:
        control = Control(folder, *options)
        control.write("mesh.yaml", *objects)
        with control:
            yield control
