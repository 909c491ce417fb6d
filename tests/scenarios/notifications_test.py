"""Notifications: alerts reach webhook, Slack, mail and command; a channel that is slow, failing or dead harms nobody."""

import json
import socket
import time

from harness import (
    SCALE,
    Daemon,
    HttpReceiver,
    MailReceiver,
    Scenario,
    kill,
    main,
    needs_root,
    refused_port,
    shell,
    sleeper,
    wait_until,
    with_name_server,
)

CANARY = "canary-4f1c9e77d2"


def failing(**changes):
    return shell(
        "echo no such table; exit 3",
        **{"restart_policy": {"mode": "on-failure", "delay": 0.05, "max_attempts": 1, "jitter": 0}, **changes},
    )


def notifications(*channels, **changes):
    return {"notifications": {"min_interval": 0, "channels": list(channels), **changes}}


def webhook(receiver, **changes):
    return {"type": "webhook", "url": receiver.url(), **changes}


class Notifications(Scenario):
    def log(self, daemon):
        return daemon.daemon_log.read_text(errors="replace")

    def test_a_webhook_hears_of_raised_and_resolved(self):
        with HttpReceiver() as receiver:
            channel = webhook(receiver, headers={"X-Token": "t0ken", "X-Empty": ""})
            services = {"db": failing(critical=True), "app": sleeper(depends_on=["db"])}
            with Daemon(services, extra=notifications(channel)) as daemon:
                receiver.wait_alert("raised", "db", "failed")
                path, headers, body = receiver.posts[0]
                self.assertEqual(path, "/hook")
                self.assertEqual(headers["Content-Type"], "application/json")
                self.assertEqual(headers["X-Token"], "t0ken")
                self.assertIn("X-Empty", headers)
                message = json.loads(body)
                self.assertIn("critical: db failed", message["title"])
                (alert,) = message["alerts"]
                self.assertEqual(alert["severity"], "critical")
                self.assertEqual(alert["dependents"], ["app"])
                self.assertIn("exited with code 3", alert["message"])
                self.assertIsNone(alert["resolved_at"])
                daemon.ctl("stop", "db")
                receiver.wait_alert("resolved", "db", "failed")
                self.assertNotIn("t0ken", self.log(daemon))

    def test_slack_gets_escaped_text(self):
        with HttpReceiver() as receiver:
            channel = {"type": "slack", "url": receiver.url("/services/T0/B0/secret")}
            script = "exit 3"
            services = {"web": failing(), "odd": shell(script, working_directory="/no/such <dir> & more")}
            with Daemon(services, extra=notifications(channel)) as daemon:
                wait_until(lambda: "web failed" in str(receiver.bodies()), "the message")
                for body in receiver.bodies():
                    self.assertEqual(set(body), {"text"})
                    self.assertNotIn("<", body["text"])
                self.assertNotIn("secret", self.log(daemon))

    def test_mail_by_smtp(self):
        with MailReceiver() as receiver:
            channel = {
                "type": "email",
                "smtp_url": f"smtp://watch:{CANARY}@127.0.0.1:{receiver.port}",
                "from": "supervisor@example.org",
                "to": ["root@example.org", "team@example.org"],
            }
            with Daemon({"web": failing()}, extra=notifications(channel)) as daemon:
                wait_until(lambda: receiver.mails, "a mail")
                sender, recipients, mail = receiver.mails[0]
                self.assertEqual(sender, "supervisor@example.org")
                self.assertEqual(recipients, ["root@example.org", "team@example.org"])
                self.assertIn("warning: web failed", mail["Subject"])
                self.assertIn("exited with code 3", mail.get_content())
                self.assertIsNotNone(mail["Date"].datetime)
                self.assertTrue(mail["Message-ID"])
                self.assertTrue(receiver.logins)
                self.assertNotIn(CANARY, str(mail))
                self.assertNotIn(CANARY, self.log(daemon))

    def test_a_command_gets_it_on_its_standard_input(self):
        with Daemon(started=False) as daemon:
            out = daemon.dir / "told"
            channel = {"type": "command", "command": "/bin/sh", "args": ["-c", f"cat > {out}.new; mv {out}.new {out}"]}
            daemon.config.update(notifications(channel))
            daemon.write_config({"web": failing()})
            daemon.start()
            told = json.loads(wait_until(lambda: out.exists() and out.read_text(), "the command's output"))
            self.assertEqual(told["alerts"][0]["service_id"], "web")

    def test_only_what_is_severe_enough(self):
        with HttpReceiver() as receiver:
            extra = notifications(webhook(receiver), min_severity="critical")
            services = {"mild": failing(), "grave": failing(critical=True)}
            with Daemon(services, extra=extra) as daemon:
                receiver.wait_alert("raised", "grave", "failed")
                wait_until(lambda: len(daemon.ctl_json("alerts")["alerts"]) == 2, "both alerts")
                daemon.ctl("stop", "all")
                receiver.wait_alert("resolved", "grave", "failed")
            self.assertNotIn("mild", str(receiver.alerts()))

    def test_what_comes_within_the_interval_is_told_together(self):
        with HttpReceiver() as receiver:
            extra = notifications(webhook(receiver), min_interval=2 * SCALE)
            services = {f"s{i}": sleeper(**failing()) for i in range(5)}
            services["first"] = failing()
            for i in range(5):
                services[f"s{i}"]["enabled"] = False
            with Daemon(services, extra=extra) as daemon:
                receiver.wait_alert("raised", "first", "failed")
                for i in range(5):
                    daemon.ctl("start", f"s{i}", expect=None)
                wait_until(lambda: len(receiver.alerts()) == 6, "all of them")
                self.assertLess(len(receiver.posts), 4)
                self.assertGreater(max(len(body["alerts"]) for body in receiver.bodies()), 1)

    def test_a_failing_receiver_is_tried_again_until_it_works(self):
        with HttpReceiver(status=503) as receiver, HttpReceiver() as other:
            extra = notifications(webhook(receiver), webhook(other))
            with Daemon({"web": failing()}, extra=extra) as daemon:
                label = f"channel webhook 127.0.0.1:{receiver.port}"
                other.wait_alert("raised", "supervisor", label, timeout=40)
                event = daemon.wait_event("supervisor", "alert_raised")
                self.assertIn("HTTP 503", event["message"])
                self.assertIn(("supervisor", label), [
                    (alert["service_id"], alert["rule"]) for alert in daemon.ctl_json("alerts")["alerts"]
                ])
                tries = len(receiver.posts)
                self.assertGreaterEqual(tries, 3)
                receiver.status = 204
                wait_until(lambda: len(receiver.posts) > tries, "another try", timeout=40)
                other.wait_alert("resolved", "supervisor", label, timeout=40)
                self.assertIn(("raised", "web", "failed"), receiver.alerts()[tries:])
                # That it is dead was not for itself to hear.
                self.assertNotIn(("raised", "supervisor", label), receiver.alerts())

    def test_hanging_and_dead_channels_hold_up_nothing(self):
        with HttpReceiver(hang=True) as hanging, MailReceiver(hang=True) as mute, HttpReceiver() as good:
            with refused_port() as nobody:
                mail = {"type": "email", "from": "a@example.org", "to": ["b@example.org"]}
                channels = [
                    webhook(hanging),
                    {**mail, "smtp_url": f"smtp://127.0.0.1:{mute.port}"},
                    {**mail, "smtp_url": f"smtp://127.0.0.1:{nobody}"},
                    {"type": "webhook", "url": f"http://127.0.0.1:{nobody}/"},
                    {"type": "command", "command": "/no/such/program"},
                    {"type": "command", "command": "/bin/sh", "args": ["-c", "sleep 1000 & wait"]},
                    webhook(good),
                ]
                services = {"web": failing(), "api": sleeper()}
                with Daemon(services, extra=notifications(*channels)) as daemon:
                    good.wait_alert("raised", "web", "failed")
                    wait_until(lambda: hanging.posts, "the request that hangs")
                    pid = daemon.wait_state("api", "running")["pid"]
                    began = time.monotonic()
                    kill(pid)
                    daemon.wait_for("api", lambda row: row["state"] == "running" and row["pid"] != pid, "the next")
                    daemon.ctl("restart", "api")
                    daemon.ctl("stop", "api")
                    self.assert_quicker(5, began)
                    for part in ("No such file", "connect"):
                        wait_until(lambda: part in self.log(daemon), f"{part!r} in the log", timeout=40)
                    began = time.monotonic()
                    daemon.stop()
                    self.assert_quicker(8, began)
                    self.assertIn("were not delivered", self.log(daemon))

    def test_a_refused_mail_is_said_with_its_code(self):
        with MailReceiver(refuse="550 not from you") as receiver:
            channel = {
                "type": "email",
                "smtp_url": f"smtp://127.0.0.1:{receiver.port}",
                "from": "a@example.org",
                "to": ["b@example.org"],
            }
            with Daemon({"web": failing()}, extra=notifications(channel)) as daemon:
                wait_until(lambda: "550" in self.log(daemon), "the answer in the log", timeout=20)

    def test_a_recipient_that_is_refused_keeps_the_mail_from_nobody_else(self):
        with MailReceiver(unknown=["gone@example.org"]) as receiver:
            channel = {
                "type": "email",
                "smtp_url": f"smtp://127.0.0.1:{receiver.port}",
                "from": "a@example.org",
                "to": ["first@example.org", "gone@example.org", "last@example.org"],
            }
            with Daemon({"web": failing(), "app": failing()}, extra=notifications(channel)) as daemon:
                for service in ("web", "app"):
                    wait_until(lambda what=f"{service} failed": what in self.texts(receiver), "a mail")
                for _, recipients, _ in receiver.mails:
                    self.assertEqual(recipients, ["first@example.org", "last@example.org"])
                wait_until(lambda: "gone@example.org (550)" in self.log(daemon), "the warning")
                daemon.ctl("stop", "web")
                wait_until(lambda: "resolved: web failed" in self.texts(receiver), "another mail")
                receiver.unknown.clear()
                daemon.ctl("stop", "app")
                wait_until(lambda: "takes all recipients" in self.log(daemon), "the end of it")
                self.assertEqual(receiver.mails[-1][1], channel["to"])
                self.assertEqual(self.log(daemon).count("refuses recipients"), 1)
                self.assertNotIn("not delivered", self.log(daemon))

    @staticmethod
    def texts(receiver):
        return "\n".join(mail["Subject"] + mail.get_content() for _, _, mail in list(receiver.mails))

    def test_a_mail_that_all_recipients_are_refused_is_not_delivered(self):
        with MailReceiver(unknown=["b@example.org", "c@example.org"]) as receiver:
            channel = {
                "type": "email",
                "smtp_url": f"smtp://127.0.0.1:{receiver.port}",
                "from": "a@example.org",
                "to": ["b@example.org", "c@example.org"],
            }
            with Daemon({"web": failing()}, extra=notifications(channel)) as daemon:
                wait_until(lambda: "it answered 550" in self.log(daemon), "the answer in the log", timeout=20)
                self.assertEqual(receiver.mails, [])
                self.assertIn("not delivered", self.log(daemon))

    def test_a_reload_changes_channels(self):
        with HttpReceiver() as first, HttpReceiver() as second:
            with Daemon({"web": failing()}, extra=notifications(webhook(first))) as daemon:
                first.wait_alert("raised", "web", "failed")
                daemon.config.update(notifications(webhook(second)))
                daemon.write_config()
                daemon.ctl("reload")
                daemon.ctl("stop", "web")
                second.wait_alert("resolved", "web", "failed")
                self.assertNotIn(("resolved", "web", "failed"), first.alerts())
                daemon.config.update(notifications(webhook(second), enabled=False))
                daemon.write_config()
                daemon.ctl("reload")
                daemon.ctl("start", "web", expect=None)
                wait_until(lambda: daemon.ctl_json("alerts")["alerts"], "the alert")
            self.assertEqual(len(second.alerts()), 1)

    def owed(self, daemon):
        return daemon.sql("SELECT service_id, rule, owed FROM supervisor_alerts WHERE owed IS NOT NULL")

    def reload(self, daemon, *channels):
        daemon.config.update(notifications(*channels))
        daemon.write_config()
        daemon.ctl("reload")

    def open_rules(self, daemon):
        return [alert["rule"] for alert in daemon.ctl_json("alerts")["alerts"]]

    def test_a_reload_that_mends_a_channel_tells_what_waited_in_it(self):
        with HttpReceiver(status=401) as receiver:
            with Daemon({"web": failing()}, extra=notifications(webhook(receiver))) as daemon:
                rule = f"channel webhook 127.0.0.1:{receiver.port}"
                wait_until(lambda: rule in self.open_rules(daemon), "the dead channel's alert", timeout=40)
                receiver.posts.clear()
                receiver.status = 200
                self.reload(daemon, webhook(receiver, headers={"X-Token": "right"}))
                receiver.wait_alert("raised", "web", "failed")
                self.assertEqual(receiver.posts[-1][1]["X-Token"], "right")
                wait_until(lambda: self.open_rules(daemon) == ["failed"], "the end of the channel's alert")
                wait_until(lambda: not self.owed(daemon), "nothing to be owed")

    def test_what_waited_in_a_channel_goes_to_the_one_in_its_place(self):
        with HttpReceiver(status=503) as first, HttpReceiver() as second:
            with Daemon({"web": failing()}, extra=notifications(webhook(first))) as daemon:
                wait_until(lambda: first.posts and self.owed(daemon), "a try that fails")
                self.reload(daemon, webhook(second))
                second.wait_alert("raised", "web", "failed")
                wait_until(lambda: not self.owed(daemon), "nothing to be owed")

    def test_what_waited_in_a_channel_that_has_no_successor_is_owed_to_nobody(self):
        with HttpReceiver(status=503) as first, HttpReceiver() as second:
            with Daemon({"web": failing()}, extra=notifications(webhook(first))) as daemon:
                wait_until(lambda: first.posts and self.owed(daemon), "a try that fails")
                self.reload(daemon, {"type": "slack", "url": second.url()})
                wait_until(lambda: not self.owed(daemon), "nothing to be owed")
                wait_until(lambda: "were not delivered" in self.log(daemon), "what was dropped in the log")

    def test_a_channel_that_works_after_the_death_of_the_daemon_has_no_alert(self):
        with HttpReceiver(status=503) as receiver:
            with Daemon({"web": failing()}, extra=notifications(webhook(receiver))) as daemon:
                rule = f"channel webhook 127.0.0.1:{receiver.port}"
                on_disk = f"SELECT 1 FROM supervisor_alerts WHERE rule = '{rule}'"
                wait_until(lambda: daemon.sql(on_disk), "the dead channel's alert", timeout=40)
                daemon.kill_daemon()
                receiver.posts.clear()
                receiver.status = 200
                daemon.start()
                receiver.wait_alert("raised", "web", "failed")
                wait_until(lambda: daemon.sql(f"{on_disk} AND resolved_at IS NOT NULL"), "its end")

    def test_what_a_killed_daemon_has_not_told_is_told_by_the_next(self):
        with HttpReceiver(status=503) as late, HttpReceiver() as prompt:
            extra = notifications(webhook(late), webhook(prompt))
            with Daemon({"web": failing(), "api": sleeper()}, extra=extra) as daemon:
                prompt.wait_alert("raised", "web", "failed")
                wait_until(lambda: late.posts, "a try that fails")
                label = f"webhook 127.0.0.1:{late.port}"
                wait_until(lambda: self.owed(daemon) == [("web", "failed", json.dumps([label]))], "what is owed on disk")
                daemon.kill_daemon()
                late.posts.clear()
                late.status = 200
                daemon.start()
                late.wait_alert("raised", "web", "failed")
                wait_until(lambda: not self.owed(daemon), "nothing to be owed")
                # Who knew it is not told again.
                self.assertEqual(prompt.alerts().count(("raised", "web", "failed")), 1)
                daemon.ctl("stop", "web")
                for receiver in (late, prompt):
                    receiver.wait_alert("resolved", "web", "failed")
                wait_until(lambda: not self.owed(daemon), "nothing to be owed")
                daemon.kill_daemon()
                daemon.start()
                daemon.ctl("start", "web", expect=None)
                for receiver in (late, prompt):
                    wait_until(lambda: receiver.alerts().count(("raised", "web", "failed")) == 2, "the second time")
                    self.assertEqual(receiver.alerts().count(("resolved", "web", "failed")), 1)

    def test_what_waits_at_the_end_of_a_daemon_is_told_by_the_next(self):
        with HttpReceiver(status=503) as receiver:
            with Daemon({"web": failing(), "api": sleeper()}, extra=notifications(webhook(receiver))) as daemon:
                wait_until(lambda: receiver.posts, "a try that fails")
                daemon.ctl("upgrade")
                wait_until(lambda: len(receiver.posts) > 1, "the daemon after the upgrade to try")
                daemon.stop()  # which ends what the alert was for
                self.assertIn("were not delivered", self.log(daemon))
                receiver.posts.clear()
                receiver.status = 200
                daemon.write_config({"api": sleeper()})
                daemon.start()
                receiver.wait_alert("resolved", "web", "failed")
                wait_until(lambda: not self.owed(daemon), "nothing to be owed")

    @needs_root
    def test_a_name_that_is_not_resolved_holds_up_nobody_else(self):
        """The resolver waits for its server, which never answers: `prepare` gives it one of ours."""
        with HttpReceiver() as good, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
            mute.bind(("127.0.0.86", 53))
            channels = [
                {"type": "webhook", "url": "http://receiver.of.nobody.example/hook"},
                {"type": "slack", "url": "https://slack.of.nobody.example/x"},
                {"type": "email", "smtp_url": "smtp://mail.of.nobody.example", "from": "a@b.cd", "to": ["e@f.gh"]},
                webhook(good),
            ]
            services = {"web": failing(), "api": failing(enabled=False)}
            with Daemon(services, extra=notifications(*channels), prepare=with_name_server("127.0.0.86")) as daemon:
                good.wait_alert("raised", "web", "failed")
                mute.settimeout(20 * SCALE)
                asked = b""
                while b"nobody" not in asked:
                    asked = mute.recv(512)
                daemon.ctl("start", "api", expect=None)
                good.wait_alert("raised", "api", "failed")
                daemon.ctl("stop", "all")
                good.wait_alert("resolved", "web", "failed")
                self.assertNotIn("were not delivered", self.log(daemon))  # they hang to this moment
                daemon.stop()

    def test_the_last_words_of_a_daemon_that_ends_get_through(self):
        with HttpReceiver() as receiver:
            extra = notifications(webhook(receiver), min_interval=600)
            with Daemon({"web": failing(), "api": failing()}, extra=extra) as daemon:
                receiver.wait_alert("raised", "web", "failed")
                daemon.stop()
                wait_until(lambda: ("resolved", "web", "failed") in receiver.alerts(), "the resolution")


if __name__ == "__main__":
    main()
