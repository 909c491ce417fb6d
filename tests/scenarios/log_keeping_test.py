"""Logs beside other programs that care for them: logrotate, log shippers, an administrator's copies."""

import gzip
import os
import shutil
import signal
import stat

from harness import Daemon, Scenario, eventually, main, needs_root, python, shell, wait_until

# Sends a line for each SIGUSR1.
SPEAKER = "i=0; trap 'i=$((i+1)); echo line $i' USR1; echo set; while :; do sleep 0.01; done"
# Writes as many kilobytes of lines as it is told to by its first argument, for each SIGUSR1.
WRITER = (
    "import signal, sys\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
    "print('set', flush=True)\n"
    "n = 0\n"
    "while True:\n"
    "  signal.sigwait([signal.SIGUSR1])\n"
    "  for i in range(int(sys.argv[1])): sys.stdout.write(f'{n:05d} ' + 'x' * 1017 + '\\n')\n"
    "  print(f'end {n}', flush=True)\n"
    "  n += 1\n"
)


def plant(daemon, names):
    """Files of another program beside the log of web, before the daemon starts; returns what is in them."""
    daemon.log_dir.mkdir(exist_ok=True)
    content = {name: f"kept by another program: {name}\n".encode() for name in names}
    for name, data in content.items():
        (daemon.log_dir / name).write_bytes(data)
    return content


class OthersFiles(Scenario):
    def assert_kept(self, daemon, content):
        there = {path.name: path.read_bytes() for path in daemon.log_dir.iterdir()}
        self.assertEqual({name: there.get(name) for name in content}, content)

    def write(self, daemon, rounds=1):
        for number in range(rounds):
            daemon.ctl("signal", "USR1", "web")
            wait_until(lambda n=number: f"end {n}\n" in daemon.ctl("logs", "web", "-n", 1).stdout, "the lines")

    def check_start_and_reload(self, logs, names):
        with Daemon({"web": shell(SPEAKER, logs=logs)}, started=False) as daemon:
            content = plant(daemon, names)
            daemon.start()
            daemon.wait_log("web", "set")
            self.assert_kept(daemon, content)
            changed = {**logs, "max_files": 2}
            daemon.write_config({"web": shell(SPEAKER, logs=changed)})
            daemon.ctl("reload")
            daemon.ctl("restart", "web")
            daemon.wait_log("web", "set", 2)
            self.assert_kept(daemon, content)
            daemon.kill_daemon()
            daemon.start()
            self.assert_kept(daemon, content)

    def test_a_log_that_is_not_rotated_by_size_keeps_logrotates_history(self):
        self.check_start_and_reload(
            {"max_size_mb": 0}, [f"web.log.{i}" for i in range(1, 31)] + ["web.log.31.gz", "web.log-20261130"]
        )

    def test_nor_does_one_that_is_lose_what_own_rotation_did_not_make(self):
        self.check_start_and_reload(
            {"max_size_mb": 1, "max_files": 5, "compress": True},
            [
                *[f"web.log.{i}" for i in range(1, 31)],
                *[f"web.log.{i}.gz" for i in range(31, 41)],
                *["web.log-20261130", "web.log-20261129.gz", "web.log.bak", "web.log.1.bak", "web.log.old", "web.log~"],
                *["web.log.gz.tmp", "web.log.1.gz.old", "web.err.log.11"],
            ],
        )

    def test_own_rotation_removes_its_own_files_alone(self):
        with Daemon({"web": python(WRITER, "150", logs={"max_size_mb": 0.1, "max_files": 3})}, started=False) as daemon:
            content = plant(daemon, [f"web.log.{i}" for i in range(11, 31)])
            daemon.start()
            daemon.wait_log("web", "set")
            self.write(daemon, 8)
            self.assert_kept(daemon, content)
            numbers = {path.name for path in daemon.log_dir.glob("web.log.?")}
            self.assertEqual(numbers, {"web.log.1", "web.log.2", "web.log.3"})

    def test_what_stands_in_its_way_moves_up_and_stays(self):
        with Daemon({"web": python(WRITER, "150", logs={"max_size_mb": 0.1, "max_files": 2})}, started=False) as daemon:
            content = plant(daemon, ["web.log.1", "web.log.2", "web.log.3.gz"])
            daemon.start()
            daemon.wait_log("web", "set")
            self.write(daemon, 6)
            there = [path.read_bytes() for path in daemon.log_dir.iterdir()]
            for name, data in content.items():
                self.assertEqual(there.count(data), 1, name)
            own = [data for data in there if b"xxx" in data]
            self.assertEqual(len(own), 3, "the log and two rotated files")

    def test_a_smaller_max_files_removes_own_files_and_says_so(self):
        logs = {"max_size_mb": 0.1, "max_files": 6}
        with Daemon({"web": python(WRITER, "150", logs=logs)}) as daemon:
            daemon.wait_log("web", "set")
            self.write(daemon, 6)
            self.assertTrue((daemon.log_dir / "web.log.6").exists())
            daemon.write_config({"web": python(WRITER, "150", logs={**logs, "max_files": 2})})
            daemon.ctl("reload")
            wait_until(lambda: not (daemon.log_dir / "web.log.3").exists(), "the files beyond max_files to go")
            self.assertTrue((daemon.log_dir / "web.log.2").exists())
            eventually(lambda: self.assertIn("web.log.3 web.log.4 web.log.5 web.log.6", daemon.daemon_log.read_text()))

    def test_logrotate_with_create_and_a_signal_afterwards(self):
        # As logrotate does it with "rotate 12", "create", "sharedscripts" and "postrotate kill -USR1".
        def rotate():
            for i in range(12, 0, -1):
                older = daemon.log_dir / f"web.log.{i}"
                if older.exists():
                    older.rename(daemon.log_dir / f"web.log.{i + 1}")
            daemon.log_file("web").rename(daemon.log_dir / "web.log.1")
            daemon.log_file("web").touch(0o640)
            daemon.process.send_signal(signal.SIGUSR1)

        services = {"web": shell(SPEAKER, logs={"max_size_mb": 1, "max_files": 3})}
        with Daemon(services) as daemon:
            daemon.wait_log("web", "set")
            for i in range(1, 13):
                daemon.ctl("signal", "USR1", "web")
                daemon.wait_log("web", f"line {i}\n")
                rotate()
            daemon.ctl("signal", "USR1", "web")
            daemon.wait_log("web", "line 13\n")
            services["web"]["logs"]["max_files"] = 2
            daemon.write_config(services)
            daemon.ctl("reload")
            daemon.ctl("stop", "web")
            daemon.ctl("start", "web")
            daemon.wait_log("web", "set")
            for i in range(1, 13):
                self.assertIn(f"line {13 - i}\n", (daemon.log_dir / f"web.log.{i}").read_text())

    def test_only_own_files_are_compressed(self):
        with Daemon(
            {"web": python(WRITER, "150", logs={"max_size_mb": 0.1, "max_files": 9, "compress": True})}, started=False
        ) as daemon:
            content = plant(daemon, ["web.log.1"])
            daemon.start()
            daemon.wait_log("web", "set")
            self.write(daemon)
            wait_until(lambda: list(daemon.log_dir.glob("web.log.?.gz")), "compression")
            there = [path.read_bytes() for path in daemon.log_dir.iterdir()]
            self.assertEqual(there.count(content["web.log.1"]), 1)


class Access(Scenario):
    LOGS = {"max_size_mb": 0.1, "max_files": 3}

    @staticmethod
    def access(path):
        status = path.stat()
        return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)

    def rotate(self, daemon):
        before = daemon.log_file("web").stat().st_ino
        daemon.ctl("signal", "USR1", "web")
        wait_until(
            lambda: daemon.log_file("web").exists() and daemon.log_file("web").stat().st_ino != before, "a rotation"
        )

    @needs_root
    def test_a_successor_takes_over_owner_group_and_mode(self):
        with Daemon({"web": python(WRITER, "150", logs=self.LOGS)}) as daemon:
            daemon.wait_log("web", "set")
            path = daemon.log_file("web")
            self.assertEqual(self.access(path), (0, 0, 0o640))
            os.chown(path, 12345, 23456)
            path.chmod(0o664)
            self.rotate(daemon)
            eventually(lambda: self.assertEqual(self.access(path), (12345, 23456, 0o664)))
            self.assertEqual(self.access(daemon.log_dir / "web.log.1"), (12345, 23456, 0o664))
            # Moved away, and made anew at the signal: logrotate with "nocreate".
            path.rename(daemon.log_dir / "moved")
            daemon.process.send_signal(signal.SIGUSR1)
            wait_until(path.exists, "the log to be made again")
            eventually(lambda: self.assertEqual(self.access(path), (12345, 23456, 0o664)))
            path.unlink()
            wait_until(path.exists, "the log to be made again")
            eventually(lambda: self.assertEqual(self.access(path), (12345, 23456, 0o664)))

    @needs_root
    def test_compressed_files_keep_it_too(self):
        with Daemon({"web": python(WRITER, "150", logs={**self.LOGS, "compress": True})}) as daemon:
            daemon.wait_log("web", "set")
            os.chown(daemon.log_file("web"), 0, 23456)
            daemon.log_file("web").chmod(0o644)
            self.rotate(daemon)
            compressed = daemon.log_dir / "web.log.1.gz"
            wait_until(compressed.exists, "compression")
            self.assertEqual(self.access(compressed), (0, 23456, 0o644))
            self.assertIn(b"set\n", gzip.decompress(compressed.read_bytes()))

    @needs_root
    def test_keys_set_it_and_a_reload_applies_them(self):
        logs = {**self.LOGS, "owner": "nobody", "group": "12", "mode": "0604"}
        with Daemon({"web": python(WRITER, "150", logs=logs)}) as daemon:
            daemon.wait_log("web", "set")
            path = daemon.log_file("web")
            self.assertEqual(self.access(path), (65534, 12, 0o604))
            self.rotate(daemon)
            eventually(lambda: self.assertEqual(self.access(path), (65534, 12, 0o604)))
            pid = daemon.pid("web")
            daemon.write_config({"web": python(WRITER, "150", logs={**logs, "owner": "4711", "mode": "0660"})})
            self.assertEqual(daemon.ctl_json("reload")["updated"], ["web"])
            eventually(lambda: self.assertEqual(self.access(path), (4711, 12, 0o660)))
            self.assertEqual(daemon.pid("web"), pid)
            daemon.kill_daemon()
            daemon.start()
            self.rotate(daemon)
            eventually(lambda: self.assertEqual(self.access(path), (4711, 12, 0o660)))

    def test_a_mode_alone_needs_no_root(self):
        with Daemon({"web": shell(SPEAKER, logs={"mode": "0644"})}) as daemon:
            daemon.wait_log("web", "set")
            self.assertEqual(self.access(daemon.log_file("web"))[2], 0o644)

    def test_an_owner_that_does_not_exist_is_named(self):
        service = shell(SPEAKER, logs={"owner": "no-such-user"}, restart_policy={"mode": "never"})
        with Daemon({"web": service}) as daemon:
            daemon.wait_state("web", "failed")
            self.assertIn("logs.owner: user no-such-user: no such user", daemon.ctl("explain", "web").stdout)


class CopyTruncate(Scenario):
    """logrotate's copytruncate: the file shrinks under us, at any moment."""

    # Counts, as quickly as it can, until the daemon stops it. No more than PIPE_BUF (pipe(7)) in one write, which is
    # all or nothing then: it is killed in the midst of one.
    FLOOD = (
        "import os, time\n"
        "n = 0\n"
        "while True:\n"
        "  os.write(1, b''.join(b'%012d of a service that writes much\\n' % i for i in range(n, n + 90)))\n"
        "  n += 90\n"
        "  if n % 900 == 0: time.sleep(0.001)\n"
    )

    def check(self, **logs):
        with Daemon({"web": python(self.FLOOD, logs={"max_size_mb": 0, **logs})}) as daemon:
            path = daemon.log_file("web")
            copy = daemon.dir / "copy"
            for _ in range(60):
                wait_until(lambda: path.exists() and path.stat().st_size > 200_000, "the log to grow")
                shutil.copyfile(path, copy)
                os.truncate(path, 0)
                self.assertEqual(copy.read_bytes().count(b"\0"), 0)
            daemon.ctl("stop", "web")
            data = path.read_bytes()
            self.assertEqual(data.count(b"\0"), 0)
            self.assertEqual(data[-1:], b"\n")

    def test_leaves_no_holes(self):
        self.check()

    def test_nor_with_timestamps(self):
        self.check(timestamps=True)

    def test_the_log_goes_on_at_the_files_end(self):
        with Daemon({"web": shell(SPEAKER, logs={"timestamps": True})}) as daemon:
            daemon.wait_log("web", "set")
            for i in range(1, 6):
                os.truncate(daemon.log_file("web"), 0)
                daemon.ctl("signal", "USR1", "web")
                daemon.wait_log("web", f"line {i}\n")
                data = daemon.log("web")
                self.assertNotIn(b"\0", data)
                self.assertEqual(data.count(b"\n"), 1)


if __name__ == "__main__":
    main()
