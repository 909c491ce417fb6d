"""A second Ctrl-C, SIGTERM or --stop hurries a long stop; one that arrives as several signals does not."""

import os
import signal
import threading

from harness import SUPERVISORD, Daemon, Scenario, kill, main, run, shell, sleeper, wait_until

LONG = {"timeout": 3600}
STUBBORN = shell("trap 'echo asked' TERM; echo set; while :; do sleep 0.02; done", graceful_shutdown=LONG)
# Longer than what a hurried stop leaves to each, so that it would be killed before its last words.
SLOW = shell("trap 'sleep 4; echo last words; exit 0' TERM; echo set; while :; do sleep 0.02; done", graceful_shutdown=LONG)


class HurriedStop(Scenario):
    def gone_by_sigkill(self, daemon, *services):
        daemon.check_gone()
        for service in services:
            rows = daemon.sql(
                "SELECT message FROM supervisor_events WHERE service_id = ? AND event_type = 'stopped'", service
            )
            self.assertEqual(len(rows), 1, service)
            self.assertIn("SIGKILL", rows[0][0])

    def test_by_a_second_signal_to_the_supervisor(self):
        for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)):
            for arguments in ([], ["--no-guardian"]):
                with self.subTest(first=first, arguments=arguments), Daemon({"web": STUBBORN}, started=False) as daemon:
                    daemon.arguments = arguments
                    daemon.start()
                    daemon.wait_log("web", "set")
                    daemon.process.send_signal(first)
                    daemon.wait_log("web", "asked")
                    daemon.wait_daemon_log("a second SIGTERM or Ctrl-C kills what is left")
                    daemon.process.send_signal(second)
                    self.gone_by_sigkill(daemon, "web")
                    daemon.wait_daemon_log("a second request to stop")

    def test_meanwhile_the_summary_tells_how_far_it_is(self):
        with Daemon({"web": STUBBORN, "db": sleeper()}) as daemon:
            daemon.wait_log("web", "set")
            self.assertNotIn("is stopping all services", daemon.ctl("summary").stdout)
            daemon.process.send_signal(signal.SIGTERM)
            daemon.wait_log("web", "asked")
            wait_until(
                lambda: "supervisord is stopping all services and ends when they are gone: 1 left: web\n"
                in daemon.ctl("summary", expect=None).stdout,
                "the summary to say so",
            )
            daemon.process.send_signal(signal.SIGTERM)
            daemon.check_gone()

    def test_by_a_second_stop_command(self):
        with Daemon({"web": STUBBORN}) as daemon:
            daemon.wait_log("web", "set")
            results = []
            stop = [SUPERVISORD, "-c", daemon.config_file, "--stop"]
            first = threading.Thread(target=lambda: results.append(run(stop, env=daemon.env)))
            first.start()
            try:
                daemon.wait_log("web", "asked")
                results.append(run(stop, env=daemon.env))
            finally:
                first.join()
            self.assertEqual([result.returncode for result in results], [0, 0])
            self.gone_by_sigkill(daemon, "web")

    def test_the_order_is_kept_and_hooks_are_cut_short(self):
        hook = {"command": "/bin/sh", "args": ["-c", ": > hooked; sleep 3600"], "timeout": 3600}
        services = {
            "db": STUBBORN,
            "app": {**STUBBORN, "depends_on": ["db"]},
            "front": {**STUBBORN, "depends_on": ["app"], "hooks": {"pre_stop": hook}},
        }
        with Daemon(services) as daemon:
            for service in services:
                daemon.wait_log(service, "set")
            daemon.process.send_signal(signal.SIGTERM)
            wait_until((daemon.dir / "hooked").exists, "the hook")
            daemon.process.send_signal(signal.SIGTERM)
            self.gone_by_sigkill(daemon, *services)
            rows = daemon.sql("SELECT service_id FROM supervisor_events WHERE event_type = 'stopped' ORDER BY id")
            self.assertEqual([row for (row,) in rows], ["front", "app", "db"])

    def test_a_service_that_started_to_stop_before_the_shutdown_is_hurried_too(self):
        with Daemon({"web": STUBBORN, "other": sleeper()}) as daemon:
            daemon.wait_log("web", "set")
            daemon.ctl("stop", "--no-wait", "web")
            daemon.wait_log("web", "asked")
            for _ in range(2):
                daemon.process.send_signal(signal.SIGTERM)
                wait_until(lambda: "stopping all services" in daemon.daemon_log.read_text(), "the stop")
            self.gone_by_sigkill(daemon, "web")

    def test_one_wish_that_arrives_twice_hurries_nothing(self):
        with Daemon({"web": SLOW}) as daemon:
            daemon.wait_log("web", "set")
            for pid in daemon.supervisors():  # as `killall supervisord` does
                kill(pid, signal.SIGTERM)
            daemon.check_gone()
            self.assertEqual(daemon.log("web"), b"set\nlast words\n")

    def test_ctrl_c_at_a_terminal_hurries_only_the_second_time(self):
        for again in (False, True):
            with self.subTest(again=again), Daemon({"web": STUBBORN if again else SLOW}, started=False) as daemon:
                leader, terminal = os.forkpty()
                if leader == 0:
                    try:
                        os.execve(SUPERVISORD, [SUPERVISORD, "-c", str(daemon.config_file)], daemon.env)
                    finally:
                        os._exit(127)
                drain = threading.Thread(target=self.drain, args=(terminal,))
                drain.start()
                daemon.wait_ready()
                daemon.wait_log("web", "set")
                os.write(terminal, b"\x03")
                if again:
                    daemon.wait_log("web", "asked")
                    os.write(terminal, b"\x03")
                self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(leader, 0)[1]), 0)
                drain.join()
                os.close(terminal)
                self.assertEqual(b"last words" in daemon.log("web"), not again)

    @staticmethod
    def drain(terminal):
        try:
            while os.read(terminal, 4096):
                pass
        except OSError:
            pass  # EIO: the last one on the other side has closed it


if __name__ == "__main__":
    main()
