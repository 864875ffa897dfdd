"""The rules. Each is one function from a Tree to findings, and one row of RULES at the end with a
sample that it must refuse: a rule that cannot fail guards nothing (tests/lint/selftest.py)."""

import collections
import fnmatch
import hashlib
import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

from tables import CALLS, LAYERS, LIBRARIES, MUTABLE_GLOBALS, RANKS, SOURCES
from tree import matches

Rule = collections.namedtuple("Rule", "name meaning check sample")
JOBS = os.cpu_count() or 2


def at(path, line, text):
    return f"{path}:{line}: {text}"


def layer_of(path):
    head = path.split("/", 1)[0]
    return head if head in LAYERS else None


# Includes


def include_form(tree):
    """From the root, so that each include line shows its layer; headers guard themselves."""
    for path in tree.c_files(*SOURCES):
        for line, name, quoted in tree.includes(path):
            if quoted and ("/" not in name or name.startswith(".")):
                yield at(path, line, f'"{name}": write the path from the root')
        if path.endswith(".h") and "#pragma once" not in tree.text(path):
            yield at(path, 1, "no #pragma once")


def include_layers(tree):
    for path in tree.c_files(*SOURCES):
        own = layer_of(path)
        for line, name, quoted in tree.includes(path):
            other = layer_of(name) if quoted else None
            if quoted and name.startswith("tests/"):
                yield at(path, line, f"{own} may not include tests")
            if other and other != own and other not in LAYERS[own]:
                yield at(path, line, f"{own} may not include {other} ({name})")


def rank_of(path):
    """(rank, ranked): the row of a file in its layer's table, None where there is none."""
    rows = RANKS.get(layer_of(path) or "")
    if rows is None:
        return None, False
    return next((i for i, row in enumerate(rows) if matches(path, row)), None), True


def include_ranks(tree):
    for path in tree.c_files(*SOURCES):
        own, ranked = rank_of(path)
        if not ranked:
            continue
        if own is None:
            yield at(path, 1, "stands in no row of RANKS: give it one in tests/lint/tables.py")
            continue
        for line, name, quoted in tree.includes(path):
            if not quoted or layer_of(name) != layer_of(path):
                continue
            other, _ = rank_of(name)
            if other is not None and other > own:
                yield at(path, line, f"{name} stands above {path}")


def include_libraries(tree):
    for path in tree.c_files(*SOURCES):
        for line, name, _ in tree.includes(path):
            for pattern, allowed in LIBRARIES:
                if fnmatch.fnmatch(name, pattern) and not matches(path, allowed):
                    where = " ".join(allowed) or "no program"
                    yield at(path, line, f"{name} belongs to {where}")


# Calls


def calls(tree):
    rows = []
    for names, allowed, instead in CALLS:
        pattern = "|".join(n.replace("*", r"\w+") for n in names.split())
        rows.append((re.compile(rf"(?<![\w.>])({pattern})\s*\("), allowed, instead))
    for path in tree.c_files(*SOURCES, "tests/*"):
        code = tree.code(path)
        for pattern, allowed, instead in rows:
            if matches(path, allowed):
                continue
            for hit in pattern.finditer(code):
                line = code.count("\n", 0, hit.start()) + 1
                yield at(path, line, f"{hit.group(1)}() is banned here: use {instead}")


def leftovers(tree):
    pattern = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for path in tree.c_files(*SOURCES, "tests/*"):
        for number, line in enumerate(tree.text(path).splitlines(), 1):
            hit = pattern.search(line)
            if hit:
                yield at(path, number, f"{hit.group(1)} left in the code")


# What is compiled


def _commands(tree):
    """source path -> compile command (a list) of our own files, from the build's database."""
    if not tree.c_files(*SOURCES, ends=(".c",)):
        return {}
    with open(os.path.join(tree.build, "compile_commands.json"), encoding="utf-8") as file:
        rows = json.load(file)
    found = {}
    for row in rows:
        path = os.path.relpath(row["file"], tree.root)
        if path in tree.paths and layer_of(path):
            command = row["command"].split()
            found[path] = (command, row["directory"], command[command.index("-o") + 1])
    return found


def mutable_globals(tree):
    """Every object of a layer in .data, .bss or their thread-local twins. Constants that need a
    relocation live in .data.rel.ro, which the loader closes: those are fine."""
    for path, (_, directory, output) in sorted(_commands(tree).items()):
        if path.endswith("/main.c"):
            continue
        table = subprocess.run(["objdump", "-t", os.path.join(directory, output)],
                               capture_output=True, text=True, check=True).stdout
        for row in table.splitlines():
            hit = re.search(r"(\.data|\.bss|\.tdata|\.tbss|\*COM\*)(\S*)\t[0-9a-f]+\s+(?:\.hidden )?(\S+)$", row)
            if not hit or hit.group(2).startswith(".rel.ro") or hit.group(3).startswith("."):
                continue
            symbol = hit.group(3)
            if not any(fnmatch.fnmatch(path, p) and fnmatch.fnmatch(symbol, s)
                       for p, s, _ in MUTABLE_GLOBALS):
                yield at(path, 1, f"{symbol} is a mutable global")


def headers_alone(tree):
    flags = set()
    for command, _, _ in _commands(tree).values():
        flags.update(f for f in command if f.startswith(("-I", "-D", "-std")))
        flags.update(f"-isystem{command[i + 1]}" for i, f in enumerate(command) if f == "-isystem")

    def compile_alone(path):
        run = subprocess.run(["gcc", *sorted(flags), "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
                              "-x", "c", "-"], input=f'#include "{path}"\n', cwd=tree.root,
                             capture_output=True, text=True, check=False)
        return None if run.returncode == 0 else at(path, 1, "does not compile alone\n" + run.stderr)

    with ThreadPoolExecutor(JOBS) as pool:
        yield from filter(None, pool.map(compile_alone, tree.c_files(*SOURCES, ends=(".h",))))


def formatted(tree):
    """One process for all files: clang-format finds .clang-format from each file upwards."""
    files = tree.c_files(*SOURCES, "tests/*")
    if files:
        run = subprocess.run(["clang-format-14", "--dry-run", "-Werror", *files], cwd=tree.root,
                             capture_output=True, text=True, check=False)
        for hit in re.finditer(r"^(\S+?):(\d+):\d+: error", run.stderr, re.M):
            yield at(hit.group(1), hit.group(2), "not in the format of .clang-format")


def _closure(tree, path, seen):
    """The file and every file of the tree that it includes, directly or not."""
    if path in seen or path not in tree.paths:
        return seen
    seen.add(path)
    for _, name, _ in tree.includes(path):
        _closure(tree, name, seen)
    return seen


def tidy(tree):
    """clang-tidy over each source; a clean answer is kept under the hash of all it depends on."""
    cache = os.path.join(tree.root, "build", "tidy")
    os.makedirs(cache, exist_ok=True)

    def check(item):
        path, (command, directory, _) = item
        key = hashlib.sha256(" ".join([directory, *command]).encode())
        for name in [".clang-tidy", *sorted(_closure(tree, path, set()))]:
            key.update(tree.text(name).encode() + b"\0")
        clean = os.path.join(cache, key.hexdigest())
        if os.path.exists(clean):
            return []
        run = subprocess.run(["clang-tidy-14", "-p", tree.build, "--quiet", "--warnings-as-errors=*",
                              path], cwd=tree.root, capture_output=True, text=True, check=False)
        if run.returncode == 0:
            with open(clean, "w", encoding="utf-8"):
                return []
        hits = re.findall(r"^(\S+:\d+):\d+: (?:error|warning): (.*)$", run.stdout, re.M)
        return [f"{os.path.relpath(where, tree.root)}: {what}" for where, what in hits] or [
            at(path, 1, "clang-tidy failed\n" + run.stderr[-2000:])]

    with ThreadPoolExecutor(JOBS) as pool:  # a header's finding comes once for each includer
        yield from sorted({line for found in pool.map(check, sorted(_commands(tree).items()))
                           for line in found})


# Sizes

Function = collections.namedtuple("Function", "path line name lines branches")
_BRANCH = re.compile(r"\b(?:if|for|while|case)\b|&&|\|\||\?")


def functions(tree):
    """Every function of the layers: our brace style puts its braces alone in the first column."""
    for path in tree.c_files(*SOURCES, ends=(".c",)):
        lines = tree.code(path).split("\n")
        start = None
        for number, line in enumerate(lines):
            if line == "{":
                start = number
            elif line == "}" and start is not None:
                head = start
                while head > 0 and lines[head - 1].strip() and not lines[head - 1].endswith((";", "}")):
                    head -= 1
                name = re.search(r"(\w+)\s*\(", " ".join(lines[head:start]))
                body = "\n".join(lines[start:number])
                yield Function(path, head + 1, name.group(1) if name else "?", number - head + 1,
                               1 + len(_BRANCH.findall(body)))
                start = None


def worst_recorded(tree):
    """tests/lint/worst: "what number" lines."""
    rows = (line.split() for line in tree.text("tests/lint/worst").splitlines()
            if line and not line.startswith("#"))
    return {what: int(number) for what, number in rows}


def worst_never_grows(tree):
    limits = worst_recorded(tree)
    for function in functions(tree):
        for what, limit in limits.items():
            value = getattr(function, what)
            if value > limit:
                yield at(function.path, function.line,
                         f"{function.name}(): {value} {what}, and the worst may have {limit}")


def ten_worst(tree):
    """The ten most branched functions, as lines for the report."""
    ranked = sorted(functions(tree), key=lambda f: (-f.branches, -f.lines, f.path))[:10]
    return [f"{f.branches:4} branches {f.lines:4} lines  {f.name} ({f.path}:{f.line})" for f in ranked]


RULES = (
    Rule("include form", "from the root, and #pragma once", include_form,
         {"http/x.h": '#include "uri.h"\n'}),
    Rule("include layers", "the arrows between folders", include_layers,
         {"http/x.c": '#include "sidecar/fail.h"\n', "sidecar/fail.h": "#pragma once\n"}),
    Rule("include ranks", "the arrows inside sidecar and control", include_ranks,
         {"sidecar/route/x.c": '#include "sidecar/exchange/exchange.h"\n'}),
    Rule("libraries", "a library is included where it belongs", include_libraries,
         {"sidecar/worker.c": "#include <ev.h>\n"}),
    Rule("calls", "banned functions", calls,
         {"http/x.c": "void x(char *a, const char *b)\n{\n    strcpy(a, b);\n}\n"}),
    Rule("leftovers", "no TODO", leftovers, {"http/x.c": "/* TODO */\n"}),
    Rule("mutable globals", "no state outside main", mutable_globals,
         {"http/x.c": "static int calls;\nint next(void)\n{\n    return ++calls;\n}\n"}),
    Rule("headers alone", "each header compiles alone", headers_alone,
         {"http/x.h": "#pragma once\nint x(size_t n);\n", "http/x.c": '#include "http/x.h"\n'}),
    Rule("format", "clang-format", formatted, {"http/x.c": "int  x;\n"}),
    Rule("tidy", "clang-tidy", tidy,
         {"http/x.c": "int x(int y);\nint x(int y)\n{\n    if (y)\n        return 1;\n    return 0;\n}\n"}),
    Rule("worst function", "length and branches never grow", worst_never_grows,
         {"http/x.c": "int x(int y)\n{\n" + "    y++;\n" * 400 + "    return y;\n}\n"}),
)
