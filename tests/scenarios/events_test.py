"""The history of events by time and by type, and from where a follower goes on."""

import json

from harness import USAGE, Daemon, Scenario, main, shell, sleeper


def listed(daemon, *arguments):
    return daemon.ctl_json("events", *arguments)["events"]


class Events(Scenario):
    def test_by_type(self):
        with Daemon({"web": sleeper(), "job": shell("exit 0", restart_policy={"mode": "never"})}) as daemon:
            daemon.wait_state("web", "running")
            daemon.wait_state("job", "exited")
            daemon.ctl("restart", "web", "--reason", "first")
            types = {event["event_type"] for event in listed(daemon, "--type", "started")}
            self.assertEqual(types, {"started"})
            both = listed(daemon, "--type", "started", "--type", "exited", "-n", "all")
            self.assertEqual({event["event_type"] for event in both}, {"started", "exited"})
            self.assertEqual([event["id"] for event in both], sorted(event["id"] for event in both))
            # The newest of a type are found behind however many of others.
            self.assertEqual(len(listed(daemon, "--type", "supervisor_started", "-n", "1")), 1)
            self.assertEqual({event["service_id"] for event in listed(daemon, "web", "--type", "started,exited")}, {"web"})
            self.assertEqual(listed(daemon, "--type", "oom_killed"), [])
            wrong = daemon.ctl("events", "--type", "strated", expect=USAGE)
            self.assertIn('did you mean "started"', wrong.stderr)

    def test_by_time(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("restart", "web")
            whole = listed(daemon, "-n", "all")
            middle = whole[len(whole) // 2]["timestamp"]
            later = listed(daemon, "--since", middle)
            earlier = listed(daemon, "--until", middle)
            self.assertTrue(all(event["timestamp"] >= middle for event in later))
            self.assertTrue(all(event["timestamp"] <= middle for event in earlier))
            self.assertEqual(
                {event["id"] for event in later} | {event["id"] for event in earlier}, {event["id"] for event in whole}
            )
            for since in ("-1h", "1h", "yesterday", "2 hours ago", "1 hour"):
                self.assertEqual(listed(daemon, "--since", since), whole, since)
            self.assertEqual(listed(daemon, "--until", "yesterday"), [])
            self.assertEqual(listed(daemon, "web", "--since", "1h", "-n", "1")[0]["id"], whole[-1]["id"])
            daemon.ctl("events", "--since", "soon", expect=USAGE)

    def test_a_span_is_shown_whole(self):
        with Daemon({"web": sleeper(restart_policy={"delay": 0, "max_attempts": 0})}) as daemon:
            daemon.wait_state("web", "running")
            for _ in range(20):
                daemon.ctl("restart", "web")
            self.assertGreater(len(listed(daemon, "--since", "1h")), 50)
            self.assertEqual(len(listed(daemon)), 50)

    def test_a_follower_of_a_type_sees_that_type_alone(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            stream = daemon.stream("events", "-f", "--json", "--type", "started", "--since", "1h")
            first = json.loads(stream.next())
            self.assertEqual(first["event_type"], "started")
            daemon.ctl("restart", "web")
            second = json.loads(stream.next())
            self.assertGreater(second["id"], first["id"])
            self.assertEqual(second["event_type"], "started")


if __name__ == "__main__":
    main()
