"""Envoy v3 bootstraps as dictionaries: what pillion-sidecar --config and Envoy both take."""

import certs

_EXT = "type.googleapis.com/envoy.extensions"


def _any(name, **fields):
    return {"@type": f"{_EXT}.{name}", **fields}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _tls_context(folder, own, peer, alpn):
    return {
        "alpn_protocols": alpn,
        "tls_certificates": [{
            "certificate_chain": {"filename": f"{folder}/{own}.pem"},
            "private_key": {"filename": f"{folder}/{own}.key"},
        }],
        "validation_context": {
            "trusted_ca": {"filename": f"{folder}/ca.pem"},
            "match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": {"exact": certs.spiffe_id(peer)}}],
        },
    }


def upstream_tls(folder, alpn):
    """The transport socket of a cluster that speaks mutual TLS to the server's sidecar."""
    return {"name": "envoy.transport_sockets.tls", "typed_config": _any(
        "transport_sockets.tls.v3.UpstreamTlsContext", sni=certs.SERVER_NAME,
        common_tls_context=_tls_context(folder, "client", "server", alpn))}


def downstream_tls(folder, alpn):
    return {"name": "envoy.transport_sockets.tls", "typed_config": _any(
        "transport_sockets.tls.v3.DownstreamTlsContext", require_client_certificate=True,
        common_tls_context=_tls_context(folder, "server", "client", alpn))}


_HTTP2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _any(
    "upstreams.http.v3.HttpProtocolOptions",
    explicit_http_config={"http2_protocol_options": {}})}


def cluster(name, port, transport_socket=None, http2=False):
    result = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]},
        # The defaults of 1024 are near what 1,000 idle connections of the memory row need.
        "circuit_breakers": {"thresholds": [
            {"max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192}]},
    }
    if transport_socket:
        result["transport_socket"] = transport_socket
    if http2:
        result["typed_extension_protocol_options"] = _HTTP2
    return result


def http_filter(to, connect=False):
    """HttpConnectionManager with one route; connect: CONNECT ends here and becomes bytes."""
    match = {"connect_matcher": {}} if connect else {"prefix": "/"}
    route = {"cluster": to, "timeout": "0s"}
    more = {}
    if connect:
        route["upgrade_configs"] = [{"upgrade_type": "CONNECT", "connect_config": {}}]
        more["upgrade_configs"] = [{"upgrade_type": "CONNECT"}]
        more["http2_protocol_options"] = {"allow_connect": True}
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": _any(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="bench", codec_type="AUTO",
        route_config={"name": "bench", "virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": [{"match": match, "route": route}]}]},
        http_filters=[{"name": "envoy.filters.http.router", "typed_config": _any(
            "filters.http.router.v3.Router")}], **more)}


def tcp_filter(to, tunnel=False):
    """TcpProxy; tunnel: each connection is a CONNECT stream of the cluster's HTTP/2 connection."""
    more = {"tunneling_config": {"hostname": f"{certs.SERVER_NAME}:80"}} if tunnel else {}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": _any(
        "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="bench", cluster=to, **more)}


def bootstrap(port, network_filter, to, transport_socket=None, admin_port=None):
    """One listener, one filter, one cluster."""
    chain = {"filters": [network_filter]}
    if transport_socket:
        chain["transport_socket"] = transport_socket
    result = {
        "node": {"id": f"bench-{port}", "cluster": "bench"},
        "static_resources": {
            "listeners": [{"name": "bench", "address": address(port), "filter_chains": [chain]}],
            "clusters": [to],
        },
    }
    if admin_port:
        result["admin"] = {"address": address(admin_port)}
    return result
