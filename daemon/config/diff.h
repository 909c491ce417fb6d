#pragma once

#include <set>
#include <string>
#include <vector>

#include "daemon/config/config.h"

namespace supervisor {

// What a reload would do, service by service, and which keys cause it. Of a service whose instances fare differently
// (there are more or fewer of them now, say) each instance is told by itself. Pure.
struct ServiceChange {
  std::string id;                 // of the service or the instance
  std::vector<std::string> keys;  // "health_check.interval", "args"; empty for added and removed
  std::string was = {};           // the id that the instance has so far: "w" becomes "w:0" once there are two
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

// `stale`: instances, by the ids that `wanted` gives them, that were started with other contents of their environment
// file than it has now.
ReloadPlan PlanReload(const Config& running, const Config& wanted, const std::set<std::string>& stale = {});

}  // namespace supervisor
