#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace supervisor {

enum class Command {
  kStatus,
  kStart,
  kStop,
  kRestart,
  kSignal,
  kLogs,
  kHealth,
  kEvents,
  kSummary,
  kExplain,
  kReload,
  kMetrics,
  kAlerts,
  kCheck,
  kTop,
  kVersion,
  kShutdown,
  kUpgrade,
};

// One checked command line. Which fields a command reads follows from what it accepts; the others keep their defaults.
struct Invocation {
  Command command = Command::kStatus;
  std::string socket;  // resolved: --socket, $SUPERVISOR_SOCKET or the default path
  bool socket_is_default = false;
  bool json = false;
  bool no_color = false;

  std::vector<std::string> targets;    // as typed; explain and metrics have exactly one
  std::vector<std::string> arguments;  // of check: what stands behind it, unread
  std::string reason;
  std::string signal;
  std::string grep;
  std::vector<std::string> types;  // of events; none: all
  std::optional<double> timeout_seconds;
  std::optional<uint64_t> count;  // -n
  int64_t since_unix_ms = 0;
  int64_t until_unix_ms = 0;
  bool no_wait = false;
  bool follow = false;
  bool stderr_log = false;
  bool raw = false;
  bool dry_run = false;
  bool all = false;
  bool test = false;
  bool with_dependents = false;
};

}  // namespace supervisor
