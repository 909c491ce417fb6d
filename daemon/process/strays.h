#pragma once

#include <sys/types.h>

#include <map>
#include <set>
#include <string>
#include <vector>

namespace supervisor {

// An orphan that a service must have left to this process or its guardian, and that its stop did not end.
struct Stray {
  pid_t pid = 0;
  // The service whose mark it has (run_mark.h): a process of root's can move to another cgroup, where the service's own
  // does not reach it. Empty: nothing tells whose it is. It has left session and parents, its environment is wiped, and
  // its limits are changed.
  std::string service;
};

// What the daemon knows of the runs of its services.
struct KnownRuns {
  std::set<pid_t> main_pids;                 // of those that go on
  std::map<std::string, std::string> ended;  // the secrets of those that have ended, and whose they were
  bool have_cgroups = false;                 // each has its own
};

// The search reads the lists of children, and more of each child that no run is known for. It leaves out what has no
// mark where the runs have neither cgroups nor lineages: a living run may have started that. Any thread.
std::vector<Stray> FindStrays(const KnownRuns& runs);

// For an answer or an event of that service: "left running: 4711 (sh, in cgroup /user.slice)", or of what nothing tells
// whose it is "left running, and perhaps its own: 4711 (sh)"; empty where there are none.
std::string DescribeStrays(const std::vector<Stray>& strays, const std::string& service);

}  // namespace supervisor
