"""Waiting for conditions, with a deadline that grows with SCENARIO_TIME_SCALE."""

import os
import sqlite3
import time

SCALE = float(os.environ.get("SCENARIO_TIME_SCALE") or 1)
POLL_S = 0.01
NOT_YET = (OSError, KeyError, IndexError, ValueError, sqlite3.Error)  # of a look at what is only coming about


class ScenarioError(AssertionError):
    """A condition that the scenario waits for did not come about, or a command answered otherwise than expected."""


def wait_until(condition, what="the condition", timeout=10.0):
    """Returns the first true value of condition(). The last exception or value is told when the time is up."""
    deadline = time.monotonic() + timeout * SCALE
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (ScenarioError, *NOT_YET) as error:
            last = error
        if time.monotonic() >= deadline:
            raise ScenarioError(f"waited {timeout * SCALE:g} s in vain for {what}; last: {last!r}")
        time.sleep(POLL_S)


def eventually(check, timeout=10.0):
    """Calls check() until its assertions hold: for what comes a moment after the state or the answer that it belongs to.

    When the time is up the last failure is the scenario's.
    """
    deadline = time.monotonic() + timeout * SCALE
    while True:
        try:
            return check()
        except (AssertionError, *NOT_YET):
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_S)
