"""A control plane that says what a test wants, well-formed or not: it signs certificates as the real
one does, and leaves the stream of xDS to a script."""

import contextlib
import datetime
import os
import threading
from concurrent import futures

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import json_format

from support import xds
from support.net import LOOPBACK, free_port, wait_for

CONTROL = "spiffe://cluster.local/ns/pillion-system/sa/pillion-control"
Destination = xds.message("pillion.config.v1.Destination")


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


class Authority:
    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._sign("root", self.key.public_key(), None)

    def _sign(self, name, public_key, identity):
        now = datetime.datetime.utcnow()
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer = subject if identity is None else self.root.subject
        builder = x509.CertificateBuilder(
            subject_name=subject, issuer_name=issuer, public_key=public_key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(minutes=1),
            not_valid_after=now + datetime.timedelta(hours=1))
        builder = builder.add_extension(x509.BasicConstraints(identity is None, None), True)
        if identity is not None:
            san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
            builder = builder.add_extension(san, False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, public_key, identity):
        return _pem(self._sign("leaf", public_key, identity))

    def root_pem(self):
        return _pem(self.root)


class Stream:
    """One stream of a sidecar's. Requests that came are in `requests`."""

    def __init__(self, context):
        self.requests = []
        self._context = context
        self._out = []
        self._changed = threading.Condition()
        self._nonces = 0
        self._ended = False

    def take(self, request):
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()

    def end(self):
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def send_bytes(self, data):
        with self._changed:
            self._out.append(data)
            self._changed.notify_all()

    def send(self, type_url, resources=(), removed=(), aliases=()):
        """resources: (name, message or bytes). Returns the nonce."""
        self._nonces += 1
        answer = xds.DeltaResponse(type_url=type_url, nonce=f"n{self._nonces}", removed_resources=removed)
        for name, body in resources:
            resource = answer.resources.add(name=name, aliases=aliases)
            resource.resource.type_url = type_url
            resource.resource.value = body if isinstance(body, bytes) else body.SerializeToString()
        self.send_bytes(answer.SerializeToString())
        return answer.nonce

    def answer(self, nonce, timeout_s=10):
        """The request that acknowledges or refuses that response."""
        return wait_for(lambda: next((r for r in self.requests if r.response_nonce == nonce), None),
                        timeout_s, f"the answer to {nonce}")

    def outgoing(self):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._out or self._ended, timeout=0.5)
                pieces, self._out = self._out, []
                ended = self._ended and not pieces
            yield from pieces
            if ended or not self._context.is_active():
                return


class FakeControl:
    """`script(stream, request)` is called for each request. A test may also use stream()."""

    def __init__(self, folder, script):
        self.folder = folder
        self.state = folder
        self.script = script
        self.streams = []
        self.authority = Authority()
        os.makedirs(f"{folder}/ca")
        with open(f"{folder}/ca/root.pem", "wb") as file:
            file.write(self.authority.root_pem())
        self.secure_port = free_port()
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=(
            ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)))
        create, delta = (path.rpartition("/") for path in (xds.CERTIFICATE, xds.DELTA))
        self._server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler(create[0][1:], {
                create[2]: grpc.unary_unary_rpc_method_handler(
                    self._certificate, xds.CertificateRequest.FromString,
                    xds.CertificateResponse.SerializeToString)}),
            grpc.method_handlers_generic_handler(delta[0][1:], {
                delta[2]: grpc.stream_stream_rpc_method_handler(
                    self._delta, xds.DeltaRequest.FromString)})))
        key = ec.generate_private_key(ec.SECP256R1())
        key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                    serialization.NoEncryption())
        chain = self.authority.issue(key.public_key(), CONTROL)
        self._server.add_secure_port(f"{LOOPBACK}:{self.secure_port}", grpc.ssl_server_credentials(
            [(key_pem, chain)], self.authority.root_pem(), False))

    def token(self, namespace="default", account="client"):
        return f"{namespace}/{account}"

    def _certificate(self, request, context):
        bearer = dict(context.invocation_metadata())["authorization"].removeprefix("Bearer ")
        namespace, account = bearer.split("/")
        key = x509.load_pem_x509_csr(request.csr.encode()).public_key()
        leaf = self.authority.issue(key, f"spiffe://cluster.local/ns/{namespace}/sa/{account}")
        return xds.CertificateResponse(cert_chain=[leaf, self.authority.root_pem()])

    def _delta(self, requests, context):
        stream = Stream(context)
        self.streams.append(stream)

        def take():
            with contextlib.suppress(grpc.RpcError, Exception):
                for request in requests:
                    stream.take(request)
                    self.script(stream, request)
            stream.end()
        threading.Thread(target=take, daemon=True).start()
        yield from stream.outgoing()

    def stream(self, number=0, timeout_s=20):
        """The stream of that number, from the first on."""
        return wait_for(lambda: self.streams[number] if len(self.streams) > number else None,
                        timeout_s, f"stream {number}")

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        for stream in self.streams:
            stream.end()
        self._server.stop(0).wait()


def to_app(port, cluster="app", **more):
    """A destination whose requests and bytes go to a port of loopback."""
    address = {"socket_address": {"address": LOOPBACK, "port_value": port}}
    return json_format.ParseDict({
        "outcome": "SERVICE", "canonical_name": "svc/default/app:80", "default_cluster": cluster,
        "clusters": [{"name": cluster, "connect_timeout": "1s", "load_assignment": {
            "cluster_name": cluster, "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address}}]}]}}],
        "route_config": {"name": "app", "virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]}, **more},
        Destination())
