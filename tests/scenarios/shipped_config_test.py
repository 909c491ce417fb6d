"""The configuration that ships is good, and its services really run."""

import json
import pathlib
import re
import shutil
import unittest
import urllib.request

from harness import ROOT, SUPERVISORD, Daemon, Scenario, free_port, main, run, wait_until

SHIPPED = ROOT / "config" / "supervisor_config.json"


@unittest.skipUnless(SHIPPED.exists(), "no shipped configuration here")
class ShippedConfiguration(Scenario):
    def test_it_passes_the_check(self):
        result = run([SUPERVISORD, "-c", SHIPPED, "--check"], expect=0)
        self.assertNotIn("error", result.stderr.lower())

    def test_its_services_are_those_that_are_promised(self):
        services = json.loads(SHIPPED.read_text())["services"]
        self.assertEqual(
            {id: (service.get("port"), service.get("enabled", True)) for id, service in services.items()},
            {
                "architect-prod": (8080, True),
                "architect-qa": (8081, True),
                "reading-app": (5063, True),
                "pharma": (7085, False),
            },
        )

    def test_its_services_run_and_are_healthy(self):
        # On ports of this scenario's own, so that it can run beside others: wherever a port is written, it is replaced.
        ports = {port: str(free_port()) for port in ("8080", "8081", "5063", "7085")}
        # In one go: a port that was put in may hold the digits of one to be replaced.
        text = re.sub(rf"\b({'|'.join(ports)})\b", lambda found: ports[found[0]], SHIPPED.read_text())
        with Daemon(started=False) as daemon:
            shutil.copytree(SHIPPED.parent, daemon.dir, dirs_exist_ok=True)
            shipped = json.loads(text)
            shipped["global"] = {**shipped.get("global", {}), **daemon.config["global"]}
            for service in shipped["services"].values():
                if "health_check" in service:
                    service["health_check"]["interval"] = 0.2
            daemon.config = shipped
            daemon.write_config()
            daemon.start()
            enabled = [id for id, service in shipped["services"].items() if service.get("enabled", True)]
            for id in enabled:
                daemon.wait_state(id, "running", timeout=30)
                if "health_check" in shipped["services"][id]:
                    daemon.wait_for(id, lambda row: row["health"] == "healthy", "healthy", timeout=30)
            self.assertEqual(daemon.status("pharma")["state"], "stopped")
            daemon.ctl("status")
            url = f"http://127.0.0.1:{ports['8080']}/"
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            wait_until(lambda: opener.open(url, timeout=5).status == 200, "the page of architect-prod")

    def test_it_refers_to_nothing_outside_its_directory(self):
        for id, service in json.loads(SHIPPED.read_text())["services"].items():
            directory = pathlib.PurePath(service.get("working_directory", "."))
            self.assertFalse(directory.is_absolute() and not str(directory).startswith("/tmp"), id)


if __name__ == "__main__":
    main()
