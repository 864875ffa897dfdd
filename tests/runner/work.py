"""What every suite uses: counting, building, running a program, two jobs at a time."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
JOBS = len(os.sched_getaffinity(0))
_PRINT = threading.Lock()


class Failure(Exception):
    """Ends a suite: what follows could not mean anything."""


@dataclasses.dataclass
class Options:
    arguments: list  # what followed the suite's name
    again: bool = False  # --again: new seeds, not the recorded ones


@dataclasses.dataclass
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other):
        return Counts(self.passed + other.passed, self.failed + other.failed,
                      self.skipped + other.skipped)

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def say(text):
    """A line, or a block of lines, that another job's output does not cut."""
    with _PRINT:
        print(text, flush=True)


def report(name, seconds, ok, output=""):
    """One test's line; what it printed is shown only if it failed."""
    line = f"{'ok' if ok else 'FAIL':6}{name} ({seconds:.1f} s)"
    say(line if ok else line + "\n" + "\n".join(f"    {row}" for row in output.splitlines()))
    return Counts(passed=1) if ok else Counts(failed=1)


def setup():
    """tests/setup test: fast when nothing is missing. Exits as it does when it cannot install."""
    code = subprocess.run([f"{ROOT}/tests/setup", "test"], stdin=subprocess.DEVNULL,
                          check=False).returncode
    if code != 0:
        sys.exit(code)


def run(command, timeout=None, env=None):
    """(exit code, output): stdout and stderr in one; a time-out is exit code 124."""
    try:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, text=True,
                              errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=timeout, env={**os.environ, **(env or {})}, check=False)
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        partial = late.stdout or b""
        return 124, partial.decode(errors="replace") + f"\nno end after {timeout} s"


def counted(command, env=None):
    """Runs a tool of ours that shows its own lines and leaves its counts in a file."""
    with tempfile.TemporaryDirectory() as folder:
        counts = os.path.join(folder, "counts")
        sys.stdout.flush()
        code = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False,
                              env={**os.environ, **(env or {}), "PILLION_COUNTS": counts}).returncode
        if not os.path.exists(counts):
            raise Failure(f"{os.path.relpath(command[0], ROOT)} ended with {code} and no counts")
        with open(counts, encoding="utf-8") as file:
            return Counts(**json.load(file))


def configure(preset, *settings):
    """CMake's configuring step; ccache, where there is one, makes the second build cheap."""
    if subprocess.run(["which", "ccache"], capture_output=True, check=False).returncode == 0:
        settings = (*settings, "-DCMAKE_C_COMPILER_LAUNCHER=ccache")
    code, output = run(["cmake", "--preset", preset, *settings])
    if code != 0:
        raise Failure(f"cmake --preset {preset}\n{output}")


def build(preset, *targets, settings=()):
    """Configures and builds a preset (or targets of it); the folder build/PRESET."""
    configure(preset, *settings)
    command = ["cmake", "--build", "--preset", preset, "-j", str(JOBS)]
    if targets:
        command += ["--target", *targets]
    code, output = run(command)
    if code != 0:
        rows = [row for row in output.splitlines() if len(row) < 400]  # not the command lines
        first = next((i for i, row in enumerate(rows) if "FAILED:" in row), max(0, len(rows) - 60))
        raise Failure("\n    ".join([f"build of {preset}", *rows[first:first + 60]]))
    return os.path.join(ROOT, "build", preset)


def parallel(function, items, jobs=JOBS):
    """The sum of the counts of function(item), `jobs` at a time."""
    total = Counts()
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        for counts in pool.map(function, items):
            total += counts
    return total
