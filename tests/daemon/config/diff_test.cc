#include "daemon/config/diff.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace supervisor {
namespace {

ServiceConfig Service(const std::string& id) {
  ServiceConfig service;
  service.id = id;
  service.run.command = "/bin/" + id;
  return service;
}

Config WithServices(const std::vector<ServiceConfig>& services) {
  Config config;
  for (const ServiceConfig& service : services) {
    config.services[service.id] = service;
  }
  return config;
}

std::vector<std::string> Ids(const std::vector<ServiceChange>& changes) {
  std::vector<std::string> ids;
  ids.reserve(changes.size());
  for (const ServiceChange& change : changes) {
    ids.push_back(change.id);
  }
  return ids;
}

using Strings = std::vector<std::string>;
using ServiceEdit = std::pair<std::string, std::function<void(ServiceConfig&)>>;
using ConfigEdit = std::pair<std::string, std::function<void(Config&)>>;

TEST(PlanReload, NothingChanged) {
  const Config config = WithServices({Service("a"), Service("b")});
  const ReloadPlan plan = PlanReload(config, config);
  EXPECT_EQ(plan.unchanged, (Strings{"a", "b"}));
  EXPECT_TRUE(plan.added.empty() && plan.removed.empty() && plan.restarted.empty() && plan.updated.empty());
  EXPECT_TRUE(plan.global_keys.empty() && plan.needs_daemon_restart.empty());
}

TEST(PlanReload, SortsServicesIntoKinds) {
  ServiceConfig restarted = Service("b");
  restarted.run.args = {"x"};
  restarted.priority = 3;
  ServiceConfig updated = Service("c");
  updated.health_check.type = HealthCheckType::kTcp;
  const ReloadPlan plan = PlanReload(WithServices({Service("a"), Service("b"), Service("c"), Service("gone")}),
                                     WithServices({Service("a"), restarted, updated, Service("new")}));
  EXPECT_EQ(Ids(plan.added), Strings{"new"});
  EXPECT_EQ(Ids(plan.removed), Strings{"gone"});
  ASSERT_EQ(Ids(plan.restarted), Strings{"b"});
  EXPECT_EQ(plan.restarted[0].keys, (Strings{"priority", "args"}));
  ASSERT_EQ(Ids(plan.updated), Strings{"c"});
  EXPECT_EQ(plan.updated[0].keys, Strings{"health_check"});
  EXPECT_EQ(plan.unchanged, Strings{"a"});
}

void ExpectServiceEdit(const ServiceEdit& edit, bool restarts) {
  ServiceConfig before = Service("a");
  before.health_check.type = HealthCheckType::kHttp;
  ServiceConfig after = before;
  edit.second(after);
  const ReloadPlan plan = PlanReload(WithServices({before}), WithServices({after}));
  const std::vector<ServiceChange>& changes = restarts ? plan.restarted : plan.updated;
  ASSERT_EQ(Ids(changes), Strings{"a"}) << edit.first;
  EXPECT_EQ(changes[0].keys, Strings{edit.first});
  EXPECT_TRUE((restarts ? plan.updated : plan.restarted).empty()) << edit.first;
}

ServiceConfig WithInstances(int instances) {
  ServiceConfig service = Service("w");
  service.instances = instances;
  return service;
}

ReloadPlan Scale(const ServiceConfig& before, const ServiceConfig& after, const std::set<std::string>& stale = {}) {
  return PlanReload(WithServices({before}), WithServices({after}), stale);
}

TEST(PlanScaling, MoreInstancesAreAddedAndTheOthersStay) {
  const ReloadPlan plan = Scale(WithInstances(2), WithInstances(4));
  EXPECT_EQ(Ids(plan.added), (Strings{"w:2", "w:3"}));
  EXPECT_EQ(plan.unchanged, (Strings{"w:0", "w:1"}));
  EXPECT_TRUE(plan.removed.empty() && plan.restarted.empty() && plan.updated.empty());
}

TEST(PlanScaling, FewerInstancesRemoveTheHighest) {
  const ReloadPlan plan = Scale(WithInstances(4), WithInstances(2));
  EXPECT_EQ(Ids(plan.removed), (Strings{"w:2", "w:3"}));
  EXPECT_EQ(plan.unchanged, (Strings{"w:0", "w:1"}));
  EXPECT_TRUE(plan.added.empty() && plan.restarted.empty() && plan.updated.empty());
}

TEST(PlanScaling, OneBecomesTheFirstOfSeveralAndBack) {
  const ReloadPlan up = Scale(WithInstances(1), WithInstances(3));
  EXPECT_EQ(Ids(up.added), (Strings{"w:1", "w:2"}));
  ASSERT_EQ(Ids(up.updated), Strings{"w:0"});
  EXPECT_EQ(up.updated[0].was, "w");
  EXPECT_EQ(up.updated[0].keys, Strings{"instances"});
  EXPECT_TRUE(up.removed.empty() && up.restarted.empty() && up.unchanged.empty());
  const ReloadPlan down = Scale(WithInstances(3), WithInstances(1));
  EXPECT_EQ(Ids(down.removed), (Strings{"w:1", "w:2"}));
  ASSERT_EQ(Ids(down.updated), Strings{"w"});
  EXPECT_EQ(down.updated[0].was, "w:0");
}

TEST(PlanScaling, OtherKeysHoldForThoseThatStay) {
  ServiceConfig after = WithInstances(3);
  after.run.args = {"x"};
  after.priority = 7;
  const ReloadPlan restarted = Scale(WithInstances(2), after);
  EXPECT_EQ(Ids(restarted.restarted), (Strings{"w:0", "w:1"}));
  EXPECT_EQ(restarted.restarted[0].keys, (Strings{"priority", "args"}));
  EXPECT_EQ(Ids(restarted.added), Strings{"w:2"});
  ServiceConfig live = WithInstances(1);
  live.priority = 7;
  const ReloadPlan updated = Scale(WithInstances(2), live);
  ASSERT_EQ(Ids(updated.updated), Strings{"w"});
  EXPECT_EQ(updated.updated[0].keys, (Strings{"instances", "priority"}));
  EXPECT_EQ(Ids(updated.removed), Strings{"w:1"});
}

TEST(PlanEnvironmentFiles, ChangedContentsRestartWhatWasStartedWithOthers) {
  ServiceConfig service = Service("a");
  service.environment_file = "/a.env";
  const ReloadPlan plan = Scale(service, service, {"a"});
  ASSERT_EQ(Ids(plan.restarted), Strings{"a"});
  EXPECT_EQ(plan.restarted[0].keys, Strings{"environment_file"});
  ServiceConfig live = service;
  live.priority = 7;
  EXPECT_EQ(Scale(service, live, {"a"}).restarted[0].keys, (Strings{"priority", "environment_file"}));
  ServiceConfig other = service;
  other.environment_file = "/b.env";
  EXPECT_EQ(Scale(service, other, {"a"}).restarted[0].keys, Strings{"environment_file"}) << "said once";
  EXPECT_EQ(Scale(service, service, {"b"}).unchanged, Strings{"a"});
}

TEST(PlanEnvironmentFiles, OfSeveralInstancesThoseThatAreConcerned) {
  const ReloadPlan some = Scale(WithInstances(3), WithInstances(3), {"w:1"});
  EXPECT_EQ(Ids(some.restarted), Strings{"w:1"});
  EXPECT_EQ(some.unchanged, (Strings{"w:0", "w:2"}));
  const ReloadPlan all = Scale(WithInstances(2), WithInstances(2), {"w:0", "w:1"});
  EXPECT_EQ(Ids(all.restarted), Strings{"w"});
  const ReloadPlan renamed = Scale(WithInstances(1), WithInstances(2), {"w:0"});
  ASSERT_EQ(Ids(renamed.restarted), Strings{"w:0"});
  EXPECT_EQ(renamed.restarted[0].was, "w");
}

TEST(PlanReload, KeysOfTheProcessRestartIt) {
  for (const ServiceEdit& edit : std::vector<ServiceEdit>{
           {"command", [](auto& s) { s.run.command = "x"; }},
           {"args", [](auto& s) { s.run.args = {"x"}; }},
           {"working_directory", [](auto& s) { s.working_directory = "/x"; }},
           {"environment.K", [](auto& s) { s.environment["K"] = "x"; }},
           {"environment_file", [](auto& s) { s.environment_file = "/x"; }},
           {"user", [](auto& s) { s.user = "x"; }},
           {"group", [](auto& s) { s.group = "x"; }},
           {"umask", [](auto& s) { s.umask = 077; }},
           {"no_new_privileges", [](auto& s) { s.no_new_privileges = true; }},
           {"resource_limits.max_open_files", [](auto& s) { s.resource_limits.max_open_files = 9; }},
           {"resource_limits.nice", [](auto& s) { s.resource_limits.nice = 9; }},
           {"resource_limits.oom_score_adj", [](auto& s) { s.resource_limits.oom_score_adj = 9; }},
           {"logs.stderr", [](auto& s) { s.logs.stderr_mode = StderrMode::kSeparate; }}}) {
    ExpectServiceEdit(edit, true);
  }
}

TEST(PlanReload, AllOtherKeysLeaveItRunning) {
  for (const ServiceEdit& edit : std::vector<ServiceEdit>{
           {"enabled", [](auto& s) { s.enabled = false; }},
           {"priority", [](auto& s) { s.priority = 1; }},
           {"critical", [](auto& s) { s.critical = true; }},
           {"name", [](auto& s) { s.name = "x"; }},
           {"description", [](auto& s) { s.description = "x"; }},
           {"port", [](auto& s) { s.port = 1; }},
           {"groups", [](auto& s) { s.groups = {"x"}; }},
           {"depends_on", [](auto& s) { s.depends_on = {"x"}; }},
           {"depends_on", [](auto& s) { s.depends_on_completed = {"x"}; }},
           {"readiness.type", [](auto& s) { s.readiness.type = ReadinessType::kNotify; }},
           {"readiness.uptime", [](auto& s) { s.readiness.uptime = absl::Seconds(9); }},
           {"readiness.timeout", [](auto& s) { s.readiness.timeout = absl::Seconds(9); }},
           {"health_check.type", [](auto& s) { s.health_check.type = HealthCheckType::kGrpc; }},
           {"health_check.url", [](auto& s) { s.health_check.url = "x"; }},
           {"health_check.method", [](auto& s) { s.health_check.method = "x"; }},
           {"health_check.headers.H", [](auto& s) { s.health_check.headers["H"] = "x"; }},
           {"health_check.unix_socket", [](auto& s) { s.health_check.unix_socket = "x"; }},
           {"health_check.verify_tls", [](auto& s) { s.health_check.verify_tls = false; }},
           {"health_check.ca_file", [](auto& s) { s.health_check.ca_file = "x"; }},
           {"health_check.follow_redirects", [](auto& s) { s.health_check.follow_redirects = false; }},
           {"health_check.expected_status",
            [](auto& s) {
              s.health_check.expected_status = {{1, 1}};
            }},
           {"health_check.tls_server_name", [](auto& s) { s.health_check.tls_server_name = "x"; }},
           {"health_check.environment",
            [](auto& s) { s.health_check.script_environment = ScriptEnvironment::kService; }},
           {"health_check.expected_content", [](auto& s) { s.health_check.expected_content = "x"; }},
           {"health_check.expected_regex", [](auto& s) { s.health_check.expected_regex = "x"; }},
           {"health_check.host", [](auto& s) { s.health_check.host = "x"; }},
           {"health_check.port", [](auto& s) { s.health_check.port = 1; }},
           {"health_check.service", [](auto& s) { s.health_check.service = "x"; }},
           {"health_check.max_cpu_percent", [](auto& s) { s.health_check.max_cpu_percent = 1; }},
           {"health_check.max_memory_mb", [](auto& s) { s.health_check.max_memory_mb = 1; }},
           {"health_check.command", [](auto& s) { s.health_check.run.command = "x"; }},
           {"health_check.args", [](auto& s) { s.health_check.run.args = {"x"}; }},
           {"health_check.interval", [](auto& s) { s.health_check.interval = absl::Seconds(9); }},
           {"health_check.timeout", [](auto& s) { s.health_check.timeout = absl::Seconds(9); }},
           {"health_check.retries", [](auto& s) { s.health_check.retries = 9; }},
           {"health_check.start_period", [](auto& s) { s.health_check.start_period = absl::Seconds(9); }},
           {"health_check.success_threshold", [](auto& s) { s.health_check.success_threshold = 9; }},
           {"health_check.on_failure", [](auto& s) { s.health_check.on_failure = OnFailure::kAlert; }},
           {"restart_policy.mode", [](auto& s) { s.restart_policy.mode = RestartMode::kNever; }},
           {"restart_policy.delay", [](auto& s) { s.restart_policy.delay = absl::Seconds(9); }},
           {"restart_policy.backoff_multiplier", [](auto& s) { s.restart_policy.backoff_multiplier = 9; }},
           {"restart_policy.max_delay", [](auto& s) { s.restart_policy.max_delay = absl::Seconds(9); }},
           {"restart_policy.jitter", [](auto& s) { s.restart_policy.jitter = 0; }},
           {"restart_policy.max_attempts", [](auto& s) { s.restart_policy.max_attempts = 9; }},
           {"restart_policy.reset_after", [](auto& s) { s.restart_policy.reset_after = absl::Seconds(9); }},
           {"restart_policy.success_exit_codes", [](auto& s) { s.restart_policy.success_exit_codes = {9}; }},
           {"resource_limits.max_memory_mb", [](auto& s) { s.resource_limits.max_memory_mb = 9; }},
           {"resource_limits.max_cpu_percent", [](auto& s) { s.resource_limits.max_cpu_percent = 9; }},
           {"resource_limits.max_processes", [](auto& s) { s.resource_limits.max_processes = 9; }},
           {"resource_limits.on_exceed", [](auto& s) { s.resource_limits.on_exceed = OnFailure::kAlert; }},
           {"readiness.max_extension", [](auto& s) { s.readiness.max_extension = absl::Seconds(9); }},
           {"graceful_shutdown.max_extension", [](auto& s) { s.graceful_shutdown.max_extension = absl::Seconds(9); }},
           {"graceful_shutdown.signal", [](auto& s) { s.graceful_shutdown.signal = 2; }},
           {"graceful_shutdown.timeout", [](auto& s) { s.graceful_shutdown.timeout = absl::Seconds(9); }},
           {"graceful_shutdown.command", [](auto& s) { s.graceful_shutdown.run.command = "x"; }},
           {"graceful_shutdown.args", [](auto& s) { s.graceful_shutdown.run.args = {"x"}; }},
           {"graceful_shutdown.signal_to", [](auto& s) { s.graceful_shutdown.signal_to = SignalTo::kTree; }},
           {"graceful_shutdown.kill_mode", [](auto& s) { s.graceful_shutdown.kill_mode = KillMode::kProcess; }},
           {"hooks.pre_start.command", [](auto& s) { s.hooks.pre_start.run.command = "x"; }},
           {"hooks.post_start.args", [](auto& s) { s.hooks.post_start.run.args = {"x"}; }},
           {"hooks.pre_stop.timeout", [](auto& s) { s.hooks.pre_stop.timeout = absl::Seconds(9); }},
           {"hooks.post_stop.command", [](auto& s) { s.hooks.post_stop.run.command = "x"; }},
           {"logs.max_size_mb", [](auto& s) { s.logs.max_size_mb = 9; }},
           {"logs.max_files", [](auto& s) { s.logs.max_files = 9; }},
           {"logs.compress", [](auto& s) { s.logs.compress = true; }},
           {"logs.timestamps", [](auto& s) { s.logs.timestamps = true; }},
           {"logs.owner", [](auto& s) { s.logs.owner = "shipper"; }},
           {"logs.group", [](auto& s) { s.logs.group = "adm"; }},
           {"logs.mode", [](auto& s) { s.logs.mode = 0644; }},
           {"logs.forward", [](auto& s) { s.logs.forward = LogForward::kStdout; }}}) {
    ExpectServiceEdit(edit, false);
  }
}

TEST(PlanReload, NamesVariablesThatCameWentOrChangedWithoutTheirValues) {
  ServiceConfig before = Service("a");
  before.environment = {{"GONE", "secret-1"}, {"SAME", "x"}, {"TOKEN", "secret-2"}};
  ServiceConfig after = Service("a");
  after.environment = {{"NEW", "secret-3"}, {"SAME", "x"}, {"TOKEN", "secret-4"}};
  const ReloadPlan plan = PlanReload(WithServices({before}), WithServices({after}));
  ASSERT_EQ(plan.restarted.size(), 1U);
  EXPECT_EQ(plan.restarted[0].keys, (Strings{"environment.GONE", "environment.NEW", "environment.TOKEN"}));
}

TEST(PlanReload, PlacesOfFilesNeedANewDaemon) {
  for (const ConfigEdit& edit :
       std::vector<ConfigEdit>{{"global.log_directory", [](auto& c) { c.global.log_directory = "/x"; }},
                               {"global.pid_directory", [](auto& c) { c.global.pid_directory = "/x"; }},
                               {"global.socket", [](auto& c) { c.global.socket = "/x"; }},
                               {"global.socket_mode", [](auto& c) { c.global.socket_mode = 0600; }},
                               {"global.socket_group", [](auto& c) { c.global.socket_group = "x"; }},
                               {"global.database", [](auto& c) { c.global.database = "/x"; }}}) {
    Config after;
    edit.second(after);
    const ReloadPlan plan = PlanReload(Config(), after);
    EXPECT_EQ(plan.needs_daemon_restart, Strings{edit.first});
    EXPECT_TRUE(plan.global_keys.empty());
  }
}

TEST(PlanReload, OtherGlobalKeysApplyAtOnce) {
  for (const ConfigEdit& edit : std::vector<ConfigEdit>{
           {"global.check_interval", [](auto& c) { c.global.check_interval = absl::Seconds(9); }},
           {"global.restart_delay", [](auto& c) { c.global.restart_delay = absl::Seconds(9); }},
           {"global.max_restart_attempts", [](auto& c) { c.global.max_restart_attempts = 9; }},
           {"global.log_file", [](auto& c) { c.global.log_file = "/x"; }},
           {"global.log_level", [](auto& c) { c.global.log_level = "debug"; }},
           {"global.exit_on_critical_failure", [](auto& c) { c.global.exit_on_critical_failure = true; }},
           {"global.include", [](auto& c) { c.global.include = {"x"}; }},
           {"notifications.enabled", [](auto& c) { c.notifications.enabled = false; }},
           {"notifications.min_severity", [](auto& c) { c.notifications.min_severity = Severity::kCritical; }},
           {"notifications.min_interval", [](auto& c) { c.notifications.min_interval = absl::Seconds(9); }},
           {"notifications.repeat_interval", [](auto& c) { c.notifications.repeat_interval = absl::Seconds(9); }},
           {"notifications.channels", [](auto& c) { c.notifications.channels.emplace_back(); }},
           {"monitoring.metrics_interval", [](auto& c) { c.monitoring.metrics_interval = absl::Seconds(9); }},
           {"monitoring.metrics_retention_days", [](auto& c) { c.monitoring.metrics_retention = absl::Seconds(9); }},
           {"monitoring.events_retention_days", [](auto& c) { c.monitoring.events_retention = absl::Seconds(9); }},
           {"monitoring.alerts.cpu_percent", [](auto& c) { c.monitoring.alerts.cpu_percent = 9; }},
           {"monitoring.alerts.memory_mb", [](auto& c) { c.monitoring.alerts.memory_mb = 9; }},
           {"monitoring.alerts.for", [](auto& c) { c.monitoring.alerts.sustained = absl::Seconds(9); }},
           {"monitoring.alerts.restarts", [](auto& c) { c.monitoring.alerts.restarts = 9; }},
           {"monitoring.alerts.restarts_window",
            [](auto& c) { c.monitoring.alerts.restarts_window = absl::Seconds(9); }}}) {
    Config after;
    edit.second(after);
    const ReloadPlan plan = PlanReload(Config(), after);
    EXPECT_EQ(plan.global_keys, Strings{edit.first});
    EXPECT_TRUE(plan.needs_daemon_restart.empty());
  }
}

}  // namespace
}  // namespace supervisor
