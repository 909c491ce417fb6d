"""Channels of notifications as receivers and mail servers are in the world: refusing, moved, busy, behind TLS."""

import email.utils
import json
import tempfile
import time

from harness import DONE, FAILED, SCALE, USAGE
from harness import Daemon, HttpReceiver, MailReceiver, Scenario, main, refused_port, shell, wait_until
from harness.servers import Rude, TestAuthority

SECRETS = ("canary-user@example.org", "canary-pass;#/?:%40", "canary-token")


def failing(**changes):
    return shell(
        "exit 3", **{"restart_policy": {"mode": "on-failure", "delay": 0.05, "max_attempts": 1, "jitter": 0}, **changes}
    )


def notifications(*channels, **changes):
    return {"notifications": {"min_interval": 0, "channels": list(channels), **changes}}


def mail(receiver, **changes):
    return {
        "type": "email",
        "smtp_url": f"smtp://127.0.0.1:{receiver.port}",
        "from": "supervisor@example.org",
        "to": ["root@example.org"],
        **changes,
    }


def refusing(status, word, headers=None):
    """An answer that refuses what mentions the word."""
    return lambda path, _, body: (status, headers or {}) if word.encode() in body else (200, {})


class Channels(Scenario):
    def log(self, daemon):
        return daemon.daemon_log.read_text(errors="replace")

    def authority(self, **options):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        return TestAuthority(directory.name, **options)


class Webhooks(Channels):
    def test_one_that_is_refused_for_good_blocks_no_other(self):
        for status in (400, 401, 403, 404, 410, 413, 422):
            with self.subTest(status), HttpReceiver(answer=refusing(status, "poison")) as receiver:
                channel = {"type": "webhook", "url": receiver.url()}
                services = {"poison": failing(), "good": failing(enabled=False), "last": failing(enabled=False)}
                with Daemon(services, extra=notifications(channel)) as daemon:
                    wait_until(lambda: receiver.posts, "the refused one")
                    daemon.ctl("start", "good", expect=None)
                    taken = lambda: [b for _, _, b in receiver.posts if b"good" in b and b"poison" not in b]  # noqa: E731
                    wait_until(taken, "the good one by itself", timeout=40)
                    wait_until(lambda: "refuses a notification for good" in self.log(daemon), "what is dropped in the log")
                    self.assertIn(f"HTTP {status}", self.log(daemon))
                    owed = "SELECT service_id FROM supervisor_alerts WHERE owed IS NOT NULL AND service_id = 'poison'"
                    wait_until(lambda: not daemon.sql(owed), "nobody to be owed it")
                    remarks = daemon.ctl("summary").stdout
                    self.assertIn("refused 1 for good", remarks)
                    self.assertIn(f"HTTP {status}", remarks)
                    posts = len(receiver.posts)
                    daemon.ctl("start", "last", expect=None)
                    wait_until(lambda: ("raised", "last", "failed") in receiver.alerts()[posts:], "the next one")
                    later = [body for _, _, body in receiver.posts[posts:]]
                    self.assertFalse([body for body in later if b"poison" in body], "it is not tried again")

    def test_a_server_error_for_one_alone_blocks_no_other(self):
        with HttpReceiver(answer=refusing(500, "poison")) as receiver:
            channel = {"type": "webhook", "url": receiver.url()}
            with Daemon({"poison": failing(), "good": failing()}, extra=notifications(channel)) as daemon:
                delivered = lambda: [b for _, _, b in receiver.posts if b"good" in b and b"poison" not in b]  # noqa: E731
                wait_until(delivered, "the other one alone", timeout=40)
                self.assertIn("tried again", self.log(daemon))

    def test_a_channel_that_refuses_everything_keeps_everything(self):
        with HttpReceiver(status=403) as receiver, HttpReceiver() as other:
            channels = [{"type": "webhook", "url": receiver.url()}, {"type": "webhook", "url": other.url()}]
            with Daemon({"web": failing(), "api": failing()}, extra=notifications(*channels)) as daemon:
                label = f"channel webhook 127.0.0.1:{receiver.port}"
                other.wait_alert("raised", "supervisor", label, timeout=40)
                self.assertIn("HTTP 403", str(other.bodies()))
                self.assertNotIn("for good", self.log(daemon))
                before = len(receiver.posts)
                receiver.status = 200
                for service in ("web", "api"):
                    wait_until(
                        lambda name=service: ("raised", name, "failed") in receiver.alerts()[before:],
                        f"{service} after all",
                        timeout=40,
                    )

    def test_it_waits_as_long_as_the_receiver_asks(self):
        in_three_seconds = lambda: email.utils.formatdate(time.time() + 3.9, usegmt=True)  # noqa: E731
        for status, retry_after in ((429, lambda: "3"), (503, in_three_seconds)):
            with self.subTest(status):

                def answer(*_, todo=[(status, retry_after)]):  # noqa: B006
                    if not todo:
                        return (200, {})
                    code, wait = todo.pop()
                    return (code, {"Retry-After": wait()})

                with HttpReceiver(answer=answer) as receiver:
                    channel = {"type": "webhook", "url": receiver.url()}
                    with Daemon({"web": failing()}, extra=notifications(channel)):
                        wait_until(lambda: len(receiver.posts) == 2, "the second try", timeout=40)
                        self.assertGreater(receiver.times[1] - receiver.times[0], 2)  # dates have whole seconds

    def test_a_redirect_is_followed_with_the_message(self):
        for status in (301, 302, 307, 308):
            with self.subTest(status), HttpReceiver() as there:
                moved = lambda *_, to=there.url("/new"), code=status: (code, {"Location": to})  # noqa: E731
                with HttpReceiver(answer=moved) as here:
                    headers = {"Authorization": SECRETS[2], "X-Token": SECRETS[2], "Content-Type": "application/x-alert"}
                    channel = {"type": "webhook", "url": here.url(), "headers": headers}
                    with Daemon({"web": failing()}, extra=notifications(channel)):
                        there.wait_alert("raised", "web", "failed")
                        path, told, _ = there.posts[0]
                        self.assertEqual(path, "/new")
                        self.assertEqual(told["Content-Type"], "application/x-alert")
                        self.assertNotIn(SECRETS[2], str(told), "secrets are for the server that was configured")
                        self.assertEqual(here.posts[0][1]["X-Token"], SECRETS[2])

    def test_a_redirect_on_the_same_server_keeps_the_headers(self):
        once = lambda path, *_: (308, {"Location": "/there"}) if path == "/hook" else (200, {})  # noqa: E731
        with HttpReceiver(answer=once) as receiver:
            channel = {"type": "webhook", "url": receiver.url(), "headers": {"X-Token": "t"}}
            with Daemon({"web": failing()}, extra=notifications(channel)):
                wait_until(lambda: [path for path, _, _ in receiver.posts] == ["/hook", "/there"], "both")
                self.assertEqual(receiver.posts[1][1]["X-Token"], "t")

    def test_an_answer_counts_once_its_head_is_there(self):
        for answer, wanted in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx", DONE),
            (b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 Yes\r\n\r\n", DONE),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n", FAILED),
            (b"HTTP/1.1 103 Hints\r\n\r\n", FAILED),
            (b"", FAILED),
        ):
            def serve(peer, _, told=answer):
                peer.recv(65536)
                peer.sendall(told)

            with self.subTest(answer), Rude(serve) as server:
                with Daemon(extra=notifications({"type": "webhook", "url": server.url})) as daemon:
                    daemon.ctl("alerts", "--test", expect=wanted)

    def test_redirects_without_end_are_a_failure(self):
        with HttpReceiver(answer=lambda *_: (307, {"Location": "/again"})) as receiver:
            channel = {"type": "webhook", "url": receiver.url()}
            with Daemon({"web": failing()}, extra=notifications(channel)) as daemon:
                wait_until(lambda: "more than 5 redirects" in self.log(daemon), "the reason")

    def test_headers_of_ones_own_stand_in_the_place_of_ours(self):
        with HttpReceiver() as receiver:
            headers = {
                "content-type": "application/vnd.own+json",
                "User-Agent": "own agent",
                "Host": "own.example",
                "Accept": "own/accept",
                "Content-Length": "3",
                "Transfer-Encoding": "chunked",
            }
            channel = {"type": "webhook", "url": receiver.url(), "headers": headers}
            with Daemon({"web": failing()}, extra=notifications(channel)):
                receiver.wait_alert("raised", "web", "failed")
                told = [(name.lower(), value) for name, value in receiver.raw_headers[0]]
                for name in ("Content-Type", "User-Agent", "Host", "Accept"):
                    wanted = {key.lower(): value for key, value in headers.items()}[name.lower()]
                    self.assertEqual([value for key, value in told if key == name.lower()], [wanted])
                # What frames the message follows from the message.
                lengths = [value for key, value in told if key == "content-length"]
                self.assertEqual(lengths, [str(len(receiver.posts[0][2]))])
                self.assertNotIn("transfer-encoding", dict(told))

    def test_no_proxy_for_this_machine(self):
        with HttpReceiver() as receiver, refused_port() as nobody:
            proxy = f"http://127.0.0.1:{nobody}"
            for names in (("http_proxy",), ("all_proxy",), ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")):
                for host in ("127.0.0.1", "localhost"):
                    with self.subTest(names=names, host=host):
                        receiver.posts.clear()
                        channel = {"type": "webhook", "url": f"http://{host}:{receiver.port}/"}
                        env = {name: proxy for name in names}
                        with Daemon({"web": failing()}, extra=notifications(channel), env=env):
                            receiver.wait_alert("raised", "web", "failed")

    def test_another_machine_is_told_by_the_proxy(self):
        with HttpReceiver() as proxy:
            channel = {"type": "webhook", "url": "http://receiver.example.org/hook"}
            env = {"http_proxy": f"http://127.0.0.1:{proxy.port}"}
            with Daemon({"web": failing()}, extra=notifications(channel), env=env):
                proxy.wait_alert("raised", "web", "failed")
                self.assertEqual(proxy.posts[0][0], "http://receiver.example.org/hook")

    def test_https_with_an_authority_of_ones_own(self):
        authority = self.authority()
        with HttpReceiver(tls=authority) as receiver:
            hook = {"type": "webhook", "url": receiver.url()}
            good = [{"ca_file": str(authority.ca_file)}, {"verify_tls": False}]
            for keys, wanted in ((good[0], DONE), (good[1], DONE), ({}, FAILED), ({"ca_file": "/no/such.pem"}, FAILED)):
                with self.subTest(keys), Daemon(extra=notifications({**hook, **keys})) as daemon:
                    told = daemon.ctl("alerts", "--test", expect=wanted).stdout
                    if wanted == FAILED:
                        self.assertIn("TLS", told)
                        self.assertIn("ca_file", told)


class Mail(Channels):
    def test_a_server_with_a_certificate_of_its_own(self):
        authority = self.authority()
        for keys in ({"verify_tls": False}, {"ca_file": str(authority.ca_file)}):
            with self.subTest(keys), MailReceiver(starttls=authority) as receiver:
                with Daemon({"web": failing()}, extra=notifications(mail(receiver, **keys))):
                    wait_until(lambda: receiver.mails, "the mail")
                    self.assertEqual(receiver.encrypted, [True])

    def test_one_that_is_not_trusted_is_said_with_the_keys_that_help(self):
        with MailReceiver(starttls=self.authority()) as receiver:
            with Daemon({"web": failing()}, extra=notifications(mail(receiver))) as daemon:
                wait_until(lambda: "see its ca_file and verify_tls" in self.log(daemon), "the reason")
                self.assertEqual(receiver.mails, [])

    def test_without_tls_it_is_sent_as_it_is(self):
        with MailReceiver() as receiver:
            with Daemon({"web": failing()}, extra=notifications(mail(receiver))):
                wait_until(lambda: receiver.mails, "the mail")
                self.assertEqual(receiver.encrypted, [False])

    def test_logins_of_all_kinds(self):
        user, password = SECRETS[:2]
        with MailReceiver() as receiver:
            port = receiver.port
            quoted = "canary-user%40example.org:canary-pass%3B%23%2F%3F%3A%2540"
            for keys in (
                {"username": user, "password": password},
                {"username": user, "password": password, "smtp_url": f"smtp://other:login@127.0.0.1:{port}"},
                {"smtp_url": f"smtp://{quoted}@127.0.0.1:{port}"},
                {"smtp_url": f"smtp://{user}:canary-pass;%23%2f%3f:%2540@127.0.0.1:{port}"},
            ):
                with self.subTest(keys):
                    receiver.logins.clear()
                    receiver.mails.clear()
                    with Daemon({"web": failing()}, extra=notifications(mail(receiver, **keys))) as daemon:
                        wait_until(lambda: receiver.mails, "the mail")
                        self.assertEqual(receiver.credentials(), [(user, password)])
                        daemon.ctl("alerts", "--test")
                        daemon.config["notifications"]["channels"][0]["password"] = SECRETS[2]
                        daemon.config["notifications"]["channels"][0]["username"] = user
                        daemon.write_config()
                        shown = [daemon.ctl("reload", "--dry-run"), daemon.ctl("reload"), daemon.ctl("explain", "web")]
                        shown += [daemon.ctl("alerts", "--all"), daemon.ctl("events"), daemon.ctl("summary")]
                        text = "".join(each.stdout + each.stderr for each in shown) + self.log(daemon) + daemon.stderr()
                        for secret in SECRETS + (quoted,):
                            self.assertNotIn(secret, text)

    def test_the_name_in_ehlo(self):
        with MailReceiver() as receiver:
            port = receiver.port
            for keys, wanted in (
                ({"helo": "web1.example.org"}, "web1.example.org"),
                ({"helo": "[10.0.0.1]"}, "[10.0.0.1]"),
                ({"smtp_url": f"smtp://127.0.0.1:{port}/path.example.org"}, "path.example.org"),
            ):
                with self.subTest(keys), Daemon(extra=notifications(mail(receiver, **keys))) as daemon:
                    daemon.ctl("alerts", "--test")
                    self.assertEqual(receiver.names[-1], wanted)

    def test_names_before_addresses(self):
        with MailReceiver() as receiver:
            channel = mail(
                receiver,
                **{
                    "from": "Überwachung <supervisor@example.org>",
                    "to": ["Ops, Night <night@example.org>", "plain@example.org", '"Day \\"A\\"" <day@example.org>', "<b@c>"],
                },
            )
            with Daemon({"web": failing()}, extra=notifications(channel)):
                wait_until(lambda: receiver.mails, "the mail")
                sender, recipients, message = receiver.mails[0]
                self.assertEqual(sender, "supervisor@example.org")
                self.assertEqual(recipients, ["night@example.org", "plain@example.org", "day@example.org", "b@c"])
                self.assertEqual(message["From"].addresses[0].display_name, "Überwachung")
                names = [address.display_name for address in message["To"].addresses]
                self.assertEqual(names, ["Ops, Night", "", 'Day "A"', ""])

    def test_a_sender_that_is_refused_is_the_channels_alert(self):
        with MailReceiver(refuse="550 not from you") as receiver, HttpReceiver() as other:
            channels = [mail(receiver), {"type": "webhook", "url": other.url()}]
            with Daemon({"web": failing()}, extra=notifications(*channels)) as daemon:
                other.wait_alert("raised", "supervisor", f"channel email 127.0.0.1:{receiver.port}", timeout=40)
                self.assertIn("it answered 550", str(other.bodies()))
                receiver.refuse = None
                wait_until(lambda: "web failed" in str([m["Subject"] for _, _, m in receiver.mails]), "it", timeout=40)
                self.assertNotIn("for good", self.log(daemon))


class Test(Channels):
    def test_each_channel_says_what_came_of_it(self):
        with HttpReceiver() as good, HttpReceiver(status=404) as bad, MailReceiver(unknown=["gone@b"]) as post:
            channels = [
                {"type": "webhook", "url": good.url()},
                {"type": "slack", "url": bad.url("/secret")},
                mail(post),
                mail(post, to=["here@b", "gone@b"]),
                {"type": "command", "command": "/bin/sh", "args": ["-c", "cat > told"]},
                {"type": "command", "command": "/bin/sh", "args": ["-c", "exit 7"]},
            ]
            # Neither the severity nor the interval holds it up.
            extra = notifications(*channels, min_severity="critical", min_interval=600)
            with Daemon(extra=extra) as daemon:
                answer = daemon.ctl_json("alerts", "--test", expect=FAILED)
                outcomes = [(row["type"], row["outcome"]) for row in answer["results"]]
                self.assertEqual(
                    outcomes,
                    [
                        ("webhook", "delivered"),
                        ("slack", "failed"),
                        ("email", "delivered"),
                        ("email", "failed"),
                        ("command", "delivered"),
                        ("command", "failed"),
                    ],
                )
                messages = [row["message"] for row in answer["results"]]
                self.assertIn("delivered in", messages[0])
                self.assertIn("HTTP 404", messages[1])
                self.assertIn("gone@b (550)", messages[3])
                self.assertIn("7", messages[5])
                self.assertEqual(answer["results"][0]["channel"], f"webhook 127.0.0.1:{good.port}")
                told = json.loads((daemon.dir / "told").read_text())
                self.assertIs(told["test"], True)
                self.assertEqual([(a["service_id"], a["rule"]) for a in told["alerts"]], [("supervisor", "test")])
                self.assertIn("uid ", told["alerts"][0]["message"])
                self.assertIn("supervisor test", post.mails[0][2]["Subject"])
                text = daemon.ctl("alerts", "--test", expect=FAILED).stdout
                self.assertRegex(text, rf"webhook 127.0.0.1:{good.port} +delivered")
                self.assertNotIn("secret", text + str(answer))
                self.assertEqual(daemon.ctl_json("alerts", "--all")["alerts"], [])
                self.assertEqual(daemon.sql("SELECT count(*) FROM supervisor_alerts"), [(0,)])

    def test_all_well_is_exit_code_0(self):
        with HttpReceiver() as receiver, Daemon(
            extra=notifications({"type": "webhook", "url": receiver.url()})
        ) as daemon:
            daemon.ctl("alerts", "--test", expect=DONE)
            daemon.ctl("alerts", "--test", "--all", expect=USAGE)
            daemon.ctl("alerts", "--test", "-n", "3", expect=USAGE)

    def test_without_a_channel_it_is_a_failure(self):
        with HttpReceiver() as receiver:
            channel = {"type": "webhook", "url": receiver.url()}
            for extra in ({}, notifications(), notifications(channel, enabled=False)):
                with self.subTest(extra), Daemon(extra=extra) as daemon:
                    done = daemon.ctl("alerts", "--test", expect=FAILED)
                    self.assertIn("nobody is told", done.stderr)
                    self.assertEqual(daemon.ctl_json("alerts", "--test", expect=FAILED), {"results": []})
            self.assertEqual(receiver.posts, [])

    def test_a_receiver_that_hangs_holds_up_neither_the_others_nor_the_end(self):
        with HttpReceiver(hang=True) as hanging, HttpReceiver() as good:
            channels = [{"type": "webhook", "url": hanging.url()}, {"type": "webhook", "url": good.url()}]
            with Daemon(extra=notifications(*channels)) as daemon:
                asking = daemon.stream("alerts", "--test")
                wait_until(lambda: hanging.posts and good.posts, "both to be asked")
                began = time.monotonic()
                daemon.stop()
                self.assert_quicker(8, began)
                self.assertIsNone(asking.next(timeout=20))

    def test_what_waits_for_a_channel_goes_out_once_it_works(self):
        with HttpReceiver(status=503) as receiver:
            channel = {"type": "webhook", "url": receiver.url()}
            with Daemon({"web": failing()}, extra=notifications(channel)) as daemon:
                wait_until(lambda: len(receiver.posts) >= 4, "pauses that grow", timeout=40)
                receiver.posts.clear()
                receiver.status = 200
                began = time.monotonic()
                daemon.ctl("alerts", "--test")
                receiver.wait_alert("raised", "web", "failed")
                self.assert_quicker(6, began)


class Repeats(Channels):
    def told(self, receiver):
        return [a["repeats"] for body in receiver.bodies() for a in body["alerts"] if a["status"] == "raised"]

    def test_what_stays_open_is_told_again(self):
        with HttpReceiver() as receiver:
            channel = {"type": "webhook", "url": receiver.url()}
            services = {"web": failing(), "other": failing(enabled=False)}
            with Daemon(services, extra=notifications(channel, repeat_interval=1)) as daemon:
                wait_until(lambda: len(self.told(receiver)) >= 4, "three repetitions", timeout=40)
                repeats = self.told(receiver)
                self.assertEqual(repeats[0], 0)
                self.assertEqual(repeats, sorted(set(repeats)), "each once")
                self.assertIn("still open", receiver.bodies()[1]["title"])
                self.assertEqual(len(daemon.ctl_json("alerts", "--all")["alerts"]), 1)
                daemon.ctl("stop", "web")
                receiver.wait_alert("resolved", "web", "failed")
                count = len(receiver.posts)
                daemon.ctl("start", "other", expect=None)
                wait_until(lambda: len(receiver.posts) >= count + 3, "repetitions of another", timeout=40)
                self.assertNotIn("web", str(receiver.bodies()[count:]))

    def test_a_daemon_that_comes_after_keeps_the_step(self):
        with HttpReceiver() as receiver:
            channel = {"type": "webhook", "url": receiver.url()}
            step = 6 * SCALE
            with Daemon({"web": failing()}, extra=notifications(channel, repeat_interval=step)) as daemon:
                receiver.wait_alert("raised", "web", "failed")
                raised = receiver.times[0]
                wait_until(
                    lambda: not daemon.sql("SELECT 1 FROM supervisor_alerts WHERE owed IS NOT NULL"), "it to be known"
                )
                daemon.kill_daemon()
                daemon.start()
                daemon.ctl("upgrade")
                wait_until(lambda: len(receiver.posts) >= 2, "the repetition", timeout=40)
                # At a whole number of steps after it was raised, whenever the daemons began.
                steps = round((receiver.times[1] - raised) / step)
                self.assertEqual(self.told(receiver), [0, steps])
                self.assertAlmostEqual(receiver.times[1] - raised, steps * step, delta=step / 3)

    def test_a_reload_switches_it_on_and_off(self):
        with HttpReceiver() as receiver:
            channel = {"type": "webhook", "url": receiver.url()}
            with Daemon({"web": failing()}, extra=notifications(channel)) as daemon:
                receiver.wait_alert("raised", "web", "failed")
                daemon.config.update(notifications(channel, repeat_interval=0.5))
                daemon.write_config()
                self.assertIn("notifications.repeat_interval", daemon.ctl("reload").stdout)
                wait_until(lambda: len(receiver.posts) >= 3, "repetitions", timeout=40)

    def test_repetitions_do_not_pile_up_in_a_dead_channel(self):
        with HttpReceiver(status=503) as receiver:
            channel = {"type": "webhook", "url": receiver.url()}
            with Daemon({"web": failing()}, extra=notifications(channel, repeat_interval=0.2)):
                wait_until(lambda: len(receiver.posts) >= 4, "tries", timeout=40)
                self.assertEqual({len(body["alerts"]) for body in receiver.bodies()}, {1})


if __name__ == "__main__":
    main()
