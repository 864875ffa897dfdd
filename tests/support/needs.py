"""What a test cannot do without, as decorators; ./tests/run counts what they skip."""

import os
import unittest

from support.program import binary, have


def root(test):
    """Network namespaces and nftables are root's. PILLION_REQUIRE_ROOT=1 makes a skip a failure."""
    return unittest.skipUnless(os.geteuid() == 0, "needs root")(test)


def program(name):
    """One of ours that is not built yet, or one of another project that is not installed."""
    found = os.path.exists(binary(name)) or have(name)
    return unittest.skipUnless(found, f"needs {name}")
