"""The mesh of the databases: each server in a pod, and one pod with everybody's clients."""

import collections
import json
import os
import subprocess

import servers
from support.mesh import Mesh
from support.places import wait_until
from support.process import Failed

# name, the service's and the pod's address in policy/workloads.yaml, port, recipe, how many more
# ports that wants
Server = collections.namedtuple("Server", "name service address port recipe ports")
SERVERS = (Server("redis", "10.96.0.21", "10.1.0.21", 6379, servers.redis, 0),
           Server("postgresql", "10.96.0.22", "10.1.0.22", 5432, servers.postgresql, 0),
           Server("rabbitmq", "10.96.0.23", "10.1.0.23", 5672, servers.rabbitmq, 2),
           Server("mariadb", "10.96.0.24", "10.1.0.24", 3306, servers.mariadb, 0))
CLIENT = ("client", "10.1.0.31")
_NOBODY = 65534
_START_S, _ANSWER_S = 180, 120


class Databases(Mesh):
    def __init__(self, folder, place, processes, programs, policies):
        super().__init__(folder, place, processes, programs, policies)
        self._recipes = {}
        for server in SERVERS:
            pod = self.pod(server.name, server.address, server.name, serves=("main", server.port))
            host, port = pod.app.split(":")
            data = f"{pod.folder}/data"
            os.mkdir(data, 0o755)
            self._recipes[server.name] = server.recipe(data, host, int(port),
                                                       *(place.port() for _ in range(server.ports)))
        self.client = self.pod(*CLIENT, account="client",
                               calls=[f"{server.name}:{server.port}" for server in SERVERS])

    def data(self, name):
        """The folder of a server."""
        return f"{self.pods[name].folder}/data"

    def start_servers(self):
        """All at once: each step of all of them, then the next."""
        user = _NOBODY if os.geteuid() == 0 else None
        for name in self._recipes:
            if user is not None:
                os.chown(self.data(name), user, user)
        steps = max(len(recipe.prepare) for recipe in self._recipes.values())
        for step in range(steps):
            begun = [self._start(name, f"prepare-{name}-{step}", recipe.prepare[step], user, True)
                     for name, recipe in self._recipes.items() if step < len(recipe.prepare)]
            for process in begun:
                self._processes.finish(process, _START_S)
        for name, recipe in self._recipes.items():
            for number, command in enumerate(recipe.run, 1):
                log = name if number == len(recipe.run) else f"{name}-helper-{number}"
                self._start(name, log, command, user, False)
        for name, recipe in self._recipes.items():
            wait_until(lambda name=name, recipe=recipe: self.still() and
                       recipe.said in self._processes.log(name), name, _START_S)

    def _start(self, name, log, command, user, ends):
        env = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": self.data(name),
               "TMPDIR": self.data(name), **self._recipes[name].env}
        return self._processes.start(log, command, user=user, inside=self.pods[name].inside,
                                     ends=ends, env=env, cwd=self.data(name))

    def way(self, server, meshed):
        """(host, port) by which a client reaches it: its service, or the server itself."""
        pod = self.pods[server.name]
        at = self.client.ways[f"{server.name}:{server.port}"] if meshed else pod.app
        host, port = at.split(":")
        return host, port

    def ask(self, *command, stdin=""):
        """What a client program in the client's pod prints."""
        try:
            done = subprocess.run([*self.client.inside, *map(str, command)], input=stdin, text=True,
                                  capture_output=True, timeout=_ANSWER_S, check=False)
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(map(str, command))}: no end within {_ANSWER_S} s") from None
        if done.returncode != 0:
            raise Failed(f"{' '.join(map(str, command))}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def probe(self, server, meshed, count):
        """Microseconds from connecting to the server's first answer, of each of `count`
        connections in turn."""
        here = os.path.dirname(os.path.abspath(__file__))
        return json.loads(self.ask("/usr/bin/python3", f"{here}/probe.py", server.name,
                                   *self.way(server, meshed), count))
