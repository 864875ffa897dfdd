"""Everything that is thrown at HTTP/2, at the real sidecar: each gets what RFC 9113 says, within
budgets, and another connection goes on beside it."""

import contextlib
import itertools
import signal
import struct
import threading
import unittest

import hpack

from support import http1, http2, net, origin
from support.h2_raw import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM,
                            FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GET, GOAWAY, HAS_PRIORITY, HEADERS,
                            NO_ERROR, PING, POST, PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM,
                            SETTINGS, SETTINGS_TIMEOUT, STREAM_CLOSED, WINDOW_UPDATE, Raw, frame,
                            setting, word)
from support.static import Sidecar, cluster, hop, settings

MANY = 30000  # more than any budget
MEMORY_KB = 24 * 1024  # that an attack may add; a sanitizer keeps what was freed for a while
ODD = range(1, 2 * MANY, 2)


class Case(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def origin(self, script=origin.answer_all):
        return self.stack.enter_context(contextlib.closing(origin.Origin(script)))

    def h2_origin(self, *arguments, **how):
        return self.stack.enter_context(contextlib.closing(http2.Origin(*arguments, **how)))

    def sidecar(self, app, *options, **manager):
        """In front of an origin; fields of the HTTP connection manager."""
        to = cluster("app", app.port, http2=isinstance(app, http2.Origin),
                     connect_timeout="30s")
        config, port = hop(to)
        chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
        settings(chain["filters"][0]).update(manager)
        return self.stack.enter_context(Sidecar(config, port, *options))

    def raw(self, sidecar, **how):
        return self.stack.enter_context(Raw(sidecar.port, **how))

    def metric(self, sidecar, name):
        text = http1.get(sidecar.metrics_port, "/metrics").body.decode()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines()
                   if line.startswith(name) and line[len(name)] in " {")


class Floods(Case):
    """Frames without use until the peer is told to be calm."""

    @staticmethod
    def _ping(_):
        return (frame(PING, 0, 0, bytes(8)) * 50 for _ in range(MANY // 50))

    @staticmethod
    def _settings(_):
        return (setting(4, 65535) * 50 for _ in range(MANY // 50))

    @staticmethod
    def _priority(_):
        return (frame(PRIORITY, 0, 3, struct.pack("!IB", 1, 9)) * 50 for _ in range(MANY // 50))

    @staticmethod
    def _window(raw):
        yield raw.head(1, POST, end=False)
        yield from (word(WINDOW_UPDATE, 1, 1) * 50 for _ in range(MANY // 50))

    @staticmethod
    def _window_of_connection(_):
        return (word(WINDOW_UPDATE, 0, 1) * 50 for _ in range(MANY // 50))

    @staticmethod
    def _empty_data(raw):
        yield raw.head(1, POST, end=False)
        yield from (frame(DATA, 0, 1) * 50 for _ in range(MANY // 50))

    @staticmethod
    def _unknown(_):
        return (frame(0x42, 0, 0, b"what") * 50 for _ in range(MANY // 50))

    @staticmethod
    def _rapid_reset(raw):  # CVE-2023-44487
        return (raw.head(n) + word(RST_STREAM, n, 8) for n in ODD)

    @staticmethod
    def _made_you_reset_by_window(raw):  # CVE-2025-8671
        return (raw.head(n) + word(WINDOW_UPDATE, n, 0) for n in ODD)

    @staticmethod
    def _made_you_reset_by_overflow(raw):
        return (raw.head(n) + word(WINDOW_UPDATE, n, 0x7fffffff) for n in ODD)

    @staticmethod
    def _made_you_reset_by_priority(raw):
        return (raw.head(n) + frame(PRIORITY, 0, n, struct.pack("!IB", n, 9)) for n in ODD)

    @staticmethod
    def _made_you_reset_by_late_data(raw):
        return (raw.head(n) + frame(DATA, 0, n, b"late") for n in ODD)

    @staticmethod
    def _made_you_reset_by_length(raw):
        fields = (*POST, ("content-length", "1"))
        return (raw.head(n, fields, end=False) + frame(DATA, 0, n, b"too long") for n in ODD)

    @staticmethod
    def _malformed(raw):
        return (raw.head(n, (*GET, ("Upper", "case"))) for n in ODD)

    @staticmethod
    def _continuation(raw):
        yield raw.head(1, flags=0)
        yield from (frame(CONTINUATION, 0, 1, b"") for _ in range(MANY))

    def _judge(self, flood, sidecar, bystander):
        before = sidecar.memory_kb()
        self.assertEqual(bystander.request().status, 200)
        with Raw(sidecar.port) as raw:
            raw.flood(flood(raw))
            self.assertEqual(raw.goaway(), ENHANCE_YOUR_CALM)
        self.assertEqual(bystander.request().status, 200)
        self.assertLess(sidecar.memory_kb() - before, MEMORY_KB)

    def test_each_ends_within_its_budget(self):
        sidecar = self.sidecar(self.origin())
        bystander = self.stack.enter_context(http2.Client(sidecar.port))
        names = [name for name in vars(Floods) if name.startswith("_") and name != "_judge"
                 and isinstance(vars(Floods)[name], staticmethod)]
        self.assertGreater(len(names), 14)
        for name in names:
            with self.subTest(flood=name.strip("_")):
                self._judge(getattr(Floods, name), sidecar, bystander)
        self.assertGreaterEqual(self.metric(sidecar, "pillion_codec_refusals_total"), len(names))

    def test_budgets_are_options(self):
        sidecar = self.sidecar(self.origin(), "--h2-control", "10", "--h2-resets", "5", "--h2-errors",
                               "5")
        for flood in (self._ping, self._rapid_reset, self._made_you_reset_by_window):
            raw = self.raw(sidecar)
            raw.flood(itertools.islice(flood(raw), 200))
            self.assertEqual(raw.goaway(), ENHANCE_YOUR_CALM)

    def test_a_client_that_uses_what_it_asks_for_is_left_alone(self):
        """More requests, resets and PINGs than any budget holds, each with an answer between."""
        sidecar = self.sidecar(self.origin(), "--h2-control", "50", "--h2-resets", "20")
        with http2.Client(sidecar.port) as client:
            for i in range(300):
                client.h2.ping(bytes(8))
                self.assertEqual(client.request("GET", f"/{i}").status, 200)


class Heads(Case):
    def setUp(self):
        super().setUp()
        self.app = self.origin()
        self.port = self.sidecar(self.app)

    def test_bombs_and_crumbs_are_refused_and_the_connection_goes_on(self):
        raw = self.raw(self.port)
        # An entry of 3 KB, then named a thousand times with one byte each.
        bomb = bytes([0x40, 1, ord("a"), 0x7f]) + hpack.hpack.encode_integer(3000, 7)[1:] + b"b" * 3000
        block = raw.encoder.encode(GET, huffman=False) + bomb + bytes([0x80 | 62]) * 1000
        raw.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
        self.assertEqual(raw.status(1), 431)
        crumbs = raw.encoder.encode((*GET, *[("cookie", "a=b")] * 5000), huffman=False)
        pieces = [crumbs[i:i + 16000] for i in range(0, len(crumbs), 16000)]
        raw = self.raw(self.port)
        raw.encoder = hpack.Encoder()
        crumbs = raw.encoder.encode((*GET, *[("cookie", "a=b")] * 5000), huffman=False)
        pieces = [crumbs[i:i + 16000] for i in range(0, len(crumbs), 16000)]
        raw.send(frame(HEADERS, END_STREAM | (END_HEADERS if len(pieces) == 1 else 0), 1, pieces[0]))
        for i, piece in enumerate(pieces[1:], 2):
            raw.send(frame(CONTINUATION, END_HEADERS if i == len(pieces) else 0, 1, piece))
        self.assertEqual(raw.status(1), 431)
        raw.send(raw.head(3))
        self.assertEqual(raw.status(3), 200)
        self.assertEqual(len(self.app.requests), 1)

    def test_malformed_fields_reset_their_stream_and_no_more(self):
        wrong = {
            "upper case": [("Accept", "a")], "connection": [("connection", "close")],
            "keep-alive": [("keep-alive", "5")], "proxy-connection": [("proxy-connection", "x")],
            "transfer-encoding": [("transfer-encoding", "chunked")], "upgrade": [("upgrade", "h2c")],
            "te": [("te", "gzip")], "blank before": [("a", " b")], "blank behind": [("a", "b\t")],
            "line break": [("a", "b\r\nc: d")], "zero": [("a", "\0")], "blank in the name": [("a b", "c")],
            "pseudo behind": [("a", "b"), (":path", "/x")], "unknown pseudo": [(":what", "x")],
            "length": [("content-length", "x")], "two lengths": [("content-length", "0")] * 2
                      + [("content-length", "1")],
            "two hosts": [("host", "app"), ("host", "app")], "another host": [("host", "other")],
        }
        for name, fields in wrong.items():
            with self.subTest(wrong=name):
                raw = self.raw(self.port)
                raw.send(raw.head(1, (*GET, *fields)))
                self.assertEqual(raw.reset(1), PROTOCOL_ERROR)
                raw.send(raw.head(3))
                self.assertEqual(raw.status(3), 200)
        bodies = {"short": (b"abc", "5"), "long": (b"abcdefgh", "5")}
        for name, (body, length) in bodies.items():
            with self.subTest(body=name):
                raw = self.raw(self.port)
                raw.send(raw.head(1, (*POST, ("content-length", length)), end=False)
                         + frame(DATA, END_STREAM, 1, body))
                self.assertEqual(raw.reset(1), PROTOCOL_ERROR)

    def test_a_block_that_never_ends_and_settings_that_never_come(self):
        sidecar = self.sidecar(self.app, "--head-timeout", "300ms")
        raw = self.raw(sidecar)
        raw.send(raw.head(1, flags=0))
        raw.to_end()
        raw = self.raw(sidecar, settle=False)
        raw.to_end()
        self.assertEqual(raw.goaway(), SETTINGS_TIMEOUT)
        with http2.Client(sidecar.port) as client:
            self.assertEqual(client.request().status, 200)


def answered(raw):
    """Nothing to send: stream 1 is over on both ends."""
    raw.send(raw.head(1))
    raw.until(lambda kind, flags, stream, _: stream == 1 and flags & END_STREAM)
    return b""


class Rules(Case):
    """Frames at the wrong place: (what, what is sent, GOAWAY code)."""
    BROKEN = (
        ("a stream number reused", lambda r: answered(r) + r.head(1), STREAM_CLOSED),
        ("a lower stream number", lambda r: r.head(5) + r.head(3), PROTOCOL_ERROR),
        ("an even stream number", lambda r: r.head(2), PROTOCOL_ERROR),
        ("DATA on an idle stream", lambda r: frame(DATA, 0, 5, b"x"), PROTOCOL_ERROR),
        ("RST_STREAM on an idle stream", lambda r: word(RST_STREAM, 5, 0), PROTOCOL_ERROR),
        ("WINDOW_UPDATE on an idle stream", lambda r: word(WINDOW_UPDATE, 5, 1), PROTOCOL_ERROR),
        ("DATA on the connection", lambda r: frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
        ("CONTINUATION without HEADERS", lambda r: frame(CONTINUATION, 4, 1, b""), PROTOCOL_ERROR),
        ("a frame inside a block", lambda r: r.head(1, flags=0) + frame(PING, 0, 0, bytes(8)),
         PROTOCOL_ERROR),
        ("a window of the connection by nothing", lambda r: word(WINDOW_UPDATE, 0, 0), PROTOCOL_ERROR),
        ("a window of the connection that overflows", lambda r: word(WINDOW_UPDATE, 0, 0x7fffffff),
         FLOW_CONTROL_ERROR),
        ("an initial window that is none", lambda r: setting(4, 0x80000000), FLOW_CONTROL_ERROR),
        ("SETTINGS that overflow a stream's window",
         lambda r: r.head(1, POST, end=False) + word(WINDOW_UPDATE, 1, 0x7fff0000)
         + setting(4, 0x7fffffff), FLOW_CONTROL_ERROR),
        ("SETTINGS of half a setting", lambda r: frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
        ("SETTINGS on a stream", lambda r: frame(SETTINGS, 0, 1, b""), PROTOCOL_ERROR),
        ("an acknowledgement with a payload", lambda r: frame(SETTINGS, ACK, 0, bytes(6)),
         FRAME_SIZE_ERROR),
        ("PING of seven bytes", lambda r: frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
        ("a frame above the limit", lambda r: frame(DATA, 0, 1, bytes(16385)), FRAME_SIZE_ERROR),
        ("padding above the frame", lambda r: r.head(1, POST, end=False)
         + frame(DATA, 8, 1, b"\x09x"), PROTOCOL_ERROR),
        ("PUSH_PROMISE from a client", lambda r: frame(5, 4, 1, struct.pack("!I", 2)), PROTOCOL_ERROR),
        ("a block that does not decode", lambda r: frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"), 9),
    )

    def test_a_connection_ends_by_the_rule_it_breaks(self):
        sidecar = self.sidecar(self.origin())
        bystander = self.stack.enter_context(http2.Client(sidecar.port))
        for name, attack, code in self.BROKEN:
            with self.subTest(attack=name):
                raw = self.raw(sidecar)
                raw.send(attack(raw))
                raw.to_end()
                self.assertEqual(raw.goaway(), code)
                self.assertEqual(bystander.request().status, 200)

    def test_a_stream_is_reset_by_the_rule_it_breaks(self):
        hold = threading.Event()
        self.addCleanup(hold.set)
        sidecar = self.sidecar(self.origin(lambda c: (c.request(), hold.wait(60))))
        cases = (
            ("a window by nothing", lambda r: r.head(1) + word(WINDOW_UPDATE, 1, 0), PROTOCOL_ERROR),
            ("a window that overflows", lambda r: r.head(1) + word(WINDOW_UPDATE, 1, 0x7fffffff),
             FLOW_CONTROL_ERROR),
            ("DATA behind the end", lambda r: r.head(1) + frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
            ("HEADERS behind the end", lambda r: r.head(1) + r.head(1), STREAM_CLOSED),
            ("a stream that depends on itself", lambda r: frame(
                HEADERS, END_HEADERS | END_STREAM | HAS_PRIORITY, 1,
                struct.pack("!IB", 1, 9) + r.encoder.encode(GET)), PROTOCOL_ERROR),
        )
        for name, attack, code in cases:
            with self.subTest(attack=name):
                raw = self.raw(sidecar)
                raw.send(attack(raw))
                got = raw.reset(1)
                # A connection error is allowed wherever a stream error is (RFC 9113 5.4.2).
                self.assertIn(code, (got, raw.goaway()))

    def test_more_than_the_window_is_an_error(self):
        """The application does not read, so nothing of the window comes back."""
        hold = threading.Event()
        self.addCleanup(hold.set)
        sidecar = self.sidecar(self.h2_origin(lambda link, stream: hold.wait(60), at_head=True))
        raw = self.raw(sidecar)
        raw.send(raw.head(1, POST, end=False))
        piece = frame(DATA, 0, 1, bytes(16384))
        raw.send(piece * 200)
        self.assertIn(FLOW_CONTROL_ERROR, (raw.reset(1), raw.goaway()))

    def test_a_window_by_the_byte_ends_as_a_flood(self):
        def large(connection):
            while True:
                connection.request()
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100000))

        sidecar = self.sidecar(self.origin(large))
        raw = self.raw(sidecar)
        raw.send(setting(4, 0) + raw.head(1))
        raw.flood(word(WINDOW_UPDATE, 1, 1) for _ in range(MANY))
        self.assertEqual(raw.goaway(), ENHANCE_YOUR_CALM)
        taken = sum(len(f[3]) for f in raw.frames if f[0] == DATA)
        self.assertLess(taken, 10000)


class Streams(Case):
    def test_a_thousand_half_open_streams(self):
        app = self.origin()
        sidecar = self.sidecar(app, "--h2-max-streams", "900")
        before = sidecar.memory_kb()
        raw = self.raw(sidecar)
        raw.send(b"".join(raw.head(n, POST, end=False) for n in range(1, 2000, 2)))
        refused = set()
        while len(refused) < 100:
            kind, _, stream, payload = raw.read()
            self.assertNotEqual(kind, GOAWAY)
            if kind == RST_STREAM:
                self.assertEqual(struct.unpack("!I", payload)[0], REFUSED_STREAM)
                refused.add(stream)
        self.assertEqual(min(refused), 1801)
        with http2.Client(sidecar.port) as client:
            self.assertEqual(client.request().status, 200)
        self.assertLess(sidecar.memory_kb() - before, 2 * MEMORY_KB)
        # One of the first: the application may not have accepted the last of so many connections.
        raw.send(frame(DATA, END_STREAM, 1, b"x"))
        self.assertEqual(raw.status(1), 200)

    def test_four_stalled_streams_and_one_at_full_speed(self):
        size = 4 * 1024 * 1024

        def large(link, stream):
            link.answer(stream.number)
            if stream.get(":path") != "/stalled":
                link.send(stream.number, bytes(size), end=True)
            else:
                link.h2.send_data(stream.number, bytes(16384))
                link.flush()
                pending.append((link, stream.number))

        pending = []
        app = self.h2_origin(large)
        sidecar = self.sidecar(app)
        with http2.Client(sidecar.port) as client:
            client.h2.increment_flow_control_window(2 ** 30)
            client.hold_windows = True
            stalled = [client.head([*POST[:2], (":path", "/stalled"), POST[3]], end=True)
                       for _ in range(4)]
            client.until(lambda: all(len(client.streams[n].data) > 0 for n in stalled))
            number = client.head(list(GET), end=True)
            healthy = client.streams[number]
            while not healthy.ended:
                had = len(healthy.data)
                client.read_once()
                if len(healthy.data) > had and not healthy.ended:
                    client.h2.increment_flow_control_window(len(healthy.data) - had, number)
                    client.flush()
            self.assertEqual(len(healthy.data), size)

    def test_streams_above_the_server_s_limit_wait(self):
        lock = threading.Lock()
        most = [0]

        def count(link, stream):
            with lock:
                most[0] = max(most[0], link.h2.open_inbound_streams)
            link.answer(stream.number, end=True)

        limit = {3: 2}  # SETTINGS_MAX_CONCURRENT_STREAMS
        app = self.h2_origin(count, settings=limit)
        sidecar = self.sidecar(app)
        with http2.Client(sidecar.port) as client:
            self.assertEqual(client.request().status, 200)  # its limit is known from now on
            numbers = [client.head(list(GET), end=True) for _ in range(60)]
            client.until(lambda: all(client.streams[n].over for n in numbers))
            self.assertEqual([client.streams[n].status for n in numbers], [200] * 60)
        self.assertEqual(len(app.requests), 61)
        self.assertLessEqual(most[0], 2)

    def test_what_a_server_that_leaves_did_not_process_goes_elsewhere(self):
        first = threading.Event()

        def leave(link, stream):
            if not first.is_set():
                first.set()
                link.h2.close_connection(last_stream_id=0)
                link.flush()
                net.read_to_end(link.sock)  # closed on unread bytes, it would be a reset
                raise EOFError
            http2.answer_all(link, stream)

        sidecar = self.sidecar(self.h2_origin(leave))
        with http2.Client(sidecar.port) as client:
            answer = client.request("POST", body=b"paid once")
        self.assertEqual((answer.status, answer.data), (200, b"paid once"))


class Life(Case):
    def test_a_silent_client_with_a_request_open_is_asked_and_given_up(self):
        cancelled = threading.Event()

        def stall(connection):
            connection.request()
            if connection.at_end(60):
                cancelled.set()

        sidecar = self.sidecar(self.origin(stall), "--ping", "100ms")
        raw = self.raw(sidecar)
        raw.send(raw.head(1))
        self.assertTrue(cancelled.wait(30))
        raw.to_end()
        asked = [f for f in raw.frames if f[0] == PING and not f[1] & ACK]
        self.assertEqual(len(asked), 3)
        self.assertEqual(self.metric(sidecar, "pillion_silent_peers_total"), 1)

    def test_one_that_answers_is_left_alone(self):
        def slow(connection):
            connection.request()
            go.wait(60)
            connection.send(origin.OK)

        go = threading.Event()
        sidecar = self.sidecar(self.origin(slow), "--ping", "50ms")
        with http2.Client(sidecar.port) as client:
            number = client.head(list(GET), end=True)
            pings = 0
            while pings < 6:  # python-h2 answers them
                before = client.h2.inbound_flow_control_window
                client.read_once()
                pings += 1
                self.assertEqual(before, client.h2.inbound_flow_control_window)
            go.set()
            client.until(lambda: client.streams[number].over)
            self.assertEqual(client.streams[number].status, 200)

    def _leaves(self, raw, open_stream, finish):
        """Two GOAWAYs: the first names no stream, the second the last one that came."""
        first = raw.until(lambda kind, *_: kind == GOAWAY)
        self.assertEqual(struct.unpack("!II", first[3][:8]), (0x7fffffff, NO_ERROR))
        late = open_stream + 2
        raw.send(raw.head(late, POST, end=False))  # it crossed the GOAWAY
        ping = raw.until(lambda kind, flags, *_: kind == PING and not flags & ACK)
        raw.send(frame(PING, ACK, 0, ping[3]))
        second = raw.until(lambda kind, *_: kind == GOAWAY)
        self.assertEqual(struct.unpack("!II", second[3][:8]), (late, NO_ERROR))
        raw.send(raw.head(late + 2))  # nobody's
        finish()
        raw.send(frame(DATA, END_STREAM, late, b"x"))
        raw.to_end()
        ended = {f[2] for f in raw.frames if f[0] in (HEADERS, DATA) and f[1] & END_STREAM}
        self.assertEqual(ended, {open_stream, late})

    def _gate(self):
        gate = threading.Event()

        def script(connection):
            while True:
                if connection.request().target != "/free":
                    gate.wait(60)
                connection.send(origin.OK)

        return gate, self.origin(script)

    def test_a_drain_leaves_in_two_steps(self):
        gate, app = self._gate()
        sidecar = self.sidecar(app)
        raw = self.raw(sidecar)
        raw.send(raw.head(1))
        net.wait_for(lambda: app.requests, 20, "the request")
        sidecar.send_signal(signal.SIGTERM)
        self._leaves(raw, 1, gate.set)
        self.assertEqual(sidecar.wait(), 0)

    def test_a_connection_of_age_leaves_so_too(self):
        gate, app = self._gate()
        sidecar = self.sidecar(app, common_http_protocol_options={"max_connection_duration": "0.5s"})
        raw = self.raw(sidecar)
        raw.send(raw.head(1))
        self._leaves(raw, 1, gate.set)
        with http2.Client(sidecar.port) as client:
            self.assertEqual(client.request().status, 200)

    def test_a_new_connection_in_a_drain_is_served_once(self):
        gate, app = self._gate()
        sidecar = self.sidecar(app)
        holder = self.raw(sidecar)
        holder.send(holder.head(1))
        net.wait_for(lambda: app.requests, 20, "the request")
        sidecar.send_signal(signal.SIGTERM)
        holder.until(lambda kind, *_: kind == GOAWAY)
        raw = self.raw(sidecar)
        raw.send(raw.head(1, (*GET[:2], (":path", "/free"), GET[3])))
        self.assertEqual(raw.status(1), 200)
        raw.to_end()
        self.assertEqual(raw.goaway(), NO_ERROR)
        gate.set()
        self.assertEqual(sidecar.wait(), 0)


if __name__ == "__main__":
    unittest.main()
