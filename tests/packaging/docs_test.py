#!/usr/bin/env python3
"""What the documentation shows is so: its configurations are valid, its commands and paths exist.

usage: docs_test.py SUPERVISORD SUPERVISORCTL
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
DOCUMENTS = ["README.md", "QUICKSTART.md", "ARCHITECTURE.md"]
PROGRAMS = {}


def text_of(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def output_of(*command):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    return result.returncode, result.stdout


class Documentation(unittest.TestCase):
    def test_configurations_are_valid(self):
        blocks = [(name, block) for name in DOCUMENTS for block in re.findall(r"```json\n(.*?)```", text_of(name), re.S)]
        self.assertTrue(blocks)
        for name, block in blocks:
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                file.write(block)
                file.flush()
                code, output = output_of(PROGRAMS["supervisord"], "--check", "-c", file.name)
                self.assertEqual(0, code, f"{name}: {output}\n{block}")

    def test_commands_exist(self):
        _, helps = output_of(PROGRAMS["supervisorctl"], "--help")
        for name in DOCUMENTS:
            for command in re.findall(r"supervisorctl(?: --?[\w-]+)* ([a-z]+)(?=[\s`])", text_of(name)):
                if command != "status":  # stands in prose as a part of a name too
                    self.assertRegex(helps, rf"(?m)^\s+{command}\b", f"{name} speaks of supervisorctl {command}")

    def test_options_of_the_daemon_exist(self):
        _, helps = output_of(PROGRAMS["supervisord"], "--help")
        for name in DOCUMENTS:
            for option in re.findall(r"supervisord(?: -c \S+)? (--[a-z-]+)", text_of(name)):
                self.assertIn(option, helps, name)

    def test_paths_exist(self):
        for name in DOCUMENTS:
            for path in re.findall(r"`?\b((?:tests|packaging|config|daemon|common|ctl|proto)/[\w./-]*[\w/])", text_of(name)):
                stem = os.path.join(ROOT, path)
                if "conf.d" not in path:
                    self.assertTrue(os.path.exists(stem) or os.path.exists(stem + ".h"), f"{name}: {path}")


if __name__ == "__main__":
    PROGRAMS["supervisord"], PROGRAMS["supervisorctl"] = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
