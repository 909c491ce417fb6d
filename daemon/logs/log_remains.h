#pragma once

#include <string>
#include <vector>

namespace supervisor {

// The instances named `name` ("web", then also "web:0", "web:1", ...; or "web:1" alone) that have left a log in the
// directory, rotated ones included, in the order of their numbers. `is_stderr`: a log of standard error. For services
// that are configured no more. Blocks on the disk.
std::vector<std::string> FindLogRemains(const std::string& directory, const std::string& name, bool is_stderr);

// The instance whose log, or rotated log, a file of that name is; "" for any other file. Pure.
std::string InstanceOfLogFile(const std::string& file_name, const std::string& name, bool is_stderr);

}  // namespace supervisor
