"""Two supervisors with one pid_directory, log_directory or database: neither touches what is the other's."""

from harness import FAILED, USAGE, Daemon, Scenario, kill, main, shell, sleeper, wait_until


class SharedDirectories(Scenario):
    @staticmethod
    def beside(daemon, services, *shared):
        """A workspace of its own that has these of the daemon's places."""
        other = Daemon(services, started=False)
        for key in shared:
            other.config["global"][key] = daemon.config["global"][key]
        other.write_config()
        return other

    def refused(self, daemon, other, name):
        for arguments in ((), ("--daemon",), ("--no-guardian",)):
            told = other.supervisord(*arguments, expect=FAILED).stderr
            for words in (name, str(daemon.socket), f"pid {daemon.process.pid}", "global.pid_directory"):
                self.assertIn(words, told)

    def test_the_second_is_refused_where_a_file_of_its_own_is_the_firsts(self):
        for key, name in (
            ("pid_directory", "web.pid"),
            ("log_directory", "web.log"),
            ("database", "supervisor.db"),
        ):
            with self.subTest(key=key), Daemon({"web": shell("echo first; exec sleep 1000000")}) as daemon:
                daemon.wait_log("web", "first")
                pid = daemon.wait_state("web", "running")["pid"]
                wait_until(lambda: daemon.pid_file("web").read_text() == f"{pid}\n", "the pid file")
                ids = "SELECT id FROM supervisor_services ORDER BY id"
                rows = wait_until(lambda daemon=daemon, ids=ids: daemon.sql(ids), "its row")
                with self.beside(daemon, {"web": shell("echo second"), "x": sleeper()}, key) as other:
                    self.refused(daemon, other, name)
                    self.assertEqual(other.processes(), [])
                self.assertEqual(daemon.pid_file("web").read_text(), f"{pid}\n")
                self.assertEqual(daemon.log("web"), b"first\n")
                self.assertEqual(daemon.sql(ids), rows)

    def test_other_names_live_side_by_side_and_a_reload_does_not_take_anothers(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            with self.beside(daemon, {"worker": sleeper()}, "pid_directory", "log_directory") as other:
                other.start()
                other.wait_state("worker", "running")
                wait_until(daemon.pid_file("worker").exists, "its pid file")
                other.write_config({"worker": sleeper(), "web": sleeper()})
                for arguments in (("reload",), ("reload", "--dry-run")):
                    told = other.ctl(*arguments, expect=USAGE)
                    self.assertRegex(told.stderr + told.stdout, r"web\.(pid|log) belongs to another supervisord")
                self.assertEqual(list(other.status()), ["worker"])
                daemon.write_config({"other": sleeper()})
                daemon.ctl("reload")
                wait_until(lambda: "web" not in daemon.status(), "it to be removed")
                other.ctl("reload")
                other.wait_state("web", "running")
                other.supervisord("--stop", expect=0)
                other.process.wait()
                other.process = None
                self.assertTrue(daemon.pid_file("other").exists())
                self.assertFalse(daemon.pid_file("web").exists())
                self.assertEqual(len(list(daemon.pid_dir.glob(".supervisord-*"))), 1)
            daemon.stop()
            self.assertEqual(list(daemon.pid_dir.iterdir()), [])

    def test_it_holds_over_a_crash_an_upgrade_and_while_services_of_the_killed_run(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            with self.beside(daemon, {"web": sleeper()}, "pid_directory") as other:
                self.refused(daemon, other, "web.pid")
                before = daemon.version()["pid"]
                kill(before)
                wait_until(lambda: daemon.version()["pid"] != before, "another daemon")
                self.refused(daemon, other, "web.pid")
                daemon.ctl("upgrade")
                wait_until(lambda: daemon.status("web")["pid"] == pid, "the new daemon")
                self.refused(daemon, other, "web.pid")
                daemon.kill_daemon()
                told = other.supervisord(expect=FAILED).stderr
                self.assertIn("web.pid", told)
                daemon.start()
                self.assertEqual(daemon.pid("web"), pid)
                daemon.stop()
                other.start()
                other.wait_state("web", "running")
                other.stop()

    def test_what_a_killed_supervisor_left_without_services_is_free(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            daemon.kill_daemon()
            kill(pid)
            wait_until(lambda: not daemon.processes(), "all of it to be gone")
            with self.beside(daemon, {"web": sleeper()}, "pid_directory", "log_directory") as other:
                other.start()
                other.wait_state("web", "running")
                self.assertRegex(daemon.supervisord(expect=FAILED).stderr, r"web\.(pid|log) belongs to another")
                other.stop()
            daemon.start()
            daemon.wait_state("web", "running")


if __name__ == "__main__":
    main()
