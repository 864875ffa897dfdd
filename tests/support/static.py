"""pillion-sidecar from a static bootstrap: the file, the process, and what it listens on.

The bootstraps are those of the benchmark (tests/bench/bootstrap.py), changed where a test needs it."""

import copy
import json
import sys
import tempfile

from support import net
from support.program import ROOT, Program, binary

sys.path.append(f"{ROOT}/tests/bench")
import bootstrap  # pylint: disable=wrong-import-position
import certs  # pylint: disable=wrong-import-position

__all__ = ["Sidecar", "bootstrap", "certs", "cluster", "endpoints", "hop", "route_of", "settings"]


def endpoints(*ports):
    """The lb_endpoints of loopback ports."""
    return [{"endpoint": {"address": bootstrap.address(port)}} for port in ports]


def cluster(name, *ports, transport_socket=None, http2=False, **fields):
    """A STATIC cluster of loopback ports without circuit breakers of its own; fields as in Envoy."""
    made = bootstrap.cluster(name, ports[0], transport_socket, http2)
    del made["circuit_breakers"]
    made["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints(*ports)}]
    return {**made, **fields}


def settings(network_filter):
    """The typed_config of a network filter, to be changed in place."""
    return network_filter["typed_config"]


def route_of(network_filter):
    """The one route action of an HTTP filter, to be changed in place."""
    return settings(network_filter)["route_config"]["virtual_hosts"][0]["routes"][0]["route"]


def hop(to, network_filter=None, transport_socket=None, **route):
    """One listener on a free port, one cluster; (bootstrap, port). route: fields of the action."""
    port = net.free_port()
    given = copy.deepcopy(network_filter) or bootstrap.http_filter(to["name"])
    if route:
        route_of(given).update(route)
    return bootstrap.bootstrap(port, given, to, transport_socket), port


class Sidecar(Program):
    """Ends without a wait of its own: --drain-min 0s, unless the options say otherwise."""

    def __init__(self, config, port, *options, workers=1, name="pillion-sidecar"):
        self._file = tempfile.NamedTemporaryFile("w", prefix="bootstrap-", suffix=".json")
        json.dump(config, self._file)
        self._file.flush()
        self.port = port
        drain = () if "--drain-min" in options else ("--drain-min", "0s")
        self.admin_port, self.metrics_port = net.free_port(), net.free_port()
        super().__init__([binary("pillion-sidecar"), "--config", self._file.name, "--workers", workers,
                          "--admin-address", f"{net.LOOPBACK}:{self.admin_port}",
                          "--metrics-address", f"{net.LOOPBACK}:{self.metrics_port}",
                          *drain, *options], name=name, port=port)

    def memory_kb(self):
        """Private and shared pages that are resident now."""
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    def cpu_s(self):
        """Seconds of CPU that it has used."""
        with open(f"/proc/{self.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100
