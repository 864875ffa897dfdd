"""pillion-init in network namespaces of its own: what is redirected to the sidecar, with which
original destination, and what is left alone, over IPv4 and IPv6.

    pod (10.99.0.1, fd99::1) --- eth0 --- peer (10.99.0.2, fd99::2, and the way to 10.96.0.0/16)

The sidecar is played by two listeners in the pod, owned by its user."""

import contextlib
import socket
import struct
import subprocess
import unittest

from support import needs, netns
from support.program import binary, run

SIDECAR = 1337
APP = 0
OUTBOUND, INBOUND, METRICS = 15001, 15006, 15020
POD = ("10.99.0.1", "fd99::1")
PEER = ("10.99.0.2", "fd99::2")
SERVICE = ("10.96.0.10", "fd96::10")  # addresses that nobody has
LOOPBACK = ("127.0.0.1", "::1")
DIALS_FROM = ("127.0.0.6", "::6")
ANY = ("0.0.0.0", "::")
SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h; the same number for IPv6
FAMILIES = {"IPv4": 0, "IPv6": 1}


def original_destination(sock):
    if sock.family == socket.AF_INET:
        raw = sock.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, 16)
        return socket.inet_ntop(socket.AF_INET, raw[4:8]), struct.unpack("!H", raw[2:4])[0]
    raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack("!H", raw[2:4])[0]


@needs.root
@needs.program("pillion-init")
@needs.program("nft")
class Capture(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.open = stack.enter_context
        self.pod, self.peer = self.open(netns.Namespace()), self.open(netns.Namespace())
        netns.wire(self.pod, self.peer)
        for end, (four, six) in ((self.pod, POD), (self.peer, PEER)):
            end.ip("addr", "add", f"{four}/24", "dev", "eth0")
            end.ip("addr", "add", f"{six}/64", "dev", "eth0", "nodad")
        self.pod.ip("route", "add", "10.96.0.0/16", "via", PEER[0])
        self.pod.ip("route", "add", "fd96::/64", "via", PEER[1])

    def init(self, *options, expect=0, user=SIDECAR):
        given = () if user is None else ("--user", str(user))
        code, out, err = run(self.pod.exec(binary("pillion-init"), *given, *options))
        self.assertEqual(code, expect, out + err)
        return out + err

    def ruleset(self, *options):
        return subprocess.run(self.pod.exec("nft", "-s", *options, "list", "ruleset"), check=True,
                              capture_output=True, text=True, timeout=20).stdout

    def capture(self, *options):
        """The rules, and what listens: by name, for each family."""
        self.init(*options)
        self.listeners = {}
        for index in FAMILIES.values():
            for name, where, address, port, user in (
                    ("outbound", self.pod, LOOPBACK, OUTBOUND, SIDECAR),
                    ("inbound", self.pod, ANY, INBOUND, SIDECAR),
                    ("metrics", self.pod, ANY, METRICS, SIDECAR),
                    ("app", self.pod, ANY, 8000, APP),
                    ("skipped app", self.pod, ANY, 3306, APP),
                    ("peer", self.peer, ANY, 8000, APP),
                    ("skipped peer", self.peer, ANY, 3306, APP)):
                self.listeners[name, index] = self.open(where.listen(address[index], port, user))

    def arrives(self, at, where, to, port, original=None, user=APP, source=None):
        """A connection from `where` reaches that listener, with that original destination."""
        for family, index in FAMILIES.items():
            with self.subTest(family=family, at=at, to=to[index], port=port), \
                    where.connect(to[index], port, user, source and source[index]), \
                    self.listeners[at, index].accept()[0] as got:
                if original is not None:
                    self.assertEqual(original_destination(got), (original[index], port))
                if source is not None:
                    self.assertEqual(got.getpeername()[0], source[index])

    def test_outbound_is_redirected_with_its_destination(self):
        self.capture()
        self.arrives("outbound", self.pod, PEER, 8000, original=PEER)
        self.arrives("outbound", self.pod, SERVICE, 80, original=SERVICE)

    def test_inbound_is_redirected_with_its_destination(self):
        self.capture()
        self.arrives("inbound", self.peer, POD, 8000, original=POD)
        self.arrives("inbound", self.peer, POD, 1, original=POD)

    def test_what_the_sidecar_sends_is_not_captured(self):
        self.capture()
        self.arrives("peer", self.pod, PEER, 8000, user=SIDECAR)

    def test_the_sidecar_reaches_its_workload(self):
        self.capture()
        self.arrives("app", self.pod, POD, 8000, user=SIDECAR, source=DIALS_FROM)

    def test_a_workload_that_is_balanced_to_itself_is_inbound(self):
        self.capture()
        self.arrives("inbound", self.pod, POD, 8000, original=POD, user=SIDECAR)

    def test_the_sidecar_reaches_loopback(self):
        self.capture()
        self.arrives("app", self.pod, LOOPBACK, 8000, user=SIDECAR)

    def test_the_workload_talks_to_itself(self):
        self.capture()
        self.arrives("app", self.pod, LOOPBACK, 8000)
        self.arrives("app", self.pod, POD, 8000)

    def test_the_metrics_port_is_the_sidecars(self):
        self.capture()
        self.arrives("metrics", self.peer, POD, METRICS)

    def test_skipped_ports_stay_as_they_are(self):
        self.capture("--skip-inbound-ports", "22,3306", "--skip-outbound-ports", "3306")
        self.arrives("skipped app", self.peer, POD, 3306)
        self.arrives("inbound", self.peer, POD, 8000, original=POD)
        self.arrives("skipped peer", self.pod, PEER, 3306)
        self.arrives("outbound", self.pod, PEER, 8000, original=PEER)

    def test_skipped_networks_stay_as_they_are(self):
        self.capture("--skip-outbound-cidrs", "10.99.7.7/16,fd99::/64")
        self.arrives("peer", self.pod, PEER, 8000)
        self.arrives("outbound", self.pod, SERVICE, 8000, original=SERVICE)

    def test_udp_is_left_alone(self):
        self.capture()
        for index in FAMILIES.values():
            family = netns.family_of(PEER[index])
            with self.peer.socket(family, socket.SOCK_DGRAM) as there, \
                    self.pod.socket(family, socket.SOCK_DGRAM) as here:
                there.bind((PEER[index], 8000))
                there.settimeout(3)
                here.sendto(b"hello", (PEER[index], 8000))
                self.assertEqual(there.recv(16), b"hello")

    def test_other_ports(self):
        self.init("--outbound-port", "25001", "--inbound-port", "25006", "--metrics-port", "25020")
        for index in FAMILIES.values():
            self.listeners = {
                ("outbound", index): self.open(self.pod.listen(LOOPBACK[index], 25001, SIDECAR)),
                ("inbound", index): self.open(self.pod.listen(ANY[index], 25006, SIDECAR))}
            with self.pod.connect(SERVICE[index], 80), \
                    self.listeners["outbound", index].accept()[0]:
                pass
            with self.peer.connect(POD[index], 15020), \
                    self.listeners["inbound", index].accept()[0]:
                pass

    def test_check_knows_exactly_these_rules(self):
        skips = ("--skip-inbound-ports", "81,80", "--skip-outbound-ports", "443,443",
                 "--skip-outbound-cidrs", "10.0.0.0/9,10.128.0.0/9,10.1.2.3,0.0.0.0/0,::/0,fe80::/10,"
                 "2001:db8::1,fd00:0:0:1::/64")
        self.assertIn("there is no table inet pillion", self.init("--check", expect=1))
        self.init(*skips)
        self.init(*skips, "--check")
        self.assertIn("other capture rules are in force", self.init("--check", expect=1))
        self.assertIn("wanted \"meta skuid 7 oif", self.init(*skips, "--check", expect=1, user=7))
        self.pod.ip("addr", "del", "::6/128", "dev", "lo")
        self.assertIn("::6/128 is missing on lo", self.init(*skips, "--check", expect=1))
        self.init(*skips)
        subprocess.run(self.pod.exec("nft", "insert rule inet pillion output return"), check=True,
                       timeout=20)
        self.assertIn("there is \"return\"", self.init(*skips, "--check", expect=1))

    def test_print_is_what_nft_takes_and_lists(self):
        printed = self.init("--print", "--skip-inbound-ports", "22")
        self.assertEqual(self.ruleset(), "")
        subprocess.run(self.pod.exec("nft", "-f", "-"), input=printed, text=True, check=True, timeout=20)
        self.assertEqual(self.ruleset("-y"), printed)

    def test_a_second_run_changes_nothing(self):
        self.capture("--skip-inbound-ports", "22")
        before = self.ruleset()
        with self.pod.connect(SERVICE[0], 80) as client, \
                self.listeners["outbound", 0].accept()[0] as server:
            self.init("--skip-inbound-ports", "22")
            self.assertEqual(self.ruleset(), before)
            client.sendall(b"still here")
            self.assertEqual(server.recv(64), b"still here")
        self.arrives("outbound", self.pod, PEER, 8000, original=PEER)

    def test_a_run_replaces_what_stood_there(self):
        self.capture("--skip-outbound-ports", "8000")
        self.arrives("peer", self.pod, PEER, 8000)
        self.init()
        self.arrives("outbound", self.pod, PEER, 8000, original=PEER)

    def test_remove_takes_all_away_and_nothing_else(self):
        subprocess.run(self.pod.exec("nft", "add table inet other"), check=True, timeout=20)
        self.capture()
        self.init("--remove", user=None)
        self.assertEqual(self.ruleset(), "table inet other {\n}\n")
        self.assertNotIn("::6/128", self.pod.ip("addr", "show", "lo"))
        self.arrives("peer", self.pod, PEER, 8000)
        self.arrives("app", self.peer, POD, 8000)
        self.init("--remove", user=None)

    def test_without_ipv6_the_rest_is_captured(self):
        subprocess.run(self.pod.exec("sh", "-c", "for off in /proc/sys/net/ipv6/conf/*/disable_ipv6;"
                                     " do echo 1 > $off; done"), check=True, timeout=20)
        self.assertIn("only IPv4 is captured", self.init())
        self.init("--check")
        with self.pod.listen(LOOPBACK[0], OUTBOUND, SIDECAR) as sidecar, \
                self.pod.connect(SERVICE[0], 80), sidecar.accept()[0] as got:
            self.assertEqual(original_destination(got), (SERVICE[0], 80))
        self.init("--remove", user=None)

    def test_without_the_right_it_says_what_is_needed(self):
        for mode in ((), ("--check",), ("--remove",)):
            code, _, err = run(self.pod.exec(
                "setpriv", "--reuid", "65534", "--clear-groups", "--bounding-set", "-all",
                binary("pillion-init"), "--user", "5", *mode))
            self.assertEqual(code, 1, err)
            self.assertIn("the capability NET_ADMIN in this network namespace is needed", err)
        self.assertEqual(self.ruleset(), "")

    def test_wrong_options_are_refused_by_name(self):
        self.assertIn("--user is needed", self.init(user=None, expect=2))
        self.assertIn("--user: \"0\" is not allowed", self.init(user=0, expect=2))
        self.assertIn("\"10.0.0.0/40\": the prefix is 0 to 32",
                      self.init("--skip-outbound-cidrs", "10.0.0.0/40", expect=2))
        self.assertEqual(self.ruleset(), "")
