"""probe.py SERVER HOST PORT COUNT: connects so often, one after the other, and prints as JSON how many
microseconds it took each time until the server had answered with its first byte. Through a sidecar
connecting alone says nothing: that is accepted before anybody else knows of it."""

import json
import socket
import sys
import time

# What a client says first; empty: its server does.
_HELLO = {"redis": b"PING\r\n", "postgresql": bytes.fromhex("0000000804d2162f"),
          "rabbitmq": b"AMQP\0\0\x09\x01", "mariadb": b""}


def once(host, port, hello):
    begin = time.perf_counter()
    with socket.create_connection((host, port), timeout=20) as sock:
        sock.sendall(hello)
        if not sock.recv(1):
            raise SystemExit(f"{host}:{port} closed the connection")
        return round((time.perf_counter() - begin) * 1e6)


def main():
    server, host, port, count = sys.argv[1:]
    print(json.dumps([once(host, int(port), _HELLO[server]) for _ in range(int(count))]))


if __name__ == "__main__":
    main()
