"""The suites, one row each in SUITES. A suite is listed once the files that it runs are there."""

import collections
import glob
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ElementTree

import python_tests
from work import JOBS, ROOT, Counts, Failure, build, counted, parallel, report, run, say

FUZZ_SECONDS = 60
SIM_SEEDS = 2000
SIM_CHUNK = 50  # seeds in one process
SIM_CALLS = 4  # seeds whose every call fails in turn


def lint(options):
    """Rules over the text, over what clang says, and over the objects of a release."""
    build("asan")
    build("release")
    return counted([f"{ROOT}/tests/lint/run", *options.arguments])


# Unit tests, by ctest; cmocka's own summary in each program's output gives the count of cases.


def _cases(element):
    """Counts of one ctest entry, from cmocka's summary if it printed one."""
    output = element.findtext("system-out") or ""
    last = {what: int(number) for what, number in
            re.findall(r"^\[\s*(PASSED|FAILED|SKIPPED)\s*\] (\d+) test", output, re.M)}
    counts = Counts(last.get("PASSED", 0), last.get("FAILED", 0), last.get("SKIPPED", 0))
    name, seconds = element.get("name"), float(element.get("time") or 0)
    if element.find("failure") is not None or element.get("status") == "fail":
        report(name, seconds, False, output[-8000:])
        counts.failed = max(counts.failed, 1)
        return counts
    for case in sorted(set(re.findall(r"^\[\s*SKIPPED\s*\] (?!\d)(.*)$", output, re.M))):
        say(f"SKIPPED {name}: {case}")
    return counts if counts.passed or counts.skipped else Counts(passed=1)


def _ctest(preset, options):
    folder = build(preset)
    with tempfile.TemporaryDirectory() as temporary:
        junit = os.path.join(temporary, "junit.xml")
        command = ["ctest", "--test-dir", folder, "-j", str(JOBS), "--output-junit", junit,
                   "--test-output-size-passed", "65536", "--test-output-size-failed", "65536",
                   "--test-output-truncation", "head", "--no-tests=ignore"]
        if options.arguments:
            command += ["-R", "|".join(options.arguments)]
        code, output = run(command, timeout=1800)
        if not os.path.exists(junit):
            raise Failure(f"ctest ended with {code}\n{output[-4000:]}")
        rows = ElementTree.parse(junit).getroot().findall("testcase")
    total = sum((_cases(row) for row in rows), Counts())
    if code != 0 and not total.failed:
        raise Failure(f"ctest ended with {code}\n{output[-4000:]}")
    say(f"      {len(rows)} test programs")
    return total


def unit(options):
    return _ctest("asan", options)


def tsan(options):
    counts = _ctest("tsan", options)
    if not options.arguments:
        counts += python_tests.run_suite("mesh", "tsan", [])
    return counts


# Fuzzing: the checked-in corpus must reach its floor by itself, then new inputs for a while.


def _fuzz_targets():
    """fuzz_LAYER_NAME of every tests/fuzz/LAYER/NAME_fuzz.c, as tests/CMakeLists.txt names them."""
    found = glob.glob(f"{ROOT}/tests/fuzz/*/**/*_fuzz.c", recursive=True)
    parts = (os.path.relpath(path, f"{ROOT}/tests/fuzz").split("/") for path in sorted(found))
    return [f"fuzz_{part[0]}_{part[-1].removesuffix('.c')}" for part in parts]


def _corpus(target):
    return f"{ROOT}/tests/fuzz/corpus/{target.removeprefix('fuzz_').removesuffix('_fuzz')}"


def _floors():
    """tests/fuzz/floor: target and the edges that its corpus reaches, a line each."""
    try:
        with open(f"{ROOT}/tests/fuzz/floor", encoding="utf-8") as file:
            rows = (line.split() for line in file if line.strip() and not line.startswith("#"))
            return {target: int(edges) for target, edges in rows}
    except FileNotFoundError:
        return {}


def _edges(target, corpus):
    """(edges that the corpus alone reaches, output); None where the replay failed."""
    code, output = run([target, "-runs=0", corpus], timeout=300)
    found = re.findall(r"\bcov: (\d+)", output)
    return (int(found[-1]) if found and code == 0 else None), output


def _fuzz_one(target, seconds, floor):
    name = os.path.basename(target)
    started = time.monotonic()
    corpus = _corpus(name)
    artifacts = f"{ROOT}/build/fuzz/artifacts/"
    os.makedirs(artifacts, exist_ok=True)
    if not os.path.isdir(corpus):
        return report(name, 0, False, f"no corpus in {os.path.relpath(corpus, ROOT)}")
    edges, output = _edges(target, corpus)
    if edges is None:
        return report(f"{name} replay", time.monotonic() - started, False, output[-6000:])
    if edges < floor:
        return report(f"{name} replay", time.monotonic() - started, False,
                      f"the corpus reaches {edges} edges; tests/fuzz/floor asks for {floor}")
    counts = report(f"{name} replay: {edges} edges, floor {floor}", time.monotonic() - started, True)
    if seconds <= 0:
        return counts
    with tempfile.TemporaryDirectory() as grown:
        dictionary = f"{corpus}.dict"
        command = [target, f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=3000",
                   "-print_final_stats=1", f"-artifact_prefix={artifacts}{name}-", grown, corpus]
        if os.path.exists(dictionary):
            command.insert(1, f"-dict={dictionary}")
        code, output = run(command, timeout=seconds + 120)
    runs = re.search(r"number_of_executed_units: (\d+)", output)
    line = f"{name}: {runs.group(1) if runs else '?'} runs"
    return counts + report(line, time.monotonic() - started, code == 0, output[-8000:])


def fuzz(options):
    arguments = list(options.arguments)
    seconds = FUZZ_SECONDS
    if "--seconds" in arguments:
        place = arguments.index("--seconds")
        try:
            seconds = int(arguments[place + 1])
        except (IndexError, ValueError):
            raise Failure("--seconds takes a whole number of seconds; 0 only replays") from None
        del arguments[place:place + 2]
    record = "--record-floor" in arguments
    names = [a for a in arguments if not a.startswith("--")]
    targets = [t for t in _fuzz_targets() if not names or any(n in t for n in names)]
    if not targets:
        raise Failure(f"no fuzz target is named like {' or '.join(names)}")
    folder = build("fuzz", *targets)
    targets = [f"{folder}/fuzz/{name}" for name in targets]
    if record:
        return _record_floor(targets)
    floors = _floors()
    return parallel(lambda t: _fuzz_one(t, seconds, floors.get(os.path.basename(t), 1)), targets)


def _record_floor(targets):
    """Writes what the corpora reach today, less a twentieth: another build may count a few less."""
    floors = _floors()
    for target in targets:
        name = os.path.basename(target)
        edges, _ = _edges(target, _corpus(name))
        floors[name] = (edges or 0) * 95 // 100
    with open(f"{ROOT}/tests/fuzz/floor", "w", encoding="utf-8") as file:
        file.write("# Edges that the checked-in corpus of a target must reach by itself. Raise a row with\n"
                   "# ./tests/run fuzz TARGET --record-floor after the corpus grew.\n")
        file.writelines(f"{name} {edges}\n" for name, edges in sorted(floors.items()))
    return Counts(passed=len(targets))


# The simulator: each seed is one mesh, one load and one set of faults.


def _sim_binary(preset):
    folder = build(preset)
    found = [p for p in (f"{folder}/bin/sim", f"{folder}/sim/sim", f"{folder}/tests/sim/sim")
             if os.path.exists(p)]
    if not found:
        raise Failure(f"the build {preset} made no simulator (bin/sim)")
    return found[0]


def sim(options):
    binary = _sim_binary("asan")
    if options.arguments:
        code, output = run([binary, *options.arguments], timeout=600)
        say(output.rstrip())
        return Counts(passed=1) if code == 0 else Counts(failed=1)
    first = random.SystemRandom().randrange(1 << 31) if options.again else 1
    seeds = range(first, first + SIM_SEEDS)
    say(f"      seeds {seeds[0]} to {seeds[-1]}")

    def some(chunk):
        """One process for the chunk; where it fails, one a seed, so that each is named."""
        code, _ = run([binary, "--seeds", f"{chunk[0]}..{chunk[-1]}"], timeout=600)
        if code == 0:
            return Counts(passed=len(chunk))
        bad = Counts()
        for seed in chunk:
            started = time.monotonic()
            code, output = run([binary, "--seed", str(seed)], timeout=120)
            if code != 0:
                bad += report(f"sim --seed {seed}", time.monotonic() - started, False, output[-6000:])
            else:
                bad.passed += 1
        return bad

    def calls(seed):
        """Every call of that seed's sidecars fails in turn."""
        started = time.monotonic()
        code, output = run([binary, "--seed", str(seed), "--calls"], timeout=600)
        return report(f"sim --seed {seed} --calls", time.monotonic() - started, code == 0, output[-6000:])

    counts = parallel(calls, [first + i for i in range(SIM_CALLS)])
    counts += parallel(some, [seeds[i:i + SIM_CHUNK] for i in range(0, len(seeds), SIM_CHUNK)])
    return counts


# Tests in Python against the programs


def wire(options):
    return python_tests.run_suite("wire", "asan", options.arguments)


def golden(options):
    return python_tests.run_suite("golden", "asan", options.arguments)


def mesh(options):
    return python_tests.run_suite("mesh", "asan", options.arguments) + \
        python_tests.run_suite("mesh", "release", options.arguments)


def xds(_):
    started = time.monotonic()
    code, output = run([f"{ROOT}/tests/xds/check_table"], timeout=300)
    return report("xds/check_table", time.monotonic() - started, code == 0, output)


def mutants(options):
    return counted([f"{ROOT}/tests/mutants/run", *options.arguments])


def bench(options):
    code = subprocess.run([f"{ROOT}/tests/bench/run", *options.arguments], check=False).returncode
    return Counts(passed=1) if code == 0 else Counts(failed=1)


# exists: files that must be there; in_all: part of ./tests/run; again: part of --again.
class Suite(collections.namedtuple("Suite", "name meaning run files in_all again usage")):
    def exists(self):
        return all(glob.glob(f"{ROOT}/{pattern}", recursive=True) for pattern in self.files)


SUITES = (
    Suite("lint", "who includes whom, banned calls, format, clang-tidy, sizes", lint,
          ("tests/lint/run",), True, False, "./tests/run lint [RULE...]"),
    Suite("unit", "cmocka tests of every module under address and undefined sanitizers", unit,
          ("tests/unit/**/*_test.c",), True, True, "./tests/run unit [PATTERN...]"),
    Suite("xds", "every protobuf message against the committed table", xds,
          ("tests/xds/check_table",), True, False, ""),
    Suite("golden", "translation of policy: what comes out, byte for byte", golden,
          ("tests/golden/*_test.py",), True, False, "./tests/run golden [PATTERN...]"),
    Suite("sim", f"whole meshes in virtual time, {SIM_SEEDS} seeds", sim,
          ("tests/sim/CMakeLists.txt",), True, True, "./tests/run sim [--seed N]"),
    Suite("wire", "the real programs against scripted peers", wire,
          ("tests/wire/*_test.py",), True, True, "./tests/run wire [PATTERN...]"),
    Suite("mesh", "the real control and sidecars, black-box", mesh,
          ("tests/mesh/*_test.py",), True, True, "./tests/run mesh [PATTERN...]"),
    Suite("tsan", "unit tests, and what mesh names, under the thread sanitizer", tsan,
          ("tests/unit/**/*_test.c",), True, False, "./tests/run tsan [PATTERN...]"),
    Suite("mutants", "each rule broken once, each must turn its suite red", mutants,
          ("tests/mutants/run",), True, False, "./tests/run mutants [NUMBER...]"),
    Suite("fuzz", f"corpus replay over its floor, then {FUZZ_SECONDS} s for each target", fuzz,
          ("tests/fuzz/**/*_fuzz.c",), True, False,
          "./tests/run fuzz [TARGET...] [--seconds N] [--record-floor]"),
    Suite("bench", "CPU, latency, memory beside a bare relay and other proxies", bench,
          ("tests/bench/run",), False, False, "./tests/run bench --help"),
)
