#pragma once

#include "absl/time/time.h"
#include "daemon/process/usage.h"

namespace supervisor {

// What is kept of a run that ended abnormally, beside how it ended. Its last lines follow: see last_lines.h.
struct EndedRun {
  absl::Duration uptime;
  Usage usage;  // at the last sample; processes 0: it was never measured
  bool out_of_memory = false;
};

}  // namespace supervisor
