#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "daemon/process/usage.h"
#include "daemon/service/secret_mask.h"

namespace supervisor {

// What is kept of a run that ended abnormally, beside how it ended.
struct EndedRun {
  absl::Duration uptime;
  Usage usage;  // at the last sample; processes 0: it was never measured
  bool out_of_memory = false;
};

// The last 50 lines of a log, 16 KiB at most, as a JSON array of strings; "" where there are none. Of two logs the
// second's (of standard error) go before, and stand below. Blocks on the disk: not on the loop thread. Secrets are
// hidden: what a service prints of its environment when it dies must not end up in a database that others read.
std::string LastLinesAsJson(const std::vector<std::string>& log_files, const SecretMask& secrets);

}  // namespace supervisor
