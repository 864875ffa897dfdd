"""gRPC through two sidecars with mutual TLS: every kind of call, deadlines, statuses and what is made
of them, balancing; with grpcio, grpc-go and grpc-js, and gRPC's own interoperability cases."""

import contextlib
import itertools
import threading
import time
import unittest

import grpc

from support import http2, peers
from support.grpc_mesh import (ECHO, SERVICE, TARGET, GrpcMesh, OtherServer, Server, call_all, method,
                               other_call)
from support.mesh import metric
from support.net import free_port, wait_for
from support.program import Program, run


def route(**rule):
    """A VirtualService with one rule that has these fields."""
    to = {"destination": {"host": ECHO, "port": {"number": 8000}}}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": ECHO}, "spec": {"hosts": [ECHO], "http": [{"route": [to], **rule}]}}


def traffic(**policy):
    return {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": ECHO}, "spec": {"host": ECHO, "trafficPolicy": policy}}


class Case(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def server(self, script=None, name="echo"):
        return self.stack.enter_context(Server(name, script))

    def mesh(self, *servers, **how):
        return GrpcMesh(self.stack, {f"echo-{i}": ("v1", s.port) for i, s in enumerate(servers)}, **how)

    def fails(self, call, *arguments, **options):
        """The error that a call ends with."""
        with self.assertRaises(grpc.RpcError) as caught:
            answer = call(*arguments, timeout=30, **options)
            if not isinstance(answer, bytes):
                list(answer)
        return caught.exception


class Kinds(Case):
    def test_declared_and_detected(self):
        for name in ("grpc", "http2-web", "unnamed"):
            with self.subTest(port=name):
                server = self.server()
                mesh = self.mesh(server, port_name=name)
                channel = mesh.channel()
                call_all(channel)
                self.assertEqual(server.calls["Chat"], 2)
                # The caller's sidecar proved who it is: it came with mutual TLS.
                told = server.metadata[0]["x-forwarded-client-cert"]
                self.assertIn("URI=spiffe://cluster.local/ns/default/sa/client", told)

    def test_statuses_details_and_trailers_arrive_as_they_are(self):
        mesh = self.mesh(self.server())
        channel = mesh.channel()
        error = self.fails(method(channel, "Unary"), b"fail")
        self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)
        self.assertEqual(error.details(), "nothing of that name: \u00fc%")
        self.assertIn(("echo-trailer", "failed"), list(error.trailing_metadata()))
        answer, call = method(channel, "Unary").with_call(b"x", timeout=30,
                                                          metadata=[("some-bin", b"\0\xff")])
        self.assertEqual(answer, b"x")
        self.assertIn(("echo-trailer", "done"), list(call.trailing_metadata()))

    def test_a_server_may_answer_before_after_and_without_the_client_s_end(self):
        finish = threading.Event()

        def script(name, context, number):
            del number
            if name == "Chat" and dict(context.invocation_metadata()).get("how") == "leave":
                context.abort(grpc.StatusCode.ABORTED, "enough")

        mesh = self.mesh(self.server(script))
        chat = method(mesh.channel(), "Chat")

        def parts():
            yield b"one"
            finish.wait(30)

        answers = chat(parts(), timeout=60)
        self.assertEqual(next(answers), b"one")  # before
        finish.set()
        self.assertEqual(list(answers), [])  # after

        never = threading.Event()
        self.addCleanup(never.set)

        def endless():
            yield b"one"
            never.wait(30)

        error = self.fails(chat, endless(), metadata=[("how", "leave")])
        self.assertEqual((error.code(), error.details()), (grpc.StatusCode.ABORTED, "enough"))

    def test_a_cancelled_call_is_cancelled_at_the_server(self):
        gone = threading.Event()
        begun = threading.Event()

        def script(name, context, number):
            del name, number
            context.add_callback(gone.set)
            begun.set()
            time.sleep(0.01)
            gone.wait(30)

        mesh = self.mesh(self.server(script))
        call = method(mesh.channel(), "Spread")(b"abc", timeout=60)
        self.assertTrue(begun.wait(30))
        call.cancel()
        self.assertTrue(gone.wait(30))


class Deadlines(Case):
    @staticmethod
    def _left(mesh, timeout, **metadata):
        """What the server is told is left of a deadline, in seconds."""
        told = []
        server = mesh.told
        server.script = lambda name, context, number: told.append(context.time_remaining())
        method(mesh.channel(), "Unary")(b"x", timeout=timeout, metadata=list(metadata.items()))
        return told[0]

    def test_the_rest_of_it_travels_on_cut_to_the_route_s(self):
        server = self.server()
        mesh = self.mesh(server)
        mesh.told = server
        left = self._left(mesh, 1000)
        self.assertTrue(900 < left <= 1000, left)
        mesh.control.write("VirtualService.yaml", route(timeout="100s"))
        # None: what a caller without a deadline is given then is the route's.
        wait_for(lambda: self._left(mesh, 1000) <= 100, 30, "the route's limit")
        self.assertTrue(50 < self._left(mesh, None) <= 100)

    def test_a_sidecar_ends_what_its_caller_forgot(self):
        stop = threading.Event()
        self.addCleanup(stop.set)
        mesh = self.mesh(self.server(lambda *_: stop.wait(60)))
        with http2.Client(mesh.port) as client:
            answer = client.request("POST", SERVICE + "Unary", authority=TARGET, body=bytes(5), fields=[
                ("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "300m")])
        self.assertEqual((answer.status, answer.get("grpc-status"), answer.data), (200, "4", b""))
        self.assertIn("grpc-timeout", answer.get("grpc-message"))


class LocalReplies(Case):
    def test_nobody_there_and_no_such_route(self):
        server = self.server()
        mesh = self.mesh(server, policy=[route(match=[{"uri": {"prefix": SERVICE + "Unary"}}])])
        channel = mesh.channel()
        self.assertEqual(method(channel, "Unary")(b"x", timeout=30), b"x")
        self.assertEqual(self.fails(method(channel, "Spread"), b"x").code(),
                         grpc.StatusCode.UNIMPLEMENTED)
        server.__exit__()
        error = self.fails(method(channel, "Unary"), b"x")
        self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
        self.assertNotIn("Received http2 header with status", error.details())


RETRY_ON = {"cancelled": grpc.StatusCode.CANCELLED,
            "deadline-exceeded": grpc.StatusCode.DEADLINE_EXCEEDED,
            "internal": grpc.StatusCode.INTERNAL,
            "resource-exhausted": grpc.StatusCode.RESOURCE_EXHAUSTED,
            "unavailable": grpc.StatusCode.UNAVAILABLE}


class Retries(Case):
    def _mesh(self, failures, code, extra=()):
        """Fails that many calls of a method, then answers."""
        def script(name, context, number):
            del name
            if number <= failures:
                context.set_trailing_metadata(tuple(extra))
                context.abort(code, "not yet")

        server = self.server(script)
        policy = route(retries={"attempts": 2, "retryOn": ",".join(RETRY_ON)})
        return server, self.mesh(server, policy=[policy])

    def test_each_status_that_retry_on_can_name(self):
        server, mesh = self._mesh(1, None)
        unary = method(mesh.channel(), "Unary")
        for name, code in RETRY_ON.items():
            with self.subTest(status=name):
                server.calls.clear()
                server.script = lambda _, context, number, code=code: (
                    context.abort(code, "not yet") if number <= 2 else None)
                self.assertEqual(unary(b"x", timeout=30), b"x")
                self.assertEqual(server.calls["Unary"], 3)

    def test_no_other_status_and_no_more_than_allowed(self):
        server, mesh = self._mesh(1, grpc.StatusCode.ABORTED)
        unary = method(mesh.channel(), "Unary")
        self.assertEqual(self.fails(unary, b"x").code(), grpc.StatusCode.ABORTED)
        self.assertEqual(server.calls["Unary"], 1)
        server.script = lambda _, context, number: context.abort(grpc.StatusCode.UNAVAILABLE, "never")
        server.calls.clear()
        self.assertEqual(self.fails(unary, b"x").code(), grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(server.calls["Unary"], 3)

    def test_push_back(self):
        server, mesh = self._mesh(1, grpc.StatusCode.UNAVAILABLE, [("grpc-retry-pushback-ms", "-1")])
        unary = method(mesh.channel(), "Unary")
        self.assertEqual(self.fails(unary, b"x").code(), grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(server.calls["Unary"], 1)

        def later(_, context, number):
            if number == 1:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", "700"),))
                context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")

        server.script = later
        server.calls.clear()
        begun = time.monotonic()
        self.assertEqual(unary(b"x", timeout=30), b"x")
        self.assertGreaterEqual(time.monotonic() - begun, 0.7)


class Seen(Case):
    def test_metrics_log_and_ejection_go_by_the_grpc_status(self):
        bad = self.server(lambda _, context, __: context.abort(grpc.StatusCode.UNAVAILABLE, "broken"),
                          "bad")
        good = self.server(name="good")
        mesh = self.mesh(bad, good, policy=[traffic(outlierDetection={
            "consecutive5xxErrors": 3, "interval": "300s", "baseEjectionTime": "300s",
            "maxEjectionPercent": 100})])
        unary = method(mesh.channel(), "Unary")
        failed = 0
        for _ in range(60):
            try:
                unary(b"x", timeout=30)
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
                failed += 1
        self.assertEqual(failed, 3)
        self.assertEqual(bad.calls["Unary"], 3)
        for side in (mesh.client, mesh.servers["echo-0"]):
            self.assertEqual(metric(side, "istio_requests_total", request_protocol="grpc",
                                    grpc_response_status="14", response_code="200"), 3)
        self.assertEqual(metric(mesh.client, "istio_requests_total", grpc_response_status="0"), 57)

    def test_requests_of_one_connection_go_to_every_endpoint(self):
        servers = [self.server(name=f"s{i}") for i in range(3)]
        mesh = self.mesh(*servers)
        unary = method(mesh.channel(), "Unary")
        for _ in range(300):
            unary(b"x", timeout=30)
        counts = [server.calls["Unary"] for server in servers]
        self.assertEqual(sum(counts), 300)
        self.assertGreater(min(counts), 50, counts)


class Languages(Case):
    """grpcio, grpc-go and grpc-js, each as client and as server of each."""

    def _judge(self, client, port):
        def ask(name, *parts):
            got = other_call(client, port, name, *parts)
            return got["messages"], got["status"], got["trailer"]

        self.assertEqual(ask("Unary", "once"), (["once"], 0, ["done"]))
        got = other_call(client, port, "Unary", "fail")
        self.assertEqual((got["messages"], got["status"], got["message"], got["trailer"]),
                         ([], 5, "nothing of that name: \u00fc%", ["failed"]))
        self.assertEqual(ask("Collect", "a", "bc", "d")[:2], (["abcd"], 0))
        self.assertEqual(ask("Spread", "abc")[:2], (["a", "b", "c"], 0))
        self.assertEqual(ask("Chat", "x", "yz", "w")[:2], (["x", "yz", "w"], 0))

    def test_every_pair(self):
        for language in ("go", "js", "python"):
            server = (self.server() if language == "python"
                      else self.stack.enter_context(OtherServer(language)))
            mesh = self.mesh(server, port_name="grpc" if language != "js" else "unnamed")
            with self.subTest(client="python", server=language):
                call_all(mesh.channel())
            for client in ("go", "js"):
                with self.subTest(client=client, server=language):
                    self._judge(client, mesh.port)


class Interop(Case):
    """google.golang.org/grpc/interop: every case of its client that needs no cloud's credentials."""
    CASES = ("empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong",
             "empty_stream", "timeout_on_sleeping_server", "cancel_after_begin",
             "cancel_after_first_response", "status_code_and_message", "special_status_message",
             "custom_metadata", "unimplemented_method", "unimplemented_service", "rpc_soak",
             "channel_soak")  # pick_first_unary wants a server that gives itself a name: none does

    def test_every_case(self):
        port = free_port()
        server = Program([peers.go("interop-server"), f"-port={port}"], port=port)
        self.stack.callback(server.kill)
        server.port = port
        meshes = {name: self.mesh(server, port_name=name) for name in ("grpc", "unnamed")}
        for name, (port_name, mesh) in itertools.product(self.CASES, meshes.items()):
            with self.subTest(case=name, port=port_name):
                code, out, err = run(
                    [peers.go("interop-client"), "-server_host=127.0.0.1",
                     f"-server_port={mesh.port}", f"-test_case={name}", "-soak_iterations=5",
                     "-soak_per_iteration_max_acceptable_latency_ms=30000",
                     "-soak_overall_timeout_seconds=60"], timeout_s=90)
                self.assertEqual(code, 0, f"{out}{err}")


if __name__ == "__main__":
    unittest.main()
