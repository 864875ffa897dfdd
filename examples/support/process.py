"""Processes of an example: each is started with the kernel's promise to end it when this program
ends, however that comes; and each is ended here by its own pid, newest first."""

import os
import signal
import subprocess

# Debian's: part of util-linux, which is always there.
_DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"]


class Failed(Exception):
    """The run cannot go on; the text is for people."""


class Processes:
    """What runs, with a log for each in one folder."""

    def __init__(self, logs):
        self.logs = logs
        self._running = []

    def start(self, name, command, user=None, inside=(), stdout=None, ends=False, env=None,
              cwd=None):
        """inside: a command that leads into the place where this one is to run; ends: it will by
        itself; env: what is added to our environment."""
        rights = list(_DIES_WITH_US)
        if user is not None:
            rights += ["--reuid", str(user), "--regid", str(user), "--clear-groups"]
        with open(f"{self.logs}/{name}.log", "ab") as log:
            process = subprocess.Popen([*inside, *rights, *map(str, command)],
                                       stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                                       start_new_session=True, cwd=cwd,
                                       env={**os.environ, **(env or {})})
        process.name, process.ends = name, ends
        self._running.append(process)
        return process

    def log(self, name):
        with open(f"{self.logs}/{name}.log", encoding="utf-8", errors="replace") as file:
            return file.read()

    def check(self):
        """Nothing has ended that should run."""
        for process in self._running:
            if process.poll() is not None and not process.ends:
                raise Failed(f"{process.name} ended with {process.returncode}:\n"
                             f"{self.log(process.name)[-3000:]}")

    def finish(self, process, timeout_s):
        """Waits for one that ends by itself; what it has to say is an error."""
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"{process.name} did not end") from None
        self._running.remove(process)
        if code != 0:
            raise Failed(f"{process.name} ended with {code}:\n{self.log(process.name)[-2000:]}")

    def stop(self, grace_s=8):
        """SIGTERM to all at once; what is still there after grace_s gets SIGKILL. Returns a line for
        each that did not end as it should."""
        for process in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        bad = []
        for process in reversed(self._running):
            try:
                code = process.wait(grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                bad.append(f"{process.name} did not end within {grace_s} s")
                continue
            if code not in (0, -signal.SIGTERM):
                bad.append(f"{process.name} ended with {code}: {self.log(process.name)[-1000:]}")
        self._running.clear()
        return bad


def private_memory_kb(pid):
    """Memory that would be free again if that process ended."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


def make_folder(path):
    """One that others may pass through, so that a sidecar reaches its files, but not list."""
    os.mkdir(path)
    os.chmod(path, 0o711)
    return path
