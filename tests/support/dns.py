"""A name server that says what it is told, over UDP and TCP on one port of loopback."""

import socket
import socketserver
import struct
import threading

from support.net import LOOPBACK, free_port

A, AAAA = 1, 28
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


def _name_end(packet, at):
    while packet[at]:
        at += packet[at] + 1
    return at + 1


class Dns:
    """`names`: {name: answer}; an answer is a list of addresses, or one of the codes above, or None
    for silence. What is not in it is NXDOMAIN. `asked` counts questions by (name, type)."""

    def __init__(self, **options):
        self.names = {}
        self.ttl = options.get("ttl", 1)
        self.truncates = False  # over UDP; then only TCP has the answer
        self.asked, self.over_tcp = {}, 0
        self.port = free_port()
        dns = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                packet, sock = self.request
                answer = dns.answer(packet, dns.truncates)
                if answer is not None:
                    sock.sendto(answer, self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            def handle(self):
                while len(size := self.rfile.read(2)) == 2:
                    answer = dns.answer(self.rfile.read(struct.unpack("!H", size)[0]), False)
                    dns.over_tcp += 1
                    if answer is not None:
                        self.wfile.write(struct.pack("!H", len(answer)) + answer)

        self._servers = [socketserver.ThreadingUDPServer((LOOPBACK, self.port), Udp),
                         socketserver.ThreadingTCPServer((LOOPBACK, self.port), Tcp, False)]
        self._servers[1].allow_reuse_address = True
        self._servers[1].daemon_threads = True
        self._servers[1].server_bind()
        self._servers[1].server_activate()
        self._threads = [threading.Thread(target=server.serve_forever, args=(0.05,))
                         for server in self._servers]

    @property
    def address(self):
        """What --dns-server takes."""
        return f"{LOOPBACK}:{self.port}"

    def answer(self, packet, truncated):
        number, = struct.unpack_from("!H", packet)
        end = _name_end(packet, 12)
        kind, = struct.unpack_from("!H", packet, end)
        labels, at = [], 12
        while packet[at]:
            labels.append(packet[at + 1:at + 1 + packet[at]].decode())
            at += packet[at] + 1
        name = ".".join(labels).lower()
        self.asked[(name, kind)] = self.asked.get((name, kind), 0) + 1
        told = self.names.get(name, NXDOMAIN)
        if told is None:
            return None
        records = []
        if isinstance(told, list) and not truncated:
            family = {A: socket.AF_INET, AAAA: socket.AF_INET6}.get(kind)
            records = [socket.inet_pton(family, address) for address in told
                       if family is not None and (":" in address) == (family == socket.AF_INET6)]
        code = NOERROR if isinstance(told, list) else told
        flags = 0x8580 | (0x0200 if truncated else 0) | code
        head = struct.pack("!HHHHHH", number, flags, 1, len(records), 0, 0)
        body = b"".join(struct.pack("!HHHIH", 0xC00C, kind, 1, self.ttl, len(record)) + record
                        for record in records)
        return head + packet[12:end + 4] + body

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        for server, thread in zip(self._servers, self._threads):
            server.shutdown()
            server.server_close()
            thread.join()
