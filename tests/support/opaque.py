"""An opaque TCP service behind two sidecars: the double of a pod with a client, and one with a
server, for which nothing is configured but a Service whose port says no protocol."""

import contextlib
import os
import sys

from support.control import running, service, workload
from support.mesh import metric
from support.net import LOOPBACK, free_port, wait_for
from support.program import ROOT, Program, run, temp_folder
from support.sidecar import Sidecar

sys.path.append(f"{ROOT}/examples/databases/runner")
import servers  # noqa: E402  pylint: disable=wrong-import-position,unused-import

_NOBODY = 65534
_TRUST = "spiffe://cluster.local/ns/default/sa"


class Server:
    """A recipe's server on a free port of loopback, as a user without rights, in a folder of its
    own; `ports`: how many more the recipe wants."""

    def __init__(self, stack, recipe, ports=0):
        self.folder = stack.enter_context(temp_folder())
        os.chmod(self.folder, 0o711)
        self.port = free_port()
        made = recipe(self.folder, LOOPBACK, self.port, *(free_port() for _ in range(ports)))
        env = {"HOME": self.folder, "TMPDIR": self.folder,
               "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", **made.env}
        rights = ["setpriv", "--pdeathsig", "KILL"]
        if os.geteuid() == 0:
            os.chown(self.folder, _NOBODY, _NOBODY)
            rights += ["--reuid", _NOBODY, "--regid", _NOBODY, "--clear-groups"]
        for command in made.prepare:
            code, out, err = run([*rights, *command], 120, env)
            assert code == 0, f"{command[0]}: {out}{err}"
        for command in made.run:
            program = Program([*rights, *command], env=env, cwd=self.folder, name=command[0])
            stack.callback(program.stop, expect=(0, -15))
        program.wait_for_output(made.said, 120)
        self.program = program


class Tunnel:
    """A client's way to a server: `port` on loopback is the client's sidecar. `name` is the
    Service's and the server's account."""

    def __init__(self, stack, name, app_ports, client_options=(), server_options=(), port=7000):
        """`app_ports`: of the server's instances, each behind a sidecar of its own."""
        self.name = name
        listen = [free_port() for _ in app_ports]
        plain = service(name, selector={"app": name},
                        ports=[{"name": "main", "port": port, "targetPort": "main"}])
        objects = [plain, workload("client", "client", "v1", free_port(), True, "client")]
        for number, at in enumerate(listen):
            objects.append(workload(f"{name}-{number}", name, "v1", at, True, name))
            objects[-1]["spec"]["ports"] = {"main": at}
        self.control = stack.enter_context(running(*objects))
        self.servers = [
            stack.enter_context(Sidecar(self.control, f"{name}-{number}", name, {at: app},
                                        options=server_options))
            for number, (at, app) in enumerate(zip(listen, app_ports))]
        target = f"{name}:{port}"
        self.client = stack.enter_context(
            Sidecar(self.control, "client", "client", outbound=(target,), options=client_options))
        self.port = self.client.out[target]

    @property
    def server(self):
        return self.servers[0]

    def labels(self):
        """What a connection's series say at each end, beside the reporter: {end: labels}."""
        ends = {"source_workload": "client", "source_principal": f"{_TRUST}/client",
                "source_workload_namespace": "default", "source_app": "client",
                "destination_workload": f"{self.name}-0",
                "destination_workload_namespace": "default",
                "destination_principal": f"{_TRUST}/{self.name}",
                "destination_app": self.name, "destination_version": "v1",
                "destination_service_name": self.name, "request_protocol": "tcp"}
        return {"source": {**ends, "destination_service": f"{self.name}.default.svc.cluster.local"},
                "destination": {**ends, "connection_security_policy": "mutual_tls"}}

    def counted(self, what, **labels):
        """(at the source, at the destination): the sum of istio_tcp_`what` with all labels as they
        should be, but for those given."""
        return tuple(metric(sidecar, f"istio_tcp_{what}_total", reporter=reporter,
                            **{**self.labels()[reporter], **labels})
                     for reporter, sidecar in (("source", self.client), ("destination", self.server)))

    def wait_all_closed(self):
        """Until both ends have counted the end of each connection that was opened; how many."""
        def same():
            opened, closed = self.counted("connections_opened"), self.counted("connections_closed")
            return len({*opened, *closed}) == 1 and opened[0]
        return wait_for(same, 20, "the end of every connection in the metrics")


@contextlib.contextmanager
def served(name, recipe, ports=0, **how):
    """(server, tunnel)"""
    with contextlib.ExitStack() as stack:
        server = Server(stack, recipe, ports)
        yield server, Tunnel(stack, name, [server.port], **how)
