"""Brokers and databases with their own ordinary clients through two sidecars, which know nothing of
their protocols: mutual TLS in between, no configuration."""

import os
import socket
import time
import unittest

from support import needs
from support.net import LOOPBACK, read_exactly
from support.opaque import served, servers
from support.program import have, run

try:
    import pika
except ImportError:
    pika = None


class Served(unittest.TestCase):
    """A server and the way to it, for all tests of a class."""
    NAME, RECIPE, PORTS, OPTIONS = "", None, 0, ()

    @classmethod
    def setUpClass(cls):
        cls.server, cls.tunnel = cls.enterClassContext(served(
            cls.NAME, cls.RECIPE, cls.PORTS, client_options=cls.OPTIONS))

    def client(self, *command, stdin="", env=None):
        code, out, err = run(command, 60, env, stdin)
        self.assertEqual(code, 0, f"{command}\n{out}{err}")
        return out

    def assert_counted(self, least_sent=1, least_received=1):
        """Both sidecars say who spoke with whom, over mutual TLS, and how much: the same, but for a
        few bytes behind which a client was gone (TLS says good-bye to nobody)."""
        self.assertGreaterEqual(self.tunnel.wait_all_closed(), 1)
        for what, least in (("sent_bytes", least_sent), ("received_bytes", least_received)):
            source, destination = self.tunnel.counted(what)
            self.assertAlmostEqual(source, destination, delta=100, msg=what)
            self.assertGreaterEqual(source, least, what)


@needs.program("redis-server")
class Redis(Served):
    NAME, RECIPE = "redis", staticmethod(servers.redis)

    def cli(self, *words, stdin=""):
        return self.client("redis-cli", "-h", LOOPBACK, "-p", self.tunnel.port, *words, stdin=stdin)

    def test_commands(self):
        self.assertEqual(self.cli("set", "key", "value"), "OK\n")
        self.assertEqual(self.cli("get", "key"), "value\n")
        self.assertEqual(self.cli("incrby", "number", "7"), "7\n")
        self.assert_counted()

    def test_a_pipeline_of_its_own_client(self):
        lines = "".join(f"SET pipe:{n} {'x' * (1 + n % 100)}\r\n" for n in range(10000))
        self.assertIn("errors: 0, replies: 10000", self.cli("--pipe", stdin=lines))
        self.assertEqual(self.cli("strlen", "pipe:9941"), "42\n")
        self.assert_counted(least_received=len(lines))

    def test_a_pipeline_written_at_once(self):
        """Before anything of it is answered; and the answers are in order."""
        with socket.create_connection((LOOPBACK, self.tunnel.port), 20) as raw:
            raw.sendall(b"INCR ordered\r\n" * 10000)
            answer = b"".join(b":%d\r\n" % n for n in range(1, 10001))
            self.assertEqual(read_exactly(raw, len(answer)), answer)


@unittest.skipUnless(servers.postgres_programs(), "needs postgresql")
@needs.program("psql")
class PostgreSQL(Served):
    NAME, RECIPE = "postgresql", staticmethod(servers.postgresql)

    def psql(self, sql, **options):
        options = {"host": LOOPBACK, "port": self.tunnel.port, "user": "app", "dbname": "postgres",
                   "connect_timeout": 20, **options}
        return self.client("psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1",
                           " ".join(f"{k}={v}" for k, v in options.items()), stdin=sql)

    def check(self, tls, **options):
        self.assertEqual(
            self.psql("SELECT ssl, inet_client_addr() FROM pg_stat_ssl WHERE pid = "
                      "pg_backend_pid();", **options), f"{tls}|127.0.0.6\n")
        rows = self.psql("SELECT sum(n), count(*) FROM generate_series(1, 100000) AS n;"
                         "SELECT repeat('x', 1000) FROM generate_series(1, 2000);", **options)
        self.assertEqual(rows, "5000050000|100000\n" + ("x" * 1000 + "\n") * 2000)
        self.assert_counted(least_sent=2000000)

    def test_in_plain(self):
        self.check("f", sslmode="disable")

    def test_with_tls_of_its_own_inside(self):
        self.check("t", sslmode="verify-full", sslrootcert=f"{self.server.folder}/cert.pem")

    def test_copy_in(self):
        lines = "".join(f"{n}\t{'y' * 100}\n" for n in range(20000))
        out = self.psql("CREATE TEMP TABLE t (n int, text text);\nCOPY t FROM STDIN;\n" + lines +
                        "\\.\nSELECT count(*), sum(length(text)) FROM t;\n", sslmode="disable")
        self.assertEqual(out.splitlines()[-1], "20000|2000000")
        self.assert_counted(least_received=len(lines))


@unittest.skipUnless(pika, "needs python3-pika")
@unittest.skipUnless(os.path.exists("/usr/lib/rabbitmq/bin/rabbitmq-server"), "needs rabbitmq-server")
class RabbitMQ(Served):
    NAME, RECIPE, PORTS = "rabbitmq", staticmethod(servers.rabbitmq), 2

    def connect(self, **options):
        connection = pika.BlockingConnection(pika.ConnectionParameters(
            LOOPBACK, self.tunnel.port, blocked_connection_timeout=20, **options))
        self.addCleanup(lambda: connection.is_open and connection.close())
        return connection

    def test_messages_to_and_fro(self):
        connection = self.connect()
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        sent = [os.urandom(size) for size in (0, 1, 1000, 131072, 300000)] + [b"small"] * 500
        for body in sent:
            channel.basic_publish("", queue, body)
        got = []
        for _, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=20):
            got.append(body)
            if body is None or len(got) == len(sent):
                break
        self.assertEqual(got, sent)
        connection.close()
        self.assert_counted(430000, 430000)

    def test_heartbeats_keep_a_silent_connection(self):
        """Each side gives the other up after two seconds without a byte: they pass both ways."""
        connection = self.connect(heartbeat=1)
        connection.process_data_events(time_limit=6)
        channel = connection.channel()
        self.assertEqual(channel.queue_declare("", exclusive=True).method.message_count, 0)
        self.assertTrue(connection.is_open)

    def test_the_tools(self):
        url = ("--server", LOOPBACK, "--port", str(self.tunnel.port))
        if not have("amqp-publish"):
            self.skipTest("needs amqp-tools")
        self.client("amqp-declare-queue", *url, "-q", "tools")
        self.client("amqp-publish", *url, "-r", "tools", "-b", "hello")
        self.assertEqual(self.client("amqp-get", *url, "-q", "tools"), "hello")


@needs.program("mariadbd")
class MariaDB(Served):
    """Its server speaks first: the sidecar waits for a byte of the client's until it has learnt."""
    HOLD_S = 3.0
    NAME, RECIPE = "mariadb", staticmethod(servers.mariadb)
    OPTIONS = ("--detect-hold", f"{HOLD_S:.0f}s", "--workers", "1")

    def sql(self, text):
        return self.client("mariadb", "--no-defaults", "-h", LOOPBACK, "-P", self.tunnel.port, "-u",
                           "app", "--protocol=tcp", "--connect-timeout=30", "-N", "-B", "app",
                           stdin=text)

    def test_the_hold_is_learnt(self):
        """Three connections are held, the fourth is not; nor is one with much to say."""
        for number in range(4):
            begin = time.monotonic()
            self.assertEqual(self.sql(f"SELECT {number} + 1, CURRENT_USER();"), f"{number + 1}\tapp@%\n")
            took = time.monotonic() - begin
            if number < 3:
                self.assertGreaterEqual(took, self.HOLD_S)
        self.assertLess(took, self.HOLD_S)
        rows = "".join(f"INSERT INTO t VALUES ({n}, REPEAT('z', 100));\n" for n in range(2000))
        self.assertEqual(self.sql("CREATE TEMPORARY TABLE t (n INT, text TEXT);\nBEGIN;\n" + rows +
                                  "SELECT COUNT(*), SUM(LENGTH(text)) FROM t;\n"), "2000\t200000\n")
        self.assertEqual(len(self.sql("SELECT REPEAT('q', 1000000);")), 1000001)
        self.assert_counted(least_sent=1000000, least_received=len(rows))


if __name__ == "__main__":
    unittest.main()
