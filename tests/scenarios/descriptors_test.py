"""Fewer descriptors than the services want: control, database, logs and the end work always, and starts say what is wrong."""

import pathlib
import re
import resource
import socket
import unittest

from harness import FAILED, SUPERVISORD, Daemon, Scenario, main, process_status, read_proc, shell, sleeper, wait_until

# What the sanitizers' own runtime has open is not known here.
SANITIZED = re.search(rb"libasan|libtsan|libubsan", pathlib.Path(SUPERVISORD).read_bytes()) is not None
NO_RETRY = {"restart_policy": {"mode": "never"}}


def limited(soft, hard=None):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard or soft))


@unittest.skipIf(SANITIZED, "the sanitizers have descriptors of their own")
class Descriptors(Scenario):
    def ask_everything(self, daemon, some):
        """All that a caller may want is answered."""
        daemon.ctl("status", expect=None)
        daemon.ctl("summary")
        self.assertTrue(daemon.events(some))
        daemon.ctl("logs", "-n", "1", some)
        daemon.ctl("explain", some)
        daemon.ctl("health", expect=None)
        wait_until(lambda: daemon.sql("SELECT * FROM supervisor_services"), "its rows")
        for _ in range(30):
            daemon.ctl("version")

    def test_sixty_services_at_a_limit_of_five_hundred(self):
        services = {f"s{i:02}": shell(f"echo {i}; exec sleep 1000000", **NO_RETRY) for i in range(60)}
        with Daemon(services, prepare=limited(500)) as daemon:
            wait_until(lambda: all(row["state"] == "running" for row in daemon.status().values()), "all to run", 60)
            daemon.wait_log("s59", "59")
            self.ask_everything(daemon, "s59")
            followers = [daemon.stream("logs", f"s{i:02}", "-f") for i in range(10)]
            self.ask_everything(daemon, "s00")
            for follower in followers:
                follower.close()
            daemon.ctl("restart", "all")
            self.ask_everything(daemon, "s00")

    def test_what_would_eat_into_the_reserve_is_refused_and_says_so(self):
        services = {f"s{i:02}": sleeper(**NO_RETRY) for i in range(60)}
        with Daemon(services, prepare=limited(300)) as daemon:

            def settled():
                rows = daemon.status().values()
                return all(row["state"] in ("running", "failed") for row in rows) and rows

            rows = wait_until(settled, "all to be started or refused", 60)
            failed = [row for row in rows if row["state"] == "failed"]
            self.assertGreater(len(failed), 10)
            self.assertGreater(len(rows) - len(failed), 10)
            for row in failed:
                for words in ("too few file descriptors", "limit of 300 (RLIMIT_NOFILE)", "LimitNOFILE="):
                    self.assertIn(words, row["reason"])
            log = daemon.daemon_log.read_text()
            carries = int(re.search(r"services that the limit carries.* limit=300 carries=(\d+)", log).group(1))
            self.assertEqual(carries, len(rows) - len(failed))
            self.assertRegex(log, rf"does not carry all enabled services.* carries={carries} enabled=60")
            running = next(row["id"] for row in rows if row["state"] == "running")
            self.ask_everything(daemon, running)
            one = failed[0]["id"]
            self.assertIn("RLIMIT_NOFILE", daemon.ctl("start", one, expect=FAILED).stderr)
            daemon.ctl("stop", running)  # leaves its own to others
            daemon.ctl("start", one)
            self.assertIn("RLIMIT_NOFILE", daemon.ctl("start", running, expect=FAILED).stderr)
            daemon.ctl("restart", one)

    def test_a_refused_start_is_tried_again_by_its_policy(self):
        again = {"restart_policy": {"delay": 0.1, "max_attempts": 0, "jitter": 0, "backoff_multiplier": 1}}
        services = {f"s{i:02}": sleeper(priority=1) for i in range(60)}
        with Daemon({**services, "last": sleeper(**again)}, prepare=limited(300)) as daemon:
            row = daemon.wait_for("last", lambda row: row["restart_count"] >= 2, "it to be tried again", 60)
            self.assertIn("RLIMIT_NOFILE", row["reason"])
            daemon.ctl("stop", "s*")
            daemon.wait_state("last", "running")

    def test_the_soft_limit_is_raised_and_the_services_keep_theirs(self):
        limits = {"max_open_files": 77}
        with Daemon({"web": sleeper(), "own": sleeper(resource_limits=limits)}, prepare=limited(100, 900)) as daemon:
            web = daemon.wait_state("web", "running")["pid"]
            own = daemon.wait_state("own", "running")["pid"]

            def open_files(pid):
                line = next(line for line in read_proc(pid, "limits").decode().splitlines() if "open files" in line)
                return tuple(map(int, line.split()[3:5]))

            self.assertEqual(open_files(daemon.version()["pid"]), (900, 900))
            self.assertEqual(open_files(web), (100, 900))
            self.assertEqual(open_files(own), (77, 77))
            daemon.ctl("upgrade")
            wait_until(lambda: daemon.status("web")["pid"] == web, "the new daemon")
            daemon.ctl("restart", "web")
            self.assertEqual(open_files(daemon.pid("web")), (100, 900))
            daemon.wait_daemon_log("limit=900")

    def test_silent_clients_do_not_keep_others_from_being_served(self):
        with Daemon({"web": sleeper()}, prepare=limited(256)) as daemon:
            daemon.wait_state("web", "running")
            silent = []
            for _ in range(400):
                client = socket.socket(socket.AF_UNIX)
                client.settimeout(20)
                client.connect(str(daemon.socket))
                silent.append(client)
            self.ask_everything(daemon, "web")
            daemon.ctl("restart", "web")
            self.assertEqual(process_status(daemon.pid("web"))["State"][0], "S")
            for client in silent:
                client.close()

    def test_an_adopted_service_counts(self):
        services = {f"s{i:02}": sleeper(**NO_RETRY) for i in range(60)}
        with Daemon(services, prepare=limited(300)) as daemon:
            wait_until(
                lambda: all(row["state"] in ("running", "failed") for row in daemon.status().values()), "all", 60
            )
            before = {id: row["pid"] for id, row in daemon.status().items() if row["pid"]}
            failed = [id for id, row in daemon.status().items() if row["state"] == "failed"]
            daemon.kill_daemon()
            daemon.start()
            self.assertEqual({id: row["pid"] for id, row in daemon.status().items() if row["pid"]}, before)
            # Starts that went on at once may have had a few descriptors open that are free now.
            while (refused := daemon.ctl("start", failed.pop(0), expect=None)).returncode == 0:
                self.assertGreater(len(failed), 60 - len(before) - 5)
            self.assertEqual(refused.returncode, FAILED)
            self.assertIn("RLIMIT_NOFILE", refused.stderr)
            self.ask_everything(daemon, next(iter(before)))


if __name__ == "__main__":
    main()
