"""Two sidecars and mutual TLS between them, HTTP/2 inside: requests, upgrades and opaque TCP over the
hop, peers that are not who they should be, and peers that speak no TLS or no HTTP/2."""

import contextlib
import copy
import datetime
import hashlib
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
import unittest

import h2.config
import h2.connection
import h2.events
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support import http1, needs, net
from support.origin import OK, Origin, answer_all
from support.program import Program, temp_folder
from support.static import Sidecar, bootstrap, certs, cluster, hop, settings

MIB = 1 << 20
ALPN = ["pillion-h2"]
SERVER, CLIENT = certs.spiffe_id("server"), certs.spiffe_id("client")


def common(socket_of):
    return socket_of["typed_config"]["common_tls_context"]


class Mesh(unittest.TestCase):
    """An outbound and an inbound sidecar for a class, and the application behind them."""

    upgrades = ()
    tunnel = False

    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(temp_folder())
        certs.make(cls.folder)
        cls.app = cls.enterClassContext(cls.application())
        cls.inbound = cls.enterClassContext(cls.start_inbound())
        cls.outbound = cls.enterClassContext(cls.start_outbound(cls.inbound.port))

    @classmethod
    def application(cls):
        return Origin()

    @classmethod
    def filter(cls, to, connect=False):
        made = bootstrap.http_filter(to, connect=connect)
        if cls.upgrades:
            settings(made)["upgrade_configs"] = [{"upgrade_type": kind} for kind in cls.upgrades]
            settings(made)["http2_protocol_options"] = {"allow_connect": True}
        return made

    @classmethod
    def start_inbound(cls, tls=None):
        tls = tls or bootstrap.downstream_tls(cls.folder, ALPN)
        given = cls.filter("app", connect=cls.tunnel)
        return Sidecar(*hop(cluster("app", cls.app.port), given, tls), name="inbound")

    @classmethod
    def start_outbound(cls, port, tls=None):
        tls = tls or bootstrap.upstream_tls(cls.folder, ALPN)
        given = bootstrap.tcp_filter("peer", tunnel=True) if cls.tunnel else cls.filter("peer")
        return Sidecar(*hop(cluster("peer", port, transport_socket=tls, http2=True), given),
                       name="outbound")

    def setUp(self):
        if isinstance(self.app, Origin):
            self.play(answer_all)
            self.app.requests.clear()
            self.app.ends.clear()

    def tearDown(self):
        for sidecar in (self.inbound, self.outbound):
            self.assertFalse(sidecar.ended(), sidecar.output())

    def play(self, script):
        self.app.script = script
        self.app.drop()

    def client(self, **more):
        client = http1.Client(self.outbound.port, **more)
        self.addCleanup(client.close)
        return client


class Requests(Mesh):
    upgrades = ("websocket",)

    def test_many_requests_share_the_hop(self):
        clients = [self.client() for _ in range(50)]
        for round_ in range(4):
            for i, client in enumerate(clients):
                client.send(http1.request_bytes(target=f"/{round_}/{i}"))
            for client in clients:
                self.assertEqual(client.answer().body, b"ok")
        self.assertEqual(sorted(r.target for r in self.app.requests),
                         sorted(f"/{r}/{i}" for r in range(4) for i in range(50)))

    def test_the_peer_is_named_to_the_application(self):
        self.client().request(fields=(("x-forwarded-client-cert", "By=forged"),))
        self.assertNotIn("forged", str(self.app.requests[-1].fields))

    def test_names_and_bodies_pass_unchanged(self):
        self.play(lambda connection: connection.request() and connection.send(
            b"HTTP/1.1 201 Created\r\nX-Up: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
            b"Content-Length: 3\r\n\r\nnew"))
        got = self.client().request("POST", "/p?q=%41", fields=(("X-Down", "2"),), body=b"abc")
        self.assertEqual((got.status, got.body, got.get("X-Up"), got.get_all("Set-Cookie")),
                         (201, b"new", "1", ["a", "b"]))
        seen = self.app.requests[-1]
        self.assertEqual((seen.method, seen.target, seen.body, seen.get("X-Down"), seen.get("Host")),
                         ("POST", "/p?q=%41", b"abc", "2", "app"))

    def test_chunks_and_trailers(self):
        def script(connection):
            connection.request()
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                            b"3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n")

        self.play(script)
        answer = self.client().request(fields=(("TE", "trailers"), ("Connection", "TE")))
        self.assertEqual((answer.body, answer.get("X-Sum")), (b"abc", "7"))

    def test_head_and_empty_answers(self):
        client = self.client()
        for method, status, length in (("HEAD", "200 OK", "Content-Length: 55\r\n"),
                                       ("GET", "204 No Content", ""), ("GET", "304 Not Modified", "")):
            self.play(lambda connection, s=status, n=length: connection.request() and
                      connection.send(f"HTTP/1.1 {s}\r\n{n}\r\n".encode()))
            answer = client.request(method)
            self.assertEqual((answer.status, answer.body), (int(status[:3]), b""))

    def test_upload_and_download(self):
        size = 16 * MIB
        body = os.urandom(MIB) * 16

        def script(connection):
            request = connection.request()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + request.body)

        self.play(script)
        got = self.client(timeout_s=30).request("POST", body=body).body
        self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(body).digest())

    def test_a_stalled_request_does_not_stop_the_others(self):
        """Only stream windows are back-pressure: one that is not read holds up nobody else."""
        release = threading.Event()
        self.addCleanup(release.set)

        def script(connection):
            while connection.head().target != "/stall":
                connection.send(OK)
            release.wait(20)

        self.play(script)
        stalled = self.client()
        stalled.send(http1.request_bytes("POST", "/stall", fields=(("Content-Length", 64 * MIB),)))
        stalled.sock.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while True:
                stalled.send(b"x" * 65536)
        for _ in range(5):
            self.assertEqual(self.client().request().body, b"ok")

    def test_early_413_over_the_hop(self):
        def script(connection):
            connection.head()
            connection.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n"
                            b"Connection: close\r\n\r\n")
            net.read_to_end(connection.sock, 2)

        self.play(script)
        client = self.client()
        client.send(http1.request_bytes("POST", fields=(("Content-Length", 8 * MIB),)) + b"x" * 9999)
        self.assertEqual(client.head()[0], 413)

    def test_client_gone_reaches_the_application(self):
        asked = threading.Event()

        def script(connection):
            connection.request()
            asked.set()
            connection.request()

        self.play(script)
        client = self.client()
        client.send(http1.request_bytes())
        self.assertTrue(asked.wait(5))
        client.close()
        net.wait_for(lambda: self.app.ends, 3, "the cancellation at the application")
        self.play(answer_all)
        self.assertEqual(self.client().request().status, 200)

    def test_application_that_is_cut_short(self):
        def script(connection):
            connection.request()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")

        self.play(script)
        try:  # a status where the end was seen before the head was passed on
            self.assertIn(self.client().request().status, (502, 503))
        except (EOFError, ConnectionResetError):
            pass

    def test_websocket(self):
        def script(connection):
            request = connection.head()
            self.assertEqual(request.get("Upgrade"), "websocket")
            connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                            b"Upgrade: websocket\r\n\r\nhello")
            while True:
                connection.send(connection._take(1).upper())

        self.play(script)
        client = self.client()
        client.send(http1.request_bytes(fields=(
            ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "x"))))
        self.assertEqual(client.head()[0], 101)
        self.assertEqual(client._take(5), b"hello")
        client.send(b"abc")
        self.assertEqual(client._take(3), b"ABC")

    def test_interim_answers_pass(self):
        self.play(lambda connection: connection.request() and connection.send(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK))
        client = self.client()
        client.send(http1.request_bytes())
        self.assertEqual([client.head()[0], client.head()[0]], [103, 200])


def echo(sock, _):
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.sendall(b"bye")


class Tunnels(Mesh):
    """Opaque TCP: each connection is a CONNECT stream of the hop."""

    tunnel = True
    script = staticmethod(echo)  # from the start: waiting for the sidecar's port is a connection too

    @classmethod
    def application(cls):
        return net.Peer(lambda sock, index: cls.script(sock, index))

    def setUp(self):
        type(self).script = staticmethod(echo)

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.outbound.port), 20)
        self.addCleanup(sock.close)
        return sock

    def test_half_close_by_the_client(self):
        sock = self.connect()
        sock.sendall(b"hello")
        self.assertEqual(net.read_exactly(sock, 5), b"hello")
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(net.read_to_end(sock), (b"bye", "eof"))

    def test_an_end_before_the_tunnel_is_open(self):
        """A client that connects and leaves at once: no half of it stays."""
        ends = []

        def script(sock, _):
            ends.append(net.read_to_end(sock))

        type(self).script = staticmethod(script)
        for _ in range(20):
            self.connect().close()
        net.wait_for(lambda: len(ends) == 20, 5, "the ends of 20 tunnels")
        self.assertEqual(set(ends), {(b"", "eof")})

    def test_half_close_by_the_server(self):
        got = []

        def script(sock, _):
            sock.sendall(b"first")
            sock.shutdown(socket.SHUT_WR)
            got.append(net.read_to_end(sock))

        type(self).script = staticmethod(script)
        sock = self.connect()
        self.assertEqual(net.read_to_end(sock), (b"first", "eof"))
        sock.sendall(b"still here")
        sock.shutdown(socket.SHUT_WR)
        net.wait_for(lambda: got, 5)
        self.assertEqual(got, [(b"still here", "eof")])

    def test_a_reset_is_not_a_clean_end(self):
        ends = []

        def script(sock, _):
            sock.recv(10)
            ends.append(net.read_to_end(sock)[1])

        type(self).script = staticmethod(script)
        sock = self.connect()
        sock.sendall(b"x")
        time.sleep(0.1)
        net.reset(sock)
        net.wait_for(lambda: ends, 5)
        self.assertEqual(ends, ["reset"])

    def test_100_mib_both_ways(self):
        size = 100 * MIB
        block = os.urandom(MIB)
        sock = self.connect()

        def send():
            for _ in range(size // MIB):
                sock.sendall(block)
            sock.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        digest, left = hashlib.sha256(), size
        while left > 0:
            piece = sock.recv(min(left, 1 << 18))
            self.assertTrue(piece, f"{left} bytes are missing")
            digest.update(piece)
            left -= len(piece)
        thread.join()
        expected = hashlib.sha256()
        for _ in range(size // MIB):
            expected.update(block)
        self.assertEqual(digest.digest(), expected.digest())
        self.assertEqual(net.read_to_end(sock), (b"bye", "eof"))

    def test_1000_connections(self):
        held = []
        for i in range(1000):
            sock = socket.create_connection(("127.0.0.1", self.outbound.port), 20)
            sock.sendall(b"%4d" % i)
            self.assertEqual(net.read_exactly(sock, 4), b"%4d" % i)
            if i % 10 == 0:
                held.append(sock)
            else:
                sock.close()
        for sock in held:
            sock.sendall(b"again")
            self.assertEqual(net.read_exactly(sock, 5), b"again")
            sock.close()

    def test_an_application_that_is_not_there(self):
        gone = Sidecar(*hop(cluster("app", net.free_port()), self.filter("app", connect=True),
                            bootstrap.downstream_tls(self.folder, ALPN)), name="gone")
        with gone, self.start_outbound(gone.port) as outbound:
            with socket.create_connection(("127.0.0.1", outbound.port), 10) as sock:
                with contextlib.suppress(OSError):
                    sock.sendall(b"x")
                self.assertEqual(net.read_to_end(sock), (b"", "reset"))

    @needs.program("redis-server")
    @needs.program("redis-cli")
    def test_redis(self):
        port = net.free_port()
        redis = ["redis-server", "--port", port, "--save", "", "--appendonly", "no",
                 "--bind", "127.0.0.1"]
        with Program(redis, port=port, name="redis"):
            inbound = Sidecar(*hop(cluster("app", port), self.filter("app", connect=True),
                                   bootstrap.downstream_tls(self.folder, ALPN)), name="inbound")
            with inbound, self.start_outbound(inbound.port) as outbound:
                def cli(*words, text=None):
                    return subprocess.run(["redis-cli", "-p", str(outbound.port), *words], input=text,
                                          capture_output=True, text=True, timeout=20, check=True).stdout

                self.assertEqual(cli("PING").strip(), "PONG")
                cli("-x", "SET", "large", text="v" * 3 * MIB)
                self.assertEqual(len(cli("GET", "large").strip()), 3 * MIB)
                self.assertEqual(cli(text="".join("INCR n\n" for _ in range(500))).split()[-1], "500")


def write_identity(folder, name, uri, days=(-1, 1), issuer=None):
    """NAME.pem and NAME.key, signed by the folder's authority (or another folder's)."""
    with open(f"{issuer or folder}/ca.key", "rb") as file:
        ca_key = serialization.load_pem_private_key(file.read(), None)
    with open(f"{issuer or folder}/ca.pem", "rb") as file:
        ca = x509.load_pem_x509_certificate(file.read())
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.utcnow()
    made = (x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(ca.subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), True)
            .add_extension(x509.KeyUsage(True, *[False] * 8), True).sign(ca_key, hashes.SHA256()))
    with open(f"{folder}/{name}.pem", "wb") as file:
        file.write(made.public_bytes(serialization.Encoding.PEM))
    with open(f"{folder}/{name}.key", "wb") as file:
        file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                     serialization.NoEncryption()))


class Identities(Mesh):
    """Peers that are not who they should be: refused, and named on both sides."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stranger = cls.enterClassContext(temp_folder())
        certs.make(cls.stranger)
        write_identity(cls.folder, "expired", CLIENT, days=(-2, -1))
        write_identity(cls.folder, "expired-server", SERVER, days=(-2, -1))
        write_identity(cls.folder, "future", CLIENT, days=(1, 2))
        write_identity(cls.folder, "other", certs.spiffe_id("other"))
        write_identity(cls.folder, "alien", CLIENT, issuer=cls.stranger)
        write_identity(cls.folder, "alien-server", SERVER, issuer=cls.stranger)

    def with_own(self, made, name):
        made = copy.deepcopy(made)
        common(made)["tls_certificates"] = [{
            "certificate_chain": {"filename": f"{self.folder}/{name}.pem"},
            "private_key": {"filename": f"{self.folder}/{name}.key"}}] if name else []
        return made

    def refused(self, outbound, *words):
        """The one 503 of a request through it, whose Proxy-Status holds these words."""
        answer = http1.get(outbound.port)
        self.assertEqual(answer.status, 503)
        said = answer.get("Proxy-Status", "")
        for word in words:
            self.assertIn(word, said)
        return said

    def client_is_refused(self, name, *logged):
        """A client of that certificate: the server's sidecar refuses it, and says why in its log; the
        client's sidecar says which alert it got."""
        tls = self.with_own(bootstrap.upstream_tls(self.folder, ALPN), name)
        with self.start_inbound() as inbound, self.start_outbound(inbound.port, tls) as outbound:
            self.refused(outbound, "error=tls_protocol_error", "alert")
            for word in logged:
                inbound.wait_for_output(word, 3)
        self.assertEqual(self.app.requests, [])

    def server_is_refused(self, name, *words):
        tls = self.with_own(bootstrap.downstream_tls(self.folder, ALPN), name)
        with self.start_inbound(tls) as inbound, self.start_outbound(inbound.port) as outbound:
            said = self.refused(outbound, "error=tls_certificate_error", *words)
            self.assertTrue(said)
        self.assertEqual(self.app.requests, [])

    def test_client_of_another_identity(self):
        self.client_is_refused("other", certs.spiffe_id("other"))

    def test_client_with_an_expired_certificate(self):
        self.client_is_refused("expired", "expired")

    def test_client_with_a_certificate_of_the_future(self):
        self.client_is_refused("future", "is not valid before")

    def test_client_of_an_unknown_authority(self):
        self.client_is_refused("alien", "inbound TLS refused")

    def test_client_without_a_certificate(self):
        self.client_is_refused(None, "peer sent no certificate")

    def test_server_of_another_identity(self):
        self.server_is_refused("other", certs.spiffe_id("other"))

    def test_server_with_an_expired_certificate(self):
        self.server_is_refused("expired-server", "expired")

    def test_server_of_an_unknown_authority(self):
        self.server_is_refused("alien-server")

    def test_server_that_speaks_no_tls(self):
        def script(sock, _):
            sock.recv(10)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        with net.Peer(script) as plain, self.start_outbound(plain.port) as outbound:
            self.refused(outbound, "error=tls_protocol_error")

    def test_server_that_says_nothing(self):
        with net.Peer(lambda sock, _: net.read_to_end(sock, 5)) as silent, \
                self.start_outbound(silent.port) as outbound:
            self.refused(outbound, "error=connection_timeout")

    def test_the_good_still_pass(self):
        self.assertEqual(self.client().request().status, 200)


class BadTls(Mesh):
    """Raw bytes at the inbound end. None is answered by the application, none harms it."""

    def tearDown(self):
        self.assertEqual(self.app.requests, [])
        self.assertEqual(self.client().request().status, 200)
        super().tearDown()

    def raw(self, data, cuts=()):
        with socket.create_connection(("127.0.0.1", self.inbound.port), 5) as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                net.send_split(sock, data, cuts, 0.0002)
            with contextlib.suppress(OSError):  # closed at the first wrong byte
                sock.shutdown(socket.SHUT_WR)
            return net.read_to_end(sock)

    def context(self, alpn=("pillion-h2",), own="client"):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False
        made.load_verify_locations(f"{self.folder}/ca.pem")
        if own:
            made.load_cert_chain(f"{self.folder}/{own}.pem", f"{self.folder}/{own}.key")
        if alpn:
            made.set_alpn_protocols(list(alpn))
        return made

    def test_no_tls_at_all(self):
        for data in (b"GET / HTTP/1.1\r\nHost: app\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                     b"\0" * 1000, os.urandom(5000), b"\x16\x03\x01\xff\xff" + b"\1" * 100, b""):
            with self.subTest(data=data[:20]):
                self.assertIn(self.raw(data)[1], ("eof", "reset"))

    def hello(self):
        """The ClientHello that python's ssl would send."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = self.context().wrap_bio(incoming, outgoing, server_hostname=certs.SERVER_NAME)
        with contextlib.suppress(ssl.SSLWantReadError):
            session.do_handshake()
        return outgoing.read()

    def test_a_hello_that_ends_early(self):
        hello = self.hello()
        for size in (1, 5, 9, 43, len(hello) // 2, len(hello) - 1):
            with self.subTest(size=size):
                self.assertIn(self.raw(hello[:size])[1], ("eof", "reset"))

    def test_hellos_with_one_wrong_byte(self):
        hello = bytearray(self.hello())
        for place in range(0, len(hello), 7):
            bad = bytearray(hello)
            bad[place] ^= 0x55
            self.assertIn(self.raw(bytes(bad))[1], ("eof", "reset"), place)

    def test_tls_1_2(self):
        old = self.context()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with self.assertRaises((ssl.SSLError, OSError)):
            with socket.create_connection(("127.0.0.1", self.inbound.port), 5) as sock:
                with old.wrap_socket(sock, server_hostname="x") as secure:
                    secure.sendall(b"x")
                    self.assertEqual(secure.recv(1), b"never")

    def test_a_hello_byte_by_byte_is_a_good_one(self):
        with socket.create_connection(("127.0.0.1", self.inbound.port), 5) as sock:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            session = self.context().wrap_bio(incoming, outgoing, server_hostname="x")
            while True:
                try:
                    session.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    data = outgoing.read()
                    net.send_split(sock, data, range(1, len(data)), 0)
                    incoming.write(sock.recv(65536))
            self.assertEqual(session.selected_alpn_protocol(), "pillion-h2")


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
NO_ERROR, PROTOCOL, FLOW, STREAM_CLOSED, FRAME_SIZE, COMPRESSION, CALM = 0, 1, 3, 5, 6, 9, 11
# :method GET, :scheme http, :path /, and :authority "app" as a literal
GET = b"\x82\x86\x84\x41\x03app"


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack("!I", len(payload))[1:] + bytes((kind, flags)) + struct.pack("!I", stream) + payload


def headers(block=GET, flags=0x5, stream=1):
    return frame(1, flags, stream, block)


class BadHttp2(BadTls):
    """HTTP/2 at the inbound end, by a client with a good certificate (RFC 9113 and its abusers)."""

    test_no_tls_at_all = test_a_hello_that_ends_early = test_tls_1_2 = None
    test_hellos_with_one_wrong_byte = test_a_hello_byte_by_byte_is_a_good_one = None

    def secure(self):
        sock = socket.create_connection(("127.0.0.1", self.inbound.port), 5)
        self.addCleanup(sock.close)
        return self.context().wrap_socket(sock, server_hostname="x")

    @staticmethod
    def frames(data):
        while len(data) >= 9:
            size = int.from_bytes(data[:3], "big")
            yield data[3], int.from_bytes(data[5:9], "big"), data[9:9 + size]
            data = data[9 + size:]

    def codes(self, data):
        """Sends it after preface and SETTINGS; the error codes of all GOAWAY and RST_STREAM."""
        with self.secure() as sock:
            sock.settimeout(3)
            with contextlib.suppress(OSError):
                sock.sendall(data)
            got = b""
            with contextlib.suppress(OSError):
                while piece := sock.recv(65536):
                    got += piece
                    if self.error_codes(got):
                        sock.settimeout(0.1)
        return self.error_codes(got)

    def error_codes(self, data):
        return [int.from_bytes(payload[-4:] if kind == 3 else payload[4:8], "big")
                for kind, _, payload in self.frames(data) if kind in (3, 7)]

    CONNECTION_ERRORS = {
        "no preface": (b"GET / HTTP/1.1\r\nHost: app\r\n\r\n", PROTOCOL),
        "no SETTINGS": (PREFACE + frame(6, payload=b"x" * 8), PROTOCOL),
        "SETTINGS of five bytes": (PREFACE + frame(4, payload=b"x" * 5), FRAME_SIZE),
        "SETTINGS ACK with payload": (PREFACE + SETTINGS + frame(4, 1, 0, b"x" * 6), FRAME_SIZE),
        "SETTINGS on a stream": (PREFACE + frame(4, 0, 1), PROTOCOL),
        "window above the limit": (PREFACE + frame(4, payload=b"\0\4\xff\xff\xff\xff"), FLOW),
        "DATA on stream 0": (PREFACE + SETTINGS + frame(0, payload=b"x"), PROTOCOL),
        "DATA on an idle stream": (PREFACE + SETTINGS + frame(0, 0, 1, b"x"), PROTOCOL),
        "HEADERS on stream 0": (PREFACE + SETTINGS + headers(stream=0), PROTOCOL),
        "HEADERS on an even stream": (PREFACE + SETTINGS + headers(stream=2), PROTOCOL),
        "padding above the payload": (PREFACE + SETTINGS + frame(1, 0xD, 1, b"\xff" + GET), PROTOCOL),
        "a frame of 16385 bytes": (PREFACE + SETTINGS + frame(0, 0, 1, b"x" * 16385), FRAME_SIZE),
        "CONTINUATION alone": (PREFACE + SETTINGS + frame(9, 4, 1, GET), PROTOCOL),
        "another frame in a head": (PREFACE + SETTINGS + headers(flags=1) + frame(6, payload=b"x" * 8),
                                    PROTOCOL),
        "HPACK index 0": (PREFACE + SETTINGS + headers(b"\x80"), COMPRESSION),
        "HPACK index out of the table": (PREFACE + SETTINGS + headers(b"\xff\xff\xff\x7f"), COMPRESSION),
        "HPACK string that ends early": (PREFACE + SETTINGS + headers(b"\x40\x7fabc"), COMPRESSION),
        "PING of seven bytes": (PREFACE + SETTINGS + frame(6, payload=b"x" * 7), FRAME_SIZE),
        "PING on a stream": (PREFACE + SETTINGS + frame(6, 0, 1, b"x" * 8), PROTOCOL),
        "RST_STREAM on an idle stream": (PREFACE + SETTINGS + frame(3, 0, 1, b"\0" * 4), PROTOCOL),
        "WINDOW_UPDATE of 0": (PREFACE + SETTINGS + frame(8, payload=b"\0" * 4), PROTOCOL),
        "connection window overflow": (
            PREFACE + SETTINGS + frame(8, payload=b"\x7f\xff\xff\xff") * 2, FLOW),
        "PUSH_PROMISE from a client": (PREFACE + SETTINGS + frame(5, 4, 1, b"\0\0\0\2" + GET), PROTOCOL),
        "a stream id that went back": (PREFACE + SETTINGS + headers(stream=5) + headers(stream=3),
                                       None),
        "GOAWAY on a stream": (PREFACE + SETTINGS + frame(7, 0, 1, b"\0" * 8), PROTOCOL),
    }
    FLOODS = {
        "PING": frame(6, payload=b"x" * 8) * 20000,
        "SETTINGS": SETTINGS * 20000,
        "empty DATA": headers(flags=4) + frame(0, 0, 1) * 50000,
        "CONTINUATION": headers(flags=1) + frame(9, 0, 1, b"") * 20000,
        "a head without end": headers(b"", flags=1) + frame(9, 0, 1, b"\x40\1a\x7e" + b"x" * 126) * 3000,
        "rapid reset": b"".join(headers(stream=i) + frame(3, 0, i, b"\0\0\0\x08")
                                for i in range(1, 40001, 2)),
        "PRIORITY": frame(2, 0, 1, b"\0\0\0\0\1") * 50000,
        "unknown frames": frame(0x42, 0, 0, b"") * 50000,
    }
    # A request that is malformed ends its stream, not the connection (RFC 9113 8.1.1).
    STREAM_ERRORS = {
        "upper-case name": GET + b"\x40\1A\1b",
        "no :path": b"\x82\x86\x41\x03app",
        "two :path": GET + b"\x84",
        "a pseudo-field behind a field": b"\x82\x86\x84\x40\1a\1b\x41\x03app",
        "unknown pseudo-field": GET + b"\x40\2:x\1b",
        "connection": GET + b"\x40\x0aconnection\5close",
        "te: gzip": GET + b"\x40\2te\4gzip",
        "a NUL in a value": GET + b"\x40\1a\3b\0c",
        "a line feed in a value": GET + b"\x40\1a\3b\nc",
        "a space in a name": GET + b"\x40\3a b\1c",
    }

    def test_connection_errors(self):
        for name, (data, code) in self.CONNECTION_ERRORS.items():
            with self.subTest(name):
                got = self.codes(data)
                self.assertTrue(got, "neither GOAWAY nor RST_STREAM")
                if code is not None:
                    self.assertEqual(got[-1], code)
                self.app.requests.clear()

    def test_floods(self):
        for name, data in self.FLOODS.items():
            with self.subTest(name):
                codes = self.codes(PREFACE + SETTINGS + data)
                if name not in ("unknown frames", "PRIORITY"):
                    self.assertIn(codes[-1] if codes else None, (CALM, PROTOCOL, COMPRESSION))
                self.assertEqual(self.client().request().status, 200)
        net.wait_for(lambda: self.app.requests, 1)
        self.app.requests.clear()

    def test_malformed_requests(self):
        for name, block in self.STREAM_ERRORS.items():
            with self.subTest(name), self.secure() as sock:
                sock.settimeout(3)
                sock.sendall(PREFACE + SETTINGS + headers(block) + headers(stream=3))
                got = b""
                # The good request behind it is answered all the same.
                while not any(kind == 1 and stream == 3 for kind, stream, _ in self.frames(got)):
                    piece = sock.recv(65536)
                    self.assertTrue(piece, "the connection ended")
                    got += piece
                mine = [kind for kind, stream, _ in self.frames(got) if stream == 1]
                self.assertTrue(mine and mine[-1] in (0, 1, 3), mine)
                self.assertEqual([r.target for r in self.app.requests], ["/"])
                self.app.requests.clear()

    def test_another_implementation(self):
        """python3-h2 as the client: a request with a body and trailers, many at once."""
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        connection = h2.connection.H2Connection(config)
        with self.secure() as sock:
            connection.initiate_connection()
            for i in range(50):
                stream = connection.get_next_available_stream_id()
                connection.send_headers(stream, [(":method", "POST"), (":scheme", "http"),
                                                 (":authority", "app"), (":path", f"/{i}")])
                connection.send_data(stream, b"body", end_stream=True)
            sock.sendall(connection.data_to_send())
            ended = set()
            while len(ended) < 50:
                for event in connection.receive_data(sock.recv(65536)):
                    self.assertNotIsInstance(event, (h2.events.StreamReset,
                                                     h2.events.ConnectionTerminated))
                    if isinstance(event, h2.events.ResponseReceived):
                        self.assertEqual(dict(event.headers)[":status"], "200")
                    if isinstance(event, h2.events.StreamEnded):
                        ended.add(event.stream_id)
                sock.sendall(connection.data_to_send())
        self.assertEqual({r.body for r in self.app.requests}, {b"body"})
        self.app.requests.clear()
