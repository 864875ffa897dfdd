"""Changes under load: an application that is stopped and started, one that is reset, a sidecar that
drains. Whatever happens, no GET fails, no POST reaches an application twice, and every answer that is
not the application's own is counted."""

import collections
import os
import signal
import sys
import tempfile
import threading
import time
import unittest

from support import http1, net
from support.origin import Origin
from support.program import Program, temp_folder
from support.static import Sidecar, bootstrap, certs, cluster, hop

PRESETS = ("release",)
CALLERS = 8
PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
# What policy/translate writes where nothing is set: another endpoint than the one that just failed.
IDEMPOTENT = {"retry_on": "connect-failure,refused-stream,reset-before-request,idempotent-reset",
              "num_retries": 2, "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
              "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts",
                                        "typed_config": {"@type": f"type.googleapis.com/{PREVIOUS_HOSTS}"}}]}
# Every caller may lose its connection in the same instant, and all are to be rescued; that a smaller
# budget refuses is resilience_test's.
ENOUGH_RETRIES = {"circuit_breakers": {"thresholds": [{"max_retries": CALLERS}]}}


class Ledger:
    """What applications saw, by the id of the request; answers say who gave them."""

    def __init__(self):
        self.seen = collections.Counter()
        self._lock = threading.Lock()

    def application(self, port=None):
        def script(connection):
            while True:
                request = connection.request()
                with self._lock:
                    self.seen[request.get("X-Id")] += 1
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\napp")

        return Origin(script, port=port)


class Load:
    """CALLERS keep-alive clients, GET and POST in turn, until stop(); each request has an id."""

    def __init__(self, port):
        self.port = port
        self.results = {}  # id: (method, status or the name of what was raised)
        self.goodbyes = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(i,)) for i in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _call(self, caller):
        client, count = None, 0
        while not self._stop.is_set():
            method = "POST" if count % 2 else "GET"
            name = f"{caller}-{count}"
            count += 1
            try:
                client = client or http1.Client(self.port)
                answer = client.request(method, fields=(("X-Id", name),),
                                        body=b"pay" if method == "POST" else None)
                self.results[name] = method, answer.status
                if (answer.get("Connection") or "").lower() == "close":
                    self.goodbyes += 1
                    client.close()
                    client = None
                    if self._stop.wait(0.02):
                        break
            except (OSError, EOFError) as error:
                self.results[name] = method, type(error).__name__
                client = None
            time.sleep(0.001)
        if client:
            client.close()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def failed(self, method):
        return {name: result for name, (kind, result) in self.results.items()
                if kind == method and result != 200}


def check(test, load, ledger):
    test.assertGreater(len(load.results), 200)
    test.assertEqual(load.failed("GET"), {})
    posts = load.failed("POST")
    test.assertEqual(set(posts.values()) - {503}, set())
    twice = {name for name, (method, _) in load.results.items()
             if method == "POST" and ledger.seen[name] > 1}
    test.assertEqual(twice, set())
    invented = {name for name, (_, result) in load.results.items()
                if result == 200 and ledger.seen[name] == 0}
    test.assertEqual(invented, set())
    print(f"      {len(load.results)} requests; POSTs in flight answered 503: {len(posts)}")


class Applications(unittest.TestCase):
    def setUp(self):
        self.ledger = Ledger()
        self.steady = self.enterContext(self.ledger.application())
        self.moving = self.ledger.application()
        self.addCleanup(lambda: self.moving.close())
        to = cluster("app", self.steady.port, self.moving.port, **ENOUGH_RETRIES)
        self.sidecar = self.enterContext(Sidecar(*hop(to, retry_policy=IDEMPOTENT), workers=2))

    def restart(self, end):
        load = Load(self.sidecar.port)
        for _ in range(3):
            time.sleep(0.4)
            port = self.moving.port
            end()
            time.sleep(0.4)
            self.moving = self.ledger.application(port)
        time.sleep(0.4)
        before = self.moving.connections
        load.stop()
        self.assertGreater(before, 0, "the one that came back is used")
        check(self, load, self.ledger)

    def test_stopped_and_started(self):
        self.restart(lambda: self.moving.close())

    def test_killed_and_started(self):
        """A process of its own, so that it can be killed: the kernel ends its connections."""
        with tempfile.NamedTemporaryFile("r") as seen:
            def start(port):
                return Program([sys.executable, "-B", __file__, port, seen.name], port=port,
                               name="application")

            port = net.free_port()
            process = start(port)
            self.addCleanup(lambda: process.kill())
            to = cluster("app", self.steady.port, port, **ENOUGH_RETRIES)
            sidecar = self.enterContext(Sidecar(*hop(to, retry_policy=IDEMPOTENT), workers=2))
            load = Load(sidecar.port)
            for _ in range(2):
                time.sleep(0.5)
                process.kill()
                time.sleep(0.5)
                process = start(port)
            time.sleep(0.5)
            load.stop()
            names = collections.Counter(seen.read().split())
        self.assertGreater(len(names), 100)
        self.ledger.seen.update(names)
        check(self, load, self.ledger)


class Peers(unittest.TestCase):
    """Two servers, each behind a sidecar of its own; HTTP/2 and mutual TLS to both."""

    def setUp(self):
        self.ledger = Ledger()
        self.folder = self.enterContext(temp_folder())
        certs.make(self.folder)
        self.inbound = [self.start() for _ in range(2)]
        to = cluster("peer", *(sidecar.port for sidecar in self.inbound), http2=True,
                     transport_socket=bootstrap.upstream_tls(self.folder, ["pillion-h2"]),
                     **ENOUGH_RETRIES)
        self.outbound = self.enterContext(Sidecar(*hop(to, retry_policy=IDEMPOTENT), workers=2,
                                                  name="outbound"))

    def start(self):
        app = self.enterContext(self.ledger.application())
        sidecar = Sidecar(*hop(cluster("app", app.port), None,
                               bootstrap.downstream_tls(self.folder, ["pillion-h2"])),
                          "--drain-min", "1s", name="inbound")
        self.addCleanup(sidecar.kill)
        return sidecar

    def test_one_is_killed(self):
        load = Load(self.outbound.port)
        time.sleep(0.7)
        self.inbound[0].kill()
        time.sleep(0.7)
        load.stop()
        check(self, load, self.ledger)

    def test_one_drains(self):
        """It says that it goes, finishes what it has, and nobody fails."""
        load = Load(self.outbound.port)
        time.sleep(0.7)
        self.inbound[0].stop()
        time.sleep(0.5)
        load.stop()
        check(self, load, self.ledger)
        self.assertEqual(load.failed("POST"), {})

    def test_the_callers_own_drains(self):
        load = Load(self.outbound.port)
        time.sleep(0.5)
        self.outbound.send_signal(signal.SIGTERM)
        load.stop()
        self.assertEqual((load.failed("GET"), load.failed("POST")), ({}, {}))


class Drain(unittest.TestCase):
    def test_sigterm_under_load(self):
        ledger = Ledger()
        app = self.enterContext(ledger.application())
        sidecar = Sidecar(*hop(cluster("app", app.port)), "--drain-min", "2s", workers=2)
        self.addCleanup(sidecar.kill)
        load = Load(sidecar.port)
        time.sleep(0.5)
        sidecar.send_signal(signal.SIGTERM)
        net.wait_for(lambda: load.goodbyes >= CALLERS, 5, "Connection: close on every connection")
        time.sleep(0.5)  # new connections are still served
        load.stop()
        self.assertEqual(load.failed("GET"), {})
        self.assertEqual(load.failed("POST"), {})
        self.assertEqual(set(ledger.seen), set(load.results))
        sidecar.stop()

    def test_a_request_in_flight_is_waited_for(self):
        release = threading.Event()

        def script(connection):
            connection.request()
            release.wait(10)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

        origin = self.enterContext(Origin(script))
        sidecar = self.enterContext(Sidecar(*hop(cluster("app", origin.port))))
        with http1.Client(sidecar.port) as client:
            client.send(http1.request_bytes())
            net.wait_for(lambda: origin.requests)
            sidecar.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            self.assertFalse(sidecar.ended())
            release.set()
            answer = client.answer()
            self.assertEqual((answer.body, answer.get("Connection")), (b"late", "close"))
        self.assertEqual(sidecar.wait(10), 0)

    def test_drain_max_cuts(self):
        origin = self.enterContext(Origin(lambda connection: connection.request() and
                                          connection.request()))
        sidecar = self.enterContext(Sidecar(*hop(cluster("app", origin.port)), "--drain-max", "1s",
                                            "--drain-min", "0s"))
        with http1.Client(sidecar.port) as client:
            client.send(http1.request_bytes())
            net.wait_for(lambda: origin.requests)
            sidecar.send_signal(signal.SIGTERM)
            self.assertEqual(sidecar.wait(10), 0)
            self.assertIn("stopped cut=1", sidecar.output())


def serve(port, path):
    """An application that writes the id of each request into a file before it answers."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def script(connection):
        while True:
            request = connection.request()
            os.write(file, f"{request.get('X-Id')}\n".encode())
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\napp")

    with Origin(script, port=port):
        signal.pause()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
