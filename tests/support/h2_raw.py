"""HTTP/2 frames as they are told, right or wrong, and what came back."""

import contextlib
import select
import socket
import struct

import hpack

from support.net import LOOPBACK, read_exactly

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 32
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED,
 FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR,
 ENHANCE_YOUR_CALM) = range(12)
GET = ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "app"))
POST = ((":method", "POST"), *GET[1:])


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def word(kind, stream, value):
    return frame(kind, 0, stream, struct.pack("!I", value))


def setting(number, value):
    return frame(SETTINGS, 0, 0, struct.pack("!HI", number, value))


class Raw:
    """A client: preface and SETTINGS are sent, the server's are answered; then the test has it.

    `settle` false: only the preface is sent."""

    def __init__(self, port, settle=True, timeout_s=20.0):
        self.sock = socket.create_connection((LOOPBACK, port), timeout_s)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.frames = []  # (kind, flags, stream, payload) of what came
        self.sock.sendall(PREFACE + (frame(SETTINGS) if settle else b""))
        while settle and not any(f[0] == SETTINGS and not f[1] & ACK for f in self.frames):
            self.read()
        if settle:
            self.send(frame(SETTINGS, ACK))

    def head(self, stream, fields=GET, end=True, flags=END_HEADERS):
        return frame(HEADERS, flags | (END_STREAM if end else 0), stream,
                     self.encoder.encode(fields, huffman=False))

    def send(self, data):
        self.sock.sendall(data)

    def read(self):
        """The next frame; EOFError or ConnectionError at the end."""
        head = read_exactly(self.sock, 9)
        size = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack("!BBI", head[3:])
        self.frames.append((kind, flags, stream, read_exactly(self.sock, size)))
        return self.frames[-1]

    def to_end(self):
        """Reads until the connection ends."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                self.read()

    def flood(self, pieces):
        """Sends until there are no more, or the server has had enough; then reads to the end."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.send(piece)
                while select.select([self.sock], [], [], 0)[0]:
                    try:
                        self.read()
                    except EOFError:
                        return
        self.to_end()

    def until(self, condition):
        """Reads until a frame fulfils it; that frame."""
        while True:
            got = self.read()
            if condition(*got):
                return got

    def status(self, stream):
        """Reads the head of an answer: its :status. Each header block must be decoded in its turn."""
        got = self.until(lambda kind, _, of, __: (kind == HEADERS and of == stream)
                         or kind == GOAWAY or (kind == RST_STREAM and of == stream))
        if got[0] != HEADERS:
            return None
        return int(dict(self.decoder.decode(got[3]))[":status"])

    def goaway(self):
        """The code of the last GOAWAY that was read; None: none was."""
        codes = [struct.unpack("!I", f[3][4:8])[0] for f in self.frames if f[0] == GOAWAY]
        return codes[-1] if codes else None

    def reset(self, stream):
        """The code with which the server reset a stream, reading on until it does or the end."""
        with contextlib.suppress(EOFError, ConnectionError, TimeoutError):
            while True:
                for kind, _, of, payload in self.frames:
                    if kind == RST_STREAM and of == stream:
                        return struct.unpack("!I", payload)[0]
                self.read()
        return None

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
