"""The main job on this machine: a canary by weights through mutual TLS, in four passes; what they
show is in README.md. Run by ./examples/canary/run."""

import os
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(1, os.path.dirname(HERE))

import passes  # noqa: E402
from mesh import Canary  # noqa: E402
from support import command  # noqa: E402

SERVICE_ADDRESS = "10.96.0.10"  # in policy/workloads.yaml


def options_read():
    parser = command.parser(
        "./examples/canary/run", "Runs pillion-control, six sidecars, five instances of "
        "order-service and a client on this machine, and shows what the canary does.")
    parser.add_argument("--requests", type=int, default=2000, metavar="N",
                        help="of pass 1, from 400; the others follow it (default 2000)")
    parser.add_argument("--rate", type=int, default=400, metavar="N",
                        help="requests a second (default 400)")
    options = parser.parse_args()
    if options.requests < 400:
        parser.error("--requests: at least 400, or no instance is asked often enough to fail")
    if options.requests > 20 * options.rate:
        parser.error("--requests: at most 20 s of them, less than the ejection of pass 1 lasts")
    if not 50 <= options.rate <= 800:
        parser.error("--rate: from 50 to 800: a sidecar's recorder is read while requests flow")
    return options


def main():
    options = options_read()

    def show(folder, place, processes, programs, report):
        report.title(f"The canary of order-service, {place.title}.")
        passes.run_all(Canary(folder, place, processes, programs, HERE), options, report)
    return command.run("canary", options, {"order-service": SERVICE_ADDRESS}, show)


if __name__ == "__main__":
    sys.exit(main())
