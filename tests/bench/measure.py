"""What is measured, and how: CPU time from the scheduler, memory and calls from the kernel,
instructions from valgrind, allocations from a preloaded counter. Nothing is estimated."""

import glob
import json
import mmap
import os
import re
import signal
import statistics
import subprocess
import tempfile
import time

CORES = sorted(os.sched_getaffinity(0))
LOAD_CORE, PROXY_CORE = CORES[0], CORES[-1]


def pinned(core, command):
    return ["taskset", "-c", str(core), *command]


def family(pid):
    """The process and everything that it forked, now."""
    children = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        parent = int(text.rsplit(")", 1)[1].split()[1])
        children.setdefault(parent, []).append(int(path.split("/")[2]))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def cpu_ns(pids):
    """Time on a core of all threads, user and system, to the nanosecond."""
    total = 0
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            with open(path, encoding="utf-8") as file:
                total += int(file.read().split()[0])
    return total


def private_kb(pids):
    """Memory that nobody shares: what one more proxy on this machine costs."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
            total += sum(int(n) for n in re.findall(r"^Private_\w+:\s+(\d+) kB", file.read(), re.M))
    return total


class Load:
    """bench-load with fixed options; run() gives its JSON."""

    def __init__(self, programs, port, *options):
        self.command = pinned(LOAD_CORE, [f"{programs}/bench-load", "--port", str(port), *options])

    def run(self, requests, *more):
        done = subprocess.run([*self.command, "--requests", str(requests), *more],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(done.args)}: {done.stdout} {done.stderr}")
        return json.loads(done.stdout)

    def start(self, requests):
        """The same without waiting: a process that prints the JSON."""
        return subprocess.Popen([*self.command, "--requests", str(requests)], text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def hold(self, connections):
        """Opens connections, one request each, and keeps them; the caller closes stdin to end."""
        process = subprocess.Popen([*self.command, "--connections", str(connections), "--idle"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = process.stdout.readline()
        if json.loads(line or "{}").get("errors") != 0:
            process.kill()
            raise RuntimeError(f"{' '.join(self.command)} --idle: {line!r}")
        return process


def throughput(load, pids, requests):
    """CPU per 1000 requests in ms, requests a second, how busy the proxies' core was, latency."""
    before = cpu_ns(pids)
    result = load.run(requests)
    spent = cpu_ns(pids) - before
    return {
        "cpu": spent / result["requests"] / 1e3,
        "rate": result["requests"] / result["seconds"],
        "busy": spent / 1e9 / result["seconds"],
        "p50": result["p50_us"],
        "p99": result["p99_us"],
    }


# Idle is who did nothing for so long: who gives memory back a moment after a burst has done it, and
# what is counted is the kernel's figure of what the process holds then.
SETTLE_S = 1.0


def memory(load, pids, connections):
    """Private KB idle after a first request, and for each idle client connection."""
    load.run(1)
    time.sleep(SETTLE_S)
    idle = private_kb(pids)
    holder = load.hold(connections)
    time.sleep(SETTLE_S)
    held = private_kb(pids)
    holder.stdin.close()
    holder.wait()
    return {"idle": idle, "held": held, "each": (held - idle) / connections}


def bulk(load, beside, pids, requests, batch):
    """Seconds for much through one connection, and the p99 of an interactive one: alone, and beside
    it, as the median of the batches that lay wholly within."""
    alone = beside.run(batch)["p99_us"]
    before = cpu_ns(pids)
    process = load.start(requests)
    found = []
    while process.poll() is None:
        p99 = beside.run(batch)["p99_us"]
        if process.poll() is None or not found:
            found.append(p99)
    spent = cpu_ns(pids) - before
    if process.returncode != 0:
        raise RuntimeError(f"the bulk ended with {process.returncode}")
    seconds = json.loads(process.stdout.read())["seconds"]
    process.stdout.close()
    beside_p99 = statistics.median(found)
    return {"seconds": seconds, "busy": spent / 1e9 / seconds, "alone": alone,
            "beside": beside_p99, "slowed": beside_p99 / alone}


def _traced(load, pids, requests):
    """System calls of the processes while the load makes its requests."""
    with tempfile.NamedTemporaryFile("r", suffix=".strace") as report:
        watchers = [part for pid in pids for part in ("-p", str(pid))]
        tracer = subprocess.Popen(["strace", "-f", "-c", "-o", report.name, *watchers],
                                  stderr=subprocess.PIPE, text=True)
        for _ in pids:
            tracer.stderr.readline()  # "Process N attached"
        load.run(requests)
        time.sleep(0.1)
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
        text = report.read()
    total = re.search(r"^\s*100\.00\s+[\d.]+\s+\d+\s+(\d+).*total$", text, re.M)
    if total is None:
        raise RuntimeError(f"no total in strace's report:\n{text}")
    return int(total.group(1))


def syscalls(load, pids, requests):
    """System calls of the proxy for one request, one at a time on one connection. The slope between
    two runs, so that opening the connection is not in it."""
    load.run(100)
    short = _traced(load, pids, 100)
    return (_traced(load, pids, 100 + requests) - short) / requests


class AllocationCounter:
    """The file that bench-count-alloc.so counts into, and the environment that preloads it."""

    def __init__(self, programs, folder):
        self.path = os.path.join(folder, "allocations")
        with open(self.path, "wb") as file:
            file.write(bytes(8))
        self.env = {"LD_PRELOAD": f"{programs}/bench-count-alloc.so", "BENCH_ALLOC_FILE": self.path}

    def read(self):
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ) as page:
            return int.from_bytes(page[:8], "little")

    def per_request(self, load, requests):
        """The slope between two runs, so that opening the connection is not in it."""
        load.run(500)
        counts = []
        for number in (100, 100 + requests):
            before = self.read()
            load.run(number)
            counts.append(self.read() - before)
        return (counts[1] - counts[0]) / requests


def callgrind(folder):
    """(command prefix, function that reads the instructions once the program has ended)."""
    pattern = os.path.join(folder, "callgrind.%p")
    prefix = ["valgrind", "--quiet", "--tool=callgrind", "--trace-children=yes",
              f"--callgrind-out-file={pattern}"]

    def read():
        total = 0
        for path in glob.glob(os.path.join(folder, "callgrind.*")):
            with open(path, encoding="utf-8", errors="replace") as file:
                found = re.findall(r"^summary: (\d+)", file.read(), re.M)
            total += sum(int(number) for number in found)
            os.unlink(path)
        if total == 0:
            raise RuntimeError("valgrind counted nothing")
        return total

    return prefix, read
