#pragma once

#include <string>
#include <vector>

namespace supervisor {

// The types of events, in the contract's order: what `events --type` takes.
inline std::vector<std::string> EventTypeNames() {
  return {"started",
          "ready",
          "stopped",
          "exited",
          "failed",
          "restarting",
          "healthy",
          "unhealthy",
          "oom_killed",
          "limit_exceeded",
          "adopted",
          "reloaded",
          "note",
          "alert_raised",
          "alert_resolved",
          "supervisor_started",
          "supervisor_stopped"};
}

}  // namespace supervisor
