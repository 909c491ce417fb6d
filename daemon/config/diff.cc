#include "daemon/config/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "daemon/config/expand.h"

namespace supervisor {
namespace {

// What a changed key costs.
enum class Takeover {
  kLive,     // a running process goes on
  kRestart,  // only a new process has it
};

struct Difference {
  std::string key;
  Takeover takeover;
};

class Comparison {
 public:
  template <typename T>
  void Key(std::string key, const T& a, const T& b, Takeover takeover = Takeover::kLive) {
    if (!(a == b)) {
      differences_.push_back({std::move(key), takeover});
    }
  }

  // The names that were added, removed or changed; never their values.
  void Map(const std::string& key, const std::map<std::string, std::string>& a,
           const std::map<std::string, std::string>& b, Takeover takeover = Takeover::kLive) {
    std::set<std::string> names;
    for (const auto* map : {&a, &b}) {
      for (const auto& [name, value] : *map) {
        names.insert(name);
      }
    }
    for (const std::string& name : names) {
      const auto in_a = a.find(name);
      const auto in_b = b.find(name);
      if (in_a == a.end() || in_b == b.end() || in_a->second != in_b->second) {
        differences_.push_back({fmt::format("{}.{}", key, name), takeover});
      }
    }
  }

  void Command(const std::string& prefix, const CommandConfig& a, const CommandConfig& b,
               Takeover takeover = Takeover::kLive) {
    Key(prefix + "command", a.command, b.command, takeover);
    Key(prefix + "args", a.args, b.args, takeover);
  }

  std::vector<Difference> Take() { return std::move(differences_); }

 private:
  std::vector<Difference> differences_;
};

void CompareProcess(Comparison& out, const ServiceConfig& a, const ServiceConfig& b) {
  constexpr Takeover kRestart = Takeover::kRestart;
  out.Command("", a.run, b.run, kRestart);
  out.Key("working_directory", a.working_directory, b.working_directory, kRestart);
  out.Map("environment", a.environment, b.environment, kRestart);
  out.Key("environment_file", a.environment_file, b.environment_file, kRestart);
  out.Key("user", a.user, b.user, kRestart);
  out.Key("group", a.group, b.group, kRestart);
  out.Key("umask", a.umask, b.umask, kRestart);
  out.Key("no_new_privileges", a.no_new_privileges, b.no_new_privileges, kRestart);
}

void CompareHealthCheck(Comparison& out, const HealthCheckConfig& a, const HealthCheckConfig& b) {
  if ((a.type == HealthCheckType::kNone) != (b.type == HealthCheckType::kNone)) {
    out.Key("health_check", false, true);
    return;
  }
  out.Key("health_check.type", a.type, b.type);
  out.Key("health_check.url", a.url, b.url);
  out.Key("health_check.method", a.method, b.method);
  out.Map("health_check.headers", a.headers, b.headers);
  out.Key("health_check.unix_socket", a.unix_socket, b.unix_socket);
  out.Key("health_check.verify_tls", a.verify_tls, b.verify_tls);
  out.Key("health_check.ca_file", a.ca_file, b.ca_file);
  out.Key("health_check.follow_redirects", a.follow_redirects, b.follow_redirects);
  out.Key("health_check.tls_server_name", a.tls_server_name, b.tls_server_name);
  out.Key("health_check.expected_status", a.expected_status, b.expected_status);
  out.Key("health_check.expected_content", a.expected_content, b.expected_content);
  out.Key("health_check.expected_regex", a.expected_regex, b.expected_regex);
  out.Key("health_check.host", a.host, b.host);
  out.Key("health_check.port", a.port, b.port);
  out.Key("health_check.service", a.service, b.service);
  out.Key("health_check.max_cpu_percent", a.max_cpu_percent, b.max_cpu_percent);
  out.Key("health_check.max_memory_mb", a.max_memory_mb, b.max_memory_mb);
  out.Command("health_check.", a.run, b.run);
  out.Key("health_check.environment", a.script_environment, b.script_environment);
  out.Key("health_check.interval", a.interval, b.interval);
  out.Key("health_check.timeout", a.timeout, b.timeout);
  out.Key("health_check.retries", a.retries, b.retries);
  out.Key("health_check.start_period", a.start_period, b.start_period);
  out.Key("health_check.success_threshold", a.success_threshold, b.success_threshold);
  out.Key("health_check.on_failure", a.on_failure, b.on_failure);
}

void CompareRestartPolicy(Comparison& out, const RestartPolicyConfig& a, const RestartPolicyConfig& b) {
  out.Key("restart_policy.mode", a.mode, b.mode);
  out.Key("restart_policy.delay", a.delay, b.delay);
  out.Key("restart_policy.backoff_multiplier", a.backoff_multiplier, b.backoff_multiplier);
  out.Key("restart_policy.max_delay", a.max_delay, b.max_delay);
  out.Key("restart_policy.jitter", a.jitter, b.jitter);
  out.Key("restart_policy.max_attempts", a.max_attempts, b.max_attempts);
  out.Key("restart_policy.reset_after", a.reset_after, b.reset_after);
  out.Key("restart_policy.success_exit_codes", a.success_exit_codes, b.success_exit_codes);
}

// Memory, CPU and the number of processes are watched or set from outside, on the cgroup; the others are set once,
// between clone and exec.
void CompareResourceLimits(Comparison& out, const ResourceLimitsConfig& a, const ResourceLimitsConfig& b) {
  out.Key("resource_limits.max_memory_mb", a.max_memory_mb, b.max_memory_mb);
  out.Key("resource_limits.max_cpu_percent", a.max_cpu_percent, b.max_cpu_percent);
  out.Key("resource_limits.max_processes", a.max_processes, b.max_processes);
  out.Key("resource_limits.max_open_files", a.max_open_files, b.max_open_files, Takeover::kRestart);
  out.Key("resource_limits.nice", a.nice, b.nice, Takeover::kRestart);
  out.Key("resource_limits.oom_score_adj", a.oom_score_adj, b.oom_score_adj, Takeover::kRestart);
  out.Key("resource_limits.on_exceed", a.on_exceed, b.on_exceed);
}

void CompareLogs(Comparison& out, const LogsConfig& a, const LogsConfig& b) {
  out.Key("logs.max_size_mb", a.max_size_mb, b.max_size_mb);
  out.Key("logs.max_files", a.max_files, b.max_files);
  out.Key("logs.compress", a.compress, b.compress);
  out.Key("logs.timestamps", a.timestamps, b.timestamps);
  out.Key("logs.owner", a.owner, b.owner);
  out.Key("logs.group", a.group, b.group);
  out.Key("logs.mode", a.mode, b.mode);
  out.Key("logs.forward", a.forward, b.forward);
  out.Key("logs.stderr", a.stderr_mode, b.stderr_mode, Takeover::kRestart);
}

void CompareHook(Comparison& out, const std::string& name, const HookConfig& a, const HookConfig& b) {
  out.Command(fmt::format("hooks.{}.", name), a.run, b.run);
  out.Key(fmt::format("hooks.{}.timeout", name), a.timeout, b.timeout);
}

std::vector<Difference> CompareServices(const ServiceConfig& a, const ServiceConfig& b) {
  Comparison out;
  out.Key("enabled", a.enabled, b.enabled);
  out.Key("priority", a.priority, b.priority);
  out.Key("critical", a.critical, b.critical);
  out.Key("name", a.name, b.name);
  out.Key("description", a.description, b.description);
  out.Key("port", a.port, b.port);
  out.Key("groups", a.groups, b.groups);
  CompareProcess(out, a, b);
  out.Key("depends_on", std::tie(a.depends_on, a.depends_on_completed), std::tie(b.depends_on, b.depends_on_completed));
  out.Key("readiness.type", a.readiness.type, b.readiness.type);
  out.Key("readiness.uptime", a.readiness.uptime, b.readiness.uptime);
  out.Key("readiness.timeout", a.readiness.timeout, b.readiness.timeout);
  CompareHealthCheck(out, a.health_check, b.health_check);
  CompareRestartPolicy(out, a.restart_policy, b.restart_policy);
  CompareResourceLimits(out, a.resource_limits, b.resource_limits);
  out.Key("readiness.max_extension", a.readiness.max_extension, b.readiness.max_extension);
  out.Key("graceful_shutdown.max_extension", a.graceful_shutdown.max_extension, b.graceful_shutdown.max_extension);
  out.Key("graceful_shutdown.signal", a.graceful_shutdown.signal, b.graceful_shutdown.signal);
  out.Key("graceful_shutdown.signal_to", a.graceful_shutdown.signal_to, b.graceful_shutdown.signal_to);
  out.Key("graceful_shutdown.timeout", a.graceful_shutdown.timeout, b.graceful_shutdown.timeout);
  out.Command("graceful_shutdown.", a.graceful_shutdown.run, b.graceful_shutdown.run);
  out.Key("graceful_shutdown.kill_mode", a.graceful_shutdown.kill_mode, b.graceful_shutdown.kill_mode);
  CompareHook(out, "pre_start", a.hooks.pre_start, b.hooks.pre_start);
  CompareHook(out, "post_start", a.hooks.post_start, b.hooks.post_start);
  CompareHook(out, "pre_stop", a.hooks.pre_stop, b.hooks.pre_stop);
  CompareHook(out, "post_stop", a.hooks.post_stop, b.hooks.post_stop);
  CompareLogs(out, a.logs, b.logs);
  return out.Take();
}

// What kRestart means here is a restart of the daemon: the place of everything it keeps.
std::vector<Difference> CompareGlobals(const Config& a, const Config& b) {
  constexpr Takeover kRestart = Takeover::kRestart;
  Comparison out;
  out.Key("version", a.version, b.version);
  out.Key("global.check_interval", a.global.check_interval, b.global.check_interval);
  out.Key("global.restart_delay", a.global.restart_delay, b.global.restart_delay);
  out.Key("global.max_restart_attempts", a.global.max_restart_attempts, b.global.max_restart_attempts);
  out.Key("global.log_directory", a.global.log_directory, b.global.log_directory, kRestart);
  out.Key("global.pid_directory", a.global.pid_directory, b.global.pid_directory, kRestart);
  out.Key("global.socket", a.global.socket, b.global.socket, kRestart);
  out.Key("global.socket_mode", a.global.socket_mode, b.global.socket_mode, kRestart);
  out.Key("global.socket_group", a.global.socket_group, b.global.socket_group, kRestart);
  out.Key("global.database", a.global.database, b.global.database, kRestart);
  out.Key("global.log_file", a.global.log_file, b.global.log_file);
  out.Key("global.log_level", a.global.log_level, b.global.log_level);
  out.Key("global.exit_on_critical_failure", a.global.exit_on_critical_failure, b.global.exit_on_critical_failure);
  out.Key("global.include", a.global.include, b.global.include);
  out.Key("notifications.enabled", a.notifications.enabled, b.notifications.enabled);
  out.Key("notifications.min_severity", a.notifications.min_severity, b.notifications.min_severity);
  out.Key("notifications.min_interval", a.notifications.min_interval, b.notifications.min_interval);
  out.Key("notifications.repeat_interval", a.notifications.repeat_interval, b.notifications.repeat_interval);
  out.Key("notifications.channels", a.notifications.channels, b.notifications.channels);
  const MonitoringConfig& before = a.monitoring;
  const MonitoringConfig& after = b.monitoring;
  out.Key("monitoring.metrics_interval", before.metrics_interval, after.metrics_interval);
  out.Key("monitoring.metrics_retention_days", before.metrics_retention, after.metrics_retention);
  out.Key("monitoring.events_retention_days", before.events_retention, after.events_retention);
  out.Key("monitoring.alerts.cpu_percent", before.alerts.cpu_percent, after.alerts.cpu_percent);
  out.Key("monitoring.alerts.memory_mb", before.alerts.memory_mb, after.alerts.memory_mb);
  out.Key("monitoring.alerts.for", before.alerts.sustained, after.alerts.sustained);
  out.Key("monitoring.alerts.restarts", before.alerts.restarts, after.alerts.restarts);
  out.Key("monitoring.alerts.restarts_window", before.alerts.restarts_window, after.alerts.restarts_window);
  return out.Take();
}

enum class Fate { kAdded, kRestarted, kUpdated, kUnchanged };

struct InstanceFate {
  Fate fate = Fate::kUnchanged;
  ServiceChange change;
};

void AddFate(ReloadPlan& plan, InstanceFate fate) {
  switch (fate.fate) {
    case Fate::kAdded:
      plan.added.push_back(std::move(fate.change));
      return;
    case Fate::kRestarted:
      plan.restarted.push_back(std::move(fate.change));
      return;
    case Fate::kUpdated:
      plan.updated.push_back(std::move(fate.change));
      return;
    case Fate::kUnchanged:
      plan.unchanged.push_back(std::move(fate.change.id));
      return;
  }
}

// Of an instance that stays. `was`: its id so far.
InstanceFate FateOf(const std::string& id, const std::string& was, const std::vector<Difference>& differences,
                    bool is_stale) {
  InstanceFate result{.fate = Fate::kUnchanged, .change = {.id = id, .keys = {}}};
  if (was != id) {
    result.change.was = was;
    result.change.keys.emplace_back("instances");
    result.fate = Fate::kUpdated;
  }
  bool needs_restart = is_stale;
  bool has_file_key = false;
  for (const Difference& difference : differences) {
    needs_restart = needs_restart || difference.takeover == Takeover::kRestart;
    has_file_key = has_file_key || difference.key == "environment_file";
    result.change.keys.push_back(difference.key);
    result.fate = Fate::kUpdated;
  }
  if (is_stale && !has_file_key) {
    result.change.keys.emplace_back("environment_file");
  }
  if (needs_restart) {
    result.fate = Fate::kRestarted;
  }
  return result;
}

void AddService(ReloadPlan& plan, const ServiceConfig& running, const ServiceConfig& wanted,
                const std::set<std::string>& stale) {
  const std::vector<Difference> differences = CompareServices(running, wanted);
  assert(!differences.empty() || running.instances != wanted.instances ||
         running == wanted);  // or a key is not compared
  const std::vector<std::string> before = InstanceIds(running);
  const std::vector<std::string> after = InstanceIds(wanted);
  std::vector<InstanceFate> fates;
  for (size_t i = 0; i < after.size(); ++i) {
    fates.push_back(i < before.size() ? FateOf(after[i], before[i], differences, stale.contains(after[i]))
                                      : InstanceFate{.fate = Fate::kAdded, .change = {.id = after[i], .keys = {}}});
  }
  const bool fare_alike = before.size() == after.size() && std::ranges::all_of(fates, [&](const InstanceFate& other) {
                            return other.fate == fates.front().fate && other.change.keys == fates.front().change.keys;
                          });
  if (fare_alike) {
    fates.resize(1);
    fates.front().change.id = wanted.id;
  }
  for (InstanceFate& fate : fates) {
    AddFate(plan, std::move(fate));
  }
  for (size_t i = after.size(); i < before.size(); ++i) {
    plan.removed.push_back({.id = before[i], .keys = {}});
  }
}

}  // namespace

ReloadPlan PlanReload(const Config& running, const Config& wanted, const std::set<std::string>& stale) {
  ReloadPlan plan;
  for (const auto& [id, service] : wanted.services) {
    const auto before = running.services.find(id);
    if (before == running.services.end()) {
      plan.added.push_back({.id = id, .keys = {}});
    } else {
      AddService(plan, before->second, service, stale);
    }
  }
  for (const auto& [id, service] : running.services) {
    if (!wanted.services.contains(id)) {
      plan.removed.push_back({.id = id, .keys = {}});
    }
  }
  for (Difference& difference : CompareGlobals(running, wanted)) {
    auto& keys = difference.takeover == Takeover::kRestart ? plan.needs_daemon_restart : plan.global_keys;
    keys.push_back(std::move(difference.key));
  }
  return plan;
}

}  // namespace supervisor
