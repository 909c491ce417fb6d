#pragma once

#include <string>

#include "daemon/service/machine.h"

namespace supervisor {

// The "details" of an event: a JSON object of what programs want to know without parsing the message. Keys, each
// only where it applies: pid, exit_code, exit_signal, signal (its name), core_dumped, attempt, delay_seconds, reason.
std::string EventDetails(const RecordEvent& event, int pid);

}  // namespace supervisor
