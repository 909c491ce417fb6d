#!/usr/bin/env python3
"""Runs clang-tidy over the project's own sources, and remembers what was clean.

usage: tidy.py BUILD_DIRECTORY [--jobs N] [--all]

A file is checked again when it, a header of ours that it includes (at whatever depth), its compile command, .clang-tidy
or clang-tidy itself has changed. What was clean is remembered in $XDG_CACHE_HOME/supervisord-tidy by content, so
other checkouts and build directories profit as well; --all forgets it. Generated code and tests are left out.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
FOLDERS = ("common/", "daemon/", "ctl/")
INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
FORGET_AFTER_S = 30 * 24 * 3600


def our_entries(build):
    """The compile commands of our own sources, by path in the project."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entries = {}
        for entry in json.load(file):
            path = os.path.relpath(os.path.realpath(os.path.join(entry["directory"], entry["file"])), ROOT)
            if path.startswith(FOLDERS):
                entries[path] = entry
        return entries


def read(path, cache={}):  # pylint: disable=dangerous-default-value
    if path not in cache:
        try:
            with open(path, "rb") as file:
                cache[path] = file.read()
        except OSError:
            cache[path] = None
    return cache[path]


def closure(path, generated):
    """The source and every header of ours (or generated for us) that it includes, at whatever depth."""
    found, pending = {}, [os.path.join(ROOT, path)]
    while pending:
        file = pending.pop()
        content = read(file)
        if content is None or file in found:
            continue
        found[file] = content
        for name in INCLUDE.findall(content):
            for base in [ROOT, os.path.dirname(file)] + generated:
                pending.append(os.path.normpath(os.path.join(base, name.decode())))
    return found


def key_of(path, entry, build, version):
    generated = [os.path.join(build, "common", "generated"), os.path.join(build, "proto")]
    digest = hashlib.sha256(version)
    digest.update(read(os.path.join(ROOT, ".clang-tidy")) or b"")
    digest.update(entry["command"].replace(build, "BUILD").replace(ROOT, "ROOT").encode())
    for file, content in sorted(closure(path, generated).items()):
        digest.update(file.replace(build, "BUILD").replace(ROOT, "ROOT").encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


def tidy(path, build):
    """(clean, output) of clang-tidy on one source."""
    result = subprocess.run(["clang-tidy", "--quiet", "-p", build, "--extra-arg=-Wno-unknown-warning-option",
                             os.path.join(ROOT, path)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if result.returncode == 0:
        return True, ""
    # stderr counts the warnings that were suppressed; it matters where clang-tidy itself failed.
    return False, result.stdout or result.stderr


def main():
    parser = argparse.ArgumentParser(description="clang-tidy over the project's own sources")
    parser.add_argument("build", help="a build directory with compile_commands.json")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--all", action="store_true", help="check everything again")
    arguments = parser.parse_args()
    build = os.path.abspath(arguments.build)
    if not shutil.which("clang-tidy"):
        sys.exit("clang-tidy is not installed: apt-get install clang-tidy")
    entries = our_entries(build)
    if not entries:
        sys.exit(f"{build}/compile_commands.json names no source of ours: configure the build again")
    version = subprocess.run(["clang-tidy", "--version"], stdout=subprocess.PIPE, check=True).stdout
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    remembered = os.path.join(home, "supervisord-tidy")
    os.makedirs(remembered, exist_ok=True)
    for name in os.listdir(remembered):
        if time.time() - os.path.getmtime(os.path.join(remembered, name)) > FORGET_AFTER_S:
            os.unlink(os.path.join(remembered, name))

    stamps = {path: os.path.join(remembered, key_of(path, entry, build, version)) for path, entry in entries.items()}
    to_check = [path for path in sorted(entries) if arguments.all or not os.path.exists(stamps[path])]
    failures = 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=arguments.jobs) as pool:
        for path, (clean, output) in zip(to_check, pool.map(lambda path: tidy(path, build), to_check)):
            if clean:
                with open(stamps[path], "w", encoding="utf-8"):
                    pass
            else:
                failures += 1
                print(f"---- {path}\n{output}", flush=True)
    print(f"clang-tidy: {len(entries)} sources, {len(to_check)} checked now, {failures} with findings")
    if failures:
        print("Mend what it says. A NOLINT(check) needs its reason beside it. "
              "One file again: clang-tidy -p build/release FILE")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
