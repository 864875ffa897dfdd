"""Brokers and databases through the mesh, without a line of configuration for their protocols: what
is shown is in docs/opaque-tcp.md. Run by ./examples/databases/run."""

import os
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(1, os.path.dirname(HERE))

import passes  # noqa: E402
from mesh import SERVERS, Databases  # noqa: E402
from support import command  # noqa: E402


def main():
    options = command.parser(
        "./examples/databases/run", "Runs Redis, PostgreSQL, RabbitMQ and MariaDB from Debian's "
        "packages, each with a sidecar, and their own clients beside another, and shows what the "
        "mesh does for them.").parse_args()
    command.install("databases")

    def show(folder, place, processes, programs, report):
        report.title(f"Brokers and databases, {place.title}.")
        passes.run_all(Databases(folder, place, processes, programs, HERE), report)
    return command.run("databases", options, {s.name: s.service for s in SERVERS}, show)


if __name__ == "__main__":
    sys.exit(main())
