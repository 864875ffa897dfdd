"""What is left behind: an upload after its answer, and connections that nobody has read yet when the
sidecar leaves."""

import contextlib
import json
import sys
import tempfile
import unittest

from support import http1, net
from support.program import ROOT, Program, binary

sys.path.append(f"{ROOT}/tests/bench")
import bootstrap  # pylint: disable=wrong-import-position

UPLOAD = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 100\r\n\r\nabc"


TLS_INSPECTOR = {"name": "envoy.filters.listener.tls_inspector", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}


def silent(sock, _):
    """Takes what comes and answers nothing."""
    with contextlib.suppress(OSError):
        while sock.recv(4096):
            pass


class LeftBehind(unittest.TestCase):
    def sidecar(self, **listener):
        """One hop to an origin that never answers, with 50 ms for each stream."""
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        origin = stack.enter_context(net.Peer(silent))
        http = bootstrap.http_filter("app")
        http["typed_config"]["common_http_protocol_options"] = {"max_stream_duration": "0.05s"}
        port = net.free_port()
        config = bootstrap.bootstrap(port, http, bootstrap.cluster("app", origin.port))
        config["static_resources"]["listeners"][0].update(listener)
        file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".json"))
        json.dump(config, file)
        file.flush()
        return port, stack.enter_context(
            Program([binary("pillion-sidecar"), "--config", file.name, "--workers", 1,
                     "--drain-min", "0s"], port=port))

    def test_an_upload_that_stalls_after_its_answer(self):
        port, sidecar = self.sidecar()
        with http1.Client(port) as client:
            client.send(UPLOAD)
            self.assertEqual(client.answer().status, 504)
            self.assertTrue(client.at_end())
        self.assertFalse(sidecar.ended(), sidecar.output())

    def test_first_bytes_that_are_still_to_come_at_the_end(self):
        port, sidecar = self.sidecar(listener_filters=[TLS_INSPECTOR])
        with http1.Client(port) as client:
            client.send(b"\x16")
            with http1.Client(port) as whole:
                self.assertEqual(whole.request().status, 504)  # so the byte has been read too
            sidecar.stop()


if __name__ == "__main__":
    unittest.main()
