"""Eight clients who fire start, stop, restart, reload and signal at random, all at once.

Each service holds a lock on a file of its own, and so does what it starts: a second live instance, or one that begins
before the last one's children are gone, cannot get it and says so. What must hold: that never happens, every call is
answered with an exit code of the contract, and at the end everything obeys as if nothing had been.

    SCENARIO_CLIENTS_SECONDS   how long; default 10
    SCENARIO_SEED              what is done by whom in which order; default: of the clock, told when it fails
"""

import collections
import os
import random
import threading
import time

from harness import DONE, FAILED, NO_SUCH_SERVICE, NOT_RUNNING, SCALE, TIMED_OUT, Daemon, Scenario, main, merge
from harness import shell, wait_until

CLIENTS = 8
SECONDS = float(os.environ.get("SCENARIO_CLIENTS_SECONDS") or 10)
SEED = int(os.environ.get("SCENARIO_SEED") or time.time_ns())
ANSWERS = {DONE, FAILED, NOT_RUNNING, NO_SUCH_SERVICE, TIMED_OUT}

# Descriptor 9 holds the lock, in the service and in all that it starts.
LOCK = (
    'exec 9> "$DIR/lock.$SERVICE_ID"; '
    'flock -n 9 || { echo "$SERVICE_ID" >> "$DIR/doubles"; exit 99; }; '
)
HOOK = {"command": "/bin/sh", "args": ["-c", "sleep 0.02"], "timeout": 5}


def services(directory):
    """All kinds: plain, slow to stop, quick to die, with children, with hooks, with dependencies, with instances."""

    def service(script, **changes):
        return shell(
            LOCK + script,
            **merge(
                {
                    "environment": {"DIR": str(directory)},
                    "graceful_shutdown": {"timeout": 1},
                    "restart_policy": {"delay": 0.01, "max_attempts": 0, "jitter": 0.5},
                },
                changes,
            ),
        )

    wait = "exec sleep 1000000"
    ready = {"readiness": {"type": "uptime", "uptime": 0.05}}
    return {
        "plain": service(wait, groups=["some"]),
        "slow": service("trap 'sleep 0.2; exit 0' TERM; while :; do sleep 0.05; done", groups=["some"]),
        "dies": service("sleep 0.1; exit 3"),
        "family": service("setsid sleep 1000000 & (setsid sh -c 'sleep 1000000 & exit 0' &); " + wait, priority=5),
        "hooked": service(wait, hooks={name: HOOK for name in ("pre_start", "post_start", "pre_stop", "post_stop")}),
        "db": service(wait, **ready, groups=["tiers"]),
        "api": service(wait, **ready, depends_on=["db"], groups=["tiers"]),
        "page": service(wait, depends_on=["api"], groups=["tiers"]),
        "worker": service(wait, instances=3),
    }


def variants(base):
    """Configurations between which the clients change: added, removed, changed, renamed, more and fewer instances."""
    changed = {
        **base,
        "plain": merge(base["plain"], {"environment": {"CHANGED": "yes"}}),
        "worker": merge(base["worker"], {"instances": 5}),
        "extra": base["plain"],
    }
    smaller = {id: service for id, service in base.items() if id not in ("hooked", "page", "family")}
    relabelled = {**base, "db": merge(base["db"], {"description": "new", "restart_policy": {"delay": 0.02}})}
    renamed = {("slower" if id == "slow" else id): service for id, service in base.items()}
    return [base, changed, smaller, relabelled, renamed]


class Clients(Scenario):
    TARGETS = (
        ["plain", "slow", "dies", "family", "hooked", "db", "api", "page", "worker", "worker:0", "worker:2", "extra"],
        ["w*", "@tiers", "@some", "all"],
    )
    SIGNALS = ("TERM", "KILL", "HUP", "USR1", "STOP", "CONT")

    def targets(self, chance):
        named, wide = self.TARGETS
        return [chance.choice(wide)] if chance.random() < 0.15 else chance.sample(named, chance.choice((1, 1, 1, 2, 3)))

    def command(self, chance):
        kind = chance.choices(("start", "stop", "restart", "reload", "signal", "status"), (5, 4, 4, 2, 3, 1))[0]
        if kind == "reload":
            return [kind] + (["--dry-run"] if chance.random() < 0.2 else [])
        if kind == "signal":
            return [kind, chance.choice(self.SIGNALS), *self.targets(chance)]
        if kind == "status":
            return [kind]
        patience = chance.choice(([], [], ["--no-wait"], ["--timeout", "0.05"], ["--timeout", "5"]))
        return [kind, *self.targets(chance), *patience, "--reason", "at random"]

    def client(self, number, daemon, configurations, until, answers, trouble):
        chance = random.Random(f"{SEED}/{number}")
        try:
            while time.monotonic() < until and not trouble:
                command = self.command(chance)
                if command[0] == "reload":
                    with self.writing:
                        daemon.write_config(chance.choice(configurations))
                began = time.monotonic()
                result = daemon.ctl(*command, expect=None)
                self.slowest = max(self.slowest, (time.monotonic() - began, " ".join(command)))
                answers[command[0], result.returncode] += 1
                if result.returncode not in ANSWERS:
                    trouble.append(str(result))
        except AssertionError as error:
            trouble.append(f"client {number}: {error}")

    def one_after_the_other(self, daemon):
        """As the database has it: between two starts of an instance there is an end of the first."""
        alive = {}
        for id, kind, service in daemon.sql("SELECT id, event_type, service_id FROM supervisor_events ORDER BY id"):
            if kind == "started":
                self.assertNotIn(service, alive, f"event {id}: a second start of {service} without an end of the first")
                alive[service] = id
            elif kind in ("exited", "stopped"):
                alive.pop(service, None)

    def test_eight_clients_at_random_never_make_two_instances_and_all_are_answered(self):
        self.writing = threading.Lock()
        self.slowest = (0, "")
        with self.subTest(SCENARIO_SEED=SEED), Daemon(started=False) as daemon:
            base = services(daemon.dir)
            daemon.write_config(base)
            daemon.start()
            answers = collections.Counter()
            trouble = []
            until = time.monotonic() + SECONDS
            clients = [
                threading.Thread(
                    target=self.client, args=(number, daemon, variants(base), until, answers, trouble), daemon=True
                )
                for number in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            counts = ", ".join(f"{name} {code}: {count}" for (name, code), count in sorted(answers.items()))
            took, command = self.slowest
            print(f"\nseed {SEED}: {sum(answers.values())} calls answered ({counts}); slowest: {command}, {took:.2f} s")
            self.assertEqual(trouble, [])
            self.assert_no_doubles(daemon)
            self.assert_orderly(daemon, base)
            self.assert_no_doubles(daemon)

    def assert_no_doubles(self, daemon):
        doubles = daemon.dir / "doubles"
        self.assertEqual(doubles.read_text() if doubles.exists() else "", "")

    def assert_orderly(self, daemon, base):
        daemon.write_config(base)
        daemon.ctl("reload")
        for action in ("start", "restart"):  # what is stopped is left so by a restart of all; "dies" may fail
            daemon.ctl(action, "all", "--timeout", 30 * SCALE, expect=(DONE, FAILED))
        expected = sorted([id for id in base if id != "worker"] + [f"worker:{i}" for i in range(3)])
        wait_until(lambda: sorted(daemon.status()) == expected, "those that were removed to be forgotten")
        pids = {id: daemon.wait_state(id, "running", timeout=30)["pid"] for id in expected if id != "dies"}
        self.assertEqual(len(set(pids.values())), len(pids))
        daemon.ctl("stop", "all")
        self.assertEqual(daemon.service_processes(), [])
        self.assertEqual({row["state"] for row in daemon.status().values()}, {"stopped"})
        daemon.ctl("start", "all", "--timeout", 30 * SCALE, expect=(DONE, FAILED))
        for id in expected:
            daemon.wait_state(id, *(("running", "backoff", "starting") if id == "dies" else ("running",)))
        daemon.stop()
        self.one_after_the_other(daemon)


if __name__ == "__main__":
    main()
