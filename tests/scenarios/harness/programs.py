"""Programs that a scenario has in its hand."""

import contextlib
import fcntl
import os
import shutil
import signal


class HeldProgram:
    """A copy of a program whose execve(2) waits until it is let go: as one on a slow network file system does.

    A write lease (fcntl(2), F_SETLEASE) makes the kernel hold whoever opens the file, for 45 s at most, and tell us.
    """

    def __init__(self, path):
        self.path = str(path)
        self.is_awaited = False  # somebody is in the midst of its execve(2)
        self._fd = os.open(path, os.O_RDONLY)
        self._before = signal.signal(signal.SIGIO, self._on_break)
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def _on_break(self, _number, _frame):
        self.is_awaited = True

    def let_go(self):
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def close(self):
        self.let_go()
        os.close(self._fd)
        signal.signal(signal.SIGIO, self._before)


@contextlib.contextmanager
def held_program(source, path):
    """A copy of the program `source` at `path` that is held while the block lasts, or until let_go()."""
    shutil.copy(os.path.realpath(source), path)
    held = HeldProgram(path)
    try:
        yield held
    finally:
        held.close()
