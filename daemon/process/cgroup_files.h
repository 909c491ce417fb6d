#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace supervisor {

// The small files of a cgroup v2 directory (kernel: Documentation/admin-guide/cgroup-v2.rst). Any thread.

// The whole text; empty where the file is not there or can't be read.
std::string ReadCgroupFile(const std::string& path);
// One write(2), as the kernel wants it. The error names path and value.
absl::Status WriteCgroupFile(const std::string& path, std::string_view value);

// The pids of a cgroup.procs, one a line, appended. 0, for a process of a foreign pid namespace, is among them.
void ParsePids(std::string_view text, std::vector<pid_t>& pids);
// How many cgroups are right below it; 0 where it is not there.
size_t CountChildCgroups(const std::string& path);
// Removes it and the empty cgroups below it; what holds processes stays.
void RemoveCgroupTree(const std::string& path);
// Takes away what an earlier run made below it, so that processes may be put into the cgroup itself: a cgroup that
// hands controllers to children of its own may hold no process ("no internal processes"). What holds processes stays.
void MakeCgroupHabitable(const std::string& path);

}  // namespace supervisor
