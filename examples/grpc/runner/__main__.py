"""gRPC through the mesh: three services in two languages, a canary by weight among calls of one
connection, streams, and retries by gRPC status. Run by ./examples/grpc/run."""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(1, os.path.dirname(HERE))

import passes  # noqa: E402
from shop import ADDRESSES, Shop  # noqa: E402
from support import command  # noqa: E402
from support.process import Failed  # noqa: E402


def options_read():
    parser = command.parser(
        "./examples/grpc/run", "Runs pillion-control, seven sidecars, an InventoryService, an "
        "OrderService and a UserService in two languages and a client of each on this machine, and "
        "shows what the canary does.")
    parser.add_argument("--calls", type=int, default=1000, metavar="N",
                        help="of each client in each pass, from 100 (default 1000)")
    parser.add_argument("--rate", type=int, default=200, metavar="N",
                        help="calls a second of each client (default 200)")
    options = parser.parse_args()
    if options.calls < 100:
        parser.error("--calls: at least 100, or weights cannot be told")
    if not 20 <= options.rate <= 400:
        parser.error("--rate: from 20 to 400")
    return options


def peers():
    """Where grpc-js is; fetched from npm, its versions pinned."""
    command.install("grpc")
    print("fetching grpc-js, where it is not there yet ...", flush=True)
    done = subprocess.run([f"{command.ROOT}/tests/peers/install", "node"], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"tests/peers/install node:\n{done.stdout}{done.stderr}")
    return f"{command.ROOT}/build/peers/node/node_modules"


def main():
    options = options_read()

    def show(folder, place, processes, programs, report):
        modules = peers()
        report.title(f"A shop over gRPC, {place.title}.")
        passes.run_all(Shop(folder, place, processes, programs, HERE, modules), options, report)
    return command.run("grpc", options, ADDRESSES, show)


if __name__ == "__main__":
    sys.exit(main())
