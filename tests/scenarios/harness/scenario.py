"""The base of all scenarios, and how a scenario file is run."""

import errno
import os
import re
import sys
import time
import unittest

from .daemon import BIN_DIR, SUPERVISORD
from .waiting import SCALE, eventually

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})?")  # UTC, in the database and in --json


class Scenario(unittest.TestCase):
    """The base of all scenarios."""

    maxDiff = None

    def assert_in_order(self, wanted, actual):
        """`wanted` occurs in `actual` in this order, others in between allowed."""
        rest = iter(actual)
        missing = [item for item in wanted if item not in rest]
        self.assertFalse(missing, f"{missing} not found in order: {wanted} in {actual}")

    def assert_becomes(self, value, wanted, timeout=10.0):
        """value() is `wanted`, at the latest when the time is up; the last difference is the failure."""
        eventually(lambda: self.assertEqual(value(), wanted), timeout)

    def assert_quicker(self, seconds, since):
        """Less than so many seconds, scaled, have passed since the time.monotonic() given."""
        took = time.monotonic() - since
        self.assertLess(took, seconds * SCALE, f"took {took:.3f} s")


needs_root = unittest.skipUnless(os.geteuid() == 0, "needs root")


def main():
    """Called at the end of each scenario file."""
    if not os.access(SUPERVISORD, os.X_OK):
        print(f"no supervisord in {BIN_DIR}: build it, or set SUPERVISOR_BIN_DIR", file=sys.stderr)
        sys.exit(errno.ENOENT)
    unittest.main(verbosity=2)
