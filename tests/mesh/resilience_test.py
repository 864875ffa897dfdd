"""What a sidecar does when something fails: retries, time limits, budgets, breakers, ejection; and
what it says of a configuration that it cannot use. One sidecar from a static bootstrap, scripted
applications behind it."""

import collections
import json
import socket
import threading
import time
import unittest

from support import http1, net
from support.origin import OK, Origin, answer_all
from support.program import binary, run, temp_folder
from support.static import Sidecar, bootstrap, cluster, hop

BACK_OFF = {"base_interval": "0.005s", "max_interval": "0.02s"}


def answer(status, body=b"", *lines):
    fields = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


def always(raw):
    def script(connection):
        while True:
            connection.request()
            connection.send(raw)

    return script


def threads(count, work):
    """work(index) in that many threads; what one raises is raised here."""
    errors = []

    def one(index):
        try:
            work(index)
        except Exception as error:  # pylint: disable=broad-except
            errors.append(error)

    started = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(60)
    if errors:
        raise errors[0]


def counter(sidecar, name):
    """The sum of a metric over its labels."""
    text = http1.get(sidecar.metrics_port, "/metrics", timeout_s=5).body.decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines()
               if line.startswith(name) and line[len(name)] in " {")


class Case(unittest.TestCase):
    def origin(self, script=answer_all, **more):
        return self.enterContext(Origin(script, **more))

    def sidecar(self, to, *options, workers=1, **route):
        return self.enterContext(Sidecar(*hop(to, **route), *options, workers=workers))

    def dead(self):
        """A port that refuses."""
        return net.free_port()


class Retries(Case):
    def policy(self, on="5xx", **more):
        return {"retry_on": on, "num_retries": 2, "retry_back_off": BACK_OFF, **more}

    def failing(self, times, then=OK, how=answer("503 Unavailable")):
        """An origin that fails that often, whatever the connection, and then does not."""
        left = [times]

        def script(connection):
            while True:
                connection.request()
                left[0] -= 1
                if left[0] < 0:
                    connection.send(then)
                elif how is None:
                    net.reset(connection.sock)
                    return
                else:
                    connection.send(how)

        return self.origin(script)

    def test_an_answer_that_the_policy_names(self):
        for method, body in (("GET", None), ("POST", b"charge once")):
            origin = self.failing(2)
            sidecar = self.sidecar(cluster("app", origin.port), retry_policy=self.policy())
            with http1.Client(sidecar.port) as client:
                self.assertEqual(client.request(method, body=body).status, 200)
            self.assertEqual([r.body for r in origin.requests], [body or b""] * 3)
            self.assertEqual(len({r.get("x-request-id") for r in origin.requests}), 1)

    def test_no_more_than_asked_for(self):
        origin = self.failing(9, how=answer("503 Unavailable", b"the application's"))
        sidecar = self.sidecar(cluster("app", origin.port), retry_policy=self.policy())
        got = http1.get(sidecar.port)
        self.assertEqual((got.status, got.body, len(origin.requests)), (503, b"the application's", 3))

    def test_a_status_that_the_policy_does_not_name(self):
        origin = self.failing(1)
        sidecar = self.sidecar(cluster("app", origin.port), retry_policy=self.policy("connect-failure"))
        self.assertEqual(http1.get(sidecar.port).status, 503)
        self.assertEqual(len(origin.requests), 1)

    def test_a_body_above_the_limit_is_not_sent_again(self):
        for size, status, tries in ((60000, 200, 2), (70000, 503, 1)):
            with self.subTest(size=size):
                origin = self.failing(1)
                sidecar = self.sidecar(cluster("app", origin.port), retry_policy=self.policy())
                with http1.Client(sidecar.port) as client:
                    got = client.request("POST", body=b"x" * size)
                self.assertEqual((got.status, len(origin.requests)), (status, tries))

    def test_a_chunked_body_is_sent_again_whole(self):
        origin = self.failing(1)
        sidecar = self.sidecar(cluster("app", origin.port), retry_policy=self.policy())
        with http1.Client(sidecar.port) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in (b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n"):
                client.send(piece)
                time.sleep(0.01)
            self.assertEqual(client.answer().status, 200)
        self.assertEqual([r.body for r in origin.requests], [b"abcde"] * 2)

    def test_a_reset_after_the_request_is_not_repeated_unasked(self):
        """Nobody knows whether the application saw it: a POST must not be paid twice."""
        for policy in ({}, {"retry_policy": self.policy("connect-failure,refused-stream")}):
            origin = self.failing(1, how=None)
            sidecar = self.sidecar(cluster("app", origin.port), **policy)
            with http1.Client(sidecar.port) as client:
                got = client.request("POST", body=b"x")
            self.assertEqual((got.status, len(origin.requests)), (503, 1))

    def test_what_no_application_saw_is_always_tried_elsewhere(self):
        origin = self.origin()
        sidecar = self.sidecar(cluster("app", self.dead(), origin.port, self.dead()))
        for _ in range(10):
            with http1.Client(sidecar.port) as client:
                self.assertEqual(client.request("POST", body=b"x").status, 200)
        self.assertEqual(len(origin.requests), 10)

    def test_num_retries_0_turns_all_off(self):
        sidecar = self.sidecar(cluster("app", self.dead()),
                               retry_policy=self.policy(num_retries=0))
        self.assertEqual(http1.get(sidecar.port).status, 503)
        self.assertEqual(counter(sidecar, "pillion_attempts_total"), 1)

    def test_per_try_timeout(self):
        stalled = []

        def script(connection):
            while True:
                connection.request()
                if not stalled:
                    stalled.append(True)
                    connection.request()  # its end
                connection.send(OK)

        origin = self.origin(script)
        sidecar = self.sidecar(cluster("app", origin.port),
                               retry_policy=self.policy(per_try_timeout="0.1s"))
        self.assertEqual(http1.get(sidecar.port).status, 200)
        net.wait_for(lambda: origin.ends, 2, "the end of the first attempt")
        self.assertEqual(len(origin.requests), 2)

    def test_a_second_100_after_a_retry_is_dropped(self):
        first = []

        def script(connection):
            request = connection.head()
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.body(request)
            if not first:
                first.append(True)
                connection.send(answer("503 Unavailable"))
            else:
                connection.send(OK)
            net.read_to_end(connection.sock, 2)

        origin = self.origin(script)
        sidecar = self.sidecar(cluster("app", origin.port), retry_policy=self.policy())
        with http1.Client(sidecar.port) as client:
            client.send(http1.request_bytes("POST", fields=(("Expect", "100-continue"),
                                                            ("Content-Length", "1"))))
            self.assertEqual(client.head()[0], 100)
            client.send(b"x")
            self.assertEqual(client.head()[0], 200)
        self.assertEqual(len(origin.requests), 2)

    def test_the_budget_bounds_retries(self):
        callers = 24
        together = threading.Barrier(callers)

        def script(connection):
            while True:
                connection.request()
                time.sleep(0.2)
                connection.send(answer("503 Unavailable"))

        origin = self.origin(script)
        limits = {"thresholds": [{"max_retries": 2}]}
        sidecar = self.sidecar(cluster("app", origin.port, circuit_breakers=limits),
                               retry_policy=self.policy(num_retries=1))

        def work(_):
            together.wait(10)
            self.assertEqual(http1.get(sidecar.port).status, 503)

        threads(callers, work)
        self.assertGreater(len(origin.requests), callers)
        self.assertLess(len(origin.requests), callers + 8)


class TimeLimits(Case):
    def stalling(self, *pieces):
        def script(connection):
            connection.request()
            for piece in pieces:
                connection.send(piece)
            connection.request()  # its end

        return self.origin(script)

    def test_route_timeout(self):
        origin = self.stalling()
        sidecar = self.sidecar(cluster("app", origin.port), timeout="0.2s")
        got = http1.get(sidecar.port)
        self.assertEqual(got.status, 504)
        self.assertIn("error=http_response_timeout", got.get("Proxy-Status"))
        net.wait_for(lambda: origin.ends, 2, "the cancellation upstream")

    def test_route_timeout_wins_over_retries(self):
        origin = self.stalling()
        policy = {"retry_on": "5xx", "num_retries": 1000, "per_try_timeout": "0.05s",
                  "retry_back_off": BACK_OFF}
        sidecar = self.sidecar(cluster("app", origin.port), timeout="0.4s", retry_policy=policy)
        self.assertEqual(http1.get(sidecar.port).status, 504)
        self.assertGreater(len(origin.requests), 1)

    def test_route_timeout_after_the_head_cuts(self):
        origin = self.stalling(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
        sidecar = self.sidecar(cluster("app", origin.port), timeout="0.2s")
        with self.assertRaises((EOFError, ConnectionResetError)):
            http1.get(sidecar.port)

    def test_grpc_timeout(self):
        origin = self.stalling()
        action = {"timeout": "0s", "max_stream_duration": {"grpc_timeout_header_max": "0s"}}
        sidecar = self.sidecar(cluster("app", origin.port), **action)
        with http1.Client(sidecar.port) as client:
            got = client.request("POST", body=b"", fields=(("Content-Type", "application/grpc"),
                                                           ("grpc-timeout", "200m")))
        self.assertEqual((got.status, got.get("grpc-status")), (200, "4"))

    def test_connect_timeout(self):
        # A listener whose queue is full answers no further SYN.
        full = socket.socket()
        self.addCleanup(full.close)
        full.bind((net.LOOPBACK, 0))
        full.listen(0)
        held = [socket.socket() for _ in range(4)]
        for sock in held:
            self.addCleanup(sock.close)
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        time.sleep(0.05)
        sidecar = self.sidecar(cluster("app", full.getsockname()[1], connect_timeout="0.2s"))
        got = http1.get(sidecar.port)
        self.assertEqual(got.status, 503)
        self.assertIn("error=connection_timeout", got.get("Proxy-Status"))


class Breakers(Case):
    """Istio's circuit-breaking task: one connection, one that waits, one request a connection.

    The callers draw from one number of calls, so that one who is refused at once calls again."""

    CALLS = 60

    def storm(self, callers):
        def script(connection):
            while True:
                connection.request()
                time.sleep(0.005)
                connection.send(OK)

        origin = self.origin(script)
        options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"max_requests_per_connection": 1},
            "explicit_http_config": {"http_protocol_options": {}}}}
        limits = {"thresholds": [{"max_connections": 1, "max_pending_requests": 1}]}
        sidecar = self.sidecar(cluster("app", origin.port, circuit_breakers=limits,
                                       typed_extension_protocol_options=options))
        seen = collections.Counter()

        calls = iter(range(self.CALLS))

        def work(_):
            with http1.Client(sidecar.port) as client:
                for _ in calls:
                    got = client.request()
                    seen[got.status] += 1
                    if got.status == 503:
                        self.assertIn("error=connection_limit_reached", got.get("Proxy-Status"))

        threads(callers, work)
        self.assertEqual(seen[200] + seen[503], self.CALLS)
        self.assertEqual(len(origin.requests), seen[200])
        self.assertEqual(counter(sidecar, "pillion_breaker_overflows_total"), seen[503])
        return seen

    def test_two_callers(self):
        """One is refused only when it calls while the other's new connection is not up yet: seldom.
        (policy_test holds a connection back, so that one surely is.)"""
        self.assertGreater(self.storm(2)[200], self.CALLS / 2)

    def test_three_callers(self):
        seen = self.storm(3)
        self.assertGreater(seen[503], self.CALLS / 2)

    def test_max_requests(self):
        release = threading.Event()

        def script(connection):
            while True:
                connection.request()
                release.wait(10)
                connection.send(OK)

        origin = self.origin(script)
        sidecar = self.sidecar(cluster("app", origin.port,
                                       circuit_breakers={"thresholds": [{"max_requests": 3}]}))
        held = [self.enterContext(http1.Client(sidecar.port)) for _ in range(3)]
        for client in held:
            client.send(http1.request_bytes())
        net.wait_for(lambda: len(origin.requests) == 3)
        self.assertEqual(http1.get(sidecar.port).status, 503)
        release.set()
        for client in held:
            self.assertEqual(client.answer().status, 200)
        self.assertEqual(http1.get(sidecar.port).status, 200)


class Ejection(Case):
    def test_out_and_back(self):
        good, bad = self.origin(), self.origin(always(answer("500 Internal Server Error")))
        sidecar = self.sidecar(cluster(
            "app", good.port, bad.port, lb_policy="ROUND_ROBIN",
            outlier_detection={"consecutive_5xx": 5, "interval": "0.2s", "base_ejection_time": "0.5s",
                               "max_ejection_percent": 50}))
        with http1.Client(sidecar.port) as client:
            seen = [client.request().status for _ in range(100)]
            self.assertEqual(seen.count(500), 5)
            self.assertNotIn(500, seen[12:])
            sidecar.wait_for_output("endpoint ejected")
            self.assertEqual(counter(sidecar, "pillion_ejections_total"), 1)
            bad.script = answer_all
            bad.drop()
            before = len(bad.requests)

            def back():
                self.assertEqual(client.request().status, 200)
                return len(bad.requests) > before

            net.wait_for(back, 5, "the return of the healed endpoint")

    def test_the_last_one_stays(self):
        bad = self.origin(always(answer("500 Internal Server Error")))
        sidecar = self.sidecar(cluster("app", bad.port, outlier_detection={
            "consecutive_5xx": 2, "interval": "0.2s", "max_ejection_percent": 100}))
        with http1.Client(sidecar.port) as client:
            self.assertEqual({client.request().status for _ in range(20)}, {500})

    def test_no_healthy_endpoint(self):
        to = cluster("app", self.dead())
        to["load_assignment"]["endpoints"] = []
        got = http1.get(self.sidecar(to).port)
        self.assertEqual(got.status, 503)
        self.assertIn("error=destination_unavailable", got.get("Proxy-Status"))


class Weights(Case):
    """Exact, not by chance: behaviour.md of a canary of 10 %."""

    REQUESTS = 2000

    def shares(self, workers):
        origins = [self.origin(always(answer("200 OK", name))) for name in (b"v1", b"v2")]
        config, port = hop(cluster("v1", origins[0].port), cluster=None)
        config["static_resources"]["clusters"].append(cluster("v2", origins[1].port))
        http = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
        action = http["typed_config"]["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
        del action["cluster"]
        action["weighted_clusters"] = {"clusters": [{"name": "v1", "weight": 90},
                                                    {"name": "v2", "weight": 10}]}
        sidecar = self.enterContext(Sidecar(config, port, workers=workers))
        seen = collections.Counter()

        def work(_):
            with http1.Client(sidecar.port) as client:
                for _ in range(self.REQUESTS // 4):
                    seen[client.request().body] += 1

        threads(4, work)
        return seen[b"v1"]

    def test_one_worker(self):
        self.assertAlmostEqual(self.shares(1), 1800, delta=1)

    def test_three_workers(self):
        self.assertAlmostEqual(self.shares(3), 1800, delta=3)


class BadConfiguration(unittest.TestCase):
    """An error that names the file, the field and what is allowed; nothing is served."""

    def setUp(self):
        self.folder = self.enterContext(temp_folder())

    def refused(self, text, *words, ending="json", options=()):
        path = f"{self.folder}/bootstrap.{ending}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        code, out, err = run([binary("pillion-sidecar"), "--config", path, *options], timeout_s=20)
        self.assertNotEqual(code, 0)
        self.assertNotIn("Sanitizer", out + err)
        for word in (*words, *(("bootstrap",) if not options else ())):
            self.assertIn(word, out + err)
        return code

    def config(self):
        return hop(cluster("app", net.free_port()))[0]

    def test_fields(self):
        def at(config, *path):
            for step in path[:-1]:
                config = config[step]
            return config, path[-1]

        listener = ("static_resources", "listeners", 0)
        made = ("static_resources", "clusters", 0)
        manager = (*listener, "filter_chains", 0, "filters", 0, "typed_config")
        route = (*manager, "route_config", "virtual_hosts", 0, "routes", 0)
        for path, value, words in (
                ((*made, "no_such_field"), 1, ("clusters[0]", "no_such_field")),
                ((*made, "connect_timeout"), "soon", ("clusters[0]", "connect_timeout")),
                ((*made, "type"), "MAGIC", ("clusters[0]", "MAGIC")),
                ((*made, "lb_policy"), 99, ("clusters[0]", "lb_policy")),
                ((*listener, "address"), {}, ("listeners[0]", "address")),
                ((*manager, "@type"), "type.googleapis.com/envoy.Nothing", ("listeners[0]", "Nothing")),
                ((*manager, "http_filters"), [], ("listeners[0]", "http_filters")),
                ((*route, "route", "cluster"), "nowhere", ("listeners[0]", "'nowhere'")),
                ((*route, "route", "timeout"), "-1s", ("routes[0]", "timeout")),
                ((*route, "match"), {"safe_regex": {"regex": "("}}, ("routes[0]", "regex"))):
            with self.subTest(".".join(map(str, path))):
                config = self.config()
                holder, last = at(config, *path)
                holder[last] = value
                self.refused(json.dumps(config), *words)

    def test_weights_of_nothing(self):
        config = self.config()
        http = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
        http["typed_config"]["route_config"]["virtual_hosts"][0]["routes"][0]["route"] = {
            "weighted_clusters": {"clusters": [{"name": "app", "weight": 0}]}}
        self.refused(json.dumps(config), "weighted_clusters")

    def test_files(self):
        for ending, text, words in (
                ("json", "", ()), ("json", "{", ()), ("json", "[1]", ()), ("json", "\0\1\2", ()),
                ("json", "[" * 100000, ()), ("yaml", "a: [", ()), ("yaml", "a: b: c", ()),
                ("yaml", "&a [*a, *a]", ()), ("yml", "- 1", ())):
            with self.subTest(text=text[:10]):
                self.refused(text, *words, ending=ending)

    def test_a_file_that_is_not_there(self):
        code, _, err = run([binary("pillion-sidecar"), "--config", f"{self.folder}/none.json"])
        self.assertNotEqual(code, 0)
        self.assertIn("none.json", err)
        code, _, err = run([binary("pillion-sidecar"), "--config", self.folder])
        self.assertNotEqual(code, 0)

    def test_a_certificate_that_is_not_there(self):
        config = hop(cluster("app", net.free_port(), transport_socket=bootstrap.upstream_tls(
            self.folder, ["h2"])))[0]
        self.refused(json.dumps(config), "client.pem")

    def test_options(self):
        good = json.dumps(self.config())
        for options, words in ((("--workers", "x"), ("--workers", "x")),
                               (("--workers", "0"), ("--workers", "0")),
                               (("--workers", "65"), ("--workers", "64")),
                               (("--drain-max", "soon"), ("--drain-max", "soon")),
                               (("--max-head", "1"), ("--max-head",)),
                               (("--log-level", "loud"), ("--log-level", "loud", "warning")),
                               (("--no-such-option",), ("--no-such-option",))):
            with self.subTest(options):
                self.refused(good, *words, options=options)

    def test_a_port_in_use(self):
        config, port = hop(cluster("app", net.free_port()))
        with socket.socket() as taken:
            taken.bind((net.LOOPBACK, port))
            taken.listen()
            self.refused(json.dumps(config), f"127.0.0.1:{port}", "in use", options=("--workers", "2"))
