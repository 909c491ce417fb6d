#include "daemon/guardian/restart_plan.h"

#include <sys/wait.h>

#include <algorithm>

namespace supervisor {
namespace {

// What execv(2) has left of the child, as in a shell.
constexpr int kExitNotExeced = 127;
constexpr int kMostTriesToStop = 3;
// The last of them comes after some 1.5 seconds of waiting.
constexpr int kMostTriesForACaller = 5;

}  // namespace

bool IsOrderlyFailure(int status) {
  return status != DaemonEnd::kNotForked && WIFEXITED(status) && WEXITSTATUS(status) == kExitOrderlyFailure;
}

Verdict JudgeEnd(const DaemonEnd& end) {
  const bool exited = end.status != DaemonEnd::kNotForked && WIFEXITED(end.status);
  const int code = exited ? WEXITSTATUS(end.status) : 1;
  if (exited && code == kExitForUpgrade && !end.stop_requested) {
    return {AfterDaemon::kReplaceGuardian, 0};
  }
  if (exited && (code == 0 || code == kExitOrderlyFailure)) {
    return {AfterDaemon::kEnd, code == 0 ? 0 : 1};
  }
  const bool has_said_why = exited && code != kExitNotExeced;
  if (has_said_why && !end.any_served) {
    return {AfterDaemon::kEnd, code};
  }
  const bool nothing_runs = !end.any_served && !end.has_children;
  if (end.stop_requested && nothing_runs) {
    return {AfterDaemon::kEnd, 1};
  }
  if (end.stop_requested && end.tries_to_stop >= kMostTriesToStop) {
    return {AfterDaemon::kEndServices, 1};
  }
  if (end.is_awaited && nothing_runs && end.unserved >= kMostTriesForACaller) {
    return {AfterDaemon::kEnd, 1};
  }
  return {AfterDaemon::kStartAgain, 0};
}

int64_t NextRestartDelayMs(int64_t last_ms, bool served, int64_t lived_ms) {
  constexpr int64_t kProvenMs = 10'000;  // who lived so long did not die of how it starts
  if (!served) {
    return std::clamp<int64_t>(last_ms * 2, 50, 5'000);
  }
  return lived_ms >= kProvenMs ? 0 : std::clamp<int64_t>(last_ms * 2, 10, 200);
}

bool StartsFromOwnProgram(int unserved) { return unserved >= 2 && unserved % 2 == 0; }

}  // namespace supervisor
