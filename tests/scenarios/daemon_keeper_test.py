"""Guardian and daemon are killed together: what services wrote, and nobody has read yet, is there for the next start."""

import os
import pathlib
import shutil
import signal

from harness import FAILED, Daemon, Scenario, is_alive, kill, main, read_proc, shell, sleeper, wait_until


def speaker(go, words="echo last words"):
    return shell(
        f"echo up; while [ ! -e {go} ]; do sleep 0.01; done; {words}; exit 3", restart_policy={"mode": "never"}
    )


class Keeper(Scenario):
    def ended_meanwhile(self, daemon, words="echo last words", **changes):
        """`web` ends when nobody is there. The keepers that are left."""
        go = daemon.dir / "go"
        daemon.write_config({"web": {**speaker(go, words), **changes}, "other": sleeper()})
        daemon.start()
        daemon.wait_log("web", "up")
        pid = daemon.pid("web")
        daemon.kill_daemon()
        go.touch()
        wait_until(lambda: not is_alive(pid), "it to end")
        return daemon.keepers()

    def test_last_words_while_both_are_dead_are_kept(self):
        for arguments in ([], ["--no-guardian"]):
            with self.subTest(arguments=arguments), Daemon(started=False) as daemon:
                daemon.arguments = arguments
                (keeper,) = self.ended_meanwhile(daemon)
                daemon.start()
                daemon.wait_log("web", "last words")
                self.assertEqual(daemon.log("web"), b"up\nlast words\n")
                self.assertFalse(is_alive(keeper), "the next supervisor has what it kept, and one of its own")
                self.assertEqual(len(daemon.keepers()), 1)

    def test_stdout_and_stderr_apart(self):
        with Daemon(started=False) as daemon:
            self.ended_meanwhile(daemon, "echo last; echo words >&2", logs={"stderr": "separate"})
            daemon.start()
            daemon.wait_log("web", "last\n")
            self.assertEqual(daemon.log("web"), b"up\nlast\n")
            wait_until(lambda: (daemon.log_dir / "web.err.log").read_bytes() == b"words\n", "stderr")

    def test_killed_together_again_and_again(self):
        with Daemon(started=False) as daemon:
            self.ended_meanwhile(daemon)
            for _ in range(3):  # before anything of it could be read: the supervisors are killed as soon as they live
                daemon.config["services"]["web"]["enabled"] = False
                daemon.start()
                daemon.kill_daemon()
            daemon.start()
            daemon.wait_log("web", "last words")
            self.assertEqual(daemon.log("web").count(b"last words"), 1)
            wait_until(lambda: len(daemon.keepers()) == 1, "those of the dead to be gone")

    def test_it_ends_by_itself_when_nothing_is_left_to_keep(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:
            daemon.start()
            pid = daemon.wait_state("web", "running")["pid"]
            daemon.kill_daemon()
            self.assert_becomes(lambda: len(daemon.keepers()), 1)
            kill(pid)
            wait_until(lambda: not daemon.processes(), "the keeper to follow the last service")
            daemon.start()

    def test_it_is_gone_with_an_orderly_end(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            (keeper,) = daemon.keepers()
            self.assertTrue(read_proc(keeper, "cmdline").startswith(b"supervisor-keep: "), read_proc(keeper, "cmdline"))
            guardian = daemon.process.pid
            (child,) = set(daemon.supervisors()) - {guardian}
            kill(guardian)  # the daemon goes on, and tells the keeper in its place
            daemon.process.wait()
            daemon.process = None
            self.assertTrue(is_alive(child))
            daemon.supervisord("--stop", expect=0)
            wait_until(lambda: not is_alive(keeper), "the keeper's end")

    def test_killed_itself_it_is_missed_by_nobody(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            (keeper,) = daemon.keepers()
            kill(keeper)
            wait_until(lambda: not is_alive(keeper), "its end")
            daemon.kill_daemon()
            daemon.start()
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)
            self.assert_becomes(lambda: len(daemon.keepers()), 1)

    @staticmethod
    def is_stopped(pid):
        threads = pathlib.Path(f"/proc/{pid}/task").iterdir()
        return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)

    @staticmethod
    def fifo(daemon):
        (fifo,) = daemon.socket.with_suffix(".state").rglob("web.out")
        return fifo

    def all_killed(self, daemon, **changes):
        """`web` has written something that nobody has read, and all are killed together. The keeper that is left."""
        daemon.write_config({"web": {**shell("echo up; exec sleep 1000000"), **changes}})
        daemon.start()
        daemon.wait_log("web", "up")
        pid = daemon.pid("web")
        fifo = self.fifo(daemon)
        supervisors = daemon.supervisors()
        for supervisor in supervisors:
            kill(supervisor, signal.SIGSTOP)
        wait_until(lambda: all(map(self.is_stopped, supervisors)), "all their threads to stand still")
        with open(fifo, "wb", buffering=0) as end:  # as the service does, which has it open
            end.write(b"last words\n")
        daemon.kill_daemon()
        kill(pid)
        wait_until(lambda: not daemon.service_processes(), "the service to be gone")
        (keeper,) = daemon.keepers()
        return keeper

    def test_it_ends_when_its_place_is_gone_and_says_what_is_lost(self):
        for gone in ("the state directory", "its parent", "another in its place"):
            with self.subTest(gone=gone), Daemon(started=False) as daemon:
                run = daemon.dir / "run"
                run.mkdir()
                daemon.socket = run / "s.sock"
                daemon.config["global"]["socket"] = str(daemon.socket)
                keeper = self.all_killed(daemon)
                fifo = self.fifo(daemon)
                if gone == "the state directory":
                    shutil.rmtree(run / "s.state")
                elif gone == "its parent":
                    shutil.rmtree(run)
                else:
                    fifo.unlink()
                    os.mkfifo(fifo)
                wait_until(lambda: not is_alive(keeper), "the keeper's end")
                log = daemon.daemon_log.read_text().splitlines()
                told = [line for line in log if "what a service wrote last is lost" in line]
                self.assertEqual(len(told), 1, log)
                self.assertIn("level=warning", told[0])
                self.assertIn(f"fifo={fifo} bytes=11", told[0])
                daemon.start()

    def test_a_rotated_log_and_one_of_another_name_hear_of_it(self):
        with Daemon(started=False) as daemon:
            daemon.write_config({"web": sleeper()})
            daemon.start()
            other = daemon.dir / "other.log"
            daemon.config["global"]["log_file"] = str(other)
            daemon.write_config()
            daemon.ctl("reload")
            wait_until(other.exists, "the other log")
            daemon.stop()
            daemon.config["global"]["log_file"] = str(daemon.daemon_log)
            keeper = self.all_killed(daemon)
            daemon.daemon_log.rename(daemon.dir / "rotated")
            daemon.daemon_log.write_text("")
            shutil.rmtree(daemon.dir / "s.state")
            wait_until(lambda: not is_alive(keeper), "the keeper's end")
            daemon.wait_daemon_log("what a service wrote last is lost")
            self.assertNotIn("what a service wrote last is lost", (daemon.dir / "rotated").read_text())
            daemon.start()

    def test_a_stop_ends_what_is_left_and_tells_what_is_lost(self):
        with Daemon(started=False) as daemon:
            keeper = self.all_killed(daemon)
            said = daemon.supervisord("--stop", expect=0).stdout
            self.assertIn("supervisor-keep", said)
            self.assertIn("11 bytes", said)
            self.assertFalse(is_alive(keeper))
            self.assertNotIn("supervisor-keep", daemon.supervisord("--stop", expect=0).stdout)
            daemon.start()

    def test_a_stop_leaves_it_while_services_run_and_names_them(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            daemon.kill_daemon()
            (keeper,) = daemon.keepers()
            told = daemon.supervisord("--stop", expect=FAILED).stderr
            self.assertIn(f"web (pid {pid})", told)
            self.assertTrue(is_alive(keeper))
            self.assertTrue(is_alive(pid))
            daemon.start()
            self.assertEqual(daemon.pid("web"), pid)

    def test_sigterm_ends_what_is_left_and_nothing_before(self):
        with Daemon(started=False) as daemon:
            daemon.write_config({"web": sleeper()})
            daemon.start()
            (keeper,) = daemon.keepers()
            kill(keeper, signal.SIGTERM)
            daemon.stop()
            keeper = self.all_killed(daemon)

            def ended():
                kill(keeper, signal.SIGTERM)  # one that comes before it has seen that it is alone is dropped
                return not is_alive(keeper)

            wait_until(ended, "its end")
            daemon.start()

    def test_what_is_still_of_use_stays(self):
        """The state directory is there, the lock file and all else beside it is not."""
        with Daemon(started=False) as daemon:
            keeper = self.all_killed(daemon)
            for name in ("s.lock", "s.pid", "s.sock"):
                (daemon.dir / name).unlink(missing_ok=True)
            daemon.start()
            daemon.wait_log("web", "last words")
            wait_until(lambda: not is_alive(keeper), "its end, once all is read")
            self.assertEqual(len(daemon.keepers()), 1)


if __name__ == "__main__":
    main()
