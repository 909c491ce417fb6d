#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace supervisor {

// The supervisors that run on this machine, as /proc shows them: guardians and daemons say by their arguments
// (internal_arguments.h) which configuration they were started with and which socket they serve.
struct RunningSupervisor {
  pid_t pid = 0;
  std::string config_file;  // absolute
  std::string socket;
};

// Of what ps(1) shows: what anybody may write there. Whoever signals such a pid has to ask its lock first.
std::vector<RunningSupervisor> ListSupervisors();

// What a command line, its arguments with a NUL behind each, says; nothing where it is none of ours.
std::optional<RunningSupervisor> ParseSupervisor(pid_t pid, std::string_view command_line);

// Whether two paths are one file: by name, or by what lies there now.
bool IsSameFile(const std::string& one, const std::string& other);

}  // namespace supervisor
