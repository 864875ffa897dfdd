"""What the commands of the examples have in common: options, building, one folder for a run, and an
end in which nothing stays behind, however it comes."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from support.places import Loopback, Namespaces
from support.process import Failed, Processes, make_folder
from support.report import Report

EXAMPLES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(EXAMPLES)
EXIT_FAILED, EXIT_USAGE = 1, 2
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def parser(prog, description):
    """With the options that every example takes."""
    made = argparse.ArgumentParser(
        prog=prog, description=description,
        epilog="Exit code 0: all that was promised was seen; 1: something was not; 2: wrong use, or "
        "packages are missing.")
    made.add_argument("--rootless", action="store_true",
                      help="no network namespaces and no capture, also as root")
    made.add_argument("--json", metavar="FILE", help="what was seen, for programs, too")
    made.add_argument("--programs", metavar="DIR",
                      help="take the programs from there instead of building a release")
    made.add_argument("--keep", action="store_true",
                      help="leave the folder with policy, state and logs, and say where it is")
    return made


def install(group):
    """Debian's packages of a group of tests/setup; ends the program where that cannot be."""
    if subprocess.run([f"{ROOT}/tests/setup", group], check=False).returncode != 0:
        sys.exit(EXIT_USAGE)


def build():
    """The folder with a release's programs, made here."""
    install("build")
    begin = time.monotonic()
    print("building a release ...", flush=True)
    for command in (["cmake", "--preset", "release"], ["cmake", "--build", "--preset", "release"]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-4000:]}")
    print(f"built in {time.monotonic() - begin:.0f} s\n", flush=True)
    return f"{ROOT}/build/release/bin"


def _interrupted(number, _frame):
    raise Failed(f"stopped by {signal.Signals(number).name}")


def _run(options, programs, folder, report, hosts, show):
    processes = Processes(make_folder(f"{folder}/logs"))
    try:
        place = (Namespaces if os.geteuid() == 0 and not options.rootless else Loopback)(
            folder, processes, hosts)
        report.seen_in(place)
        show(folder, place, processes, os.path.abspath(programs))
    finally:
        # A second Ctrl-C must not keep what runs from being stopped.
        for number in _STOPS:
            signal.signal(number, signal.SIG_IGN)
        bad = processes.stop()
        report.section("end", "The end")
        report.fact("stopped", not bad, "everything that was started has ended as it should",
                    "; ".join(bad))


def run(name, options, hosts, show):
    """show(folder, place, processes, programs, report), between a beginning and an end; its exit
    code. `hosts`: {name: address} that every pod finds."""
    for number in _STOPS:
        signal.signal(number, _interrupted)
    report = Report()
    with contextlib.ExitStack() as ending:
        try:
            programs = options.programs or build()
            folder = tempfile.mkdtemp(prefix=f"pillion-{name}-")
            if options.keep:
                ending.callback(print, f"kept: {folder}")
            else:
                ending.callback(shutil.rmtree, folder, ignore_errors=True)
            os.chmod(folder, 0o711)
            _run(options, programs, folder, report, hosts,
                 lambda *given: show(*given, report))
            good = report.good
        except Failed as error:
            print(f"\nfailed: {error}", file=sys.stderr)
            good = False
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report.summary(good), file, indent=1)
    return 0 if good else EXIT_FAILED
