#!/usr/bin/env python3
"""The house rules that a machine can see (ARCHITECTURE.md says why they are so). Fails the test run where one is broken.

usage: house_style.py [--root DIR]

Each finding is FILE:LINE: [rule] what is wrong; what to do. A line that has a good reason carries, on itself or on the
line before, a comment with `style-ok(rule): the reason`.
"""

import argparse
import ast
import json
import os
import re
import subprocess
import sys
from typing import NamedTuple

MAX_LINES = 600
CPP = (".cc", ".h", ".cpp", ".hpp")
TEXT = CPP + (".py", ".sh", ".proto", ".json", ".md", ".cmake", ".txt", ".js", ".mjs", ".css", ".html", ".service")
TOP_FOLDERS = {"proto", "common", "daemon", "ctl", "tests", "config", "packaging", ".ci"}
DAEMON_FOLDERS = {"guardian", "config", "loop", "service", "process", "logs", "health", "store", "notify", "rpc",
                  "startup"}
PRODUCTION = ("common/", "daemon/", "ctl/")

# Which way the arrows go: a folder may include from itself and from what stands here, and from nothing else.
BASE = {"common"}
LOWER = BASE | {"daemon/loop", "daemon/config"}
ARROWS = {
    "common": BASE,
    "daemon/loop": BASE,
    "daemon/config": BASE,
    "daemon/process": LOWER,
    "daemon/logs": LOWER,
    # Script checks run programs, and process/ is the only place that starts one.
    "daemon/health": LOWER | {"daemon/process"},
    # Channels speak by the same libcurl and look up names in the same way as checks do.
    "daemon/notify": LOWER | {"daemon/health"},
    "daemon/store": LOWER,
    "daemon/service": LOWER | {"daemon/process", "daemon/logs", "daemon/health", "daemon/store", "daemon/notify"},
    "daemon/rpc": LOWER | {"daemon/service", "daemon/process", "daemon/logs", "daemon/health", "daemon/store",
                           "daemon/notify", "proto"},
    "daemon/guardian": BASE,
    "ctl": BASE | {"proto"},
}
# It wires them all; only main.cc includes it.
ARROWS["daemon/startup"] = set(ARROWS) - {"ctl"}
# The deciding half of service/: what it includes must be as pure as it is (data, verdicts and times).
PURE = {"daemon/service/" + name for name in ("machine", "machine_up", "machine_down", "phase", "stepper", "order",
                                               "check_cycle", "restart_policy", "targets")}
PURE_MAY_INCLUDE = ("common/clock.h", "common/glob_match.h", "common/near_miss.h", "common/signal_names.h", "common/time_format.h",
                    "daemon/config/config.h", "daemon/health/verdict.h", "daemon/process/wait_status.h", "daemon/service/")


class Finding(NamedTuple):
    path: str
    line: int
    rule: str
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: [{self.rule}] {self.message}"


class Ban(NamedTuple):
    """A pattern that code (not comments, not strings) must not contain, where `applies` says so of the path."""
    rule: str
    pattern: str
    applies: callable
    advice: str


# A call of this name: not a member (x.open, x->open), not another namespace's (ns::open); "::open" is the call.
def call(names):
    return rf"(?<![\w.>])(?<!\w::)(?<!->)(?:::)?\b(?:{names})\s*\("


def in_production(path):
    return path.startswith(PRODUCTION)


def outside(*allowed):
    return lambda path: not path.startswith(allowed)


def production_outside(*allowed):
    return lambda path: in_production(path) and not path.startswith(allowed)


CPP_BANS = [
    Ban("fork", call("fork|vfork|posix_spawnp?|clone3?"), outside("daemon/process/", "daemon/guardian/", "daemon/startup/", "tests/"),
        "start programs through daemon/process/spawn.h, the only place that starts anything"),
    Ban("fork", call("fork"), lambda path: path.startswith("daemon/process/"),
        "fork copies the page tables of the whole daemon; use clone3 or vfork-style clone"),
    Ban("shell", call(r"(?:std::)?system|popen") + r"|\bstd::system\b", outside(),
        "nothing goes through a shell; use daemon/process/spawn.h"),
    Ban("sleep", r"\b(?:sleep_for|sleep_until|SleepFor)\b|" + call("sleep|usleep|nanosleep|clock_nanosleep"),
        outside("daemon/guardian/"), "wait for the event itself: a condition, a descriptor, a timer"),
    Ban("wall-clock", call(r"time|gettimeofday|ftime") + r"|\bsystem_clock\b|\babsl::Now\b|\bGetCurrentTimeNanos\b",
        outside("common/clock.cc"), "use WallNow() or take the time as an argument (common/clock.h)"),
    Ban("clock", r"\bsteady_clock\b|" + call("clock_gettime"), production_outside("common/clock.cc", "daemon/guardian/"),
        "use MonotonicNow() or take the time as an argument (common/clock.h)"),
    Ban("signal-by-pid", call("kill|killpg|tgkill|sigqueue"),
        production_outside("daemon/process/", "daemon/guardian/", "daemon/startup/"),
        "pids are reused: signal through ChildProcess (pidfd)"),
    Ban("glibc-setuid", call("setuid|setgid|setgroups|setresuid|setresgid|initgroups|seteuid|setegid"), in_production,
        "glibc's signals every thread: use the raw syscall between clone and exec"),
    Ban("strerror", call("strerror|strerror_r|perror"), production_outside("common/errno_status.cc"),
        "use ErrnoText or ErrnoToStatus (common/errno_status.h)"),
    Ban("cloexec", call("pipe|accept|dup|dup2|epoll_create|inotify_init|mkstemp|creat|fopen"),
        production_outside("daemon/process/", "daemon/guardian/", "daemon/startup/"),
        "every descriptor is close-on-exec: pipe2, accept4, fcntl(F_DUPFD_CLOEXEC), open(... O_CLOEXEC)"),
    Ban("print", r"\bfmt::print\b|\bstd::(?:cout|cerr|clog)\b|" + call(r"(?:std::)?(?:v?f?printf|v?dprintf|puts|fputs|putchar|fwrite)"),
        in_production, "it throws, or loses the error, where the descriptor is closed or full: PrintOut and PrintError "
        "(common/console.h)"),
    Ban("detach", r"\.\s*detach\s*\(\s*\)", lambda path: path.endswith(CPP), "a thread has an owner that joins it"),
    Ban("chdir", call("chdir|fchdir|umask|setenv|putenv|unsetenv"),
        production_outside("daemon/process/", "daemon/guardian/", "daemon/startup/"),
        "this changes the process for every thread"),
]
# Calls whose statement must name a close-on-exec flag.
NEEDS_CLOEXEC = re.compile(call("open|openat|openat2|socket|socketpair|pipe2|accept4|memfd_create|eventfd|timerfd_create|"
                                "signalfd|inotify_init1|epoll_create1|mkostemp"))
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|(?i:\bfor now\b|\bnot (?:yet )?implemented\b)")
SHELL_SLEEP = re.compile(r"(?:^|[;&|]|\bdo\b|\bthen\b)\s*sleep\s+[0-9]")
TYPE_DEFINITION = re.compile(r"(?:struct|class|enum class|union) (\w+)(?: final)?(?: : [^;()]*)? \{")
INCLUDE = re.compile(r'\s*#\s*include\s+"([^"]+)"')
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def code_only(text):
    """The text with comments and the insides of strings blanked; lines and columns stay where they are."""
    pattern = re.compile(r'R"(?P<tag>[^(\s]*)\((?:.|\n)*?\)(?P=tag)"|//[^\n]*|/\*(?:.|\n)*?\*/|"(?:\\.|[^"\\\n])*"'
                         r"|(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'")

    def blank(match):
        token = match.group(0)
        inner = re.sub(r"[^\n]", " ", token)
        return inner if token[0] == "/" else '"' + inner[1:-1] + '"'

    return pattern.sub(blank, text)


def is_declaration(before):
    """Whether what stands before a name on its line is a type, as in `void pipe();`: then the name is no call."""
    words = re.fullmatch(r"\s*(?:[\w:<>]+[\s&*]+)+", before)
    return bool(words) and not re.search(r"\b(?:return|else|do|case|throw|co_return|co_await)\b", before)


def is_python_poll(node):
    """A loop that looks for something and ends when it is there: while, or a for that can be left."""
    return isinstance(node, ast.While) or isinstance(node, ast.For) and any(
        isinstance(inner, (ast.Return, ast.Break)) for inner in ast.walk(node))


def fixed_sleeps(node, polling=False):
    """The lines that call time.sleep outside a poll (inside one it is its pause)."""
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "sleep" and not polling:
            yield node.lineno
    for child in ast.iter_child_nodes(node):
        yield from fixed_sleeps(child, polling or is_python_poll(node))


def in_cpp_poll(code, position):
    """Whether the innermost loop around the position polls: while (condition), or a for with a deadline or `&&`."""
    depth = 0
    for index in range(position - 1, -1, -1):
        if code[index] == "}":
            depth += 1
        elif code[index] == "{" and depth:
            depth -= 1
        elif code[index] == "{":
            start = max(code.rfind(mark, 0, index - 1) for mark in ("{", "}", "\n\n")) + 1
            header = re.search(r"\b(while|for)\s*\((.*)\)\s*$", code[start:index], re.DOTALL)
            if header:
                return header.group(1) == "while" or "&&" in header.group(2) or "Now()" in header.group(2)
    return False


class Checker:
    """Checks files one by one; what it finds is in `findings`."""

    def __init__(self, root="."):
        self.root = root
        self.findings = []
        self._types = {}  # where each type of the programs is defined: paths and lines, by name

    def check(self, path, text):
        lines = text.split("\n")

        def report(line, rule, message):
            nearby = lines[max(0, line - 2):line]
            if not any(f"style-ok({rule})" in candidate for candidate in nearby):
                self.findings.append(Finding(path, line, rule, message))

        self._layout(path, report)
        self._text(path, text, lines, report)
        if path.endswith(CPP):
            self._cpp(path, text, lines, report)
        elif path.endswith(".py"):
            self._python(path, text, report)
        elif path.endswith(".sh") or path == ".ci/run":
            if path.startswith("tests/"):
                self._each(lines, SHELL_SLEEP, report, "sleep", "a fixed sleep; wait for the event, with a deadline")
        elif path.endswith(".json"):
            self._json(text, report)
        elif path.endswith(".md"):
            self._links(path, lines, report)

    @staticmethod
    def _each(lines, pattern, report, rule, message):
        for number, line in enumerate(lines, 1):
            match = pattern.search(line)
            if match:
                report(number, rule, f"{match.group(0).strip()}: {message}")

    @staticmethod
    def _layout(path, report):
        parts = path.split("/")
        if len(parts) > 1 and parts[0] not in TOP_FOLDERS:
            report(1, "layout", f"{parts[0]}/ is no folder of the design (expected one of {', '.join(sorted(TOP_FOLDERS))})")
        if len(parts) > 2 and parts[0] == "daemon" and parts[1] not in DAEMON_FOLDERS:
            report(1, "layout", f"daemon/{parts[1]}/ is no folder of the design; add it to ARCHITECTURE.md and here, or "
                                "put the file where it belongs")

    def _text(self, path, text, lines, report):
        if text and not text.endswith("\n"):
            report(len(lines), "whitespace", "no newline at the end of the file")
        for number, line in enumerate(lines, 1):
            if line != line.rstrip():
                report(number, "whitespace", "blanks or a carriage return at the end of the line")
            if "\t" in line and not path.startswith("tests/fuzz/"):
                report(number, "whitespace", "a tab; indent with blanks")
        if path.startswith("tests/lint/"):
            return  # these files name what they ban
        self._each(lines, UNFINISHED, report, "unfinished", "finish it, or leave it out")
        home = os.path.abspath(self.root)
        if len(home) > 1:
            self._each(lines, re.compile(re.escape(home) + r"\b"), report, "path", "a path of this one machine")
        if path.endswith(CPP + (".py", ".sh", ".js", ".mjs")) and len(lines) - 1 > MAX_LINES:
            report(1, "length", f"{len(lines) - 1} lines (at most {MAX_LINES}): it is probably two things")

    def _cpp(self, path, text, lines, report):
        code = code_only(text)
        code_lines = code.split("\n")
        for ban in CPP_BANS:
            if ban.applies(path):
                for number, line in enumerate(code_lines, 1):
                    match = re.search(ban.pattern, line)
                    if not match or is_declaration(line[:match.start()]):
                        continue
                    position = sum(len(earlier) + 1 for earlier in code_lines[:number - 1]) + match.start()
                    if not (ban.rule == "sleep" and path.startswith("tests/") and in_cpp_poll(code, position)):
                        report(number, ban.rule, f"{match.group(0).rstrip('( ')}: {ban.advice}")
        if in_production(path) and not path.startswith("daemon/startup/"):  # what guardian and daemon inherit is made there
            self._cloexec(code, report)
        if path.endswith(".h"):
            first = next((line for line in lines if line.strip() and not line.startswith("//")), "")
            if first.strip() != "#pragma once":
                report(1, "pragma-once", "a header begins with #pragma once")
            for number, line in enumerate(code_lines, 1):
                if re.match(r"\s*using\s+namespace\b", line):
                    report(number, "using-namespace", "a header forces no namespace on those who include it")
        if in_production(path):
            self._types_twice(path, code_lines, report)
        self._includes(path, lines, report)

    def _types_twice(self, path, code_lines, report):
        """Two types of one name are undefined behaviour that no tool tells: the linker keeps one of their destructors."""
        is_anonymous = False
        for number, line in enumerate(code_lines, 1):
            if line.startswith("namespace {"):
                is_anonymous = True
            elif is_anonymous and line.rstrip() == "}":
                is_anonymous = False
            match = TYPE_DEFINITION.match(line)
            if match and not is_anonymous:
                program = path.split("/")[0]
                places = self._types.setdefault(match.group(1), [])
                for other in places:
                    if "common" in (program, other.split("/")[0]) or program == other.split("/")[0]:
                        report(number, "type-twice", f"{match.group(1)} is also the type of {other}: name one of them otherwise")
                places.append(f"{path}:{number}")

    @staticmethod
    def _cloexec(code, report):
        constants = re.findall(r"(\w+)\s*=[^;=]*CLOEXEC", code)
        for match in NEEDS_CLOEXEC.finditer(code):
            if is_declaration(code[code.rfind("\n", 0, match.start()) + 1:match.start()]):
                continue
            end = code.find(";", match.end())
            statement = code[match.start():end]
            if "CLOEXEC" not in statement and not any(re.search(rf"\b{name}\b", statement) for name in constants):
                number = code.count("\n", 0, match.start()) + 1
                report(number, "cloexec", f"{match.group(0).rstrip('( ')}: the statement names no *_CLOEXEC flag")

    @staticmethod
    def _folder_of(path):
        parts = path.split("/")
        if parts[0] == "supervisor":  # supervisor/v1/supervisor.pb.h
            return "proto"
        if parts[0] == "daemon":
            return "/".join(parts[:2]) if len(parts) > 2 else "daemon/main"
        return parts[0]

    def _includes(self, path, lines, report):
        folder = self._folder_of(path)
        stem = os.path.splitext(path)[0]
        for number, line in enumerate(lines, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            included = match.group(1)
            target = self._folder_of(included)
            if target not in ARROWS and target not in ("proto", "daemon/main", "tests"):
                continue  # a library's header
            if stem in PURE and not included.startswith(PURE_MAY_INCLUDE):
                report(number, "arrows", f"{included}: this file only decides; it includes nothing that acts")
            elif folder in ARROWS and target != folder and target not in ARROWS[folder]:
                report(number, "arrows", f"{folder} must not include {included} (allowed: "
                                         f"{', '.join(sorted(ARROWS[folder] | {folder}))})")

    @staticmethod
    def _python(path, text, report):
        try:
            tree = ast.parse(text, path)
        except SyntaxError as error:
            report(error.lineno or 1, "python", error.msg)
            return
        if path.startswith("tests/") and not path.startswith(("tests/lint/", "tests/bench/")):  # a bench measures spans
            for line in fixed_sleeps(tree):
                report(line, "sleep", "a fixed sleep; wait for the event: poll in a while loop with a deadline")

    @staticmethod
    def _json(text, report):
        def no_duplicates(pairs):
            keys = [key for key, _ in pairs]
            doubled = sorted({key for key in keys if keys.count(key) > 1})
            if doubled:
                raise ValueError(f"doubled keys: {', '.join(doubled)}")
            return dict(pairs)

        try:
            json.loads(text, object_pairs_hook=no_duplicates)
        except ValueError as error:
            report(getattr(error, "lineno", 1), "json", str(error))

    def _links(self, path, lines, report):
        for number, line in enumerate(lines, 1):
            for target in LINK.findall(line):
                if "://" in target or target.startswith("mailto:"):
                    continue
                if not os.path.exists(os.path.join(self.root, os.path.dirname(path), target)):
                    report(number, "link", f"{target} does not exist")


def project_files(root):
    """What belongs to the project: git's view, or without git all but build/."""
    if os.path.exists(os.path.join(root, ".git")):
        output = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z"], cwd=root,
                                check=True, stdout=subprocess.PIPE).stdout.decode()
        names = [name for name in output.split("\0") if name]
    else:
        names = []
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name not in ("build", "__pycache__")]
            names += [os.path.relpath(os.path.join(folder, name), root) for name in files]
    return sorted(name for name in set(names) if os.path.isfile(os.path.join(root, name)))


def is_text(path):
    return path.endswith(TEXT) or path == ".ci/run"


def main():
    parser = argparse.ArgumentParser(description="checks the house rules that a machine can see")
    parser.add_argument("--root", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    arguments = parser.parse_args()
    root = os.path.abspath(arguments.root)
    checker = Checker(root)
    count = 0
    for path in project_files(root):
        if not is_text(path):
            continue
        count += 1
        try:
            with open(os.path.join(root, path), encoding="utf-8") as file:
                checker.check(path, file.read())
        except UnicodeDecodeError as error:
            checker.findings.append(Finding(path, 1, "whitespace", f"not UTF-8: {error}"))
    for finding in checker.findings:
        print(finding)
    print(f"house style: {count} files, {len(checker.findings)} findings")
    return 1 if checker.findings or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
