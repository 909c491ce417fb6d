#pragma once

#include <string>

#include "daemon/service/capsule.h"
#include "daemon/service/machine.h"

namespace supervisor {

// The "details" of an event: a JSON object of what programs want to know without parsing the message. Keys, each
// only where it applies: pid, exit_code, exit_signal, signal (its name), core_dumped, attempt, delay_seconds, reason;
// with `end`, of a run that ended abnormally, out_of_memory, uptime_seconds and last_metrics (cpu_percent, memory_mb,
// processes, descriptors). last_lines is added to such an event when they have been read.
std::string EventDetails(const RecordEvent& event, int pid, const EndedRun* end = nullptr);

}  // namespace supervisor
