"""The main job on this machine: a canary by weights through mutual TLS, in four passes; what they
show is in README.md. Run by ./examples/canary/run."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import passes
from mesh import Mesh
from places import Loopback, Namespaces
from process import Failed, Processes, make_folder
from report import Report

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(os.path.dirname(HERE))
EXIT_FAILED, EXIT_USAGE = 1, 2


def options_read():
    parser = argparse.ArgumentParser(
        prog="./examples/canary/run", description="Runs pillion-control, six sidecars, five "
        "instances of order-service and a client on this machine, and shows what the canary does.",
        epilog="Exit code 0: all that the passes promise was seen; 1: something was not; 2: wrong "
        "use, or packages are missing.")
    parser.add_argument("--rootless", action="store_true",
                        help="no network namespaces and no capture, also as root")
    parser.add_argument("--requests", type=int, default=2000, metavar="N",
                        help="of pass 1, from 400; the others follow it (default 2000)")
    parser.add_argument("--rate", type=int, default=400, metavar="N",
                        help="requests a second (default 400)")
    parser.add_argument("--json", metavar="FILE", help="what was seen, for programs, too")
    parser.add_argument("--programs", metavar="DIR",
                        help="take the programs from there instead of building a release")
    parser.add_argument("--keep", action="store_true",
                        help="leave the folder with policy, state and logs, and say where it is")
    options = parser.parse_args()
    if options.requests < 400:
        parser.error("--requests: at least 400, or no instance is asked often enough to fail")
    if options.requests > 20 * options.rate:
        parser.error("--requests: at most 20 s of them, less than the ejection of pass 1 lasts")
    if not 50 <= options.rate <= 800:
        parser.error("--rate: from 50 to 800: a sidecar's recorder is read while requests flow")
    return options


def build():
    """The folder with a release's programs, made here."""
    if subprocess.run([f"{ROOT}/tests/setup", "build"], check=False).returncode != 0:
        sys.exit(EXIT_USAGE)
    begin = time.monotonic()
    print("building a release ...", flush=True)
    for command in (["cmake", "--preset", "release"], ["cmake", "--build", "--preset", "release"]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-4000:]}")
    print(f"built in {time.monotonic() - begin:.0f} s\n", flush=True)
    return f"{ROOT}/build/release/bin"


def interrupted(number, _frame):
    raise Failed(f"stopped by {signal.Signals(number).name}")


def run(options, programs, folder, report):
    """False when something that was promised was not seen."""
    processes = Processes(make_folder(f"{folder}/logs"))
    try:
        place = (Namespaces if os.geteuid() == 0 and not options.rootless else Loopback)(
            folder, processes)
        report.title(place)
        passes.run_all(Mesh(folder, place, processes, programs, HERE), options, report)
    finally:
        # A second Ctrl-C must not keep what runs from being stopped.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        bad = processes.stop()
        report.section("end", "The end")
        report.fact("stopped", not bad, "everything that was started has ended as it should",
                    "; ".join(bad))
    return report.good


def main():
    options = options_read()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    report = Report()
    folder = None
    try:
        programs = options.programs or build()
        folder = tempfile.mkdtemp(prefix="pillion-canary-")
        os.chmod(folder, 0o711)
        good = run(options, os.path.abspath(programs), folder, report)
    except Failed as error:
        print(f"\nfailed: {error}", file=sys.stderr)
        good = False
    finally:
        if folder and options.keep:
            print(f"kept: {folder}")
        elif folder:
            shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report.summary(good), file, indent=1)
    return 0 if good else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
