"""Guardian and daemon are killed together: what services wrote, and nobody has read yet, is there for the next start."""

from harness import Daemon, Scenario, is_alive, kill, main, read_proc, shell, sleeper, wait_until


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


if __name__ == "__main__":
    main()
