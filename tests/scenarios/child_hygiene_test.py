"""What a service is born with: nothing of the daemon's descriptors, signals or session; all that is configured."""

import grp
import os
import pwd
import resource
import signal
import subprocess

from harness import (
    Daemon,
    Scenario,
    environment,
    main,
    needs_root,
    process_stat,
    process_status,
    read_proc,
    shell,
    sleeper,
    SUPERVISORD,
    wait_until,
)


def descriptors(pid):
    return {int(name): os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}


class ChildHygiene(Scenario):
    def pid_of(self, daemon, service="web"):
        return daemon.wait_state(service, "running")["pid"]

    def test_nothing_that_the_daemon_was_born_with_is_passed_on(self):
        def prepare():
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1])
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        with Daemon({"web": sleeper(), "talker": shell("echo hello; exec sleep 1000")}, started=False) as daemon:
            # sh opens descriptor 9 and becomes the daemon.
            log = open(daemon.stderr_file, "ab")
            daemon.process = subprocess.Popen(
                [
                    "/bin/sh",
                    "-c",
                    'exec "$@" 9</dev/null 8>/dev/null',
                    "sh",
                    SUPERVISORD,
                    "-c",
                    str(daemon.config_file),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=daemon.env,
                preexec_fn=prepare,
            )
            log.close()
            daemon.wait_ready()
            for service in ("web", "talker"):
                pid = self.pid_of(daemon, service)
                self.assert_becomes(lambda pid=pid: sorted(descriptors(pid)), [0, 1, 2])
                status = process_status(pid)
                for mask in ("SigBlk", "SigIgn", "SigPnd", "ShdPnd"):
                    self.assertEqual(int(status[mask], 16), 0, f"{mask}: {status[mask]}")
            kill_pid = daemon.process.pid
            os.kill(kill_pid, signal.SIGTERM)  # although it was born with SIGTERM blocked
            daemon.check_gone()

    def test_it_has_descriptors_0_to_2_and_reads_nothing(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = self.pid_of(daemon)
            self.assert_becomes(lambda: sorted(descriptors(pid)), [0, 1, 2])
            self.assertEqual(descriptors(pid)[0], "/dev/null")

    def test_it_has_a_session_of_its_own_and_no_terminal(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = self.pid_of(daemon)
            _, _, group, session, terminal, *_ = process_stat(pid)
            self.assertEqual((int(group), int(session), terminal), (pid, pid, "0"))

    def test_no_capability_to_be_killed_with_the_daemon(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = self.pid_of(daemon)
            self.assertEqual(process_status(pid)["Seccomp"], "0")
            self.assertEqual(read_proc(pid, "oom_score_adj").strip(), read_proc("self", "oom_score_adj").strip())

    def test_umask_default_and_as_configured(self):
        with Daemon({"plain": sleeper(), "tight": sleeper(umask="077"), "open": sleeper(umask="000")}) as daemon:
            for service, umask in (("plain", "0022"), ("tight", "0077"), ("open", "0000")):
                self.assertEqual(process_status(self.pid_of(daemon, service))["Umask"], umask)

    def test_working_directory_default_and_as_configured(self):
        with Daemon(started=False) as daemon:
            (daemon.dir / "sub").mkdir()
            daemon.write_config(
                {
                    "plain": sleeper(),
                    "absolute": sleeper(working_directory="/usr"),
                    "relative": sleeper(working_directory="sub"),
                }
            )
            daemon.start()
            for service, directory in (
                ("plain", str(daemon.dir)),
                ("absolute", "/usr"),
                ("relative", f"{daemon.dir}/sub"),
            ):
                self.assertEqual(os.readlink(f"/proc/{self.pid_of(daemon, service)}/cwd"), directory)

    def test_a_relative_command_is_looked_for_where_the_configuration_is(self):
        with Daemon(started=False) as daemon:
            (daemon.dir / "run.sh").write_text("#!/bin/sh\necho here\nexec sleep 1000\n")
            (daemon.dir / "run.sh").chmod(0o755)
            daemon.write_config({"web": {"command": "./run.sh"}})
            daemon.start()
            daemon.wait_log("web", "here")

    def test_the_environment_is_the_daemons_with_the_configured_on_top(self):
        with Daemon(
            {
                "web": sleeper(
                    environment={
                        "OVERRIDDEN": "by the service",
                        "EMPTY": "",
                        "FROM": "${OVERRIDDEN}-${MISSING:-none}",
                        "LITERAL": "$${HOME} $PATH $$",
                    }
                )
            },
            env={"INHERITED": "yes", "OVERRIDDEN": "by the daemon"},
        ) as daemon:
            found = environment(self.pid_of(daemon))
            self.assertEqual(found.get("INHERITED"), "yes")
            self.assertEqual(found["OVERRIDDEN"], "by the service")
            self.assertEqual(found["EMPTY"], "")
            self.assertEqual(found["FROM"], "by the daemon-none")
            self.assertEqual(found["LITERAL"], "${HOME} $PATH $$")
            self.assertEqual(found["PATH"], daemon.env["PATH"])
            self.assertFalse([key for key in found if "GUARDIAN" in key])

    def test_a_service_finds_its_name_its_number_and_the_socket(self):
        services = {
            "web": sleeper(),
            "worker": sleeper(instances=2),
            "own": sleeper(environment={"SERVICE_ID": "my-own"}),
        }
        with Daemon(services, env={"SERVICE_ID": "inherited", "SUPERVISOR_SOCKET": "/elsewhere"}) as daemon:
            for id, name, number in (
                ("web", "web", "0"),
                ("worker:0", "worker:0", "0"),
                ("worker:1", "worker:1", "1"),
                ("own", "my-own", "0"),
            ):
                found = environment(self.pid_of(daemon, id))
                self.assertEqual((found["SERVICE_ID"], found["SERVICE_INSTANCE"]), (name, number))
                self.assertEqual(found["SUPERVISOR_SOCKET"], str(daemon.socket))

    def test_an_environment_file_lies_under_the_configured_environment(self):
        with Daemon(started=False) as daemon:
            (daemon.dir / "web.env").write_text("# a comment\n\nONE=1\nTWO=two words\nTHREE=\"quoted\"\n")
            daemon.write_config({"web": sleeper(environment_file="web.env", environment={"TWO": "2"})})
            daemon.start()
            found = environment(self.pid_of(daemon))
            self.assertEqual((found["ONE"], found["TWO"], found["THREE"]), ("1", "2", "quoted"))

    def test_arguments_arrive_as_they_are_without_a_shell(self):
        arguments = [
            "-c",
            "import sys, signal; print(sys.argv[1:], flush=True); signal.pause()",
            "a b",
            "$HOME",
            "*",
            "",
            "ü \"'",
            "a;b|c",
        ]
        with Daemon({"web": sleeper(command="/usr/bin/python3", args=arguments)}) as daemon:
            daemon.wait_log("web", "]\n")
            self.assertEqual(eval(daemon.log("web")), arguments[2:])  # the list as Python prints it

    def test_limits_niceness_and_oom_score_as_configured(self):
        with Daemon(
            {"web": sleeper(resource_limits={"max_open_files": 123, "nice": 5, "oom_score_adj": 321})}
        ) as daemon:
            pid = self.pid_of(daemon)
            self.assertEqual(resource.prlimit(pid, resource.RLIMIT_NOFILE), (123, 123))
            self.assertEqual(os.getpriority(os.PRIO_PROCESS, pid), 5)
            self.assertEqual(int(read_proc(pid, "oom_score_adj")), 321)
            own = int(read_proc("self", "oom_score_adj"))
            self.assertEqual(int(read_proc(daemon.version()["pid"], "oom_score_adj")), own, "it is the service's alone")

    def test_limits_that_the_daemon_raised_for_itself_are_not_passed_on(self):
        def prepare():
            resource.setrlimit(resource.RLIMIT_NOFILE, (512, 4096))

        with Daemon({"web": sleeper()}, prepare=prepare) as daemon:
            self.assertEqual(resource.prlimit(self.pid_of(daemon), resource.RLIMIT_NOFILE)[0], 512)

    def test_no_new_privileges(self):
        with Daemon({"plain": sleeper(), "bound": sleeper(no_new_privileges=True)}) as daemon:
            self.assertEqual(
                process_status(self.pid_of(daemon, "plain"))["NoNewPrivs"], process_status("self")["NoNewPrivs"]
            )
            self.assertEqual(process_status(self.pid_of(daemon, "bound"))["NoNewPrivs"], "1")

    @needs_root
    def test_user_and_group(self):
        user = pwd.getpwnam("games")
        with Daemon(
            {
                "user": sleeper(user="games"),
                "both": sleeper(user="games", group="daemon"),
                "number": sleeper(user=str(user.pw_uid)),
                "root": sleeper(),
            }
        ) as daemon:
            for service, gid in (
                ("user", user.pw_gid),
                ("both", grp.getgrnam("daemon").gr_gid),
                ("number", user.pw_gid),
            ):
                pid = self.pid_of(daemon, service)
                status = process_status(pid)
                self.assertEqual(status["Uid"].split(), [str(user.pw_uid)] * 4)
                self.assertEqual(status["Gid"].split(), [str(gid)] * 4)
                groups = set(map(int, status["Groups"].split()))
                self.assertLessEqual(groups, {gid, *os.getgrouplist("games", user.pw_gid)})  # none of the daemon's
                self.assertEqual(int(status["CapEff"], 16), 0)
                found = environment(pid)
                self.assertEqual((found["HOME"], found["USER"], found["LOGNAME"]), (user.pw_dir, "games", "games"))
            self.assertEqual(process_status(self.pid_of(daemon, "root"))["Uid"].split(), ["0"] * 4)

    @needs_root
    def test_another_user_can_write_its_output_and_reopen_it(self):
        with Daemon(
            {
                "web": shell(
                    "echo one; echo two > /dev/stdout; echo three >&2", user="nobody", restart_policy={"mode": "never"}
                )
            }
        ) as daemon:
            daemon.wait_state("web", "exited", "failed")
            self.assert_becomes(lambda: daemon.log("web"), b"one\ntwo\nthree\n")

    @needs_root
    def test_stop_of_another_users_service_and_its_children(self):
        with Daemon({"web": shell("setsid sleep 1000 & echo set; wait", user="nobody")}) as daemon:
            daemon.wait_log("web", "set")
            daemon.ctl("stop", "web")
            self.assertEqual(daemon.service_processes(), [])

    def test_hooks_run_in_their_order(self):
        def hook(text):
            return {"command": "/bin/sh", "args": ["-c", f"echo {text} >> $OUT"]}

        with Daemon(started=False) as daemon:
            out = str(daemon.dir / "out")
            daemon.write_config(
                {
                    "web": shell(
                        "echo main >> $OUT; exec sleep 1000",
                        enabled=False,
                        environment={"OUT": out},
                        hooks={name: hook(name) for name in ("pre_start", "post_start", "pre_stop", "post_stop")},
                    )
                }
            )
            daemon.start()
            daemon.ctl("start", "web")
            wait_until(lambda: len(open(out).read().split()) == 3, "the hooks of the start")
            daemon.ctl("stop", "web")
            lines = open(out).read().split()
            self.assertEqual(lines[0], "pre_start")
            self.assertEqual(sorted(lines[1:3]), ["main", "post_start"])
            self.assertEqual(lines[3:], ["pre_stop", "post_stop"])

    def test_a_failing_pre_start_hook_is_a_failed_start(self):
        with Daemon(
            {
                "web": sleeper(
                    enabled=False,
                    hooks={"pre_start": {"command": "/bin/sh", "args": ["-c", "exit 6"]}},
                    restart_policy={"mode": "never"},
                )
            }
        ) as daemon:
            result = daemon.ctl("start", "web", expect=1)
            self.assertIn("pre_start", result.stderr)
            self.assertIn("6", result.stderr)
            self.assertEqual(daemon.service_processes(), [])


if __name__ == "__main__":
    main()
