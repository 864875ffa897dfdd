"""Programs of others that no Debian package has: tests/peers/install builds them into build/peers/."""

import os
import subprocess

from support.program import ROOT

FOLDER = f"{ROOT}/build/peers"


def _install(part):
    done = subprocess.run([f"{ROOT}/tests/peers/install", part], capture_output=True, text=True,
                          timeout=800, check=False)
    assert done.returncode == 0, f"tests/peers/install {part}:\n{done.stdout}{done.stderr}"


def go(name):
    """The path of a program of tests/peers/go; built first, if it must be."""
    _install("go")
    return f"{FOLDER}/bin/{name}"


def node(name):
    """The command that runs a script of tests/peers/node."""
    _install("node")
    return ["node", os.path.join(FOLDER, "node", name)]
