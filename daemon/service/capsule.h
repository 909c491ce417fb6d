#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "daemon/process/usage.h"

namespace supervisor {

// What is kept of a run that ended abnormally, beside how it ended.
struct RunEnd {
  absl::Duration uptime;
  Usage usage;  // at the last sample; processes 0: it was never measured
  bool out_of_memory = false;
};

// The last 50 lines of a log, 16 KiB at most, as a JSON array of strings; "" where there are none. Blocks on the disk:
// not on the loop thread. `secrets` are replaced by asterisks: what a service prints of its environment when it dies
// must not end up in a database that others read.
std::string LastLinesAsJson(const std::string& log_file, const std::vector<std::string>& secrets);

// The values of an environment whose names say that they are secret.
std::vector<std::string> SecretValues(const std::map<std::string, std::string>& environment);

}  // namespace supervisor
