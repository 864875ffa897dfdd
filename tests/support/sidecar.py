"""Sidecars under test with --capture none, and the applications beside them."""

import http.client
import http.server
import json
import os
import socketserver
import threading
import urllib.request

from support.net import LOOPBACK, free_port, wait_for
from support.program import Program, binary


class App:
    """An HTTP/1.1 application on loopback; answers with its name and what it was asked."""

    def __init__(self, name, handler=None, listener=None):
        """`listener`: a socket that listens already, elsewhere than on a port of loopback."""
        app = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                length = int(self.headers.get("content-length", 0))
                body = self.rfile.read(length)
                app.requests += 1
                status, answer = (handler or app.answer)(self, body)
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.name = name
        self.requests = 0
        self._server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler, listener is None)
        if listener is not None:
            self._server.socket.close()
            self._server.socket = listener
            self._server.server_address = listener.getsockname()
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def answer(self, request, body):
        return 200, json.dumps({"app": self.name, "path": request.path, "from": request.client_address,
                                "headers": {k.lower(): v for k, v in request.headers.items()},
                                "body": body.decode("latin-1")}).encode()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Echo:
    """A TCP application that speaks first, then returns what it gets."""

    GREETING = b"220 hello\r\n"

    def __init__(self, listener=None):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.sendall(Echo.GREETING)
                while piece := self.request.recv(65536):
                    self.request.sendall(piece)

        self._server = socketserver.ThreadingTCPServer((LOOPBACK, 0), Handler, listener is None)
        if listener is not None:
            self._server.socket.close()
            self._server.socket = listener
            self._server.server_address = listener.getsockname()
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    __enter__ = App.__enter__
    __exit__ = App.__exit__


class Sidecar:
    """The sidecar of one workload. `inbound`: {LISTEN port: APP port}; `outbound`: "HOST:PORT[/tcp]"
    each get a port of their own, self.out[...]."""

    def __init__(self, control, name, account, inbound=None, outbound=(), options=(),
                 control_host=LOOPBACK):
        self.control = control
        self.token = f"{control.folder}/{name}.token"
        self.out = {target: free_port() for target in outbound}
        with open(self.token, "w", encoding="utf-8") as file:
            file.write(control.token(account=account) + "\n")
        os.chmod(self.token, 0o600)
        self.metrics_port, self.admin_port = free_port(), free_port()
        self.command = [binary("pillion-sidecar"), "--capture", "none",
                        "--control-address", f"{control_host}:{control.secure_port}",
                        "--mesh-root", f"{control.state}/ca/root.pem", "--token-file", self.token,
                        "--workload", f"default/{name}", "--service-account", f"default/{account}",
                        "--address", LOOPBACK, "--workers", "2", "--drain-min", "0",
                        "--admin-address", f"{LOOPBACK}:{self.admin_port}",
                        "--metrics-address", f"{LOOPBACK}:{self.metrics_port}"]
        for listen, app in (inbound or {}).items():
            self.command += ["--inbound", f"{LOOPBACK}:{listen}={LOOPBACK}:{app}"]
        for target, port in self.out.items():
            self.command += ["--outbound", f"{LOOPBACK}:{port}={target}"]
        self.command += options
        self.program = None

    def start(self, ready=True):
        self.program = Program(self.command)
        if ready:
            wait_for(lambda: self.program.ended() or self.is_ready(), what="readiness")
            assert not self.program.ended(), self.program.output()
        return self

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.metrics_port}/healthz/ready",
                                        timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        return self.program.__exit__(kind, value, trace)

    def admin(self, path):
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.admin_port}{path}", timeout=20) as answer:
            return answer.read().decode()

    def connect(self, target):
        """A connection of the application's to that destination; many requests may use it."""
        return http.client.HTTPConnection(LOOPBACK, self.out[target], timeout=20)


def ask(connection, path="/", method="GET", body=None, headers=None):
    """(status, headers, JSON or bytes)"""
    connection.request(method, path, body=body, headers=headers or {})
    answer = connection.getresponse()
    body = answer.read()
    if body[:1] == b"{":
        body = json.loads(body)
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body
