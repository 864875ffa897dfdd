"""Programs under test: where they are, starting them, and ending exactly what was started."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile

from support.net import wait_for, wait_for_port

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Set by ./tests/run: the build that this run is about.
BUILD = os.environ.get("PILLION_BUILD", f"{ROOT}/build/dev")
_STOP_S = 40  # more than a drain may last
# A sanitizer must end the program and say so, and a leak is a failure like another.
_SANITIZERS = {
    "ASAN_OPTIONS": "abort_on_error=0:exitcode=99:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:exitcode=99",
    "TSAN_OPTIONS": "exitcode=99:halt_on_error=1",
}


def binary(name):
    """The path of one of our programs in the build under test."""
    return f"{BUILD}/bin/{name}"


def have(name):
    """Whether a helper program of another project is installed (Debian keeps some in sbin)."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


class Program:
    """One running program; its output goes to a file. Ends with the with-block, by its own pid.

    stop() asserts that it ended as it should: with `expect` (0, or the signal's negative number),
    and without a sanitizer's report in its output."""

    def __init__(self, command, env=None, cwd=None, name=None, port=None, stdin=subprocess.DEVNULL):
        self.command = [str(part) for part in command]
        self.name = name or os.path.basename(self.command[0])
        self._log = tempfile.NamedTemporaryFile(prefix=f"{self.name}-", suffix=".log")
        self.process = subprocess.Popen(
            self.command, stdin=stdin, stdout=self._log, stderr=subprocess.STDOUT, cwd=cwd or ROOT,
            env={**os.environ, **_SANITIZERS, **(env or {})}, start_new_session=True)
        if port is not None:
            try:
                wait_for(lambda: self.ended() or _listens(port), what=f"{self.name} on port {port}")
                assert not self.ended(), f"{self.name} ended at start:\n{self.output()}"
            except BaseException:
                self.kill()
                raise

    @property
    def pid(self):
        return self.process.pid

    def ended(self):
        return self.process.poll() is not None

    def output(self):
        """Everything that it wrote until now."""
        with open(self._log.name, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_for_output(self, text, timeout_s=10.0):
        wait_for(lambda: text in self.output() or self.ended(), timeout_s,
                 f"{text!r} in the output of {self.name}:\n{self.output()}")
        assert text in self.output(), f"{self.name} ended without {text!r}:\n{self.output()}"

    def send_signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout_s=_STOP_S):
        """Its exit code, once it ends by itself."""
        return self.process.wait(timeout_s)

    def kill(self):
        """SIGKILL: nothing about its end is asserted."""
        if not self.ended():
            self.process.kill()
        self.process.wait()

    def stop(self, number=signal.SIGTERM, expect=(0,), timeout_s=_STOP_S):
        if not self.ended():
            self.send_signal(number)
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {timeout_s} s of signal {number}:"
                                 f"\n{self.output()[-4000:]}") from None
        output = self.output()
        assert code in expect, f"{self.name} ended with {code}:\n{output[-8000:]}"
        assert "Sanitizer" not in output, f"{self.name}:\n{output[-8000:]}"

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.kill()
            value.add_note(f"--- output of {self.name} (end) ---\n{self.output()[-4000:]}")
        elif not self.ended():
            self.stop()


def _listens(port):
    with contextlib.suppress(AssertionError):
        wait_for_port(port, timeout_s=0)
        return True
    return False


def run(command, timeout_s=60, env=None, stdin=""):
    """(exit code, stdout, stderr) of a program that ends by itself."""
    done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True, text=True,
                          errors="replace", timeout=timeout_s, cwd=ROOT, check=False,
                          env={**os.environ, **_SANITIZERS, **(env or {})})
    return done.returncode, done.stdout, done.stderr


@contextlib.contextmanager
def temp_folder():
    """A folder that is gone afterwards, whatever happened."""
    path = tempfile.mkdtemp(prefix="pillion-test-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
