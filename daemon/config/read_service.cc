#include "daemon/config/read_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "daemon/config/limits.h"
#include "daemon/config/message_text.h"
#include "daemon/config/read_depends_on.h"
#include "daemon/config/read_health_check.h"
#include "daemon/config/value_rules.h"

namespace supervisor {
namespace {

constexpr ObjectReader::Choice<RestartMode> kRestartModes[] = {
    {"always", RestartMode::kAlways}, {"on-failure", RestartMode::kOnFailure}, {"never", RestartMode::kNever}};
constexpr ObjectReader::Choice<KillMode> kKillModes[] = {{"tree", KillMode::kTree}, {"process", KillMode::kProcess}};
constexpr ObjectReader::Choice<SignalTo> kSignalTo[] = {{"main", SignalTo::kMain}, {"tree", SignalTo::kTree}};
constexpr ObjectReader::Choice<StderrMode> kStderrModes[] = {{"merge", StderrMode::kMerge},
                                                             {"separate", StderrMode::kSeparate}};
constexpr ObjectReader::Choice<LogForward> kLogForwards[] = {
    {"none", LogForward::kNone}, {"stdout", LogForward::kStdout}, {"syslog", LogForward::kSyslog}};
constexpr ObjectReader::Choice<ReadinessType> kReadinessTypes[] = {{"exec", ReadinessType::kExec},
                                                                   {"uptime", ReadinessType::kUptime},
                                                                   {"notify", ReadinessType::kNotify},
                                                                   {"health_check", ReadinessType::kHealthCheck}};

// What people write who come from other supervisors, and what belongs one level deeper.
constexpr ObjectReader::Hint kServiceHints[] = {{"autostart", "enabled"},
                                                {"disabled", "enabled"},
                                                {"cmd", "command"},
                                                {"exec", "command"},
                                                {"program", "command"},
                                                {"script", "command"},
                                                {"arguments", "args"},
                                                {"cwd", "working_directory"},
                                                {"directory", "working_directory"},
                                                {"workdir", "working_directory"},
                                                {"env", "environment"},
                                                {"env_file", "environment_file"},
                                                {"uid", "user"},
                                                {"gid", "group"},
                                                {"numprocs", "instances"},
                                                {"replicas", "instances"},
                                                {"requires", "depends_on"},
                                                {"after", "depends_on"},
                                                {"restart", "restart_policy"},
                                                {"autorestart", "restart_policy"},
                                                {"delay", "restart_policy.delay"},
                                                {"restart_delay", "restart_policy.delay"},
                                                {"max_attempts", "restart_policy.max_attempts"},
                                                {"max_restart_attempts", "restart_policy.max_attempts"},
                                                {"healthcheck", "health_check"},
                                                {"health", "health_check"},
                                                {"limits", "resource_limits"},
                                                {"max_memory_mb", "resource_limits.max_memory_mb"},
                                                {"max_cpu_percent", "resource_limits.max_cpu_percent"},
                                                {"max_open_files", "resource_limits.max_open_files"},
                                                {"nice", "resource_limits.nice"},
                                                {"stopsignal", "graceful_shutdown.signal"},
                                                {"stop_signal", "graceful_shutdown.signal"},
                                                {"stopwaitsecs", "graceful_shutdown.timeout"},
                                                {"stop_timeout", "graceful_shutdown.timeout"},
                                                {"pre_start", "hooks.pre_start"},
                                                {"post_start", "hooks.post_start"},
                                                {"pre_stop", "hooks.pre_stop"},
                                                {"post_stop", "hooks.post_stop"},
                                                {"log", "logs"},
                                                {"stderr", "logs.stderr"}};

// "command" and "args" where a command may be left out; arguments alone are then a slip.
void ReadOptionalCommand(ObjectReader& reader, CommandConfig& run) {
  reader.Command(&run);
  if (!run.args.empty() && reader.Take("command") == nullptr) {
    reader.Report("args", "is given without a command (expected \"command\" beside it)");
  }
}

void ReadRunCommand(ObjectReader& reader, CommandConfig& run) {
  reader.Command(&run);
  const JsonMember* command = reader.Take("command");
  constexpr std::string_view kExpected =
      "(expected the program to run, such as \"python3\", its arguments in \"args\")";
  if (command == nullptr) {
    reader.Report("command", fmt::format("is missing {}", kExpected));
  } else if (command->value.kind == JsonKind::kString && command->value.text.empty()) {
    reader.Report("command", fmt::format("is empty {}", kExpected));
  }
}

std::vector<std::string> TextsOf(const std::vector<PlacedText>& placed) {
  std::vector<std::string> texts;
  texts.reserve(placed.size());
  for (const PlacedText& text : placed) {
    texts.push_back(text.text);
  }
  return texts;
}

void ReadIdentity(ObjectReader& reader, ServiceConfig& service) {
  reader.Bool("enabled", &service.enabled);
  reader.Whole("priority", -limits::kPriorityBound, limits::kPriorityBound, &service.priority);
  reader.Bool("critical", &service.critical);
  reader.String("name", &service.name, DisplayNameProblem);
  if (service.name.empty()) {
    service.name = service.id;
  }
  reader.String("description", &service.description);
  reader.Whole("port", 0, limits::kLargestPort, &service.port);
  service.groups = TextsOf(reader.DistinctTexts("groups", GroupProblem));
}

void ReadProcess(ObjectReader& reader, ServiceConfig& service) {
  ReadRunCommand(reader, service.run);
  reader.Path("working_directory", &service.working_directory);
  reader.Map("environment", EnvironmentNameProblem, nullptr, &service.environment);
  reader.Path("environment_file", &service.environment_file);
  reader.String("user", &service.user);
  reader.String("group", &service.group);
  reader.OctalMode("umask", &service.umask);
  reader.Bool("no_new_privileges", &service.no_new_privileges);
  reader.Whole("instances", 1, limits::kMostInstances, &service.instances);
}

void ReadReadiness(ObjectReader reader, bool has_health_check, ReadinessConfig& readiness) {
  reader.Enum("type", kReadinessTypes, &readiness.type);
  reader.Seconds("uptime", 0, &readiness.uptime);
  reader.Seconds("timeout", 0, &readiness.timeout);
  reader.Seconds("max_extension", 0, &readiness.max_extension);
  if (readiness.type == ReadinessType::kHealthCheck && !has_health_check) {
    reader.Report(
        "type",
        "is \"health_check\", but this service has no health check (expected a \"health_check\" beside \"readiness\")");
  }
  reader.Finish();
}

void ReadRestartPolicy(ObjectReader reader, RestartPolicyConfig& policy) {
  reader.Enum("mode", kRestartModes, &policy.mode);
  reader.Seconds("delay", 0, &policy.delay);
  reader.Number("backoff_multiplier", 1, limits::kMostBackoff, &policy.backoff_multiplier);
  // The default does not cut a longer delay that someone asked for.
  policy.max_delay = std::max(policy.max_delay, policy.delay);
  reader.Seconds("max_delay", 0, &policy.max_delay);
  if (policy.max_delay > absl::ZeroDuration() && policy.max_delay < policy.delay) {
    reader.Report("max_delay",
                  fmt::format("is less than the delay of {} seconds (expected at least as much, or 0 for no limit)",
                              absl::ToDoubleSeconds(policy.delay)));
  }
  reader.Number("jitter", 0, 1, &policy.jitter);
  reader.Whole("max_attempts", 0, limits::kMostAttempts, &policy.max_attempts);
  reader.Seconds("reset_after", 0, &policy.reset_after);
  reader.WholeList("success_exit_codes", 0, 255, &policy.success_exit_codes);
  reader.Finish({{"policy", "mode"},
                 {"type", "mode"},
                 {"retries", "max_attempts"},
                 {"max_retries", "max_attempts"},
                 {"max_restarts", "max_attempts"},
                 {"backoff", "backoff_multiplier"},
                 {"multiplier", "backoff_multiplier"}});
}

void ReadResourceLimits(ObjectReader reader, ResourceLimitsConfig& resource_limits) {
  reader.Number("max_memory_mb", 0, limits::kMostMegabytes, &resource_limits.max_memory_mb);
  reader.Number("max_cpu_percent", 0, limits::kMostCpuPercent, &resource_limits.max_cpu_percent);
  reader.Whole("max_processes", 0, limits::kMostProcesses, &resource_limits.max_processes);
  reader.Whole("max_open_files", 0, limits::kMostOpenFiles, &resource_limits.max_open_files);
  reader.Whole("nice", -20, 19, &resource_limits.nice);
  reader.Whole("oom_score_adj", -1000, 1000, &resource_limits.oom_score_adj);
  reader.Enum("on_exceed", kOnFailureChoices, &resource_limits.on_exceed);
  reader.Finish({{"memory", "max_memory_mb"},
                 {"memory_mb", "max_memory_mb"},
                 {"cpu", "max_cpu_percent"},
                 {"cpu_percent", "max_cpu_percent"},
                 {"nofile", "max_open_files"},
                 {"nproc", "max_processes"}});
}

void ReadGracefulShutdown(ObjectReader reader, GracefulShutdownConfig& shutdown) {
  reader.Signal("signal", &shutdown.signal);
  reader.Enum("signal_to", kSignalTo, &shutdown.signal_to);
  reader.Seconds("timeout", 0, &shutdown.timeout);
  reader.Seconds("max_extension", 0, &shutdown.max_extension);
  ReadOptionalCommand(reader, shutdown.run);
  reader.Enum("kill_mode", kKillModes, &shutdown.kill_mode);
  reader.Finish();
}

void ReadHook(ObjectReader reader, HookConfig& hook) {
  ReadOptionalCommand(reader, hook.run);
  reader.Seconds("timeout", 0, &hook.timeout);
  reader.Finish();
}

void ReadHooks(ObjectReader reader, HooksConfig& hooks) {
  ReadHook(reader.Object("pre_start"), hooks.pre_start);
  ReadHook(reader.Object("post_start"), hooks.post_start);
  ReadHook(reader.Object("pre_stop"), hooks.pre_stop);
  ReadHook(reader.Object("post_stop"), hooks.post_stop);
  reader.Finish();
}

void ReadLogs(ObjectReader reader, LogsConfig& logs) {
  reader.Number("max_size_mb", 0, limits::kMostMegabytes, &logs.max_size_mb);
  reader.Whole("max_files", 0, limits::kMostLogFiles, &logs.max_files);
  reader.Bool("compress", &logs.compress);
  reader.Bool("timestamps", &logs.timestamps);
  reader.Enum("stderr", kStderrModes, &logs.stderr_mode);
  reader.String("owner", &logs.owner, AccountNameProblem);
  reader.String("group", &logs.group, AccountNameProblem);
  std::string mode;
  if (reader.String("mode", &mode, LogModeProblem) && !mode.empty()) {
    logs.mode = ParseOctalMode(mode);
  }
  reader.Enum("forward", kLogForwards, &logs.forward);
  reader.Finish({{"max_size", "max_size_mb"},
                 {"backups", "max_files"},
                 {"user", "owner"},
                 {"permissions", "mode"},
                 {"driver", "forward"}});
}

}  // namespace

ReadServiceResult ReadService(const ReadContext& context, const JsonMember& member, const GlobalConfig& global) {
  ReadServiceResult result;
  ServiceConfig& service = result.service;
  ObjectReader reader(context, &member.value, KeyPath("services", member.key), member.key_offset);
  service.id = member.key;
  service.name = service.id;
  service.working_directory = KeepLiteral(context.source.directory());
  service.restart_policy.delay = global.restart_delay;
  service.restart_policy.max_attempts = global.max_restart_attempts;
  if (std::optional<std::string> problem = ServiceIdProblem(member.key)) {
    context.errors.Add(context.source, member.key_offset, reader.path(), *std::move(problem));
  }
  if (!reader.present()) {
    return result;
  }
  ReadIdentity(reader, service);
  ReadProcess(reader, service);
  if (service.working_directory.empty()) {
    service.working_directory = KeepLiteral(context.source.directory());
  }
  DependsOn depends_on = ReadDependsOn(reader);
  result.depends_on = std::move(depends_on.services);
  service.depends_on = TextsOf(result.depends_on);
  service.depends_on_completed = std::move(depends_on.completed);
  const bool has_health_check = reader.Take("health_check") != nullptr;
  service.health_check = ReadHealthCheck(reader.Object("health_check"), global);
  ReadReadiness(reader.Object("readiness"), has_health_check, service.readiness);
  ReadRestartPolicy(reader.Object("restart_policy"), service.restart_policy);
  ReadResourceLimits(reader.Object("resource_limits"), service.resource_limits);
  ReadGracefulShutdown(reader.Object("graceful_shutdown"), service.graceful_shutdown);
  ReadHooks(reader.Object("hooks"), service.hooks);
  ReadLogs(reader.Object("logs"), service.logs);
  reader.Finish(kServiceHints);
  return result;
}

}  // namespace supervisor
