"""The tools of the wire tests themselves: a judge that errs is worse than none."""

import signal
import sys
import unittest

from support import http1, net
from support.program import Program, temp_folder


def answer_with(*pieces):
    def serve(sock, _):
        sock.recv(65536)
        for piece in pieces:
            sock.sendall(piece)

    return serve


class Http1(unittest.TestCase):
    def answer(self, *pieces, **request):
        with net.Peer(answer_with(*pieces)) as peer, http1.Client(peer.port) as client:
            return client.request(**request)

    def test_content_length(self):
        answer = self.answer(b"HTTP/1.1 200 OK\r\nX-A: 1\r\ncontent-length: 5\r\n\r\nhel", b"lo")
        self.assertEqual((answer.status, answer.body, answer.get("x-a")), (200, b"hello", "1"))

    def test_chunks_and_trailers(self):
        answer = self.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                             b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: z\r\n\r\n")
        self.assertEqual((answer.body, answer.get("t")), (b"abcde", "z"))

    def test_interim_answers_are_skipped(self):
        answer = self.answer(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual(answer.status, 204)

    def test_cut_body_is_an_error(self):
        with self.assertRaises(EOFError):
            self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")

    def test_no_http_is_an_error(self):
        with self.assertRaises(ValueError):
            self.answer(b"SSH-2.0 hello\r\n\r\n")

    def test_request_bytes(self):
        self.assertEqual(http1.request_bytes("POST", "/x", body=b"ab"),
                         b"POST /x HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\nab")


class Net(unittest.TestCase):
    def test_ports_differ(self):
        self.assertEqual(len({net.free_port() for _ in range(50)}), 50)

    def test_reset_is_seen(self):
        with net.Peer(lambda sock, _: net.reset(sock)) as peer:
            with http1.Client(peer.port) as client:
                self.assertEqual(net.read_to_end(client.sock), (b"", "reset"))

    def test_a_script_that_fails_fails_its_test(self):
        peer = net.Peer(lambda sock, _: 1 // 0)
        with http1.Client(peer.port) as client:
            net.read_to_end(client.sock)
        net.wait_for(lambda: peer.errors)
        with self.assertRaises(ZeroDivisionError):
            peer.close()


class Programs(unittest.TestCase):
    def test_exit_code_is_asserted(self):
        program = Program([sys.executable, "-c", "import sys; print('bye'); sys.exit(3)"])
        self.assertEqual(program.wait(), 3)
        with self.assertRaisesRegex(AssertionError, "ended with 3"):
            program.stop()
        self.assertIn("bye", program.output())

    def test_what_ignores_sigterm_is_killed_and_named(self):
        program = Program([sys.executable, "-c",
                           "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
                           "print('up', flush=True); time.sleep(60)"])
        program.wait_for_output("up")
        with self.assertRaisesRegex(AssertionError, "did not end"):
            program.stop(timeout_s=0.2)
        self.assertEqual(program.wait(), -signal.SIGKILL)

    def test_start_without_a_listener_is_an_error(self):
        with self.assertRaisesRegex(AssertionError, "ended at start"):
            Program([sys.executable, "-c", "pass"], port=net.free_port())

    def test_temp_folder_is_a_folder(self):
        with temp_folder() as folder:
            with open(f"{folder}/x", "w", encoding="utf-8") as file:
                file.write("x")
