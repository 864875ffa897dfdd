"""Where the pods of an example are: in network namespaces with capture, or side by side on
loopback without. Both offer the same; the mesh (mesh.py) does not know which one it has.

    Namespaces                                            Loopback

    node: bridge mesh0 10.1.0.1, pillion-control          all on 127.0.0.1, told apart by ports;
      |        |        |        (veth)                   a sidecar is given what to listen on by
    client   app   app ...   each: eth0, its own          --inbound and --outbound (--capture none)
                             hosts file, nftables rules
"""

import contextlib
import itertools
import json
import os
import re
import socket
import subprocess
import time

from support.process import Failed, make_folder

SIDECAR_USER = 1337  # owns nothing else: what it sends is not captured


def wait_until(condition, what, timeout_s=20.0):
    """Calls condition() until it gives something true, and returns that."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.02)


class Pod:
    """One workload's place: its addresses, and how to get a program to run there."""

    def __init__(self, name, folder, account="", workload=""):
        self.name, self.folder = name, make_folder(f"{folder}/{name}")
        self.account, self.workload = account, workload or name
        self.inside = ()  # a command that leads there
        self.sidecar_user = None
        self.app = ""     # where its application listens: HOST:PORT
        self.ways = {}    # {HOST:PORT that it calls: where its application connects to for that}
        self.admin, self.metrics = "127.0.0.1:15000", "127.0.0.1:15020"
        self.sidecar_options = []

    def get(self, where, path, timeout_s=20):
        """What a URL answers that is reachable in that place; None when it does not."""
        done = subprocess.run([*self.inside, "curl", "-sS", "-f", "-m", str(timeout_s),
                               f"http://{where}{path}"], capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None

    def get_json(self, where, path):
        text = self.get(where, path)
        return json.loads(text) if text else None


class Loopback:
    """Without root."""

    name = "loopback"
    title = "without capture (--capture none): the double of the product, for machines without root"

    def __init__(self, folder, processes, hosts):
        del processes, hosts
        self._folder = folder
        # Below the kernel's ephemeral range, so that no client socket takes one in between.
        self._ports = itertools.count(20000 + os.getpid() * 37 % 10000)
        self._inbound = {}  # address in the file -> the port's name, where the sidecar listens
        self.node = Pod("node", folder)
        self.control = {"xds": self._free(), "plain": self._free(), "api": self._free()}

    def _free(self):
        for port in itertools.islice(self._ports, 2000):
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return f"127.0.0.1:{port}"
        raise Failed("no free port on 127.0.0.1")

    def port(self):
        """One that a program in a pod may have for itself."""
        return int(self._free().split(":")[1])

    def pod(self, name, address, account, workload="", serves=None, calls=()):
        """serves: (name, number) of the port of its application, as its Service has them; calls:
        each HOST:PORT that its application connects to."""
        pod = Pod(name, self._folder, account, workload)
        pod.app, pod.admin, pod.metrics = (self._free() for _ in range(3))
        pod.sidecar_options = ["--capture", "none", "--admin-address", pod.admin,
                               "--metrics-address", pod.metrics]
        if serves:
            listen = self._free()
            pod.sidecar_options += ["--inbound", f"{listen}={pod.app}"]
            self._inbound[address] = (serves[0], listen)
        for target in calls:
            pod.ways[target] = self._free()
            pod.sidecar_options += ["--outbound", f"{pod.ways[target]}={target}"]
        return pod

    def rewrite(self, text):
        """The workloads' file, as it is true here: WorkloadEntry.ports names where to go."""
        def here(match):
            indent, address = match.groups()
            if address not in self._inbound:
                return f"{indent}address: 127.0.0.1"
            name, listen = self._inbound[address]
            port = listen.split(":")[1]
            return f"{indent}address: 127.0.0.1\n{indent}ports:\n{indent}  {name}: {port}"
        return re.sub(r"^( *)address: (\S+)$", here, text, flags=re.M)

    def capture(self, pod, program):
        """Nothing to do: the sidecars listen where they are told."""


class Namespaces:
    """As root: a network namespace for each pod, without a name, so that the kernel removes it
    with the last process in it, even if this program is killed."""

    name = "namespaces"
    title = "with capture by nftables, in a network namespace for each pod"

    def __init__(self, folder, processes, hosts):
        self._folder, self._processes, self._hosts = folder, processes, hosts
        self._ports = itertools.count(14000)  # every pod has all of them
        self._check_passable(folder)
        self.control = {"xds": "10.1.0.1:15012", "plain": "127.0.0.1:15010",
                        "api": "127.0.0.1:15014"}
        self.node = Pod("node", folder)
        self._node = self._hold(self.node)
        self._ip(self._node, "link add mesh0 type bridge")
        self._ip(self._node, "addr add 10.1.0.1/16 dev mesh0")
        self._ip(self._node, "link set mesh0 up")

    @staticmethod
    def _check_passable(folder):
        """The sidecars run as a user of their own, who must reach their files."""
        while folder != "/":
            if not os.stat(folder).st_mode & 0o001:
                raise Failed(f"{folder} is closed to other users (choose another TMPDIR)")
            folder = os.path.dirname(folder)

    def _hold(self, pod):
        """A process that does nothing but keep the pod's namespace; its pid."""
        hosts = f"{pod.folder}/hosts"
        with open(hosts, "w", encoding="ascii") as file:
            file.write(f"127.0.0.1 localhost\n127.0.1.1 {socket.gethostname()}\n")
            file.writelines(f"{address} {name}\n" for name, address in self._hosts.items())
        script = f"mount --bind {hosts} /etc/hosts && ip link set lo up && echo && exec sleep 86400"
        process = self._processes.start(
            f"namespace-{pod.name}", ["unshare", "--net", "--mount", "--", "sh", "-c", script],
            stdout=subprocess.PIPE)
        if not process.stdout.readline():
            raise Failed("no network namespace can be made here (--rootless does without): "
                         f"{self._processes.log(process.name)}")
        of = f"/proc/{process.pid}/ns"
        pod.inside = ("nsenter", f"--net={of}/net", f"--mount={of}/mnt", "--")
        return process.pid

    @staticmethod
    def _ip(pid, words):
        done = subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "--", "ip", *words.split()],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"ip {words}: {done.stderr.strip()}")

    def port(self):
        """As Loopback's."""
        return next(self._ports)

    def pod(self, name, address, account, workload="", serves=None, calls=()):
        """As Loopback's."""
        pod = Pod(name, self._folder, account, workload)
        pid = self._hold(pod)
        port = f"v{pid}"  # of the bridge
        self._ip(self._node, f"link add {port} type veth peer name eth0 netns {pid}")
        self._ip(self._node, f"link set {port} master mesh0 up")
        self._ip(pid, f"addr add {address}/16 dev eth0")
        self._ip(pid, "link set eth0 up")
        self._ip(pid, "route add default via 10.1.0.1")
        pod.app = f"{address}:{serves[1]}" if serves else ""
        pod.ways = {target: target for target in calls}
        pod.sidecar_user = SIDECAR_USER
        return pod

    def rewrite(self, text):
        """The files are true as they stand."""
        return text

    def capture(self, pod, program):
        done = subprocess.run([*pod.inside, program, "--user", str(SIDECAR_USER)],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"pillion-init in {pod.name}: {done.stderr.strip()}")
