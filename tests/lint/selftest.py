"""Shows that each rule can fail: over a tree of its own sample it must find something, and over
the same tree with harmless files it must find nothing."""

import json
import os
import shutil
import subprocess
import tempfile

from tree import Tree

HARMLESS = {
    "base/a.h": "#pragma once\n\n/* Says strcpy( and ev.h in a comment only. */\nint a_twice(int n);\n",
    "base/a.c": '#include "base/a.h"\n\nint a_twice(int n)\n{\n    return 2 * n;\n}\n',
}


def _build(root, files):
    """Compiles the sources of a sample as the real build would, with its database beside them."""
    rows = []
    for path in sorted(p for p in files if p.endswith(".c")):
        output = f"{root}/build/{path.replace('/', '_')}.o"
        command = f"gcc -std=c17 -I{root} -fPIC -w -c {root}/{path} -o {output}"
        run = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        if run.returncode == 0:
            rows.append({"file": f"{root}/{path}", "directory": f"{root}/build",
                         "command": command})
    with open(f"{root}/build/compile_commands.json", "w", encoding="utf-8") as file:
        json.dump(rows, file)


def _findings(rule, files, ours):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
            with open(f"{root}/{path}", "w", encoding="utf-8") as file:
                file.write(text)
        for path in (".clang-format", ".clang-tidy", "tests/lint/worst"):
            os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
            shutil.copy(f"{ours}/{path}", f"{root}/{path}")
        os.makedirs(f"{root}/build")
        _build(root, files)
        paths = [*files, ".clang-format", ".clang-tidy", "tests/lint/worst"]
        return list(rule.check(Tree(root, f"{root}/build", paths)))


def broken(rules, ours):
    """[complaint] about rules that do not tell right from wrong; ours is the real tree's root."""
    for rule in rules:
        if not _findings(rule, {**HARMLESS, **rule.sample}, ours):
            yield f"selftest: rule '{rule.name}' lets its own bad sample pass"
        for found in _findings(rule, HARMLESS, ours):
            yield f"selftest: rule '{rule.name}' refuses a harmless file: {found}"
