"""The command line of ./tests/run: picks suites, runs them in order, adds up, prints one end line."""

import os
import sys
import time

from suites import SUITES
from work import ROOT, Counts, Failure, Options, setup

USAGE = """usage: ./tests/run                     every suite (what continuous integration does)
       ./tests/run SUITE [ARGUMENT...] one suite
       ./tests/run --again             unit, simulator with new seeds, wire and black-box once more

Installs what is missing (tests/setup), builds what a suite needs, runs it, prints its time. The last
line is "N passed, N failed, N skipped". Exit code 0: nothing failed. A test that needs root is
skipped without it; with PILLION_REQUIRE_ROOT=1 a skip is a failure.
"""


def show_help():
    print(USAGE)
    print("suites:")
    for suite in SUITES:
        if suite.exists():
            print(f"  {suite.name:8}{suite.meaning}")
            if suite.usage:
                print(f"  {'':8}{suite.usage}")


def run(suite, options):
    """One suite, with its time. What stops it as a whole (a build that fails) is one failure."""
    print(f"== {suite.name}: {suite.meaning}", flush=True)
    started = time.monotonic()
    try:
        counts = suite.run(options)
    except Failure as failure:
        print(f"FAIL  {failure}")
        counts = Counts(failed=1)
    print(f"== {suite.name}: {counts}, {time.monotonic() - started:.0f} s\n", flush=True)
    return counts


def main(arguments):
    if "--help" in arguments or "-h" in arguments:
        show_help()
        return 0
    os.chdir(ROOT)
    present = [suite for suite in SUITES if suite.exists()]
    again = arguments == ["--again"]
    if again:
        chosen, rest = [suite for suite in present if suite.again], []
    elif arguments:
        chosen, rest = [suite for suite in present if suite.name == arguments[0]], arguments[1:]
        if not chosen:
            print(f"tests/run: {arguments[0]!r} is no suite; it must be one of "
                  f"{' '.join(suite.name for suite in present)}", file=sys.stderr)
            return 2
    else:
        chosen, rest = [suite for suite in present if suite.in_all], []
    setup()
    total, started = Counts(), time.monotonic()
    for suite in chosen:
        total += run(suite, Options(arguments=rest, again=again))
    if total.skipped and os.environ.get("PILLION_REQUIRE_ROOT") == "1":
        print(f"PILLION_REQUIRE_ROOT=1: {total.skipped} skipped tests are failures")
        total.failed += total.skipped
    print(f"{len(chosen)} suites in {time.monotonic() - started:.0f} s")
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
