"""Commands run to their end, and those that go on."""

import contextlib
import json
import queue
import signal
import subprocess
import threading
import time

from .waiting import SCALE, ScenarioError


class Result:
    """What a command answered."""

    def __init__(self, argv, returncode, stdout, stderr):
        self.argv = argv
        self.returncode = returncode
        self.stdout_bytes = stdout
        self.stdout = stdout.decode(errors="replace")
        self.stderr = stderr.decode(errors="replace")

    @property
    def json(self):
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            raise ScenarioError(f"not JSON: {error}\n{self}") from error

    @property
    def text(self):
        """Both outputs, for scenarios to which it does not matter on which one a message is."""
        return self.stdout + self.stderr

    def __str__(self):
        return (
            f"$ {' '.join(map(str, self.argv))}\nexit {self.returncode}\n"
            f"stdout: {self.stdout.rstrip()}\nstderr: {self.stderr.rstrip()}"
        )


def run(argv, expect=None, timeout=60.0, **options):
    """Runs a command to its end. `expect` is an exit code or a collection of them. `input` is text or bytes."""
    if isinstance(options.get("input"), str):
        options["input"] = options["input"].encode()
    elif "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    try:
        done = subprocess.run(
            list(map(str, argv)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout * SCALE,
            check=False,
            **options,
        )
    except subprocess.TimeoutExpired as error:
        raise ScenarioError(
            f"no end within {timeout * SCALE:g} s: {' '.join(map(str, argv))}\n"
            f"stdout: {error.stdout}\nstderr: {error.stderr}"
        ) from error
    result = Result(argv, done.returncode, done.stdout, done.stderr)
    if expect is not None and done.returncode not in (expect if isinstance(expect, (set, tuple, list)) else [expect]):
        raise ScenarioError(f"exit code {expect} expected\n{result}")
    return result


class Stream:
    """A command that goes on (`logs -f`, `events -f`): its lines as they come."""

    def __init__(self, argv, env):
        self._process = subprocess.Popen(
            list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        )
        self._lines = queue.Queue()
        self._errors = queue.Queue()
        self.seen = []
        self._pumps = [
            threading.Thread(target=self._pump, args=(pipe, target), daemon=True)
            for pipe, target in ((self._process.stdout, self._lines), (self._process.stderr, self._errors))
        ]
        for pump in self._pumps:
            pump.start()

    @staticmethod
    def _pump(pipe, target):
        for line in pipe:
            target.put(line.decode(errors="replace").rstrip("\n"))
        target.put(None)

    def next(self, timeout=10.0):
        """The next line; None at the end of the output."""
        try:
            line = self._lines.get(timeout=timeout * SCALE)
        except queue.Empty:
            raise ScenarioError(
                f"no line within {timeout * SCALE:g} s; so far: {self.seen}; stderr: " f"{list(self._errors.queue)}"
            ) from None
        if line is not None:
            self.seen.append(line)
        return line

    def wait_for(self, predicate, timeout=10.0):
        """The next line that holds the text `predicate`, or for which it is true."""
        test = predicate if callable(predicate) else lambda line: predicate in line
        deadline = time.monotonic() + timeout * SCALE
        while True:
            line = self.next(max(deadline - time.monotonic(), 0.001) / SCALE)
            if line is None:
                raise ScenarioError(
                    f"ended before the line came; so far: {self.seen}; stderr: {list(self._errors.queue)}"
                )
            if test(line):
                return line

    def rest(self):
        """All lines that have come and were not asked for yet."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while True:
                line = self._lines.get_nowait()
                if line is not None:
                    lines.append(line)
                    self.seen.append(line)
        return lines

    def errors(self):
        """The lines that have come on stderr so far."""
        return [line for line in list(self._errors.queue) if line is not None]

    @property
    def pid(self):
        return self._process.pid

    def wait(self, timeout=10.0):
        """Its exit code, once all that it has written is there to be asked for."""
        code = self._process.wait(timeout * SCALE)
        for pump in self._pumps:
            pump.join(timeout * SCALE)
        return code

    def interrupt(self):
        """Control-C."""
        self._process.send_signal(signal.SIGINT)
        return self.wait()

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
