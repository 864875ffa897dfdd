"""The files that a lint run looks at, and C text without what a rule must not see."""

import fnmatch
import functools
import os
import re
import subprocess

_LITERALS = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""", re.S | re.X)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def matches(path, patterns):
    """Whether one of the shell patterns matches the path; "tests" stands for the tests folder."""
    return any(fnmatch.fnmatch(path, "tests/*" if p == "tests" else p) for p in patterns)


def _blank(match):
    """The same number of lines, and a literal stays an (empty) literal."""
    text = match.group(0)
    edge = text[0] if text[0] in "\"'" else ""
    return edge + " " * (len(text.split("\n")[0]) - 2 * len(edge)) + "\n" * text.count("\n") + edge


class Tree:
    """A checkout: root (absolute), build (a configured build folder of it, or None)."""

    def __init__(self, root, build=None, paths=None):
        self.root = root
        self.build = build
        self.paths = sorted(paths if paths is not None else self._listed())

    def _listed(self):
        """Tracked files, and new ones that git would take: a lint run comes before the commit."""
        out = subprocess.run(
            ["git", "-c", f"safe.directory={self.root}", "ls-files", "-co", "--exclude-standard"],
            cwd=self.root, check=True, capture_output=True, text=True).stdout
        return {p for p in out.splitlines() if os.path.isfile(os.path.join(self.root, p))}

    def c_files(self, *patterns, ends=(".c", ".h")):
        return [p for p in self.paths if p.endswith(ends) and matches(p, patterns or ("*",))]

    @functools.lru_cache(maxsize=None)
    def text(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8") as file:
            return file.read()

    @functools.lru_cache(maxsize=None)
    def code(self, path):
        """The text without comments and without the inside of literals, line for line."""
        return _LITERALS.sub(_blank, self.text(path))

    @functools.lru_cache(maxsize=None)
    def includes(self, path):
        """[(line, name, quoted)] of the file's include lines."""
        text = self.text(path)
        return [(text.count("\n", 0, m.start()) + 1, m.group(2), m.group(1) == '"')
                for m in _INCLUDE.finditer(text)]
