"""Runs the tests of one file, a line each, and writes the counts to PILLION_COUNTS.

usage: one_file.py FILE [PATTERN...]     a pattern is a part of a test's name
"""

import importlib.util
import json
import os
import sys
import time
import traceback
import unittest


class Lines(unittest.TestResult):
    """ok, FAIL or SKIPPED, the test's name and its time; the trace under a FAIL."""

    def __init__(self, file):
        super().__init__()
        self.file = file
        self.passed = 0
        self.started = 0.0

    def startTest(self, test):
        super().startTest(test)
        self.started = time.monotonic()

    def _line(self, word, test, more=""):
        name = f"{self.file} {test.id().split('.', 1)[-1]}"
        print(f"{word:6}{name} ({time.monotonic() - self.started:.1f} s){more}", flush=True)

    def _failed(self, test, error):
        trace = "".join(traceback.format_exception(*error)).rstrip()
        self._line("FAIL", test, "\n    " + trace.replace("\n", "\n    "))

    def addSuccess(self, test):
        self.passed += 1
        self._line("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line("SKIPPED ", test, f": {reason}")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self._failed(test, error)

    def addError(self, test, error):
        super().addError(test, error)
        self._failed(test, error)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self._failed(subtest, error)


def _cases(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _cases(item)
        else:
            yield item


def main(path, patterns):
    file = os.path.basename(path)
    spec = importlib.util.spec_from_file_location(file.removesuffix(".py"), path)
    module = importlib.util.module_from_spec(spec)
    result = Lines(file)
    try:
        spec.loader.exec_module(module)
    except unittest.SkipTest as skip:
        print(f"SKIPPED {file}: {skip}")
        return write(Lines(file), skipped=1)
    chosen = unittest.TestSuite(
        case for case in _cases(unittest.defaultTestLoader.loadTestsFromModule(module))
        if not patterns or any(p in case.id() for p in patterns))
    chosen.run(result)
    return write(result, skipped=len(result.skipped))


def write(result, skipped):
    failed = len(result.failures) + len(result.errors)
    counts = {"passed": result.passed, "failed": failed, "skipped": skipped}
    with open(os.environ["PILLION_COUNTS"], "w", encoding="utf-8") as out:
        json.dump(counts, out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
