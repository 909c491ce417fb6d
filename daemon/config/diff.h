#pragma once

#include <string>
#include <vector>

#include "daemon/config/config.h"

namespace supervisor {

// What a reload would do, service by service, and which keys cause it. Pure.
struct ServiceChange {
  std::string id;                 // service id
  std::vector<std::string> keys;  // "health_check.interval", "args"; empty for added and removed
};

struct ReloadPlan {
  std::vector<ServiceChange> added;
  std::vector<ServiceChange> removed;
  std::vector<ServiceChange> restarted;  // a key changed that a running process cannot take over
  std::vector<ServiceChange> updated;    // changed, but applied without touching the process
  std::vector<std::string> unchanged;
  std::vector<std::string> global_keys;           // "monitoring.metrics_interval": applied at once
  std::vector<std::string> needs_daemon_restart;  // "global.socket", "global.database": take effect at the next start
};

ReloadPlan PlanReload(const Config& running, const Config& wanted);

}  // namespace supervisor
