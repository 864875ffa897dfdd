"""HTTP/2 over a socket with prior knowledge, both ends, by python3-h2: one thread a connection.

A Link is either end: it reads until a test's condition holds and keeps what came on its streams."""

import contextlib
import dataclasses
import socket

import h2.config
import h2.connection
import h2.events
import h2.settings

from support import net

EXTENDED_CONNECT = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL


@dataclasses.dataclass
class Stream:
    """What came on one stream."""
    number: int
    fields: list = dataclasses.field(default_factory=list)  # of the head: [(name, value)]
    interims: list = dataclasses.field(default_factory=list)
    data: bytes = b""
    trailers: list = dataclasses.field(default_factory=list)
    ended: bool = False
    reset: int = None  # the error code; None: it was not

    def get(self, name, default=None):
        return next((v for n, v in self.fields if n == name), default)

    @property
    def status(self):
        return int(self.get(":status", 0))

    @property
    def over(self):
        return self.ended or self.reset is not None


class Link:
    """One connection. Windows are given back as bytes come, unless hold_windows says otherwise."""

    def __init__(self, sock, client, settings=None, timeout_s=20.0):
        self.sock = sock
        self.sock.settimeout(timeout_s)
        # Nothing of what a test sends is put right on its way.
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=client, header_encoding="latin-1", validate_outbound_headers=False,
            normalize_outbound_headers=False))
        self.h2.local_settings = h2.settings.Settings(client, {
            **dict(self.h2.local_settings), **(settings or {})})
        self.streams = {}
        self.hold_windows = False
        self.goaway = None  # (last stream, code)
        self.gone = False
        self.pongs = 0
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def _take(self, event):
        number = getattr(event, "stream_id", None)
        stream = self.streams.setdefault(number, Stream(number)) if number else None
        if isinstance(event, (h2.events.RequestReceived, h2.events.ResponseReceived)):
            stream.fields = event.headers
        elif isinstance(event, h2.events.InformationalResponseReceived):
            stream.interims.append(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.data += event.data
            if not self.hold_windows and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = event.headers
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = (event.last_stream_id, int(event.error_code))
        elif isinstance(event, h2.events.PingAckReceived):
            self.pongs += 1

    def read_once(self):
        """Takes what there is; EOFError at the connection's end."""
        piece = self.sock.recv(65536)
        if not piece:
            self.gone = True
            raise EOFError("the peer closed")
        for event in self.h2.receive_data(piece):
            self._take(event)
        self.flush()

    def until(self, condition):
        while not condition():
            self.read_once()

    def head(self, fields, end=False):
        """Opens a stream with these fields, pseudo fields first; its number."""
        number = self.h2.get_next_available_stream_id()
        self.streams[number] = Stream(number)
        self.h2.send_headers(number, fields, end_stream=end)
        self.flush()
        return number

    def answer(self, number, status=200, fields=(), end=False):
        self.h2.send_headers(number, [(":status", str(status)), *fields], end_stream=end)
        self.flush()

    def send(self, number, data=b"", end=False):
        """As windows allow; reads while it waits for one."""
        while True:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            last = len(data) <= room
            piece, data = data[:room], data[room:]
            if piece or last:
                self.h2.send_data(number, piece, end_stream=end and last)
            self.flush()
            if last:
                return
            self.until(lambda: self.h2.local_flow_control_window(number) > 0)

    def trailers(self, number, fields):
        self.h2.send_headers(number, fields, end_stream=True)
        self.flush()

    def request(self, method="GET", path="/", fields=(), body=None, authority="app", trailers=()):
        """A whole request; its Stream once the answer is over."""
        number = self.head([(":method", method), (":scheme", "http"), (":path", path),
                            (":authority", authority), *fields], end=body is None and not trailers)
        if body is not None:
            self.send(number, body, end=not trailers)
        if trailers:
            self.trailers(number, list(trailers))
        self.until(lambda: self.streams[number].over)
        return self.streams[number]

    def reset(self, number, code=8):
        self.h2.reset_stream(number, code)
        self.flush()

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Client(Link):
    def __init__(self, port, timeout_s=20.0, settings=None):
        super().__init__(socket.create_connection((net.LOOPBACK, port), timeout_s), True, settings,
                         timeout_s)


def answer_all(link, request):
    """The usual handler: 200, and back what came."""
    link.answer(request.number)
    link.send(request.number, request.data, end=True)


class Origin(net.Peer):
    """Calls handler(link, stream) for each request that is complete, or, `at_head`, whose head came.

    `requests` holds the streams of every connection in the order in which they were handled."""

    def __init__(self, handler=answer_all, at_head=False, settings=None, port=None):
        self.handler = handler
        self.at_head = at_head
        self.settings = settings
        self.requests = []
        super().__init__(self._serve_one, port=port)

    def _serve_one(self, sock, _):
        self._serve_link(Link(sock, False, self.settings))

    @classmethod
    def serve(cls, sock, handler=answer_all):
        """One connection that came otherwise, over TLS perhaps."""
        made = cls.__new__(cls)
        made.handler, made.at_head, made.requests = handler, False, []
        made._serve_link(Link(sock, False))

    def _serve_link(self, link):
        handled = set()
        with contextlib.suppress(EOFError, ConnectionError, TimeoutError):
            while True:
                link.read_once()
                for stream in list(link.streams.values()):
                    ready = stream.fields and (self.at_head or stream.ended)
                    if ready and stream.number not in handled:
                        handled.add(stream.number)
                        self.requests.append(stream)
                        self.handler(link, stream)
