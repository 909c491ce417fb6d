"""Services for configurations: dictionaries as the configuration file has them."""

import sys


def merge(base, changes):
    """A copy of base with changes laid over it, objects member by member."""
    result = dict(base)
    for key, value in changes.items():
        result[key] = (
            merge(result[key], value) if isinstance(value, dict) and isinstance(result.get(key), dict) else value
        )
    return result


QUICK = {
    "restart_policy": {"delay": 0.05, "jitter": 0, "backoff_multiplier": 1, "max_attempts": 0},
    "graceful_shutdown": {"timeout": 20},
}


def sleeper(**changes):
    """A service that does nothing and ends at SIGTERM."""
    return merge({"command": "/bin/sleep", "args": ["1000000"], **QUICK}, changes)


def shell(script, **changes):
    """A service that is a shell script. Mind that ${NAME} is the configuration's own: the shell's is $NAME."""
    return merge({"command": "/bin/sh", "args": ["-c", script], **QUICK}, changes)


def python(source, *args, **changes):
    """A service that is a Python program, given as text."""
    return merge({"command": sys.executable, "args": ["-S", "-u", "-c", source, *args], **QUICK}, changes)
