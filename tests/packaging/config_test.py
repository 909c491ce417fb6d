#!/usr/bin/env python3
"""The shipped configuration: strict JSON, the four services with their ports, every section of the schema, and commands
that exist."""

import json
import os
import shutil
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
FILE = os.path.join(ROOT, "config", "supervisor_config.json")
SERVICES = {"architect-prod": (8080, True), "architect-qa": (8081, True), "reading-app": (5063, True),
            "pharma": (7085, False)}
SECTIONS = ["environment", "groups", "depends_on", "readiness", "health_check", "restart_policy", "resource_limits",
            "graceful_shutdown", "hooks", "logs"]


def no_duplicates(pairs):
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise ValueError(f"doubled keys among {keys}")
    return dict(pairs)


class ShippedConfiguration(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(FILE, encoding="utf-8") as file:
            cls.config = json.load(file, object_pairs_hook=no_duplicates,
                                   parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))

    def test_has_the_four_services(self):
        found = {key: (service["port"], service["enabled"]) for key, service in self.config["services"].items()}
        self.assertEqual(SERVICES, found)

    def test_port_is_the_same_everywhere(self):
        for key, service in self.config["services"].items():
            port = str(service["port"])
            self.assertIn(port, service["args"], key)
            check = service["health_check"]
            self.assertIn(port, check.get("url", str(check.get("port"))), key)
            self.assertIn("http://127.0.0.1:" + port, service["description"], key)

    def test_uses_every_section(self):
        self.assertEqual({"version", "global", "services", "notifications", "monitoring"}, set(self.config))
        used = {key for service in self.config["services"].values() for key in service}
        self.assertEqual([], [section for section in SECTIONS if section not in used])

    def test_leaves_the_paths_of_the_daemon_to_its_defaults(self):
        for key in ("socket", "database", "log_file"):  # so that it serves root and other users, and supervisorctl finds it
            self.assertNotIn(key, self.config["global"])
        self.assertEqual("/tmp/supervisor_logs", self.config["global"]["log_directory"])
        self.assertEqual("/tmp/supervisor_pids", self.config["global"]["pid_directory"])

    def test_programs_exist(self):
        for key, service in self.config["services"].items():
            directory = os.path.join(os.path.dirname(FILE), service["working_directory"])
            commands = [service] + list(service.get("hooks", {}).values())
            for command in commands:
                self.assertTrue(shutil.which(command["command"]), f"{key}: {command['command']}")
                self.assertTrue(os.path.isfile(os.path.join(directory, command["args"][0])), f"{key}: {command['args']}")

    def test_is_not_writable_by_others(self):
        # Git keeps no more than the executable bit, so a permissive umask does this; root's daemon refuses such a file.
        self.assertFalse(os.stat(FILE).st_mode & 0o002)

    def test_dependencies_exist(self):
        for service in self.config["services"].values():
            for other in service.get("depends_on", []):
                self.assertIn(other, self.config["services"])


if __name__ == "__main__":
    unittest.main()
