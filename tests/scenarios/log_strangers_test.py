"""As root: log directories that strangers have made, or put something in the place of."""

import os
import pathlib

from harness import Daemon, Scenario, main, needs_root, python, shell, wait_until

SPEAKER = "i=0; trap 'i=$((i+1)); echo line $i' USR1; echo set; while :; do sleep 0.01; done"
STRANGER = 65534
NEVER = {"restart_policy": {"mode": "never"}}


@needs_root
class Strangers(Scenario):
    def test_a_directory_made_beforehand_is_refused_in_clear_words(self):
        with Daemon({"web": shell(SPEAKER, **NEVER)}, started=False) as daemon:
            daemon.log_dir.mkdir()
            os.chown(daemon.log_dir, STRANGER, STRANGER)
            daemon.start()
            daemon.wait_state("web", "failed")
            said = daemon.ctl("explain", "web").stdout
            self.assertIn(f"log directory {daemon.log_dir}: belongs to user {STRANGER}", said)
            self.assertIn("chown root", said)
            self.assertFalse([path for path in daemon.log_dir.iterdir() if not path.name.endswith(".claims")])
            os.chown(daemon.log_dir, 0, 0)
            daemon.ctl("start", "web")
            daemon.wait_log("web", "set")

    def test_one_of_the_services_own_user_is_taken(self):
        with Daemon({"web": shell(SPEAKER, user="nobody")}, started=False) as daemon:
            daemon.log_dir.mkdir()
            os.chown(daemon.log_dir, STRANGER, STRANGER)
            daemon.start()
            daemon.wait_log("web", "set")

    def check_swapped(self, swap):
        """`swap(home, victim)` puts another directory in the place of home/log."""
        flood = (
            "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nprint('set', flush=True)\n"
            "while True:\n  signal.sigwait([signal.SIGUSR1])\n"
            "  for i in range(4000): os.write(1, b'%09d of a service\\n' % i)\n"
        )
        logs = {"max_size_mb": 0.02, "max_files": 2, "compress": True}
        with Daemon({"auth": python(flood, logs=logs)}, started=False) as daemon:
            home = daemon.dir / "home"
            victim = daemon.dir / "victim"
            (home / "log").mkdir(parents=True)
            os.chown(home, STRANGER, STRANGER)
            victim.mkdir()
            for name in ("auth.log", "auth.log.1", "auth.log.2", "auth.log.3", ".auth.log.index", "auth.log.gz.tmp"):
                (victim / name).write_text(f"precious {name}\n")
            before = {path.name: path.read_text() for path in victim.iterdir()}
            daemon.config["global"]["log_directory"] = str(home / "log")
            daemon.write_config()
            daemon.log_dir = home / "log"
            daemon.start()
            daemon.wait_log("auth", "set")
            swap(home, victim)
            for _ in range(3):
                daemon.ctl("signal", "USR1", "auth")
            wait_until(lambda: "symbolic link that user" in daemon.daemon_log.read_text(), "the refusal")
            shown = daemon.ctl("logs", "auth", "-n", 1000, expect=None)
            self.assertNotIn("precious", shown.stdout)
            self.assertEqual({path.name: path.read_text() for path in victim.iterdir()}, before)

    def test_a_link_in_the_directorys_place(self):
        def swap(home, victim):
            (home / "log").rename(home / "moved")
            os.symlink(victim, home / "log")
            os.lchown(home / "log", STRANGER, STRANGER)

        self.check_swapped(swap)

    def test_a_link_in_the_place_of_an_ancestor(self):
        def swap(home, victim):
            parent = pathlib.Path(f"{victim}.parent")
            parent.mkdir()
            victim.rename(parent / "log")
            os.symlink(parent / "log", victim)  # for the comparison
            home.rename(f"{home}.moved")
            os.symlink(parent, home)
            os.lchown(home, STRANGER, STRANGER)

        self.check_swapped(swap)


if __name__ == "__main__":
    main()
