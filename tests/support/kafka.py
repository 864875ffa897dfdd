"""Kafka's protocol, as far as a producer and a consumer of one partition need it: a broker that
keeps what it gets, and a client. Frames, correlation and long polls as kafka.apache.org/protocol
says; records stay opaque bytes, as they are to a broker."""

import itertools
import struct
import threading

from support.net import Peer, read_exactly

PRODUCE, FETCH, METADATA, API_VERSIONS = 0, 1, 3, 18
TOPIC = "orders"


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def blob(value):
    return struct.pack(">i", len(value)) + value


class Reader:
    def __init__(self, data):
        self._data, self._at = data, 0

    def take(self, form):
        values = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return values[0] if len(values) == 1 else values

    def bytes(self, form):
        size = self.take(form)
        self._at += size
        return self._data[self._at - size:self._at]


def read_frame(sock):
    size, = struct.unpack(">i", read_exactly(sock, 4))
    return read_exactly(sock, size)


class Broker(Peer):
    """Tells `advertised` (HOST, PORT) as its address: clients connect to that next."""

    def __init__(self, advertised):
        self.advertised = advertised
        self.log = []  # record sets, in order
        self._news = threading.Condition()
        self._apis = {PRODUCE: self._produce, FETCH: self._fetch, METADATA: self._metadata,
                      API_VERSIONS: self._api_versions}
        super().__init__(self._talk)

    def _talk(self, sock, _index):
        while True:
            try:
                request = Reader(read_frame(sock))
            except EOFError:
                return
            api, _version, correlation = request.take(">hhi")
            request.bytes(">h")  # client_id
            sock.sendall(blob(struct.pack(">i", correlation) + self._apis[api](request)))

    def _api_versions(self, _request):
        return struct.pack(">hi", 0, len(self._apis)) + b"".join(
            struct.pack(">hhh", api, 0, 2) for api in self._apis)

    def _metadata(self, _request):
        host, port = self.advertised
        return (struct.pack(">ii", 1, 7) + text(host) + struct.pack(">i", port) +
                struct.pack(">ih", 1, 0) + text(TOPIC) +
                struct.pack(">ihiiiiii", 1, 0, 0, 7, 1, 7, 1, 7))

    def _produce(self, request):
        request.take(">hi")  # acks, timeout
        request.take(">i")
        request.bytes(">h")
        request.take(">ii")
        with self._news:
            self.log.append(request.bytes(">i"))
            offset = len(self.log) - 1
            self._news.notify_all()
        return (struct.pack(">i", 1) + text(TOPIC) +
                struct.pack(">iihqq", 1, 0, 0, offset, -1) + struct.pack(">i", 0))

    def _fetch(self, request):
        """Waits, as a broker does, until there is something or the client's time is over."""
        _replica, wait_ms, _least, _topics = request.take(">iiii")
        request.bytes(">h")
        _partitions, _partition, offset, _most = request.take(">iiqi")
        with self._news:
            self._news.wait_for(lambda: len(self.log) > offset, wait_ms / 1000)
            records = self.log[offset] if len(self.log) > offset else b""
            end = len(self.log)
        return (struct.pack(">ii", 0, 1) + text(TOPIC) + struct.pack(">iihq", 1, 0, 0, end) +
                blob(records))


class Client:
    def __init__(self, sock):
        self.sock = sock
        self._numbers = itertools.count(1)

    def send(self, api, version, body):
        """The correlation id; the answer is read later: requests may be pipelined."""
        number = next(self._numbers)
        self.sock.sendall(blob(struct.pack(">hhi", api, version, number) + text("test") + body))
        return number

    def answer(self, number):
        answer = Reader(read_frame(self.sock))
        assert answer.take(">i") == number, "answers come in the order of requests"
        return answer

    def api_versions(self):
        answer = self.answer(self.send(API_VERSIONS, 0, b""))
        assert answer.take(">h") == 0
        return {answer.take(">hhh")[0] for _ in range(answer.take(">i"))}

    def metadata(self):
        """(host, port) of the broker that leads the partition."""
        answer = self.answer(self.send(METADATA, 0, struct.pack(">i", 1) + text(TOPIC)))
        answer.take(">ii")
        return answer.bytes(">h").decode(), answer.take(">i")

    def produce(self, records):
        return self.send(PRODUCE, 2, struct.pack(">hii", 1, 5000, 1) + text(TOPIC) +
                         struct.pack(">ii", 1, 0) + blob(records))

    def produced(self, number):
        answer = self.answer(number)
        answer.take(">i")
        answer.bytes(">h")
        _count, _partition, error, offset, _time = answer.take(">iihqq")
        assert error == 0
        return offset

    def fetch(self, offset, wait_ms):
        answer = self.answer(self.send(
            FETCH, 2, struct.pack(">iiii", -1, wait_ms, 1, 1) + text(TOPIC) +
            struct.pack(">iiqi", 1, 0, offset, 1 << 24)))
        answer.take(">ii")
        answer.bytes(">h")
        _count, _partition, error, _end = answer.take(">iihq")
        assert error == 0
        return answer.bytes(">i")
