"""The admin and metrics ports of a real sidecar: every path, and the metrics' text read by a parser
that takes nothing but what the format allows."""

import contextlib
import http.server
import json
import os
import re
import signal
import socket
import threading
import unittest

from support import http1, net
from support.program import Program, binary, run, temp_folder

EXTENSION = "type.googleapis.com/envoy.extensions"
HCM = f"{EXTENSION}.filters.network.http_connection_manager.v3.HttpConnectionManager"
TCP = f"{EXTENSION}.filters.network.tcp_proxy.v3.TcpProxy"
FILE_LOG = f"{EXTENSION}.access_loggers.file.v3.FileAccessLog"
CLUSTER = "outbound|8000||order-service.shop.svc.cluster.local"
LOG_FORMAT = '%REQ(:METHOD)% %REQ(X-ORIGINAL?:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% ' \
             '%UPSTREAM_CLUSTER% %BYTES_SENT% "%REQ(USER-AGENT):4%" %ROUTE_NAME%\n'


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, port):
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]}}


def origin(object_name, line):
    return {"filter_metadata": {"pillion.io": {
        "object": object_name, "generation": 7, "file": "mesh.yaml", "line": line}}}


def bootstrap(ports, folder):
    log = {"name": "file", "typed_config": {
        "@type": FILE_LOG, "path": f"{folder}/access.log",
        "log_format": {"text_format_source": {"inline_string": LOG_FORMAT}}}}
    routes = [
        {"match": {"prefix": "/gone"}, "name": "gone", "route": {"cluster": "gone"},
         "metadata": origin("VirtualService/shop/gone", 12)},
        {"match": {"prefix": "/"}, "name": "all", "route": {"cluster": CLUSTER},
         "metadata": origin("VirtualService/shop/orders", 3)}]
    manager = {"@type": HCM, "stat_prefix": "web", "access_log": [log],
               "generate_request_id": True, "http_filters": [{
                   "name": "router", "typed_config": {
                       "@type": f"{EXTENSION}.filters.http.router.v3.Router"}}],
               "route_config": {"name": "web", "virtual_hosts": [
                   {"name": "orders", "domains": ["*"], "routes": routes}]}}
    proxy = {"@type": TCP, "stat_prefix": "raw", "cluster": CLUSTER}

    def listener(name, filter_name, config):
        return {"name": name, "address": address(ports[name]), "traffic_direction": "OUTBOUND",
                "filter_chains": [{"filters": [{"name": filter_name, "typed_config": config}]}]}

    picky = listener("picky", "envoy.filters.network.tcp_proxy", proxy)
    picky["listener_filters"] = [{"name": "tls", "typed_config": {
        "@type": f"{EXTENSION}.filters.listener.tls_inspector.v3.TlsInspector"}}]
    picky["filter_chains"][0]["filter_chain_match"] = {"transport_protocol": "tls"}
    picky["access_log"] = [{"name": "file", "typed_config": {
        "@type": FILE_LOG, "path": f"{folder}/refused.log", "log_format": {"text_format_source": {
            "inline_string": "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% "
                             "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\n"}}}}]
    return {
        "node": {"id": "sidecar~127.0.0.1~web-1.shop~shop.svc.cluster.local", "cluster": "web.shop"},
        "admin": {"address": address(ports["admin"])},
        "static_resources": {
            "listeners": [
                listener("http", "envoy.filters.network.http_connection_manager", manager),
                listener("tcp", "envoy.filters.network.tcp_proxy", proxy), picky],
            "clusters": [cluster(CLUSTER, ports["app"]), cluster("gone", ports["nobody"])]}}


# ---- the text format, strictly (Prometheus exposition format 0.0.4) ----

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL})(?:,{LABEL})*)\}})? (-?[0-9]+(?:\.[0-9]+)?|\+Inf)")


def parse(text):
    """{family: (type, {(sample name, labels): value})}; ValueError for what is not the format."""
    families, current = {}, None
    if not text.endswith("\n"):
        raise ValueError("no end of the last line")
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            if current in families:
                raise ValueError(f"{current} comes twice")
            families[current] = [None, {}]
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if name != current or kind not in ("counter", "gauge", "histogram"):
                raise ValueError(line)
            families[name][0] = kind
        else:
            hit = SAMPLE.fullmatch(line)
            if not hit:
                raise ValueError(f"not a sample: {line!r}")
            kind, samples = families[current]
            endings = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            if hit[1] not in [current + ending for ending in endings]:
                raise ValueError(f"{hit[1]} under {current}")
            labels = tuple(re.findall(LABEL, hit[2] or ""))
            if len({name for name, _ in labels}) != len(labels) or (hit[1], labels) in samples:
                raise ValueError(f"twice: {line!r}")
            samples[hit[1], labels] = float(hit[7])
    for name, (kind, samples) in families.items():
        if kind == "histogram":
            check_histogram(name, samples)
    return families


def check_histogram(name, samples):
    """Buckets rise, and the last is the count."""
    series = {}
    for (sample, labels), value in samples.items():
        if sample.endswith("_bucket"):
            key = tuple(label for label in labels if label[0] != "le")
            series.setdefault(key, []).append((float(dict(labels)["le"]), value))
    for key, buckets in series.items():
        if buckets != sorted(buckets) or [v for _, v in buckets] != sorted(v for _, v in buckets):
            raise ValueError(f"buckets of {name} do not rise")
        if buckets[-1] != (float("inf"), samples[f"{name}_count", key]):
            raise ValueError(f"the last bucket of {name} is not its count")


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


class Admin(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.ports = {name: net.free_port() for name in ("http", "tcp", "picky", "admin", "metrics", "nobody")}
        app = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
        self.ports["app"] = app.server_address[1]
        threading.Thread(target=app.serve_forever, daemon=True).start()
        stack.callback(app.server_close)
        stack.callback(app.shutdown)
        self.folder = stack.enter_context(temp_folder())
        with open(f"{self.folder}/bootstrap.json", "w", encoding="utf-8") as file:
            json.dump(bootstrap(self.ports, self.folder), file)
        self.sidecar = stack.enter_context(Program(
            [binary("pillion-sidecar"), "--config", f"{self.folder}/bootstrap.json", "--workers", 2,
             "--metrics-address", f"127.0.0.1:{self.ports['metrics']}", "--drain-min", "0s",
             "--drain-max", "2s"], port=self.ports["http"]))

    def ask(self, target, method="GET", port="admin", status=200):
        client = http1.Client(self.ports[port])
        answer = client.request(method, target)
        client.sock.close()
        self.assertEqual(answer.status, status, answer.body)
        return answer

    def json(self, target, **more):
        answer = self.ask(target, **more)
        self.assertEqual(answer.get("content-type"), "application/json")
        return json.loads(answer.body)

    def call(self, target="/", status=200, fields=()):
        client = http1.Client(self.ports["http"])
        answer = client.request("GET", target, fields=fields)
        client.sock.close()
        self.assertEqual(answer.status, status)
        return answer

    def metrics(self):
        return parse(self.ask("/metrics", port="metrics").body.decode())

    def total(self, family, **labels):
        """The sum of a family's samples that carry these labels."""
        _, samples = self.metrics().get(family, (None, {}))
        return sum(value for (_, have), value in samples.items()
                   if labels.items() <= dict(have).items())

    def test_requests_are_counted_under_istios_names(self):
        for _ in range(3):
            self.call()
        self.call("/gone", status=503)
        labels = {"reporter": "source", "source_workload": "web", "source_workload_namespace": "shop",
                  "destination_service": "order-service.shop.svc.cluster.local",
                  "destination_service_name": "order-service",
                  "destination_service_namespace": "shop", "response_code": "200",
                  "response_flags": "-", "request_protocol": "http"}
        net.wait_for(lambda: self.total("istio_requests_total", **labels) == 3)
        self.assertEqual(self.total("istio_requests_total", response_code="503",
                                    response_flags="UF,URX"), 1)
        families = self.metrics()
        self.assertEqual(families["istio_request_duration_milliseconds"][0], "histogram")
        self.assertEqual(self.total("pillion_exchange_failures_total", fail="CONNECT_REFUSED"), 1)
        self.assertEqual(self.total("pillion_attempt_failures_total", fail="CONNECT_REFUSED"), 3)
        self.assertEqual(self.total("pillion_retry_verdicts_total", why="FREE"), 2)
        self.assertGreater(self.total("pillion_memory_live_bytes"), 0)
        self.assertGreater(self.total("pillion_allocations_total"), 0)

    def test_opaque_connections_are_counted(self):
        client = http1.Client(self.ports["tcp"])
        self.assertEqual(client.request("GET", "/").status, 200)
        net.wait_for(lambda: self.total("istio_tcp_connections_opened_total") == 1)
        self.assertEqual(self.total("pillion_exchanges_open"), 1)
        self.assertEqual(self.total("pillion_connections_open", side="downstream"), 1)
        client.sock.close()
        net.wait_for(lambda: self.total("istio_tcp_connections_closed_total") == 1)
        self.assertGreater(self.total("istio_tcp_received_bytes_total", request_protocol="tcp"), 10)
        self.assertGreater(self.total("istio_tcp_sent_bytes_total"), 10)

    def test_bad_requests_are_counted(self):
        client = http1.Client(self.ports["http"])
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        self.assertEqual(client.answer().status, 400)
        client.sock.close()
        # Counted when the exchange has ended, which is after its answer.
        net.wait_for(lambda: self.total("pillion_codec_refusals_total") == 1)

    def test_stats_for_people(self):
        self.call()
        lines = self.ask("/stats").body.decode().splitlines()
        self.assertTrue(any(line.startswith("istio_requests_total{") for line in lines))
        self.assertFalse(any(line.startswith("#") or "_bucket{" in line for line in lines))
        parse(self.ask("/stats/prometheus").body.decode())
        parse(self.ask("/stats?format=prometheus").body.decode())
        parse(self.ask("/stats/prometheus", port="metrics").body.decode())

    def test_exchanges_by_request_id(self):
        self.call(fields=[("x-request-id", "one")])
        self.call("/gone?secret=1", status=503, fields=[("x-request-id", "two")])
        found = self.json("/exchanges?id=two")["exchanges"]
        self.assertEqual(len(found), 1)
        record = found[0]
        self.assertEqual((record["fail"], record["status"], record["cluster"]),
                         ("CONNECT_REFUSED", 503, "gone"))
        self.assertEqual(record["route"]["object"], "VirtualService/shop/gone")
        self.assertEqual((record["route"]["generation"], record["route"]["line"]), (7, 12))
        self.assertEqual(record["attempts"], 3)
        self.assertEqual([t["fail"] for t in record["tries"]], ["CONNECT_REFUSED"] * 3)
        self.assertNotIn("secret", json.dumps(found))
        good = self.json("/exchanges?id=one")["exchanges"][0]
        self.assertEqual((good["fail"], good["tries"][0]["endpoint"]),
                         ("NONE", f"127.0.0.1:{self.ports['app']}"))
        self.assertEqual(len(self.json("/exchanges")["exchanges"]), 2)
        self.assertEqual(self.json("/exchanges?id=three")["exchanges"], [])

    def test_proxy_status_names_the_object(self):
        answer = self.call("/gone", status=503)
        self.assertRegex(answer.get("proxy-status"),
                         r"^pillion; error=connection_refused; details=\".*"
                         r"\(VirtualService/shop/gone, generation 7\)\"$")

    def test_clusters(self):
        self.call()
        found = {c["name"]: c for c in self.json("/clusters")["clusters"]}
        self.assertEqual(set(found), {CLUSTER, "gone"})
        endpoint = found[CLUSTER]["endpoints"][0]
        self.assertEqual(endpoint["address"], f"127.0.0.1:{self.ports['app']}")
        self.assertEqual((endpoint["health"], endpoint["available"]), ("healthy", True))
        self.assertEqual(endpoint["idle"] + endpoint["busy"], 1)

    def test_config_dump(self):
        found = self.json("/config_dump")
        self.assertEqual({one["name"] for one in found["listeners"]}, {"http", "tcp", "picky"})
        web = next(one for one in found["listeners"] if one["name"] == "http")
        routes = web["chains"][0]["route_table"]["virtual_hosts"][0]["routes"]
        self.assertEqual([one["name"] for one in routes], ["gone", "all"])
        self.assertEqual(routes[1]["targets"], [{"cluster": CLUSTER, "weight": 1}])
        self.assertEqual(routes[1]["origin"]["line"], 3)

    def test_access_log(self):
        self.call("/a?b", fields=[("user-agent", "tester")])
        self.call("/gone", status=503)
        client = http1.Client(self.ports["http"])
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        self.assertEqual(client.answer().status, 400)
        client.sock.close()
        path = f"{self.folder}/access.log"

        def lines():
            with open(path, encoding="utf-8") as file:
                return file.read().splitlines()

        net.wait_for(lambda: os.path.exists(path) and len(lines()) == 3)
        bad, good, failed = sorted(lines())
        self.assertEqual(good, f'GET /a?b HTTP/1.1 200 - {CLUSTER} 3 "test" all')
        self.assertRegex(failed, r'^GET /gone HTTP/1.1 503 UF,URX gone [0-9]+ "-" gone$')
        self.assertRegex(bad, r'^- - HTTP/1.1 400 DPE - [0-9]+ "-" -$')

    def test_the_log_of_a_listener_has_what_no_chain_took(self):
        path = f"{self.folder}/refused.log"
        with socket.create_connection((net.LOOPBACK, self.ports["picky"])):
            pass  # somebody looks whether it listens: nothing to tell
        with socket.create_connection((net.LOOPBACK, self.ports["picky"])) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            self.assertIn(net.read_to_end(sock)[1], ("eof", "reset"))

        def lines():
            with open(path, encoding="utf-8") as file:
                return file.read().splitlines()

        net.wait_for(lambda: os.path.exists(path) and lines())
        self.assertEqual(lines(), ["NR no_chain 18 127.0.0.1"])
        self.assertEqual(self.total("pillion_exchange_failures_total", fail="NO_CHAIN"), 1)

    def test_an_unknown_operator_is_refused_at_start(self):
        config = bootstrap(self.ports, self.folder)
        with open(f"{self.folder}/bad.json", "w", encoding="utf-8") as file:
            file.write(json.dumps(config).replace("%ROUTE_NAME%", "%ROUTE_NUMBER%"))
        code, _, errors = run([binary("pillion-sidecar"), "--config", f"{self.folder}/bad.json"])
        self.assertEqual(code, 1)
        self.assertIn("log_format: %ROUTE_NUMBER%: no such operator", errors)

    def test_a_full_disk_loses_lines_not_requests(self):
        os.symlink("/dev/full", f"{self.folder}/access.log")
        for _ in range(3):
            self.call()
        net.wait_for(lambda: self.total("pillion_access_log_dropped_total") == 3)

    def test_certs(self):
        self.assertEqual(self.json("/certs"), {"certificates": []})

    def test_logging(self):
        self.assertEqual(self.json("/logging"), {"level": "info"})
        self.assertEqual(self.json("/logging?level=debug", method="POST"), {"level": "debug"})
        self.assertEqual(self.json("/logging"), {"level": "debug"})
        self.ask("/logging?level=loud", method="POST", status=400)

    def test_probes_and_drain(self):
        self.ask("/ready")
        self.ask("/healthz/ready", port="metrics")
        self.ask("/healthz/live", port="metrics")
        self.ask("/clusters", port="metrics", status=404)
        self.ask("/drain", status=405)
        holder = http1.Client(self.ports["tcp"])  # keeps the drain from ending at once
        self.assertEqual(holder.request("GET", "/").status, 200)
        self.ask("/drain", method="POST", status=202)
        net.wait_for(lambda: self.ask_status("/ready") == 503)
        self.ask("/healthz/live", port="metrics")
        holder.sock.close()
        self.assertEqual(self.sidecar.wait(), 0)

    def ask_status(self, target):
        client = http1.Client(self.ports["admin"])
        status = client.request("GET", target).status
        client.sock.close()
        return status

    def test_a_taken_port_does_not_stop_traffic(self):
        second = dict(self.ports, http=net.free_port(), tcp=net.free_port(), picky=net.free_port())
        with open(f"{self.folder}/second.json", "w", encoding="utf-8") as file:
            json.dump(bootstrap(second, self.folder), file)
        with Program([binary("pillion-sidecar"), "--config", f"{self.folder}/second.json",
                      "--metrics-address", f"127.0.0.1:{self.ports['metrics']}", "--drain-min", "0s"],
                     port=second["http"]) as sidecar:
            sidecar.wait_for_output("admin port not served")
            self.ports["http"] = second["http"]
            self.call()
            sidecar.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    unittest.main()
