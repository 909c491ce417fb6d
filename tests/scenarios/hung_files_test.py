"""Files of one service on a file system that has stopped to answer: the others, and the daemon's end, know nothing of it."""

import os
import re
import time
import unittest

from harness import (
    SCALE,
    Daemon,
    Scenario,
    Workspace,
    hung_file_system,
    kill,
    main,
    needs_root,
    python,
    shell,
    sleeper,
    wait_until,
)


def without_leak_check(daemon):
    """LeakSanitizer looks with every thread stopped, and one that hangs in the file system cannot be."""
    daemon.env["ASAN_OPTIONS"] += ":detect_leaks=0"


@needs_root
@unittest.skipUnless(os.path.exists("/dev/fuse"), "this kernel has no FUSE")
class HungFiles(Scenario):
    def test_an_environment_file_that_does_not_answer_holds_up_its_service_alone(self):
        hanging = 20
        with Workspace() as place, hung_file_system(place.dir) as prepare:
            services = {f"hung{i}": sleeper(environment_file=f"{place.dir}/env{i}") for i in range(hanging)}
            services["well"] = sleeper(user="nobody")
            with Daemon(services, started=False, prepare=prepare) as daemon:
                without_leak_check(daemon)
                daemon.start()
                daemon.wait_state("well", "running")
                daemon.ctl("restart", "well")
                self.assertEqual(daemon.status("hung0")["state"], "starting")
                for _ in range(2):  # as many as there are threads for streams
                    told = daemon.ctl("explain", "hung1").stderr
                explained = daemon.ctl_json("explain", "hung1")
                self.assertRegex(
                    explained["causes"][0], f"^waits since .* for .* its environment_file {place.dir}/env1: .*not answer"
                )
                self.assertIn("when its user and its environment are known", explained["next"])
                self.assertIn(f"environment_file {place.dir}/env1 did not answer", told)
                events = daemon.stream("events", "-f", "-n", 10)
                began = time.monotonic()
                daemon.ctl("stop", "hung2")
                self.assert_quicker(4, began)
                events.wait_for("stopped")
                began = time.monotonic()
                daemon.stop()
                self.assert_quicker(8, began)

    def test_a_program_or_a_directory_that_does_not_answer_holds_up_its_service_alone(self):
        with Workspace() as place, hung_file_system(place.dir) as prepare:
            services = {
                "program": sleeper(command=f"{place.dir}/program"),
                "directory": sleeper(working_directory=f"{place.dir}/directory"),
                "hook": sleeper(hooks={"pre_start": {"command": f"{place.dir}/hook"}}),
                "well": sleeper(),
            }
            with Daemon(services, started=False, prepare=prepare) as daemon:
                without_leak_check(daemon)
                daemon.start()
                pid = daemon.wait_state("well", "running")["pid"]
                for name in ("program", "directory"):
                    told = f"^waits since .* to become its program: .*{place.dir}/{name}.* does not answer"
                    wait_until(
                        lambda name=name, told=told: re.search(told, daemon.ctl_json("explain", name)["causes"][0]),
                        f"{name} to be explained",
                    )
                began = time.monotonic()
                # Nobody is there to be asked to go: the graceful shutdown's ten seconds are not waited for.
                wait_until(lambda: time.monotonic() - began > 1, "the start to count as hanging")
                daemon.ctl("stop", "program", "directory", "hook")
                self.assert_quicker(8, began)
                self.assertEqual(daemon.pid("well"), pid)

    def test_an_adopted_service_is_heard_though_its_environment_file_does_not_answer(self):
        with Workspace() as place, Workspace() as files, hung_file_system(place.dir) as prepare:
            environment = files.dir / "env"
            environment.write_text("GREETING=hello\n", encoding="utf-8")
            notify = "import os, socket, time\nwhile True:\n print('tick', flush=True)\n time.sleep(0.05)\n" + (
                " socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto("
                "b'READY=1\\nWATCHDOG=1\\nSTATUS=%d' % time.time_ns(), os.environ['NOTIFY_SOCKET'])"
            )
            services = {
                "talks": python(
                    notify,
                    user="nobody",
                    environment_file=str(environment),
                    readiness={"type": "notify", "timeout": 30},
                    environment={"WATCHDOG_USEC": str(int(3e6 * SCALE))},
                )
            }
            with Daemon(services, started=False, prepare=prepare) as daemon:
                without_leak_check(daemon)
                daemon.start()
                pid = daemon.wait_state("talks", "running", timeout=30)["pid"]
                environment.unlink()
                environment.symlink_to(place.dir / "env")
                kill(daemon.version()["pid"])  # the guardian starts the next one
                ticks = daemon.log("talks").count(b"tick")
                # More than the watchdog's time: it hears it too.
                daemon.wait_log("talks", "tick", count=ticks + int(4 * SCALE / 0.05), timeout=30)
                self.assertEqual(daemon.pid("talks"), pid)
                self.assertEqual(daemon.status("talks")["state"], "running")

    def test_one_that_stops_to_answer_later_takes_no_lines_and_measurements_from_others(self):
        with Workspace() as place, Workspace() as files, hung_file_system(place.dir) as prepare:
            environment = files.dir / "env"
            environment.write_text("GREETING=hello\n", encoding="utf-8")
            dies = {"delay": 0.05, "max_attempts": 0}
            services = {f"hung{i}": sleeper(environment_file=str(environment), restart_policy=dies) for i in range(4)}
            services["well"] = shell('echo "last words"; exec sleep 1000', restart_policy={"delay": 0.05})
            extra = {"monitoring": {"metrics_interval": 0.1}}
            with Daemon(services, extra=extra, started=False, prepare=prepare) as daemon:
                without_leak_check(daemon)
                daemon.start()
                for name in services:
                    daemon.wait_state(name, "running")
                environment.unlink()
                environment.symlink_to(place.dir / "env")
                for i in range(4):
                    kill(daemon.pid(f"hung{i}"))
                    daemon.wait_state(f"hung{i}", "starting")
                count = "SELECT count(*) FROM supervisor_metrics WHERE service_id = 'well'"
                before = daemon.sql(count)[0][0]
                wait_until(lambda: daemon.sql(count)[0][0] >= before + 5, "measurements to go on")
                kill(daemon.pid("well"))
                wait_until(
                    lambda: daemon.sql(
                        "SELECT 1 FROM supervisor_events WHERE service_id = 'well' AND details LIKE '%last words%'"
                    ),
                    "its last lines",
                )
                began = time.monotonic()
                daemon.stop()
                self.assert_quicker(8, began)


if __name__ == "__main__":
    main()
