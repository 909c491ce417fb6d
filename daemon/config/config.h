#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace supervisor {

// The configuration as plain data: checked, with every default filled in, every ${NAME} replaced (but ${INSTANCE},
// which differs by instance: see ForInstance in config/expand.h) and every path absolute. Nothing here refers back to
// the file. Limits of 0 are no limit. Comparable member by member, which is what a reload's plan is made of.

struct CommandConfig {
  std::string command;  // empty: none. With a slash a path (absolute here), else looked up in the service's PATH
  std::vector<std::string> args;
  bool operator==(const CommandConfig&) const = default;
};

struct HookConfig {
  CommandConfig run;
  absl::Duration timeout = absl::Seconds(30);
  bool operator==(const HookConfig&) const = default;
};

enum class ReadinessType { kExec, kUptime, kNotify, kHealthCheck };

struct ReadinessConfig {
  ReadinessType type = ReadinessType::kExec;
  absl::Duration uptime = absl::Seconds(1);
  absl::Duration timeout = absl::Seconds(60);
  absl::Duration max_extension = absl::Hours(1);  // of the timeout, by EXTEND_TIMEOUT_USEC altogether; zero: any
  bool operator==(const ReadinessConfig&) const = default;
};

enum class HealthCheckType { kNone, kHttp, kTcp, kProcess, kScript, kGrpc };
enum class OnFailure { kRestart, kAlert };

// HTTP statuses from `first` to `last`, both included: 200 alone, or "2xx".
struct StatusRange {
  int first = 0;
  int last = 0;
  bool operator==(const StatusRange&) const = default;
};

// What a check script finds in its environment: PATH and the names of what is checked, or all that the service has too.
enum class ScriptEnvironment { kMinimal, kService };

struct HealthCheckConfig {
  HealthCheckType type = HealthCheckType::kNone;
  // http
  std::string url;
  std::string method = "GET";
  std::map<std::string, std::string> headers;
  std::string unix_socket;
  bool verify_tls = true;
  std::string ca_file;
  bool follow_redirects = true;
  std::string tls_server_name;  // whose certificate is expected, where it is not the URL's host
  std::vector<StatusRange> expected_status = {{200, 200}};
  std::string expected_content;  // substring; http, tcp (banner), script (output)
  std::string expected_regex;    // RE2; http, tcp, script
  // tcp, grpc
  std::string host = "127.0.0.1";
  uint16_t port = 0;
  std::string service;  // grpc: the service asked for
  // process
  double max_cpu_percent = 0;
  double max_memory_mb = 0;
  // script
  CommandConfig run;
  ScriptEnvironment script_environment = ScriptEnvironment::kMinimal;

  absl::Duration interval = absl::Seconds(30);
  absl::Duration timeout = absl::Seconds(5);
  int retries = 3;  // failures in a row until unhealthy
  absl::Duration start_period;
  int success_threshold = 1;  // successes in a row until healthy again
  OnFailure on_failure = OnFailure::kRestart;
  bool operator==(const HealthCheckConfig&) const = default;
};

enum class RestartMode { kAlways, kOnFailure, kNever };

struct RestartPolicyConfig {
  RestartMode mode = RestartMode::kAlways;
  absl::Duration delay = absl::Seconds(5);
  double backoff_multiplier = 2;
  absl::Duration max_delay = absl::Seconds(300);
  double jitter = 0.1;  // fraction of the delay, both ways
  int max_attempts = 3;
  absl::Duration reset_after = absl::Seconds(60);
  std::vector<int> success_exit_codes = {0};
  bool operator==(const RestartPolicyConfig&) const = default;
};

struct ResourceLimitsConfig {
  double max_memory_mb = 0;
  double max_cpu_percent = 0;
  int max_processes = 0;
  int max_open_files = 0;
  int nice = 0;
  int oom_score_adj = 0;
  OnFailure on_exceed = OnFailure::kRestart;
  bool operator==(const ResourceLimitsConfig&) const = default;
};

enum class KillMode { kTree, kProcess };
enum class SignalTo { kMain, kTree };

struct GracefulShutdownConfig {
  int signal = 15;  // SIGTERM
  SignalTo signal_to = SignalTo::kMain;
  absl::Duration timeout = absl::Seconds(10);
  CommandConfig run;  // instead of the signal; $MAINPID is in its environment
  KillMode kill_mode = KillMode::kTree;
  absl::Duration max_extension = absl::Minutes(5);  // as readiness has it; the end of the supervisor grants none
  bool operator==(const GracefulShutdownConfig&) const = default;
};

struct HooksConfig {
  HookConfig pre_start;
  HookConfig post_start;
  HookConfig pre_stop;
  HookConfig post_stop;
  bool operator==(const HooksConfig&) const = default;
};

enum class StderrMode { kMerge, kSeparate };
enum class LogForward { kNone, kStdout, kSyslog };

struct LogsConfig {
  double max_size_mb = 50;
  int max_files = 10;  // rotated ones, beside the current
  bool compress = false;
  bool timestamps = false;
  StderrMode stderr_mode = StderrMode::kMerge;
  // Of the files. Empty and none: as the file before had it; the first one belongs to the daemon's user, mode 0640.
  std::string owner;
  std::string group;
  std::optional<mode_t> mode;
  LogForward forward = LogForward::kNone;
  bool operator==(const LogsConfig&) const = default;
};

struct ServiceConfig {
  std::string id;
  bool enabled = true;
  int priority = 999;
  bool critical = false;
  std::string name;  // the id where the file gives none
  std::string description;
  uint16_t port = 0;
  std::vector<std::string> groups;
  CommandConfig run;
  std::string working_directory;
  std::map<std::string, std::string> environment;
  std::string environment_file;
  std::string user;
  std::string group;
  mode_t umask = 022;
  bool no_new_privileges = false;
  int instances = 1;
  std::vector<std::string> depends_on;
  // Those of depends_on that must have ended as they should ("condition": "completed"); the others must be ready.
  std::set<std::string> depends_on_completed;
  ReadinessConfig readiness;
  HealthCheckConfig health_check;
  RestartPolicyConfig restart_policy;
  ResourceLimitsConfig resource_limits;
  GracefulShutdownConfig graceful_shutdown;
  HooksConfig hooks;
  LogsConfig logs;
  bool operator==(const ServiceConfig&) const = default;
};

struct GlobalConfig {
  absl::Duration check_interval = absl::Seconds(30);
  absl::Duration restart_delay = absl::Seconds(5);
  int max_restart_attempts = 3;
  std::string log_directory = "/tmp/supervisor_logs";
  std::string pid_directory = "/tmp/supervisor_pids";
  std::string socket;  // GetDefaultPaths() where the file gives none
  mode_t socket_mode = 0660;
  std::string socket_group;
  std::string database;            // likewise
  std::string log_file;            // the daemon's own log; likewise: <log directory>/supervisord.log
  std::string log_level = "info";  // debug, info, warning, error
  bool exit_on_critical_failure = false;
  std::vector<std::string> include;
  bool operator==(const GlobalConfig&) const = default;
};

enum class Severity { kInfo, kWarning, kCritical };
enum class ChannelType { kWebhook, kSlack, kEmail, kCommand };

struct ChannelConfig {
  ChannelType type = ChannelType::kWebhook;
  std::string url;
  std::map<std::string, std::string> headers;
  std::string smtp_url;
  std::string from;
  std::vector<std::string> to;  // each "a@b" or "Name <a@b>", as `from`
  CommandConfig run;
  std::string username;  // of the mail server; empty: the one in smtp_url, if any
  std::string password;
  std::string helo;  // how this machine calls itself to the mail server; empty: by its host name
  bool verify_tls = true;
  std::string ca_file;
  bool operator==(const ChannelConfig&) const = default;
};

struct NotificationsConfig {
  bool enabled = true;
  Severity min_severity = Severity::kInfo;
  absl::Duration min_interval = absl::Seconds(60);
  absl::Duration repeat_interval;  // of alerts that stay open; 0: they are told once
  std::vector<ChannelConfig> channels;
  bool operator==(const NotificationsConfig&) const = default;
};

struct AlertRulesConfig {
  double cpu_percent = 90;
  double memory_mb = 0;
  absl::Duration sustained = absl::Seconds(60);  // "for"
  int restarts = 5;
  absl::Duration restarts_window = absl::Seconds(300);
  bool operator==(const AlertRulesConfig&) const = default;
};

struct MonitoringConfig {
  absl::Duration metrics_interval = absl::Seconds(10);
  absl::Duration metrics_retention = absl::Hours(24 * 7);
  absl::Duration events_retention = absl::Hours(24 * 30);
  AlertRulesConfig alerts;
  bool operator==(const MonitoringConfig&) const = default;
};

struct Config {
  std::string file;  // absolute path of the main file
  std::string version = "1.0";
  GlobalConfig global;
  std::map<std::string, ServiceConfig> services;  // by id
  NotificationsConfig notifications;
  MonitoringConfig monitoring;
  bool operator==(const Config&) const = default;
};

}  // namespace supervisor
