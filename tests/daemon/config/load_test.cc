#include "daemon/config/load.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "common/paths.h"
#include "daemon/config/expand.h"
#include "tests/daemon/config/config_files.h"

namespace supervisor {
namespace {

using Strings = std::vector<std::string>;

Config MustLoad(const ConfigFiles& files, const std::string& text,
                const std::map<std::string, std::string>& environment = {}) {
  LoadedConfig loaded = files.Load(text, environment);
  for (const ConfigError& error : loaded.errors) {
    ADD_FAILURE() << error.ToString();
  }
  return loaded.config.value_or(Config());
}

TEST(LoadConfig, AnEmptyObjectGivesTheDefaults) {
  const ConfigFiles files;
  const Config config = MustLoad(files, "{}");
  Config expected;
  expected.file = files.main_file();
  expected.global.socket = GetDefaultPaths().socket;
  expected.global.database = GetDefaultPaths().database;
  expected.global.log_file = GetDefaultPaths().log_directory + "/supervisord.log";
  EXPECT_EQ(config, expected);
  EXPECT_EQ(config.version, "1.0");
}

TEST(LoadConfig, AServiceOfACommandAloneGetsTheDefaults) {
  const ConfigFiles files;
  const Config config = MustLoad(files, R"({"services": {"web": {"command": "python3"}}})");
  ServiceConfig expected;
  expected.id = "web";
  expected.name = "web";
  expected.run.command = "python3";
  expected.working_directory = files.directory();
  EXPECT_EQ(config.services.at("web"), expected);
  EXPECT_EQ(config.services.at("web").health_check.type, HealthCheckType::kNone);
  EXPECT_EQ(config.services.at("web").priority, 999);
}

TEST(LoadConfig, GlobalValuesAreTheServicesDefaults) {
  const ConfigFiles files;
  const Config config = MustLoad(files, R"({
    "services": {"a": {"command": "x", "health_check": {"type": "process"}},
                 "b": {"command": "x", "health_check": {"type": "process", "interval": 4},
                       "restart_policy": {"delay": 1, "max_attempts": 9}}},
    "global": {"check_interval": 7, "restart_delay": 0.25, "max_restart_attempts": 0}})");
  const ServiceConfig& a = config.services.at("a");
  EXPECT_EQ(a.health_check.interval, absl::Seconds(7));
  EXPECT_EQ(a.restart_policy.delay, absl::Milliseconds(250));
  EXPECT_EQ(a.restart_policy.max_attempts, 0);
  const ServiceConfig& b = config.services.at("b");
  EXPECT_EQ(b.health_check.interval, absl::Seconds(4));
  EXPECT_EQ(b.restart_policy.delay, absl::Seconds(1));
  EXPECT_EQ(b.restart_policy.max_attempts, 9);
}

TEST(LoadConfig, ReadsEveryKeyOfAService) {
  const ConfigFiles files;
  const Config config = MustLoad(files, FullConfig(), {{"HOME", "/root"}});
  const auto in_directory = [&files](const char* name) { return files.PathOf(name); };
  ServiceConfig web;
  web.id = "web";
  web.enabled = false;
  web.priority = 1;
  web.critical = true;
  web.name = "Web \xc3\xa4";
  web.description = "d";
  web.port = 8080;
  web.groups = {"backend", "x.y"};
  web.run = {in_directory("bin/web"), {"--n", "${INSTANCE}", "$${X}", "/root"}};
  web.working_directory = in_directory("web");
  web.environment = {{"KEY", "value"}, {"E", ""}};
  web.environment_file = in_directory("web.env");
  web.user = "www";
  web.group = "wwwgrp";
  web.umask = 077;
  web.no_new_privileges = true;
  web.instances = 3;
  web.depends_on = {"db"};
  web.depends_on_completed = {"db"};
  web.readiness = {ReadinessType::kHealthCheck, absl::Seconds(2), absl::Seconds(30), absl::Seconds(7)};
  HealthCheckConfig& check = web.health_check;
  check.type = HealthCheckType::kHttp;
  check.url = "https://127.0.0.1:8080/health";
  check.method = "POST";
  check.headers = {{"X-A", "b"}};
  check.unix_socket = in_directory("web.sock");
  check.verify_tls = false;
  check.ca_file = in_directory("ca.pem");
  check.follow_redirects = false;
  check.tls_server_name = "web.example";
  check.expected_status = {{204, 204}, {200, 299}, {401, 403}};
  check.expected_content = "ok";
  check.expected_regex = "^o\\w$";
  check.host = "localhost";
  check.port = 81;
  check.service = "svc";
  check.max_cpu_percent = 50;
  check.max_memory_mb = 0.5;
  check.run = {in_directory("bin/check"), {"a"}};
  check.script_environment = ScriptEnvironment::kService;
  check.interval = absl::Milliseconds(1500);
  check.timeout = absl::Seconds(2);
  check.retries = 4;
  check.start_period = absl::Seconds(9);
  check.success_threshold = 2;
  check.on_failure = OnFailure::kAlert;
  web.restart_policy = {
      RestartMode::kOnFailure, absl::Seconds(1), 1.5, absl::Seconds(60), 0, 0, absl::Seconds(10), {0, 3}};
  web.resource_limits = {100, 90, 9, 1024, -5, 500, OnFailure::kAlert};
  web.graceful_shutdown = {
      2, SignalTo::kTree, absl::Milliseconds(500), {"/bin/stop", {"now"}}, KillMode::kProcess, absl::Seconds(8)};
  web.hooks.pre_start = {{in_directory("pre"), {"1"}}, absl::Seconds(3)};
  web.hooks.post_start.run.command = "b";
  web.hooks.pre_stop.run.command = "c";
  web.hooks.post_stop.run.command = "d";
  web.logs = {1, 2, true, true, StderrMode::kSeparate, "shipper", "adm", mode_t{0640}, LogForward::kSyslog};
  EXPECT_EQ(config.services.at("web"), web);
  EXPECT_EQ(ForInstance(config.services.at("web"), 2).run.args, (Strings{"--n", "2", "${X}", "/root"}));
}

TEST(LoadConfig, ReadsEveryOtherKey) {
  const ConfigFiles files;
  const Config config = MustLoad(files, FullConfig(), {{"HOME", "/root"}});
  GlobalConfig global;
  global.check_interval = absl::Seconds(20);
  global.restart_delay = absl::Milliseconds(2500);
  global.max_restart_attempts = 7;
  global.log_directory = files.PathOf("logs");
  global.pid_directory = "/run/pids";
  global.socket = files.PathOf("run/s.sock");
  global.socket_mode = 0600;
  global.socket_group = "adm";
  global.database = files.PathOf("state.db");
  global.log_file = files.PathOf("daemon.log");
  global.log_level = "debug";
  global.exit_on_critical_failure = true;
  global.include = {"conf.d/*.json"};
  EXPECT_EQ(config.global, global);
  NotificationsConfig notifications;
  notifications.enabled = false;
  notifications.min_severity = Severity::kWarning;
  notifications.min_interval = absl::Seconds(5);
  notifications.repeat_interval = absl::Minutes(10);
  std::vector<ChannelConfig>& channels = notifications.channels;
  channels.resize(4);
  channels[0].url = "http://h/x";
  channels[0].headers = {{"A", "b"}};
  channels[1].type = ChannelType::kSlack;
  channels[1].url = "https://s/";
  channels[2].type = ChannelType::kEmail;
  channels[2].smtp_url = "smtp://mail:25";
  channels[2].from = "A <a@b>";
  channels[2].to = {"c@d"};
  channels[2].username = "u@d";
  channels[2].password = "p;#/root";
  channels[2].helo = "me.example";
  channels[2].verify_tls = false;
  channels[2].ca_file = files.PathOf("mail.pem");
  channels[3].type = ChannelType::kCommand;
  channels[3].run = {files.PathOf("notify"), {"x"}};
  EXPECT_EQ(config.notifications, notifications);
  MonitoringConfig monitoring;
  monitoring.metrics_interval = absl::Seconds(1);
  monitoring.metrics_retention = absl::Hours(36);
  monitoring.events_retention = absl::Hours(48);
  monitoring.alerts = {80, 10, absl::Seconds(30), 2, absl::Seconds(100)};
  EXPECT_EQ(config.monitoring, monitoring);
}

TEST(LoadConfig, WrittenDefaultsAreTakenAsDefaults) {
  const ConfigFiles files;
  const Config written = MustLoad(files, R"({"version": "1.0",
    "global": {"socket": "", "database": "", "log_file": "", "socket_group": "", "include": []},
    "services": {"a": {"command": "x", "name": "", "port": 0, "working_directory": "", "environment": {}, "umask": "022",
      "hooks": {"pre_start": {"command": "", "args": [], "timeout": 30}, "post_start": {}},
      "graceful_shutdown": {"signal": "SIGTERM", "signal_to": "main", "timeout": 10, "command": "", "args": [],
                            "kill_mode": "tree", "max_extension": 300},
      "resource_limits": {"max_memory_mb": 0, "nice": 0, "on_exceed": "restart"}, "restart_policy": {"mode": "always"},
      "readiness": {"type": "exec", "uptime": 1, "timeout": 60, "max_extension": 3600}, "logs": {"stderr": "merge"}}},
    "notifications": {"channels": []}, "monitoring": {"alerts": {}}})");
  EXPECT_EQ(written, MustLoad(files, R"({"services": {"a": {"command": "x"}}})"));
}

TEST(LoadConfig, NumbersMayBeWrittenInAnyWay) {
  const ConfigFiles files;
  const Config config = MustLoad(files, R"({"services": {"a": {"command": "x", "priority": 1e1, "instances": 2.0,
    "resource_limits": {"max_memory_mb": 0.5}, "graceful_shutdown": {"signal": "usr1", "timeout": 1e-1}}}})");
  EXPECT_EQ(config.services.at("a").priority, 10);
  EXPECT_EQ(config.services.at("a").instances, 2);
  EXPECT_EQ(config.services.at("a").graceful_shutdown.signal, SIGUSR1);
  EXPECT_EQ(config.services.at("a").graceful_shutdown.timeout, absl::Milliseconds(100));
}

TEST(LoadConfig, HealthCheckTypeDefaultsToHttp) {
  const ConfigFiles files;
  const Config config = MustLoad(files, R"({"services": {
    "a": {"command": "x", "health_check": {"url": "http://[::1]:80/h?a=b"}},
    "b": {"command": "x", "health_check": {"type": "tcp", "port": 1}},
    "c": {"command": "x", "health_check": {"type": "grpc", "port": 2, "host": "::1"}},
    "d": {"command": "x", "health_check": {"type": "script", "command": "check", "args": ["1"]}}}})");
  EXPECT_EQ(config.services.at("a").health_check.type, HealthCheckType::kHttp);
  EXPECT_EQ(config.services.at("b").health_check.type, HealthCheckType::kTcp);
  EXPECT_EQ(config.services.at("c").health_check.type, HealthCheckType::kGrpc);
  EXPECT_EQ(config.services.at("d").health_check.type, HealthCheckType::kScript);
}

TEST(LoadConfig, TheDefaultOfMaxDelayDoesNotCutALongerDelay) {
  const ConfigFiles files;
  const Config config = MustLoad(files, R"({"services": {"a": {"command": "x", "restart_policy": {"delay": 600}},
    "b": {"command": "x", "restart_policy": {"delay": 600, "max_delay": 0}}}})");
  EXPECT_EQ(config.services.at("a").restart_policy.max_delay, absl::Seconds(600));
  EXPECT_EQ(config.services.at("b").restart_policy.max_delay, absl::ZeroDuration());
}

TEST(LoadConfig, VariablesAreReplacedInEveryStringBeforeItIsChecked) {
  const ConfigFiles files;
  const Config config = MustLoad(files, R"({
    "global": {"log_directory": "${DIR}/logs", "log_level": "${LEVEL:-warning}"},
    "services": {"a": {"command": "${DIR}/run", "args": ["$${A}", "cost: $5", "${WEIRD}"], "name": "n-${INSTANCE}",
      "environment": {"TOKEN": "${WEIRD}", "PORT": "80${INSTANCE}"}, "depends_on": ["${DEP}"], "groups": ["${DEP}"],
      "health_check": {"url": "http://${HOST:-localhost}:80${INSTANCE}/"}}, "b": {"command": "x"}}})",
                                 {{"DIR", "/srv"}, {"WEIRD", "${INSTANCE}$${"}, {"DEP", "b"}});
  EXPECT_EQ(config.global.log_directory, "/srv/logs");
  EXPECT_EQ(config.global.log_level, "warning");
  const ServiceConfig service = ForInstance(config.services.at("a"), 3);
  EXPECT_EQ(service.run.command, "/srv/run");
  EXPECT_EQ(service.run.args, (Strings{"${A}", "cost: $5", "${INSTANCE}$${"}));
  EXPECT_EQ(service.name, "n-3");
  EXPECT_EQ(service.environment.at("TOKEN"), "${INSTANCE}$${");
  EXPECT_EQ(service.environment.at("PORT"), "803");
  EXPECT_EQ(service.depends_on, Strings{"b"});
  EXPECT_EQ(service.health_check.url, "http://localhost:803/");
}

TEST(LoadConfig, ReadsTheProcessEnvironment) {
  const ConfigFiles files;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): this program has one thread
  ASSERT_EQ(setenv("SUPERVISOR_CONFIG_TEST", "from-getenv", 1), 0);
  files.Write("supervisor_config.json", R"({"services": {"a": {"command": "${SUPERVISOR_CONFIG_TEST}"}}})");
  const LoadedConfig loaded = LoadConfig(files.main_file());
  ASSERT_TRUE(loaded.config);
  EXPECT_EQ(loaded.config->services.at("a").run.command, "from-getenv");
}

TEST(LoadConfig, RelativePathsReferToTheFileTheyStandIn) {
  const ConfigFiles files;
  files.Write("conf.d/x.json", R"({"services": {"b": {"command": "./run", "working_directory": "../w"},
                                                "c": {"command": "run", "hooks": {"pre_start": {"command": "h/x"}}}}})");
  const Config config =
      MustLoad(files, R"({"global": {"include": ["conf.d/*.json"]}, "services": {"a": {"command": "././/bin/../run",
    "working_directory": ".", "graceful_shutdown": {"command": "/abs/stop"}}}})");
  EXPECT_EQ(config.services.at("a").run.command, files.PathOf("bin/../run"));
  EXPECT_EQ(config.services.at("a").working_directory, files.directory());
  EXPECT_EQ(config.services.at("a").graceful_shutdown.run.command, "/abs/stop");
  EXPECT_EQ(config.services.at("b").run.command, files.PathOf("conf.d/run"));
  EXPECT_EQ(config.services.at("b").working_directory, files.PathOf("conf.d/../w"));
  EXPECT_EQ(config.services.at("c").run.command, "run");
  EXPECT_EQ(config.services.at("c").working_directory, files.PathOf("conf.d"));
  EXPECT_EQ(config.services.at("c").hooks.pre_start.run.command, files.PathOf("conf.d/h/x"));
}

// Neither glob(3) nor the replacement of variables reads the name of the directory.
TEST(LoadConfig, TheDirectoryMayHaveAnyName) {
  const ConfigFiles files;
  const std::string name = "odd ${INSTANCE} [a-z]* $";
  files.Write(name + "/conf.d/x.json", R"({"services": {"b": {"command": "./run"}}})");
  const std::string main = files.Write(name + "/main.json", R"({"global": {"include": ["conf.d/*.json"]}})");
  const LoadedConfig loaded = LoadConfig(main);
  ASSERT_TRUE(loaded.config);
  const ServiceConfig service = ForInstance(loaded.config->services.at("b"), 5);
  EXPECT_EQ(service.run.command, files.PathOf(name + "/conf.d/run"));
  EXPECT_EQ(service.working_directory, files.PathOf(name + "/conf.d"));
}

TEST(LoadConfig, DependenciesMayFormADiamondAndCrossFiles) {
  const ConfigFiles files;
  files.Write("conf.d/x.json", R"({"services": {"d": {"command": "x"}, "b": {"command": "x", "depends_on": ["d"]}}})");
  const Config config = MustLoad(files, R"({"global": {"include": ["conf.d/*.json", "none.d/*.json"]}, "services": {
    "a": {"command": "x", "depends_on": ["b", "c"]}, "c": {"command": "x", "depends_on": ["d"]}}})");
  EXPECT_EQ(config.services.size(), 4U);
}

TEST(LoadSocketPath, IsFoundAlsoWhereTheRestIsWrong) {
  const ConfigFiles files;
  const auto socket = [&files](const std::string& text) {
    files.Write("supervisor_config.json", text);
    return LoadSocketPath(files.main_file(), {});
  };
  EXPECT_EQ(socket(R"({"global": {"socket": "/run/x.sock", "nonsense": 1}, "services": 3})"), "/run/x.sock");
  EXPECT_EQ(socket(R"({"global": {"socket": "run/x.sock"}})"), files.PathOf("run/x.sock"));
  EXPECT_EQ(socket(R"({"global": {"socket": "${SUPERVISOR_TEST_NONE:-/d}/x.sock"}})"), "/d/x.sock");
  EXPECT_EQ(socket(R"({"global": {"socket": "${SUPERVISOR_TEST_NONE}/x.sock"}})"), std::nullopt);
  EXPECT_EQ(socket(R"({"global": {"socket": ""}})"), std::nullopt);
  EXPECT_EQ(socket(R"({"global": {"socket": 1}})"), std::nullopt);
  EXPECT_EQ(socket(R"({"global": []})"), std::nullopt);
  EXPECT_EQ(socket(R"({"socket": "/x"})"), std::nullopt);
  EXPECT_EQ(socket(R"({"global": {"socket": "/x")"), std::nullopt);
  EXPECT_EQ(LoadSocketPath(files.PathOf("none.json"), {}), std::nullopt);
  EXPECT_EQ(LoadSocketPath("", {}), std::nullopt);
}

}  // namespace
}  // namespace supervisor
