"""What the run shows, each with what it promises."""

import collections
import time

from mesh import SERVERS
from support.metrics import series, total
from support.places import wait_until
from support.report import milliseconds

TRUST = "spiffe://cluster.local/ns/default/sa"
PROBES = 30
HOLD_US = 20000  # --detect-hold as it is by default


# ---- what the clients do: (what, which client, the question) ----

def redis(mesh, at):
    host, port = at
    commands = "".join(f"SET key:{n} {'x' * 100}\r\n" for n in range(10000))
    said = mesh.ask("redis-cli", "-h", host, "-p", port, "--pipe", stdin=commands)
    return "errors: 0, replies: 10000" in said


def _psql(mesh, at, sql, **options):
    host, port = at
    words = {"host": host, "port": port, "user": "app", "dbname": "postgres", **options}
    return mesh.ask("psql", "-X", "-A", "-t", " ".join(f"{k}={v}" for k, v in words.items()),
                    stdin=sql)


_ROWS = ("SELECT count(*) FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl = {};"
         "SELECT count(*) FROM (SELECT repeat('x', 100) FROM generate_series(1, 10000)) AS t;"
         "SELECT repeat('x', 100) FROM generate_series(1, 10000);")


def postgresql(mesh, at):
    return _psql(mesh, at, _ROWS.format("false"), sslmode="disable") == \
        "1\n10000\n" + ("x" * 100 + "\n") * 10000


def postgresql_tls(mesh, at):
    said = _psql(mesh, at, _ROWS.format("true"), sslmode="verify-full",
                 sslrootcert=f"{mesh.data('postgresql')}/cert.pem")
    return said == "1\n10000\n" + ("x" * 100 + "\n") * 10000


def rabbitmq(mesh, at):
    host, port = at
    to = ("--server", host, "--port", port)
    mesh.ask("amqp-declare-queue", *to, "-q", "orders")
    mesh.ask("amqp-publish", *to, "-r", "orders", "-p", "-l",
             stdin="".join(f"order {n}\n" for n in range(1000)))
    said = mesh.ask("amqp-consume", *to, "-q", "orders", "-c", "1000", "-A", "cat")
    mesh.ask("amqp-delete-queue", *to, "-q", "orders")
    return [line for line in said.splitlines() if line] == [f"order {n}" for n in range(1000)]


def mariadb(mesh, at):
    host, port = at
    rows = "".join(f"INSERT INTO t VALUES ({n}, REPEAT('z', 100));\n" for n in range(1000))
    said = mesh.ask("mariadb", "--no-defaults", "-h", host, "-P", port, "-u", "app", "-N", "-B",
                    "--protocol=tcp", "app",
                    stdin="CREATE TEMPORARY TABLE t (n INT, text TEXT);\nBEGIN;\n" + rows +
                    "SELECT COUNT(*), SUM(LENGTH(text)) FROM t;\n")
    return said == "1000\t100000\n"


Work = collections.namedtuple("Work", "key protocol client server run")
_BY_NAME = {server.name: server for server in SERVERS}
WORK = (Work("redis", "Redis, 10,000 in a pipeline", "redis-cli", _BY_NAME["redis"], redis),
        Work("postgresql", "PostgreSQL", "psql", _BY_NAME["postgresql"], postgresql),
        Work("postgresql_tls", "PostgreSQL, its TLS inside", "psql", _BY_NAME["postgresql"],
             postgresql_tls),
        Work("rabbitmq", "AMQP", "amqp-tools", _BY_NAME["rabbitmq"], rabbitmq),
        Work("mariadb", "MariaDB", "mariadb", _BY_NAME["mariadb"], mariadb))


# ---- what the sidecars say ----

def counted(mesh, pod, name, **labels):
    return total(mesh.metrics(pod), f"istio_tcp_{name}_total", **labels)


class Ends:
    """What the two sidecars of a server's connections have counted."""

    def __init__(self, mesh, server):
        self._mesh, self._server = mesh, server.name
        self._sides = (("client", {"reporter": "source", "destination_service_name": server.name}),
                       (server.name, {"reporter": "destination"}))

    def all(self, name):
        """(at the client's sidecar, at the server's)"""
        return tuple(counted(self._mesh, pod, name, **labels) for pod, labels in self._sides)

    def wait_closed(self):
        """Until no connection is open and both have counted the same; how many there were."""
        def same():
            numbers = {*self.all("connections_opened"), *self.all("connections_closed")}
            return len(numbers) == 1 and numbers.pop()
        return wait_until(same, f"the end of all connections to {self._server}", 30)

    def identities(self):
        """{(caller, server)} as certificates have proven them, each at the other's sidecar."""
        labels = [own for own, _ in series(self._mesh.metrics(self._server),
                                           "istio_tcp_connections_opened_total")]
        servers = {own["destination_principal"] for own, _ in series(
            self._mesh.metrics("client"), "istio_tcp_connections_opened_total")
            if own["destination_service_name"] == self._server}
        callers = {own["source_principal"] for own in labels
                   if own["connection_security_policy"] == "mutual_tls"}
        plain = any(own["connection_security_policy"] != "mutual_tls" for own in labels)
        return callers, servers, plain


# ---- the passes ----

def run_all(mesh, report):
    begin = time.monotonic()
    mesh.start_servers()
    report.line(f"four servers are up after {time.monotonic() - begin:.1f} s")
    bare = without_mesh(mesh, report)
    begin = time.monotonic()
    mesh.start_control("policy")
    mesh.start_sidecars()
    report.section("mesh", "Through two sidecars")
    report.line(f"control and five sidecars are up after {time.monotonic() - begin:.1f} s")
    learn(mesh, report)
    with_mesh(mesh, report, bare)


def do(work, mesh, report, meshed):
    good = work.run(mesh, mesh.way(work.server, meshed))
    report.fact(work.key, good, f"{work.protocol}: {work.client} got all that it asked for")


def without_mesh(mesh, report):
    """{server: microseconds of its connections}"""
    report.section("without_mesh", "Without the mesh")
    for work in WORK:
        do(work, mesh, report, False)
    return {server.name: mesh.probe(server, False, PROBES) for server in SERVERS}


def learn(mesh, report):
    """MariaDB speaks first, so a sidecar that knows nothing waits a moment for its client."""
    first = mesh.probe(_BY_NAME["mariadb"], True, PROBES)
    held = [took for took in first if took >= HOLD_US]
    report.fact("held", len(held) >= 3,
                f"MariaDB, whose server speaks first: {len(held)} connections were held for the "
                f"{HOLD_US / 1000:.0f} ms in which a client might have spoken, then none",
                f"MariaDB: only {len(held)} connections were held")
    report.seen(held=len(held), first_us=first)


def with_mesh(mesh, report, bare):
    rows = []
    for work in WORK:
        ends = Ends(mesh, work.server)
        before = {name: ends.all(f"{name}_bytes") for name in ("received", "sent")}
        opened = ends.all("connections_opened")[0]
        do(work, mesh, report, True)
        wait_until(lambda ends=ends, opened=opened: ends.all("connections_opened")[0] > opened,
                   "the connection in the metrics")
        ends.wait_closed()
        moved = {name: [now - then for now, then in zip(ends.all(f"{name}_bytes"), before[name])]
                 for name in before}
        report.fact(f"{work.key}_bytes",
                    all(min(sides) > 0 and abs(sides[0] - sides[1]) <= 100
                        for sides in moved.values()),
                    f"{work.protocol}: both sidecars counted the same",
                    f"{work.protocol}: the sidecars counted {moved}")
        rows.append((work, moved, mesh.probe(work.server, True, PROBES), ends.identities()))
    print()
    report.table(("protocol", "client", "mutual TLS", "bytes to", "bytes from", "first answer",
                  "with the mesh"),
                 [(work.protocol, work.client, "yes" if callers and not plain else "NO",
                   f"{moved['received'][0]:,.0f}", f"{moved['sent'][0]:,.0f}",
                   milliseconds(bare[work.server.name], 50), milliseconds(took, 50))
                  for work, moved, took, (callers, _, plain) in rows])
    for server in SERVERS:
        callers, names, plain = Ends(mesh, server).identities()
        good = (callers, names, plain) == ({f"{TRUST}/client"}, {f"{TRUST}/{server.name}"}, False)
        report.fact(f"{server.name}_identity", good,
                    f"{server.name}: {TRUST}/client called {TRUST}/{server.name}, and never in plain",
                    f"{server.name}: {callers} called {names}; in plain: {plain}")
    report.seen(rows={work.key: {
        "bytes_to": moved["received"][0], "bytes_from": moved["sent"][0],
        "mutual_tls": bool(identities[0]) and not identities[2],
        "first_answer_us": sorted(took)[len(took) // 2],
        "bare_first_answer_us": sorted(bare[work.server.name])[PROBES // 2]}
        for work, moved, took, identities in rows})
