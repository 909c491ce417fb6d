#!/usr/bin/env python3
"""Feeds house_style.py what it must find and what it must leave alone: a check that cannot fail checks nothing."""

import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
import house_style  # noqa: E402  (needs the path)


def rules(path, text):
    checker = house_style.Checker()
    checker.check(path, text)
    return [finding.rule for finding in checker.findings]


class BadSamples(unittest.TestCase):
    def test_each_is_found(self):
        for path, text, rule in [
                ("daemon/logs/a.cc", "  const pid_t child = fork();\n", "fork"),
                ("daemon/process/a.cc", "  if (::fork() == 0) {\n", "fork"),
                ("ctl/a.cc", "  posix_spawn(&pid, path, 0, 0, argv, env);\n", "fork"),
                ("daemon/logs/a.cc", '  system("gzip x");\n', "shell"),
                ("daemon/logs/a.cc", '  std::system("gzip x");\n', "shell"),
                ("ctl/a.cc", '  FILE* f = popen("ls", "r");\n', "shell"),
                ("tests/common/a.cc", '  popen("ls", "r");\n', "shell"),
                ("tests/common/a.cc", "  std::this_thread::sleep_for(std::chrono::seconds(1));\n", "sleep"),
                ("tests/common/a.cc", "  usleep(1000);\n", "sleep"),
                ("tests/common/a.cc", "  ::sleep(1);\n", "sleep"),
                ("tests/common/a.cc", "  while (!ready()) {\n    Look();\n  }\n  ::sleep(1);\n", "sleep"),
                ("tests/common/a.cc", "void F() {\n  for (int i = 0; i < 9; ++i) {\n    usleep(9);\n  }\n}\n", "sleep"),
                ("daemon/logs/a.cc", "  while (!ready()) {\n    usleep(1);\n  }\n", "sleep"),
                ("tests/scenarios/a.py", "for i in range(3):\n    time.sleep(1)\n", "sleep"),
                ("tests/common/a.cc", "  absl::SleepFor(absl::Seconds(1));\n", "sleep"),
                ("daemon/logs/a.cc", "  else usleep(1);\n", "sleep"),
                ("tests/scenarios/a.py", "import time\ntime.sleep(1)\n", "sleep"),
                ("tests/scenarios/a.py", "from time import sleep\nsleep(1)\n", "sleep"),
                ("tests/scenarios/a.sh", "sleep 3\n", "sleep"),
                ("tests/scenarios/a.sh", "start; sleep 0.5\n", "sleep"),
                ("daemon/logs/a.cc", "  auto t = time(nullptr);\n", "wall-clock"),
                ("daemon/logs/a.cc", "  gettimeofday(&tv, nullptr);\n", "wall-clock"),
                ("common/a.cc", "  std::chrono::system_clock::now();\n", "wall-clock"),
                ("daemon/logs/a.cc", "  auto now = absl::Now();\n", "wall-clock"),
                ("daemon/logs/a.cc", "  std::chrono::steady_clock::now();\n", "clock"),
                ("daemon/logs/a.cc", "  clock_gettime(CLOCK_MONOTONIC, &now);\n", "clock"),
                ("daemon/service/a.cc", "  ::kill(pid, SIGTERM);\n", "signal-by-pid"),
                ("daemon/process/a.cc", "  setuid(uid);\n", "glibc-setuid"),
                ("daemon/logs/a.cc", "  return strerror(errno);\n", "strerror"),
                ("daemon/logs/a.cc", "  pipe(ends);\n", "cloexec"),
                ("daemon/logs/a.cc", "  int fd = ::open(path, O_RDONLY);\n", "cloexec"),
                ("daemon/logs/a.cc", "  int fd = socket(AF_UNIX,\n                  SOCK_STREAM, 0);\n", "cloexec"),
                ("daemon/logs/a.cc", "  worker_.detach();\n", "detach"),
                ("daemon/logs/a.cc", "  setenv(name, value, 1);\n", "chdir"),
                ("daemon/startup/a.cc", '  fmt::print(stderr, "x");\n', "print"),
                ("daemon/startup/a.cc", '  std::fprintf(stderr, "x");\n', "print"),
                ("ctl/a.cc", '  std::cerr << "x";\n', "print"),
                ("common/a.cc", '  puts("x");\n', "print"),
                ("daemon/logs/a.h", "#include <string>\n", "pragma-once"),
                ("daemon/logs/a.h", "#pragma once\nusing namespace std;\n", "using-namespace"),
                ("daemon/logs/a.cc", '#include "daemon/service/driver.h"\n', "arrows"),
                ("daemon/logs/a.cc", '#include "daemon/store/store.h"\n', "arrows"),
                ("common/a.cc", '#include "daemon/loop/loop.h"\n', "arrows"),
                ("daemon/service/a.cc", '#include "daemon/startup/lock.h"\n', "arrows"),
                ("daemon/guardian/a.cc", '#include "daemon/process/spawn.h"\n', "arrows"),
                ("ctl/a.cc", '#include "daemon/config/config.h"\n', "arrows"),
                ("daemon/service/a.cc", '#include "supervisor/v1/supervisor.pb.h"\n', "arrows"),
                ("daemon/service/a.cc", '#include "daemon/rpc/server.h"\n', "arrows"),
                ("daemon/service/machine.cc", '#include "daemon/process/spawn.h"\n', "arrows"),
                ("daemon/service/machine.h", '#pragma once\n#include "daemon/loop/loop.h"\n', "arrows"),
                ("daemon/logs/a.cc", "// TODO: the rest\n", "unfinished"),
                ("packaging/a.sh", "# FIXME\n", "unfinished"),
                ("README.md", "It does nothing for now.\n", "unfinished"),
                ("daemon/logs/a.cc", "int x; \n", "whitespace"),
                ("daemon/logs/a.cc", "\tint x;\n", "whitespace"),
                ("daemon/logs/a.cc", "int x;", "whitespace"),
                ("daemon/logs/a.cc", "int x;\r\n", "whitespace"),
                ("daemon/logs/a.cc", "int x;\n" * 601, "length"),
                ("misc/a.cc", "int x;\n", "layout"),
                ("daemon/util/a.cc", "int x;\n", "layout"),
                ("config/a.json", '{"a": 1,}\n', "json"),
                ("config/a.json", '{"a": 1, "a": 2}\n', "json"),
                ("tests/scenarios/a.py", "def f(:\n", "python"),
                ("README.md", "See [there](no/such/file.md).\n", "link"),
        ]:
            with self.subTest(path=path, text=text[:60]):
                self.assertIn(rule, rules(path, text))


class GoodSamples(unittest.TestCase):
    def test_each_is_left_alone(self):
        for path, text in [
                ("common/clock.cc", "  clock_gettime(CLOCK_REALTIME, &now);\n  absl::Now();\n"),
                ("daemon/logs/a.cc", "  // never fork() or system(), no sleep(1)\n"),
                ("daemon/logs/a.cc", '  Say("time(nullptr) and system(1)");\n'),
                ("daemon/logs/a.cc", '  Say(R"(fork() popen())");\n'),
                ("daemon/logs/a.cc", "  /* pipe(ends);\n     sleep(1) */\n"),
                ("daemon/logs/a.cc", "  file.open(path);\n  loop->kill(1);\n  Store::Open(path);\n  store::open(path);\n"),
                ("daemon/logs/a.cc", "  int fd = ::open(path, O_RDONLY | O_CLOEXEC);\n"),
                ("daemon/logs/a.cc", "  int fd = socket(AF_UNIX,\n                  SOCK_STREAM | SOCK_CLOEXEC, 0);\n"),
                ("daemon/logs/a.cc", "constexpr int kFlags = O_RDONLY | O_CLOEXEC;\nint fd = openat(at, name, kFlags);\n"),
                ("daemon/logs/a.h", "#pragma once\nclass A {\n  void pipe();\n  absl::Status open(int x);\n};\n"),
                ("daemon/logs/a.h", "// What it is for.\n#pragma once\n"),
                ("daemon/process/a.cc", "  kill(pid, SIGKILL);\n  dup2(a, b);\n"),
                ("daemon/guardian/a.cc", "  const pid_t child = fork();\n  nanosleep(&delay, nullptr);\n"),
                ("daemon/rpc/a.cc", '#include "supervisor/v1/supervisor.pb.h"\n#include "daemon/service/driver.h"\n'),
                ("daemon/service/machine.cc", '#include "daemon/health/verdict.h"\n#include "common/clock.h"\n'),
                ("tests/daemon/rpc/a.cc", '#include "daemon/rpc/server.h"\n#include "daemon/logs/log_pump.h"\n'),
                ("tests/common/a.cc", "  auto deadline = std::chrono::steady_clock::now();\n  if (fork() == 0) {\n  }\n"),
                ("daemon/logs/a.cc", "  // style-ok(cloexec): the flags hold it\n  int fd = ::open(path, flags);\n"),
                ("tests/scenarios/a.py", "time.sleep(0.01)  # style-ok(sleep): the test is about a pause\n"),
                ("tests/scenarios/a.py", "while not ready():\n    time.sleep(0.01)\n"),
                ("tests/common/a.cc", "  while (!ready()) {\n    if (x) {\n    }\n    usleep(1);\n  }\n"),
                ("tests/common/a.cc", "  for (int i = 0; i < 9 && !ready(); ++i) {\n    usleep(1);\n  }\n"),
                ("tests/scenarios/a.py", "def f():\n    for i in range(3):\n        if x:\n            return\n"
                                         "        time.sleep(1)\n"),
                ("tests/scenarios/a.py", "NAME = 'xxx'\n"),
                ("tests/scenarios/a.py", "SERVICE = 'import time; time.sleep(1000)'\n"),
                ("tests/scenarios/a.sh", '"command": "sleep", "args": ["1"]\nrun sleep 1000\n'),
                ("daemon/logs/a.cc", "  using absl::Status;\n  x = 1'000'000;\n  char quote = '\"';\n  int y = 2;\n"),
        ]:
            with self.subTest(path=path, text=text[:60]):
                self.assertEqual([], rules(path, text))


class Program(unittest.TestCase):
    def run_on(self, files):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            return subprocess.run([sys.executable, os.path.join(HERE, "house_style.py"), "--root", root], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)

    def test_finding_means_exit_code_1_and_position(self):
        result = self.run_on({"daemon/logs/a.cc": "int x;\nint y = fork();\n"})
        self.assertEqual(1, result.returncode)
        self.assertIn("daemon/logs/a.cc:2: [fork]", result.stdout)

    def test_clean_tree_means_exit_code_0(self):
        result = self.run_on({"daemon/logs/a.cc": "int x;\n", "build/a.cc": "int y = fork();"})
        self.assertEqual(0, result.returncode, result.stdout)

    def test_two_types_of_one_name_in_one_program(self):
        a = "#pragma once\nnamespace supervisor {\nstruct Access {\n  int x;\n};\n}\n"
        for files, is_found in [
                ({"common/a.h": a, "daemon/store/b.h": a}, True),
                ({"daemon/logs/a.h": a, "daemon/store/b.cc": "class Access final : public Base {\n};\n"}, True),
                ({"ctl/a.h": a, "daemon/store/b.h": a}, False),
                ({"common/a.h": a, "daemon/store/b.cc": "namespace {\nstruct Access {\n};\n}\n"}, False),
                ({"common/a.h": a, "common/a.cc": "struct Access::Impl {\n};\n", "ctl/b.h": "#pragma once\nstruct Access;\n"},
                 False),
        ]:
            with self.subTest(files=files):
                self.assertEqual(is_found, "[type-twice]" in self.run_on(files).stdout)

    def test_empty_tree_is_no_success(self):
        self.assertEqual(1, self.run_on({}).returncode)


if __name__ == "__main__":
    unittest.main()
