#pragma once

#include <memory>

#include "daemon/logs/log_pump.h"
#include "daemon/loop/loop.h"
#include "daemon/process/held_descriptors.h"
#include "daemon/service/supervisor.h"

namespace supervisor {

// The log pump, whose reports (output that cannot be captured, a log file that was deleted) go to the daemon's own log
// and, by way of the loop, become events of the service: an alert raised, and resolved. `supervisor` may be made later,
// and must stay where it is until the pump and the loop are gone. FIFOs are held in `held`, which outlives the pump.
std::unique_ptr<LogPump> MakeLogPump(Loop& loop, const std::unique_ptr<Supervisor>& supervisor, HeldDescriptors& held);

}  // namespace supervisor
