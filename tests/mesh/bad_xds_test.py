"""What a sidecar makes of a control plane that sends nonsense, too much, or nothing."""

import contextlib
import time
import unittest

from support import xds
from support.fake_control import FakeControl, to_app
from support.program import temp_folder
from support.sidecar import App, Sidecar, ask
from support.traffic import Application, Load, Scene, counted, failed

TARGET = "app:80"
KEY = "host/app:80"


def nested(depth):
    """Protobuf inside of itself, `depth` times: field 3, a message, in whatever is there."""
    inner = b""
    for _ in range(depth):
        size, length = len(inner), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        inner = b"\x1a" + length + bytes([size]) + inner
    return inner


class BadXds(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.open = stack.enter_context
        self.app = self.open(App("app"))

    def start(self, *options, answers=True):
        """A sidecar under a control that answers for TARGET, or leaves that to the test."""
        def script(stream, request):
            if answers and KEY in request.resource_names_subscribe:
                stream.send(xds.DESTINATION, [(KEY, to_app(self.app.port))])

        self.control = self.open(FakeControl(self.open(temp_folder()), script))
        sidecar = Sidecar(self.control, "client", "client", outbound=(TARGET,), options=options)
        self.open(sidecar.start(ready=False).program)
        sidecar.program.wait_for_output("listener=outbound")
        self.sidecar = sidecar

    def status(self):
        with contextlib.closing(self.sidecar.connect(TARGET)) as connection:
            return ask(connection)[0]

    def test_what_does_not_compile_is_refused_and_the_last_good_serves(self):
        self.start()
        self.assertEqual(self.status(), 200)
        stream = self.control.stream()
        bad = to_app(self.app.port)
        bad.route_config.virtual_hosts[0].routes[0].route.cluster = "elsewhere"
        for body, text in ((bad, "elsewhere"), (b"\xff\xff\xff", KEY), (nested(100), KEY),
                           (b"", "outcome")):
            answer = stream.answer(stream.send(xds.DESTINATION, [(KEY, body)]))
            self.assertIn(text, answer.error_detail.message)
            self.assertEqual(self.status(), 200)
        good = stream.answer(stream.send(xds.DESTINATION, [(KEY, to_app(self.app.port, "two"))]))
        self.assertEqual(good.error_detail.message, "")
        self.assertEqual(self.status(), 200)

    def test_a_refused_first_answer_wakes_who_waits(self):
        def script(stream, request):
            if KEY in request.resource_names_subscribe:
                stream.send(xds.DESTINATION, [(KEY, b"\x08\x63")])
        self.start(answers=False)
        self.control.script = script
        began = time.monotonic()
        self.assertEqual(self.status(), 503)
        self.assertLess(time.monotonic() - began, 4)
        stream = self.control.stream()
        stream.answer(stream.send(xds.DESTINATION, [(KEY, to_app(self.app.port))]))
        self.assertEqual(self.status(), 200)

    def test_silence_is_503_when_the_time_is_over(self):
        self.start("--on-demand-timeout", "500ms", answers=False)
        began = time.monotonic()
        self.assertEqual(self.status(), 503)
        self.assertGreater(time.monotonic() - began, 0.4)
        stream = self.control.stream()
        stream.answer(stream.send(xds.DESTINATION, [(KEY, to_app(self.app.port))]))
        self.assertEqual(self.status(), 200)  # late, but welcome

    def test_a_stream_that_makes_no_sense_is_left_and_what_was_good_serves(self):
        self.start("--xds-max-message", "64KiB")
        self.assertEqual(self.status(), 200)
        huge = xds.DeltaResponse(type_url=xds.DESTINATION, nonce="h", system_version_info="x" * 200000)
        for number, data in enumerate((b"\xff" * 50, nested(20000), huge.SerializeToString())):
            self.control.stream(number).send_bytes(data)
            again = self.control.stream(number + 1)
            self.assertEqual(self.status(), 200)
            request = next(r for r in iter(lambda: next(
                (r for r in again.requests if r.type_url == xds.DESTINATION), None), 0) if r)
            self.assertEqual(list(request.initial_resource_versions), [KEY])

    def test_what_nobody_asked_for_changes_nothing(self):
        self.start()
        self.assertEqual(self.status(), 200)
        stream = self.control.stream()
        wild = [(f"host/other-{i}:80", to_app(1)) for i in range(100)]
        for nonce in (stream.send(xds.DESTINATION, wild),
                      stream.send(xds.DESTINATION, removed=[n for n, _ in wild]),
                      stream.send("type.googleapis.com/no.such.Type", [("x", b"")]),
                      stream.send(xds.LISTENER, [("other", b"")]),
                      stream.send(xds.DESTINATION, [(KEY, to_app(self.app.port, "two"))], removed=[KEY])):
            stream.answer(nonce)
        self.assertEqual(self.status(), 200)
        stream.answer(stream.send(xds.DESTINATION, removed=[KEY]))
        self.assertEqual(self.status(), 503)

    def test_requests_flow_while_it_talks_nonsense(self):
        """Nonces that are empty, repeated or long, pieces of messages, ends, and silence."""
        self.start("--xds-max-message", "64KiB")
        scene = self.open(Scene())
        app = self.open(Application(scene, "counted"))
        stream = self.control.stream()
        self.assertEqual(self.status(), 200)
        stream.answer(stream.send(xds.DESTINATION, [(KEY, to_app(app.port, "two"))]))
        self.control.script = lambda *_: None  # a new stream finds nobody to ask
        load = Load(scene, self.sidecar.out[TARGET], 1200, rate=200, connections=8,
                    host=TARGET).start()
        for nonce in ("", "n1", "n1", "x" * 50000):
            empty = xds.DeltaResponse(type_url=xds.DESTINATION, nonce=nonce)
            stream.send_bytes(empty.SerializeToString())
        whole = xds.DeltaResponse(type_url=xds.CLUSTER, nonce="c").SerializeToString()
        stream.send_bytes(whole[:-1])
        stream.end()
        again = self.control.stream(1)
        again.send_bytes(nested(5000))
        results = load.wait()
        self.assertEqual(failed(results), [])
        self.assertEqual(counted([app]), {r.id: 1 for r in results})


if __name__ == "__main__":
    unittest.main()
