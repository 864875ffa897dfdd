"""Runs the tests in Python: tests/FOLDER/NAME_test.py, unittest cases, a process for each file.

A file says with PRESETS = ("asan", "release") which builds it wants to be run on; without that line
it is asan alone. The build's folder reaches the tests as PILLION_BUILD (support/program.py).
"""

import ast
import glob
import json
import os
import re
import sys
import tempfile

from work import ROOT, Counts, build, parallel, run, say

TIMEOUT_S = 900


def _presets(path):
    with open(path, encoding="utf-8") as file:
        found = re.search(r"^PRESETS = (\(.*\))$", file.read(), re.M)
    return ast.literal_eval(found.group(1)) if found else ("asan",)


def _one(path, folder, patterns):
    """One file in its own process, which writes its counts where it is told."""
    with tempfile.TemporaryDirectory() as temporary:
        counts = os.path.join(temporary, "counts")
        code, output = run(
            [sys.executable, "-B", f"{ROOT}/tests/runner/one_file.py", path, *patterns],
            timeout=TIMEOUT_S,
            env={"PILLION_BUILD": folder, "PILLION_COUNTS": counts,
                 "PYTHONPATH": f"{ROOT}/tests"})
        say(output.rstrip("\n"))
        if not os.path.exists(counts):
            say(f"FAIL  {os.path.relpath(path, ROOT)} ended with {code}")
            return Counts(failed=1)
        with open(counts, encoding="utf-8") as file:
            return Counts(**json.load(file))


def run_suite(folder, preset, patterns):
    files = [p for p in sorted(glob.glob(f"{ROOT}/tests/{folder}/*_test.py")) if preset in _presets(p)]
    named = [p for p in files if any(os.path.basename(p).startswith(n) for n in patterns)]
    if named:  # a pattern that begins a file's name chooses the file, any other one its tests
        files, patterns = named, []
    if not files:
        return Counts()
    build_folder = build(preset)
    # Files that load the machine must not be measured beside each other.
    jobs = 1 if preset == "release" else 2
    return parallel(lambda path: _one(path, build_folder, patterns), files, jobs)
