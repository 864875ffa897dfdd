"""Clients of xDS and of the certificate service, by grpcio and the messages of xds/proto."""

import contextlib
import queue
import subprocess
import sys
import tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from support.control import DNS_NAME
from support.net import LOOPBACK
from support.program import ROOT

_FILES = ("envoy/service/discovery/v3/discovery.proto", "envoy/config/listener/v3/listener.proto",
          "envoy/config/route/v3/route.proto", "envoy/config/cluster/v3/cluster.proto",
          "envoy/config/endpoint/v3/endpoint.proto", "pillion/config/v1/destination.proto",
          "istio/v1/auth/auth.proto")
_TYPES = "type.googleapis.com/"
LISTENER = _TYPES + "envoy.config.listener.v3.Listener"
ROUTE = _TYPES + "envoy.config.route.v3.RouteConfiguration"
CLUSTER = _TYPES + "envoy.config.cluster.v3.Cluster"
ENDPOINTS = _TYPES + "envoy.config.endpoint.v3.ClusterLoadAssignment"
DESTINATION = _TYPES + "pillion.config.v1.Destination"
DELTA = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
WORLD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
CERTIFICATE = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


def _load():
    """The messages in a pool of their own: the trimmed google/ files differ from the installed."""
    with tempfile.NamedTemporaryFile(suffix=".pb") as out:
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}/xds/proto",
                        "--include_imports", f"--descriptor_set_out={out.name}", *_FILES], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


_POOL = _load()
_FACTORY = message_factory.MessageFactory(_POOL)


def message(name):
    """The class of a message by its full name."""
    return _FACTORY.GetPrototype(_POOL.FindMessageTypeByName(name))


_DISCOVERY = "envoy.service.discovery.v3."
DeltaRequest = message(_DISCOVERY + "DeltaDiscoveryRequest")
DeltaResponse = message(_DISCOVERY + "DeltaDiscoveryResponse")
WorldRequest = message(_DISCOVERY + "DiscoveryRequest")
WorldResponse = message(_DISCOVERY + "DiscoveryResponse")
CertificateRequest = message("istio.v1.auth.IstioCertificateRequest")
CertificateResponse = message("istio.v1.auth.IstioCertificateResponse")


def unpack(any_message):
    """The message inside of a resource."""
    return message(any_message.type_url.removeprefix(_TYPES)).FromString(any_message.value)


# Each channel has a connection of its own; the library's would share one otherwise.
_ALONE = ("grpc.use_local_subchannel_pool", 1)


def plain(control):
    return grpc.insecure_channel(f"{LOOPBACK}:{control.plain_port}", options=[_ALONE])


def secure(control, key=None, chain=None):
    credentials = grpc.ssl_channel_credentials(control.root_pem(), key, chain)
    return grpc.secure_channel(f"{LOOPBACK}:{control.secure_port}", credentials,
                               options=[("grpc.ssl_target_name_override", DNS_NAME), _ALONE])


def bearer(token):
    return [("authorization", f"Bearer {token}")] if token else []


def sign(channel, csr, token=None, seconds=0):
    """The chain that a certificate request gives: PEM texts, the leaf first."""
    call = channel.unary_unary(CERTIFICATE, CertificateRequest.SerializeToString,
                               CertificateResponse.FromString)
    request = CertificateRequest(csr=csr, validity_duration=seconds)
    return list(call(request, metadata=bearer(token), timeout=20).cert_chain)


class Stream:
    """One xDS stream of our own making; nothing is answered unless the test says so."""

    def __init__(self, channel, node, path=DELTA, token=None, metadata=None):
        world = "/Stream" in path
        self._request = WorldRequest if world else DeltaRequest
        response = WorldResponse if world else DeltaResponse
        self._requests = queue.Queue()
        self._node, self._metadata = node, metadata
        self._call = channel.stream_stream(path, self._request.SerializeToString,
                                           response.FromString)(
            iter(self._requests.get, None), metadata=bearer(token))
        self._responses = queue.Queue()
        self._reader = None

    def send(self, type_url, node=True, **fields):
        request = self._request(type_url=type_url, **fields)
        if node and self._node is not None:
            request.node.id = self._node
            for key, value in (self._metadata or {}).items():
                request.node.metadata.fields[key].string_value = value
            self._node = None
        self._requests.put(request)

    def subscribe(self, type_url, *names):
        self.send(type_url, resource_names_subscribe=names)

    def receive(self):
        """The next response; grpc.RpcError when the stream ended."""
        return next(self._call)

    def ack(self, response):
        self.send(response.type_url, response_nonce=response.nonce)

    def reject(self, response, text):
        self.send(response.type_url, response_nonce=response.nonce,
                  error_detail={"code": 3, "message": text})

    def close(self):
        self._requests.put(None)
        self._call.cancel()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()


@contextlib.contextmanager
def stream(channel, node, **more):
    """A stream on a channel that ends with it."""
    with channel, Stream(channel, node, **more) as opened:
        yield opened
