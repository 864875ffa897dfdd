"""Every pairing of HTTP/1 and HTTP/2 on both ends of a path of two sidecars, with mutual TLS between
them: bodies, trailers, upgrades, and how names are spelled."""

import asyncio
import contextlib
import itertools
import socket
import ssl
import tempfile
import threading
import time
import unittest

import websockets

from support import http1, http2, net, origin
from support.static import Sidecar, bootstrap, certs, cluster, hop, settings

PATIENT = {"connect_timeout": "30s"}  # the machine may be busy
HOPS = ("pillion-h2", "istio-h2", "istio-http/1.1")
DOWNSTREAM = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "use_downstream_protocol_config": {}}}


def exact(protocol):
    """A cluster's fields: which HTTP the application is spoken to in."""
    return {"http2": protocol == "h2"}


class Path(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        certs.make(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def path(self, app_port, alpn="pillion-h2", manager=None, options=(), **app):
        """The port of the caller's sidecar, in front of the application's; `manager`: fields of both
        HTTP connection managers."""
        config, port = hop(cluster("app", app_port, **PATIENT, **app),
                           transport_socket=bootstrap.downstream_tls(self.folder.name, [alpn]))
        listener = config["static_resources"]["listeners"][0]
        listener["traffic_direction"] = "INBOUND"
        self._manage(listener, manager)
        self.stack.enter_context(Sidecar(config, port, *options))
        to = cluster("pod", port, http2=alpn.endswith("h2"), **PATIENT,
                     transport_socket=bootstrap.upstream_tls(self.folder.name, [alpn]))
        config, port = hop(to)
        listener = config["static_resources"]["listeners"][0]
        listener["traffic_direction"] = "OUTBOUND"
        self._manage(listener, manager)
        self.caller = self.stack.enter_context(Sidecar(config, port, *options))
        return port

    @staticmethod
    def _manage(listener, fields):
        settings(listener["filter_chains"][0]["filters"][0]).update(
            {"upgrade_configs": [{"upgrade_type": "websocket"}], **(fields or {})})

    def origin(self, protocol, **how):
        made = http2.Origin(**how) if protocol == "h2" else origin.Origin(**how)
        return self.stack.enter_context(contextlib.closing(made))


def call(port, protocol, body, fields=()):
    """(status, body) of a POST by a client of that protocol."""
    if protocol == "h2":
        with http2.Client(port) as client:
            answer = client.request("POST", "/x", body=body, fields=[(n.lower(), v) for n, v in fields])
            return answer.status, answer.data
    with http1.Client(port, timeout_s=20) as client:
        answer = client.request("POST", "/x", body=body, fields=fields)
        return answer.status, answer.body


def echo(connection):
    while True:
        request = connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.body)
                        + request.body)


class Bodies(Path):
    def test_every_pair_with_the_protocol_known(self):
        body = bytes(range(256)) * 1024
        for app, alpn in itertools.product(("h1", "h2"), HOPS):
            handler = {} if app == "h2" else {"script": echo}
            server = self.origin(app, **handler)
            port = self.path(server.port, alpn, **exact(app))
            for client in ("h1", "h2"):
                with self.subTest(client=client, app=app, between=alpn):
                    self.assertEqual(call(port, client, body), (200, body))
            self.assertEqual(len(server.requests), 2)

    def test_an_application_of_unknown_protocol_gets_what_its_client_spoke(self):
        """The hop between the sidecars is HTTP/2 whatever the client speaks."""
        for spoken in ("h1", "h2"):
            with self.subTest(spoken=spoken):
                server = self.origin(spoken, **({} if spoken == "h2" else {"script": echo}))
                port = self.path(server.port, typed_extension_protocol_options=DOWNSTREAM)
                self.assertEqual(call(port, spoken, b"as I do"), (200, b"as I do"))

    def test_one_stream_after_another_and_many_at_once(self):
        server = self.origin("h2")
        port = self.path(server.port, http2=True)
        with http2.Client(port) as client:
            for i in range(20):
                self.assertEqual(client.request("PUT", f"/{i}", body=b"%d" % i).data, b"%d" % i)
            numbers = [client.head([(":method", "GET"), (":scheme", "http"), (":path", f"/{i}"),
                                    (":authority", "app")], end=True) for i in range(90)]
            client.until(lambda: all(client.streams[n].over for n in numbers))
            self.assertEqual({client.streams[n].status for n in numbers}, {200})

    def test_a_reset_travels_in_both_directions(self):
        begun = threading.Event()
        seen = threading.Event()

        def stall(link, stream):
            if stream.get(":path") == "/cancel":
                begun.set()
                link.until(lambda: stream.reset is not None)
                seen.set()
            else:
                link.answer(stream.number)
                link.send(stream.number, b"some")
                link.reset(stream.number, 2)

        server = self.origin("h2", handler=stall, at_head=True)
        port = self.path(server.port, http2=True)
        with http2.Client(port) as client:
            number = client.head([(":method", "POST"), (":scheme", "http"), (":path", "/cancel"),
                                  (":authority", "app")])
            self.assertTrue(begun.wait(20))
            client.reset(number)
            self.assertTrue(seen.wait(20))
            answer = client.request("GET", "/cut")
            self.assertEqual((answer.status, answer.ended), (200, False))
            self.assertIsNotNone(answer.reset)


class Alpn(Path):
    """TLS that ends at the sidecar, and TLS that it opens to a server outside the mesh."""

    def _server(self, *names):
        """Speaks what ALPN chose of these, HTTP/1 without any."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{self.folder.name}/server.pem", f"{self.folder.name}/server.key")
        if names:
            context.set_alpn_protocols(list(names))
        chosen = []

        def serve(sock, index):
            try:
                sock = context.wrap_socket(sock, server_side=True)
            except (OSError, ssl.SSLError):
                return  # somebody looked whether the port is open
            chosen.append(sock.selected_alpn_protocol())
            if chosen[-1] == "h2":
                http2.Origin.serve(sock)
            else:
                with contextlib.suppress(EOFError, OSError):
                    echo(origin.Connection(sock, index))

        peer = self.stack.enter_context(contextlib.closing(net.Peer(serve)))
        return peer.port, chosen

    def _client(self, port, *names):
        context = ssl.create_default_context(cafile=f"{self.folder.name}/ca.pem")
        context.check_hostname = False
        context.load_cert_chain(f"{self.folder.name}/client.pem", f"{self.folder.name}/client.key")
        if names:
            context.set_alpn_protocols(list(names))
        return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20),
                                   server_hostname=certs.SERVER_NAME)

    def _ask(self, port, *names):
        with self._client(port, *names) as sock:
            chosen = sock.selected_alpn_protocol()
            if chosen == "h2":
                answer = http2.Link(sock, True).request("POST", body=b"abc")
                return chosen, answer.status, answer.data
            answer = http1.Client(0, sock=sock, timeout_s=20).request("POST", body=b"abc")
            return chosen, answer.status, answer.body

    def test_a_client_chooses(self):
        app = self.origin("h1", script=echo)
        config, port = hop(cluster("app", app.port, **PATIENT), transport_socket=bootstrap.downstream_tls(
            self.folder.name, ["h2", "http/1.1"]))
        self.stack.enter_context(Sidecar(config, port))
        for names, chosen in ((("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), ((), None)):
            with self.subTest(offered=names):
                self.assertEqual(self._ask(port, *names), (chosen, 200, b"abc"))

    def test_a_server_chooses(self):
        for names, chosen in ((("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), ((), None)):
            with self.subTest(offered=names):
                server, chose = self._server(*names)
                to = cluster("app", server, http2=True, **PATIENT, transport_socket=bootstrap.upstream_tls(
                    self.folder.name, ["h2", "http/1.1"]))
                config, port = hop(to)
                self.stack.enter_context(Sidecar(config, port))
                answers = []
                threads = [threading.Thread(target=lambda p=p: answers.append(call(port, p, b"x")))
                           for p in ("h1", "h2") * 4]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(60)
                self.assertEqual(answers, [(200, b"x")] * 8)
                self.assertEqual(set(chose), {chosen})


class Silence(Path):
    """Every limit on silence is far shorter than the silence: what an hour is to the defaults."""
    LIMIT_S = 0.2
    LIMITS = {"stream_idle_timeout": f"{LIMIT_S}s",
              "common_http_protocol_options": {"idle_timeout": f"{LIMIT_S}s"}}

    def _ask(self, path, how_long, *fields):
        """A server that is silent for so long, says its head, is silent again, and ends."""
        def watch(link, stream):
            for act in (lambda: link.answer(stream.number),
                        lambda: link.send(stream.number, b"news"),
                        lambda: link.trailers(stream.number, [("grpc-status", "0")])):
                done = time.monotonic() + how_long
                link.sock.settimeout(0.02)
                while time.monotonic() < done:
                    with contextlib.suppress(TimeoutError):
                        link.read_once()  # it answers PINGs meanwhile
                link.sock.settimeout(20)
                act()

        server = self.origin("h2", handler=watch, at_head=True)
        port = self.path(server.port, http2=True, manager=self.LIMITS, options=("--ping", "100ms"))
        with http2.Client(port) as client:
            return client.request("POST", path, body=b"", fields=fields)

    def test_a_watch_lives_through_it(self):
        answer = self._ask("/watch", 10 * self.LIMIT_S, ("content-type", "application/grpc"),
                           ("te", "trailers"))
        self.assertEqual((answer.status, answer.data, answer.trailers),
                         (200, b"news", [("grpc-status", "0")]))

    def test_a_request_that_is_no_watch_does_not(self):
        self.assertEqual(self._ask("/", 50 * self.LIMIT_S).status, 504)


class Trailers(Path):
    def test_of_an_answer(self):
        def h1(connection):
            connection.request()
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
                            b"X-Sum: 7\r\n\r\n")

        def h2(link, stream):
            link.answer(stream.number)
            link.send(stream.number, b"ok")
            link.trailers(stream.number, [("x-sum", "7")])

        for app, client in itertools.product(("h1", "h2"), repeat=2):
            with self.subTest(app=app, client=client):
                server = self.origin(app, **({"handler": h2} if app == "h2" else {"script": h1}))
                port = self.path(server.port, **exact(app))
                if client == "h2":
                    with http2.Client(port) as link:
                        answer = link.request("GET", "/", fields=[("te", "trailers")])
                        got, body = answer.trailers, answer.data
                else:
                    with http1.Client(port, timeout_s=20) as link:
                        fields = [("TE", "trailers"), ("Connection", "TE")]
                        answer = link.request("GET", "/", fields=fields)
                        got, body = answer.fields, answer.body
                self.assertEqual(body, b"ok")
                self.assertIn(("x-sum", "7"), [(n.lower(), v) for n, v in got])

    def test_of_a_request_between_applications_that_speak_http2(self):
        server = self.origin("h2")
        port = self.path(server.port, http2=True)
        with http2.Client(port) as link:
            answer = link.request("POST", "/", body=b"x", trailers=[("x-sum", "7")])
        self.assertEqual(answer.data, b"x")
        self.assertEqual(server.requests[0].trailers, [("x-sum", "7")])


class Spelling(Path):
    FIELDS = [("ETag", "1"), ("x-lower", "2"), ("X-Title-Case", "3"), ("WWW-thing", "4"),
              ("x-lower", "5")]

    def test_names_keep_theirs_between_applications_that_speak_http1(self):
        def script(connection):
            while True:
                connection.request()
                lines = "".join(f"{n}: {v}\r\n" for n, v in self.FIELDS)
                connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}\r\n".encode())

        server = self.origin("h1", script=script)
        port = self.path(server.port)
        with http1.Client(port, timeout_s=20) as client:
            for _ in range(3):
                answer = client.request("GET", "/", fields=self.FIELDS)
                self.assertEqual([f for f in answer.fields if f in self.FIELDS], self.FIELDS)
        for request in server.requests:
            self.assertEqual([f for f in request.fields if f in self.FIELDS], self.FIELDS)
            self.assertIsNone(request.get("x-pillion-case"))

    def test_a_client_of_lower_case_is_passed_on_so(self):
        fields = [("accept", "a"), ("content-language", "b"), ("x-one", "c"), ("X-Two", "d")]
        server = self.origin("h1")
        port = self.path(server.port)
        with http1.Client(port, timeout_s=20) as client:
            client.request("GET", "/", fields=fields)
        self.assertEqual([f for f in server.requests[0].fields if f in fields], fields)

    def test_no_application_sees_or_says_how_names_are_spelled(self):
        server = self.origin("h2")
        port = self.path(server.port, http2=True)
        with http2.Client(port) as client:
            answer = client.request("GET", "/", fields=[("x-pillion-case", "T,ETAG"), ("etag", "1")])
        with http1.Client(port, timeout_s=20) as client:
            client.request("GET", "/", fields=[("X-Pillion-Case", "T,ETAG"), ("etag", "1")])
        self.assertEqual(answer.status, 200)
        for request in server.requests:
            self.assertIsNone(request.get("x-pillion-case"))
            self.assertEqual(request.get("etag"), "1")


class Upgrades(Path):
    KEY = "dGhlIHNhbXBsZSBub25jZQ=="
    ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3

    @staticmethod
    def _h1(connection):
        request = connection.head()
        assert request.get("upgrade") == "websocket", request
        assert len(request.get("sec-websocket-key") or "") == 24, request
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        b"Connection: Upgrade\r\nSec-WebSocket-Accept: its-own\r\n\r\nhello")
        connection.send(b"<" + connection._take(4) + b">")

    @staticmethod
    def _h2(link, stream):
        assert (stream.get(":method"), stream.get(":protocol")) == ("CONNECT", "websocket"), stream
        link.answer(stream.number)
        link.send(stream.number, b"hello")
        link.until(lambda: len(stream.data) >= 4)
        link.send(stream.number, b"<" + stream.data + b">", end=True)

    def _app(self, protocol):
        if protocol == "h2":
            return self.origin("h2", handler=self._h2, at_head=True,
                               settings={http2.EXTENDED_CONNECT: 1})
        return self.origin("h1", script=self._h1)

    def _h1_client(self, port):
        with http1.Client(port, timeout_s=20) as client:
            answer = client.request("GET", "/chat", fields=[
                ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", self.KEY)])
            self.assertEqual(answer.status, 101)
            self.assertEqual(client._take(5), b"hello")
            client.send(b"abcd")
            self.assertEqual(client._take(6), b"<abcd>")
            return answer.get("sec-websocket-accept")

    def _h2_client(self, port):
        with http2.Client(port) as client:
            client.until(lambda: client.h2.remote_settings.enable_connect_protocol)
            number = client.head([(":method", "CONNECT"), (":protocol", "websocket"),
                                  (":scheme", "http"), (":path", "/chat"), (":authority", "app"),
                                  ("sec-websocket-version", "13")])
            stream = client.streams[number]
            client.until(lambda: stream.data == b"hello")
            self.assertEqual(stream.status, 200)
            client.send(number, b"abcd")
            client.until(lambda: stream.data == b"hello<abcd>")
            return stream.get("sec-websocket-accept")

    def test_every_pair(self):
        for app, client, alpn in itertools.product(("h1", "h2"), ("h1", "h2"), HOPS):
            with self.subTest(app=app, client=client, between=alpn):
                server = self._app(app)
                port = self.path(server.port, alpn, **exact(app))
                accept = self._h1_client(port) if client == "h1" else self._h2_client(port)
                # What the server said of a key of the client's; of ours nothing is passed on.
                expected = {"h1": "its-own" if app == "h1" else self.ACCEPT, "h2": None}[client]
                self.assertEqual(accept, expected)

    def test_a_real_client_and_server(self):
        async def talk(port):
            async with websockets.connect(f"ws://127.0.0.1:{port}/chat") as socket:
                await socket.send("text")
                await socket.send(bytes(range(256)) * 1000)
                return [await socket.recv(), await socket.recv()], await (await socket.ping())

        async def run():
            async def serve(socket):
                async for message in socket:
                    await socket.send(message)

            async with websockets.serve(serve, "127.0.0.1", 0) as server:
                port = self.path(server.sockets[0].getsockname()[1])
                return await asyncio.wait_for(talk(port), 30)

        messages, _ = asyncio.run(run())
        self.assertEqual(messages, ["text", bytes(range(256)) * 1000])

    def test_an_application_without_extended_connect_is_named(self):
        server = self.origin("h2")
        port = self.path(server.port, http2=True)
        with http1.Client(port, timeout_s=20) as client:
            answer = client.request("GET", "/chat", fields=[
                ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", self.KEY)])
        self.assertEqual(answer.status, 502)
        self.assertIn("http_upgrade_failed", answer.get("proxy-status"))
        self.assertEqual(server.requests, [])


if __name__ == "__main__":
    unittest.main()
