"""gRPC through two sidecars with mutual TLS: pillion-control, servers with their sidecars, a client's.

Messages are bytes as they are, so that no code is generated:

    /pillion.test.Echo/Unary     returns what it got; "fail" gets NOT_FOUND; trailer echo-trailer
    /pillion.test.Echo/Collect   client streaming: all parts in one
    /pillion.test.Echo/Spread    server streaming: a message for each byte
    /pillion.test.Echo/Chat      each part comes back at once, until the client ends
"""

import collections
import concurrent.futures
import json
import threading

import grpc

from support import peers
from support.control import Control, service, workload
from support.net import LOOPBACK, free_port
from support.program import Program, run, temp_folder
from support.sidecar import Sidecar

ECHO = "echo"
TARGET = f"{ECHO}:8000"
SERVICE = "/pillion.test.Echo/"
KINDS = {"Unary": "unary_unary", "Collect": "stream_unary", "Spread": "unary_stream",
         "Chat": "stream_stream"}


class Server:
    """grpcio. `script(method, context, call number)` may raise or abort before the usual answer."""

    def __init__(self, name="echo", script=None):
        self.name = name
        self.script = script or (lambda *_: None)
        self.calls = collections.Counter()
        self.metadata = []
        self._lock = threading.Lock()
        # Without a port of its own to share: two tests beside each other must not meet.
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(32),
                                   options=[("grpc.so_reuseport", 0)])
        handlers = {method: getattr(grpc, f"{kind}_rpc_method_handler")(getattr(self, f"_{kind}"))
                    for method, kind in KINDS.items()}
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("pillion.test.Echo", handlers)])
        self.port = self._server.add_insecure_port(f"{LOOPBACK}:0")

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(0).wait()

    def _begin(self, method, context):
        with self._lock:
            self.calls[method] += 1
            number = self.calls[method]
            self.metadata.append(dict(context.invocation_metadata()))
        context.set_trailing_metadata((("echo-trailer", "done"), ("echo-server", self.name)))
        self.script(method, context, number)

    def _unary_unary(self, message, context):
        if message == b"fail":
            context.set_trailing_metadata((("echo-trailer", "failed"),))
            context.abort(grpc.StatusCode.NOT_FOUND, "nothing of that name: \u00fc%")
        self._begin("Unary", context)
        return message

    def _stream_unary(self, messages, context):
        self._begin("Collect", context)
        return b"".join(messages)

    def _unary_stream(self, message, context):
        self._begin("Spread", context)
        for at in range(len(message)):
            yield message[at:at + 1]

    def _stream_stream(self, messages, context):
        self._begin("Chat", context)
        yield from messages


class GrpcMesh:
    """`servers`: {name: (version, port)}. `port_name` is the Service's: "grpc" declares HTTP/2, another
    word leaves it to detection."""

    def __init__(self, stack, servers, port_name="grpc", policy=(), options=()):
        self.control = Control(stack.enter_context(temp_folder()))
        listen = {name: free_port() for name in servers}
        entries = []
        for name, (version, _) in servers.items():
            entry = workload(name, ECHO, version, listen[name], True, ECHO)
            entry["spec"]["ports"] = {port_name: listen[name]}
            entries.append(entry)
        self.control.write("mesh.yaml", service(ECHO, ports=[{"name": port_name, "port": 8000}]),
                           workload("client", "client", "v1", free_port(), True, "client"), *entries)
        for item in policy:
            self.control.write(f"{item['kind']}.yaml", item)
        stack.enter_context(self.control)
        # A busy machine's client may be silent for long before its first bytes.
        threads = ("--workers", "1", "--detect-hold", "10s", *options)
        self.servers = {
            name: stack.enter_context(Sidecar(self.control, name, ECHO, options=threads,
                                              inbound={listen[name]: port}))
            for name, (_, port) in servers.items()}
        self.client = stack.enter_context(
            Sidecar(self.control, "client", "client", outbound=(TARGET,), options=threads))
        self.port = self.client.out[TARGET]
        self._stack = stack

    def channel(self):
        options = [("grpc.enable_retries", 0), ("grpc.default_authority", TARGET)]
        made = grpc.insecure_channel(f"{LOOPBACK}:{self.port}", options)
        self._stack.callback(made.close)
        return made


def method(channel, name):
    return getattr(channel, KINDS[name])(SERVICE + name)


def call_all(channel, timeout=30):
    """All four kinds, checked."""
    wait = {"timeout": timeout}
    body = bytes(range(256)) * 4096
    assert method(channel, "Unary")(b"once", **wait) == b"once"
    assert method(channel, "Unary")(body, **wait) == body
    assert method(channel, "Collect")(iter([b"a", b"b", body]), **wait) == b"ab" + body
    assert list(method(channel, "Spread")(b"abc", **wait)) == [b"a", b"b", b"c"]
    assert list(method(channel, "Chat")(iter([b"x", b"yz"]), **wait)) == [b"x", b"yz"]
    assert not list(method(channel, "Chat")(iter([]), **wait))


# ---- peers in other languages: a server with that service, a client that calls one method ----

def command(language):
    if language == "go":
        return [peers.go("grpc-go-peer")]
    assert language == "js", language
    return peers.node("echo.js")


class OtherServer(Program):
    """A server of another language on a port of its own."""

    def __init__(self, language):
        self.port = free_port()
        super().__init__([*command(language), "server", self.port], port=self.port)

    def __exit__(self, *_):
        self.kill()


def other_call(language, port, name, *parts):
    """What a client of another language got: messages, status, message, trailer."""
    code, out, err = run([*command(language), "client", port, name, *parts], timeout_s=60)
    assert code == 0, f"{language} {name}: {out}{err}"
    return json.loads(out)


__all__ = ["ECHO", "GrpcMesh", "OtherServer", "Server", "TARGET", "call_all", "method", "other_call"]
